"""What the model picker has to say about a choice: levels with their verdicts, context steps, and the plan.

Asks the library what is here and the planner what it needs; draws nothing. A view comes in stages, the quick facts
first, so that the page answers at once and fills in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from playground.app.makeable_levels import (
    NO_WORDS,
    MakeableLevels,
    QuantizationUpdate,
    offer_row,
    plan_if_made,
    quantization_updates,
)
from playground.app.model_choice import ContextStep, LevelRow, ModelChoice
from playground.app.records import USUAL_CONTEXT
from playground.app.servers import Servers, memory_words, server_row
from playground.engine.remote.protocol import RemoteModel
from playground.errors import ModelNotFound, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.fit.verdict import Verdict, context_steps, judge, largest_context_that_fits
from playground.gguf.levels import DEFAULT_LEVELS, find_level
from playground.limits.runs import Runs, Visitor
from playground.llama.params import ContextParameters
from playground.models.library import Library, ModelFile
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress, QuantizedSize, level_note


@dataclass(frozen=True)
class PickerView:
    """All that the picker shows. `problem` is a sentence in place of the plan.

    offers: levels that can be made here from the level `made_from`; `to_make` is the chosen one among them.
    """

    choice: ModelChoice
    models: tuple[tuple[str, str], ...]  # (what people read, base name)
    model_name: str = ""
    levels: tuple[LevelRow, ...] = ()
    level_name: str = ""
    steps: tuple[ContextStep, ...] = ()
    usable: int = 0
    plan: MemoryPlan | None = None
    verdict: Verdict | None = None
    problem: str = ""
    offers: tuple[LevelRow, ...] = ()
    made_from: str = ""
    to_make: QuantizedSize | None = None


@dataclass(frozen=True)
class _Candidate:
    """A level as llama.cpp can be asked about it: a file, or what could be made from that file."""

    file: ModelFile
    if_made: QuantizedSize | None = None


class ModelPickerService:
    """Answers pickers from what is on this disk, in this computer and on its servers. Safe to share between visitors.

    usable_for: the bytes that a load of this file could use, as the pool will judge it.
    maker: makes levels that are not here yet; None where that is not allowed.
    visits: the ledger in which a making counts as its visitor's.
    """

    def __init__(
        self,
        library: Library,
        planner: Planner,
        usable_for: Callable[[Path], int],
        slots: int,
        quantization_jobs: QuantizationJobs | None = None,
        runs: Runs | None = None,
        servers: Servers | None = None,
    ) -> None:
        self._library = library
        self._planner = planner
        self._usable_for = usable_for
        self._slots = slots
        self._runs = runs or Runs()
        self._offers = MakeableLevels(quantization_jobs, self._runs)
        self.servers = servers or Servers()

    @property
    def runs(self) -> Runs:
        return self._runs

    def model_names(self, *, wait: bool = False) -> list[tuple[str, str]]:
        """(name to read, value) of every model here and on servers; wait: a moment for servers never asked before."""
        return [*_names(self._library.models()), *self.servers.names(wait=wait)]

    def file(self, choice: ModelChoice) -> ModelFile:
        """The file that a choice means; raises ModelNotFound for anything that is not on offer."""
        models = self._library.models()
        files = _by_value(models.get(choice.model or "", ()))
        if choice.level not in files:
            raise ModelNotFound("That model is no longer on this computer.", "Choose another one from the list.")
        return files[choice.level or ""]

    def find(self, path: Path) -> tuple[ModelChoice, str] | None:
        """The choice that means this file, and its title for people; None for a file that is not on offer."""
        for base_name, files in self._library.models().items():
            for value, file in _by_value(files).items():
                if file.path.absolute() == path:
                    return ModelChoice(base_name, value), f"{file.display_name} · {value}"
        return None

    def ready(
        self, choice: ModelChoice, stopped: Callable[[], bool], visitor: Visitor | None = None
    ) -> Generator[QuantizationProgress, None, ModelFile | RemoteModel | None]:
        """The model that a choice means, made first where it is a file that can only be made here; yields progress.

        None when `stopped` says so. Raises as `file` and the maker do, and RequestRefused where the visitor has too
        much under way.
        """
        base_name, level = choice.model or "", choice.level or ""
        if base_name not in self._library.models() and self.servers.means(base_name):
            return self.servers.model(base_name)
        try:
            return self.file(choice)
        except ModelNotFound:
            if base_name not in self._library.models() or level not in self._offers.of(base_name):
                raise
        made = yield from self._offers.make(base_name, level, stopped, visitor)
        return self.file(choice) if made else None

    def make_level(
        self, choice: ModelChoice, stopped: Callable[[], bool] = lambda: False, visitor: Visitor | None = None
    ) -> Iterator[QuantizationUpdate]:
        """Make the chosen level, with progress; the last message says whether it was stopped or cannot be made."""
        yield from quantization_updates(choice.level, self.ready(choice, stopped, visitor), visitor)

    def context(self, choice: ModelChoice) -> ContextParameters:
        return ContextParameters(choice.context_size or USUAL_CONTEXT, choice.kv_type, self._slots)

    def views(self, choice: ModelChoice) -> Iterator[PickerView]:
        """The view of a choice, first without and then with what has to be asked of llama.cpp."""
        view = PickerView(choice, ())
        for view in self._views(choice):
            yield view
        names = tuple(self.model_names(wait=True))  # what servers offer may have come to be known meanwhile
        if names != view.models:
            yield replace(view, models=names)

    def _views(self, choice: ModelChoice) -> Iterator[PickerView]:
        models = self._library.models()
        if choice.model not in models:
            value = choice.model if self.servers.means(choice.model) else None if models else self.servers.first()
            if value is not None:
                yield self._view_of_server(choice, value)
                return
        names = tuple(self.model_names())
        if not models:
            yield PickerView(
                choice, names, problem="No model is on this computer yet: the tab Models finds and downloads one."
            )
            return
        base_name = choice.model if choice.model in models else next(iter(models))
        files = _by_value(models[base_name])
        asked_for_more = choice.level is not None and choice.level not in files
        offers = self._offers.of(base_name) if asked_for_more else self._offers.known(base_name)
        candidates = self._candidates(base_name, files, offers)
        value = choice.level if choice.level in candidates else _first_guess(files)
        view = self._with_rows(
            PickerView(replace(choice, model=base_name, level=value), names, _readable(names)[base_name]),
            candidates,
        )
        yield view
        try:
            yield from self._planned(view, files, choice.level in candidates)
        except PlaygroundError as error:
            yield replace(view, problem=str(error))

    def _view_of_server(self, choice: ModelChoice, value: str) -> PickerView:
        names = tuple(self.model_names(wait=True))
        view = PickerView(
            replace(choice, model=value, level=None, context_size=None), names, _readable(names).get(value, value)
        )
        try:
            model = self.servers.model(value)
        except PlaygroundError as error:
            return replace(view, problem=str(error))
        row = server_row(model)
        return replace(
            view,
            choice=replace(view.choice, level=row.value),
            model_name=model.display_name,
            levels=(row,),
            level_name=row.name,
            problem=memory_words(model),
        )

    def _planned(self, view: PickerView, files: dict[str, ModelFile], level_is_chosen: bool) -> Iterator[PickerView]:
        base_name, value = view.choice.model or "", view.choice.level or ""
        candidates = self._candidates(base_name, files, self._offers.known(base_name))
        if value in candidates:
            view = self._with_plan(view, candidates)
            yield view
            candidates = self._candidates(base_name, files, self._offers.of(base_name))
        if value not in candidates:  # it was on offer, and somebody has made it meanwhile
            yield from self._views(view.choice)
            return
        view = self._with_verdicts(self._with_rows(view, candidates), candidates)
        recommended = _recommended(view.levels, files) if len(files) > 1 else None
        view = replace(view, levels=tuple(replace(row, recommended=row.value == recommended) for row in view.levels))
        if recommended and not level_is_chosen and recommended != view.choice.level:
            view = replace(view, choice=replace(view.choice, level=recommended), level_name=recommended)
            view = self._with_plan(view, candidates)
        yield view
        yield self._with_steps(view, candidates)

    def _candidates(
        self, base_name: str, files: Mapping[str, ModelFile], offers: Mapping[str, QuantizedSize]
    ) -> dict[str, _Candidate]:
        """What can be chosen, by the value of its row: the files, then what can be made."""
        here = {value: _Candidate(file) for value, file in files.items()}
        source = self._offers.source(base_name)
        more = {value: _Candidate(source, size) for value, size in offers.items()} if source else {}
        return {**more, **here}

    def _with_rows(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        """The rows of all candidates, as yet without verdicts, and what the chosen one is."""
        value = view.choice.level or ""
        chosen = candidates[value]
        rows = {value: self._row(value, one.file) for value, one in candidates.items() if not one.if_made}
        offers = [one for one in candidates.values() if one.if_made]
        return replace(
            view,
            levels=tuple(rows.values()),
            level_name=rows[value].name if value in rows else value,
            offers=tuple(offer_row(one.if_made) for one in offers if one.if_made),
            made_from=offers[0].file.level if offers else "",
            to_make=chosen.if_made,
            usable=self._usable_for(self._library.path_for_level(view.choice.model or "", value))
            if chosen.if_made
            else self._usable_for(chosen.file.path),
        )

    def _row(self, value: str, file: ModelFile) -> LevelRow:
        level = find_level(file.level)
        header = self._library.whole_header(file)
        note = level_note(file.level, file.requantized_from, header.bits_per_weight)
        summary = level.summary if level else NO_WORDS
        notes = (note,) if note else ()
        return LevelRow(value, file.level, file.size, header.bits_per_weight, summary, None, notes=notes)

    def _plan_at(self, one: _Candidate, choice: ModelChoice, context_size: int) -> MemoryPlan:
        context = ContextParameters(context_size, choice.kv_type, self._slots)
        plan = self._planner.plan(one.file.path, context)
        return plan_if_made(plan, one.file, one.if_made) if one.if_made else plan

    def _with_plan(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        chosen = candidates[view.choice.level or ""]
        trained = self._planner.trained_context(chosen.file.path)
        size = min(view.choice.context_size or USUAL_CONTEXT, trained)
        plan = self._plan_at(chosen, view.choice, size)
        verdict = judge(plan, view.usable)
        return replace(
            view,
            choice=replace(view.choice, context_size=size),
            steps=tuple(ContextStep(tokens, None) for tokens in _steps(trained, size, None)),
            levels=_judged(view.levels, view.choice.level, verdict),
            offers=_judged(view.offers, view.choice.level, verdict),
            plan=plan,
            verdict=verdict,
        )

    def _with_verdicts(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        size = view.choice.context_size or USUAL_CONTEXT

        def judged(row: LevelRow) -> LevelRow:
            try:
                return replace(row, verdict=judge(self._plan_at(candidates[row.value], view.choice, size), view.usable))
            except PlaygroundError as error:
                return replace(row, notes=(*row.notes, str(error)))

        return replace(view, levels=tuple(map(judged, view.levels)), offers=tuple(map(judged, view.offers)))

    def _with_steps(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        chosen, choice = candidates[view.choice.level or ""], view.choice
        trained = self._planner.trained_context(chosen.file.path)
        largest = largest_context_that_fits(lambda size: self._plan_at(chosen, choice, size), trained, view.usable)
        steps = _steps(trained, choice.context_size or USUAL_CONTEXT, largest)
        fitting = largest or 0
        return replace(
            view,
            steps=tuple(ContextStep(size, size <= fitting, size == largest) for size in steps),
            verdict=judge(view.plan, view.usable, largest_context=largest) if view.plan else None,
        )


def _judged(rows: tuple[LevelRow, ...], value: str | None, verdict: Verdict) -> tuple[LevelRow, ...]:
    return tuple(replace(row, verdict=verdict) if row.value == value else row for row in rows)


def _readable(names: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {value: name for name, value in names}


def _names(models: dict[str, list[ModelFile]]) -> list[tuple[str, str]]:
    return [(files[0].display_name, base_name) for base_name, files in models.items()]


def _by_value(files: Sequence[ModelFile]) -> dict[str, ModelFile]:
    """Files by the value of their row: the level, numbered where one model has it twice (two repositories, say)."""
    named: dict[str, ModelFile] = {}
    for file in files:
        same = sum(other.level == file.level for other in named.values())
        named[f"{file.level} ({same + 1})" if same else file.level] = file
    return named


def _first_guess(files: dict[str, ModelFile]) -> str:
    """The level shown until verdicts are known: as shipped, else the usual one, else the smallest."""
    original = [value for value, file in files.items() if file.origin == "starter"]
    usual = [value for level in DEFAULT_LEVELS for value, file in files.items() if file.level == level]
    return (original + usual + list(files))[0]


def _recommended(rows: Sequence[LevelRow], files: dict[str, ModelFile]) -> str | None:
    """The usual level if it fits, else the largest that does; never one made from another level."""
    fitting = [
        row for row in rows if row.verdict and row.verdict.kind == "fits" and not files[row.value].requantized_from
    ]
    usual = [row.value for level in DEFAULT_LEVELS for row in fitting if row.name == level]
    largest = [row.value for row in sorted(fitting, key=lambda row: row.size, reverse=True)]
    return next(iter(usual + largest), None)


def _steps(trained: int, chosen: int, largest: int | None) -> tuple[int, ...]:
    return tuple(sorted({*context_steps(trained), chosen, *([largest] if largest else [])}))
