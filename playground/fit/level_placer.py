"""Plans the levels of one model where a computer would run them: on its GPU, in its RAM, or on both.

Every level has the same layers, so llama.cpp's dry run is asked once for each number of layers and each context; what
the weights of a level take in each memory follows from the table of tensors. Where llama.cpp cannot plan for a GPU that
is not here, the parts of the plan for the CPU are moved in proportion, which is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from playground.errors import BadModelFile, PlaygroundError
from playground.fit.budget import Budget
from playground.fit.offload import LayerCount, PlacedRun, choose_placement
from playground.fit.plan import MemoryPlan, Part
from playground.fit.planner import PlacedPlan, PlannableModel, Planner
from playground.fit.table import LevelSize
from playground.fit.weight_layout import WeightLayout
from playground.gguf.tensors import TensorInfo
from playground.llama.made_up_devices import is_made_up
from playground.llama.params import (
    ALL_LAYERS,
    AUTOMATIC_CHOICE,
    CONTEXT_STEP,
    CPU_ONLY,
    ContextParameters,
    Placement,
)


class LevelPlacer:
    """tensors: of the model's levels that are known by their own file, by name; "" for any other level.

    is_estimate: whether parts are moved in proportion. Raises as `Planner.plan` does, in every method.
    """

    def __init__(
        self,
        planner: Planner,
        model: PlannableModel,
        tensors: Mapping[str, Sequence[TensorInfo]],
        sizes: Sequence[LevelSize],
        budget: Budget,
    ) -> None:
        self._planner, self._model, self._budget = planner, model, budget
        self._count: LayerCount = planner.layer_count(model)
        self._layouts = {level: WeightLayout.of(table, self._count.layers) for level, table in tensors.items()}
        self._levels = {size.level: size.weight_bytes for size in sizes}
        self._placed: dict[tuple[ContextParameters, str], PlacedPlan] = {}
        self.is_estimate = not self._can_plan()

    def place(self, context: ContextParameters, size: LevelSize) -> PlacedPlan:
        """Where Automatic would run this level with this context, and its memory there; worked out once."""
        if (context, size.level) not in self._placed:
            self._placed[context, size.level] = self._place(context, size)
        return self._placed[context, size.level]

    def _place(self, context: ContextParameters, size: LevelSize) -> PlacedPlan:
        def plan_at(placement: Placement) -> MemoryPlan:
            return self._with_weights(self._plan_at(context, placement), size)

        run: PlacedRun = choose_placement(AUTOMATIC_CHOICE, self._budget, self._count, plan_at, self._levels)
        return PlacedPlan(plan_at(run.placement), run.reason)

    def _can_plan(self) -> bool:
        """Whether llama.cpp's dry run knows these GPUs."""
        names = tuple(device.name for device in self._budget.devices)
        if not any(map(is_made_up, names)):
            return True
        whole = Placement(names, ALL_LAYERS, split=(1,) * len(names) if len(names) > 1 else ())
        try:
            self._planner.plan(self._model, ContextParameters(CONTEXT_STEP, slots=1, placement=whole))
        except BadModelFile:
            raise
        except PlaygroundError:
            return False
        return True

    def _plan_at(self, context: ContextParameters, placement: Placement) -> MemoryPlan:
        if self.is_estimate:
            on_cpu = self._planner.plan(self._model, replace(context, placement=CPU_ONLY))
            return move_layers(on_cpu, placement, self._count.layers)
        return self._planner.plan(self._model, replace(context, placement=placement))

    def _with_weights(self, plan: MemoryPlan, size: LevelSize) -> MemoryPlan:
        if plan.context.placement.is_cpu_only:
            return plan.with_weights(size.weight_bytes, held=size.held)
        layout = self._layouts.get(size.level) or self._layouts.get("")
        if layout is None:
            return plan.with_weights(size.weight_bytes, held=size.held)
        return layout.of_level(size.weight_bytes).plan_with_weights(plan)


def move_layers(on_cpu: MemoryPlan, placement: Placement, layers: int) -> MemoryPlan:
    """An estimate of the plan with this placement, from the one for the CPU: every layer takes the same.

    layers: of the model, with the output, which keeps nothing of the text. Each GPU computes in buffers of its own.
    """
    parts: list[Part] = []
    on_gpus = sum(placement.layers_of(name, layers) for name in placement.devices)
    for number, name in enumerate(placement.devices, 1):
        has_output = number == len(placement.devices) and on_gpus > 0
        share = (placement.layers_of(name, layers) - has_output) / max(1, layers - 1)
        parts += [
            Part("weights", name, round(on_cpu.weights * placement.layers_of(name, layers) / layers)),
            Part("kv_cache", name, round(on_cpu.kv_cache * share)),
            Part("recurrent", name, round(on_cpu.recurrent * share)),
            Part("compute", name, on_cpu.compute),
        ]
    moved = {
        kind: sum(part.bytes for part in parts if part.kind == kind) for kind in ("weights", "kv_cache", "recurrent")
    }
    return replace(
        on_cpu,
        context=replace(on_cpu.context, placement=placement),
        weights=on_cpu.weights - moved["weights"],
        kv_cache=on_cpu.kv_cache - moved["kv_cache"],
        recurrent=on_cpu.recurrent - moved["recurrent"],
        repacked=0,
        on_devices=tuple(part for part in parts if part.bytes),
    )
