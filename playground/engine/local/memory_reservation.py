"""How much memory a load can use beside the models in the pool, and what to say if it is too little.

pool.py decides which models are unloaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from playground.engine.local.load_queue import PooledModel
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.budget import USUAL_MARGIN, Budget, GpuMargin
from playground.fit.planner import Planner
from playground.fit.verdict import Verdict, largest_context_that_fits
from playground.llama.devices import Devices
from playground.llama.params import ContextParameters
from playground.machine.memory import read_process_memory


class MemoryReservation:
    """usable_bytes: how much memory this computer can give now. devices: its GPUs, with their free memory now.

    gpu_margin: what Automatic leaves free of a GPU's memory.
    """

    def __init__(
        self,
        planner: Planner,
        usable_bytes: Callable[[], int],
        devices: Callable[[], Devices] = lambda: Devices(()),
        gpu_margin: GpuMargin = USUAL_MARGIN,
    ) -> None:
        self._planner, self._usable_bytes, self._devices = planner, usable_bytes, devices
        self._gpu_margin = gpu_margin

    def usable_beside(
        self, path: Path, models: Sequence[PooledModel], *, idle_gives_way: bool = True, all_give_way: bool = False
    ) -> int:
        """Bytes that a load of the file at `path` can use beside these loaded models.

        idle_gives_way: idle models may be unloaded. all_give_way: models in use, too, once they are idle.

        The mapped weights of models in use look free to the system, but taking them would make those models crawl, so
        they are subtracted. Weights of the same file are shared. What a load that stands still has yet to take is
        subtracted, too.
        """
        usable = self._usable_bytes()
        counted: set[Path] = {path}
        for model in models:
            assert model.plan
            if all_give_way or (model.users == 0 and idle_gives_way):
                usable += _anonymous_bytes(model)
                continue
            if model.stands_still:
                usable -= max(0, model.plan.must_stay - _anonymous_bytes(model))
            if model.key.path not in counted:
                usable -= model.plan.read_weights
                counted.add(model.key.path)
        return max(0, usable)

    def budget_beside(
        self, path: Path, models: Sequence[PooledModel], *, idle_gives_way: bool = True, all_give_way: bool = False
    ) -> Budget:
        """As `usable_beside`, with the memory of each GPU, of which models that give way give back their parts."""
        usable = self.usable_beside(path, models, idle_gives_way=idle_gives_way, all_give_way=all_give_way)
        leaving = [model for model in models if all_give_way or (model.users == 0 and idle_gives_way)]
        parts = [part for model in leaving if model.plan for part in model.plan.on_devices]
        budget = Budget.of(usable, self._devices(), self._gpu_margin)
        return budget.with_freed((part.device, part.bytes) for part in parts)

    def too_little(
        self, path: Path, context: ContextParameters, verdict: Verdict, budget: Budget, why: str = ""
    ) -> DoesNotFit:
        """The verdict as an error, with the largest context that fits into the budget."""
        largest = largest_context_that_fits(
            lambda size: self._planner.place(path, dataclasses.replace(context, context_size=size), budget).plan,
            self._planner.trained_context(path),
            budget,
        )
        return DoesNotFit(
            f"{path.name} at {context.context_size:,} tokens: {verdict.reason} {why}".strip(),
            f"A context of {largest:,} tokens fits."
            if largest
            else "Choose a smaller level or a smaller model, or close other programs.",
        )


def too_little_for_scoring(path: Path, context: ContextParameters, verdict: Verdict) -> DoesNotFit:
    return DoesNotFit(
        f"To score {context.context_size:,} tokens, {path.name} needs more memory for a short time: {verdict.reason}",
        "Score a shorter text, or close other programs.",
    )


def budget_without(budget: Budget, model: PooledModel, path: Path) -> Budget:
    """The budget without what a load of the file at `path` gains if this model is unloaded.

    Mapped weights of the same file stay.
    """
    weights = model.plan.read_weights if model.plan and model.key.path != path else 0
    on_devices = model.plan.on_devices if model.plan else ()
    rest = budget.with_freed((part.device, -part.bytes) for part in on_devices)
    return dataclasses.replace(rest, usable=budget.usable - _anonymous_bytes(model) - weights)


def _anonymous_bytes(model: PooledModel) -> int:
    try:
        return read_process_memory(model.engine.pid).anonymous if model.engine else 0
    except (OSError, PlaygroundError):
        return 0
