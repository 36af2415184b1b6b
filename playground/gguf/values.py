"""The values of a model file's metadata: numbers, truths, texts, and arrays of them.

Knows each value's form, not what a key means. Arrays longer than 1024 items (the vocabulary: a quarter of a million
texts) are skipped and remembered by their length, so that a header stays small whatever the file claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias

from gguf.constants import GGUFValueType

from playground.errors import BadModelFile
from playground.gguf.reader import GgufReader

LONGEST_ARRAY_BUILT: Final = 1024  # items
_ANOTHER_FILE: Final = "Fetch the file again, or choose another one."

_NUMBERS: Final[dict[GGUFValueType, str]] = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "B",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
_LAYOUTS: Final = {kind: Struct("<" + code) for kind, code in _NUMBERS.items()}


@dataclass(frozen=True)
class LongArray:
    """An array too long to be built: what its items are and how many there were."""

    item_type: GGUFValueType
    length: int


Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | tuple[Scalar, ...] | LongArray


def read_value(cursor: GgufReader, key: str) -> Value:
    """The value at the cursor, its type before it; raises BadModelFile naming `key`."""
    kind = _read_type(cursor, key)
    if kind is GGUFValueType.ARRAY:
        return _read_array(cursor, key)
    return _read_scalars(cursor, kind, 1, key)[0]


def _read_type(cursor: GgufReader, key: str) -> GGUFValueType:
    number = cursor.uint32(f"the type of {key}")
    try:
        return GGUFValueType(number)
    except ValueError:
        raise BadModelFile(
            f"The model file is damaged: {key} has a value of type {number}, and GGUF has types 0 to 12.", _ANOTHER_FILE
        ) from None


def _read_array(cursor: GgufReader, key: str) -> tuple[Scalar, ...] | LongArray:
    kind = _read_type(cursor, key)
    if kind is GGUFValueType.ARRAY:
        raise BadModelFile(
            f"The model file cannot be used: {key} is an array of arrays, which llama.cpp does not read.",
            "Choose another file.",
        )
    length = cursor.uint64(f"the length of {key}")
    item_bytes = 8 if kind is GGUFValueType.STRING else _LAYOUTS[kind].size
    if length * item_bytes > cursor.left:
        raise BadModelFile(
            f"The model file is damaged or cut off: {key} claims {length:,} items, more than the file has room for.",
            _ANOTHER_FILE,
        )
    if length <= LONGEST_ARRAY_BUILT:
        return _read_scalars(cursor, kind, length, key)
    if kind is GGUFValueType.STRING:
        cursor.skip_strings(length, key)
    else:
        cursor.skip(length * item_bytes, key)
    return LongArray(kind, length)


def _read_scalars(cursor: GgufReader, kind: GGUFValueType, count: int, key: str) -> tuple[Scalar, ...]:
    if kind is GGUFValueType.STRING:
        return tuple(cursor.string(key) for _ in range(count))
    if kind is GGUFValueType.BOOL:
        return tuple(_truth(byte, key) for byte in cursor.unpack(Struct(f"<{count}B"), key))
    if count == 1:
        return cursor.unpack(_LAYOUTS[kind], key)
    return cursor.unpack(Struct(f"<{count}{_NUMBERS[kind]}"), key)


def _truth(byte: int, key: str) -> bool:
    if byte > 1:
        raise BadModelFile(
            f"The model file is damaged: {key} should be true (1) or false (0) and is {byte}.", _ANOTHER_FILE
        )
    return byte == 1
