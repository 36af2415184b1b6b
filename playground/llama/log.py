"""Reads llama.cpp's log: sizes that no function returns, and the reason why it refused a model or stopped.

llama.cpp has one log for the whole process, so one `LlamaLog` is open at a time.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import llama_cpp

from playground.text_format import one_line

# ggml.h's enum ggml_log_level; the table in the bindings' _logger.py has other numbers and is wrong.
DEBUG: Final = 1
INFO: Final = 2
WARNING: Final = 3
ERROR: Final = 4
CONTINUED: Final = 5  # the rest of the line before

_MOST_LINES: Final = 5000
_LONGEST_REASON: Final = 300  # characters; a file may put anything into its error
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class LogLine:
    level: int
    text: str


class LlamaLog:
    """Collects what llama.cpp logs in this process while it is open, without debug lines; the log is silent afterwards.

    on_line: called with every line as it comes, debug lines too, in llama.cpp's own thread.

    >>> with LlamaLog() as log:
    ...     model = llama_cpp.llama_model_load_from_file(path, parameters)
    ...     why = failure_reason(log.take_lines())
    """

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self._lines: deque[LogLine] = deque(maxlen=_MOST_LINES)
        self._on_line = on_line
        self._level = DEBUG
        self._callback = llama_cpp.llama_log_callback(self._hear)

    def __enter__(self) -> LlamaLog:
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self

    def __exit__(self, *_: object) -> None:
        llama_cpp.llama_log_set(_SILENCE, ctypes.c_void_p(0))

    def take_lines(self) -> tuple[LogLine, ...]:
        """The lines since the last take."""
        lines = tuple(self._lines)
        self._lines.clear()
        return lines

    def _hear(self, level: int, text: bytes, _: ctypes.c_void_p) -> None:
        continued = level == CONTINUED
        if not continued:
            self._level = level
        if self._on_line is not None:
            self._on_line(text.decode("utf-8", "replace"))
        _keep_for_the_end(level, text)
        if self._level == DEBUG:
            return
        words = text.decode("utf-8", "replace").rstrip("\n")
        if continued and self._lines:
            words = self._lines.pop().text + words
        self._lines.append(LogLine(self._level, words))


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silence(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Drops every line that is not the reason of an abort."""
    _keep_for_the_end(level, text)


_SILENCE: Final = _silence
# What a GPU's driver says before llama.cpp aborts the process with no more than "CUDA error".
_DRIVER_ERROR: Final = re.compile(
    r"^(?:CUDA|ROCm|MUSA) error: \S.*|^ggml_vulkan: .*Error\w+|^error: .*\(\w+:kIOGPU\w+\)"
)
_UNTOLD_ERROR: Final = re.compile(r"(?:CUDA|ROCm|MUSA|fatal) error$")


def _keep_for_the_end(level: int, text: bytes) -> None:
    """A driver's error goes to standard error, where the page's process finds it when this one has ended."""
    if level == ERROR and _DRIVER_ERROR.match(words := text.decode("utf-8", "replace").strip()):
        os.write(2, f"{words}\n".encode())


# --- sizes ---


@dataclass(frozen=True)
class ContextSizes:
    """The memory of one context in bytes; the log gives it to 0.01 MiB, `with_buffers` makes it exact.

    recurrent: every state beside the KV cache.
    allocated: how much of kv_cache and recurrent is really there. In a dry run it should be nothing, but llama.cpp
    allocates recurrent states all the same.
    """

    kv_cache: int
    recurrent: int
    compute: int
    output: int
    allocated: int

    def with_buffers(self, state: int, compute: int) -> ContextSizes:
        """The same with llama.cpp's own sums of its buffers (weight_buffers.py).

        The log divides the state: what its lines on KV caches do not hold is a recurrent state, under any name, such as
        the compressor's state of DeepSeek V4. Up to the log's rounding, the KV cache is what the other lines leave.
        """
        if self.kv_cache == 0 or abs(state - self.kv_cache - self.recurrent) > _ROUNDING:
            recurrent = state - min(self.kv_cache, state)
            if self.kv_cache == self.recurrent == 0:  # the log is in other words; nearly all models have a KV cache
                recurrent = 0
        else:
            recurrent = min(self.recurrent, state)
        return replace(self, kv_cache=state - recurrent, recurrent=recurrent, compute=compute)


_ROUNDING: Final = 64 * 1024  # bytes: of a few lines, each to 0.01 MiB
_MEMORY: Final = re.compile(r"^(llama_\w+): +size = +([\d.]+) MiB")
_BUFFER: Final = re.compile(r"(\w+) +buffer size = +([\d.]+) MiB")
_OF_BUFFER: Final = {"compute": "compute", "output": "output"}  # any other is a state: KV, RS, "DSV4 csa state"


def read_context_sizes(lines: Iterable[LogLine]) -> ContextSizes:
    """The sizes in the lines that are logged while a context is made, summed over its caches and devices.

    llama_kv_cache: size =   45.00 MiB (  2048 cells,  30 layers,  4/1 seqs), K (f16):   22.50 MiB, V (f16):   22.50 MiB
    llama_memory_recurrent: size =   19.27 MiB (     1 cells,  24 layers,  1 seqs), R (f32): ...
    llama_memory_recurrent:        CPU RS buffer size =    19.27 MiB
    sched_reserve:        CPU compute buffer size =    15.51 MiB
    """
    sizes = dict.fromkeys(("kv_cache", "recurrent", "compute", "output", "allocated"), 0.0)
    for line in lines:
        if found := _MEMORY.search(line.text):
            sizes["recurrent" if "recurrent" in found[1] else "kv_cache"] += float(found[2])
        elif found := _BUFFER.search(line.text):
            sizes[_OF_BUFFER.get(found[1], "allocated")] += float(found[2])
    return ContextSizes(**{part: round(mebibytes * _MIB) for part, mebibytes in sizes.items()})


_STATE_BUFFER: Final = re.compile(r": +(\S+) +RS buffer size = +([\d.]+) MiB")


def read_recurrent_buffers(lines: Iterable[LogLine]) -> dict[str, int]:
    """Bytes of recurrent states by the name of their buffers, which a dry run allocates, too.

    llama_memory_recurrent:      CUDA0 RS buffer size =    19.27 MiB
    """
    sizes: dict[str, int] = {}
    for line in lines:
        if found := _STATE_BUFFER.search(line.text):
            sizes[found[1]] = sizes.get(found[1], 0) + round(float(found[2]) * _MIB)
    return sizes


# --- reasons ---

_GENERIC: Final = re.compile(r"failed to load model|failed to create context|failed to initialize the context: *$")
_SPEAKER: Final = re.compile(r"^(?:[\w~]+(?:::[\w~]+)*: +|error loading model: +|failed to initialize the context: +)")
_FOLDER: Final = re.compile(r"(?:/[^\s:/]+)+/(?=[^\s:/]+:\d+: )")  # of the machine that compiled llama.cpp
_BACKTRACE: Final = re.compile(
    r"backtrace|\(.*\) ?\[0x[0-9a-f]+\]$|^\[New LWP|^\[Thread |^#\d|gdb|ptrace", re.IGNORECASE
)


def failure_reason(lines: Iterable[LogLine]) -> str:
    """Why a call failed: the last error that is specific, without the names of the functions that logged it.

    "llama_model_load: error loading model: unknown model architecture: 'x'" gives "unknown model architecture: 'x'".
    Empty when nothing was said.
    """
    errors = [line.text for line in lines if line.level >= ERROR and not _GENERIC.search(line.text)]
    return _without_speakers(errors[-1]) if errors else ""


def abort_message(stderr: str) -> str:
    """Why llama.cpp aborted its process: the last informative line of its standard error.

    "/build/ggml.c:7: GGML_ASSERT(x) failed" gives "ggml.c:7: GGML_ASSERT(x) failed", and "CUDA error: out of memory"
    before "/build/ggml-cuda.cu:9: CUDA error" is the reason.
    """
    said = [line for line in stderr.splitlines() if line.strip() and not _BACKTRACE.search(line)]
    aborts = [line for line in said if "GGML_ASSERT" in line or "what():" in line or _UNTOLD_ERROR.search(line)] or said
    if aborts and _UNTOLD_ERROR.search(aborts[-1]):
        aborts = [line for line in said if _DRIVER_ERROR.match(line)] or aborts
    return printable(_FOLDER.sub("", aborts[-1])) if aborts else ""


def _without_speakers(text: str) -> str:
    while (shorter := _SPEAKER.sub("", text)) != text:
        text = shorter
    return printable(text)


def printable(text: str) -> str:
    """One short printable line; text that comes from a file may hold any character."""
    return one_line(text, _LONGEST_REASON)
