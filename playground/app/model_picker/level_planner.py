"""Works out what the picker shows of a model's levels: rows, verdicts, speeds, and the chosen one's plan."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from playground.app.model_picker.choice import ContextStep, LevelRow, ModelChoice
from playground.app.model_picker.level_notes import notes_of_files
from playground.app.model_picker.makeable_levels import NO_SUMMARY, MakeableLevels, makeable_level_row
from playground.app.model_picker.view import PickerView
from playground.app.records import USUAL_CONTEXT
from playground.chat.template.thinking import ThinkingChoice, thinking_choices
from playground.errors import PlaygroundError
from playground.fit.budget import Budget
from playground.fit.plan import MemoryPlan
from playground.fit.planner import PlacedPlan, Planner
from playground.fit.verdict import SMALLEST_CONTEXT, Verdict, context_steps, judge, largest_context_that_fits
from playground.gguf.levels import DEFAULT_LEVELS, find_level
from playground.gguf.weight_use import TokenWork
from playground.llama.params import AUTOMATIC_CHOICE, ContextParameters, DeviceChoice
from playground.machine.disks import disk_read_speed
from playground.measure.forecast import CPU, SpeedForecaster
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.quantize.quantize import QuantizedSize

FORECAST_SECONDS: Final = 1.5  # that a view waits for the processor's measurement; a later one has it


@dataclass(frozen=True)
class LevelCandidate:
    """What can be planned for a level: a file, or the file it would be made from and its size once made."""

    file: ModelFile
    if_made: QuantizedSize | None = None


class LevelPlanner:
    """Works out what llama.cpp knows of a model's levels here. Thread-safe, one for all visitors.

    budget_for: what a load of this file could use, as the pool would judge it. forecaster: None for pickers without
    speeds.
    """

    def __init__(
        self,
        library: Library,
        planner: Planner,
        makeable_levels: MakeableLevels,
        budget_for: Callable[[Path], Budget],
        slots: int,
        forecaster: SpeedForecaster | None,
    ) -> None:
        self._library, self._planner, self._makeable_levels = library, planner, makeable_levels
        self._budget_for, self._slots, self._forecaster = budget_for, slots, forecaster

    def stages(
        self, view: PickerView, files: Mapping[str, ModelFile], level_is_chosen: bool
    ) -> Generator[PickerView, None, bool]:
        """The view of a level with all that has to be worked out, what is asked for first; False if it is gone.

        files: those of the model, by level. level_is_chosen: False lets the recommended level take its place.
        Raises PlaygroundError.
        """
        base_name, value = view.choice.model or "", view.choice.level or ""
        candidates = self.candidates(base_name, files, wait=False)
        if value in candidates:
            view = self._with_plan_or_problem(view, candidates)
            yield view
            candidates = self.candidates(base_name, files, wait=True)
        if value not in candidates:
            return False
        view = self._with_verdicts(self.with_rows(view, candidates), candidates)
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
        if self._forecaster:
            yield self._with_forecasts(view, candidates, self._forecaster)
        return True

    def context_parameters(self, choice: ModelChoice) -> ContextParameters:
        """How the model is loaded on this computer, also where ZeroGPU shall write the replies."""
        size = choice.context_size or USUAL_CONTEXT
        device = AUTOMATIC_CHOICE if choice.device.is_zerogpu else choice.device
        return ContextParameters(size, choice.kv_type, self._slots, device=device)

    def candidates(self, base_name: str, files: Mapping[str, ModelFile], *, wait: bool) -> dict[str, LevelCandidate]:
        """What can be chosen, by the value of its row: the files, then what can be made.

        wait: work out what can be made, if that is not known yet; it takes a moment.
        """
        here = {value: LevelCandidate(file) for value, file in files.items()}
        source = self._makeable_levels.source_file(base_name)
        if source is None:
            return here
        sizes = self._makeable_levels.levels_of(base_name) if wait else self._makeable_levels.known_levels(base_name)
        return {value: LevelCandidate(source, size) for value, size in sizes.items()} | here

    def rows(self, files: Mapping[str, ModelFile]) -> dict[str, LevelRow]:
        """A row of each file, by level, without a verdict."""
        notes = notes_of_files(files.values(), self._library, self._forecaster)
        return {value: self._row(value, file, notes.get(file.path, ())) for value, file in files.items()}

    def with_budget(self, view: PickerView, candidates: Mapping[str, LevelCandidate]) -> PickerView:
        """What a load could use now. Asked once for a whole drawing, since the answer takes a millisecond."""
        value = view.choice.level or ""
        chosen = candidates[value]
        path = self._library.path_for_level(view.choice.model or "", value) if chosen.if_made else chosen.file.path
        budget = self._budget_for(path)
        choice = replace(view.choice, device=_device_here(view.choice.device, budget))
        return replace(view, choice=choice, budget=budget)

    def with_rows(self, view: PickerView, candidates: Mapping[str, LevelCandidate]) -> PickerView:
        """The rows of all candidates, without verdicts, and which of them is chosen."""
        value = view.choice.level or ""
        chosen = candidates[value]
        rows = self.rows({value: one.file for value, one in candidates.items() if not one.if_made})
        makeable = [one for one in candidates.values() if one.if_made]
        return replace(
            view,
            levels=tuple(rows.values()),
            level_name=rows[value].name if value in rows else value,
            makeable=tuple(makeable_level_row(one.if_made) for one in makeable if one.if_made),
            made_from=makeable[0].file.level if makeable else "",
            to_make=chosen.if_made,
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

    def _plan_at(self, one: LevelCandidate, view: PickerView, context_size: int) -> MemoryPlan:
        return self._place_at(one, view, context_size).plan

    def _place_at(
        self, one: LevelCandidate, view: PickerView, context_size: int, levels: Mapping[str, int] = MappingProxyType({})
    ) -> PlacedPlan:
        context = replace(self.context_parameters(view.choice), context_size=context_size)
        weights = one.if_made.weight_bytes if one.if_made else None
        return self._planner.place(one.file.path, context, view.budget, levels, weights)

    def _weight_bytes(self, candidates: Mapping[str, LevelCandidate]) -> dict[str, int]:
        """The bytes of weights of each level."""
        return {
            value: one.if_made.weight_bytes if one.if_made else self._library.whole_header(one.file).weight_bytes
            for value, one in candidates.items()
        }

    def _with_plan_or_problem(self, view: PickerView, candidates: Mapping[str, LevelCandidate]) -> PickerView:
        """The view with the chosen level's plan, or with why it has none; the other levels are judged all the same."""
        try:
            return self._with_plan(replace(view, problem=""), candidates)
        except PlaygroundError as error:
            return replace(view, problem=str(error))

    def _with_plan(self, view: PickerView, candidates: Mapping[str, LevelCandidate]) -> PickerView:
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

    def _with_verdicts(self, view: PickerView, candidates: Mapping[str, LevelCandidate]) -> PickerView:
        size = view.choice.context_size or USUAL_CONTEXT

        def judged(row: LevelRow) -> LevelRow:
            try:
                return replace(row, verdict=judge(self._plan_at(candidates[row.value], view, size), view.budget))
            except PlaygroundError as error:
                return replace(row, notes=(*row.notes, str(error)))

        return replace(view, levels=tuple(map(judged, view.levels)), makeable=tuple(map(judged, view.makeable)))

    def _with_forecasts(
        self, view: PickerView, candidates: Mapping[str, LevelCandidate], forecaster: SpeedForecaster
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

    def _work(self, one: LevelCandidate, forecaster: SpeedForecaster) -> TokenWork | None:
        """Of a level to be made: as its file's, with the level's main type and weights."""
        work = forecaster.work_of_file(one.file.path)
        if work is None or one.if_made is None:
            return work
        weights = self._library.whole_header(one.file).weight_bytes
        return work.at_level(one.if_made.main_type, work.read_bytes * one.if_made.weight_bytes / weights)

    def _with_steps(self, view: PickerView, candidates: Mapping[str, LevelCandidate]) -> PickerView:
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


def _device_here(choice: DeviceChoice, budget: Budget) -> DeviceChoice:
    """The same, but Automatic in place of a GPU that this computer does not have."""
    if choice.gpu is None:
        return choice
    named = next((gpu for gpu in budget.devices if gpu.name.lower() == choice.device.lower()), None)
    return replace(choice, device=named.name) if named else AUTOMATIC_CHOICE


def _judged(rows: tuple[LevelRow, ...], value: str | None, verdict: Verdict) -> tuple[LevelRow, ...]:
    return tuple(replace(row, verdict=verdict) if row.value == value else row for row in rows)


def _recommended(rows: Sequence[LevelRow], files: Mapping[str, ModelFile]) -> str | None:
    """A usual level that fits, else the largest that fits; never one requantized from another level."""
    fitting = [
        row for row in rows if row.verdict and row.verdict.kind == "fits" and not files[row.value].requantized_from
    ]
    usual = [row.value for level in DEFAULT_LEVELS for row in fitting if row.name == level]
    largest = [row.value for row in sorted(fitting, key=lambda row: row.size, reverse=True)]
    return next(iter(usual + largest), None)


def _steps(trained: int, chosen: int, largest: int | None) -> tuple[int, ...]:
    return tuple(sorted({*context_steps(trained), chosen, *([largest] if largest else [])}))
