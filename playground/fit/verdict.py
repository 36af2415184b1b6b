"""Says whether a plan fits this computer, what would fit, and how slow it would be if it does not.

There are two limits, because memory is of two kinds: what must stay (beyond it the system ends the process), and what
answers need (beyond it, weights are read from the disk again while an answer is written: it runs, but slowly).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.fit.budget import Budget, DeviceBudget
from playground.fit.plan import MemoryPlan
from playground.llama.params import CONTEXT_STEP
from playground.text_format import UNKNOWN, gigabytes, gigabytes_apart, speed_band

VerdictKind = Literal["fits", "tight", "slow", "wont_fit"]
LABELS: Final[dict[VerdictKind, str]] = {"fits": "Fits", "tight": "Tight", "slow": "Slow", "wont_fit": "Won't fit"}
DiskSpeed = Callable[[], float | None]  # bytes per second; asked only for what is slow

_ORDER: Final[tuple[VerdictKind, ...]] = ("fits", "tight", "slow", "wont_fit")

TIGHT_SHARE: Final = 0.9  # of the usable memory: above it another program's growth is enough to make it slow
SMALLEST_CONTEXT: Final = 2048

# Experts that find no place, as a share of all: up to here a token seldom needs one of them. If chance alone chose the
# experts, a tenth of what a token reads of them would come from the disk; real text repeats its experts, so it is less.
_FEW_EXPERTS: Final = 0.1
# Of the disk's speed, what it gives at worst while the kernel has to make room for each page: measured 135 MB/s for a
# model in a control group, from a disk that gave 240 to 390 before.
_SHORT_OF_MEMORY: Final = 1 / 3

# A model that waits for longer than this for the weights of one token is called too large, not slow.
_LONGEST_WAIT_SECONDS: Final = 5.0
_USUAL_DISK_SPEED: Final = float(1 << 30)  # bytes per second, of a disk that is not known: an ordinary SSD

_NEW_SUBJECTS: Final = "the first answers about new subjects will be slower"


@dataclass(frozen=True)
class Verdict:
    """needed: bytes that the failed limit wants, or all that answers need. usable: bytes the machine can give.

    tokens_per_second: of what is slow, from and to; None where the disk's speed is not known. The second is None where
    only the least can be said.
    """

    kind: VerdictKind
    reason: str
    remedy: str
    needed: int
    usable: int
    tokens_per_second: tuple[float, float | None] | None = None

    @property
    def label(self) -> str:
        return LABELS[self.kind]

    @property
    def is_refused(self) -> bool:
        """Whether it is loaded only for somebody who insists."""
        return self.kind in ("slow", "wont_fit")


def disk_speed_unknown() -> None:
    """For a file that is not on a disk here."""


def judge(
    plan: MemoryPlan,
    budget: Budget | int,
    *,
    largest_context: int | None = None,
    disk_speed: DiskSpeed = disk_speed_unknown,
) -> Verdict:
    """Whether a plan fits into the memory of this computer and of each GPU; the verdict names the one that is short.

    budget: as bytes, of the computer's memory alone.
    largest_context: the answer of `largest_context_that_fits` where the caller has it; the remedy then names it.
    """
    if isinstance(budget, int):
        budget = Budget(budget)
    on_gpus = [_judge_device(plan, name, budget.find(name)) for name in plan.device_names]
    unified = {device.name for device in budget.devices if device.unified}
    in_ram = _judge_ram(plan.with_unified(unified), budget.usable, largest_context, disk_speed)
    worst = max([*on_gpus, in_ram], key=lambda verdict: _ORDER.index(verdict.kind))
    if worst.kind != "fits" or not on_gpus:
        return worst
    reason = " ".join(verdict.reason for verdict in [*on_gpus, in_ram])
    return Verdict("fits", reason, "", in_ram.needed, in_ram.usable)


def _judge_device(plan: MemoryPlan, name: str, device: DeviceBudget | None) -> Verdict:
    needed = plan.on_device(name)
    if device is None:
        return Verdict("wont_fit", f"The device {name} is not there.", "Choose another device, or CPU only.", needed, 0)
    needed_text, usable_text = gigabytes_apart(needed, device.usable)
    memory = f"the memory of {device.description}"
    if needed > device.usable:
        reason = f"{needed_text} must be in {memory}, and {usable_text} are free."
        remedy = "Choose fewer layers on the GPU, a smaller context, or a smaller level."
        return Verdict("wont_fit", reason, remedy, needed, device.usable)
    reason = f"It needs {needed_text} of {usable_text} free in {memory}"
    if needed > device.usable - device.margin:
        remedy = "Choose fewer layers on the GPU if other programs use it, too."
        return Verdict(
            "tight", f"{reason}: it runs, but leaves little for other programs.", remedy, needed, device.usable
        )
    return Verdict("fits", f"{reason}.", "", needed, device.usable)


def _judge_ram(plan: MemoryPlan, usable: int, largest_context: int | None, disk_speed: DiskSpeed) -> Verdict:
    if plan.may_stay is not None and plan.must_stay > plan.may_stay:
        needed, available = gigabytes_apart(plan.must_stay, plan.may_stay)
        reason = f"{needed} must stay in memory, and a process may take {available} here (ulimit -d)."
        return Verdict("wont_fit", reason, _smaller(plan, largest_context), plan.must_stay, plan.may_stay)
    if plan.must_stay > usable:
        needed, available = gigabytes_apart(plan.must_stay, usable)
        reason = f"{needed} must stay in memory and {available} are usable: the system would end the model."
        return Verdict("wont_fit", reason, _smaller(plan, largest_context), plan.must_stay, usable)
    if plan.needed_by_each_token > usable:
        return _slow(plan, usable, largest_context, disk_speed)
    if plan.needed > usable:
        return _without_some_experts(plan, usable, largest_context, disk_speed)
    if plan.needed > TIGHT_SHARE * usable:
        reason = f"{_needs(plan.needed, usable)}: it runs, but leaves little for other programs."
        return Verdict("tight", reason, "Close other programs, or choose a smaller context.", plan.needed, usable)
    return Verdict("fits", f"{_needs(plan.needed, usable)}.", "", plan.needed, usable)


def _slow(plan: MemoryPlan, usable: int, largest_context: int | None, disk_speed: DiskSpeed) -> Verdict:
    """Each token waits for the disk: at worst for all the weights that it reads, at best for those without a place.

    The kernel drops what was read longest ago, which the next token reads first: so a little above the limit nearly all
    is read again. Measured in a control group with a model of 0.5B, which needs 891 MiB: a token reads nothing from the
    disk with 890 MiB, 11 to 14 MB with 871, and 376 MB, all its weights, with 830. At best, code of the process that no
    token needs gives way first.
    """
    needed = plan.needed_by_each_token
    least = max(0, needed - usable - plan.base)
    waits = _WaitForDisk(plan.read_weights - (plan.needed - needed), least, disk_speed())
    each, available = gigabytes_apart(needed, usable)
    what = "it runs, but reads weights" if waits.is_bearable else "its weights would be read"
    reason = f"Each token needs {each} and {available} are usable: {what} from the disk each time. {waits.sentence}"
    remedy = _smaller(plan, largest_context)
    return Verdict(waits.kind, reason.strip(), remedy, needed, usable, waits.tokens_per_second)


def _without_some_experts(plan: MemoryPlan, usable: int, largest_context: int | None, disk_speed: DiskSpeed) -> Verdict:
    """All that one token reads fits, but not all experts. At worst, chance chooses the experts of each token."""
    lacking = plan.needed - usable
    needed, available = gigabytes_apart(plan.needed, usable)
    reason = f"It needs {needed} with all its experts, and {available} are usable: {_NEW_SUBJECTS}"
    if lacking <= _FEW_EXPERTS * plan.mapped_experts:
        remedy = "Close other programs, or choose a smaller context."
        return Verdict("tight", f"It fits but for some experts. {reason}.", remedy, plan.needed, usable)
    waits = _WaitForDisk(round(lacking * plan.use.chosen), 0, disk_speed())
    reason = f"{reason}, and others too. {waits.sentence}".strip()
    return Verdict(waits.kind, reason, _smaller(plan, largest_context), plan.needed, usable, waits.tokens_per_second)


@dataclass(frozen=True)
class _WaitForDisk:
    """A model that reads from `least` to `most` bytes from the disk for each token. disk_speed: bytes per second."""

    most: int
    least: int
    disk_speed: float | None

    @property
    def is_bearable(self) -> bool:
        return self.most <= _LONGEST_WAIT_SECONDS * (self.disk_speed or _USUAL_DISK_SPEED)

    @property
    def kind(self) -> VerdictKind:
        return "slow" if self.is_bearable else "wont_fit"

    @property
    def tokens_per_second(self) -> tuple[float, float | None] | None:
        """None for the second where the computation, of which nothing is known here, would take longer than the disk:
        above 30 tokens per second.
        """
        if not self.disk_speed:
            return None
        fastest = self.disk_speed / self.least if self.least and self.disk_speed / self.least < 30 else None
        return _SHORT_OF_MEMORY * self.disk_speed / max(self.most, 1), fastest

    @property
    def sentence(self) -> str:
        """What speed to expect, and from what that is known; "" where it would only repeat that it does not fit."""
        if self.tokens_per_second is None or self.disk_speed is None:
            unknown = f"Expected speed: {UNKNOWN}, because the speed of the disk is not known."
            return unknown if self.is_bearable else ""
        band, disk = speed_band(*self.tokens_per_second), gigabytes(round(self.disk_speed))
        return f"Expected: {band}, from the {disk}/s that this disk gives."


def budget_after(budget: Budget, plans: Iterable[MemoryPlan]) -> Budget:
    """What is left of a budget when these are loaded."""
    for plan in plans:
        taken = budget.with_freed((part.device, -part.bytes) for part in plan.on_devices)
        budget = replace(taken, usable=budget.usable - plan.needed)
    return budget


def largest_context_that_fits(
    plan_at: Callable[[int], MemoryPlan], trained_context: int, budget: Budget | int
) -> int | None:
    """The largest context in tokens, at most the trained one, whose plan is not refused; None where not even the
    smallest is.

    Found by asking, about ten times: compute buffers grow in steps, so a line through two answers would be wrong. The
    answer is itself asked. Between two sizes that both pass, all are taken to pass.
    """

    def fits(context: int) -> bool:
        return not judge(plan_at(context), budget).is_refused

    smallest = min(SMALLEST_CONTEXT, trained_context)
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


def _smaller(plan: MemoryPlan, largest_context: int | None) -> str:
    """What to choose instead of a plan that is refused."""
    if largest_context is not None and largest_context < plan.context.context_size:
        return f"Choose a context of at most {largest_context:,} tokens, or a smaller level."
    if plan.kv_cache > plan.weights:
        return "Choose a smaller context, a smaller KV cache type, or a smaller level."
    return "Choose a smaller level or a smaller model."


def _needs(needed: int, usable: int) -> str:
    needed_text, usable_text = gigabytes_apart(needed, usable)
    return (
        f"It needs all of {usable_text} usable"
        if needed == usable
        else f"It needs {needed_text} of {usable_text} usable"
    )
