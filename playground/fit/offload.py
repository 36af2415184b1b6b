"""Chooses where a model runs: how many of its layers go to the GPU, found by asking the dry run.

The order of Automatic: all layers on the GPU if they fit with a margin; else, of a model with experts, the experts
of as few layers as possible in RAM; else as many layers as fit; else the CPU alone. The context stays as it was asked
for. The dry run says what each of these would take, so nothing is computed by a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from playground.errors import BadModelFile, PlaygroundError
from playground.fit.budget import Budget, DeviceBudget
from playground.fit.plan import MemoryPlan
from playground.fit.verdict import judge
from playground.llama.params import ALL_LAYERS, AUTOMATIC, CPU_ONLY, DeviceChoice, Placement
from playground.text_format import gigabytes, gigabytes_apart


@dataclass(frozen=True)
class LayerCount:
    """layers: of the model, with the output, which llama.cpp counts as one. has_experts: whether some are experts."""

    layers: int
    has_experts: bool


@dataclass(frozen=True)
class PlacedRun:
    """A placement, and a sentence that says why; "" where there is no GPU to choose."""

    placement: Placement
    reason: str


class _Search:
    """Asks the dry run about placements on the same GPUs."""

    def __init__(self, plan_at: Callable[[Placement], MemoryPlan], gpus: tuple[DeviceBudget, ...], budget: Budget):
        self._plan_at = plan_at
        self._budget = budget.with_margins
        self._names = tuple(gpu.name for gpu in gpus)
        self._split = tuple(max(1, gpu.usable >> 20) for gpu in gpus) if len(gpus) > 1 else ()

    def placement(self, gpu_layers: int, experts_in_ram: int = 0) -> Placement:
        return Placement(self._names, gpu_layers, experts_in_ram, self._split)

    def plan(self, placement: Placement) -> MemoryPlan:
        return self._plan_at(placement)

    def fits(self, placement: Placement) -> bool:
        """Also False where llama.cpp cannot even try, as when a GPU has no memory left for the dry run itself."""
        try:
            return not judge(self.plan(placement), self._budget).is_refused
        except BadModelFile:
            raise
        except PlaygroundError:
            return False

    def fits_whole_with(self, plan: MemoryPlan, weights: int) -> bool:
        """Whether another level with so many bytes of weights would fit where `plan` has all layers on GPUs."""
        return not judge(plan.with_weights(weights), self._budget).is_refused

    def fewest_experts_in_ram(self, layers: int) -> int | None:
        """The fewest layers whose experts have to be in RAM so that the rest fits; None if not even all suffice."""
        if not self.fits(self.placement(ALL_LAYERS, layers)):
            return None
        failed, passed = 0, layers
        while passed - failed > 1:
            middle = (passed + failed) // 2
            if self.fits(self.placement(ALL_LAYERS, middle)):
                passed = middle
            else:
                failed = middle
        return passed

    def most_layers(self, layers: int, experts_in_ram: int = 0) -> int:
        """The most layers that fit, 0 if not even one does; not all of them, which was asked before.

        Starts where they would end if all took the same, since each question opens the model again.
        """
        passed, failed = 0, layers
        guess, step = self._likely_layers(layers, experts_in_ram), 1
        while failed - passed > 1:
            asked = guess if passed < guess < failed else (passed + failed) // 2
            if self.fits(self.placement(asked, experts_in_ram)):
                passed, guess = asked, asked + step
            else:
                failed, guess = asked, asked - step
            step *= 2
        return passed

    def _likely_layers(self, layers: int, experts_in_ram: int) -> int:
        try:
            needed = sum(map(self.plan(self.placement(ALL_LAYERS, experts_in_ram)).on_device, self._names))
        except PlaygroundError:
            return 0
        free = sum(gpu.usable for gpu in self._budget.devices if gpu.name in self._names)
        return layers * free // needed if needed else 0


def choose_placement(
    choice: DeviceChoice,
    budget: Budget,
    count: LayerCount,
    plan_at: Callable[[Placement], MemoryPlan],
    levels: Mapping[str, int] = MappingProxyType({}),
) -> PlacedRun:
    """Where the model runs, for a choice on this computer.

    plan_at: asks the dry run. levels: other levels of the model, with the bytes of their weights; the reason names the
    largest one that would be on the GPU whole. Raises PlaygroundError when the chosen device is not there, and as
    `plan_at` does.
    """
    if choice.is_cpu:
        return PlacedRun(CPU_ONLY, "On the CPU, as chosen." if budget.devices else "")
    gpus = _chosen_gpus(choice, budget)
    if not gpus:
        return PlacedRun(CPU_ONLY, "")
    search = _Search(plan_at, gpus, budget)
    experts = min(choice.experts_in_ram, count.layers - 1) if choice.experts_in_ram and count.has_experts else 0
    if choice.gpu_layers is not None:
        wanted = ALL_LAYERS if choice.gpu_layers >= count.layers else choice.gpu_layers
        placement = search.placement(wanted, experts)
        return PlacedRun(placement, f"{describe_placement(placement, count.layers)}, as chosen.")
    if experts and search.fits(placement := search.placement(ALL_LAYERS, experts)):
        return PlacedRun(placement, f"{describe_placement(placement, count.layers)}, as chosen.")
    may_move_experts = count.has_experts and choice.experts_in_ram is None
    return _automatic(search, gpus, replace(count, has_experts=may_move_experts), levels, experts)


def _automatic(
    search: _Search, gpus: tuple[DeviceBudget, ...], count: LayerCount, levels: Mapping[str, int], experts_in_ram: int
) -> PlacedRun:
    """experts_in_ram: of so many layers the experts are in RAM in any case, by choice."""
    whole = search.placement(ALL_LAYERS, experts_in_ram)
    if search.fits(whole):
        return PlacedRun(whole, f"{describe_placement(whole, count.layers)}.")
    placement = CPU_ONLY
    if count.has_experts and (experts := search.fewest_experts_in_ram(count.layers - 1)) is not None:
        placement = search.placement(ALL_LAYERS, experts)
    elif layers := search.most_layers(count.layers, experts_in_ram):
        placement = search.placement(layers, experts_in_ram)
    why = _why_not_whole(search, whole, gpus, levels)
    return PlacedRun(placement, f"{describe_placement(placement, count.layers)}: {why}.")


def _why_not_whole(search: _Search, whole: Placement, gpus: tuple[DeviceBudget, ...], levels: Mapping[str, int]) -> str:
    free = sum(gpu.usable for gpu in gpus)
    try:
        plan = search.plan(whole)
    except PlaygroundError:
        return f"{gigabytes(free)} of GPU memory are free, too little for a dry run"
    needed_text, free_text = gigabytes_apart(sum(plan.on_device(gpu.name) for gpu in gpus), free)
    why = f"all would need {needed_text} of GPU memory, and {free_text} are free"
    by_size = sorted(levels.items(), key=lambda level: level[1], reverse=True)
    smaller = next((name for name, weights in by_size if search.fits_whole_with(plan, weights)), None)
    return f"{why}; level {smaller} would fit whole" if smaller else why


def describe_placement(placement: Placement, layers: int) -> str:
    """`All 31 layers on the GPU`, `27 of 48 layers on the GPU`, `No layer on the GPU`; layers: with the output."""
    where = "the GPU" if len(placement.devices) == 1 else f"{len(placement.devices)} GPUs"
    if placement.is_cpu_only:
        return "No layer on the GPU"
    if 0 <= placement.gpu_layers < layers:
        of_these = max(0, placement.experts_in_ram - (layers - placement.gpu_layers))
        without = f", but the experts of {of_these} of them in RAM" if of_these else ""
        return f"{placement.gpu_layers} of {layers} layers on {where}{without}"
    if placement.experts_in_ram:
        return f"All {layers} layers on {where}, but the experts of {placement.experts_in_ram} of them in RAM"
    return f"All {layers} layers on {where}"


def _chosen_gpus(choice: DeviceChoice, budget: Budget) -> tuple[DeviceBudget, ...]:
    if choice.device.lower() == AUTOMATIC:
        return budget.devices
    found = tuple(device for device in budget.devices if device.name.lower() == choice.device.lower())
    if not found:
        names = ", ".join(["auto", "cpu", *(device.name for device in budget.devices)])
        raise PlaygroundError(f"There is no device {choice.device} here.", f"Choose one of: {names}.")
    return found
