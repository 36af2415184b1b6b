"""Reads how llama.cpp spreads a model's weights over kinds of memory: read in place, or copied in another order.

llama.cpp copies (repacks) the weights of some levels into the order that its CPU kernels need. No function of its C
interface returns how much, and its log says 0 while nothing is allocated; only the C++ method
`llama_model::memory_breakdown() const` knows. It returns a std::map of a buffer type to bytes, which is read here node
by node. The bindings are pinned to one version of llama.cpp; a test compares the answer with a real load.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import llama_cpp.llama_cpp as bindings

_BREAKDOWN: Final = "_ZNK11llama_model16memory_breakdownEv"
_IN_PLACE: Final = {"CPU", "CPU_Mapped"}
_MOST_KINDS: Final = 32


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
    library = bindings._lib
    if not hasattr(library, _BREAKDOWN):
        return None
    breakdown, name = getattr(library, _BREAKDOWN), library.ggml_backend_buft_name
    breakdown.argtypes, breakdown.restype = [ctypes.c_void_p], _Map
    name.argtypes, name.restype = [ctypes.c_void_p], ctypes.c_char_p
    layout = _LIBCXX if sys.platform == "darwin" else _LIBSTDCXX
    words = breakdown(model).words
    if not 1 <= words[layout.size] <= _MOST_KINDS:
        return None
    return {name(key).decode(): size for key, size in _entries(words[layout.root], layout)}


def _entries(node: int, layout: _MapLayout) -> Iterator[tuple[int, int]]:
    if not node:
        return
    words = (ctypes.c_uint64 * (layout.entry + 2)).from_address(node)
    yield from _entries(words[layout.left], layout)
    yield words[layout.entry], words[layout.entry + 1]
    yield from _entries(words[layout.right], layout)
