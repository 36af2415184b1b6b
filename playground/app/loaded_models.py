"""What a visitor is told of the models in memory: which there are, how to join one, what a swap takes, why one waits.

Joins the pool, the planner and the picker; draws nothing. Whoever joins sends a text that is looked up like any choice.
"""

from __future__ import annotations

from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.engine.local.pool import LoadedModel, ModelPool, Waiting
from playground.errors import PlaygroundError
from playground.fit.planner import Planner
from playground.fit.verdict import judge
from playground.web.html.loaded_models import LoadedModelRow, Swap, SwapRoom, resident_card, waiting_words

_BETWEEN = "\n"  # in no name of a model and no level


class LoadedModels:
    """Serves every visitor; asks the pool anew each time."""

    def __init__(self, pool: ModelPool, planner: Planner, picker: ModelPickerService) -> None:
        self._pool, self._planner, self._picker = pool, planner, picker

    def card(self, choice: ModelChoice) -> str:
        """The models in memory for somebody who has this choice in the picker; "" while there are none."""
        loaded_models = [model for model in self._pool.resident() if model.state != "waiting"]
        rows = [self._row(model, choice) for model in loaded_models]
        return resident_card(rows, None if any(row.is_mine for row in rows) else self._swap(choice))

    def joining(self, value: str) -> ModelChoice:
        """The choice that a row's button means; of anything else a choice that is on no offer."""
        parts = value.split(_BETWEEN)
        return ModelChoice.read(*parts) if len(parts) == 4 else ModelChoice()

    def waiting(self, waiting: Waiting | None) -> str:
        """Why a load has not begun, in words; "" where it has."""
        if waiting is None:
            return ""
        return waiting_words(waiting.place, [self._row(model, ModelChoice()) for model in waiting.for_models])

    def _row(self, model: LoadedModel, mine: ModelChoice) -> LoadedModelRow:
        context = model.key.context
        found = self._picker.find(model.key.path)
        if found is None:
            return LoadedModelRow(model.key.path.stem, context.context_size, model.users, model.state == "loading")
        choice, title = found
        is_mine = (choice.model, choice.level) == (mine.model, mine.level) and context == self._picker.context(mine)
        value = _BETWEEN.join((choice.model or "", choice.level or "", str(context.context_size), context.kv_type))
        can_join = context == self._picker.context(self.joining(value))  # another number of slots is another model
        return LoadedModelRow(
            title, context.context_size, model.users, model.state == "loading", value if can_join else "", is_mine
        )

    def _swap(self, choice: ModelChoice) -> Swap | None:
        """What loading the choice would mean; None where it is no file yet, or cannot be planned."""
        try:
            path = self._picker.file(choice).path
            plan = self._planner.plan(path, self._picker.context(choice))
        except PlaygroundError:
            return None
        usable: tuple[tuple[SwapRoom, int], ...] = (
            ("beside", self._pool.usable_for(path, idle_gives_way=False)),
            ("idle gives way", self._pool.usable_for(path)),
            ("waits for others", self._pool.usable_for(path, all_give_way=True)),
        )
        room: SwapRoom = next((name for name, most in usable if judge(plan, most).kind != "wont_fit"), "never")
        return Swap(room, self._pool.load_time(path, plan.weights))
