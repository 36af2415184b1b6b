"""Compares two levels task by task: which answers flipped, and how likely so many flips are by chance alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any


@dataclass(frozen=True)
class PairedComparison:
    """Tasks that only one of two levels passes. p_value: of McNemar's exact test, two-sided; 1 without flips."""

    only_first: tuple[int, ...]
    only_second: tuple[int, ...]

    @property
    def p_value(self) -> float:
        return exact_mcnemar(len(self.only_first), len(self.only_second))


def compare_paired(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> PairedComparison:
    """By the numbers of the tasks that both were given."""
    other = {result["task"]: bool(result["passed"]) for result in second}
    both = [
        (result["task"], bool(result["passed"]), other[result["task"]]) for result in first if result["task"] in other
    ]
    return PairedComparison(
        tuple(task for task, one, two in both if one and not two),
        tuple(task for task, one, two in both if two and not one),
    )


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """The probability of a split at least this uneven if each flip goes either way with one half (binomial test).

    >>> round(exact_mcnemar(8, 1), 4)
    0.0391
    """
    flips, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2.0 * sum(comb(flips, count) for count in range(fewer + 1)) / float(2**flips))
