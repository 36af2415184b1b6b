"""Carries out a plan item by item. What is finished is kept at once; what fails is named, and the rest goes on.

A run needs one model in memory at a time. The reference is read once, before the first level that is compared with it,
and its scores wait on the disk. A level that is not here is made first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from playground.chat.comparison_export import installed_versions
from playground.engine.local.lease import ModelLease
from playground.engine.local.load_queue import Waiting
from playground.engine.local.pool import ModelPool
from playground.engine.remote.registry import ServerRegistry
from playground.errors import ModelNotFound, PlaygroundError
from playground.gguf.weight_use import token_work
from playground.llama.params import ContextParameters, DeviceChoice
from playground.measure.abilities.suites import run_suite
from playground.measure.answers.ask import ask_prompt
from playground.measure.answers.prompts import OUR_PROMPTS, prompts_digest
from playground.measure.answers.server_words import ServerAnswers
from playground.measure.plan import CONTEXT_TOKENS, USUAL_KV, Item, MeasurementPlan
from playground.measure.profile import ProfilePlan, measure_profile, usual_threads
from playground.measure.results import Measurement
from playground.measure.server import lease_server_model, server_speed
from playground.measure.speed import SpeedTest, speed_steps
from playground.measure.store import MeasurementStore
from playground.measure.text_fidelity import ReadProgress, ReferenceReading, TokenFigures, fidelity_figures
from playground.measure.texts import SIX_TEXTS, texts_digest
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress
from playground.steps import Steps

_DIGEST_CHUNK: Final = 8 << 20
_WAIT_SECONDS: Final = 0.2  # between two looks whether another model still decodes


@dataclass(frozen=True)
class RunProgress:
    """Where a run is. done: 0 to 1, of the whole run's work. seconds_left: estimated; None in the beginning.

    waiting: why nothing is measured at this moment, "" where something is. disk_bytes: of temporary files.
    """

    stage: str
    done: float
    seconds_left: float | None = None
    waiting: str = ""
    disk_bytes: int = 0


Step = tuple[str, float, str]  # what is done, how much of this item, why it waits


class MeasurementRun:
    """One run over the playground's models. `work` is a generator; closing it stops the run and deletes its files.

    quantization_jobs: None where no level may be made. folder: for temporary files. servers: whose models levels can
    be compared with.
    """

    def __init__(
        self,
        pool: ModelPool,
        library: Library,
        quantization_jobs: QuantizationJobs | None,
        store: MeasurementStore,
        folder: Path,
        servers: ServerRegistry | None = None,
    ) -> None:
        self._pool, self._library, self._jobs = pool, library, quantization_jobs
        self._servers = servers or ServerRegistry()
        self._server_answers: ServerAnswers | None = None
        self._store, self._folder = store, folder
        self._lease: ModelLease | None = None
        self._leased: tuple[Path, ContextParameters] | None = None

    def work(self, run: int, plan: MeasurementPlan) -> Generator[RunProgress, None, None]:
        """Measure every item that is not finished. An item that fails is kept with its error, and the next one begins.

        Raises PlaygroundError only where nothing can go on: the store cannot be written to.
        """
        stored = self._store.find_run(run)
        finished = set(stored.finished) if stored else set()
        costs = {item: max(1.0, plan.written_tokens(item.what)) for item in plan.items()}
        items = [item for item in costs if item.key not in finished]
        reference_cost = plan.written_tokens("fidelity") if any(item.what == "fidelity" for item in costs) else 0.0
        whole = sum(costs.values()) + reference_cost
        spent = whole - sum(costs[item] for item in items)  # of what an interrupted run has finished
        if any(item.what == "fidelity" for item in items):
            spent -= reference_cost  # it is read again
        clock = _Clock(whole, spent)
        self._server_answers = None
        with ExitStack() as resources:
            resources.callback(self._release)
            reading = resources.enter_context(ReferenceReading(self._pool, plan.texts(), self._folder))
            for item in items:
                cost = costs[item]
                if item.what == "fidelity" and not reading.is_read:
                    problem = yield from self._steps(
                        self._read_reference(plan, reading), clock, spent, reference_cost, reading
                    )
                    spent += reference_cost
                    if isinstance(problem, PlaygroundError):
                        self._store.finish_item(run, item.key, f"The reference {plan.reference}: {problem}")
                        continue
                work = self._measure(plan, item, reading)
                found = yield from self._steps(work, clock, spent, cost, reading)
                self._store.finish_item(run, item.key, str(found) if isinstance(found, PlaygroundError) else found)
                spent += cost
        yield RunProgress("Finished", 1.0, 0.0)

    def _steps(
        self, work: Generator[Step, None, Any], clock: _Clock, spent: float, cost: float, reading: ReferenceReading
    ) -> Generator[RunProgress, None, Any]:
        """The result of one piece of work, or the error that it ended with."""
        try:
            with Steps(work) as steps:
                for stage, share, waiting in steps:
                    done = min(spent + share * cost, clock.whole)  # a reference that fails is tried for each level
                    yield RunProgress(stage, done / clock.whole, clock.seconds_left(done), waiting, reading.disk_bytes)
                return steps.result
        except PlaygroundError as error:
            self._release()  # a process that has died is not used for the next item
            return error

    # --- one item ---

    def _measure(
        self, plan: MeasurementPlan, item: Item, reading: ReferenceReading
    ) -> Generator[Step, None, Measurement]:
        if plan.is_of_server(item):
            return (yield from self._measure_server(plan, item))
        file = yield from self._file_of(plan, item.level)
        started = time.monotonic()
        stage = f"Measuring {item.name}"
        yield stage, 0.0, ""
        context = self._context(plan, item)
        lease = yield from self._lease_model(file, context, stage)
        found = self._facts(plan, item, file, lease)
        if item.what == "fidelity":
            found = yield from self._fidelity(plan, lease, reading, stage, found)
        elif item.what == "speed":
            found = yield from self._speed(plan, lease, stage, found)
        elif item.what == "profile":
            found = yield from self._profile(plan, item, file, stage, found)
        elif item.what == "server":
            found = yield from self._server_words(plan, lease, stage, found)
        elif item.what == "answers":
            found = yield from self._answer(plan, item, lease, found)
        else:
            figures, details = yield from run_suite(
                item.what, lease.engine, plan.most_tasks, stage, plan.most_reply_tokens
            )
            found = replace(found, figures=figures, details=details)
        return replace(found, seconds=time.monotonic() - started)

    def _fidelity(
        self, plan: MeasurementPlan, lease: ModelLease, reading: ReferenceReading, stage: str, found: Measurement
    ) -> Generator[Step, None, Measurement]:
        texts: list[TokenFigures] = []
        for step in reading.read_level(lease):
            if isinstance(step, TokenFigures):
                texts.append(step)
            else:
                yield stage, step.done / step.total, ""
        reference = self._find_file(plan.model, plan.reference)
        return replace(
            found,
            figures=fidelity_figures(texts),
            text=plan.text_name or SIX_TEXTS,
            text_digest=texts_digest(plan.texts()),
            reference=plan.reference,
            reference_digest=file_digest(reference),
            settings={"precision_of_the_reference": reading.precision},
        )

    def _speed(
        self, plan: MeasurementPlan, lease: ModelLease, stage: str, found: Measurement
    ) -> Generator[Step, None, Measurement]:
        tests = (SpeedTest("prompt", plan.prompt_tokens), SpeedTest("reply", plan.generated_tokens))
        figures: dict[str, Any] = {}
        yield from self._wait_for_quiet(stage)
        for number, test in enumerate(tests):
            result = None
            with closing(speed_steps(lease.engine, test, plan.repeats)) as steps:
                for step in steps:
                    result = step or result
                    yield stage, (number + len(result.runs if result else ()) / plan.repeats) / len(tests), ""
            if result is not None:
                short = "pp" if test.kind == "prompt" else "tg"
                figures |= {
                    f"{short}_tokens_per_second": result.tokens_per_second,
                    f"{short}_deviation": result.deviation,
                    f"{short}_tokens": result.mean_tokens,
                    f"{short}_disturbed": result.disturbed,
                }
        memory = lease.engine.loaded.memory
        figures |= {"memory_resident": memory.resident, "memory_anonymous": memory.anonymous}
        return replace(found, figures=figures, settings=_speed_settings(plan))

    def _wait_for_quiet(self, stage: str) -> Generator[Step, None, None]:
        while self._pool.is_decoding:
            yield stage, 0.0, "The speed is measured once no other model of this playground writes."
            time.sleep(_WAIT_SECONDS)

    def _profile(
        self, plan: MeasurementPlan, item: Item, file: ModelFile, stage: str, found: Measurement
    ) -> Generator[Step, None, Measurement]:
        """How the speed holds. The level is loaded again with contexts of their own."""
        yield from self._wait_for_quiet(stage)
        header = self._library.whole_header(file)
        deepest = min(plan.deepest, header.trained_context or plan.deepest)
        profile = ProfilePlan(
            deepest, plan.most_chats, usual_threads(self._pool.cores), min(256, plan.prompt_tokens),
            min(64, plan.generated_tokens), min(2, plan.repeats),
        )  # fmt: skip
        device = DeviceChoice.read(plan.device)
        work = token_work(header.architecture, header.metadata, header.tensors)
        lease_model = partial(self._lease_model, file, stage=stage)
        context = ContextParameters(profile.deepest, item.k_type, device=device, v_type=item.v_type)
        figures = yield from measure_profile(self._pool, lease_model, context, profile, work.read_bytes or None, stage)
        settings = {"deepest": profile.deepest, "chats": profile.chats, "repeats": profile.repeats}
        return replace(found, figures=figures, settings=settings)

    def _answer(
        self, plan: MeasurementPlan, item: Item, lease: ModelLease, found: Measurement
    ) -> Generator[Step, None, Measurement]:
        """The answer to one prompt of the set."""
        prompts = plan.asked_prompts()
        stage = f"{item.level} answers prompt {item.part} of {len(prompts)}"
        with Steps(ask_prompt(lease.engine, item.part, prompts[item.part - 1], plan.most_reply_tokens)) as asking:
            for _ in asking:
                yield stage, 0.0, ""
            figures, detail = asking.result
        return replace(
            found, figures=figures, details=[detail], settings={"prompts": len(prompts)},
            text=plan.prompts_name or OUR_PROMPTS, text_digest=prompts_digest(prompts),
        )  # fmt: skip

    def _server_words(
        self, plan: MeasurementPlan, lease: ModelLease, stage: str, found: Measurement
    ) -> Generator[Step, None, Measurement]:
        """How often a level would have written what the server's model wrote, which is asked for the first level."""
        prompts = plan.asked_prompts()
        if self._server_answers is None:
            self._server_answers = ServerAnswers(
                self._pool, self._servers, plan.server_model, prompts, self._folder, plan.most_reply_tokens
            )
        figures, details = yield from self._server_answers.compare_level(lease, stage)
        return replace(
            found, figures=figures, details=details, reference=plan.server_model, settings={"prompts": len(prompts)},
            text=plan.prompts_name or OUR_PROMPTS, text_digest=prompts_digest(prompts),
        )  # fmt: skip

    def _measure_server(self, plan: MeasurementPlan, item: Item) -> Generator[Step, None, Measurement]:
        """The server's model itself, in the place of a level. What only its owner knows stays empty."""
        started, stage = time.monotonic(), f"Measuring {item.name}"
        yield stage, 0.0, ""
        with lease_server_model(self._servers, plan.server_model) as lease:
            details: list[dict[str, Any]] = []
            settings: dict[str, Any] = {}
            if item.what == "speed":
                yield from self._wait_for_quiet(stage)  # the server may be on this computer
                settings = _speed_settings(plan)
                figures = yield from server_speed(lease.engine, **settings, stage=stage)
            else:
                figures, details = yield from run_suite(
                    item.what, lease.engine, plan.most_tasks, stage, plan.most_reply_tokens
                )
            server = lease.engine.model.server
        return Measurement(
            what=item.what, model=plan.model, level=item.level, file="", size=0, bits_per_weight=None, digest="",
            k_type=item.k_type, v_type=item.v_type, device=f"the server {server}", layers=None, threads=0,
            settings=settings, text="", text_digest="", reference="", reference_digest="",
            versions=installed_versions(), measured_at=_now(), seconds=time.monotonic() - started, figures=figures,
            details=details,
        )  # fmt: skip

    def _read_reference(self, plan: MeasurementPlan, reading: ReferenceReading) -> Generator[Step, None, None]:
        file = yield from self._file_of(plan, plan.reference)
        stage = f"Reading the texts with the reference {plan.reference}"
        context = self._context(plan, Item(plan.reference, *USUAL_KV, "fidelity"))
        lease = yield from self._lease_model(file, context, stage)
        for step in reading.read_reference(lease):
            assert isinstance(step, ReadProgress)
            yield stage, step.done / step.total, ""

    def _facts(self, plan: MeasurementPlan, item: Item, file: ModelFile, lease: ModelLease) -> Measurement:
        """The measurement without its figures."""
        header = self._library.whole_header(file)
        placement = lease.engine.context.placement
        return Measurement(
            what=item.what, model=plan.model, level=item.level, file=file.file_name, size=file.size,
            bits_per_weight=header.bits_per_weight, digest=file_digest(file), k_type=item.k_type, v_type=item.v_type,
            device=placement.name, layers=None if placement.is_cpu_only else placement.gpu_layers,
            threads=self._pool.cores, settings={}, text="", text_digest="", reference="", reference_digest="",
            versions=installed_versions(), measured_at=_now(), seconds=0.0, figures={},
        )  # fmt: skip

    # --- the model ---

    @staticmethod
    def _context(plan: MeasurementPlan, item: Item) -> ContextParameters:
        size = max(CONTEXT_TOKENS, plan.prompt_tokens + 64, plan.generated_tokens + 64)
        device = DeviceChoice.read(plan.device)
        return ContextParameters(size, item.k_type, slots=1, device=device, v_type=item.v_type)

    def _find_file(self, model: str, level: str) -> ModelFile:
        """Raises ModelNotFound."""
        for file in self._library.files():
            if file.base_name == model and file.level == level:
                return file
        raise ModelNotFound(f"{model} is not on this computer as {level}.", "Download it, or make it here.")

    def _file_of(self, plan: MeasurementPlan, level: str) -> Generator[Step, None, ModelFile]:
        """The file of a level, which is made first where it is not here."""
        try:
            return self._find_file(plan.model, level)
        except ModelNotFound:
            if self._jobs is None:
                raise
        self._release()
        with closing(self._jobs.make_level(plan.model, level)) as making:
            for event in making:
                if isinstance(event, QuantizationProgress):
                    yield f"Making {level} ({event.fraction:.0%})", 0.0, ""
        return self._find_file(plan.model, level)

    def _lease_model(
        self, file: ModelFile, context: ContextParameters, stage: str
    ) -> Generator[Step, None, ModelLease]:
        """The model, still loaded if the last item needed the same."""
        wanted = (file.path, context)
        if self._lease is not None and self._leased == wanted and self._lease.engine.is_alive:
            return self._lease
        self._release()
        with Steps(self._pool.lease_model(file.path, context, wait_for_memory=True)) as loading:
            for status in loading:
                yield f"{stage}: loading", 0.0, why_it_waits(status.waiting)
            self._lease, self._leased = loading.result, wanted
            return loading.result

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = self._leased = None


def why_it_waits(waiting: Waiting | None) -> str:
    """Why a model is not loaded yet, in a sentence; "" while nothing is in its way."""
    if waiting is None or not waiting.for_models:
        return ""
    if all(model.state == "loading" for model in waiting.for_models):
        return "It waits until another model of this playground is loaded."
    return "It waits until other models of this playground leave enough memory."


class _Clock:
    """Estimates the rest of a run from how long the work until now took. whole: of the work, in any unit.

    begun: how much of it an earlier run had done.
    """

    def __init__(self, whole: float, begun: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.whole, self._begun = max(1.0, whole), begun
        self._clock, self._started = clock, clock()

    def seconds_left(self, done: float) -> float | None:
        """None until a fiftieth of the work is done."""
        if done - self._begun < self.whole / 50:
            return None
        return (self._clock() - self._started) * (self.whole - done) / (done - self._begun)


def file_digest(file: ModelFile) -> str:
    """SHA-256 over all shards, read once until a file changes."""
    stats = [shard.stat() for shard in file.shards]
    return _digest_of(file.shards, tuple((each.st_size, each.st_mtime_ns) for each in stats))


@lru_cache(maxsize=256)
def _digest_of(shards: tuple[Path, ...], _versions: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for shard in shards:
        with shard.open("rb") as file:
            while chunk := file.read(_DIGEST_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _speed_settings(plan: MeasurementPlan) -> dict[str, int]:
    return {name: getattr(plan, name) for name in ("prompt_tokens", "generated_tokens", "repeats")}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
