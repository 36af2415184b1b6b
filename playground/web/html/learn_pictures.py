"""The small pictures of the Learn tab, drawn as inline SVG in the page's own colours.

Pure functions without arguments; what a level takes comes from the table of levels, so that text and picture agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from playground.gguf.levels import find_level

_WIDTH: Final = 320
_TWELVE_BILLION: Final = 12_000_000_000
_LADDER: Final = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")


def blocks() -> str:
    """A weight as a row of 16, 8, 4 and 2 blocks, with the number of values it can take."""
    rows = ""
    for number, bits in enumerate((16, 8, 4, 2)):
        y = 8 + number * 36
        rows += _text(0, y + 15, f"{bits} bits", "gp-strong")
        rows += "".join(_rect(58 + bit * 11, y + 3, 9, 16, "weights", 2) for bit in range(bits))
        rows += _text(_WIDTH, y + 15, f"{2**bits:,}", anchor="end")
    return _svg(150, rows, "One weight at 16, 8, 4 and 2 bits can take 65,536, 256, 16 and 4 values.")


def ladder() -> str:
    """The sizes of a 12B model at the usual levels, in GB as files are sold."""
    sizes = [(name, _TWELVE_BILLION * level.bits_per_weight / 8e9) for name in _LADDER if (level := find_level(name))]
    largest = max(size for _, size in sizes)
    rows = ""
    for number, (name, size) in enumerate(sizes):
        y = 4 + number * 26
        width = 190 * size / largest
        rows += _text(0, y + 14, name, "gp-strong gp-mono") + _rect(70, y + 2, width, 16, "weights", 3)
        rows += _text(76 + width, y + 14, f"{size:.1f} GB")
    spoken = ", ".join(f"{name} {size:.1f} GB" for name, size in sizes)
    return _svg(4 + len(sizes) * 26, rows, f"Sizes of a 12B model: {spoken}.")


def rungs() -> str:
    """The same run of weights rounded to 16 rungs and to 4."""
    weights = [math.sin(x / 3.1) * 0.55 + math.sin(x / 1.3 + 1) * 0.3 + math.sin(x * 2.2) * 0.1 for x in range(40)]
    rows = ""
    for number, (bits, title) in enumerate(((4, "4 bits: 16 rungs"), (2, "2 bits: 4 rungs"))):
        top = 20 + number * 100
        steps = 2**bits - 1
        rounded = [(round((weight + 1) / 2 * steps) / steps) * 2 - 1 for weight in weights]
        rows += _text(0, top - 6, title, "gp-strong")
        rows += _line(rounded, top, "accent", stepped=True) + _line(weights, top, "ink")
    return _svg(202, rows, "A curve follows its original closely with 16 rungs and misses most of it with 4.")


def spoiled() -> str:
    """A tool call of which one token is wrong."""
    tokens = ("{", '"city"', ":", '"Oslo"', ",", '"days"', ":", "3", ")")
    x, rows = 0.0, ""
    for number, token in enumerate(tokens):
        width = 14 + 7.3 * len(token)
        if x + width > _WIDTH:
            x = 0.0
        y = 10 + 40 * (number > 4)
        x = 0.0 if number == 5 else x
        kind = "wont" if number == len(tokens) - 1 else "track"
        rows += _rect(x, y, width, 26, kind, 5)
        rows += _text(x + width / 2, y + 18, token.replace('"', "&quot;"), "gp-mono gp-strong", "middle")
        x += width + 6
    rows += _text(0, 106, "The last bracket should be }: the tool cannot read any of it.")
    return _svg(114, rows, "A tool call whose last token, a bracket, is wrong.")


def window() -> str:
    """What two layers keep of 24 tokens: everything, or the last six."""
    rows = ""
    for number, (title, kept) in enumerate((("A layer that keeps everything", 24), ("A layer with a window", 6))):
        y = 20 + number * 62
        rows += _text(0, y - 6, title, "gp-strong")
        for token in range(24):
            kind = "kv" if token >= 24 - kept else "track"
            rows += _rect(token * 13.3, y + 2, 11, 22, kind, 2)
    return _svg(116, rows, "Of 24 tokens the first layer keeps all, the second only the last six.")


def room() -> str:
    """Eight gigabytes filled by a 4B model at 16 bits, and by a 13B model at nearly 5."""
    rows = _text(0, 12, "4B at 16 bits", "gp-strong")
    rows += "".join(_rect(x * 40, 20, 36, 36, "weights", 4) for x in range(8))
    rows += _text(0, 84, "13B at nearly 5 bits", "gp-strong")
    rows += "".join(_rect(x * 12.3, 92 + y * 12.3, 10, 10, "kv", 2) for x in range(26) for y in range(3))
    return _svg(132, rows, "The same room filled by few large blocks and by many small ones.")


PICTURES: Final[dict[str, Callable[[], str]]] = {
    "blocks": blocks, "ladder": ladder, "rungs": rungs, "spoiled": spoiled, "window": window, "room": room,
}  # fmt: skip


def _svg(height: float, inner: str, spoken: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{spoken}">{inner}</svg>'


def _rect(x: float, y: float, width: float, height: float, kind: str, radius: int) -> str:
    return (
        f'<rect class="gp-fill-{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" rx="{radius}"/>'
    )


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _line(values: list[float], top: float, kind: str, *, stepped: bool = False) -> str:
    """Values from -1 to 1 as a line 70 high; stepped ones hold each value to the next."""
    width = _WIDTH / (len(values) - 1)
    path = ""
    for number, value in enumerate(values):
        y = top + 35 - 33 * value
        path += (
            f"H{number * width:.1f}V{y:.1f}"
            if stepped and number
            else f"{'L' if number else 'M'}{number * width:.1f} {y:.1f}"
        )
    return f'<path class="gp-stroke-{kind}" d="{path}"/>'
