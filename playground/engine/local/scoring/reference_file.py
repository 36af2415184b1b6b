"""The file in which a reference model's log-probabilities wait for the models that are compared with it.

It begins with one line of JSON, which says what was read by which vocabulary. Then come the rows, one for each scored
token. How exactly a row is kept decides how large the file is; the four bytes of "exact" for each token of the
vocabulary are 200 MB for 1,000 tokens and a vocabulary of 50,000.

- "exact": 32-bit floats.
- "16-bit": as llama.cpp's perplexity tool keeps them: 65,536 steps between the row's least and largest
  log-probability, where nothing is kept that lies more than 16 below the largest.
- "top": the most likely tokens and the sum of all others. The divergence computed from it is a lower bound, because all
  the others count as one.

Each row also has a digest of its exact floats: a model that gives the same ones differs by exactly nothing, in every
kind of file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from playground.engine.protocol import Precision

Logprobs = npt.NDArray[np.float32]  # one row over the vocabulary: natural logarithms

TOP_KEPT: Final = 512  # tokens of a row of the kind "top"
_RANGE: Final = 16.0  # below the largest log-probability; less is treated as impossible, as llama.cpp's tool does
_STEPS: Final = 65_535
_DIGEST_BYTES: Final = 8
_FACTS: Final = np.dtype(  # least, step: of the kind "16-bit". rest: the mass of all others of the kind "top"
    [
        ("digest", f"V{_DIGEST_BYTES}"),
        ("best", "<i4"),
        ("target", "<f4"),
        ("least", "<f4"),
        ("step", "<f4"),
        ("rest", "<f4"),
    ]
)
_ENTRY: Final = np.dtype([("token", "<i4"), ("logprob", "<f4")])


@dataclass(frozen=True)
class RowComparison:
    """How a model's row differs from the reference's. reference_logprob: of the token that really came.

    kl_divergence: in nats. agrees: whether both find the same token most likely.
    """

    reference_logprob: float
    kl_divergence: float
    agrees: bool


def row_bytes(precision: Precision, vocabulary_size: int) -> int:
    """What one row takes in the file."""
    if precision == "exact":
        return 4 * vocabulary_size
    if precision == "16-bit":
        return _FACTS.itemsize + 2 * vocabulary_size
    return _FACTS.itemsize + min(TOP_KEPT, vocabulary_size) * _ENTRY.itemsize


def pack_row(row: Logprobs, target: int, precision: Precision) -> bytes:
    """The bytes of a row; target: the token that really came."""
    if precision == "exact":
        return row.tobytes()
    facts = np.zeros(1, _FACTS)
    facts["digest"] = np.void(_digest(row))
    best = row.argmax()
    facts["best"], facts["target"] = best, row[target]
    if precision == "16-bit":
        largest = float(row[best])
        least = max(float(row.min()), largest - _RANGE)
        step = (largest - least) / _STEPS or 1.0
        facts["least"], facts["step"] = least, step
        steps = row - np.float32(least)  # each step in place: memory is what takes time
        steps /= np.float32(step)
        steps += np.float32(0.5)
        np.clip(steps, 0, _STEPS, out=steps)
        return bytes(facts.tobytes() + steps.astype("<u2").tobytes())
    kept = min(TOP_KEPT, len(row))
    tokens = np.argpartition(-row, kept - 1)[:kept]
    facts["rest"] = max(0.0, 1.0 - float(np.exp(row[tokens].astype(np.float64)).sum()))
    entries = np.empty(kept, _ENTRY)
    entries["token"], entries["logprob"] = tokens, row[tokens]
    return facts.tobytes() + entries.tobytes()


def compare_row(packed: bytes, row: Logprobs, target: int, precision: Precision) -> RowComparison:
    """A row that `pack_row` made, against another model's row for the same place."""
    if precision == "exact":
        exact = np.frombuffer(packed, dtype=np.float32)
        same = bool(exact.argmax() == row.argmax())
        return RowComparison(float(exact[target]), kl_divergence(exact, row), same)
    (facts,) = np.frombuffer(packed[: _FACTS.itemsize], _FACTS)
    agrees = bool(facts["best"] == row.argmax())
    if facts["digest"].tobytes() == _digest(row):
        divergence = 0.0
    elif precision == "16-bit":
        steps = np.frombuffer(packed, "<u2", offset=_FACTS.itemsize)
        is_cut = facts["step"] * _STEPS >= _RANGE * 0.9999
        reference = steps.astype(np.float32)
        reference *= facts["step"]
        reference += facts["least"]
        probabilities = np.exp(reference)
        if is_cut:
            probabilities *= steps > 0
        divergence = _sum_of(probabilities, reference, row)
    else:
        entries = np.frombuffer(packed, _ENTRY, offset=_FACTS.itemsize)
        divergence = top_divergence(entries["token"], entries["logprob"], float(facts["rest"]), row)
    return RowComparison(float(facts["target"]), max(0.0, divergence), agrees)


def top_divergence(tokens: npt.NDArray[np.int32], reference: Logprobs, rest: float, candidate: Logprobs) -> float:
    """The divergence where only some tokens of the reference are known, and `rest`, the probability of all others.

    All others count as one, so it is at most that over the whole vocabulary. It may be below zero by a rounding error.
    """
    own = candidate[tokens]
    divergence = _sum_of(np.exp(reference), reference, own)
    own_rest = 1.0 - float(np.exp(own.astype(np.float64)).sum())
    return divergence + (rest * float(np.log(rest / max(own_rest, 1e-9))) if rest > 1e-6 else 0.0)


def kl_divergence(reference: Logprobs, candidate: Logprobs) -> float:
    """KL(reference || candidate) in nats, from two rows of log-probabilities over the same vocabulary.

    The rows are 32-bit floats and add up to one only to about 1e-7. So two nearly equal rows can give a result that far
    below zero, which no divergence can be: it becomes 0. Equal rows give exactly 0.
    """
    return max(0.0, _sum_of(np.exp(reference), reference, candidate))


def _sum_of(probabilities: Logprobs, reference: Logprobs, candidate: Logprobs) -> float:
    """The sum of p log(p / q), in double precision. A token that the reference finds impossible adds nothing."""
    with np.errstate(invalid="ignore"):  # two impossible ones have no difference
        terms = reference - candidate
        terms *= probabilities
    total = float(terms.sum(dtype=np.float64))
    return total if not np.isnan(total) else float(terms[probabilities > 0].sum(dtype=np.float64))


@lru_cache(maxsize=4)
def _factors(count: int) -> npt.NDArray[np.uint64]:
    """Odd numbers of 64 bits, the same in every process."""
    drawn: npt.NDArray[np.uint64] = np.random.default_rng(count).integers(0, 1 << 63, count, dtype=np.uint64)
    return np.asarray(2 * drawn + 1, np.uint64)


def _digest(row: Logprobs) -> bytes:
    """Of the exact floats: their bits, two at a time, times fixed numbers, added up. A tenth of the time of SHA-1, and
    nobody gains by rows that are alike."""
    pairs = np.ascontiguousarray(row if len(row) % 2 == 0 else np.append(row, np.float32(0))).view(np.uint64)
    return bytes(np.dot(pairs, _factors(len(pairs))).tobytes())
