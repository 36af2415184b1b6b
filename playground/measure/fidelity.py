"""Scores an answer of one model by another, token by token: perplexity, KL divergence and top-token agreement.

Both models read the same tokens, and their probabilities for each next one are compared; a small loss shows here long
before an answer changes. The two need not be in memory together: the reference's log-probabilities are kept in a
temporary file until the candidate is loaded. Whole texts are read by text_fidelity.py.
"""

from __future__ import annotations

import math
import tempfile
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Literal

from playground.chat.comparison import Pane
from playground.chat.conversation import Conversation, fitting_prompt
from playground.engine.local.client import LocalEngine
from playground.engine.local.lease import ModelLease
from playground.engine.local.load_queue import Waiting
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Scored, TokenScore
from playground.engine.remote.protocol import RemoteModel
from playground.errors import RequestRefused
from playground.llama.control_tokens import Span
from playground.llama.params import ContextParameters
from playground.machine.files import unfinished_file
from playground.steps import Steps

ScoredModel = tuple[Path, ContextParameters] | Pane
FidelityPhase = Literal[
    "loading the reference", "reading the reference", "loading the candidate", "reading the candidate"
]


@dataclass(frozen=True)
class FidelityProgress:
    """The current phase and the fraction of it that is done. done, total: tokens; 0 while a model loads.

    waiting: why a load has not begun.
    """

    phase: FidelityPhase
    fraction: float
    done: int = 0
    total: int = 0
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Statistic:
    """A figure and its standard error; None for the error of a single value."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Fidelity:
    """How the candidate compares with the reference over the tokens of one text. tokens: the candidate's scores.

    perplexity: exp of the mean negative log-probability. kl_divergence: in nats, over the whole vocabulary, mean over
    the tokens; 0 for the same model. top_token_agreement: the fraction of tokens for which both models have the same
    most likely token.
    """

    perplexity_reference: float
    perplexity_reference_error: float | None
    perplexity: float
    perplexity_error: float | None
    kl_divergence: float
    kl_divergence_error: float | None
    top_token_agreement: float
    top_token_agreement_error: float | None
    tokens: tuple[TokenScore, ...]


def score_answer(
    pool: ModelPool,
    one: ScoredModel,
    other: ScoredModel,
    prompt: str | Conversation,
    answer: str | Sequence[int],
    *,
    folder: Path | None = None,
) -> Iterator[FidelityProgress | Fidelity]:
    """Score each token of an answer of `one` by `other`: both read it in one pass, `one` as the reference.

    Yields FidelityProgress, and Fidelity at the end. Closing the iterator stops the work and deletes the temporary
    file, as does any error.
    prompt: what the model was given, or the conversation that ends with the question. answer: preferably its token ids,
    because the same text can be tokenized in several ways. folder: for the temporary file, which takes 4 bytes for each
    token of the answer times each of the vocabulary (200 MB for 1,000 tokens and a vocabulary of 50,000).
    Raises RequestRefused for an empty answer or different vocabularies, PlaygroundError for a full disk, and what
    loading a model raises.
    """
    for subject in (one, other):
        _place(subject)  # before anything is loaded
    continuation = answer if isinstance(answer, str) else tuple(answer)
    with _temporary_file(folder) as path:
        with (yield from _lease_model(pool, one, "loading the reference")) as lease:
            reading = _reading(lease.engine, prompt, continuation)
            yield from _read(pool, lease, reading, path, "reading the reference", [])
        tokens: list[TokenScore] = []
        with (yield from _lease_model(pool, other, "loading the candidate")) as lease:
            yield from _read(pool, lease, reading, path, "reading the candidate", tokens)
        yield fidelity_of(tokens)


def mean_with_error(values: Sequence[float]) -> Statistic:
    """The mean and its standard error, from the sample variance."""
    return Statistic(fmean(values), math.sqrt(variance(values) / len(values)) if len(values) > 1 else None)


def perplexity(logprobs: Sequence[float]) -> Statistic:
    """exp of the mean negative log-probability; the error of the mean is propagated through exp."""
    mean = mean_with_error([-logprob for logprob in logprobs])
    value = math.exp(mean.value)
    return Statistic(value, None if mean.error is None else value * mean.error)


def proportion(agreements: Sequence[bool]) -> Statistic:
    """The fraction that is True, with the standard error of a binomial proportion."""
    value, count = fmean(agreements), len(agreements)
    return Statistic(value, math.sqrt(value * (1 - value) / (count - 1)) if count > 1 else None)


def fidelity_of(tokens: Sequence[TokenScore]) -> Fidelity:
    """The figures of one text, from the candidate's scores against a reference."""
    own = perplexity([token.logprob for token in tokens])
    reference = perplexity([token.reference_logprob for token in tokens if token.reference_logprob is not None])
    divergence = mean_with_error([token.kl_divergence for token in tokens if token.kl_divergence is not None])
    agreement = proportion([token.agrees for token in tokens if token.agrees is not None])
    return Fidelity(
        perplexity_reference=reference.value,
        perplexity_reference_error=reference.error,
        perplexity=own.value,
        perplexity_error=own.error,
        kl_divergence=divergence.value,
        kl_divergence_error=divergence.error,
        top_token_agreement=agreement.value,
        top_token_agreement_error=agreement.error,
        tokens=tuple(tokens),
    )


# --- what is read ---


@dataclass(frozen=True)
class _Reading:
    """What both models read. literal: as in protocol.ReplyRequest."""

    prompt: str
    continuation: str | tuple[int, ...]
    literal: tuple[Span, ...] = ()


def _reading(engine: LocalEngine, prompt: str | Conversation, answer: str | tuple[int, ...]) -> _Reading:
    """A conversation as this model's chat template renders it."""
    if isinstance(prompt, str):
        return _Reading(prompt, answer)
    _, rendered = fitting_prompt(engine, prompt)
    return _Reading(rendered.text, answer, rendered.literal)


# --- the two passes ---


@contextmanager
def _temporary_file(folder: Path | None) -> Iterator[Path]:
    """Locked by this process, so that the next one can delete what a crash leaves behind."""
    place = folder or Path(tempfile.gettempdir()) / "gguf-playground"
    with unfinished_file(place / f"{uuid.uuid4().hex}.log-probabilities") as path:
        yield path


def _lease_model(
    pool: ModelPool, subject: ScoredModel, phase: FidelityPhase
) -> Generator[FidelityProgress, None, ModelLease]:
    path, context = _place(subject)
    with Steps(pool.lease_model(path, context, wait_for_memory=True)) as loading:
        for progress in loading:
            yield FidelityProgress(phase, progress.fraction, waiting=progress.waiting)
        return loading.result


def _place(subject: ScoredModel) -> tuple[Path, ContextParameters]:
    """The file and its context; raises RequestRefused for a server's model."""
    if not isinstance(subject, Pane):
        return subject
    if isinstance(subject.file, RemoteModel) or subject.context is None:
        raise RequestRefused(
            f"{subject.file.display_name} runs {subject.file.level}, and a server does not tell how likely it finds "
            "a text that it is given.",
            "Compare two models of this computer to see their agreement token by token.",
        )
    return subject.file.path, subject.context


def _read(
    pool: ModelPool, lease: ModelLease, reading: _Reading, path: Path, phase: FidelityPhase, scores: list[TokenScore]
) -> Iterator[FidelityProgress]:
    engine = lease.engine
    continuation = reading.continuation
    length = engine.count_tokens(reading.prompt, reading.literal) + (
        engine.count_tokens(continuation) if isinstance(continuation, str) else len(continuation)
    )
    chosen = engine.context
    wanted = ContextParameters.for_scoring(max(1, length), chosen.kv_type, chosen.placement, chosen.v_type)
    pool.free_memory_for_scoring(lease, wanted)
    against = phase == "reading the candidate"
    with engine.start_scoring(
        reading.prompt,
        continuation,
        path,
        against_reference=against,
        window=None,
        literal=reading.literal,
    ) as stream:
        for event in stream:
            if isinstance(event, Scored):
                scores += event.scores
                yield FidelityProgress(phase, event.done / event.total, event.done, event.total)
