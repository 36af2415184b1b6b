"""Reads the weights of one tensor from a file, as numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from playground.errors import BadModelFile
from playground.gguf.header import GgufHeader
from playground.gguf.rounding import BLOCK, Weights
from playground.gguf.tensors import TensorInfo

_MOST_WEIGHTS: Final = 8_000_000  # of a tensor that is read whole: 32 MB as numbers
_MATRIX: Final = re.compile(r"blk\.\d+\..*\.weight", re.ASCII)


def shown_tensor(header: GgufHeader) -> TensorInfo | None:
    """A small matrix of a middle layer, with the most bits that there are; None where none can be read.

    The fewer bits a tensor has, the less of what was learned is in it.
    """
    readable = [tensor for tensor in header.tensors if _is_readable(tensor)]
    if not readable:
        return None
    most = max(tensor.type.bits_per_weight for tensor in readable)
    best = [tensor for tensor in readable if tensor.type.bits_per_weight == most]
    smallest = [tensor for tensor in best if tensor.weight_count == min(one.weight_count for one in best)]
    return smallest[len(smallest) // 2]


def read_weights(path: Path, header: GgufHeader, tensor: TensorInfo) -> Weights:
    """All weights of a tensor, in the shape of the file: (rows, row length). header: of this file.

    Raises BadModelFile if they are not numbers, and OSError.
    """
    with path.open("rb") as file:
        file.seek(header.byte_count + tensor.offset)
        data = np.frombuffer(file.read(tensor.byte_count), np.uint8)
    if data.size != tensor.byte_count:
        raise BadModelFile(f"{path.name} ends within its weights.", "Fetch the file again.")
    rows = data.reshape(-1, tensor.byte_count * tensor.shape[0] // tensor.weight_count)
    weights = np.asarray(gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(tensor.type.value)), np.float32)
    if not np.isfinite(weights).all():
        raise BadModelFile(f"{path.name} has weights in {tensor.name} that are not numbers.", "Choose another file.")
    return weights


def _is_readable(tensor: TensorInfo) -> bool:
    if not _MATRIX.fullmatch(tensor.name) or len([length for length in tensor.shape if length > 1]) != 2:
        return False
    is_small = BLOCK <= tensor.weight_count <= _MOST_WEIGHTS and not tensor.shape[0] % BLOCK
    try:
        kind = gguf.GGMLQuantizationType(tensor.type.value)
    except ValueError:  # a type that the gguf package does not know yet
        return False
    return is_small and (kind in gguf.quants._type_traits or kind.name in ("F32", "F16"))
