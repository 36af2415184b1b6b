"""Answers the model picker: what a choice means here, and the view of it.

A view comes in stages, what is known at once first, so that the page answers quickly and fills in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from playground.app.model_picker.choice import LevelRow, ModelChoice
from playground.app.model_picker.level_planner import FORECAST_SECONDS, LevelPlanner
from playground.app.model_picker.makeable_levels import MakeableLevels, QuantizationUpdate, quantization_updates
from playground.app.model_picker.view import PickerView
from playground.app.servers import Servers, no_memory_sentence, server_row
from playground.chat.saved_chat import ChatSettings
from playground.engine.remote.protocol import RemoteModel
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.errors import ModelNotFound, PlaygroundError
from playground.fit.budget import Budget
from playground.fit.planner import Planner
from playground.gguf.levels import DEFAULT_LEVELS
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.llama.params import ContextParameters
from playground.measure.forecast import READING_SPEED, SpeedForecaster
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress

_MOST_OF_MEMORY: Final = 0.75  # the share that the file of a comfortable model takes; its context comes besides
_NO_MODEL: Final = "There is no model on this computer yet. Download one in the Models tab."


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
        self._budget_for = budget_for
        self._runs = runs or Runs()
        self._forecaster = forecaster
        self._makeable_levels = MakeableLevels(quantization_jobs, self._runs)
        speeds = None if zerogpu else forecaster  # nothing is known of how fast ZeroGPU's GPU writes
        self._levels = LevelPlanner(library, planner, self._makeable_levels, budget_for, slots, speeds)
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

    def level_rows(self, model: str) -> tuple[LevelRow, ...]:
        """The levels of a model that are on this disk, without a verdict or an expected speed."""
        return tuple(self._levels.rows(_by_value(self._library.models().get(model, ()))).values())

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
        return self._levels.context_parameters(choice)

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
        candidates = self._levels.candidates(base_name, files, wait=is_missing)
        value = choice.level if choice.level in candidates else _default_level(files)
        view = PickerView(replace(choice, model=base_name, level=value), names, _readable(names)[base_name])
        view = self._levels.with_rows(self._levels.with_budget(view, candidates), candidates)
        yield view
        try:
            is_there = yield from self._levels.stages(view, files, choice.level in candidates)
        except PlaygroundError as error:
            yield replace(view, problem=str(error))
            return
        if not is_there:  # it could be made, and another visitor has made it meanwhile
            yield from self._views(view.choice)

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
