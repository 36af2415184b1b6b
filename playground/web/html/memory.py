"""What a model will take of this computer's memory, as a bar, a legend and words.

Asks nothing of the machine: plan, usable bytes and verdict come in, HTML comes out. The bar is one picture to a screen
reader, whose name is the sentence; its parts differ in lightness and pattern, so that it reads in greyscale too.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from playground.text_format import gibibytes, gibibytes_apart

if TYPE_CHECKING:
    from playground.engine.protocol import Memory
    from playground.fit.plan import MemoryPlan
    from playground.fit.verdict import Verdict, VerdictKind

_SYMBOLS: Final[dict[VerdictKind, str]] = {"fits": "✓", "tight": "!", "wont_fit": "✕"}
_LEAST_VISIBLE_PERCENT: Final = 0.9  # about 3 px of a 330 px bar: a part that exists is seen


@dataclass(frozen=True)
class _Part:
    kind: str  # its class in theme.css
    name: str
    meaning: str
    byte_count: int


def verdict_chip(verdict: Verdict | None) -> str:
    """`✓ Fits`, `! Tight`, `✕ Won't fit`: a word, a sign and a colour, any one of which is enough."""
    if verdict is None:
        return '<span class="gp-chip gp-unknown">–</span>'
    sign = f'<span aria-hidden="true">{_SYMBOLS[verdict.kind]}</span>'
    return f'<span class="gp-chip gp-{verdict.kind}">{sign} {escape(verdict.label)}</span>'


def memory_bar(plan: MemoryPlan, usable: int, verdict: Verdict) -> str:
    """The plan beside what is usable: its parts, the mark where usable memory ends, a legend, the verdict's words."""
    parts = _parts(plan)
    needed_bytes = sum(part.byte_count for part in parts)
    overflows = needed_bytes > usable
    scale = max(needed_bytes, usable, 1)
    needed, available = gibibytes_apart(needed_bytes, usable)
    spoken = f"{verdict.label}. Needs {needed} of {available} usable memory: " + ", ".join(
        f"{part.name if part.kind == 'kv' else part.name.lower()} {gibibytes(part.byte_count)}" for part in parts
    )
    mark = 100 * usable / scale
    over = f'<span class="gp-over" style="left:{mark:.2f}%"></span>' if overflows else ""
    return (
        f'<div class="gp-memory gp-{verdict.kind}">'
        f'<p class="gp-memory-head"><span>Memory <b>{needed}</b> of {available} usable</span>'
        f"{verdict_chip(verdict)}</p>"
        f'<div class="gp-bar" role="img" aria-label="{escape(spoken, quote=True)}">'
        f"{_segments(parts, scale)}{over}"
        f'<span class="gp-mark" style="left:{mark:.2f}%"></span></div>'
        f"{_mark_label(mark, overflows)}"
        f"{_legend(parts)}"
        f"{_reason(verdict)}</div>"
    )


def memory_bar_empty(text: str) -> str:
    """The bar's place before there is a plan, as high as the bar itself so that nothing jumps."""
    return (
        '<div class="gp-memory"><p class="gp-memory-head"><span>Memory</span></p>'
        f'<div class="gp-bar" aria-hidden="true"></div><p class="gp-reason">{escape(text)}</p></div>'
    )


def predicted_beside_measured(plan: MemoryPlan, measured: Memory) -> str:
    """Two rows: what was planned, and what the model's process really takes now."""
    rows = (
        ("Must stay in memory", plan.must_stay, measured.anonymous),
        ("Read from files", plan.weights, measured.mapped),
        ("Together", plan.total, measured.resident),
    )
    body = "".join(_comparison(name, *gibibytes_apart(planned, found)) for name, planned, found in rows)
    return (
        '<table class="gp-table"><thead><tr><th scope="col">Memory</th><th scope="col">predicted</th>'
        f'<th scope="col">measured</th></tr></thead><tbody>{body}</tbody></table>'
        '<p class="gp-hint">Predicted is with the context full; memory is taken as the chat grows.</p>'
    )


def _comparison(name: str, planned: str, found: str) -> str:
    return f'<tr><th scope="row">{name}</th><td>{planned}</td><td>{found}</td></tr>'


def _parts(plan: MemoryPlan) -> list[_Part]:
    """What every token needs, in order. Of weights with a copy only the copy counts: the originals are read once."""
    read_in_place = max(0, plan.weights - plan.repacked)
    named = (
        _Part("weights", "Weights", "the model's frozen numbers, at this level", read_in_place),
        _Part("repacked", "Weights, copied", "weights in the order that this processor reads fastest", plan.repacked),
        _Part("kv", "KV cache", "what the model keeps of the text so far", plan.kv_cache + plan.recurrent),
        _Part("compute", "Compute", "room for the arithmetic of one step", plan.compute + plan.output),
        _Part("overhead", "Overhead", "the program itself", plan.base),
    )
    return [part for part in named if part.byte_count]


def _segments(parts: list[_Part], scale: int) -> str:
    shares = [max(100 * part.byte_count / scale, _LEAST_VISIBLE_PERCENT) for part in parts]
    too_wide = max(sum(shares) / 100, 1.0)
    return "".join(
        f'<span class="gp-seg gp-seg-{part.kind}" style="width:{share / too_wide:.2f}%"></span>'
        for part, share in zip(parts, shares, strict=True)
    )


def _mark_label(mark: float, overflows: bool) -> str:
    if not overflows:
        return ""
    side = f"right:{100 - mark:.2f}%" if mark > 50 else f"left:{mark:.2f}%"
    return f'<p class="gp-mark-label" aria-hidden="true"><span style="{side}">usable memory ends here</span></p>'


def _reason(verdict: Verdict) -> str:
    """The verdict's sentences where something is to be said: that it fits is told by the head and the chip."""
    if verdict.kind == "fits":
        return ""
    return f'<p class="gp-reason"><b>{escape(verdict.reason)}</b> {escape(verdict.remedy)}</p>'


def _legend(parts: list[_Part]) -> str:
    items = "".join(
        f'<li title="{escape(part.meaning, quote=True)}"><i class="gp-seg-{part.kind}" aria-hidden="true"></i>'
        f"<span>{part.name}</span><b>{gibibytes(part.byte_count)}</b></li>"
        for part in parts
    )
    return f'<ul class="gp-legend">{items}</ul>'
