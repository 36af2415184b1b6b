"""Reads the quantizer's log: what each tensor becomes, which ones fall back to another type, and why it refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class QuantizedTensor:
    """A tensor as the quantizer lists it; `type` is what it becomes from `source_type`, by ggml's names."""

    number: int  # from 1
    count: int  # tensors in all
    name: str
    shape: tuple[int, ...]  # row length first
    source_type: str
    type: str

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Fallback:
    """Rows that do not divide by the block of the wanted type, and the type the tensor takes (None: there is none)."""

    tensor: str
    row_length: int
    divisor: int
    wanted: str
    used: str | None


_TENSOR = re.compile(r"\[ *(\d+)/ *(\d+)\] +(\S+) +- +\[([ \d,]+)\], type = *(\w+),")
_BECOMES = re.compile(r"-> +[\d.]+ MiB \((\w+)\)")
_FALLBACK = re.compile(
    r"warning: (\S+) +- ncols +(\d+) not divisible by (\d+) \(required for type +(\w+)\)"
    r"(?: *-> falling back to +(\w+))?"
)
_FAILED = re.compile(r"failed to quantize: (.+)")
_CAUSE = re.compile(r"^\w*gguf_init\w*: (.+)")  # logged before the loader's own, vaguer words


def _nothing(tensor: QuantizedTensor) -> None:
    pass


@dataclass
class LogReader:
    """Collects the facts of one run from the log's pieces, which begin and end anywhere in a line.

    [   3/ 272] blk.0.attn_k.weight - [ 576, 192, 1, 1], type = q4_1, size = 0.07 MiB -> 0.06 MiB (q4_0)

    `started` is called when work on a tensor begins.
    """

    started: Callable[[QuantizedTensor], None] = _nothing
    tensors: list[QuantizedTensor] = field(default_factory=list)
    fallbacks: list[Fallback] = field(default_factory=list)
    needs_imatrix: bool = False
    reasons: list[str] = field(default_factory=list)
    _line: str = ""

    def feed(self, piece: str) -> None:
        self._line += piece
        if not piece.endswith("\n") and (match := _TENSOR.search(self._line)):
            self._list(match)  # the rest of its line comes only when the tensor is done
        *lines, self._line = self._line.split("\n")
        for line in lines:
            self._read(line)

    @property
    def reason(self) -> str:
        """Why it refused, in its own words."""
        return "; ".join(dict.fromkeys(self.reasons)) or "it gave no reason"

    def _list(self, match: re.Match[str]) -> None:
        number, count, name, shape, source_type = match.groups()
        if not self.tensors or self.tensors[-1].number != int(number):
            lengths = tuple(int(length) for length in shape.split(","))
            self.tensors.append(QuantizedTensor(int(number), int(count), name, lengths, source_type, source_type))
            self.started(self.tensors[-1])

    def _read(self, line: str) -> None:
        if match := _TENSOR.search(line):
            self._list(match)
            if match := _BECOMES.search(line):
                self.tensors[-1].type = match[1]
        if match := _FALLBACK.search(line):
            tensor, row_length, divisor, wanted, used = match.groups()
            self.fallbacks.append(Fallback(tensor, int(row_length), int(divisor), wanted, used))
        if match := _FAILED.search(line) or _CAUSE.search(line):
            self.reasons.append(match[1].strip())
        self.needs_imatrix = self.needs_imatrix or "will require an imatrix" in line
