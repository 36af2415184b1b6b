"""The set-up of a comparison before it runs: the first choices, contexts, and what to expect.

A browser may ask for anything, so every model and level is looked up among those on offer, never used as a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from playground.app.compare.comparison import POSITIONS, CompareRequest, Comparison
from playground.app.compare.dial import DialService, opening_pair
from playground.app.compare.link import SIDES, LinkedSetup, read_link_query
from playground.app.compare.result import NotCompared, ResultFacts
from playground.app.compare.updates import CompareOutlook, checks_of
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.makeable_levels import plan_if_made
from playground.app.model_picker.service import ModelPickerService
from playground.app.records import USUAL_CONTEXT
from playground.app.services import Services
from playground.chat.compare import residency
from playground.chat.comparison import LEAST_TOKENS, ComparisonRow, Pane, PaneResult, comparison_table
from playground.chat.first_difference import first_difference
from playground.chat.history import HistoryLimits
from playground.engine.remote.protocol import RemoteModel
from playground.errors import ModelNotFound, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.measure.fidelity import Fidelity
from playground.models.model_file import ModelFile

_COMFORTABLE: Final = 0.4  # of the usable memory, for the smallest file of a model: two levels are loaded


class CompareSetup:
    """Serves all visitors, from the models on this disk and this computer's memory."""

    def __init__(
        self, services: Services, picker: ModelPickerService, limits: HistoryLimits, dials: DialService
    ) -> None:
        self._library = services.library
        self._planner = services.planner
        self._pool = services.pool
        self._picker = picker
        self._limits = limits
        self._dials = dials
        self._jobs = services.quantization_jobs if services.settings.allow_quantize else None

    def first_choices(self, model: str | None = None) -> tuple[ModelChoice, ModelChoice]:
        """The choices of a new page, or of a model that was just chosen: two of its levels, one of them of four bits.

        Without a model: the largest that is comfortable here and has two levels on the dial, else the starter.
        """
        base_name = model if model in self._library.models() else self.first_model()
        if base_name is None:
            return ModelChoice(), ModelChoice()
        first, second = opening_pair(self._dials.dial_of(base_name))
        return ModelChoice(base_name, first), ModelChoice(base_name, second)

    def first_model(self) -> str | None:
        """The model with which a new page opens; None where there is none."""
        models = self._library.models()
        starters = [name for name, files in models.items() if any(file.origin == "starter" for file in files)]
        usable = self._pool.budget_for(next(iter(models.values()))[0].path).usable if models else 0
        comfortable = [
            name
            for name, files in models.items()
            if name not in starters and min(file.size for file in files) < _COMFORTABLE * usable
        ]
        if self._jobs is None:  # only what is on the disk can be compared
            several = [name for name in models if len(models[name]) > 1]
            comfortable = [name for name in comfortable if name in several] + several
        largest = sorted(comfortable, key=lambda name: -max(file.size for file in models[name]))
        return next(iter([*largest, *starters, *models]), None)

    def is_starter(self, model: str | None) -> bool:
        """Whether it is the tiny model that comes with the playground, for which most questions are too hard."""
        return any(file.origin == "starter" for file in self._library.models().get(model or "", ()))

    def read_link(self, query: Mapping[str, str]) -> LinkedSetup:
        """The set-up that the page's address asks for, with a problem for each model that is not on offer."""
        if not any(side in query for side in SIDES):
            return LinkedSetup()
        on_offer = {value for _, value in self._picker.model_names(wait=True)}
        named = {query.get(side, "").rpartition(":")[0] for side in SIDES} & on_offer
        offered = {model: self._levels_of(model) for model in named}
        return read_link_query(query, offered, self._limits)

    def _levels_of(self, model: str) -> frozenset[str]:
        """The levels of a model that are here or can be made."""
        views = self._picker.views(ModelChoice(model))
        return frozenset(row.value for view in views for row in (*view.levels, *view.makeable))

    def choices_to_open(self, setup: LinkedSetup) -> tuple[ModelChoice, ModelChoice]:
        """The choices in both pickers when the page opens."""
        first, second = self.first_choices()
        return setup.choices[0] or first, setup.choices[1] or second

    def _complete_choice(self, choice: ModelChoice, side: int) -> ModelChoice:
        """The choice with a model and a level, in case the browser sent none because the picker was not filled yet."""
        context_size = choice.context_size or USUAL_CONTEXT
        if choice.model and choice.level:
            return replace(choice, context_size=context_size)
        first = self.first_choices(choice.model)[side]
        model, level = choice.model or first.model, choice.level or first.level
        return replace(choice, model=model, level=level, context_size=context_size)

    def complete_request(self, request: CompareRequest) -> CompareRequest:
        """The request with both of its choices complete."""
        left, right = (self._complete_choice(choice, side) for side, choice in enumerate(request.choices))
        return replace(request, choices=(left, right))

    def outlook(self, request: CompareRequest) -> CompareOutlook:
        """What the choices mean for memory and speed, before anything runs."""
        mode = request.mode
        if any(self._picker.servers.has_model(choice.model) for choice in request.choices):
            return CompareOutlook(mode, has_server=True)
        to_make = [choice.level for choice in request.choices if choice.level and not self._is_here(choice)]
        if to_make:
            return CompareOutlook(mode, to_make=tuple(dict.fromkeys(to_make)))
        try:
            files = [self._picker.find_file(choice) for choice in request.choices]
            panes = [Pane(file, self.context(file, c)) for file, c in zip(files, request.choices, strict=True)]
            return CompareOutlook(mode, residency(self._pool, self._planner, panes))
        except PlaygroundError:
            return CompareOutlook(mode)

    def context(self, file: ModelFile | RemoteModel, choice: ModelChoice) -> ContextParameters | None:
        """The chosen context, at most what the model was trained for; None for a server's model."""
        if isinstance(file, RemoteModel):
            return None
        context = self._picker.context_parameters(choice)
        trained = self._planner.trained_context(file.path)
        return replace(context, context_size=min(context.context_size, trained))

    def bits_per_weight(self, file: ModelFile | RemoteModel) -> float | None:
        """Measured, from the file's tensor table; None for a server's model and a file that cannot be read."""
        if isinstance(file, RemoteModel):
            return None
        try:
            return self._library.whole_header(file).bits_per_weight
        except (PlaygroundError, OSError):
            return None

    # --- what the result says ---

    def pair_facts(self, comparison: Comparison, request: CompareRequest) -> ResultFacts:
        """Files and memory of the chosen pair; also of levels that have to be made first."""
        shown = [request.choices[side] for side in comparison.shown_order]
        sizes = [self._size_and_memory(choice) for choice in shown]
        return ResultFacts(
            names=(shown[0].level or "A", shown[1].level or "B"),
            file_bytes=(sizes[0][0], sizes[1][0]),
            memory_bytes=(sizes[0][1], sizes[1][1]),
            context_size=shown[0].context_size or USUAL_CONTEXT,
            can_go_lower=self._can_go_lower(shown[1]),
        )

    def result_facts(self, comparison: Comparison, fidelity: Fidelity | None = None) -> ResultFacts:
        """All that is known of both answers. fidelity: how far B agrees with A's, if it was measured."""
        panes = [comparison.pane_at(position) for position in POSITIONS]
        results, request = comparison.results, comparison.request
        if request is None or comparison.is_hidden:
            return ResultFacts()
        facts = self.pair_facts(comparison, request)
        if results is None:
            return facts
        speed = next(row for row in comparison_table(results, comparison.noise) if row.figure == "generation_speed")
        timings = [result.finished.timings for result in results]
        difference = first_difference(*results)
        checks = [checks_of(comparison, position) for position in POSITIONS]
        texts = [result.conversation.messages[-1].content for result in results]
        planned = [result.plan.needed if result.plan else None for result in results]
        return replace(
            facts,
            names=comparison.names,
            memory_bytes=(planned[0] or facts.memory_bytes[0], planned[1] or facts.memory_bytes[1]),
            context_size=panes[0].context.context_size if panes[0].context else None,
            speeds=(timings[0].generation_speed, timings[1].generation_speed),
            tokens=(timings[0].generated_tokens, timings[1].generated_tokens),
            not_compared=why_not_compared(results, speed),
            noise=comparison.noise.generation_speed,
            noise_is_measured=comparison.noise.is_measured,
            agreement=fidelity.top_token_agreement if fidelity else None,
            kl_divergence=fidelity.kl_divergence if fidelity else None,
            is_same=texts[0] == texts[1],
            checks=len(checks[0]),
            passed=(sum(check.passed for check in checks[0]), sum(check.passed for check in checks[1])),
            common_tokens=difference.common_tokens if difference else None,
        )

    def _size_and_memory(self, choice: ModelChoice) -> tuple[int | None, int | None]:
        """Bytes of the file and of the planned memory; None where they cannot be known now."""
        try:
            file = self._picker.find_file(choice)
            return file.size, self._planned(file, choice).needed
        except ModelNotFound:
            pass
        except PlaygroundError:
            return None, None
        if self._jobs is None or not choice.model:
            return None, None
        try:
            size = self._jobs.makeable_levels(choice.model).get(choice.level or "")
            if size is None:
                return None, None
            source = self._jobs.source_file(choice.model)
            return size.size, plan_if_made(self._planned(source, choice), size).needed
        except PlaygroundError:
            return None, None

    def _planned(self, file: ModelFile, choice: ModelChoice) -> MemoryPlan:
        context = self.context(file, choice)
        assert context is not None  # the file is on this computer
        return self._planner.place(file.path, context, self._pool.budget_for(file.path)).plan

    def _can_go_lower(self, choice: ModelChoice) -> bool:
        return self._dials.dial_of(choice.model).stop_below(choice.level) is not None

    def _is_here(self, choice: ModelChoice) -> bool:
        try:
            return bool(self._picker.find_file(choice))
        except PlaygroundError:
            return False


def why_not_compared(results: Sequence[PaneResult], speed: ComparisonRow) -> NotCompared:
    """Why none of two speeds is called better, "" if one is."""
    if speed.better is not None:
        return ""
    if any(result.mode == "at once" for result in results):
        return "shared"
    if any(speed.disturbed):
        return "busy"
    written = [result.finished.timings.generated_tokens for result in results]
    return "short" if any(tokens is not None and tokens < LEAST_TOKENS for tokens in written) else "noise"
