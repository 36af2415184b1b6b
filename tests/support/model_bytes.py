"""Builds GGUF bytes by hand, sound or with exactly one fault."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from gguf import GGUFValueType as T

U8, I8, U16, U32, I32, F32, BOOL, TEXT, ARRAY, U64 = (
    T.UINT8, T.INT8, T.UINT16, T.UINT32, T.INT32, T.FLOAT32, T.BOOL, T.STRING, T.ARRAY, T.UINT64,
)  # fmt: skip


def text(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + payload


def text_pair(key: str, content: str | bytes) -> bytes:
    return pair(key, TEXT, text(content))


def number_pair(key: str, number: int) -> bytes:
    return pair(key, U32, struct.pack("<I", number))


def array(kind: int, length: int, items: bytes) -> bytes:
    return struct.pack("<IQ", kind, length) + items


def tensor(name: str | bytes, shape: Sequence[int], kind: int, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARCHITECTURE = text_pair("general.architecture", "llama")
ONE_TENSOR = tensor("token_embd.weight", (32, 4), 2)  # Q4_0: 4 rows of 18 bytes


def model(
    pairs: Sequence[bytes] = (ARCHITECTURE,),
    tensors: Sequence[bytes] = (ONE_TENSOR,),
    *,
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
    weight_bytes: int = 72,
) -> bytes:
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if key_count is None else key_count,
    )
    header = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    padding = -len(header) % alignment if tensors else 0
    return header + bytes(padding + weight_bytes * bool(tensors))
