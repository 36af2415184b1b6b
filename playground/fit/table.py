"""The table of levels and contexts: what each pair would need, and whether a computer has it.

Plans and sizes come in, verdicts come out. The one idea: the weights depend on the level alone, everything else on the
context alone, so one plan for each context serves every level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.fit.budget import Budget
from playground.fit.plan import MemoryPlan
from playground.fit.planner import PlacedPlan
from playground.fit.verdict import DiskSpeed, Verdict, context_steps, disk_speed_unknown, judge
from playground.gguf.levels import find_level
from playground.llama.params import ContextParameters, Placement
from playground.models.catalog import CatalogModel, load_catalog

FIRST_CONTEXT: Final = 4096  # tokens; smaller ones need hardly less, and only models with a small context show them

# An assumption, said on the page wherever it is used: what a desktop system, its services and a browser with a few tabs
# hold when somebody sits down to chat. A bare server keeps less, a heavily used laptop more.
SYSTEM_KEEPS_BYTES: Final = 3_000_000_000
_NEAR: Final = 4  # times: models whose numbers of weights differ by less are of about one size
_FEWEST_MODELS: Final = 4  # of about one size, for a band; with fewer, all models count
COMPUTERS_GB: Final = (8, 16, 24, 32, 64, 128)  # as sold: powers of 1024


@dataclass(frozen=True)
class LevelSize:
    """The weights of a model at one level, in bytes.

    origin: a file, one that could be made here from a file, what llama.cpp's quantizer answers for the model's tensors,
    or an estimate from the number of weights. For an estimate, `weight_bytes` is the most that it may be, so that no
    verdict is too good, and `least_bytes` the least. held: the file lies in memory already (tmpfs).
    """

    level: str
    weight_bytes: int
    origin: Literal["file", "to be made", "computed", "estimate"] = "file"
    held: bool = False
    least_bytes: int | None = None

    @property
    def is_estimate(self) -> bool:
        return self.origin == "estimate"

    @property
    def opens_in_chat(self) -> bool:
        """Whether it is here, or can be made here."""
        return self.origin in ("file", "to be made")


@dataclass(frozen=True)
class FitCell:
    """One level with one context.

    plan: where it would run. on_cpu: the same model on the CPU alone. where: in words; "" on a computer without a GPU.
    reason: why there, as a sentence.
    gpu_share: of the layers, from 0 to 1. speed: tokens per second from and to, at the beginning of a chat; None where
    it is not known.
    """

    plan: MemoryPlan
    verdict: Verdict
    on_cpu: MemoryPlan
    where: str = ""
    reason: str = ""
    gpu_share: float = 0.0
    speed: tuple[float, float] | None = None


@dataclass(frozen=True)
class FitRow:
    """One level with every context that has been planned so far."""

    size: LevelSize
    cells: tuple[FitCell, ...]


@dataclass(frozen=True)
class FitTable:
    """Rows from large to small levels over `contexts` in tokens, judged for a computer with this budget.

    While planning goes on, rows have fewer cells than there are contexts.
    """

    contexts: tuple[int, ...]
    rows: tuple[FitRow, ...]
    budget: Budget

    @property
    def usable(self) -> int:
        """Bytes of the computer's own memory."""
        return self.budget.usable

    @property
    def is_complete(self) -> bool:
        return all(len(row.cells) == len(self.contexts) for row in self.rows)

    def with_speeds(self, speed_of: Callable[[LevelSize, FitCell], tuple[float, float] | None]) -> FitTable:
        """The same with what `speed_of` says of each cell."""
        rows = tuple(
            replace(row, cells=tuple(replace(cell, speed=speed_of(row.size, cell)) for cell in row.cells))
            for row in self.rows
        )
        return replace(self, rows=rows)

    def cell(self, level: str, context: int) -> FitCell | None:
        """The cell of that level and context; None where the table has none."""
        for row in self.rows:
            if row.size.level == level:
                return dict(zip(self.contexts, row.cells, strict=False)).get(context)
        return None


def estimated_size(parameter_count: int, level: str) -> LevelSize | None:
    """The band of the weights at a level of a model of which only the number of weights is known.

    Parameters x the level's usual bits, times the least and the greatest factor by which the catalogue's models of
    about that size are off. Models whose experts stay MXFP4 are left out. None for a level that is not known.
    """
    row = find_level(level)
    if row is None or parameter_count < 1:
        return None
    nominal = parameter_count * row.bits_per_weight / 8
    factors = [
        model.weight_bytes[row.name] / (model.parameter_count * row.bits_per_weight / 8)
        for model in _models_of_about(parameter_count)
        if row.name in model.weight_bytes
    ] or [1.0]
    least, most = round(nominal * min(factors)), round(nominal * max(factors))
    return LevelSize(level, most, "estimate", least_bytes=least)


def _models_of_about(parameter_count: int) -> list[CatalogModel]:
    known = [model for model in load_catalog() if not model.keeps_mxfp4]
    near = [model for model in known if parameter_count / _NEAR <= model.parameter_count <= parameter_count * _NEAR]
    return near if len(near) >= _FEWEST_MODELS else known


def ladder(known: Iterable[LevelSize], parameter_count: int, levels: Sequence[str]) -> tuple[LevelSize, ...]:
    """Every size that is known, and estimates for those of `levels` that are not; from large to small.

    parameter_count: 0 where it is not known; then nothing is estimated.
    """
    exact = tuple(known)
    missing = [level for level in levels if level not in {size.level for size in exact}]
    estimates = [size for level in missing if (size := estimated_size(parameter_count, level))]
    return tuple(sorted((*exact, *estimates), key=lambda size: size.weight_bytes, reverse=True))


def table_contexts(trained_context: int) -> tuple[int, ...]:
    """4096, 8192 and so on, the trained context last; from 2048 on where that would leave fewer than three."""
    steps = context_steps(trained_context)
    usual = tuple(step for step in steps if step >= FIRST_CONTEXT)
    return usual if len(usual) > 2 else steps


def fit_table(
    plans: Sequence[MemoryPlan],
    sizes: Sequence[LevelSize],
    contexts: Sequence[int],
    budget: Budget | int,
    disk_speed: DiskSpeed = disk_speed_unknown,
    place: Callable[[ContextParameters, LevelSize], PlacedPlan] | None = None,
) -> FitTable:
    """Every level with every context of `plans`, which are those of the first contexts, in order, on the CPU alone.

    place: where a level would run; needed where the budget has GPUs. The weights of the plans do not count: each row
    brings its own. Which part of them llama.cpp copies is left out, because it changes no verdict: a copy takes the
    place of what it was copied from.
    """
    budget = Budget(budget) if isinstance(budget, int) else budget

    def cell(plan: MemoryPlan, size: LevelSize) -> FitCell:
        on_cpu = plan.with_weights(size.weight_bytes, held=size.held)
        if place is None or not budget.devices:
            return FitCell(on_cpu, judge(on_cpu, budget, disk_speed=disk_speed), on_cpu)
        placed = place(plan.context, size)
        placed_plan = replace(placed.plan, may_stay=plan.may_stay)
        verdict = judge(placed_plan, budget, disk_speed=disk_speed)
        where = "" if verdict.is_refused else where_it_runs(placed_plan.context.placement, placed.plan.layers)
        return FitCell(placed_plan, verdict, on_cpu, where, placed.reason, gpu_share(placed_plan, placed.plan.layers))

    rows = tuple(FitRow(size, tuple(cell(plan, size) for plan in plans)) for size in sizes)
    return FitTable(tuple(contexts), rows, budget)


def gpu_share(plan: MemoryPlan, layers: int) -> float:
    """Of the layers, how many are on GPUs; layers whose experts are in RAM count as the part of the weights there."""
    placement = plan.context.placement
    if placement.is_cpu_only:
        return 0.0
    if placement.experts_in_ram:
        return 1 - plan.weights / max(1, plan.all_weights)
    return sum(placement.layers_of(name, layers) for name in placement.devices) / max(1, layers)


def where_it_runs(placement: Placement, layers: int) -> str:
    """`all on the GPU`, `31 of 48 layers`, `RAM only`; layers: with the output."""
    if placement.is_cpu_only:
        return "RAM only"
    if 0 <= placement.gpu_layers < layers:
        return f"{placement.gpu_layers} of {layers} layers"
    if placement.experts_in_ram:
        return f"experts of {placement.experts_in_ram} in RAM"
    return "all on the GPU" if len(placement.devices) == 1 else f"all on {len(placement.devices)} GPUs"


def usable_of(memory_bytes: int) -> int:
    """What a computer with so much memory can give to a model, when the system keeps its share."""
    return max(0, memory_bytes - SYSTEM_KEEPS_BYTES)


@dataclass(frozen=True)
class ComputerNeed:
    """The computers that would do, in GB as sold; None where none of those on offer does."""

    enough: int | None  # the smallest on which it runs
    comfortable: int | None  # the smallest on which other programs have room too


def computers_for(plan: MemoryPlan) -> ComputerNeed:
    """The smallest of the usual computers for a plan."""
    elsewhere = replace(plan, may_stay=None)
    verdicts = [(size, judge(elsewhere, usable_of(size << 30)).kind) for size in COMPUTERS_GB]
    return ComputerNeed(
        next((size for size, kind in verdicts if kind in ("fits", "tight")), None),
        next((size for size, kind in verdicts if kind == "fits"), None),
    )
