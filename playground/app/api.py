"""What programs can ask: the machine, a model's levels, a plan, a reply, a comparison; as records.

The same services as the page and the command line, under the page's limits and switches: a program is a visitor like
any other. A reply and a comparison are streams of records, each with all that is known so far. Errors are raised as
PlaygroundError.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar

from playground.app.api_values import Question, read_values
from playground.app.hub.service import HubService
from playground.app.hub.view import hub_levels_record
from playground.app.messages import log_refusal
from playground.app.model_picker.level_notes import notes_of_files
from playground.app.records import (
    USUAL_CONTEXT,
    ComparisonRecord,
    LevelRecord,
    LevelsRecord,
    MachineRecord,
    PaneRecord,
    PlanRecord,
    ReplyRecord,
    difference_record,
    level_record,
    machine_record,
    pane_record,
    plan_record,
    reply_record,
)
from playground.app.services import Services
from playground.chat.compare import compare
from playground.chat.comparison import Pane, PaneResult, PaneUpdate
from playground.chat.conversation import stream_reply
from playground.chat.first_difference import first_difference
from playground.chat.history import HistoryLimits
from playground.chat.template.message import Message
from playground.engine.interface import Lease
from playground.engine.local.load_queue import LoadStatus
from playground.engine.protocol import Queued
from playground.engine.remote.protocol import RemoteModel
from playground.errors import ModelNotFound, PlaygroundError
from playground.fit.verdict import judge, largest_context_that_fits
from playground.limits.run import Run
from playground.limits.visitor import Visitor
from playground.llama.params import ContextParameters
from playground.machine.disks import disk_read_speed
from playground.models.hub.names import names_repository, parse_reference
from playground.models.model_file import ModelFile
from playground.steps import Steps
from playground.text_format import replace_surrogates

State = Literal["waiting", "loading", "writing", "done", "failed"]
Found = TypeVar("Found")
_NOTHING: Final = Message("assistant", "")


class StreamedReply(ReplyRecord):
    """A reply under way; finish_reason and timings come with the state "done"."""

    state: State


class StreamedPane(PaneRecord, total=False):
    state: State


class StreamedComparison(ComparisonRecord):
    """A comparison under way; panes hold StreamedPane, first_difference comes with the last record."""


class ApiService:
    """Serves every program."""

    def __init__(self, services: Services, hub: HubService) -> None:
        self.runs = services.runs
        self._services = services
        self._settings = services.settings
        self._hub = hub
        self._limits = HistoryLimits.of(services.settings)
        self._calls = itertools.count(1)
        self._interval_seconds = 1 / services.settings.updates_per_second

    # --- what is known without running a model ---

    def machine(self) -> MachineRecord:
        return machine_record(self._services.memory(), self._services.processors, self._services.devices.current())

    def levels(self, model: object, context: object = None) -> LevelsRecord:
        """Every level of a model here or on the Hub; files without their folders."""
        values = read_values(model=model, context=context)
        name, size = values.model, values.context
        try:
            library, by_path = self._services.library, self._takes_paths
            files, left_out = self._looked_up(name, lambda: library.find_files_and_left_out(name, by_path=by_path))
        except ModelNotFound:
            if not names_repository(name):
                raise
            hub = self._hub if size is None else HubService(self._services, size)
            *_, view = hub.open_repository(name)
            return hub_levels_record(view)
        notes = notes_of_files(files, library, self._services.forecaster)
        return {
            "levels": [self._level(file, size, notes.get(file.path, ())) for file in files],
            "left_out": [{"file": entry.file_name, "reason": entry.reason} for entry in left_out],
        }

    def plan(
        self,
        model: object,
        context: object,
        kv_type: object,
        slots: object,
        device: object = None,
        gpu_layers: object = None,
        cpu_moe: object = None,
    ) -> PlanRecord:
        """What a model here or on the Hub would need, before it is loaded."""
        values = read_values(
            model=model, context=context, kv_type=kv_type, slots=slots, device=device, gpu_layers=gpu_layers,
            cpu_moe=cpu_moe,
        )  # fmt: skip
        path = self._planned_path(values.model)
        planner = self._services.planner
        trained = planner.trained_context(path)
        asked = ContextParameters(
            values.context or min(USUAL_CONTEXT, trained),
            values.kv_type,
            values.slots or self._settings.slots,
            device=values.device_choice,
        )
        budget = self._services.pool.budget_for(path)
        levels = self._services.library.level_weights(path) if budget.devices else {}
        placed = planner.place(path, asked, budget, levels)
        largest = largest_context_that_fits(
            lambda size: planner.place(path, replace(asked, context_size=size), budget).plan, trained, budget
        )
        verdict = judge(placed.plan, budget, largest_context=largest, disk_speed=partial(disk_read_speed, path))
        return plan_record(placed, verdict, budget, largest)

    # --- what runs models ---

    def chat(self, visitor: Visitor, model: object, **asked: object) -> Iterator[StreamedReply]:
        """The reply to a question (see Question.read) as it grows; the model is loaded if need be."""
        question = Question.read(self._limits, **asked)
        max_tokens = self._max_tokens(question)
        file = self._model(read_values(model=model).model)
        context = self._context(file, question)
        with self.runs.start_run(visitor, "reply", f"call {next(self._calls)}") as run:
            loading = (
                self._services.remotes.lease_model(file)
                if isinstance(file, RemoteModel)
                else self._opened(file, context)
            )
            run.close_if_abandoned(loading)
            with closing(loading):
                lease = yield from _loaded(loading, run)
            if lease is None:
                return
            with lease:
                run.release_if_abandoned(lease.release)
                yield from self._written(lease, question, max_tokens, run)

    def compare(
        self,
        visitor: Visitor,
        models: Sequence[object],
        at_once: object,
        devices: Sequence[object] = (None, None),
        **asked: object,
    ) -> Iterator[StreamedComparison]:
        """Both models' answers as they grow, and in the end their first difference. devices: where each runs."""
        question = Question.read(self._limits, **asked)
        max_tokens = self._max_tokens(question)
        values = [read_values(model=model, device=device) for model, device in zip(models, devices, strict=True)]
        panes = [
            Pane(file, self._context(file, replace(question, device=value.device_choice)), question.conversation)
            for value, file in ((value, self._model(value.model)) for value in values)
        ]
        with self.runs.start_run(visitor, "comparison", f"call {next(self._calls)}") as run:
            updates = compare(
                self._services.pool,
                self._services.planner,
                panes,
                question.sampling,
                max_tokens,
                mode="at once" if at_once else "in turn",
                interval_seconds=self._interval_seconds,
                remotes=self._services.remotes,
                visitor=visitor,
            )
            run.close_if_abandoned(updates)
            with closing(updates):
                yield from _compared(panes, updates, run)

    # --- how it goes ---

    @property
    def _takes_paths(self) -> bool:
        return self._settings.allow_local_files

    def _looked_up(self, name: str, look: Callable[[], Found]) -> Found:
        try:
            return look()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ):  # an unknown home folder, too long a name, characters that no path has
            raise ModelNotFound(f"There is no model {name[:200]} here.", "Name another one.") from None

    def _model(self, name: str) -> ModelFile | RemoteModel:
        remote = self._services.remotes.find_model(name)
        return remote or self._looked_up(
            name, lambda: self._services.library.find_file(name, by_path=self._takes_paths)
        )

    def _planned_path(self, name: str) -> Path:
        try:
            file = self._looked_up(name, lambda: self._services.library.find_file(name, by_path=self._takes_paths))
            return file.path
        except ModelNotFound:
            if not names_repository(name):
                raise
        meant = parse_reference(name, self._services.hub.endpoint)
        level = self._services.hub.fetch_repository(meant.repo).resolve_level(meant.level, path=meant.path)
        return self._services.headers.read_header(level).path

    def _level(self, file: ModelFile, size: int | None, notes: Sequence[str]) -> LevelRecord:
        services = self._services
        budget = services.pool.budget_for(file.path)
        record = level_record(file, services.library, services.planner, size, self._settings.slots, budget, notes)
        return {**record, "reference": file.name, "files": [replace_surrogates(shard.name) for shard in file.shards]}

    def _max_tokens(self, question: Question) -> int:
        most = question.max_tokens or self._settings.max_reply_tokens
        self.runs.check_reply_length(most)
        return most

    def _context(self, file: ModelFile | RemoteModel, question: Question) -> ContextParameters | None:
        """As asked for, at most what the model was trained for; a server has its own."""
        if isinstance(file, RemoteModel):
            return None
        trained = self._services.planner.trained_context(file.path)
        size = min(question.context or USUAL_CONTEXT, trained)
        return ContextParameters(size, slots=self._settings.slots, device=question.device)

    def _opened(self, file: ModelFile, context: ContextParameters | None) -> Generator[LoadStatus, None, Lease]:
        assert context is not None
        return self._services.pool.lease_model(file.path, context, wait_for_memory=True)

    def _written(self, lease: Lease, question: Question, max_tokens: int, run: Run) -> Iterator[StreamedReply]:
        updates = stream_reply(
            lease.engine,
            question.conversation,
            question.sampling,
            max_tokens,
            reproducible=question.is_repeatable,
            interval_seconds=self._interval_seconds,
            visitor=run.visitor,
        )
        run.close_if_abandoned(updates)
        state: State = "waiting"
        with closing(updates):
            for update in updates:
                if update.event and not isinstance(update.event, Queued):
                    run.begin_work()
                    state = "writing"
                finished = update.finished
                loaded = lease.engine.loaded
                memory = (finished.memory if finished else None) or (loaded.memory if loaded else None)
                note = update.remarks if finished else ""
                record = reply_record(
                    update.message, finished, memory, lease.plan, update.context_size, lease.load_seconds, note
                )
                yield {**record, "state": "done" if finished else state}
                if not finished:
                    _check(run)


def _check(run: Run) -> None:
    """Raises an error if the run took too long or was stopped."""
    if run.interruption:
        raise run.interruption
    if run.is_stopped():
        raise PlaygroundError("This was stopped.", "Ask again.")


def _loaded(loading: Generator[LoadStatus, None, Lease], run: Run) -> Generator[StreamedReply, None, Lease]:
    nothing = reply_record(_NOTHING, None, None, None, None)
    _check(run)
    with Steps(loading) as steps:
        for progress in steps:
            yield {**nothing, "state": "waiting" if progress.waiting else "loading"}
            _check(run)
        return steps.result


def _compared(panes: Sequence[Pane], updates: Iterator[PaneUpdate], run: Run) -> Iterator[StreamedComparison]:
    records = [_pane(pane, state="waiting") for pane in panes]
    results: dict[int, PaneResult] = {}
    failures: list[PlaygroundError] = []
    for update in updates:
        index, pane = update.pane, panes[update.pane]
        if update.reply and update.reply.event and not isinstance(update.reply.event, Queued):
            run.begin_work()
        if update.result:
            results[index] = update.result
            records[index] = _pane(pane, update.result, state="done")
        elif update.failed:
            failures.append(update.failed)
            # What was written before the failure stays in the record.
            records[index] = {**records[index], **_pane(pane, error=update.failed, state="failed")}
        else:
            records[index] = {**records[index], **_news(update)}
        yield {"panes": list(records), "first_difference": None}
        _check(run)
    if not results:
        raise failures[0]
    for failure in failures:
        log_refusal(failure, run.visitor)
    both = [results[index] for index in sorted(results)]
    difference = first_difference(*both) if len(both) == 2 else None
    yield {"panes": list(records), "first_difference": difference_record(difference)}


def _news(update: PaneUpdate) -> StreamedPane:
    if update.reply:
        state: State = "writing" if update.reply.message.content or update.reply.message.thinking else "waiting"
        return {"text": update.reply.answer, "thinking": update.reply.thinking, "state": state}
    if update.loading is not None:
        return {"state": "waiting" if update.waiting else "loading"}
    return {}


def _pane(
    pane: Pane, result: PaneResult | None = None, error: PlaygroundError | None = None, *, state: State
) -> StreamedPane:
    record = pane_record(pane, result, error)
    file = record.get("file")
    return {**record, "file": Path(file).name if file else None, "state": state}
