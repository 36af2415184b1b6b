"""Reads llama.cpp's own breakdown of memory by buffer: a model's weights, and what a context adds to them; its tensors.

llama.cpp copies (repacks) the weights of some levels into the order that its CPU kernels need. No function of its C
interface returns how much, and its log says 0 while nothing is allocated; only the C++ method
`llama_model::memory_breakdown() const` knows. It returns a std::map of a buffer type to bytes, which is read here node
by node. `llama_get_memory_breakdown` returns such a map for a context; it counts every state that an architecture has,
under any name, also one that the log describes in words of its own. The tensors of a model are a std::vector of pairs.

The bindings are pinned to one version of llama.cpp; tests compare the answers with a real load.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import llama_cpp.llama_cpp as bindings

from playground.llama.devices import ggml_function

_BREAKDOWN: Final = "_ZNK11llama_model16memory_breakdownEv"
_CONTEXT_BREAKDOWN: Final = "_Z26llama_get_memory_breakdownPK13llama_context"
_TENSORS: Final = "_Z29llama_internal_get_tensor_mapB5cxx11PK11llama_model"
_IN_PLACE: Final = {"CPU", "CPU_Mapped"}
_MOST_KINDS: Final = 64
_GPU_TYPES: Final = (1, 2)  # ggml-backend.h: GPU, integrated GPU


class _MapLayout(NamedTuple):
    """Where a std::map keeps its root and size, and a node its children and entry; all counted in words."""

    root: int
    size: int
    left: int
    right: int
    entry: int


_LIBSTDCXX: Final = _MapLayout(root=2, size=5, left=2, right=3, entry=4)
_LIBCXX: Final = _MapLayout(root=1, size=2, left=0, right=1, entry=4)


class _Map(ctypes.Structure):
    """Room for either library's map; larger than 16 bytes, so that it is returned through memory, as a class is."""

    _fields_ = [("words", ctypes.c_uint64 * 6)]


def repacked_bytes(model: Any) -> int | None:
    """Bytes that loading this model copies into CPU order, also for a model opened without allocation.

    None: this build of llama.cpp does not tell.
    """
    kinds = weight_bytes_by_kind(model)
    return None if kinds is None else sum(size for kind, size in kinds.items() if kind not in _IN_PLACE)


def weight_bytes_by_kind(model: Any) -> dict[str, int] | None:
    """Bytes of weights by llama.cpp's name of the memory, such as {"CPU": 32046336, "CPU_REPACK": 58226688}."""
    entries = _read_breakdown(_BREAKDOWN, model, numbers=1)
    if entries is None:
        return None
    name = ggml_function("backend_buft_name", [ctypes.c_void_p], ctypes.c_char_p)
    return {name(key).decode(): size for key, size in entries}


class _TensorHead(ctypes.Structure):
    """The first fields of ggml.h's struct ggml_tensor."""

    _fields_ = [("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4)]


def tensor_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a model by its name, a row's length first; empty if this build does not tell."""
    library = bindings._lib
    is_libcxx = sys.platform == "darwin"
    symbol = _TENSORS.replace("B5cxx11", "") if is_libcxx else _TENSORS
    if not hasattr(library, symbol):
        return {}
    tensors, get_name = getattr(library, symbol), library.ggml_get_name
    tensors.argtypes, tensors.restype = [ctypes.c_void_p], ctypes.POINTER(ctypes.c_uint64)
    get_name.argtypes, get_name.restype = [ctypes.c_void_p], ctypes.c_char_p
    pair_words = 4 if is_libcxx else 5  # a std::string of three or four words, and the tensor's address
    first, end = tensors(model)[0:2]
    words = (ctypes.c_uint64 * ((end - first) // 8)).from_address(first) if end > first else ()
    return {get_name(tensor).decode(): _shape(tensor) for tensor in words[pair_words - 1 :: pair_words]}


def _shape(tensor: int) -> tuple[int, ...]:
    ends = tuple(_TensorHead.from_address(tensor).ne)
    return ends[: max((number for number, length in enumerate(ends, 1) if length > 1), default=1)]


@dataclass(frozen=True)
class BufferUse:
    """Bytes that a model and its context take in buffers of one type.

    name: llama.cpp's, such as "CPU_REPACK" or "CUDA0"; two RPC servers give theirs the same one.
    device: llama.cpp's name of the GPU whose own memory it is; "" for the computer's memory, in which a GPU's host
        buffers (CUDA_Host) lie, too.
    state: KV caches and every other state that the context keeps of the text.
    """

    name: str
    device: str
    weights: int
    state: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.state + self.compute

    @property
    def is_repacked(self) -> bool:
        """Whether its weights are a copy, in the order that the CPU's kernels need."""
        return not self.device and self.name not in _IN_PLACE and not self.name.endswith("_Host")


def buffer_uses(context: Any) -> list[BufferUse] | None:
    """What a model and its context take, also one whose buffers are not allocated; None if this build does not tell.

    The entries hold the bytes of the model, the context and the computation, in this order (llama-ext.h).
    """
    entries = _read_breakdown(_CONTEXT_BREAKDOWN, context, numbers=3)
    if entries is None:
        return None
    name = ggml_function("backend_buft_name", [ctypes.c_void_p], ctypes.c_char_p)
    return [BufferUse(name(key).decode(), _device_of(key), *sizes) for key, *sizes in entries]


def _device_of(buffer_type: int) -> str:
    is_host = ggml_function("backend_buft_is_host", [ctypes.c_void_p], ctypes.c_bool)(buffer_type)
    device = ggml_function("backend_buft_get_device", [ctypes.c_void_p], ctypes.c_void_p)(buffer_type)
    if is_host or not device:
        return ""
    kind = ggml_function("backend_dev_type", [ctypes.c_void_p], ctypes.c_int)(device)
    name = ggml_function("backend_dev_name", [ctypes.c_void_p], ctypes.c_char_p)(device)
    return name.decode() if kind in _GPU_TYPES else ""


def _read_breakdown(symbol: str, subject: Any, numbers: int) -> list[tuple[int, ...]] | None:
    """The buffer type and the numbers of each entry of the map that this function returns."""
    library = bindings._lib
    if not hasattr(library, symbol):
        return None
    breakdown = getattr(library, symbol)
    breakdown.argtypes, breakdown.restype = [ctypes.c_void_p], _Map
    layout = _LIBCXX if sys.platform == "darwin" else _LIBSTDCXX
    words = breakdown(subject).words
    if not 1 <= words[layout.size] <= _MOST_KINDS:
        return None
    return list(_entries(words[layout.root], layout, numbers))


def _entries(node: int, layout: _MapLayout, numbers: int) -> Iterator[tuple[int, ...]]:
    if not node:
        return
    words = (ctypes.c_uint64 * (layout.entry + 1 + numbers)).from_address(node)
    yield from _entries(words[layout.left], layout, numbers)
    yield tuple(words[layout.entry :])
    yield from _entries(words[layout.right], layout, numbers)
