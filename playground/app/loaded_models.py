"""The models in memory as a visitor sees them: who uses each, what loading another takes, why a load waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from playground.app.messages import Notice
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.engine.local.load_queue import LoadedModel, LoadTime, Waiting
from playground.engine.local.pool import ModelPool
from playground.errors import PlaygroundError
from playground.fit.budget import Budget
from playground.fit.planner import Planner
from playground.fit.verdict import judge
from playground.text_format import replace_surrogates

SwapRoom = Literal["beside", "replaces idle", "waits for others", "never"]

_BETWEEN: Final = "\n"  # in no name of a model and no level


@dataclass(frozen=True)
class LoadedModelRow:
    """A model in memory.

    users: how many are using it now. value: what its button sends, "" where it cannot be chosen. is_selected: the
    visitor's picker has chosen it.
    """

    title: str
    context_size: int
    users: int
    is_loading: bool = False
    value: str = ""
    is_selected: bool = False

    @property
    def state(self) -> str:
        """`loading`, `idle`, or by how many it is used."""
        return "loading" if self.is_loading else users_in_words(self.users)


@dataclass(frozen=True)
class Swap:
    """What loading the selected model would take. time: None where nothing is known about it."""

    room: SwapRoom
    time: LoadTime | None


@dataclass(frozen=True)
class LoadedModelsView:
    """All models in memory. swap: None where the selected model is among them, or cannot be planned."""

    rows: tuple[LoadedModelRow, ...] = ()
    swap: Swap | None = None

    @property
    def has_selected(self) -> bool:
        """Whether the selected model is in memory, ready to answer."""
        return any(row.is_selected and not row.is_loading for row in self.rows)


class LoadedModels:
    """Serves every visitor; reads the pool's state at each call."""

    def __init__(self, pool: ModelPool, planner: Planner, picker: ModelPickerService) -> None:
        self._pool, self._planner, self._picker = pool, planner, picker

    def view(self, choice: ModelChoice) -> LoadedModelsView:
        """The models in memory for somebody who has this choice in the picker."""
        rows = tuple(self._row(model, choice) for model in self._pool.loaded_models() if model.state != "waiting")
        needs_swap = rows and not any(row.is_selected for row in rows)
        return LoadedModelsView(rows, self._swap(choice) if needs_swap else None)

    def unload_selected(self, choice: ModelChoice) -> Notice:
        """Give the memory of the selected model back, unless somebody uses it."""
        for model in self._pool.loaded_models():
            row = self._row(model, choice)
            if not row.is_selected:
                continue
            if self._pool.unload_model(model.key):
                return Notice(f"{row.title} was unloaded. The next message loads it again.", "good")
            return Notice(f"{row.title} is in use, so it stays in memory.")
        return Notice("The selected model is not in memory any more.")

    def read_button(self, value: str) -> ModelChoice:
        """The choice that a row's button sent; of any other text a choice of no model."""
        parts = value.split(_BETWEEN)
        return ModelChoice.read(*parts) if len(parts) == 5 else ModelChoice()

    def waiting_sentence(self, waiting: Waiting | None) -> str:
        """Why a load has not begun yet; "" where it has."""
        if waiting is None:
            return ""
        return waiting_sentence(waiting.position, [self._row(model, ModelChoice()) for model in waiting.for_models])

    def _row(self, model: LoadedModel, selected: ModelChoice) -> LoadedModelRow:
        context = model.key.context
        found = self._picker.find_choice(model.key.path)
        if found is None:
            return LoadedModelRow(
                replace_surrogates(model.key.path.stem), context.context_size, model.users, model.state == "loading"
            )
        choice, title = found
        is_selected = (choice.model, choice.level) == (selected.model, selected.level) and (
            context == self._picker.context_parameters(selected)
        )
        value = _BETWEEN.join(
            (choice.model or "", choice.level or "", str(context.context_size), context.kv_type, context.device.text)
        )
        # With another number of slots than the page's it is another model than the button would choose.
        can_join = context == self._picker.context_parameters(self.read_button(value))
        return LoadedModelRow(
            title, context.context_size, model.users, model.state == "loading", value if can_join else "", is_selected
        )

    def _swap(self, choice: ModelChoice) -> Swap | None:
        """None where the chosen level is not on the disk yet, or cannot be planned."""
        try:
            path = self._picker.find_file(choice).path
            plan = self._planner.place(path, self._picker.context_parameters(choice), self._pool.budget_for(path)).plan
        except PlaygroundError:
            return None
        budgets: tuple[tuple[SwapRoom, Budget], ...] = (
            ("beside", self._pool.budget_for(path, idle_gives_way=False)),
            ("replaces idle", self._pool.budget_for(path)),
            ("waits for others", self._pool.budget_for(path, all_give_way=True)),
        )
        room: SwapRoom = next((name for name, most in budgets if not judge(plan, most).is_refused), "never")
        return Swap(room, self._pool.load_time(path, plan.all_weights))


def waiting_sentence(place: int, in_the_way: Sequence[LoadedModelRow]) -> str:
    """Why a model does not load yet, without a full stop; "" where it is about to.

    place: 1 is the next to load; 0 is one whose model was unloaded for another that had waited too long.
    """
    if not in_the_way:
        return "" if place <= 1 else f"Waiting to load: {_ahead(place)}"
    names = " and ".join(row.title for row in in_the_way)
    if place == 0:
        return f"{names} has waited longer and loads first; then it is your turn again"
    if all(row.is_loading for row in in_the_way):
        return f"Waiting for {names} to load"
    using = " and ".join(f"{row.title} ({users_in_words(row.users)})" for row in in_the_way)
    return f"Waiting for memory used by {using}: {_ahead(place)}. Switch to that model to chat now, or stop"


def users_in_words(number: int) -> str:
    """How many use a model at this moment."""
    if number == 0:
        return "idle"
    return "1 user" if number == 1 else f"{number} users"


def _ahead(place: int) -> str:
    if place <= 1:
        return "you are next"
    return "1 other is ahead of you" if place == 2 else f"{place - 1} others are ahead of you"
