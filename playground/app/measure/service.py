"""The Measure tab's service: what can be measured, what it will take, runs in the background, and their results.

One run works at a time, in a thread of its own; the others wait in a queue. A run belongs to nobody's page: it goes on
when its page is closed, and after a restart of the playground it goes on where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from playground.app.compare.dial import levels_that_differ
from playground.app.measure.answers import AnswerGrids
from playground.app.model_picker.makeable_levels import MakeableLevels
from playground.app.services import Services
from playground.engine.local.scoring.reference_file import row_bytes
from playground.engine.local.scoring.scorer import SPARE_DISK_BYTES
from playground.errors import ModelNotFound, PlaygroundError, RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.params import AUTOMATIC, CPU, ContextParameters, DeviceChoice
from playground.machine.files import free_disk_bytes
from playground.measure.export import read_export
from playground.measure.plan import CONTEXT_TOKENS, USUAL_KV, KvPair, MeasurementPlan
from playground.measure.results import HERE, Measurement, ResultRow, What, result_rows
from playground.measure.run import MeasurementRun, RunProgress
from playground.measure.run_queue import RunQueue
from playground.measure.server import no_such_model
from playground.measure.store import MeasurementStore, StoredRun
from playground.measure.text_fidelity import WINDOW, rows_at_once
from playground.measure.votes import VoteStore
from playground.models.model_file import ModelFile, most_original
from playground.settings import Settings
from playground.text_format import one_line

USUAL_LEVELS: Final = 6  # of those on this disk, which are chosen at first
MOST_SHOWN: Final = 8  # runs in the list
FIRST_LOOK_SECONDS: Final = 1.0  # how long a page waits for the models of servers that were never asked before
FORECAST_SECONDS: Final = 1.0  # how long an estimate waits for the first forecast
STORE_NAME = "measurements.sqlite"


def store_of(settings: Settings) -> MeasurementStore:
    """The measurements of this data folder."""
    return MeasurementStore(settings.data_dir / STORE_NAME)


def plan_of(
    services: Services,
    model: str,
    *,
    levels: Sequence[str],
    whats: Sequence[What],
    reference: str = "",
    kv_types: Sequence[KvPair] = (USUAL_KV,),
    device: str = "auto",
    text_name: str = "",
    text: str = "",
    repeats: int = 3,
    most_tasks: int | None = None,
    prompts_name: str = "",
    prompts: Sequence[str] = (),
    server_model: str = "",
    deepest: int = 8192,
    most_chats: int = 4,
) -> MeasurementPlan:
    """A plan from what a person named, checked. model: as Library.find_file takes it.

    levels: all that are on this disk, the largest first, where none is named; a named one that is not here is made.
    reference: that of the most original file where none is named. Raises ModelNotFound and RequestRefused.
    """
    files = services.library.find_files(model)
    base_names = {file.base_name for file in files}
    if len(base_names) > 1:
        raise ModelNotFound(f"{model} holds several models.", f"Name one: {', '.join(sorted(base_names))}.")
    if Path(model).expanduser().is_file():
        services.library.add_file(Path(model))
    base_name = files[0].base_name
    here = [file for file in services.library.files() if file.base_name == base_name]
    by_size = sorted(here, key=lambda file: file.size, reverse=True)
    known = {file.level.upper(): file.level for file in here}
    chosen = [known.get(level.strip().upper(), level.strip().upper()) for level in levels]
    if not chosen:
        chosen = [file.level for file in (sorted(files, key=lambda file: -file.size) if ":" in model else by_size)]
    wanted = known.get(reference.upper(), reference.upper()) if reference else most_original(here).level
    return MeasurementPlan(
        model=base_name, levels=tuple(chosen), whats=tuple(whats),
        reference=wanted if "fidelity" in whats else "", kv_types=tuple(kv_types), device=device,
        text_name=text_name, text=text, repeats=repeats, most_tasks=most_tasks, prompts_name=prompts_name,
        prompts=tuple(prompts), server_model=server_model if "server" in whats else "", deepest=deepest,
        most_chats=most_chats,
    ).checked()  # fmt: skip


@dataclass(frozen=True)
class LevelChoice:
    """A level that can be measured. size: bytes. is_here: it need not be made first.

    is_most_original: the others are compared with it, unless another is chosen.
    """

    level: str
    size: int
    is_here: bool
    is_most_original: bool = False


def usual_reference(levels: Sequence[LevelChoice]) -> str:
    """The level that the others are compared with; "" where none is on this disk."""
    here = [choice for choice in levels if choice.is_here]
    return max(here, key=lambda choice: (choice.is_most_original, choice.size)).level if here else ""


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take, estimated before it begins. None is what cannot be known yet.

    seconds: from the speed that was measured of this model before. disk_bytes: of the reference's scores, for the time
    of the run. made_bytes: of levels that are made first, which stay. memory_bytes: of the largest level, or of the
    reference, with its contexts. is_short_of_disk: the scores will be kept in a shorter form, see
    engine/local/scoring/reference_file.py.
    """

    items: int
    seconds: float | None
    disk_bytes: int
    made_bytes: int
    memory_bytes: int | None
    is_short_of_disk: bool = False
    to_make: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunView:
    """A run as it stands. position: 0 works, more waits, None is over. failed: items with why."""

    stored: StoredRun
    items: int
    position: int | None
    progress: RunProgress | None

    @property
    def failed(self) -> dict[str, str]:
        return {item: why for item, why in self.stored.finished.items() if why}


@dataclass(frozen=True)
class ResultsView:
    """All rows of the table. usable: bytes that a model can have here, the line of what fits.

    problem: why there is no table. notice: that a damaged file was set aside.
    """

    rows: tuple[ResultRow, ...]
    usable: int
    problem: PlaygroundError | None = None
    notice: str = ""


class MeasureService:
    """One for all visitors. `close` it at the end: a run that works is continued at the next start."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.settings = services.settings
        self.runs = services.runs
        self.store = store_of(services.settings)
        self._reading = threading.Lock()
        self._known: tuple[tuple[int, int], tuple[ResultRow, ...], tuple[Measurement, ...]] | None = None
        votes = VoteStore(services.settings.data_dir / "votes.sqlite", services.settings.max_results)
        self.answers = AnswerGrids(self.store, votes, services.runs, lambda: self._read()[1])
        self._makeable = MakeableLevels(services.quantization_jobs if self.settings.allow_quantize else None)
        folder = self.settings.data_dir / "scores"
        self.queue = RunQueue(
            self.store, services.runs, self._new_run, folder, limited_in_time=self.settings.on_space
        )  # fmt: skip
        services.close_first(self.queue.close)
        if self.store.path.exists():
            self.store.repair_file()
            self.queue.continue_cut_off_runs()

    def _new_run(self) -> MeasurementRun:
        services = self._services
        jobs = services.quantization_jobs if self.settings.allow_quantize else None
        folder = self.settings.data_dir / "scores"
        return MeasurementRun(services.pool, services.library, jobs, self.store, folder, services.remotes)

    # --- what can be measured ---

    def models(self) -> list[tuple[str, str]]:
        """(name to show, base name) of every model on this disk."""
        found = {file.base_name: file.display_name for file in self._services.library.files()}
        return [(name, base) for base, name in sorted(found.items(), key=lambda pair: pair[1].lower())]

    def levels(self, model: str) -> list[LevelChoice]:
        """The levels on this disk, and those that can be made of them and really differ, the largest first."""
        here = [file for file in self._services.library.files() if file.base_name == model]
        found = [LevelChoice(file.level, file.size, True, file == most_original(here)) for file in here]
        known = {choice.level for choice in found}
        makeable = list(self._makeable.levels_of(model).values()) if here else []
        offered = levels_that_differ(makeable, known)
        found += [LevelChoice(size.level, size.size, False) for size in offered if size.level not in known]
        return sorted(found, key=lambda choice: choice.size, reverse=True)

    def places(self) -> list[tuple[str, str]]:
        """(text to show, text of a DeviceChoice) of where a level can run; [] where there is no GPU."""
        gpus = self._services.devices.known.gpus
        if not gpus:
            return []
        named = [(f"{gpu.name}: {gpu.description}", gpu.name) for gpu in gpus] if len(gpus) > 1 else []
        return [("Automatic", AUTOMATIC), ("GPU: all layers", f"{AUTOMATIC}:all"), *named, ("CPU only", CPU)]

    def server_models(self) -> list[tuple[str, str]]:
        """(name to show, `id@server`) of every model of a server that is known now."""
        remotes = self._services.remotes
        if not remotes.list_models():
            remotes.wait_for_lists(FIRST_LOOK_SECONDS)
        return [(f"{model.display_name} {model.level}", model.reference) for model in remotes.list_models()]

    def check_plan(self, plan: MeasurementPlan) -> MeasurementPlan:
        """The plan as it will be carried out. Raises RequestRefused for a model or a level that is not offered."""
        if not self.settings.allow_lab:
            raise RequestRefused("Measuring is switched off here.", "Run the playground yourself.", setting="allow_lab")
        offered = {choice.level for choice in self.levels(plan.model)}
        if missing := {*plan.levels, *filter(None, [plan.reference])} - offered:
            raise RequestRefused(
                f"{plan.model[:100]} is not here as {sorted(missing)[0][:40]}, and it cannot be made.", "Choose others."
            )
        if "server" in plan.whats and plan.server_model and not self._services.remotes.find_model(plan.server_model):
            raise no_such_model(plan.server_model)
        return plan.checked()

    def estimate(self, plan: MeasurementPlan) -> RunEstimate:
        """What a plan will take. Raises as `check_plan` does."""
        plan = self.check_plan(plan)
        choices = {choice.level: choice for choice in self.levels(plan.model)}
        wanted = [choices[level] for level in dict.fromkeys((*plan.levels, *filter(None, [plan.reference])))]
        files = [file for file in self._services.library.files() if file.base_name == plan.model]
        to_make = [choice for choice in wanted if not choice.is_here]
        disk = short = 0
        if "fidelity" in plan.whats:
            header = self._services.library.header(files[0].path)
            vocabulary = header.vocabulary_size or 0
            tokens = sum(len(text.text) for text in plan.texts()) // 3
            disk = tokens * row_bytes("16-bit", vocabulary)
            if free_disk_bytes(self.settings.data_dir) < disk + SPARE_DISK_BYTES:
                disk, short = tokens * row_bytes("top", vocabulary), 1
        seconds = self._seconds_of(plan, choices)
        if seconds is not None:
            seconds += self._seconds_to_make(plan.model, to_make)
        return RunEstimate(
            len(plan.items()), seconds, disk, sum(choice.size for choice in to_make),
            self._memory_of(plan, files, wanted), bool(short), tuple(choice.level for choice in to_make),
        )  # fmt: skip

    def _seconds_to_make(self, model: str, levels: Sequence[LevelChoice]) -> float:
        makeable = self._makeable.levels_of(model) if levels else {}
        return sum(self._services.quantization_jobs.seconds_to_make(makeable[each.level]) for each in levels)

    def same_for(self, plan: MeasurementPlan, model: str, levels: Sequence[str]) -> MeasurementPlan:
        """The same measurements of levels of another model, against the usual reference of that.

        Raises RequestRefused where no level is chosen.
        """
        if not levels:
            raise RequestRefused(f"No level of {model[:100]} is chosen.", "Choose one, or leave the model out.")
        reference = usual_reference(self.levels(model)) if plan.reference else ""
        return replace(plan, model=model, levels=tuple(levels), reference=reference)

    def estimate_runs(self, plans: Sequence[MeasurementPlan]) -> RunEstimate:
        """What these runs will take, one after the other. Raises as `check_plan` does."""
        estimates = [self.estimate(plan) for plan in plans]
        seconds = [each.seconds for each in estimates if each.seconds is not None]
        memory = [each.memory_bytes for each in estimates if each.memory_bytes is not None]
        return RunEstimate(
            sum(each.items for each in estimates), sum(seconds) if len(seconds) == len(estimates) else None,
            max(each.disk_bytes for each in estimates), sum(each.made_bytes for each in estimates),
            max(memory) if len(memory) == len(estimates) else None, any(each.is_short_of_disk for each in estimates),
            tuple(level for each in estimates for level in each.to_make),
        )  # fmt: skip

    def _seconds_of(self, plan: MeasurementPlan, choices: Mapping[str, LevelChoice]) -> float | None:
        """From how fast each level writes: measured here, else forecast. None where neither is known.

        Of a level that is not here yet, from its bytes and the speed of those that are.
        """
        measured = {
            row.key.level: row.speed
            for row in self._rows()
            if (row.key.source, row.key.model) == (HERE, plan.model) and row.speed
        }
        here = {file.level: file for file in self._services.library.files() if file.base_name == plan.model}
        device = DeviceChoice.read(plan.device)
        forecaster = self._services.forecaster
        works = [forecaster.work_of_file(file.path) for level, file in here.items() if level not in measured]
        forecaster.prepare([work for work in works if work], FORECAST_SECONDS)
        pace: list[float] = []  # bytes per second of the levels whose speed is known
        rates: dict[str, float] = {}
        for level, file in here.items():
            known = measured.get(level)
            if known is None and (device.is_cpu or not self._services.devices.known.gpus):
                forecast = forecaster.forecast_file(file.path)
                known = forecast.middle if forecast else None
            if known:
                rates[level] = known
                pace.append(known * file.size)
        if not pace:
            return None
        seconds = 0.0
        for level, tokens in self._tokens_by_level(plan):
            rate = rates.get(level) or sum(pace) / len(pace) / max(1, choices[level].size)
            seconds += tokens / rate
        return seconds

    @staticmethod
    def _tokens_by_level(plan: MeasurementPlan) -> list[tuple[str, float]]:
        """The work of each item, as if all of it were written; that of the reference comes first.

        How long a server takes is not known.
        """
        reference = [(plan.reference, plan.written_tokens("fidelity"))] if plan.reference else []
        items = [item for item in plan.items() if not plan.is_of_server(item)]
        return reference + [(item.level, plan.written_tokens(item.what)) for item in items]

    def _memory_of(
        self, plan: MeasurementPlan, files: Sequence[ModelFile], wanted: Sequence[LevelChoice]
    ) -> int | None:
        """Of the largest level, or of the reference, with its contexts; None where its header cannot be planned."""
        largest = max(wanted, key=lambda choice: choice.size)
        file = next((file for file in files if file.level == largest.level), files[0])
        planner, longest, beside = self._services.planner, CONTEXT_TOKENS, 0
        try:
            trained = planner.trained_context(file.path)
            if "profile" in plan.whats:
                longest = max(longest, min(plan.deepest, trained or plan.deepest))
            if "fidelity" in plan.whats or "server" in plan.whats:
                rows = rows_at_once(largest.size)
                scoring = ContextParameters.for_scoring(min(WINDOW, trained or WINDOW), rows=rows)
                beside = planner.plan(file.path, scoring).beside_the_model.needed
            planned = planner.plan(file.path, ContextParameters(longest, slots=1))
        except PlaygroundError:
            return None
        return planned.needed + beside + largest.size - file.size

    # --- runs ---

    def start_run(self, plan: MeasurementPlan, visitor: Visitor) -> int:
        """Begin a run, or let it wait; returns its number. Raises RequestRefused."""
        return self.queue.start_run(self.check_plan(plan), visitor)

    def change_run(self, action: str, visitor: Visitor) -> None:
        """Do what a row's button asks: `stop 3`, `continue 3`. Raises RequestRefused for another visitor's run."""
        word, _, text = action.partition(" ")
        number = int(text) if text.isdecimal() and len(text) < 12 else 0
        stored = self.store.find_run(number)
        if stored is None:
            raise RequestRefused("There is no such run.", "Look at the list again.")
        if self.settings.on_space and stored.person != visitor.person:
            raise RequestRefused("Another visitor started this run.", "Only they can change it.")
        if word == "stop":
            self.queue.stop_run(number)
        elif word == "continue":
            self.check_plan(MeasurementPlan.from_json(stored.plan))
            self.queue.continue_run(number, visitor)

    def run_views(self) -> list[RunView]:
        """The newest runs of the page, the newest first; [] where the file cannot be read, which `results` says."""
        try:
            runs = [each for each in self.store.runs() if each.person][-MOST_SHOWN:]
        except PlaygroundError:
            return []
        positions = self.queue.positions()
        return [
            RunView(
                each, len(MeasurementPlan.from_json(each.plan).items()), positions.get(each.id),
                self.queue.progress_of(each.id),
            )
            for each in reversed(runs)
        ]  # fmt: skip

    # --- results ---

    def results(self) -> ResultsView:
        """Everything measured and imported."""
        usable = self._services.memory().usable
        try:
            return ResultsView(self._rows(), usable, notice=self.store.set_aside)
        except PlaygroundError as error:
            return ResultsView((), usable, problem=error)

    def _rows(self) -> tuple[ResultRow, ...]:
        return self._read()[0]

    def _read(self) -> tuple[tuple[ResultRow, ...], tuple[Measurement, ...]]:
        """The rows and the answers to prompts. Read again only where the file has changed: pages look every few
        seconds, and answers are long."""
        try:
            status = self.store.path.stat()
            version = (status.st_mtime_ns, status.st_size)
        except OSError:
            version = (0, 0)
        with self._reading:
            if self._known is None or self._known[0] != version:
                found = self.store.measurements()
                answers = tuple(each for each in found if each.what == "answers")
                self._known = (version, tuple(result_rows(found)), answers)
            return self._known[1:]

    def import_file(self, name: str, data: bytes) -> int:
        """Lay somebody else's export beside the own results; returns how many measurements it has."""
        if self.settings.on_space:
            raise RequestRefused("Nothing can be imported on a Space.", "Run the playground yourself.")
        measurements = read_export(data, one_line(name, 80) or "import")
        self.store.add_import(measurements[0].source if measurements else name, measurements)
        return len(measurements)

    def remove_import(self, source: str) -> None:
        """Take somebody else's measurements away again. Raises RequestRefused."""
        if self.settings.on_space:
            raise RequestRefused("Nothing can be removed on a Space.", "Run the playground yourself.")
        self.store.remove_source(source)
