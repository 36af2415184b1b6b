"""Draws what a model takes of this computer's memory: a verdict, a bar with its legend, predicted beside measured.

The bar is one picture to a screen reader, with a sentence as its name. Its parts differ in lightness and pattern, so
that it also reads without colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from playground.text_format import UNKNOWN, gigabytes, gigabytes_apart, in_gibibytes
from playground.web.html.templates import render, with_hint

if TYPE_CHECKING:
    from markupsafe import Markup

    from playground.engine.protocol import Memory
    from playground.fit.budget import Budget
    from playground.fit.plan import MemoryPlan
    from playground.fit.verdict import Verdict, VerdictKind

VERDICT_SIGNS: Final[dict[VerdictKind, str]] = {"fits": "✓", "tight": "!", "slow": "↓", "wont_fit": "✕"}
_LEAST_VISIBLE_PERCENT: Final = 0.9  # about 3 px of a 330 px bar: every part can be seen


@dataclass(frozen=True)
class _Part:
    """kind: its class in theme.css. width: per cent of the bar."""

    kind: str
    name: str
    meaning: str
    byte_count: int
    width: float = 0

    @property
    def size(self) -> str:
        return gigabytes(self.byte_count)

    @property
    def hint(self) -> str:
        return f"{self.meaning}: {in_gibibytes(self.byte_count)}"

    @property
    def spoken(self) -> str:
        """Within a sentence: `weights 4.29 GB`, `KV cache 1.07 GB`."""
        name = self.name if self.kind == "kv" else self.name[0].lower() + self.name[1:]
        return f"{name} {self.size}"


def verdict_chip(verdict: Verdict | None) -> Markup:
    """`✓ Fits`, `! Tight`, `↓ Slow`, `✕ Won't fit`: a word, a sign and a colour; each is enough alone."""
    if verdict is None:
        return render("memory.html#verdict_chip", kind="unknown", sign="", label=UNKNOWN)
    return render("memory.html#verdict_chip", kind=verdict.kind, sign=VERDICT_SIGNS[verdict.kind], label=verdict.label)


def memory_bar(plan: MemoryPlan, usable: int, verdict: Verdict) -> str:
    """The parts of the plan, a mark where the usable bytes end, a legend, and the verdict's reason unless it fits."""
    parts = _parts(plan)
    needed_bytes = sum(part.byte_count for part in parts)
    scale = max(needed_bytes, usable, 1)
    needed, available = gigabytes_apart(needed_bytes, usable)
    spoken = ", ".join(part.spoken for part in parts)
    return render(
        "memory.html#bar",
        kind=verdict.kind,
        needed=with_hint(needed_bytes, needed),
        available=with_hint(usable, available),
        chip=verdict_chip(verdict),
        description=f"{verdict.label}. Needs {needed} of {available} usable memory: {spoken}",
        parts=_with_widths(parts, scale),
        mark=100 * usable / scale,
        overflows=needed_bytes > usable,
        reason="" if verdict.kind == "fits" else verdict.reason,
        remedy=verdict.remedy,
    )


def device_bars(plan: MemoryPlan, budget: Budget, where: str) -> str:
    """A bar for each GPU that would hold a part of the model, and the sentence that says where it runs and why."""
    devices = []
    order = [device.name for device in budget.devices]
    for name in sorted(plan.device_names, key=lambda name: order.index(name) if name in order else len(order)):
        device = budget.find(name)
        usable = device.usable if device else 0
        needed_bytes = plan.on_device(name)
        needed, available = gigabytes_apart(needed_bytes, usable)
        sizes = {kind: sum(part.bytes for part in plan.on_devices if part.device == name and part.kind == kind)
                 for kind in ("weights", "kv_cache", "recurrent", "compute")}  # fmt: skip
        parts = _visible(
            _Part("weights", "Weights", "the model's parameters, at this level", sizes["weights"]),
            _Part("kv", "KV cache", "what the model remembers of the text", sizes["kv_cache"] + sizes["recurrent"]),
            _Part("compute", "Compute", "buffers for the computation of one step", sizes["compute"]),
        )
        scale = max(needed_bytes, usable, 1)
        spoken = ", ".join(part.spoken for part in parts)
        title = device.description if device else name
        devices.append(
            {
                "name": title,
                "needed": with_hint(needed_bytes, needed),
                "available": with_hint(usable, available),
                "description": f"{title} needs {needed} of {available} free memory: {spoken}",
                "parts": _with_widths(parts, scale),
                "mark": 100 * usable / scale,
            }
        )
    return render("memory.html#device_bars", devices=devices, where=where)


def memory_bar_empty(text: str) -> str:
    """A bar as high as one with a plan, so that nothing moves when the plan comes."""
    return render("memory.html#empty_bar", text=text)


@dataclass(frozen=True)
class MemoryRows:
    """A loaded model's memory, for memory.html's memory_table.

    rows: name, predicted and measured size. needed, beside: what answers need of the predicted total, and what no token
    reads; "" where that is nothing.
    """

    rows: tuple[tuple[str, str, str], ...]
    needed: str
    beside: str


def memory_rows(plan: MemoryPlan, measured: Memory) -> MemoryRows:
    """The plan beside what the model's process really has."""
    rows = (
        ("Allocated", plan.must_stay, measured.anonymous),
        ("Mapped from files", plan.weights, measured.mapped),
        ("Total", plan.total, measured.resident),
    )
    on_devices = ((device.device, plan.on_device(device.device), device.measured) for device in measured.devices)
    beside = plan.total - plan.needed
    return MemoryRows(
        tuple((name, *gigabytes_apart(planned, found)) for name, planned, found in (*rows, *on_devices)),
        gigabytes(plan.needed),
        gigabytes(beside) if beside else "",
    )


def predicted_beside_measured(plan: MemoryPlan, measured: Memory) -> str:
    """A table of the planned memory and of what the model's process really has."""
    return render("memory.html#memory_table", memory=memory_rows(plan, measured))


def _parts(plan: MemoryPlan) -> list[_Part]:
    """What the plan's `needed` is made of."""
    parts = (
        _Part("weights", "Weights", "the parameters that tokens read, at this level", plan.read_weights),
        _Part("repacked", "Weights, repacked for this CPU", "a copy that this CPU reads faster", plan.repacked),
        _Part("kv", "KV cache", "what the model remembers of the text so far", plan.kv_cache + plan.recurrent),
        _Part("compute", "Compute", "buffers for the computation of one step", plan.compute + plan.output),
        _Part("overhead", "Overhead", "the program itself", plan.base),
    )
    return _visible(*parts)


def _visible(*parts: _Part) -> list[_Part]:
    return [part for part in parts if part.byte_count]


def _with_widths(parts: list[_Part], scale: int) -> list[_Part]:
    widths = [max(100 * part.byte_count / scale, _LEAST_VISIBLE_PERCENT) for part in parts]
    too_wide = max(sum(widths) / 100, 1.0)
    return [
        _Part(part.kind, part.name, part.meaning, part.byte_count, width / too_wide)
        for part, width in zip(parts, widths, strict=True)
    ]
