"""The figures of several answers side by side, and which is better by more than a repetition would show.

Pure functions of results; starts no clock. Speeds made at once are not the models' own, because the cores were shared,
and so none of them is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal

from playground.chat.pane import PaneResult

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
