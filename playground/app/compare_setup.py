"""What a comparison is made with: the choices it opens with, a link's wishes, contexts, and what is said beforehand.

Runs nothing and knows no component. What a browser or an address asks for is looked up, never trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from playground.app.compare_link import SIDES, LinkedSetup, read_query
from playground.app.compare_state import CompareRequest
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.app.services import Services
from playground.chat.compare import Pane, residency
from playground.chat.history import HistoryLimits
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.llama.params import ContextParameters
from playground.models.library import ModelFile
from playground.web.html.compare import beforehand_line

FIRST_LEVELS: Final = ("Q8_0", "Q2_0")  # of the starter: sense beside babble


class CompareSetup:
    """Answers for every visitor, from what is on this disk and in this computer."""

    def __init__(self, services: Services, picker: ModelPickerService, limits: HistoryLimits) -> None:
        self._library = services.library
        self._planner = services.planner
        self._pool = services.pool
        self._picker = picker
        self._limits = limits
        self._may_make = services.settings.allow_quantize

    def first_choices(self) -> tuple[ModelChoice, ModelChoice]:
        """What a newcomer sees: two levels of the starter that show something, or of the first model there is.

        Where no levels are made, those that are here have to do: the largest and the smallest of a model with several.
        """
        models = self._library.models()
        if not models:
            return ModelChoice(), ModelChoice()
        if not self._may_make:
            base_name = max(models, key=lambda name: len(models[name]) > 1)
            return ModelChoice(base_name, models[base_name][-1].level), ModelChoice(
                base_name, models[base_name][0].level
            )
        starters = [name for name, files in models.items() if any(file.origin == "starter" for file in files)]
        base_name = next(iter([*starters, *models]))
        return ModelChoice(base_name, FIRST_LEVELS[0]), ModelChoice(base_name, FIRST_LEVELS[1])

    def linked(self, query: Mapping[str, str]) -> LinkedSetup:
        """The set-up that the page's address asks for; what is not on offer is told in it."""
        if not any(side in query for side in SIDES):
            return LinkedSetup()
        on_offer = {value for _, value in self._picker.model_names(wait=True)}
        named = {query.get(side, "").rpartition(":")[0] for side in SIDES} & on_offer
        offered = {model: self._levels_of(model) for model in named}
        return read_query(query, offered, self._limits)

    def _levels_of(self, model: str) -> frozenset[str]:
        """What can be chosen of a model: what is here and what can be made."""
        views = self._picker.views(ModelChoice(model))
        return frozenset(row.value for view in views for row in (*view.levels, *view.offers))

    def choices_to_open(self, setup: LinkedSetup) -> tuple[ModelChoice, ModelChoice]:
        """What the pickers show when the page opens."""
        first, second = self.first_choices()
        return setup.choices[0] or first, setup.choices[1] or second

    def settled(self, choice: ModelChoice, side: int) -> ModelChoice:
        """The choice with a level and a context where none came: the picker was not filled yet."""
        if choice.model and choice.level:
            return choice
        first = self.first_choices()[side]
        return replace(choice, model=choice.model or first.model, level=choice.level or first.level)

    def beforehand(self, wish: CompareRequest) -> str:
        """Whether both models will stay in memory, and what the mode means for the speeds."""
        if any(self._picker.servers.means(choice.model) for choice in wish.choices):
            return beforehand_line(wish.mode, None, with_server=True)
        to_make = [choice.level for choice in wish.choices if choice.level and not self._is_here(choice)]
        if to_make:
            return beforehand_line(wish.mode, None, tuple(dict.fromkeys(to_make)))
        try:
            files = [self._picker.file(choice) for choice in wish.choices]
            panes = [Pane(file, self.context(file, choice)) for file, choice in zip(files, wish.choices, strict=True)]
            return beforehand_line(wish.mode, residency(self._pool, self._planner, panes))
        except PlaygroundError:
            return beforehand_line(wish.mode, None)

    def context(self, file: ModelFile | RemoteModel, choice: ModelChoice) -> ContextParameters | None:
        """The chosen context, at most what the model was trained for: a browser may ask for anything."""
        if isinstance(file, RemoteModel):
            return None
        context = self._picker.context(choice)
        trained = self._planner.trained_context(file.path)
        return replace(context, context_size=min(context.context_size, trained))

    def _is_here(self, choice: ModelChoice) -> bool:
        try:
            return bool(self._picker.file(choice))
        except PlaygroundError:
            return False
