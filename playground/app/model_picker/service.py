"""What the model picker shows for a choice: levels with their verdicts, context sizes, and the memory plan.

A view comes in stages, what is known at once first, so that the page answers quickly and fills in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from playground.app.model_picker.choice import ContextStep, LevelRow, ModelChoice
from playground.app.model_picker.level_notes import notes_of_files
from playground.app.model_picker.makeable_levels import (
    NO_SUMMARY,
    MakeableLevels,
    QuantizationUpdate,
    makeable_level_row,
    quantization_updates,
)
from playground.app.records import USUAL_CONTEXT
from playground.app.servers import Servers, no_memory_sentence, server_row
from playground.chat.saved_chat import ChatSettings
from playground.chat.template.thinking import ThinkingChoice, thinking_choices
from playground.engine.remote.protocol import RemoteModel
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.errors import ModelNotFound, PlaygroundError
from playground.fit.budget import NO_MEMORY, Budget
from playground.fit.plan import MemoryPlan
from playground.fit.planner import PlacedPlan, Planner
from playground.fit.verdict import SMALLEST_CONTEXT, Verdict, context_steps, judge, largest_context_that_fits
from playground.gguf.levels import DEFAULT_LEVELS, find_level
from playground.gguf.weight_use import TokenWork
from playground.limits.runs import Runs, Visitor
from playground.llama.params import AUTOMATIC_CHOICE, ContextParameters, DeviceChoice
from playground.machine.disks import disk_read_speed
from playground.measure.forecast import CPU, READING_SPEED, SpeedForecaster
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress, QuantizedSize
from playground.text_format import count, one_line

FORECAST_SECONDS: Final = 1.5  # that a view waits for the processor's measurement; a later one has it
_MOST_OF_MEMORY: Final = 0.75  # the share that the file of a comfortable model takes; its context comes besides
_LONGEST_NAME: Final = 100  # characters of a name in a sentence
_NO_MODEL: Final = "There is no model on this computer yet. Download one in the Models tab."


@dataclass(frozen=True)
class PickerView:
    """Everything that the picker shows.

    problem: a sentence to show where there is no plan. makeable: levels that can be made here from the level
    `made_from`; to_make: the chosen level, where it has to be made first. budget: what a load could use.
    thinking: what the model can be asked for, empty if its template knows nothing of thoughts.
    where: a sentence that says where it will run and why; "" where there is no GPU. has_experts: whether the model is a
    mixture of experts, None until it is known.
    """

    choice: ModelChoice
    models: tuple[tuple[str, str], ...]  # (name to show, value)
    model_name: str = ""
    levels: tuple[LevelRow, ...] = ()
    level_name: str = ""
    steps: tuple[ContextStep, ...] = ()
    budget: Budget = NO_MEMORY
    where: str = ""
    has_experts: bool | None = None
    plan: MemoryPlan | None = None
    verdict: Verdict | None = None
    problem: str = ""
    makeable: tuple[LevelRow, ...] = ()
    made_from: str = ""
    to_make: QuantizedSize | None = None
    thinking: tuple[ThinkingChoice, ...] = ()

    @property
    def usable(self) -> int:
        """Bytes of the computer's own memory that a load could use."""
        return self.budget.usable


@dataclass(frozen=True)
class _Candidate:
    """What can be planned for a level: a file, or the file it would be made from and its size once made."""

    file: ModelFile
    if_made: QuantizedSize | None = None


class ModelPickerService:
    """Answers pickers from the models on this disk, in memory and on servers. Thread-safe, one for all visitors.

    budget_for: what a load of this file could use, as the pool would judge it.
    quantization_jobs: None where no level may be made here. zerogpu: None but on a ZeroGPU Space.
    forecaster: None for pickers without speeds.
    """

    def __init__(
        self,
        library: Library,
        planner: Planner,
        budget_for: Callable[[Path], Budget],
        slots: int,
        quantization_jobs: QuantizationJobs | None = None,
        runs: Runs | None = None,
        servers: Servers | None = None,
        zerogpu: ZeroGpu | None = None,
        forecaster: SpeedForecaster | None = None,
    ) -> None:
        self._library = library
        self._planner = planner
        self._budget_for = budget_for
        self._slots = slots
        self._runs = runs or Runs()
        self._forecaster = forecaster
        self._makeable_levels = MakeableLevels(quantization_jobs, self._runs)
        self.servers = servers or Servers()
        self.zerogpu = zerogpu

    @property
    def runs(self) -> Runs:
        return self._runs

    def model_names(self, *, wait: bool = False) -> list[tuple[str, str]]:
        """(name to show, value) of every model here and on servers.

        wait: give servers that were never asked before a moment to answer.
        """
        return [*_names(self._library.models()), *self.servers.model_names(wait=wait)]

    def find_file(self, choice: ModelChoice) -> ModelFile:
        """The file of a choice. Raises ModelNotFound for a model or level that is not on this computer."""
        models = self._library.models()
        files = _by_value(models.get(choice.model or "", ()))
        if choice.level not in files:
            raise ModelNotFound("That model is no longer on this computer.", "Choose another one from the list.")
        return files[choice.level or ""]

    def find_choice(self, path: Path) -> tuple[ModelChoice, str] | None:
        """The choice of this file, and its title; None for a file that is not among the models."""
        for base_name, files in self._library.models().items():
            for value, file in _by_value(files).items():
                if file.path.absolute() == path:
                    return ModelChoice(base_name, value), f"{file.display_name} · {value}"
        return None

    def prepare_model(
        self, choice: ModelChoice, stopped: Callable[[], bool], visitor: Visitor | None = None
    ) -> Generator[QuantizationProgress, None, ModelFile | RemoteModel | None]:
        """The chosen model. A level that is not on the disk yet is made first, with progress; None if `stopped`.

        Raises ModelNotFound, what quantization raises, and RequestRefused for a visitor with too many runs.
        """
        base_name, level = choice.model or "", choice.level or ""
        if base_name not in self._library.models() and self.servers.has_model(base_name):
            return self.servers.find_model(base_name)
        try:
            return self.find_file(choice)
        except ModelNotFound:
            if base_name not in self._library.models() or level not in self._makeable_levels.levels_of(base_name):
                raise
        made = yield from self._makeable_levels.make_level(base_name, level, stopped, visitor)
        return self.find_file(choice) if made else None

    def make_level(
        self, choice: ModelChoice, stopped: Callable[[], bool] = lambda: False, visitor: Visitor | None = None
    ) -> Iterator[QuantizationUpdate]:
        """Make the chosen level, with progress; the last message says whether it was stopped or cannot be made."""
        yield from quantization_updates(choice.level, self.prepare_model(choice, stopped, visitor), visitor)

    def choice_of_chat(self, settings: ChatSettings) -> ModelChoice | None:
        """What a saved chat had chosen, by the name of its file where it names no choice; None if it names no model."""
        model, level = settings.model, settings.level
        if model is None and settings.model_file:
            named = (
                (base_name, value)
                for base_name, files in self._library.models().items()
                for value, file in _by_value(files).items()
                if file.file_name == settings.model_file
            )
            model, level = next(named, (settings.model_file, None))
        if model is None:
            return None
        return ModelChoice.read(
            model, level, settings.context_size, settings.kv_type, settings.device, settings.thinking
        )

    def context_parameters(self, choice: ModelChoice) -> ContextParameters:
        """How the model is loaded on this computer, also where ZeroGPU shall write the replies."""
        size = choice.context_size or USUAL_CONTEXT
        device = AUTOMATIC_CHOICE if choice.device.is_zerogpu else choice.device
        return ContextParameters(size, choice.kv_type, self._slots, device=device)

    def views(self, choice: ModelChoice) -> Iterator[PickerView]:
        """The view of a choice in stages: first without, then with what llama.cpp has to work out."""
        view = PickerView(choice, ())
        for view in self._views(choice):
            yield view
        names = tuple(self.model_names(wait=True))  # a server may have answered meanwhile
        if names != view.models:
            yield replace(view, models=names)

    def _views(self, choice: ModelChoice) -> Iterator[PickerView]:
        models = self._library.models()
        if choice.model not in models:
            if self.servers.has_model(choice.model):
                value = choice.model
            else:  # a model that is gone: the first one here, or on a server
                value = None if models else self.servers.first_model()
            if value is not None:
                yield self._server_view(choice, value)
                return
        names = tuple(self.model_names())
        if not models:
            yield PickerView(choice, names, problem=_NO_MODEL)
            return
        base_name = choice.model if choice.model in models else self.usual_model(models)
        files = _by_value(models[base_name])
        is_missing = choice.level is not None and choice.level not in files
        candidates = self._candidates(base_name, files, wait=is_missing)
        value = choice.level if choice.level in candidates else _default_level(files)
        view = self._with_rows(
            PickerView(replace(choice, model=base_name, level=value), names, _readable(names)[base_name]),
            candidates,
        )
        yield view
        try:
            yield from self._planned(view, files, choice.level in candidates)
        except PlaygroundError as error:
            yield replace(view, problem=str(error))

    def usual_model(self, models: Mapping[str, Sequence[ModelFile]]) -> str:
        """The model that a page opens with: the largest that is comfortable, and the starter where there is no other.

        Comfortable is one that fits with room for its context and other programs, and writes faster than people read,
        where its speed is known. If none is, the smallest counts.
        """
        usual = {name: files[0] for name, files in models.items() if files[0].origin != "starter"}
        for name in usual:
            files = _by_value(models[name])
            usual[name] = files[_default_level(files)]
        if not usual:
            return next(iter(models))
        if self._forecaster:
            works = (self._forecaster.work_of_file(file.path) for file in usual.values())
            self._forecaster.prepare([work for work in works if work], FORECAST_SECONDS)

        def is_comfortable(file: ModelFile) -> bool:
            forecast = self._forecaster.forecast_file(file.path) if self._forecaster else None
            fits = file.size <= _MOST_OF_MEMORY * self._budget_for(file.path).usable
            return fits and (forecast is None or forecast.middle >= READING_SPEED)

        by_size = sorted(usual, key=lambda name: usual[name].size)
        return next((name for name in reversed(by_size) if is_comfortable(usual[name])), by_size[0])

    def _server_view(self, choice: ModelChoice, value: str) -> PickerView:
        names = tuple(self.model_names(wait=True))
        view = PickerView(
            replace(choice, model=value, level=None, context_size=None), names, _readable(names).get(value, value)
        )
        try:
            model = self.servers.find_model(value)
        except PlaygroundError as error:
            return replace(view, problem=str(error))
        row = server_row(model)
        return replace(
            view,
            choice=replace(view.choice, level=row.value),
            model_name=model.display_name,
            levels=(row,),
            level_name=row.name,
            problem=no_memory_sentence(model),
        )

    def _planned(self, view: PickerView, files: dict[str, ModelFile], level_is_chosen: bool) -> Iterator[PickerView]:
        base_name, value = view.choice.model or "", view.choice.level or ""
        candidates = self._candidates(base_name, files, wait=False)
        if value in candidates:
            view = self._with_plan_or_problem(view, candidates)
            yield view
            candidates = self._candidates(base_name, files, wait=True)
        if value not in candidates:  # it could be made, and another visitor has made it meanwhile
            yield from self._views(view.choice)
            return
        view = self._with_verdicts(self._with_rows(view, candidates), candidates)
        recommended = _recommended(view.levels, files) if len(files) > 1 else None
        view = replace(view, levels=tuple(replace(row, recommended=row.value == recommended) for row in view.levels))
        if recommended and not level_is_chosen and recommended != view.choice.level:
            view = replace(view, choice=replace(view.choice, level=recommended), level_name=recommended)
            view = self._with_plan_or_problem(view, candidates)
        elif view.budget.devices:  # now that all levels are known, the reason can name the one that would fit whole
            view = self._with_plan_or_problem(view, candidates)
        yield view
        if view.plan:
            view = self._with_steps(view, candidates)
            yield view
        if self._forecaster and not self.zerogpu:  # whose GPU nothing is known of
            yield self._with_forecasts(view, candidates, self._forecaster)

    def _candidates(self, base_name: str, files: Mapping[str, ModelFile], *, wait: bool) -> dict[str, _Candidate]:
        """What can be chosen, by the value of its row: the files, then what can be made.

        wait: work out what can be made, if that is not known yet; it takes a moment.
        """
        here = {value: _Candidate(file) for value, file in files.items()}
        source = self._makeable_levels.source_file(base_name)
        if source is None:
            return here
        sizes = self._makeable_levels.levels_of(base_name) if wait else self._makeable_levels.known_levels(base_name)
        return {value: _Candidate(source, size) for value, size in sizes.items()} | here

    def _with_rows(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        """The rows of all candidates, without verdicts, and which of them is chosen."""
        value = view.choice.level or ""
        chosen = candidates[value]
        files = {value: one.file for value, one in candidates.items() if not one.if_made}
        notes = notes_of_files(files.values(), self._library, self._forecaster)
        rows = {value: self._row(value, file, notes.get(file.path, ())) for value, file in files.items()}
        makeable = [one for one in candidates.values() if one.if_made]
        path = self._library.path_for_level(view.choice.model or "", value) if chosen.if_made else chosen.file.path
        budget = self._budget_for(path)
        return replace(
            view,
            choice=replace(view.choice, device=_device_here(view.choice.device, budget)),
            levels=tuple(rows.values()),
            level_name=rows[value].name if value in rows else value,
            makeable=tuple(makeable_level_row(one.if_made) for one in makeable if one.if_made),
            made_from=makeable[0].file.level if makeable else "",
            to_make=chosen.if_made,
            budget=budget,
            thinking=self._thinking_choices(chosen.file),
        )

    def _thinking_choices(self, file: ModelFile) -> tuple[ThinkingChoice, ...]:
        try:
            return thinking_choices(self._library.whole_header(file).chat_template)
        except (PlaygroundError, OSError):
            return ()

    def _row(self, value: str, file: ModelFile, notes: tuple[str, ...]) -> LevelRow:
        level = find_level(file.level)
        summary = level.summary if level else NO_SUMMARY
        try:
            header = self._library.whole_header(file)
        except (PlaygroundError, OSError) as error:  # it changed since it was listed
            return LevelRow(value, file.level, file.size, None, summary, None, notes=(str(error),))
        return LevelRow(value, file.level, file.size, header.bits_per_weight, summary, None, notes=notes)

    def _plan_at(self, one: _Candidate, view: PickerView, context_size: int) -> MemoryPlan:
        return self._place_at(one, view, context_size).plan

    def _place_at(
        self, one: _Candidate, view: PickerView, context_size: int, levels: Mapping[str, int] = MappingProxyType({})
    ) -> PlacedPlan:
        context = replace(self.context_parameters(view.choice), context_size=context_size)
        weights = one.if_made.weight_bytes if one.if_made else None
        return self._planner.place(one.file.path, context, view.budget, levels, weights)

    def _weight_bytes(self, candidates: Mapping[str, _Candidate]) -> dict[str, int]:
        """The bytes of weights of each level."""
        return {
            value: one.if_made.weight_bytes if one.if_made else self._library.whole_header(one.file).weight_bytes
            for value, one in candidates.items()
        }

    def _with_plan_or_problem(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        """The view with the chosen level's plan, or with why it has none; the other levels are judged all the same."""
        try:
            return self._with_plan(replace(view, problem=""), candidates)
        except PlaygroundError as error:
            return replace(view, problem=str(error))

    def _with_plan(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        chosen = candidates[view.choice.level or ""]
        trained = self._planner.trained_context(chosen.file.path)
        size = min(view.choice.context_size or USUAL_CONTEXT, trained)
        levels = self._weight_bytes(candidates) if view.budget.devices else {}
        placed = self._place_at(chosen, view, size, levels)
        disk_speed = partial(disk_read_speed, chosen.file.path)
        verdict = judge(placed.plan, view.budget, disk_speed=disk_speed)
        if view.choice.context_size is None and verdict.kind != "fits" and size > SMALLEST_CONTEXT:
            smaller = self._place_at(chosen, view, SMALLEST_CONTEXT, levels)
            if (judged := judge(smaller.plan, view.budget, disk_speed=disk_speed)).kind == "fits":
                size, placed, verdict = SMALLEST_CONTEXT, smaller, judged
        return replace(
            view,
            choice=replace(view.choice, context_size=size),
            steps=tuple(ContextStep(tokens, None) for tokens in _steps(trained, size, None)),
            levels=_judged(view.levels, view.choice.level, verdict),
            makeable=_judged(view.makeable, view.choice.level, verdict),
            plan=placed.plan,
            where=placed.reason,
            has_experts=self._planner.layer_count(chosen.file.path).has_experts if view.budget.devices else None,
            verdict=verdict,
        )

    def _with_verdicts(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        size = view.choice.context_size or USUAL_CONTEXT

        def judged(row: LevelRow) -> LevelRow:
            try:
                return replace(row, verdict=judge(self._plan_at(candidates[row.value], view, size), view.budget))
            except PlaygroundError as error:
                return replace(row, notes=(*row.notes, str(error)))

        return replace(view, levels=tuple(map(judged, view.levels)), makeable=tuple(map(judged, view.makeable)))

    def _with_forecasts(
        self, view: PickerView, candidates: Mapping[str, _Candidate], forecaster: SpeedForecaster
    ) -> PickerView:
        """Where the chosen level would run; without, where the processor's measurement takes longer."""
        device = view.plan.context.placement.name if view.plan else CPU
        works = {value: self._work(one, forecaster) for value, one in candidates.items()}
        forecaster.prepare([work for work in works.values() if work], FORECAST_SECONDS)

        def forecast(row: LevelRow) -> LevelRow:
            one, work = candidates[row.value], works[row.value]
            if one.if_made is None:
                return replace(row, forecast=forecaster.forecast_file(one.file.path, device))
            return replace(row, forecast=forecaster.forecast(work, device) if work else None)

        return replace(view, levels=tuple(map(forecast, view.levels)), makeable=tuple(map(forecast, view.makeable)))

    def _work(self, one: _Candidate, forecaster: SpeedForecaster) -> TokenWork | None:
        """Of a level to be made: as its file's, with the level's main type and weights."""
        work = forecaster.work_of_file(one.file.path)
        if work is None or one.if_made is None:
            return work
        weights = self._library.whole_header(one.file).weight_bytes
        return work.at_level(one.if_made.main_type, work.read_bytes * one.if_made.weight_bytes / weights)

    def _with_steps(self, view: PickerView, candidates: Mapping[str, _Candidate]) -> PickerView:
        chosen, choice = candidates[view.choice.level or ""], view.choice
        trained = self._planner.trained_context(chosen.file.path)
        largest = largest_context_that_fits(lambda size: self._plan_at(chosen, view, size), trained, view.budget)
        steps = _steps(trained, choice.context_size or USUAL_CONTEXT, largest)
        fitting = largest or 0
        return replace(
            view,
            steps=tuple(ContextStep(size, size <= fitting, size == largest) for size in steps),
            verdict=judge(view.plan, view.budget, largest_context=largest) if view.plan else None,
        )


def what_replaced(wanted: ModelChoice, view: PickerView) -> str:
    """What of a wanted choice is not to be had, and what is chosen instead, in a sentence; "" if all of it is."""
    got = view.choice
    if wanted.model is not None and wanted.model != got.model:
        instead = f"; {view.model_name} {view.level_name} is chosen instead" if got.model else ""
        return f"{one_line(wanted.model, _LONGEST_NAME)}, the model of this chat, is not on this computer{instead}."
    if wanted.level is not None and wanted.level != got.level:
        level = one_line(wanted.level, _LONGEST_NAME)
        return f"{level}, the level of this chat, is not here any more; {view.level_name} is chosen instead."
    if wanted.context_size and got.context_size and wanted.context_size != got.context_size:
        return (
            f"This chat had a context of {count(wanted.context_size)} tokens, more than {view.model_name} takes; "
            f"{count(got.context_size)} are chosen instead."
        )
    on_gpu = (wanted.device.gpu_layers or 0) != 0 or wanted.device.gpu is not None
    if view.plan and view.plan.context.placement.is_cpu_only and on_gpu and not view.budget.devices:
        return "This chat ran on a GPU, and there is none here; the CPU is chosen instead."
    if wanted.device.gpu and not got.device.gpu:
        name = one_line(wanted.device.gpu, _LONGEST_NAME)
        return f"This chat ran on {name}, which is not a GPU of this computer; Automatic is chosen instead."
    return ""


def _device_here(choice: DeviceChoice, budget: Budget) -> DeviceChoice:
    """The same, but Automatic in place of a GPU that this computer does not have."""
    if choice.gpu is None:
        return choice
    named = next((gpu for gpu in budget.devices if gpu.name.lower() == choice.device.lower()), None)
    return replace(choice, device=named.name) if named else AUTOMATIC_CHOICE


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


def _default_level(files: dict[str, ModelFile]) -> str:
    """The level shown until verdicts are known: the starter model's, else a usual one, else the first."""
    original = [value for value, file in files.items() if file.origin == "starter"]
    usual = [value for level in DEFAULT_LEVELS for value, file in files.items() if file.level == level]
    return (original + usual + list(files))[0]


def _recommended(rows: Sequence[LevelRow], files: dict[str, ModelFile]) -> str | None:
    """A usual level that fits, else the largest that fits; never one requantized from another level."""
    fitting = [
        row for row in rows if row.verdict and row.verdict.kind == "fits" and not files[row.value].requantized_from
    ]
    usual = [row.value for level in DEFAULT_LEVELS for row in fitting if row.name == level]
    largest = [row.value for row in sorted(fitting, key=lambda row: row.size, reverse=True)]
    return next(iter(usual + largest), None)


def _steps(trained: int, chosen: int, largest: int | None) -> tuple[int, ...]:
    return tuple(sorted({*context_steps(trained), chosen, *([largest] if largest else [])}))
