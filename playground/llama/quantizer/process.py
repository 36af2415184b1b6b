"""Runs llama.cpp's quantizer in a process of its own.

`python -m playground.llama.quantizer.process` reads orders from standard input and writes answers to standard output,
each one JSON object on a line; quantize/quantize.py is the other side and decides about disks, names and sentences. The
process ends when its orders end, so at the latest with its parent, and removes the file that it was writing.

    {"order": "plan", "source": path, "shards": [path], "file_type": 7, "notes": {key: text}, "keep_mxfp4": [tensor]}
        -> {"is": "planned", "size": bytes, "weights": bytes, "main_type": "q8_0", "bits_per_weight": 8.5,
            "tensors": 272, "fallbacks": […], "needs_imatrix": false}
    {"order": "weigh", "source": path, "text": text, "threads": 2, "placement": {…}}
        -> {"is": "weighing", "fraction": 0.4} …, {"is": "weighed"}
    {"order": "make", …what was planned last…, "target": path, "threads": 2}
        -> {"is": "progress", "fraction": 0.4, "tensor": name, "number": 12, "tensors": 272} …,
           {"is": "made"}
    each -> {"is": "refused", "reason": llama.cpp's words, "fallbacks": […]}
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import queue
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import llama_cpp
import numpy as np
from llama_cpp._ggml import libggml

from playground.errors import PlaygroundError
from playground.gguf.tensors import TensorType
from playground.llama.devices import device_backends
from playground.llama.params import Placement
from playground.llama.quantizer.imatrix import (
    Importance,
    ImportanceNotMeasured,
    declare_tensor_functions,
    measure_importance,
)
from playground.llama.quantizer.log import LogReader, QuantizedTensor
from playground.machine.child_process import open_child_pipes
from playground.machine.files import remove_if_unlocked

ALIGNMENT: Final = 32  # bytes; the quantizer pads each tensor to the format's default, not to the source's
BUFFER_BYTES: Final = 64 << 20  # of a tensor's rows held at once: same file and time as with llama.cpp's 8 GiB
PROGRESS_STEP: Final = 0.002  # of the whole; more would only be noise in the pipe
TEXT_BYTES: Final = 127  # what a llama_model_kv_override can hold


class QuantizationRefused(Exception):
    """The quantizer refused; its log says why."""


def quantize(
    source: str,
    target: str,
    file_type: int,
    log: LogReader,
    *,
    notes: Mapping[str, str],
    keep_mxfp4: Sequence[str] = (),
    importance: Importance | None = None,
    dry: bool,
    threads: int = 1,
) -> None:
    """Write `source` as `file_type` to `target`; `dry` writes nothing and only says in the log what that would give.

    notes: texts added to the made file's metadata. keep_mxfp4: tensors that are MXFP4, which they stay. importance: an
    importance matrix; what is in it does not change what a dry run says, but that there is one does. Raises
    QuantizationRefused.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.dry_run = file_type, threads, dry
    params.allow_requantize = True
    params.max_buf_size = BUFFER_BYTES
    kept = [(_pattern(name), TensorType.MXFP4) for name in keep_mxfp4]
    overrides = (llama_cpp.llama_model_kv_override * (len(notes) + 2))()  # the empty key of the last one ends the list
    for override, (key, text) in zip(overrides, notes.items(), strict=False):
        override.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
        override.key, override.value.val_str = key.encode(), _cut(text)
    if kept and file_type in _FLOATS:  # the quantizer looks at single tensors only where the file is quantized
        kept.append((b".", _FLOATS[file_type]))
        params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
        named: Any = overrides[len(notes)]
        named.tag, named.key = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, b"general.file_type"
        named.value.val_i64 = file_type
    params.kv_overrides = overrides
    types = (llama_cpp.llama_model_tensor_override * (len(kept) + 1))()  # the last one, without a pattern, ends it
    for entry, (pattern, kind) in zip(types, kept, strict=False):
        entry.pattern, entry.type = pattern, kind
    params.tt_overrides = types
    matrix = (llama_cpp.llama_model_imatrix_data * (len(importance or ()) + 1))()  # the nameless last one ends it
    for entry, (tensor, values) in zip(matrix, (importance or {}).items(), strict=False):
        entry.name, entry.size = tensor.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if importance:
        params.imatrix = matrix

    on_log = llama_cpp.llama_log_callback(lambda level, text, data: log.feed(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(on_log, ctypes.c_void_p(0))
    try:
        failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    finally:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    if failed:
        raise QuantizationRefused


# Drops the log between runs; a module's name keeps it alive for as long as llama.cpp may call it.
_silent: Final = llama_cpp.llama_log_callback(lambda level, text, data: None)


_FLOATS: Final = {
    llama_cpp.LLAMA_FTYPE_ALL_F32: TensorType.F32,
    llama_cpp.LLAMA_FTYPE_MOSTLY_F16: TensorType.F16,
    llama_cpp.LLAMA_FTYPE_MOSTLY_BF16: TensorType.BF16,
}  # file types in which nothing is quantized, and the type of their tensors


def _pattern(name: str) -> bytes:
    """A regular expression, in the syntax of ECMAScript, that finds the tensor of this name alone."""
    return f"^{re.escape(name)}$".encode()


def _cut(text: str) -> bytes:
    return text.encode()[:TEXT_BYTES]


class _GgufInit(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p)))


@lru_cache
def header_bytes(shards: tuple[str, ...], notes: tuple[tuple[str, str], ...]) -> int:
    """Bytes before the first weight in the one file made from these shards: asked of ggml's own writer, so exact.

    The same for every level and slow to read with a large vocabulary, so it is cached. Raises QuantizationRefused if a
    shard cannot be read.
    """
    first, *others = (_open_header(path) for path in shards)
    file, _ = first
    for dropped in (b"split.no", b"split.count", b"split.tensors.count"):
        libggml.gguf_remove_key(file, dropped)
    for written in (b"general.quantization_version", b"general.file_type"):
        libggml.gguf_set_val_u32(file, written, 0)
    for key, text in notes:
        libggml.gguf_set_val_str(file, key.encode(), _cut(text))
    for _, tensors in others:
        tensor = libggml.ggml_get_first_tensor(tensors)
        while tensor:
            libggml.gguf_add_tensor(file, tensor)
            tensor = libggml.ggml_get_next_tensor(tensors, tensor)
    size = int(libggml.gguf_get_meta_size(file))
    for opened, tensors in (first, *others):
        libggml.gguf_free(opened)
        libggml.ggml_free(tensors)
    return size


def _open_header(path: str) -> tuple[Any, ctypes.c_void_p]:
    tensors = ctypes.c_void_p()
    file = libggml.gguf_init_from_file(os.fsencode(path), _GgufInit(True, ctypes.pointer(tensors)))
    if not file:
        raise QuantizationRefused
    return file, tensors


def declare_ggml_functions() -> None:
    """Gives the functions of ggml.h and gguf.h that the bindings leave out their C signatures."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "gguf_init_from_file": (pointer, [text, _GgufInit]),
        "gguf_get_meta_size": (ctypes.c_size_t, [pointer]),
        "gguf_remove_key": (ctypes.c_int64, [pointer, text]),
        "gguf_set_val_str": (None, [pointer, text, text]),
        "gguf_set_val_u32": (None, [pointer, text, ctypes.c_uint32]),
        "gguf_add_tensor": (None, [pointer, pointer]),
        "gguf_free": (None, [pointer]),
        "ggml_get_first_tensor": (pointer, [pointer]),
        "ggml_get_next_tensor": (pointer, [pointer, pointer]),
        "ggml_free": (None, [pointer]),
        "ggml_row_size": (ctypes.c_size_t, [ctypes.c_int, ctypes.c_int64]),
        "ggml_type_name": (text, [ctypes.c_int]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(libggml, name)
        function.restype, function.argtypes = result, arguments


_ANY_IMPORTANCE: Final[Importance] = {"output.weight": np.ones(1, np.float32)}


def plan(order: Mapping[str, Any], log: LogReader) -> dict[str, Any]:
    """What the order would give, by a dry run: the made file's size in bytes and its true bits per weight.

    Raises QuantizationRefused.
    """
    importance = _ANY_IMPORTANCE if order["weighed"] else None
    quantize(
        order["source"], "", order["file_type"], log,
        notes=order["notes"], keep_mxfp4=order["keep_mxfp4"], importance=importance, dry=True,
    )  # fmt: skip
    if not log.tensors or len(log.tensors) != log.tensors[0].count:
        log.reasons.append("its list of tensors cannot be read")
        raise QuantizationRefused
    numbers = {libggml.ggml_type_name(number).decode(): number for number in range(llama_cpp.GGML_TYPE_COUNT)}
    sizes = [_byte_count(tensor, numbers[tensor.type]) for tensor in log.tensors]
    weights_by_type: Counter[str] = Counter()
    for tensor in log.tensors:
        weights_by_type[tensor.type] += tensor.weights
    header = header_bytes(tuple(order["shards"]), tuple(order["notes"].items()))
    return {
        "is": "planned",
        "size": header + sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes),
        "weights": sum(sizes),
        "main_type": weights_by_type.most_common(1)[0][0],
        "bits_per_weight": 8 * sum(sizes) / sum(tensor.weights for tensor in log.tensors),
        "tensors": len(log.tensors),
        "fallbacks": [dataclasses.asdict(fallback) for fallback in log.fallbacks],
        "needs_imatrix": log.needs_imatrix,
    }


def _byte_count(tensor: QuantizedTensor, type_number: int) -> int:
    row_length = tensor.shape[0]
    return tensor.weights // row_length * int(libggml.ggml_row_size(type_number, row_length))


class QuantizerWorker:
    """Carries out one order after the other: llama.cpp in the main thread, the wait for the orders' end in another."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands = commands
        self._answers = answers
        self._orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._weights = 0  # of the model last planned: what progress is a fraction of
        self._unfinished: str | None = None
        self._importance: Importance = {}  # of the model last weighed

    def run(self) -> NoReturn:
        threading.Thread(target=self._read_orders, daemon=True).start()
        while True:
            self._carry_out(json.loads(self._orders.get()))

    def _read_orders(self) -> None:
        for line in self._commands:
            self._orders.put(line)
        if self._unfinished is not None:
            with suppress(OSError):  # another process may have taken it over
                remove_if_unlocked(Path(self._unfinished), wait=True)
        os._exit(0)

    def _carry_out(self, order: Mapping[str, Any]) -> None:
        log = LogReader()
        try:
            if order["order"] == "plan":
                self._answer(plan(order, log))
                self._weights = sum(tensor.weights for tensor in log.tensors)
            elif order["order"] == "weigh":
                self._importance = measure_importance(
                    order["source"],
                    order["text"],
                    order["threads"],
                    self._tell_weighing,
                    Placement.from_fields(order["placement"]),
                )
                self._answer({"is": "weighed"})
            else:
                self._make(order, log)
                self._answer({"is": "made"})
        except (ImportanceNotMeasured, PlaygroundError) as error:
            self._answer({"is": "refused", "reason": str(error).rstrip("."), "fallbacks": []})
        except QuantizationRefused:
            fallbacks = [dataclasses.asdict(fallback) for fallback in log.fallbacks]
            self._answer({"is": "refused", "reason": log.reason, "fallbacks": fallbacks})

    def _tell_weighing(self, fraction: float) -> None:
        self._answer({"is": "weighing", "fraction": fraction})

    def _make(self, order: Mapping[str, Any], log: LogReader) -> None:
        """Write the target, telling how many of the planned weights are done whenever a tensor begins."""
        done, reported = 0, -1.0

        def tell(tensor: QuantizedTensor) -> None:
            nonlocal done, reported
            fraction = min(1.0, done / max(1, self._weights))
            done += tensor.weights
            if fraction >= reported + PROGRESS_STEP:
                reported = fraction
                where = {"tensor": tensor.name, "number": tensor.number, "tensors": tensor.count}
                self._answer({"is": "progress", "fraction": fraction, **where})

        log.started = tell
        self._unfinished = order["target"]
        quantize(
            order["source"], order["target"], order["file_type"], log,
            notes=order["notes"], keep_mxfp4=order["keep_mxfp4"],
            importance=self._importance if order["weighed"] else None, dry=False, threads=order["threads"],
        )  # fmt: skip

    def _answer(self, answer: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(answer).encode() + b"\n")


# --- the process ---


def main() -> NoReturn:
    # The end of its orders ends it, and its half file first.
    commands, answers = open_child_pipes(watch_parent=False, for_driver=bool(device_backends()))
    declare_ggml_functions()
    declare_tensor_functions()
    QuantizerWorker(commands, answers).run()


if __name__ == "__main__":
    main()
