"""Numbers and closed sets in words for people.

Knows no markup and no Gradio. One rule everywhere: what is unknown is "–", two figures that differ never print the
same, and nothing rounds to a claim (not quite all is not "100%", a little is not "0%").
"""

from __future__ import annotations

import time
from typing import Final

from playground.engine.protocol import FinishReason

UNKNOWN: Final = "–"
MEBIBYTE: Final = 1 << 20
GIBIBYTE: Final = 1 << 30

FINISH_SENTENCES: Final[dict[FinishReason, str]] = {
    "end of text": "The model had said all it wanted to say.",
    "length limit": "The reply reached the most tokens allowed; raise “Longest reply” to let it go on.",
    "stop string": "The reply came to a text at which it was asked to stop.",
    "context full": "The context is full: choose a larger context size, or clear the chat.",
    "cancelled": "You stopped the reply.",
}
FINISH_WORDS: Final[dict[FinishReason, str]] = {
    "end of text": "end of text",
    "length limit": "reached the length limit",
    "stop string": "reached a stop text",
    "context full": "context full",
    "cancelled": "stopped by you",
}

# How much English a token carries, for a feeling of size only: about 3 words for 4 tokens, 400 words to a printed page.
WORDS_PER_TOKEN: Final = 0.75
WORDS_PER_PAGE: Final = 400


def gibibytes(byte_count: int | None) -> str:
    """A size as people read it: "4.6 GiB", "98 MiB" below one GiB, "0 MiB" only for nothing."""
    if byte_count is None:
        return UNKNOWN
    return _in_unit(byte_count, *_unit(byte_count), digits=_digits(byte_count))


def gibibytes_apart(first: int, second: int) -> tuple[str, str]:
    """Two sizes to be compared: in one unit when they are near, with as many digits as it takes to tell them apart.

    >>> gibibytes_apart(5_690_000_000, 5_691_000_000)
    ('5.299 GiB', '5.300 GiB')
    """
    own = gibibytes(first), gibibytes(second)
    if own[0] != own[1] and 10 * min(first, second) < max(first, second):
        return own  # far apart: each in the unit that suits it
    unit_bytes, unit = _unit(max(first, second))
    start = _digits(max(first, second))
    for digits in range(start, 10):
        pair = (_in_unit(first, unit_bytes, unit, digits=digits), _in_unit(second, unit_bytes, unit, digits=digits))
        if first == second or pair[0] != pair[1]:
            return pair
    return f"{first:,} bytes", f"{second:,} bytes"


def _unit(byte_count: int) -> tuple[int, str]:
    return (GIBIBYTE, "GiB") if byte_count >= 1000 * MEBIBYTE else (MEBIBYTE, "MiB")


def _digits(byte_count: int) -> int:
    if 1000 * MEBIBYTE <= byte_count < 100 * GIBIBYTE or 0 < byte_count < 10 * MEBIBYTE:
        return 1
    return 0


def _in_unit(byte_count: int, unit_bytes: int, unit: str, *, digits: int) -> str:
    if 0 < byte_count < unit_bytes * 0.5 * 10**-digits:
        return f"under {10**-digits:.{digits}f} {unit}"
    return f"{byte_count / unit_bytes:,.{digits}f} {unit}"


def seconds(duration: float | None) -> str:
    """A duration: "0.34 s", "12.3 s", "2 min 05 s", "1 h 04 min"."""
    if duration is None:
        return UNKNOWN
    if duration < 9.995:
        return f"{duration:.2f} s"
    if duration < 59.95:
        return f"{duration:.1f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def about(duration: float | None) -> str:
    """An estimated duration, which should look like one: "about 12 s", "about 3 min"."""
    if duration is None:
        return UNKNOWN
    whole = max(1, round(duration))
    if whole < 90:
        return f"about {whole} s"
    return f"about {round(duration / 60)} min" if whole < 5400 else f"about {round(duration / 3600)} h"


def day(moment: int | None) -> str:
    """The day of a moment in seconds since 1970, where this computer is: "24 November 2026"."""
    if moment is None:
        return UNKNOWN
    local = time.localtime(moment)
    return f"{local.tm_mday} {_MONTHS[local.tm_mon - 1]} {local.tm_year}"


_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def speed(tokens_per_second: float | None) -> str:
    """A speed in the field's short form: "12.3 tok/s"; more digits when slow, fewer when fast."""
    if tokens_per_second is None:
        return f"{UNKNOWN} tok/s"
    digits = 2 if tokens_per_second < 0.995 else 1 if tokens_per_second < 99.95 else 0
    return f"{tokens_per_second:,.{digits}f} tok/s"


def count(number: int | None) -> str:
    """A whole number with its thousands set apart: "4,096"."""
    return UNKNOWN if number is None else f"{number:,}"


def counted(number: int | None, noun: str) -> str:
    """A number and its noun: "1 token", "4,096 tokens"; "– tokens" where it is unknown."""
    if number is None:
        return f"{UNKNOWN} {noun}s"
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def parameters(parameter_count: int | None) -> str:
    """How the field writes the size of a model: "135M", "7.2B"; "" when unknown or none (a header without weights)."""
    if not parameter_count:
        return ""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if parameter_count >= size * 0.9995:
            in_units = parameter_count / size
            return f"{in_units:.0f}{letter}" if in_units >= 99.5 or letter == "M" else f"{in_units:.1f}{letter}"
    return f"{parameter_count:,}"


def bits(bits_per_weight: float | None) -> str:
    """The bits a weight takes on average: "4.8 bits"."""
    return f"{UNKNOWN if bits_per_weight is None else f'{bits_per_weight:.1f}'} bits"


def percent(fraction: float) -> str:
    """A share: "43%"; "under 1%" and "over 99%" rather than a rounded nothing or all."""
    if 0 < fraction < 0.01:
        return "under 1%"
    if 0.99 < fraction < 1:
        return "over 99%"
    return f"{fraction:.0%}"


def short_tokens(tokens: int) -> str:
    """A context size on a small button: "4K", "256K", "1M"; what is no multiple of 1,024 stays in full."""
    for size, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size:,}{letter}"
    return f"{tokens:,}"


def pages(tokens: int) -> str:
    """What a context holds, for the feeling only: "about 3,000 words, 8 pages of a book"."""
    words = _rounded(tokens * WORDS_PER_TOKEN)
    return f"about {words:,} words, {counted(max(1, _rounded(words / WORDS_PER_PAGE)), 'page')} of a book"


def _rounded(number: float) -> int:
    """Two significant digits: an estimate should look like one."""
    magnitude = 10 ** max(0, len(str(int(number))) - 2)
    return int(round(number / magnitude) * magnitude)
