"""What the Fit tab has to say about a choice: the table of levels and contexts, the simple sum beside it, an answer.

Joins subjects, planner and this computer's memory; draws nothing and knows no component. A slow table comes in stages,
context by context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from playground.app.model_choice import ModelChoice
from playground.errors import PlaygroundError
from playground.fit.kv_formula import Attention, naive_kv_bytes, read_attention
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.fit.subjects import FitSubject, catalogue_subjects, subjects_on_disk
from playground.fit.table import (
    COMPUTERS_GB,
    FitTable,
    LevelSize,
    fit_table,
    ladder,
    table_contexts,
    usable_of,
)
from playground.gguf.levels import DEFAULT_LEVELS, FULL_TABLE_LEVELS, SHORT_TABLE_LEVELS
from playground.llama.params import KV_TYPES, ContextParameters, KvType
from playground.models.hub.names import looks_like_reference
from playground.models.library import Library
from playground.quantize.jobs import QuantizationJobs

THIS: Final = "this"
OTHER: Final = "other"
FIRST_MODEL: Final = "catalogue/gemma4-12b"  # the one that the page's readers have met
FIRST_LEVEL: Final = DEFAULT_LEVELS[0]
FIRST_CONTEXT: Final = 131_072
USUAL_NUMBER_GB: Final = 48.0  # shown when somebody chooses to type a number
LARGEST_COMPUTER_GB: Final = 65_536.0
NO_FILE: Final = Path()  # stands for a model that is not on this disk: nothing loaded can be shared with it
_SECONDS_BETWEEN_STAGES: Final = 0.3
_ASKING: Final = "Asking the Hub for the levels and reading one header …"


@dataclass(frozen=True)
class FitChoice:
    """What a person has picked, None where the playground should choose.

    computer: "this", "other" (then `other_gb` counts), or GB as in COMPUTERS_GB. chats: at once. level and context: of
    the question "what would I need?".
    """

    model: str | None = None
    computer: str = THIS
    other_gb: float = USUAL_NUMBER_GB
    kv_type: KvType = "f16"
    chats: int | None = None
    every_level: bool = False
    level: str | None = None
    context: int | None = None

    @classmethod
    def read(
        cls, model: object, computer: object, other_gb: object, kv_type: object, chats: object, levels: object,
        level: object, context: object,
    ) -> FitChoice:  # fmt: skip
        """The choice as a browser sends it; whatever is no possible value becomes the usual one."""
        known = (THIS, OTHER, *(str(size) for size in COMPUTERS_GB))
        number = float(other_gb) if isinstance(other_gb, int | float) else USUAL_NUMBER_GB
        return cls(
            model=model if isinstance(model, str) else None,
            computer=computer if isinstance(computer, str) and computer in known else THIS,
            other_gb=number if 0 < number <= LARGEST_COMPUTER_GB else USUAL_NUMBER_GB,
            kv_type=kv_type if kv_type in KV_TYPES else "f16",
            chats=chats if isinstance(chats, int) and 1 <= chats <= 64 else None,
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
    """The KV cache of each context reckoned simply, and as llama.cpp will keep it; bytes."""

    attention: Attention
    contexts: tuple[int, ...]
    naive: tuple[int, ...]
    planned: tuple[int, ...]


@dataclass(frozen=True)
class FitView:
    """All that the tab shows. `problem` is a sentence in place of the table; `chats` are the choices there are.

    error: why the model cannot be looked up, where that is the problem.
    """

    choice: FitChoice
    models: tuple[tuple[str, str], ...]  # (what people read, key)
    name: str = ""
    on_disk: bool = False
    table: FitTable | None = None
    kv: KvComparison | None = None
    problem: str = ""
    error: PlaygroundError | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(row.size.level for row in self.table.rows) if self.table else ()


@dataclass(frozen=True)
class CellAction:
    """Where a click on a cell leads: to Chat with a choice, or to words on where the model can be had."""

    chat: ModelChoice | None = None
    problem: str = ""
    remedy: str = ""
    repo: str | None = None


class FitService:
    """Answers the Fit tab of every visitor.

    usable_for: bytes that a load of a file could use here, as the pool will judge it. chats: that a loaded model serves
    at once. elsewhere: further subjects, such as a repository on the Hub whose header has been read. find_elsewhere:
    makes one of them of a name that a person typed, such as owner/repo; returns its key and the level that is meant.
    """

    def __init__(
        self,
        library: Library,
        planner: Planner,
        quantization_jobs: QuantizationJobs | None,
        usable_for: Callable[[Path], int],
        chats: int,
        elsewhere: Callable[[], Sequence[FitSubject]] = tuple,
        find_elsewhere: Callable[[str], tuple[str, str]] | None = None,
    ) -> None:
        self.chats = chats
        self._library = library
        self._planner = planner
        self._quantization_jobs = quantization_jobs
        self._usable_for = usable_for
        self._elsewhere = elsewhere
        self._find_elsewhere = find_elsewhere

    def subjects(self) -> list[FitSubject]:
        """Every model a table can be made of: those on disk, those from elsewhere, the catalogue's others."""
        here = subjects_on_disk(self._library)
        return [*here, *self._elsewhere(), *catalogue_subjects(subject.repo for subject in here if subject.repo)]

    def model_names(self) -> list[tuple[str, str]]:
        """(name to read, key) of every subject."""
        return _names(self.subjects())

    def usable_here(self) -> int:
        """Bytes that a model could use on this computer now."""
        return self._usable_for(NO_FILE)

    def views(self, choice: FitChoice) -> Iterator[FitView]:
        """The view of a choice; before the last one, stages of a table that takes long."""
        subjects = {subject.key: subject for subject in self.subjects()}
        if (
            choice.model
            and choice.model not in subjects
            and self._find_elsewhere
            and looks_like_reference(choice.model)
        ):
            yield FitView(choice, tuple(_names(list(subjects.values()))), choice.model, problem=_ASKING)
            try:
                key, level = self._find_elsewhere(choice.model)
            except PlaygroundError as error:
                names = tuple(_names(list(subjects.values())))
                yield FitView(choice, names, choice.model, problem=str(error), error=error)
                return
            choice = replace(choice, model=key, level=choice.level or level)
            subjects = {subject.key: subject for subject in self.subjects()}
        fallback = FIRST_MODEL if FIRST_MODEL in subjects else next(iter(subjects))
        subject = subjects[choice.model if choice.model in subjects else fallback]
        choice = replace(choice, model=subject.key, chats=choice.chats or self._usual_chats(subject))
        view = FitView(choice, tuple(_names(list(subjects.values()))), subject.name, subject.on_disk)
        try:
            yield from self._tables(view, subject)
        except PlaygroundError as error:
            yield replace(view, problem=str(error))

    def cell_action(self, choice: FitChoice, cell: object) -> CellAction:
        """What a click on the cell "LEVEL|CONTEXT" opens; the browser may send anything."""
        subject = next((subject for subject in self.subjects() if subject.key == choice.model), None)
        level, _, tokens = cell.partition("|") if isinstance(cell, str) else ("", "", "")
        sizes = {size.level: size for size in self._sizes(subject, every_level=True)} if subject else {}
        if subject is None or level not in sizes or not (tokens.isascii() and tokens.isdigit() and len(tokens) < 9):
            return CellAction(problem="That cell is no longer in the table.", remedy="Choose another one.")
        if subject.base_name and not sizes[level].is_estimate:
            return CellAction(ModelChoice(subject.base_name, level, int(tokens) or None, choice.kv_type))
        what = f"{subject.name} at {level} is not on this computer yet."
        if subject.repo is None:
            return CellAction(problem=what, remedy="The tab Models searches the Hub for it.")
        remedy = f"The tab Models can download it from {subject.repo}."
        return CellAction(problem=what, remedy=remedy, repo=subject.repo)

    def _usual_chats(self, subject: FitSubject) -> int:
        """A model on disk is planned as Chat here loads it, another one as its one reader would."""
        return self.chats if subject.on_disk else 1

    def _sizes(self, subject: FitSubject, every_level: bool) -> tuple[LevelSize, ...]:
        levels = FULL_TABLE_LEVELS if every_level else SHORT_TABLE_LEVELS
        known = list(subject.sizes)
        if subject.base_name and self._quantization_jobs:
            source = self._quantization_jobs.source_file(subject.base_name)
            beside_weights = source.size - self._library.whole_header(source).weight_bytes
            makeable = self._quantization_jobs.makeable_levels(
                subject.base_name, [level for level in levels if level != "F16"]
            )
            known += [LevelSize(size.level, size.size - beside_weights, "to be made") for size in makeable.values()]
        return ladder(known, subject.parameter_count, levels)

    def _tables(self, view: FitView, subject: FitSubject) -> Iterator[FitView]:
        choice = view.choice
        gb = choice.computer_gb
        path = subject.planned if isinstance(subject.planned, Path) else NO_FILE
        usable = self._usable_for(path) if gb is None else usable_of(round(gb * (1 << 30)))
        contexts = table_contexts(self._planner.trained_context(subject.planned))
        sizes = self._sizes(subject, choice.every_level)
        view = replace(view, choice=_asked(choice, sizes, contexts))
        plans: list[MemoryPlan] = []
        drawn = time.monotonic()
        for context in contexts:
            parameters = ContextParameters(context, choice.kv_type, choice.chats or 1)
            plans.append(self._planner.plan(subject.planned, parameters))
            if time.monotonic() - drawn > _SECONDS_BETWEEN_STAGES and len(plans) < len(contexts):
                yield replace(view, table=fit_table(plans, sizes, contexts, usable))
                drawn = time.monotonic()
        table = fit_table(plans, sizes, contexts, usable)
        yield replace(view, table=table, kv=_compared(subject, plans, choice.kv_type))


def _names(subjects: Sequence[FitSubject]) -> list[tuple[str, str]]:
    return [
        (f"{subject.name} · on this computer" if subject.on_disk else subject.name, subject.key) for subject in subjects
    ]


def _asked(choice: FitChoice, sizes: Sequence[LevelSize], contexts: Sequence[int]) -> FitChoice:
    """The choice with a level and a context that the table has: as chosen, else the usual ones, else near them."""
    levels = [size.level for size in sizes]
    files = [size.level for size in sizes if size.origin == "file"]
    level = next(iter([name for name in (choice.level, *files, FIRST_LEVEL, *levels) if name in levels]))
    wanted = choice.context or FIRST_CONTEXT
    context = wanted if wanted in contexts else max((one for one in contexts if one <= wanted), default=contexts[0])
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
