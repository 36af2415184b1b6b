"""Answers the Fit tab: the table of levels and contexts, the KV cache beside its rule of thumb, what a cell opens.

A table that takes long to plan comes in stages, context by context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from playground.app.hub.service import HubService
from playground.app.messages import CLEAR, Notice, StatusMessage, WorkProgress
from playground.app.model_picker.choice import ModelChoice
from playground.app.services import Services
from playground.engine.local.pool import NO_FILE
from playground.errors import PlaygroundError
from playground.fit.budget import NO_MEMORY, Budget, GpuMargin
from playground.fit.computers import GPU_GB, MEMORY_GB, Computer, ComputerKind
from playground.fit.kv_formula import Attention, naive_kv_bytes, read_attention
from playground.fit.level_placer import LevelPlacer
from playground.fit.plan import MemoryPlan
from playground.fit.subjects import FitSubject, catalogue_subjects, subjects_on_disk
from playground.fit.table import FitCell, FitTable, LevelSize, fit_table, ladder, table_contexts
from playground.fit.verdict import disk_speed_unknown
from playground.gguf.levels import DEFAULT_LEVELS, FULL_TABLE_LEVELS, SHORT_TABLE_LEVELS, main_type
from playground.gguf.weight_use import TokenWork
from playground.llama.params import KV_TYPES, ContextParameters, KvType
from playground.machine.disks import disk_read_speed
from playground.models.hub.names import looks_like_reference

THIS: Final = "this"
OTHER: Final = "other"  # memory of a PC, as a number that is typed
USUAL_GB: Final[dict[ComputerKind, int]] = {"mac": 16, "gpu": 32, "pc": 16, "phone": 8}
USUAL_GPU_GB: Final = 12
FIRST_MODEL: Final = "catalogue/gemma4-12b"
FIRST_LEVEL: Final = DEFAULT_LEVELS[0]
FIRST_CONTEXT: Final = 131_072
USUAL_OTHER_GB: Final = 48.0  # shown when a person chooses to type a number
LARGEST_COMPUTER_GB: Final = 65_536.0
MOST_CHATS: Final = 64
_SECONDS_BETWEEN_STAGES: Final = 0.3
_SECONDS_FOR_SPEEDS: Final = 2.0  # the longest wait until the processor is measured; else the next table has the speeds
_ASKING_THE_HUB: Final = WorkProgress("Asking the Hub for the levels and reading one header …")


@dataclass(frozen=True)
class FitChoice:
    """What a person has picked; None where the playground chooses.

    computer: "this", or a kind of computer. memory: in GB as text, of the sizes for that kind, or "other" (then
    `other_gb` counts). gpu_gb: of the kind "gpu". chats: in parallel. level and context: of the question "What would I
    need?".
    """

    model: str | None = None
    computer: str = THIS
    memory: str | None = None
    gpu_gb: int = USUAL_GPU_GB
    other_gb: float = USUAL_OTHER_GB
    kv_type: KvType = "f16"
    chats: int | None = None
    every_level: bool = False
    level: str | None = None
    context: int | None = None

    @classmethod
    def from_browser(
        cls,
        *,
        model: object = None,
        computer: object = None,
        memory: object = None,
        gpu_gb: object = None,
        other_gb: object = None,
        kv_type: object = None,
        chats: object = None,
        levels: object = None,
        level: object = None,
        context: object = None,
    ) -> FitChoice:
        """The choice as a browser sends it, which may send anything: an impossible value becomes the default."""
        kind = next((kind for kind in MEMORY_GB if kind == computer), None)
        is_size = isinstance(other_gb, int | float) and 0 < other_gb <= LARGEST_COMPUTER_GB
        return cls(
            model=model if isinstance(model, str) else None,
            computer=kind or THIS,
            memory=memory if isinstance(memory, str) and memory in memory_choices(kind) else None,
            gpu_gb=gpu_gb if isinstance(gpu_gb, int) and gpu_gb in GPU_GB else USUAL_GPU_GB,
            other_gb=float(other_gb) if is_size else USUAL_OTHER_GB,  # type: ignore[arg-type]
            kv_type=next((kind for kind in KV_TYPES if kind == kv_type), "f16"),
            chats=chats if isinstance(chats, int) and 1 <= chats <= MOST_CHATS else None,
            every_level=levels == "eight",
            level=level if isinstance(level, str) else None,
            context=context if isinstance(context, int) and context > 0 else None,
        )

    @property
    def memory_choice(self) -> str | None:
        """The chosen memory, else the usual one for that kind of computer; None for this one."""
        kind = self._kind
        return (self.memory or str(USUAL_GB[kind])) if kind else None

    @property
    def other_computer(self) -> Computer | None:
        """None for this one."""
        kind = self._kind
        if kind is None:
            return None
        memory = self.memory_choice
        gb = self.other_gb if memory == OTHER else float(memory or 0)
        return Computer(kind, gb, self.gpu_gb if kind == "gpu" else 0)

    @property
    def _kind(self) -> ComputerKind | None:
        return next((kind for kind in MEMORY_GB if kind == self.computer), None)


def memory_choices(kind: ComputerKind | None) -> tuple[str, ...]:
    """The sizes of memory, in GB, to choose from for a kind of computer; for a PC "other", too. None for this one."""
    if kind is None:
        return ()
    return (*map(str, MEMORY_GB[kind]), *([OTHER] if kind == "pc" else []))


@dataclass(frozen=True)
class KvComparison:
    """The KV cache at each context by the rule of thumb, and as llama.cpp plans it; bytes."""

    attention: Attention
    contexts: tuple[int, ...]
    naive: tuple[int, ...]
    planned: tuple[int, ...]


@dataclass(frozen=True)
class FitView:
    """All that the tab shows.

    models: the models on offer as (name, key). host_name: what the page calls the computer that it runs on.
    budget_here: what a model could use of it now. keeps_mxfp4: whether the model's experts are so at every level.
    is_estimate: whether the GPU's part is estimated, because llama.cpp cannot plan it. message: what stands in place of
    the table.
    """

    choice: FitChoice
    models: tuple[tuple[str, str], ...]
    host_name: str = "This computer"
    budget_here: Budget = NO_MEMORY
    name: str = ""
    keeps_mxfp4: bool = False
    table: FitTable | None = None
    kv: KvComparison | None = None
    is_estimate: bool = False
    message: StatusMessage | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(row.size.level for row in self.table.rows) if self.table else ()


@dataclass(frozen=True)
class CellAction:
    """Where a click on a cell leads: to Chat, or to a notice and the repository to download the model from."""

    chat: ModelChoice | None = None
    notice: Notice = CLEAR
    repo: str = ""


class FitService:
    """Answers the Fit tab for every visitor.

    budget_for: what a load of this file could use here; by default what the pool will judge the load by.
    """

    def __init__(
        self, services: Services, hub: HubService, *, budget_for: Callable[[Path], Budget] | None = None
    ) -> None:
        self.chats = services.settings.slots  # in parallel, of a model loaded here
        self.host_name = "This Space" if services.settings.on_space else "This computer"
        self._library = services.library
        self._planner = services.planner
        self._quantization_jobs = services.quantization_jobs
        self._may_quantize = services.settings.allow_quantize
        self._budget_for = budget_for or services.pool.budget_for
        self._gpu_margin = GpuMargin(services.settings.gpu_margin_bytes, services.settings.gpu_margin_share)
        self._hub = hub
        self._forecaster = services.forecaster

    def model_names(self) -> list[tuple[str, str]]:
        """(name to read, key) of every model on offer."""
        return list(_names(self._subjects()))

    def budget_here(self) -> Budget:
        """What a model could use of this computer now."""
        return self._budget_for(NO_FILE)

    def views(self, choice: FitChoice) -> Iterator[FitView]:
        """The view of a choice; before the last one, stages of a table that takes long."""
        subjects = self._subjects()
        if choice.model and choice.model not in subjects and looks_like_reference(choice.model):
            view = self._view(choice, subjects, choice.model)
            yield replace(view, message=_ASKING_THE_HUB)
            try:
                key, level = self._hub.find_fit_subject(choice.model)
            except PlaygroundError as error:
                yield replace(view, message=error)
                return
            choice = replace(choice, model=key, level=choice.level or level)
            subjects = self._subjects()
        fallback = FIRST_MODEL if FIRST_MODEL in subjects else next(iter(subjects))
        subject = subjects.get(choice.model or "", subjects[fallback])
        choice = replace(choice, model=subject.key, chats=choice.chats or self._usual_chats(subject))
        view = replace(self._view(choice, subjects, subject.name), keeps_mxfp4=subject.keeps_mxfp4)
        try:
            yield from self._tables(view, subject)
        except PlaygroundError as error:
            yield replace(view, message=error)

    def cell_action(self, choice: FitChoice, cell: object) -> CellAction:
        """What a click on the cell "LEVEL|CONTEXT" opens; the browser may send anything."""
        subject = self._subjects().get(choice.model or "")
        level, _, tokens = cell.partition("|") if isinstance(cell, str) else ("", "", "")
        sizes = {size.level: size for size in self._sizes(subject, every_level=True)} if subject else {}
        if subject is None or level not in sizes or not (tokens.isascii() and tokens.isdigit() and len(tokens) < 9):
            return CellAction(notice=Notice("That cell is no longer in the table. Choose another one."))
        if subject.base_name and sizes[level].opens_in_chat:
            return CellAction(ModelChoice(subject.base_name, level, int(tokens) or None, choice.kv_type))
        how = (
            f"Download it from {subject.repo} in the Models tab."
            if subject.repo
            else "Search for it in the Models tab."
        )
        missing = f"{subject.name} at {level} is not on this computer yet. {how}"
        return CellAction(notice=Notice(missing), repo=subject.repo or "")

    def _view(self, choice: FitChoice, subjects: Mapping[str, FitSubject], name: str) -> FitView:
        return FitView(choice, _names(subjects), self.host_name, self.budget_here(), name)

    def _subjects(self) -> dict[str, FitSubject]:
        """Every model that a table can be made of, by its key: on disk, opened on the Hub, or in the catalogue."""
        here = subjects_on_disk(self._library)
        not_here = catalogue_subjects(subject.repo for subject in here if subject.repo)
        return {subject.key: subject for subject in (*here, *self._hub.fit_subjects(), *not_here)}

    def _usual_chats(self, subject: FitSubject) -> int:
        """A model on disk is planned as Chat loads it here, another one for a single reader."""
        return self.chats if subject.on_disk else 1

    def _sizes(self, subject: FitSubject, every_level: bool) -> tuple[LevelSize, ...]:
        levels = FULL_TABLE_LEVELS if every_level else SHORT_TABLE_LEVELS
        known = list(subject.sizes)
        if subject.base_name and self._may_quantize:
            makeable = self._quantization_jobs.makeable_levels(
                subject.base_name, [level for level in levels if level != "F16"]
            )
            known += [LevelSize(size.level, size.weight_bytes, "to be made") for size in makeable.values()]
        missing = [level for level in levels if level not in {size.level for size in known}]
        computed = subject.computed
        if isinstance(subject.planned, Path) and missing:
            computed = self._quantization_jobs.weight_bytes(subject.planned, missing)
        known += [LevelSize(level, computed[level], "computed") for level in missing if level in computed]
        return ladder(known, subject.parameter_count, levels)

    def _tables(self, view: FitView, subject: FitSubject) -> Iterator[FitView]:
        choice = view.choice
        other = choice.other_computer
        path = subject.planned if isinstance(subject.planned, Path) else NO_FILE
        budget = other.budget(self._gpu_margin) if other else self._budget_for(path)
        disk_speed = disk_speed_unknown if other else partial(disk_read_speed, path)
        contexts = table_contexts(self._planner.trained_context(subject.planned))
        sizes = self._sizes(subject, choice.every_level)
        view = replace(view, choice=_in_table(choice, sizes, contexts))
        placer = None
        if budget.devices:
            placer = LevelPlacer(self._planner, subject.planned, subject.tensors, sizes, budget)
            view = replace(view, is_estimate=placer.is_estimate)
        place = placer.place if placer else None
        plans: list[MemoryPlan] = []
        drawn = time.monotonic()
        for context in contexts:
            parameters = ContextParameters(context, choice.kv_type, choice.chats or 1)
            plan = self._planner.plan(subject.planned, parameters)
            plans.append(replace(plan, may_stay=None) if other else plan)  # another computer's limits are unknown
            if placer:
                for size in sizes:
                    placer.place(plan.context, size)
            if time.monotonic() - drawn > _SECONDS_BETWEEN_STAGES and len(plans) < len(contexts):
                yield replace(view, table=fit_table(plans, sizes, contexts, budget, disk_speed, place))
                drawn = time.monotonic()
        table = fit_table(plans, sizes, contexts, budget, disk_speed, place)
        view = replace(view, table=table, kv=_compared(subject, plans, choice.kv_type))
        if other:
            yield view
            return
        speed_of = partial(self._speed, subject)
        with_speeds = table.with_speeds(speed_of)
        yield replace(view, table=with_speeds)
        deadline = time.monotonic() + _SECONDS_FOR_SPEEDS
        while _waits_for_speeds(with_speeds) and time.monotonic() < deadline:
            time.sleep(_SECONDS_FOR_SPEEDS / 10)
            if (known := table.with_speeds(speed_of)) != with_speeds:
                with_speeds = known
                yield replace(view, table=with_speeds)

    def _speed(self, subject: FitSubject, size: LevelSize, cell: FitCell) -> tuple[float, float] | None:
        """Tokens per second that are forecast for a cell on this computer, from and to."""
        if cell.verdict.is_refused:
            return None
        device = cell.plan.context.placement.name
        if path := subject.files.get(size.level):
            forecast = self._forecaster.forecast_file(path, device)
        else:
            kind, use = main_type(size.level), cell.on_cpu.use
            if kind is None:
                return None
            read = size.weight_bytes * (1 - use.unread - use.experts * (1 - use.chosen))
            layers = self._planner.layer_count(subject.planned).layers - 1  # without the output
            work = TokenWork({kind: read}, layers, subject.vocabulary_size)
            forecast = self._forecaster.forecast(work, device)
        return (forecast.low, forecast.high) if forecast else None


def _waits_for_speeds(table: FitTable) -> bool:
    """Whether the processor is still being measured; how fast a GPU is shows only when a model has run there."""
    cells = (cell for row in table.rows for cell in row.cells)
    return any(
        cell.speed is None and not cell.verdict.is_refused and cell.plan.context.placement.is_cpu_only for cell in cells
    )


def _names(subjects: Mapping[str, FitSubject]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{subject.name} · on this computer" if subject.on_disk else subject.name, key)
        for key, subject in subjects.items()
    )


def _in_table(choice: FitChoice, sizes: Sequence[LevelSize], contexts: Sequence[int]) -> FitChoice:
    """The choice with a level and a context of the table: the chosen ones, else the usual ones, else near them."""
    levels = [size.level for size in sizes]
    files = [size.level for size in sizes if size.origin == "file"]
    level = next(name for name in (choice.level, *files, FIRST_LEVEL, *levels) if name in levels)
    wanted = choice.context or FIRST_CONTEXT
    context = max((tokens for tokens in contexts if tokens <= wanted), default=contexts[0])
    return replace(choice, level=level, context=context)


def _compared(subject: FitSubject, plans: Sequence[MemoryPlan], kv_type: KvType) -> KvComparison | None:
    attention = read_attention(subject.hyperparameters)
    if attention is None:
        return None
    contexts = tuple(plan.context.context_size for plan in plans)
    return KvComparison(
        attention,
        contexts,
        tuple(naive_kv_bytes(attention, context, kv_type) for context in contexts),
        tuple(plan.kv_cache + plan.recurrent for plan in plans),
    )
