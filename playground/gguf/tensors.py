"""Reads the table of tensors in a GGUF header: the name, shape, type and offset of each, and so its size in bytes.

What llama.cpp would refuse is refused here, with the tensor's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from playground.errors import BadModelFile
from playground.gguf.forks import CONTESTED_TYPES, fork_of_type
from playground.gguf.reader import GgufReader, damaged, made_elsewhere, printable

MOST_DIMENSIONS: Final = 4  # GGML_MAX_DIMS
LONGEST_NAME_BYTES: Final = 63  # GGML_MAX_NAME with its closing zero
MOST_WEIGHTS: Final = 2**63 - 1  # ggml counts in int64


class TensorType(IntEnum):
    """A ggml type: its number in the file, the weights of one block, and the bytes of one block.

    The numbers are those of enum ggml_type, the layouts those of ggml-common.h; a test compares them with the
    installed llama.cpp. `gguf.GGMLQuantizationType` has the same numbers, but version 0.19 of that package lacks Q2_0
    and has 40 bytes for Q8_1.
    """

    block_weights: int
    block_bytes: int

    def __new__(cls, number: int, block_weights: int, block_bytes: int) -> TensorType:
        member = int.__new__(cls, number)
        member._value_ = number
        member.block_weights = block_weights
        member.block_bytes = block_bytes
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 36
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18
    Q2_0 = 42, 64, 18

    @property
    def bits_per_weight(self) -> float:
        """Bits of one weight, with its share of the block's scales."""
        return 8 * self.block_bytes / self.block_weights

    @property
    def is_quantized(self) -> bool:
        """Whether weights share a block; F16, I8 and the like store each by itself."""
        return self.block_weights > 1


# Numbers of former types. llama.cpp refuses files with them.
REMOVED_TYPES: Final[dict[int, str]] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
}  # 36 to 38 were layouts in memory only; in files they are bitnet.cpp's types

_TYPES: Final = {member.value: member for member in TensorType}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor. shape: the row's length first. offset: bytes from where the weights start in this file."""

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


def read_tensors(reader: GgufReader, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """Read the table of `count` tensors, in the file's order. Raises BadModelFile with the tensor's name."""
    tensors: dict[str, TensorInfo] = {}
    for number in range(1, count + 1):
        tensor = _read_tensor(reader, f"tensor {number} of {count}")
        if tensor.name in tensors:
            raise damaged(f"it has two tensors named {printable(tensor.name)}")
        tensors[tensor.name] = tensor
    _check_offsets(tensors, alignment)
    return tuple(tensors.values())


def end_of_weights(tensors: tuple[TensorInfo, ...]) -> int:
    """Bytes from the start of the weights to the end of the last tensor."""
    return max((tensor.offset + tensor.byte_count for tensor in tensors), default=0)


def _read_tensor(reader: GgufReader, place: str) -> TensorInfo:
    name = reader.read_string(f"the name of {place}")
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise made_elsewhere(f"{place} has a name longer than {LONGEST_NAME_BYTES} bytes")
    dimensions = reader.read_uint32(f"the shape of {place}")
    if dimensions > MOST_DIMENSIONS:
        error = made_elsewhere if dimensions <= 2 * MOST_DIMENSIONS else damaged
        raise error(f"tensor {printable(name)} claims {dimensions:,} dimensions, and {MOST_DIMENSIONS} is the most")
    shape = tuple(reader.read_uint64(f"the shape of {place}") for _ in range(dimensions))
    kind = _tensor_type(reader.read_uint32(f"the type of {place}"), name)
    tensor = TensorInfo(name, shape, kind, reader.read_uint64(f"the offset of {place}"))
    _check_shape(tensor)
    return tensor


def _tensor_type(number: int, name: str) -> TensorType:
    if number in REMOVED_TYPES:
        raise BadModelFile(
            f"Tensor {printable(name)} is of type {REMOVED_TYPES[number]}, which llama.cpp no longer reads.",
            "Choose the same model at another level, such as Q4_0 or Q4_K_M.",
        )
    if number not in _TYPES and (fork := fork_of_type(number)):
        program, type_name = fork
        raise BadModelFile(
            f"The file is made for {program}: tensor {printable(name)} is of its type {type_name} ({number}), which "
            "this llama.cpp cannot read.",
            f"Run it with {program}, or choose a level of llama.cpp, such as Q4_K_M.",
        )
    if number in CONTESTED_TYPES:
        raise BadModelFile(
            f"Tensor {printable(name)} is of type {number}, which this llama.cpp does not know.",
            "The file is made for another build of llama.cpp, such as one with TurboQuant or HIFI types (the page that "
            "offers the file says which), or for a newer one: choose another level, such as Q4_K_M, or update.",
        )
    if number not in _TYPES:
        raise BadModelFile(
            f"Tensor {printable(name)} is of type {number}, which this llama.cpp does not know.",
            "The file is made for another program, or newer than the playground: choose another level, or update.",
        )
    return _TYPES[number]


def _check_shape(tensor: TensorInfo) -> None:
    if 0 in tensor.shape:
        raise damaged(f"tensor {printable(tensor.name)} has a dimension of 0")
    if tensor.weight_count > MOST_WEIGHTS:
        raise damaged(f"the shape of tensor {printable(tensor.name)} has more weights than any file can hold")
    row = tensor.shape[0] if tensor.shape else 1
    if row % tensor.type.block_weights:
        raise made_elsewhere(
            f"tensor {printable(tensor.name)} has rows of {row:,} weights, and {tensor.type.name} packs them in "
            f"blocks of {tensor.type.block_weights}"
        )


def _check_offsets(tensors: dict[str, TensorInfo], alignment: int) -> None:
    """Each tensor has to start where the one before it ends, rounded up to the alignment, as llama.cpp requires.

    In a fork's file it may not: some forks gave types of their own the numbers that llama.cpp gave others later.
    """
    expected = 0
    for tensor in tensors.values():
        if tensor.offset != expected:
            error = made_elsewhere if tensor.offset else damaged
            raise error(
                f"tensor {printable(tensor.name)} should start at byte {expected:,} of the weights, "
                f"and says {tensor.offset:,}"
            )
        expected = aligned(tensor.offset + tensor.byte_count, alignment)


def aligned(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` at or after `offset`."""
    return -(-offset // alignment) * alignment
