"""How much memory a load could use beside the models that are there, and what is told where it is too little.

Decides nothing and ends nothing: who gives way is pool.py's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from playground.engine.local.load_queue import QueuedLoad
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.planner import Planner
from playground.fit.verdict import Verdict, largest_context_that_fits
from playground.llama.params import ContextParameters
from playground.machine.memory import read_process_memory
from playground.text_format import gibibytes_apart


class MemoryReservation:
    """usable_bytes: the memory this computer can give now."""

    def __init__(self, planner: Planner, usable_bytes: Callable[[], int]) -> None:
        self._planner, self._usable_bytes = planner, usable_bytes

    def beside(
        self, path: Path, models: Sequence[QueuedLoad], *, idle_gives_way: bool = True, all_give_way: bool = False
    ) -> int:
        """Bytes that a load of this file could use beside these loaded models.

        Mapped weights of models in use look free to the system, but taking them would make those models crawl; weights
        of the same file are shared. all_give_way: what it could use if those in use were done, too.
        """
        usable = self._usable_bytes()
        counted: set[Path] = {path}
        for entry in models:
            assert entry.plan
            if all_give_way or (entry.users == 0 and idle_gives_way):
                usable += _anonymous_bytes(entry)
            elif entry.key.path not in counted:
                usable -= entry.plan.weights
                counted.add(entry.key.path)
        return max(0, usable)

    def too_little(self, entry: QueuedLoad, verdict: Verdict, usable: int, why: str = "") -> DoesNotFit:
        """The verdict as an error, and what would fit into so much as can be used now."""
        path, context = entry.key.path, entry.key.context
        largest = largest_context_that_fits(
            lambda size: self._planner.plan(path, ContextParameters(size, context.kv_type, context.slots)),
            self._planner.trained_context(path),
            usable,
        )
        return DoesNotFit(
            f"{path.name} at {context.context_size:,} tokens: {verdict.reason} {why}".strip(),
            f"A context of {largest:,} tokens fits."
            if largest
            else "Choose a smaller level or a smaller model, or close other programs.",
        )

    def for_scoring(self, path: Path, context: ContextParameters) -> int:
        """Bytes that a loaded model's temporary context needs beside its own."""
        plan = self._planner.plan(path, context)
        return plan.kv_cache + plan.recurrent + plan.compute + plan.output


def too_little_for_scoring(path: Path, context: ContextParameters, needed: int, usable: int) -> DoesNotFit:
    wanted, can_be_used = gibibytes_apart(needed, usable)
    return DoesNotFit(
        f"To score {context.context_size:,} tokens, {path.name} needs {wanted} more for a while; {can_be_used} can be "
        "used.",
        "Score a shorter text, or close other programs.",
    )


def given_back(entry: QueuedLoad, path: Path) -> int:
    """Bytes that the end of this model gives to a load of the file at `path`, whose weights stay."""
    weights = entry.plan.weights if entry.plan and entry.key.path != path else 0
    return _anonymous_bytes(entry) + weights


def _anonymous_bytes(entry: QueuedLoad) -> int:
    try:
        return read_process_memory(entry.engine.pid).anonymous if entry.engine else 0
    except (OSError, PlaygroundError):
        return 0
