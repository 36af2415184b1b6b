"""Writes sizes, durations, counts and file names as people read them.

Unknown values are "–". Two figures that differ never print the same, and rounding never turns "nearly all" into "100%"
or "a little" into "0%".
"""

from __future__ import annotations

import re
import time
from typing import Final

UNKNOWN: Final = "–"
MEBIBYTE: Final = 1 << 20
GIBIBYTE: Final = 1 << 30
MEGABYTE: Final = 1_000_000
GIGABYTE: Final = 1_000_000_000
_SOLD_GIBIBYTES: Final = (2, 4, 6, 8, 12, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

# Of English prose, to give a feeling only: 3 words for 4 tokens, 400 words to a printed page. Measured were 0.80 to
# 0.83 words a token of English prose, 0.39 to 0.72 of German, 0.39 to 0.45 of code: so the language is named beside it.
WORDS_PER_TOKEN: Final = 0.75
WORDS_PER_PAGE: Final = 400

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


# --- sizes ---


def gigabytes(byte_count: int | None) -> str:
    """A size as the Hub and file managers print it: "4.92 GB", "98.4 MB"; "0 MB" only for nothing."""
    if byte_count is None:
        return UNKNOWN
    if byte_count < 1000:
        return counted(byte_count, "byte") if byte_count else "0 MB"
    return _in_unit(byte_count, *_unit(byte_count), digits=_digits(byte_count))


def gigabytes_apart(first: int, second: int) -> tuple[str, str]:
    """Two sizes to be compared: in one unit if they are near, with enough digits to tell them apart.

    >>> gigabytes_apart(5_690_000_000, 5_691_000_000)
    ('5.690 GB', '5.691 GB')
    """
    own = gigabytes(first), gigabytes(second)
    is_one_unit = own[0].split()[-1] == own[1].split()[-1]
    if own[0] != own[1] and (is_one_unit or 10 * min(first, second) < max(first, second)):
        return own  # in different units only if they are far apart
    unit_bytes, unit = _unit(max(first, second))
    for digits in range(_digits(max(first, second)), 10):
        pair = (_in_unit(first, unit_bytes, unit, digits=digits), _in_unit(second, unit_bytes, unit, digits=digits))
        if first == second or pair[0] != pair[1]:
            return pair
    return f"{first:,} bytes", f"{second:,} bytes"


def in_gibibytes(byte_count: int | None) -> str:
    """The same size in the binary units of other tools, for a hint beside it: "4.58 GiB", "93.8 MiB"."""
    if byte_count is None:
        return UNKNOWN
    unit_bytes, unit = (GIBIBYTE, "GiB") if byte_count >= 1000 * MEBIBYTE else (MEBIBYTE, "MiB")
    return f"{byte_count / unit_bytes:,.{_significant(byte_count / unit_bytes)}f} {unit}"


def memory_as_sold(byte_count: int) -> str:
    """What a shop calls a computer's memory, of which firmware keeps a little: "16 GB" for 16.7 GB; "" if unclear.

    Memory is sold in powers of 1024, files are measured in powers of 1000.
    """
    size = next((size for size in _SOLD_GIBIBYTES if byte_count <= size * GIBIBYTE), None)
    return f"{size} GB" if size and byte_count >= 0.92 * size * GIBIBYTE else ""


def parameters(parameter_count: int | None) -> str:
    """The size of a model: "135M", "7.2B"; "" if it is unknown or 0 (a header without weights)."""
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


def share_of_16_bits(bits_per_weight: float | None) -> str:
    """The size of a file beside the unquantized one: "31% of its size at 16 bits."; "" where nothing is saved."""
    is_smaller = bits_per_weight is not None and bits_per_weight < 15.9
    return f"{percent(bits_per_weight / 16)} of its size at 16 bits." if bits_per_weight and is_smaller else ""


# --- file names ---


def replace_surrogates(text: str) -> str:
    """The text with each surrogate as "\N{REPLACEMENT CHARACTER}", so that it can be sent to a browser or stored.

    Python decodes a byte of a file name that is not UTF-8 to a surrogate. Paths keep theirs, or the file would not be
    found; names and sentences for people do not.
    """
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


# --- times ---


def one_line(text: str, most_characters: int) -> str:
    """Text from a file or a server, for use in a sentence: printable, on one line, cut at a bound."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most_characters else line[: most_characters - 1] + "…"


def seconds(duration: float | None) -> str:
    """A measured duration: "0.34 s", "12.3 s", "2 min 05 s", "1 h 04 min"."""
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
    """An estimated duration: "about 12 s", "about 3 min"."""
    if duration is None:
        return UNKNOWN
    whole = max(1, round(duration))
    if whole < 90:
        return f"about {whole} s"
    return f"about {round(duration / 60)} min" if whole < 5400 else f"about {round(duration / 3600)} h"


def spelled_duration(duration: float) -> str:
    """A duration from a setting, as part of a sentence: "30 seconds", "1 minute", "2 hours"."""
    for unit, name in ((3600, "hour"), (60, "minute")):
        if duration >= unit and duration % unit == 0:
            return counted(int(duration // unit), name)
    return counted(round(duration), "second")


def day(moment: int | None) -> str:
    """The local date of a moment in seconds since 1970: "24 November 2026"."""
    if moment is None:
        return UNKNOWN
    local = time.localtime(moment)
    return f"{local.tm_mday} {_MONTHS[local.tm_mon - 1]} {local.tm_year}"


# --- counts ---


def count(number: int | None) -> str:
    """A whole number with separated thousands: "4,096"."""
    return UNKNOWN if number is None else f"{number:,}"


def counted(number: int | None, noun: str, plural: str = "") -> str:
    """A number and its noun: "1 token", "4,096 tokens", "2 replies"; "– tokens" if the number is unknown."""
    return f"{count(number)} {noun if number == 1 else plural or _plural(noun)}"


def speed(tokens_per_second: float | None, *, disturbed: bool = False) -> str:
    """A speed: "12.3 tok/s"; more digits when slow, fewer when fast; "12.3 tok/s (disturbed)"."""
    if tokens_per_second is None:
        return f"{UNKNOWN} tok/s"
    digits = 2 if tokens_per_second < 0.995 else 1 if tokens_per_second < 99.95 else 0
    return f"{tokens_per_second:,.{digits}f} tok/s{' (disturbed)' if disturbed else ''}"


def speed_with_deviation(tokens_per_second: float | None, deviation: float | None, *, disturbed: bool = False) -> str:
    """A speed and the deviation of its runs, with as many digits, or its first that is not 0: "12.3 ± 0.4 tok/s"."""
    text = speed(tokens_per_second, disturbed=disturbed)
    if tokens_per_second is None or deviation is None:
        return text
    digits = len(text.split()[0].partition(".")[2])
    rounded = f"{deviation:,.{digits}f}" if round(deviation, digits) or not deviation else f"{deviation:.1g}"
    return text.replace(" tok/s", f" ± {rounded} tok/s", 1)


def speed_band(slowest: float, fastest: float | None) -> str:
    """Speeds that are only estimated: "0.40 to 3.1 tok/s", "at least 12.0 tok/s" where nothing limits the other end."""
    if fastest is None:
        return f"at least {speed(slowest)}"
    return f"{speed(slowest).removesuffix(' tok/s')} to {speed(fastest)}"


def speed_range(band: tuple[float, float] | None) -> str:
    """A forecast with two digits, short enough for a cell of a table: "9–12 tok/s", "11 tok/s", "–" if unknown."""
    if band is None:
        return UNKNOWN
    low, high = (f"{float(f'{value:.2g}'):,g}" for value in band)
    return f"{low} tok/s" if low == high else f"{low}–{high} tok/s"


def percent(fraction: float) -> str:
    """A fraction: "43%"; "under 1%" and "over 99%" instead of a rounded nothing or all."""
    if 0 < fraction < 0.01:
        return "under 1%"
    if 0.99 < fraction < 1:
        return "over 99%"
    return f"{fraction:.0%}"


def short_tokens(tokens: int) -> str:
    """A context size on a small button: "4K", "256K", "1M"; in full if it is not a multiple of 1,024."""
    for size, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size:,}{letter}"
    return f"{tokens:,}"


def pages(tokens: int) -> str:
    """How much text a context holds, as an impression: "about 3,000 words of English text, 8 pages of a book"."""
    words = _rounded(tokens * WORDS_PER_TOKEN)
    return (
        f"about {words:,} words of English text, {counted(max(1, _rounded(words / WORDS_PER_PAGE)), 'page')} of a book"
    )


def _unit(byte_count: int) -> tuple[int, str]:
    """The largest unit in which the size is at least 1, as it is rounded."""
    units = ((GIGABYTE, "GB"), (MEGABYTE, "MB"), (1000, "kB"))
    return next((each for each in units if byte_count >= 0.9995 * each[0]), (1, "bytes"))


def _digits(byte_count: int) -> int:
    """After the point, for three in all."""
    unit_bytes, _ = _unit(byte_count)
    return 0 if unit_bytes == 1 else _significant(byte_count / unit_bytes)


def _significant(number: float) -> int:
    return 2 if number < 9.995 else 1 if number < 99.95 else 0


def _in_unit(byte_count: int, unit_bytes: int, unit: str, *, digits: int) -> str:
    if 0 < byte_count < unit_bytes * 0.5 * 10**-digits:
        return f"under {10**-digits:.{digits}f} {unit}"
    return f"{byte_count / unit_bytes:,.{digits}f} {unit}"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeo" else f"{noun}s"


def _rounded(number: float) -> int:
    """Two significant digits, because it is an estimate."""
    magnitude = 10 ** max(0, len(str(int(number))) - 2)
    return int(round(number / magnitude) * magnitude)


def overlap_at_end(text: str, string: str) -> int:
    """How many characters at the end of `text` are the beginning of `string`, which is not whole."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0
