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

from playground.app.hub import HubService
from playground.app.messages import CLEAR, Notice, StatusMessage, WorkProgress
from playground.app.model_choice import ModelChoice
from playground.app.services import Services
from playground.engine.local.pool import NO_FILE
from playground.errors import PlaygroundError
from playground.fit.kv_formula import Attention, naive_kv_bytes, read_attention
from playground.fit.plan import MemoryPlan
from playground.fit.subjects import FitSubject, catalogue_subjects, subjects_on_disk
from playground.fit.table import COMPUTERS_GB, FitTable, LevelSize, fit_table, ladder, table_contexts, usable_of
from playground.fit.verdict import disk_speed_unknown
from playground.gguf.levels import DEFAULT_LEVELS, FULL_TABLE_LEVELS, SHORT_TABLE_LEVELS
from playground.llama.params import KV_TYPES, ContextParameters, KvType
from playground.machine.disks import disk_read_speed
from playground.models.hub.names import looks_like_reference

THIS: Final = "this"
OTHER: Final = "other"
FIRST_MODEL: Final = "catalogue/gemma4-12b"
FIRST_LEVEL: Final = DEFAULT_LEVELS[0]
FIRST_CONTEXT: Final = 131_072
USUAL_OTHER_GB: Final = 48.0  # shown when a person chooses to type a number
LARGEST_COMPUTER_GB: Final = 65_536.0
MOST_CHATS: Final = 64
_SECONDS_BETWEEN_STAGES: Final = 0.3
_ASKING_THE_HUB: Final = WorkProgress("Asking the Hub for the levels and reading one header …")


@dataclass(frozen=True)
class FitChoice:
    """What a person has picked; None where the playground chooses.

    computer: "this", "other" (then `other_gb` counts), or one of COMPUTERS_GB as text. chats: in parallel. level and
    context: of the question "What would I need?".
    """

    model: str | None = None
    computer: str = THIS
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
        other_gb: object = None,
        kv_type: object = None,
        chats: object = None,
        levels: object = None,
        level: object = None,
        context: object = None,
    ) -> FitChoice:
        """The choice as a browser sends it, which may send anything: an impossible value becomes the default."""
        computers = (THIS, OTHER, *(str(size) for size in COMPUTERS_GB))
        is_size = isinstance(other_gb, int | float) and 0 < other_gb <= LARGEST_COMPUTER_GB
        return cls(
            model=model if isinstance(model, str) else None,
            computer=computer if isinstance(computer, str) and computer in computers else THIS,
            other_gb=float(other_gb) if is_size else USUAL_OTHER_GB,  # type: ignore[arg-type]
            kv_type=next((kind for kind in KV_TYPES if kind == kv_type), "f16"),
            chats=chats if isinstance(chats, int) and 1 <= chats <= MOST_CHATS else None,
            every_level=levels == "eight",
            level=level if isinstance(level, str) else None,
            context=context if isinstance(context, int) and context > 0 else None,
        )

    @property
    def computer_gb(self) -> float | None:
        """The other computer's memory as sold, in powers of 1024; None for this one."""
        if self.computer == THIS:
            return None
        return self.other_gb if self.computer == OTHER else float(self.computer)


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
    usable_here: bytes that a model could use on it now. keeps_mxfp4: whether the model's experts are so at every level.
    message: what stands in place of the table.
    """

    choice: FitChoice
    models: tuple[tuple[str, str], ...]
    host_name: str = "This computer"
    usable_here: int = 0
    name: str = ""
    keeps_mxfp4: bool = False
    table: FitTable | None = None
    kv: KvComparison | None = None
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

    usable_for: the bytes that a load of this file could use here; by default what the pool will judge the load by.
    """

    def __init__(self, services: Services, hub: HubService, *, usable_for: Callable[[Path], int] | None = None) -> None:
        self.chats = services.settings.slots  # in parallel, of a model loaded here
        self.host_name = "This Space" if services.settings.on_space else "This computer"
        self._library = services.library
        self._planner = services.planner
        self._quantization_jobs = services.quantization_jobs
        self._may_quantize = services.settings.allow_quantize
        self._usable_for = usable_for or services.pool.usable_bytes_for
        self._hub = hub

    def model_names(self) -> list[tuple[str, str]]:
        """(name to read, key) of every model on offer."""
        return list(_names(self._subjects()))

    def usable_here(self) -> int:
        """Bytes that a model could use on this computer now."""
        return self._usable_for(NO_FILE)

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
        return FitView(choice, _names(subjects), self.host_name, self.usable_here(), name)

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
        gb = choice.computer_gb
        path = subject.planned if isinstance(subject.planned, Path) else NO_FILE
        usable = self._usable_for(path) if gb is None else usable_of(round(gb * (1 << 30)))
        disk_speed = partial(disk_read_speed, path) if gb is None else disk_speed_unknown
        contexts = table_contexts(self._planner.trained_context(subject.planned))
        sizes = self._sizes(subject, choice.every_level)
        view = replace(view, choice=_in_table(choice, sizes, contexts))
        plans: list[MemoryPlan] = []
        drawn = time.monotonic()
        for context in contexts:
            parameters = ContextParameters(context, choice.kv_type, choice.chats or 1)
            plan = self._planner.plan(subject.planned, parameters)
            plans.append(plan if gb is None else replace(plan, may_stay=None))  # another computer's limits are unknown
            if time.monotonic() - drawn > _SECONDS_BETWEEN_STAGES and len(plans) < len(contexts):
                yield replace(view, table=fit_table(plans, sizes, contexts, usable, disk_speed))
                drawn = time.monotonic()
        table = fit_table(plans, sizes, contexts, usable, disk_speed)
        yield replace(view, table=table, kv=_compared(subject, plans, choice.kv_type))


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
