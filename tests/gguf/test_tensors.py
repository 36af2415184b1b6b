"""The sizes of tensor types beside those of the installed llama.cpp."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import llama_cpp
import pytest

from playground.gguf.forks import CONTESTED_TYPES, FORKS, fork_of_type
from playground.gguf.tensors import REMOVED_TYPES, TensorInfo, TensorType


@pytest.fixture(scope="module")
def ggml(ggml_path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(ggml_path))
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_type_name.restype = ctypes.c_char_p
    return library


def test_every_type_has_the_block_that_llama_cpp_gives_it(ggml: ctypes.CDLL) -> None:
    theirs = {
        number: (ggml.ggml_type_name(number).decode().upper(), ggml.ggml_blck_size(number), ggml.ggml_type_size(number))
        for number in range(llama_cpp.GGML_TYPE_COUNT)
        if ggml.ggml_type_size(number)
    }
    assert {member.value: (member.name, member.block_weights, member.block_bytes) for member in TensorType} == theirs


def test_a_type_without_a_block_is_a_removed_one_or_a_forks(ggml: ctypes.CDLL) -> None:
    without = {number for number in range(llama_cpp.GGML_TYPE_COUNT) if not ggml.ggml_type_size(number)}
    assert without == {*REMOVED_TYPES, *(number for number in without if fork_of_type(number))}


def test_no_number_of_llama_cpp_or_of_another_fork_is_given_to_a_fork() -> None:
    numbers = [number for fork in FORKS for number in fork.types]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers).isdisjoint({*TensorType, *REMOVED_TYPES, *CONTESTED_TYPES})


def test_the_types_equal_those_of_the_gguf_package() -> None:
    assert int(TensorType.Q4_K) == int(gguf.GGMLQuantizationType.Q4_K)
    assert {member.name for member in gguf.GGMLQuantizationType} <= {member.name for member in TensorType}


@pytest.mark.parametrize(
    ("kind", "bits"),
    [(TensorType.Q4_0, 4.5), (TensorType.Q2_0, 2.25), (TensorType.BF16, 16), (TensorType.Q6_K, 6.5625)],
)
def test_a_type_says_its_bits_per_weight(kind: TensorType, bits: float) -> None:
    assert kind.bits_per_weight == bits


def test_a_tensor_knows_its_weights_and_bytes() -> None:
    tensor = TensorInfo("token_embd.weight", (576, 49152), TensorType.Q2_0, 0)
    assert (tensor.weight_count, tensor.byte_count) == (576 * 49152, 576 * 49152 // 64 * 18)
    assert TensorInfo("scalar", (), TensorType.F32, 0).byte_count == 4
