"""Passes long runs of short strings at once, where a loop would take each by itself.

A vocabulary is a quarter of a million strings, each behind its 64-bit length, so each start is known only from the one
before. One idea: the length of a string under 256 bytes ends in seven zero bytes, which texts do not hold. Sweep for
them, then keep those candidates that are a chain: every string must end where the next candidate starts.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

LENGTH: Final = struct.Struct("<Q")
_SWEEP_BYTES: Final = 256 * 1024
_WORTH_A_SWEEP: Final = 64  # strings; a sweep that passes fewer costs more than the loop
_LOOP_STRINGS: Final = 4096


def pass_strings(window: bytes, at: int, count: int) -> tuple[int, int]:
    """How many of `count` strings from `at` on were passed, and where the next one starts.

    Passes all whose lengths stand within the window; the position may lie beyond its end, as a damaged length points
    anywhere. Passing none means that the window ends within a length.
    """
    left = count
    while left and at + LENGTH.size <= len(window):
        passed, at = _sweep(window, at, left)
        left -= passed
        if passed < _WORTH_A_SWEEP:
            passed, at = _loop(window, at, min(left, _LOOP_STRINGS))
            left -= passed
    return count - left, at


def _sweep(window: bytes, at: int, most: int) -> tuple[int, int]:
    content = np.frombuffer(window, np.uint8, min(_SWEEP_BYTES, len(window) - at), at)
    zero = content == 0
    zeros_2 = zero[:-1] & zero[1:]
    zeros_4 = zeros_2[:-2] & zeros_2[2:]
    zeros_7 = zeros_4[:-3] & zeros_4[3:]
    starts = np.flatnonzero(zeros_7[1:])
    if not starts.size or starts[0] != 0:  # the string right here is long
        return 0, at
    ends = starts + content[starts] + LENGTH.size
    breaks = np.flatnonzero(ends[:-1] != starts[1:])
    passed = min(most, int(breaks[0]) + 1 if breaks.size else starts.size)
    return passed, at + int(ends[passed - 1])


def _loop(window: bytes, at: int, most: int) -> tuple[int, int]:
    unpack_from = LENGTH.unpack_from
    passed = 0
    try:
        for passed in range(most):  # noqa: B007 - read when the window ends
            at += unpack_from(window, at)[0] + 8
        passed = most
    except (struct.error, OverflowError):
        pass  # the window ended, or a length pointed far beyond it
    return passed, at
