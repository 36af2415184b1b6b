"""Says whether a plan fits this computer, and what would fit.

There are two limits, because memory is of two kinds: what must stay (beyond it the system ends the process), and what
every token needs (beyond it the weights are read from the disk again for every token).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from playground.fit.plan import MemoryPlan
from playground.llama.params import CONTEXT_STEP
from playground.text_format import gibibytes_apart

VerdictKind = Literal["fits", "tight", "wont_fit"]
LABELS: Final[dict[VerdictKind, str]] = {"fits": "Fits", "tight": "Tight", "wont_fit": "Won't fit"}

TIGHT_SHARE: Final = 0.9  # of the usable memory: above it another program's growth is enough to make it slow
SMALLEST_CONTEXT: Final = 2048


@dataclass(frozen=True)
class Verdict:
    """needed: bytes that the failed gate wants, or all that every token needs. usable: bytes the machine can give."""

    kind: VerdictKind
    reason: str
    remedy: str
    needed: int
    usable: int

    @property
    def label(self) -> str:
        return LABELS[self.kind]


def judge(plan: MemoryPlan, usable: int, *, largest_context: int | None = None) -> Verdict:
    """Whether a plan fits into `usable` bytes.

    largest_context: the answer of `largest_context_that_fits` where the caller has it; the remedy then names it.
    """
    if plan.must_stay > usable:
        return _refusal(
            "{} must stay in memory and {} are usable: the system would end the model.",
            plan, plan.must_stay, usable, largest_context,
        )  # fmt: skip
    if plan.working_set > usable:
        return _refusal(
            "Each token needs {} and {} are usable: the weights would be read from the disk again and again.",
            plan, plan.working_set, usable, largest_context,
        )  # fmt: skip
    if plan.working_set > TIGHT_SHARE * usable:
        reason = f"{_needs(plan.working_set, usable)}: it runs, but leaves little for other programs."
        return Verdict("tight", reason, "Close other programs, or choose a smaller context.", plan.working_set, usable)
    return Verdict("fits", f"{_needs(plan.working_set, usable)}.", "", plan.working_set, usable)


def largest_context_that_fits(
    plan_at: Callable[[int], MemoryPlan], trained_context: int, usable: int, smallest: int = SMALLEST_CONTEXT
) -> int | None:
    """The largest context in tokens, at most the trained one, whose plan passes both gates; None where not even
    `smallest` does.

    Found by asking, about ten times: compute buffers grow in steps, so a line through two answers would be wrong. The
    answer is itself asked. Between two sizes that both pass, all are taken to pass.
    """

    def fits(context: int) -> bool:
        plan = plan_at(context)
        return max(plan.must_stay, plan.working_set) <= usable

    smallest = min(smallest, trained_context)
    if fits(trained_context):
        return trained_context
    if not fits(smallest):
        return None
    passed, failed = smallest, math.ceil(trained_context / CONTEXT_STEP) * CONTEXT_STEP
    while failed - passed > CONTEXT_STEP:
        middle = (passed + failed) // 2 // CONTEXT_STEP * CONTEXT_STEP
        if fits(middle):
            passed = middle
        else:
            failed = middle
    return passed


def context_steps(trained_context: int) -> tuple[int, ...]:
    """The contexts to offer: 2048, 4096, 8192 and so on, and the trained one last."""
    if trained_context < 1:  # a file may say so
        return (SMALLEST_CONTEXT,)
    steps = []
    step = SMALLEST_CONTEXT
    while step < trained_context:
        steps.append(step)
        step *= 2
    return (*steps, trained_context)


def _refusal(sentence: str, plan: MemoryPlan, needed: int, usable: int, largest_context: int | None) -> Verdict:
    if largest_context is not None and largest_context < plan.context.context_size:
        remedy = f"Choose a context of at most {largest_context:,} tokens, or a smaller level."
    elif plan.kv_cache > plan.weights:
        remedy = "Choose a smaller context, a smaller KV cache type, or a smaller level."
    else:
        remedy = "Choose a smaller level or a smaller model."
    return Verdict("wont_fit", sentence.format(*gibibytes_apart(needed, usable)), remedy, needed, usable)


def _needs(needed: int, usable: int) -> str:
    needed_text, usable_text = gibibytes_apart(needed, usable)
    return (
        f"It needs all of {usable_text} usable"
        if needed == usable
        else f"It needs {needed_text} of {usable_text} usable"
    )
