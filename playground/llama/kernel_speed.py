"""Measures how fast this processor multiplies by weights of some types, in a child process, in a few seconds.

Writing a token reads nearly all weights of a model once and does little with each, so this is what its speed depends
on: the memory's bandwidth for types whose kernels are fast, the kernel for the others. Each type is measured as models
are run: matrices by one vector, on all cores, the weights repacked where llama.cpp repacks them, and more of them than
the processor's caches hold.

Each core multiplies matrices of its own and counts its processor time. So the answer is that of a quiet computer, even
if other programs have the cores for a while; llama.cpp's threads would wait for each other instead.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from playground.gguf.tensors import TensorType
from playground.llama.devices import device_backends, ggml_function
from playground.machine.child_process import ChildProcess, open_child_pipes

PROBE_SECONDS: Final = 20.0  # for all types asked for; two quiet cores of a server need 0.2 s for each

_MODULE: Final = "playground.llama.kernel_speed"
_ROW: Final = 2048  # weights in a row, and rows of a matrix: those of a model of about 2B
# Of all matrices of a type. 48 MiB, read again and again, stayed in a server's cache, and were read at twice the speed.
_WEIGHT_BYTES: Final = 192 << 20
_MEMORY_BYTES: Final = 384 << 20  # more than the caches of nearly any processor
_PASSES: Final = 4  # the fastest counts
_MOST_THREADS: Final = 256
_NICENESS: Final = 19  # what somebody waits for goes first
_CPU: Final = 0  # GGML_BACKEND_DEVICE_TYPE_CPU


def measure_memory_bandwidth(threads: int) -> float | None:
    """Bytes per second that all cores together read from memory; None if it could not be measured.

    Weights of 32 bits need so little arithmetic for each byte that memory alone limits their multiplication; there are
    so many of them that no processor's cache helps.
    """
    return measure_kernels(threads, [TensorType.F32], weight_bytes=_MEMORY_BYTES).get(TensorType.F32)


def measure_kernels(
    threads: int, types: Sequence[TensorType], weight_bytes: int = _WEIGHT_BYTES
) -> dict[TensorType, float]:
    """Bytes of weights per second that all cores together multiply, by type. weight_bytes: of all matrices of a type.

    Never raises: a type that fails or takes too long is missing.
    """
    found: dict[TensorType, float] = {}
    deadline = time.monotonic() + PROBE_SECONDS
    with ChildProcess(_MODULE) as child:
        names = [kind.name for kind in types]
        child.send_line(json.dumps({"threads": threads, "types": names, "weight_bytes": weight_bytes}).encode())
        try:
            for _ in types:
                answer = json.loads(child.read_line(max(0.0, deadline - time.monotonic())))
                if answer["bytes_per_second"] > 0:
                    found[TensorType[answer["type"]]] = float(answer["bytes_per_second"])
        except (TimeoutError, EOFError, ValueError, KeyError, TypeError):
            pass
    return found


# --- the child's side ---


def main() -> None:
    """`python -m playground.llama.kernel_speed`: a line of JSON for each type that its one line of input names."""
    commands, answers = open_child_pipes(for_driver=bool(device_backends()))
    os.nice(_NICENESS)
    asked = json.loads(commands.readline())
    kernels = _Kernels(max(1, min(asked["threads"], _MOST_THREADS)), asked["weight_bytes"])
    for name in asked["types"]:
        speed = kernels.bytes_per_second(TensorType[name])
        answers.write(json.dumps({"type": name, "bytes_per_second": speed}).encode() + b"\n")


class _InitParameters(ctypes.Structure):
    """struct ggml_init_params of ggml.h."""

    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


_POINTER: Final = ctypes.c_void_p
_CONTEXT_BYTES: Final = 1 << 20  # for the descriptions of tensors and of a graph; the weights lie in buffers


@dataclass(frozen=True)
class _Graph:
    """What one core computes, with llama.cpp's backend for it."""

    backend: int
    address: int
    weight_bytes: int


class _Kernels:
    """llama.cpp's CPU device, and the functions of ggml.h and ggml-backend.h that multiply on it."""

    def __init__(self, threads: int, weight_bytes: int) -> None:
        self._init = ggml_function("init", [_InitParameters], _POINTER)
        self._free = ggml_function("free", [_POINTER], None)
        self._matrix = ggml_function(
            "new_tensor_2d", [_POINTER, ctypes.c_int, ctypes.c_int64, ctypes.c_int64], _POINTER
        )
        self._multiply = ggml_function("mul_mat", [_POINTER, _POINTER, _POINTER], _POINTER)
        self._graph = ggml_function("new_graph", [_POINTER], _POINTER)
        self._expand = ggml_function("build_forward_expand", [_POINTER, _POINTER], None)
        self._allocate = ggml_function("backend_alloc_ctx_tensors_from_buft", [_POINTER, _POINTER], _POINTER)
        self._free_buffer = ggml_function("backend_buffer_free", [_POINTER], None)
        self._fill = ggml_function("backend_tensor_set", [_POINTER, _POINTER, ctypes.c_size_t, ctypes.c_size_t], None)
        self._supports = ggml_function("backend_dev_supports_op", [_POINTER, _POINTER], ctypes.c_bool)
        self._compute = ggml_function("backend_graph_compute", [_POINTER, _POINTER], ctypes.c_int)
        self._start_backend = ggml_function("backend_dev_init", [_POINTER, ctypes.c_char_p], _POINTER)
        self._free_backend = ggml_function("backend_free", [_POINTER], None)
        self._device = ggml_function("backend_dev_by_type", [ctypes.c_int], _POINTER)(_CPU)
        self._plain = ggml_function("backend_dev_buffer_type", [_POINTER], _POINTER)(self._device)
        self._threads, self._weight_bytes = threads, weight_bytes

    def bytes_per_second(self, kind: TensorType) -> float:
        """Of all cores together; 0 if llama.cpp does not multiply by this type here."""
        for buffer_type in (*self._repacking(), self._plain):
            with ExitStack() as resources:
                graphs = [self._graph_in(buffer_type, kind, resources) for _ in range(self._threads)]
                if all(graphs):
                    with ThreadPoolExecutor(self._threads) as cores:
                        return sum(cores.map(self._speed_of, [graph for graph in graphs if graph]))
        return 0.0

    def _speed_of(self, graph: _Graph) -> float:
        """Bytes per second of processor time, in the fastest pass."""
        times = []
        for _ in range(_PASSES):
            begun = time.thread_time()
            if self._compute(graph.backend, graph.address) != 0:
                return 0.0
            times.append(time.thread_time() - begun)
        return graph.weight_bytes / max(min(times), 1e-9)

    def _graph_in(self, buffer_type: int, kind: TensorType, resources: ExitStack) -> _Graph | None:
        """Matrices of one core, to be multiplied; None if weights of this type cannot lie in such a buffer."""
        matrix_bytes = _ROW * _ROW // kind.block_weights * kind.block_bytes
        count = max(1, self._weight_bytes // self._threads // matrix_bytes)
        in_weights, in_plain = self._new_context(resources), self._new_context(resources)
        weights = [self._matrix(in_weights, kind, _ROW, _ROW) for _ in range(count)]
        vector = self._matrix(in_plain, TensorType.F32, _ROW, 1)
        self._allocated(in_weights, buffer_type, resources)
        products = [self._multiply(in_plain, matrix, vector) for matrix in weights]
        if not self._supports(self._device, products[0]):
            return None
        self._allocated(in_plain, self._plain, resources)
        nothing = ctypes.create_string_buffer(matrix_bytes)  # zeros take as long as any weights
        for matrix in weights:
            self._fill(matrix, nothing, 0, matrix_bytes)
        self._fill(vector, nothing, 0, _ROW * TensorType.F32.block_bytes)
        graph = self._graph(in_plain)
        for product in products:
            self._expand(graph, product)
        return _Graph(self._one_thread(resources), graph, count * matrix_bytes)

    def _one_thread(self, resources: ExitStack) -> int:
        backend: int = self._start_backend(self._device, None)
        resources.callback(self._free_backend, backend)
        set_threads = self._registered("ggml_backend_set_n_threads")
        ctypes.CFUNCTYPE(None, _POINTER, ctypes.c_int)(set_threads)(backend, 1)
        return backend

    def _new_context(self, resources: ExitStack) -> int:
        context: int = self._init(_InitParameters(_CONTEXT_BYTES, None, True))
        resources.callback(self._free, context)
        return context

    def _allocated(self, context: int, buffer_type: int, resources: ExitStack) -> None:
        buffer = self._allocate(context, buffer_type)
        if not buffer:
            raise MemoryError
        resources.callback(self._free_buffer, buffer)

    def _repacking(self) -> Iterator[int]:
        """The types of buffers in which the CPU's backend stores weights in an order of its own."""
        get = self._registered("ggml_backend_dev_get_extra_bufts")
        if get:
            found = ctypes.CFUNCTYPE(ctypes.POINTER(_POINTER), _POINTER)(get)(self._device)
            index = 0
            while found and found[index]:
                yield found[index]
                index += 1

    def _registered(self, name: str) -> Any:
        """The address of a function that only the CPU's backend has; None if this version has none of that name."""
        backend = ggml_function("backend_dev_backend_reg", [_POINTER], _POINTER)(self._device)
        address = ggml_function("backend_reg_get_proc_address", [_POINTER, ctypes.c_char_p], _POINTER)
        return address(backend, name.encode())


if __name__ == "__main__":
    main()
