"""The table of tensors in a model file's header: name, shape, type and place of each.

Knows how many bytes a tensor takes and what llama.cpp accepts, nothing of the weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from playground.errors import BadModelFile
from playground.gguf.reader import GgufReader, shown
from playground.gguf.tensor_types import REMOVED_TYPES, TensorType

MOST_DIMENSIONS: Final = 4  # GGML_MAX_DIMS
LONGEST_NAME_BYTES: Final = 63  # GGML_MAX_NAME with its closing zero
MOST_WEIGHTS: Final = 2**63 - 1  # ggml counts in int64
_TYPES: Final = {member.value: member for member in TensorType}
_ANOTHER_FILE: Final = "Fetch the file again, or choose another one."


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: shape with the row's length first, and `offset` in bytes from where this file's weights start."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def weight_count(self) -> int:
        return math.prod(self.shape)

    @property
    def byte_count(self) -> int:
        return self.weight_count // self.type.block_weights * self.type.block_bytes


def read_tensors(cursor: GgufReader, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """The table of `count` tensors at the cursor, in the file's order; raises BadModelFile naming the tensor."""
    tensors: dict[str, TensorInfo] = {}
    for place in _places(count):
        tensor = _read_tensor(cursor, place)
        if tensor.name in tensors:
            raise _damaged(f"it has two tensors named {shown(tensor.name)}")
        tensors[tensor.name] = tensor
    _check_offsets(tensors, alignment)
    return tuple(tensors.values())


def end_of_weights(tensors: tuple[TensorInfo, ...]) -> int:
    """Bytes from the start of the weights to the end of the last tensor."""
    return max((tensor.offset + tensor.byte_count for tensor in tensors), default=0)


def _places(count: int) -> Iterator[str]:
    return (f"tensor {number} of {count}" for number in range(1, count + 1))


def _read_tensor(cursor: GgufReader, place: str) -> TensorInfo:
    name = cursor.string(f"the name of {place}")
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise _damaged(f"{place} has a name longer than {LONGEST_NAME_BYTES} bytes")
    dimensions = cursor.uint32(f"the shape of {place}")
    if dimensions > MOST_DIMENSIONS:
        raise _damaged(f"tensor {shown(name)} claims {dimensions:,} dimensions, and {MOST_DIMENSIONS} is the most")
    shape = tuple(cursor.uint64(f"the shape of {place}") for _ in range(dimensions))
    kind = _tensor_type(cursor.uint32(f"the type of {place}"), name)
    tensor = TensorInfo(name, shape, kind, cursor.uint64(f"the offset of {place}"))
    _check_shape(tensor)
    return tensor


def _tensor_type(number: int, name: str) -> TensorType:
    if number in REMOVED_TYPES:
        raise BadModelFile(
            f"Tensor {shown(name)} is of type {REMOVED_TYPES[number]}, which llama.cpp no longer reads.",
            "Choose the same model at another level, such as Q4_0 or Q4_K_M.",
        )
    if number not in _TYPES:
        raise BadModelFile(
            f"Tensor {shown(name)} is of type {number}, which this llama.cpp does not know.",
            "The file is damaged or newer than the playground: choose another level, or update.",
        )
    return _TYPES[number]


def _check_shape(tensor: TensorInfo) -> None:
    if 0 in tensor.shape:
        raise _damaged(f"tensor {shown(tensor.name)} has a dimension of 0")
    if tensor.weight_count > MOST_WEIGHTS:
        raise _damaged(f"the shape of tensor {shown(tensor.name)} has more weights than any file could hold")
    row = tensor.shape[0] if tensor.shape else 1
    if row % tensor.type.block_weights:
        raise _damaged(
            f"tensor {shown(tensor.name)} has rows of {row:,} weights, and {tensor.type.name} packs them in blocks of "
            f"{tensor.type.block_weights}"
        )


def _check_offsets(tensors: dict[str, TensorInfo], alignment: int) -> None:
    """Each tensor starts where the one before it ends, rounded up to the alignment: llama.cpp insists on it."""
    expected = 0
    for tensor in tensors.values():
        if tensor.offset != expected:
            raise _damaged(
                f"tensor {shown(tensor.name)} should start at byte {expected:,} of the weights, "
                f"and says {tensor.offset:,}"
            )
        expected = aligned(tensor.offset + tensor.byte_count, alignment)


def aligned(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` at or after `offset`."""
    return -(-offset // alignment) * alignment


def _damaged(finding: str) -> BadModelFile:
    return BadModelFile(f"The model file is damaged: {finding}.", _ANOTHER_FILE)
