"""Model files as bytes, made for tests: a small whole one, and a real one split the way gguf-split does.

Nothing is stored: a split of the starter is a list of slices into the starter's own file.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from playground.gguf.header import GgufHeader, read_header
from playground.gguf.reader import FileSource
from playground.gguf.tensors import TensorInfo

_UINT16, _UINT32, _INT32, _BOOL, _STRING = 2, 4, 5, 7, 8  # GGUF's numbers for the types of values
_ALIGNMENT = 32  # bytes; GGUF's default


@dataclass(frozen=True)
class Slice:
    """`size` bytes of a file, from `offset`."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class Blob:
    """A file's content: bytes and slices of other files, one after the other."""

    pieces: tuple[bytes | Slice, ...]

    @classmethod
    def of(cls, content: bytes | Path | Blob) -> Blob:
        if isinstance(content, Blob):
            return content
        if isinstance(content, Path):
            return cls((Slice(content, 0, content.stat().st_size),))
        return cls((content,))

    @property
    def size(self) -> int:
        return sum(_piece_size(piece) for piece in self.pieces)

    @property
    def sha256(self) -> str:
        return _sha256(self)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer at the end of a piece."""
        for piece in self.pieces:
            size = _piece_size(piece)
            if offset < size:
                count = min(count, size - offset)
                if isinstance(piece, bytes):
                    return piece[offset : offset + count]
                with piece.path.open("rb") as file:
                    file.seek(piece.offset + offset)
                    return file.read(count)
            offset -= size
        return b""

    def whole(self) -> bytes:
        parts: list[bytes] = []
        while part := self.read(sum(len(part) for part in parts), self.size):
            parts.append(part)
        return b"".join(parts)


def _piece_size(piece: bytes | Slice) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size


@lru_cache(maxsize=256)
def _sha256(blob: Blob) -> str:
    digest, offset = hashlib.sha256(), 0
    while part := blob.read(offset, 1 << 20):
        digest.update(part)
        offset += len(part)
    return digest.hexdigest()


def small_model(seed: int = 0, *, tensors: int = 2, name: str = "Small") -> bytes:
    """A whole GGUF file of 256 KiB a tensor: llama's architecture, F32 weights that differ with the seed."""
    keys: list[tuple[str, str | int]] = [
        ("general.architecture", "llama"),
        ("general.name", name),
        ("llama.context_length", 2048),
        ("llama.embedding_length", 256),
    ]
    shape, byte_count = (256, 256), 256 * 256 * 4
    rows = [_tensor_row(f"blk.{i}.ffn_up.weight", shape, 0, i * byte_count) for i in range(tensors)]
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(keys)) + b"".join(_pair(*key) for key in keys) + b"".join(rows)
    return _padded(head) + random.Random(seed).randbytes(tensors * byte_count)


def split_model(path: Path, shard_count: int, *, tensors_in_first: bool = True) -> list[Blob]:
    """`path` as `shard_count` files, each with split.no, split.count and split.tensors.count, the first with all keys.

    Without `tensors_in_first` the first holds metadata only, as `gguf-split --no-tensor-first-split` leaves it.
    """
    header = read_header(FileSource(path))
    head = path.read_bytes()[: header.byte_count] if path.stat().st_size < 1 << 20 else _first_bytes(path, header)
    first = header.tensors[0]
    table_at = head.index(_tensor_row(first.name, first.shape, int(first.type), first.offset))
    key_count = struct.unpack_from("<Q", head, 16)[0]
    holders = shard_count if tensors_in_first else shard_count - 1
    shares = [list(header.tensors[i * len(header.tensors) // holders : (i + 1) * len(header.tensors) // holders])
              for i in range(holders)]  # fmt: skip
    if not tensors_in_first:
        shares.insert(0, [])
    blobs = []
    for number, share in enumerate(shares):
        own = _pair("split.no", number, _UINT16) + _pair("split.count", shard_count, _UINT16)
        own += _pair("split.tensors.count", len(header.tensors), _INT32)
        keys, count = (head[24:table_at] + own, key_count + 3) if number == 0 else (own, 3)
        blobs.append(_shard(path, header, share, keys, count))
    return blobs


def _first_bytes(path: Path, header: GgufHeader) -> bytes:
    with path.open("rb") as file:
        return file.read(header.byte_count)


def _shard(path: Path, header: GgufHeader, tensors: list[TensorInfo], keys: bytes, key_count: int) -> Blob:
    offset, rows, data = 0, [], []
    for tensor in tensors:
        rows.append(_tensor_row(tensor.name, tensor.shape, int(tensor.type), offset))
        padded = -(-tensor.byte_count // _ALIGNMENT) * _ALIGNMENT
        data.append(Slice(path, header.byte_count + tensor.offset, padded))
        offset += padded
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), key_count) + keys + b"".join(rows)
    return Blob((_padded(head), *data))


def _padded(head: bytes) -> bytes:
    return head + b"\0" * (-len(head) % _ALIGNMENT)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _pair(key: str, value: str | int, kind: int = _UINT32) -> bytes:
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", _STRING) + _text(value)
    return _text(key) + struct.pack("<I" + {_UINT16: "H", _UINT32: "I", _INT32: "i"}[kind], kind, value)


def _tensor_row(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def with_user_defined_tokens(path: Path, copy: Path, *tokens: int) -> Path:
    """A copy of a model file whose vocabulary marks these tokens as user-defined, as many do `<think>`."""
    content = bytearray(path.read_bytes())
    key = b"tokenizer.ggml.token_type"
    first = content.index(key) + len(key) + 4 + 4 + 8  # the value's type, the items' type, their number
    for token in tokens:
        struct.pack_into("<i", content, first + 4 * token, 4)  # LLAMA_TOKEN_TYPE_USER_DEFINED
    copy.write_bytes(content)
    return copy


def with_flags(path: Path, copy: Path, **flags: bool) -> Path:
    """A copy of a model file with more keys of a bool each; `tokenizer__ggml__add_eos_token` names a key with dots."""
    header = read_header(FileSource(path))
    head = _first_bytes(path, header)
    first = header.tensors[0]
    table_at = head.index(_tensor_row(first.name, first.shape, int(first.type), first.offset))
    keys = b"".join(_text(key.replace("__", ".")) + struct.pack("<I?", _BOOL, value) for key, value in flags.items())
    key_count = struct.unpack_from("<Q", head, 16)[0] + len(flags)
    table = head[
        table_at : table_at + sum(len(_tensor_row(t.name, t.shape, int(t.type), t.offset)) for t in header.tensors)
    ]
    new_head = head[:16] + struct.pack("<Q", key_count) + head[24:table_at] + keys + table
    with copy.open("wb") as file, path.open("rb") as original:
        file.write(_padded(new_head))
        original.seek(header.byte_count)
        shutil.copyfileobj(original, file)
    return copy


def with_chat_template(path: Path, copy: Path, template: str) -> Path:
    """A copy of a model file with another chat template."""
    header = read_header(FileSource(path))
    head = _first_bytes(path, header)
    key = _text("tokenizer.chat_template") + struct.pack("<I", _STRING)
    begin = head.index(key) + len(key)
    end = begin + 8 + struct.unpack_from("<Q", head, begin)[0]
    last = header.tensors[-1]
    row = _tensor_row(last.name, last.shape, int(last.type), last.offset)
    table_end = head.rindex(row) + len(row)
    with copy.open("wb") as file, path.open("rb") as original:
        file.write(_padded(head[:begin] + _text(template) + head[end:table_end]))
        original.seek(header.byte_count)
        shutil.copyfileobj(original, file)
    return copy
