"""The Learn tab's markup: the sections of assets/learn.toml, each with a picture and the tab where it can be tried.

Three pictures are of the model at hand: a block of its weights, its bytes by type, its KV cache. Where there is no
model, SVG files of assets/pictures/ take their places. They are put into the page as they are, so their classes take
the page's colours, in dark mode too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from playground.app.learn.block import BINS, BlockLesson, RoundedTensor
from playground.app.learn.lesson import Lesson
from playground.gguf.rounding import ALL_BITS, Bits, RoundedBlock
from playground.resources import asset, read_toml
from playground.text_format import bits as bits_text
from playground.text_format import percent
from playground.web.html.templates import render

TABS: Final = ("chat", "compare", "fit", "models")  # that a section may lead to
FIRST_BITS: Final = 4  # that the slider begins with
_WITHOUT_MODEL: Final = {"block": "steps", "types": "blocks", "cache": "window"}
_WIDTH, _HEIGHT = 640.0, 200.0  # of the picture of a block
_HISTOGRAM_HEIGHT: Final = 90.0
_MOST_LINES: Final = 16  # possible values that are drawn as lines


def lesson_page(lesson: Lesson | None = None) -> Markup:
    """The whole tab. lesson: of the model at hand."""
    text = read_toml("learn.toml")
    sections = [_section(section, lesson) for section in text["section"]]
    return render("learn.html#lesson", lead=text["lead"], sections=sections)


def picture(name: str, lesson: Lesson | None = None) -> Markup:
    """The picture of that name: of the model at hand if there is one, else a drawing."""
    if name == "block" and lesson and lesson.block:
        return block_picture(lesson, lesson.block)
    if name == "types" and lesson and lesson.types:
        most = lesson.types[0].bytes
        total = sum(share.bytes for share in lesson.types)
        return render("learn.html#types", lesson=lesson, total=total, most=most)
    if name == "cache" and lesson and lesson.cache:
        most = max(step.needed for step in lesson.cache)
        return render("learn.html#cache", lesson=lesson, most=most)
    return Markup(asset(f"pictures/{_WITHOUT_MODEL.get(name, name)}.svg").read_text(encoding="utf-8"))


def _section(section: dict[str, Any], lesson: Lesson | None) -> dict[str, Any]:
    if "picture" not in section:
        return {**section, "is_wide": False}
    drawn = picture(section["picture"], lesson)
    is_own = section["picture"] in _WITHOUT_MODEL and "<svg" not in drawn[:5]
    caption = "" if is_own else section["caption"]
    return {**section, "picture": drawn, "caption": caption, "is_wide": section["picture"] == "block" and is_own}


# --- a block of weights ---


@dataclass(frozen=True)
class BlockPanel:
    """What the picture shows at one number of bits. bars: (x, top of the rounded value, height); lines: heights."""

    bits: Bits
    bars: tuple[tuple[float, float, float], ...]
    lines: tuple[float, ...]
    facts: tuple[tuple[str, str], ...]
    histogram: str


def block_picture(lesson: Lesson, block: BlockLesson) -> Markup:
    """A slider over the numbers of bits, with the block, its figures and the histogram of the tensor at each."""
    reach = 1.08 * max(abs(value) for each in block.rounded for value in (*block.weights, *each.values))
    tallest = max(max(tensor.counts) for tensor in block.tensors if tensor.bits >= 8)
    panels = [
        _panel(rounded, tensor, reach, tallest) for rounded, tensor in zip(block.rounded, block.tensors, strict=True)
    ]
    marks = [(_x(index) + _step() / 2, _y(value, reach)) for index, value in enumerate(block.weights)]
    return render(
        "learn.html#block",
        lesson=lesson, block=block, panels=panels, marks=marks, middle=_y(0, reach), width=_WIDTH, height=_HEIGHT,
        bar=0.62 * _step(), histogram_height=_HISTOGRAM_HEIGHT, before=_outline(block.counts, tallest),
        first=ALL_BITS.index(FIRST_BITS), first_bits=FIRST_BITS, all_bits=ALL_BITS,
    )  # fmt: skip


def _panel(rounded: RoundedBlock, tensor: RoundedTensor, reach: float, tallest: int) -> BlockPanel:
    bars = []
    for index, value in enumerate(rounded.values):
        top, bottom = sorted((_y(value, reach), _y(0, reach)))
        bars.append((_x(index) + 0.19 * _step(), top, max(bottom - top, 1.5)))
    return BlockPanel(
        rounded.bits, tuple(bars), _lines(rounded, reach), _facts(rounded, tensor), _outline(tensor.counts, tallest)
    )


def _facts(rounded: RoundedBlock, tensor: RoundedTensor) -> tuple[tuple[str, str], ...]:
    steps = "65,536, spread wide" if rounded.step_count is None else f"{rounded.step_count}, evenly spaced"
    own = (
        "none: each weight has its own" if rounded.scale is None else f"{rounded.scale:.5f} from one value to the next"
    )
    return (
        ("Values a weight can take", steps),
        ("Scale of the block", own),
        ("Stored bits per weight", bits_text(rounded.bits_per_weight)),
        ("Rounding error of the block", f"{percent(rounded.error)} of a typical weight"),
        ("Rounding error of the tensor", f"{percent(tensor.error)} of a typical weight"),
    )


def _lines(rounded: RoundedBlock, reach: float) -> tuple[float, ...]:
    """The heights of all values that a weight of the block can take, as far as they are in the picture."""
    if rounded.scale is None or (rounded.step_count or 0) > _MOST_LINES:
        return ()
    most = round(reach / rounded.scale) + 1
    signs = [value / rounded.scale for value in rounded.values]
    least, largest = round(min(signs)), round(max(signs))
    return tuple(_y(number * rounded.scale, reach) for number in range(max(-most, least), min(most, largest) + 1))


def _outline(counts: Sequence[int], tallest: int) -> str:
    """The path of a histogram, in steps, from the left end of its base to the right one."""
    bin_width = _WIDTH / BINS
    points = [f"M0 {_HISTOGRAM_HEIGHT:.0f}"]
    for index, count in enumerate(counts):
        height = _HISTOGRAM_HEIGHT * (1 - min(1.0, 0.96 * count / tallest))
        points.append(f"L{index * bin_width:.1f} {height:.1f}L{(index + 1) * bin_width:.1f} {height:.1f}")
    return "".join((*points, f"L{_WIDTH:.0f} {_HISTOGRAM_HEIGHT:.0f}Z"))


def _step() -> float:
    return _WIDTH / 32


def _x(index: int) -> float:
    return index * _step()


def _y(value: float, reach: float) -> float:
    return _HEIGHT / 2 * (1 - value / reach)
