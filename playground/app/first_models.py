"""The catalogue on the Models tab: three good first models for this computer, and all others, each with a forecast.

The three: a small one, the largest that writes faster than people read and leaves memory to other programs, and the
largest that fits. A plan is asked for these alone; the rest of the catalogue is judged when its repository is opened.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.verdict import Verdict, judge
from playground.gguf.levels import DEFAULT_LEVELS, main_type
from playground.gguf.tensors import TensorType
from playground.gguf.weight_use import TokenWork, token_work
from playground.llama.kernel_speed import PROBE_SECONDS
from playground.llama.params import ContextParameters
from playground.measure.forecast import CPU, READING_SPEED, Accuracy, Forecast
from playground.models.catalog import CatalogModel, load_catalog

Role = Literal["small", "comfortable", "largest"]
SortColumn = Literal["name", "size", "speed"]

FIRST_CONTEXT: Final = 8192  # tokens, or the most that a model was trained for
_FEWEST_WEIGHTS: Final = 700_000_000  # of a model to hold a conversation with
_COMFORTABLE_SHARE: Final = 0.6  # of the usable memory: the rest is for other programs
_MXFP4: Final = "MXFP4_MOE"


@dataclass(frozen=True)
class CatalogueRow:
    """A model of the catalogue at the level that is offered first.

    download_bytes: of its weights; the file has a header besides. plan and verdict: of the cards alone. role: what the
    card is for, None without one. is_too_large: its weights alone exceed the usable memory. is_here: a file of its
    repository is on this disk. forecast: None where nothing is known.
    """

    model: CatalogModel
    level: str
    download_bytes: int
    forecast: Forecast | None = None
    plan: MemoryPlan | None = None
    verdict: Verdict | None = None
    role: Role | None = None
    is_too_large: bool = False
    is_here: bool = False

    @property
    def is_slower_than_reading(self) -> bool:
        return self.forecast is not None and self.forecast.middle < READING_SPEED


@dataclass(frozen=True)
class CatalogueView:
    """cards: from small to large. rows: every other model that has a repository, in the order asked for.

    download_speed: bytes per second of the last download, None before the first.
    accuracy: how good the forecasts of speeds were so far; None if nobody looked.
    """

    cards: tuple[CatalogueRow, ...] = ()
    rows: tuple[CatalogueRow, ...] = ()
    download_speed: float | None = None
    sorted_by: SortColumn = "size"
    accuracy: Accuracy | None = None


class FirstModels:
    """Chooses from the catalogue for every visitor. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._plans: dict[str, MemoryPlan] = {}
        self._choosing = threading.Lock()

    def view(self, sorted_by: SortColumn = "size") -> CatalogueView:
        """The cards and the rest; the first call takes some seconds."""
        offered = [model for model in load_catalog() if model.repo]
        works = [_work(model, level) for model in offered if (level := _first_level(model))]
        self._services.forecaster.prepare([work for work in works if work], PROBE_SECONDS)
        known = [row for model in offered if (row := self._row(model))]
        with self._choosing:
            cards = self._cards(known)
        rest = [row for row in known if row.model.id not in {card.model.id for card in cards}]
        speed, accuracy = self._services.downloads.last_speed, self._services.forecaster.accuracy()
        return CatalogueView(cards, tuple(_sorted(rest, sorted_by)), speed, sorted_by, accuracy)

    def find_row(self, id: str) -> CatalogueRow:
        """Raises PlaygroundError for a model that the catalogue does not offer."""
        for model in load_catalog():
            row = self._row(model) if model.id == id and model.repo else None
            if row:
                return row
        raise PlaygroundError("The catalogue has no such model.", "Choose one from the list.")

    def _row(self, model: CatalogModel) -> CatalogueRow | None:
        level = _first_level(model)
        if level is None:
            return None
        work = _work(model, level)
        gpus = self._services.devices.known.gpus
        device = gpus[0].name if gpus else CPU
        forecast = self._services.forecaster.forecast(work, device) if work else None
        is_here = any(file.repo == model.repo for file in self._services.library.files())
        size = model.weight_bytes[level]
        is_too_large = size > self._services.pool.usable_bytes_for()
        return CatalogueRow(model, level, size, forecast, is_too_large=is_too_large, is_here=is_here)

    def _cards(self, rows: list[CatalogueRow]) -> tuple[CatalogueRow, ...]:
        usable = self._services.pool.usable_bytes_for()
        by_size = sorted((row for row in rows if row.model.is_first_choice), key=lambda row: row.download_bytes)
        able = [row for row in by_size if row.model.parameter_count >= _FEWEST_WEIGHTS]
        quick = [row for row in able if row.forecast is None or row.forecast.low >= READING_SPEED]
        small = self._first_that_fits(able, usable, "small")
        if small is None:
            return ()
        larger = [row for row in quick if row.download_bytes > small.download_bytes]
        comfortable = self._first_that_fits(larger[::-1], round(_COMFORTABLE_SHARE * usable), "comfortable")
        most = (comfortable or small).download_bytes
        largest = self._first_that_fits([row for row in able[::-1] if row.download_bytes > most], usable, "largest")
        return tuple(card for card in (small, comfortable, largest) if card)

    def _first_that_fits(self, rows: list[CatalogueRow], usable: int, role: Role) -> CatalogueRow | None:
        judged = (self._judged(row, usable) for row in rows)
        return next((replace(row, role=role) for row in judged if row), None)

    def _judged(self, row: CatalogueRow, usable: int) -> CatalogueRow | None:
        """The row with its plan; None if it does not fit well."""
        if row.download_bytes > usable:
            return None
        try:
            plan = self._plan(row.model).with_weights(row.download_bytes)
        except PlaygroundError:
            return None
        verdict = judge(plan, usable)
        return replace(row, plan=plan, verdict=verdict) if verdict.kind == "fits" else None

    def _plan(self, model: CatalogModel) -> MemoryPlan:
        if model.id not in self._plans:
            planner = self._services.planner
            size = min(FIRST_CONTEXT, planner.trained_context(model.blueprint))
            context = ContextParameters(size, slots=self._services.settings.slots)
            self._plans[model.id] = planner.plan(model.blueprint, context)
        return self._plans[model.id]


def _first_level(model: CatalogModel) -> str | None:
    levels = [_MXFP4] if model.keeps_mxfp4 else list(DEFAULT_LEVELS)
    return next((level for level in levels if level in model.weight_bytes), None)


def _work(model: CatalogModel, level: str) -> TokenWork | None:
    """By the tensors as they are before quantization: a token reads nearly the same share of them at every level."""
    metadata = {f"{model.blueprint.architecture}.{key}": value for key, value in model.blueprint.metadata.items()}
    tensors = model.blueprint.tensors
    work = token_work(model.blueprint.architecture, metadata, tensors)
    kept = sum(tensor.byte_count for tensor in tensors if tensor.type is TensorType.MXFP4)  # stays so at every level
    kept_read = work.bytes_by_type.get(TensorType.MXFP4, 0.0)
    rest = sum(tensor.byte_count for tensor in tensors) - kept
    kind = TensorType.Q8_0 if level == _MXFP4 else main_type(level)
    if kind is None or not rest:
        return None
    rest_read = (work.read_bytes - kept_read) / rest * (model.weight_bytes[level] - kept)
    read = {kind: rest_read} | ({TensorType.MXFP4: kept_read} if kept else {})
    return TokenWork(read, work.layers, work.vocabulary_size)


def _sorted(rows: list[CatalogueRow], column: SortColumn) -> list[CatalogueRow]:
    if column == "name":
        return sorted(rows, key=lambda row: row.model.display_name.lower())
    if column == "speed":
        fast = [row for row in rows if row.forecast and not row.is_too_large]
        others = [row for row in rows if row not in fast]
        return [*sorted(fast, key=lambda row: -row.forecast.middle if row.forecast else 0.0), *others]
    return sorted(rows, key=lambda row: row.download_bytes)
