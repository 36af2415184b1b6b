"""One side of a comparison: what is asked of which model, what it tells on the way, and what came of it.

Values only; compare.py brings them about, differences.py weighs them against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from playground.chat.conversation import Conversation, ReplyUpdate
from playground.engine.local.pool import Waiting
from playground.engine.protocol import Finished, Memory, Sampling, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.models.library import ModelFile

Mode = Literal["in turn", "at once"]
TurnsReason = Literal["no room for both", "one model"]


@dataclass(frozen=True)
class Pane:
    """Its model, and its own history, which ends with the question.

    file: on this computer, or a model that a server runs; a server has its own context, which is None here.
    """

    file: ModelFile | RemoteModel
    context: ContextParameters | None
    conversation: Conversation = field(default_factory=Conversation)


@dataclass(frozen=True)
class PaneResult:
    """What a pane answered, and the figures of it.

    conversation: with the reply. tokens: in order, each with its log-probability and the top alternatives; the token
    that ends a text is not among them, but in `finished`. plan and measured: bytes. sampling: with the seed that was
    used. left_out: the oldest messages that had no room in the prompt. mode: how it was really made; at once the cores
    were shared, so that its speeds are not the model's own. Memory and vocabulary are None where a server has them.
    """

    conversation: Conversation
    finished: Finished
    plan: MemoryPlan | None
    measured: Memory | None
    tokens: tuple[Token, ...]
    sampling: Sampling
    mode: Mode
    left_out: int
    vocabulary_size: int | None

    @property
    def is_remote(self) -> bool:
        """Whether a server answered."""
        return self.vocabulary_size is None


@dataclass(frozen=True)
class PaneUpdate:
    """What is new of the pane with this index: one of the other fields is set, beside `loading` perhaps `waiting`."""

    pane: int
    loading: float | None = None  # the fraction of the load that is done; told again while there is no news
    waiting: Waiting | None = None  # why the load has not begun
    reply: ReplyUpdate | None = None  # the growing text; `.finished` at its end
    gave_way: bool = False  # this pane's model was unloaded, so that another pane's could load
    takes_turns: TurnsReason | None = None  # at once was asked for, and why the panes answer in turn all the same
    failed: PlaygroundError | None = None  # this pane ends here; the others go on
    result: PaneResult | None = None  # the last word of a pane that finished


Figure = Literal[
    "generation_speed", "prompt_speed", "time_to_first_token", "memory_planned", "memory_measured",
    "tokens", "finish_reason",
]  # fmt: skip
Value = float | int | str | None


@dataclass(frozen=True)
class Spread:
    """How far the figures of one model are apart when it is asked the same twice, as shares of the larger figure.

    The defaults stand until a control has measured it: two runs on an otherwise idle computer seldom differ by more.
    Reading a short prompt and waiting for the first token take a moment only, so that chance weighs more there.
    """

    generation_speed: float = 0.05
    prompt_speed: float = 0.1
    time_to_first_token: float = 0.1
    memory: float = 0.02
    is_measured: bool = False


@dataclass(frozen=True)
class DifferenceRow:
    """One figure of each pane: speeds in tokens per second, times in seconds, memory in bytes; None is unknown.

    better: the pane that is better than every other by more than the spread; None where chance could do as much, and
    for figures of which none is better, such as the number of tokens.
    """

    figure: Figure
    values: tuple[Value, ...]
    better: int | None


def differences(results: Sequence[PaneResult | None], spread: Spread | None = None) -> tuple[DifferenceRow, ...]:
    """All figures of the panes, in the order of `Figure`; a pane without a result has no values."""
    spread = spread or Spread()
    alone = all(result.mode == "in turn" for result in results if result)
    rows = []
    for figure, value in _VALUES.items():
        values = tuple(value(result) if result else None for result in results)
        share = _share(figure, spread)
        true = alone or figure.startswith("memory")
        rows.append(
            DifferenceRow(figure, values, None if share is None or not true else _better(figure, values, share))
        )
    return tuple(rows)


def spread_of(results: Sequence[PaneResult]) -> Spread:
    """What a control shows: the same model asked the same, twice or more.

    Never less than the usual: that two runs came out alike by luck does not make a small difference mean more.
    """
    usual = Spread()
    seen = {
        "generation_speed": _apart([_VALUES["generation_speed"](result) for result in results]),
        "prompt_speed": _apart([_VALUES["prompt_speed"](result) for result in results]),
        "time_to_first_token": _apart([_VALUES["time_to_first_token"](result) for result in results]),
        "memory": _apart([_VALUES["memory_measured"](result) for result in results]),
    }
    shares = {name: max(share, getattr(usual, name)) for name, share in seen.items()}
    return Spread(**shares, is_measured=True)


_VALUES: Final[dict[Figure, Callable[[PaneResult], Value]]] = {
    "generation_speed": lambda result: result.finished.timings.generation_speed,
    "prompt_speed": lambda result: result.finished.timings.prompt_speed,
    "time_to_first_token": lambda result: result.finished.timings.time_to_first_token,
    "memory_planned": lambda result: result.plan.total if result.plan else None,
    "memory_measured": lambda result: result.measured.resident if result.measured else None,
    "tokens": lambda result: result.finished.timings.generated_tokens,
    "finish_reason": lambda result: result.finished.reason,
}
_MORE_IS_BETTER: Final = ("generation_speed", "prompt_speed")


def _share(figure: Figure, spread: Spread) -> float | None:
    """The share by which two values of a figure must differ; None where neither is better."""
    if figure == "memory_planned":
        return 0.0  # the same plan for the same file, to the byte
    if figure == "memory_measured":
        return spread.memory
    return getattr(spread, figure) if figure in {field.name for field in fields(spread)} else None


def _better(figure: Figure, values: Sequence[Value], share: float) -> int | None:
    known = [(value, index) for index, value in enumerate(values) if isinstance(value, int | float)]
    if len(known) < 2:
        return None
    known.sort(reverse=figure in _MORE_IS_BETTER, key=lambda pair: pair[0])
    (best, index), (second, _) = known[:2]
    return index if _apart([best, second]) > share else None


def _apart(values: Sequence[Value]) -> float:
    """How far the known values are apart, as a share of the largest; 0 where there are fewer than two."""
    known = [value for value in values if isinstance(value, int | float)]
    largest = max(known, default=0)
    return (largest - min(known)) / largest if len(known) > 1 and largest > 0 else 0.0
