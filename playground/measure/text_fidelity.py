"""Reads several texts with a reference once, then with any number of levels, and compares each level with it.

Only one model needs to be in memory at a time: the reference's log-probabilities wait in temporary files. The figures
are those of llama.cpp's perplexity tool, by its definitions, over all scored tokens of the texts and for each text:

- perplexity: exp of the mean negative log-probability of the tokens that really come.
- mean KL divergence: KL(reference || level) over the whole vocabulary, in nats, mean over the tokens.
- its median, 99th percentile (linear between neighbours) and maximum.
- same top token: the share of tokens for which both find the same token most likely.

The error of a mean is its standard error; that of a percentile is half the distance between the two ordered values that
lie one binomial standard deviation to the left and to the right. A maximum has none.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playground.engine.local.client import LocalEngine
from playground.engine.local.lease import ModelLease
from playground.engine.local.pool import ModelPool
from playground.engine.local.scoring.reference_file import row_bytes
from playground.engine.local.scoring.scorer import SPARE_DISK_BYTES
from playground.engine.protocol import BriefScores, Precision, Scored
from playground.llama.params import MOST_SCORED_ROWS, SCORED_ROWS, ContextParameters
from playground.machine.files import free_disk_bytes, unfinished_file
from playground.measure.fidelity import Statistic, mean_with_error, perplexity, proportion
from playground.measure.texts import MeasuredText

WINDOW: Final = 2048  # tokens that are read together; fewer for models trained for less
_READ_AT_ONCE: Final = 256 * 150_000_000  # tokens times bytes of weights that two cores compute in half a second


@dataclass(frozen=True)
class ReadProgress:
    """How many of all tokens of the texts are read. disk_bytes: of the temporary files."""

    done: int
    total: int
    disk_bytes: int


@dataclass(frozen=True)
class TokenFigures:
    """What a level's pass over a text gives, a number for each scored token."""

    category: str
    logprobs: Sequence[float]
    reference_logprobs: Sequence[float]
    divergences: Sequence[float]
    agreements: Sequence[bool]


class ReferenceReading:
    """The reference's scores of the texts; a `with` resource, which deletes its files at the end.

    folder: for the temporary files. precision: 16-bit unless the disk has too little room for it, then "top"; known
    once the reference is being read. A level can be read as soon as the reference has been.
    """

    def __init__(self, pool: ModelPool, texts: Sequence[MeasuredText], folder: Path) -> None:
        self._pool, self._texts, self._folder = pool, texts, folder
        self._files = ExitStack()
        self._paths: list[Path] = []
        self.precision: Precision = "16-bit"
        self._rows = SCORED_ROWS
        self.disk_bytes = 0
        self.is_read = False

    def __enter__(self) -> ReferenceReading:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def read_reference(self, lease: ModelLease) -> Iterator[ReadProgress]:
        """Read all texts with the reference, into files. Raises PlaygroundError for a full disk."""
        self._files.close()
        self._paths = [
            self._files.enter_context(unfinished_file(self._folder / f"{uuid.uuid4().hex}.log-probabilities"))
            for _ in self._texts
        ]
        self._rows = rows_at_once(sum(part.bytes for part in lease.plan.parts if part.kind == "weights"))
        counts = self._count_tokens(lease.engine)
        vocabulary = lease.engine.loaded.vocabulary_size
        needed = sum(counts) * row_bytes("16-bit", vocabulary)
        has_room = free_disk_bytes(self._folder) >= needed + SPARE_DISK_BYTES
        self.precision = "16-bit" if has_room else "top"
        self.disk_bytes = sum(counts) * row_bytes(self.precision, vocabulary)
        for step in self._texts_read(lease, counts, against_reference=False):
            if isinstance(step, ReadProgress):
                yield step
        self.is_read = True

    def read_level(self, lease: ModelLease) -> Iterator[ReadProgress | TokenFigures]:
        """Read all texts with a level: progress, and the TokenFigures at the end of each text.

        Raises RequestRefused where the level has another vocabulary.
        """
        counts = self._count_tokens(lease.engine)
        yield from self._texts_read(lease, counts, against_reference=True)

    def _count_tokens(self, engine: LocalEngine) -> list[int]:
        return [engine.count_tokens(each.text, ((0, len(each.text)),)) for each in self._texts]

    def _texts_read(
        self, lease: ModelLease, counts: Sequence[int], *, against_reference: bool
    ) -> Iterator[ReadProgress | TokenFigures]:
        engine = lease.engine
        window = min(WINDOW, engine.loaded.trained_context)
        chosen = engine.context
        room = ContextParameters.for_scoring(
            min(max(counts), window), chosen.kv_type, chosen.placement, chosen.v_type, self._rows
        )
        self._pool.free_memory_for_scoring(lease, room)
        total, before = sum(counts), 0
        for measured, path, count in zip(self._texts, self._paths, counts, strict=True):
            parts: list[BriefScores] = []
            with engine.start_scoring(
                "", measured.text, path, against_reference=against_reference, window=window, brief=True,
                precision=self.precision, rows=self._rows,
            ) as stream:  # fmt: skip
                for event in stream:
                    if isinstance(event, Scored):
                        parts += [event.brief] if event.brief else []
                        done = before + round(count * event.done / event.total)
                        yield ReadProgress(min(done, total), total, self.disk_bytes)
            before += count
            yield TokenFigures(
                measured.category,
                [value for part in parts for value in part.logprobs],
                [value for part in parts for value in part.reference_logprobs],
                [value for part in parts for value in part.kl_divergences],
                [value for part in parts for value in part.agreements],
            )


def rows_at_once(weight_bytes: int) -> int:
    """How many tokens a model reads at once, in whole tiles of 64: so many that a chat beside it seldom waits longer
    than half a second, on two cores.

    >>> rows_at_once(100_000_000), rows_at_once(270_000_000), rows_at_once(1_100_000_000)
    (256, 128, 64)
    """
    tiles = _READ_AT_ONCE // max(1, weight_bytes * SCORED_ROWS)
    return min(MOST_SCORED_ROWS, max(1, tiles) * SCORED_ROWS)


def fidelity_figures(texts: Sequence[TokenFigures]) -> dict[str, Any]:
    """The figures over all texts, and under `categories` those of each text, by name. Errors end in `_error`."""
    whole = TokenFigures(
        "",
        [value for text in texts for value in text.logprobs],
        [value for text in texts for value in text.reference_logprobs],
        [value for text in texts for value in text.divergences],
        [value for text in texts for value in text.agreements],
    )
    return {**_figures(whole), "categories": [{"category": text.category, **_figures(text)} for text in texts]}


def _figures(tokens: TokenFigures) -> dict[str, Any]:
    ratio = mean_with_error(
        [reference - own for own, reference in zip(tokens.logprobs, tokens.reference_logprobs, strict=True)]
    )
    statistics = {
        "perplexity": perplexity(tokens.logprobs),
        "perplexity_reference": perplexity(tokens.reference_logprobs),
        "log_perplexity_ratio": ratio,
        "kl_divergence": mean_with_error(tokens.divergences),
        "kl_median": percentile(tokens.divergences, 0.5),
        "kl_99": percentile(tokens.divergences, 0.99),
        "kl_maximum": Statistic(max(tokens.divergences), None),
        "top_token_agreement": proportion(tokens.agreements),
    }
    figures: dict[str, Any] = {"tokens": len(tokens.logprobs)}
    for name, statistic in statistics.items():
        figures |= {name: statistic.value, f"{name}_error": statistic.error}
    return figures


def percentile(values: Sequence[float], share: float) -> Statistic:
    """The value below which this share lies, linear between neighbours, as llama.cpp's perplexity tool has it.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5).value
    2.5
    """
    ordered = sorted(values)
    deviation = math.sqrt(len(ordered) * share * (1 - share))

    def value_at(place: float) -> float:
        place = min(max(place, 0.0), len(ordered) - 1.0)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    middle = share * (len(ordered) - 1)
    error = (value_at(middle + deviation) - value_at(middle - deviation)) / 2 if len(ordered) > 1 else None
    return Statistic(value_at(middle), error)
