"""How much of a reference model a candidate keeps: both read the same text, and their probabilities are compared.

Not what the two say, but what they find likely at every token: a small loss shows here long before a word changes.
Only one of the two needs to be in memory: the reference's log-probabilities wait in a temporary file for the candidate.
Loads and reads are the pool's and the engine's; here is what is done with the scores.

The statistics are those of llama.cpp's own perplexity tool. What differs from it: it reads a text in windows of 512
tokens and scores the second half of each; here a short text is read in one piece and every token of it is scored.
"""

from __future__ import annotations

import math
import tempfile
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Final, Literal

from playground.chat.comparison import Pane
from playground.chat.conversation import Conversation, fitting_prompt
from playground.chat.template.render import chat_template
from playground.engine.local.client import LocalEngine
from playground.engine.local.pool import ModelLease, ModelPool, Waiting
from playground.engine.protocol import Scored, TokenScore
from playground.engine.remote.protocol import RemoteModel
from playground.errors import RequestRefused
from playground.llama.params import ContextParameters
from playground.machine.files import unfinished_file

__all__ = [
    "AnswerComparison",
    "EstimateWithError",
    "Fidelity",
    "FidelityProgress",
    "TokenScore",
    "measure_fidelity",
    "score_answer",
]

WINDOW: Final = 2048  # tokens that are read together, or what the models were trained for where that is less

Subject = tuple[Path, ContextParameters] | Pane
Phase = Literal["loading the reference", "reading the reference", "loading the candidate", "reading the candidate"]


@dataclass(frozen=True)
class FidelityProgress:
    """What is being done, and how much of that is done; done and total are tokens, 0 while a model loads.

    disk_bytes: what the temporary file will take; 0 until that is known. waiting: why a load has not begun.
    """

    phase: Phase
    fraction: float
    done: int = 0
    total: int = 0
    disk_bytes: int = 0
    waiting: Waiting | None = None


@dataclass(frozen=True)
class EstimateWithError:
    """A figure and its standard error; the error of a single value is not known."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Fidelity:
    """What the candidate keeps of the reference, over the tokens of one text; `tokens` are the candidate's scores.

    Perplexities: exp of the mean negative log-probability. KL divergence: mean over the tokens, of whole vocabularies,
    in nats; 0 for the same model. Agreement: the share of tokens where both find the same next token likeliest.
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


AnswerComparison = Fidelity  # the same figures, over the tokens of one answer


def measure_fidelity(
    pool: ModelPool, reference: Subject, candidate: Subject, text: str, *, folder: Path | None = None
) -> Iterator[FidelityProgress | Fidelity]:
    """FidelityProgress while it works, the Fidelity at the end.

    Closing the iterator stops the work, leaves the engines ready and removes the temporary file, as any error does.
    folder: where that file may be, 4 bytes for each token of the text and each of the vocabulary (200 MB for 1,000
    tokens of 50,000). Raises RequestRefused for an empty text or two vocabularies, PlaygroundError for a full disk,
    and what loading a model raises.
    """
    return _compared(pool, reference, candidate, _Text(text), folder)


def score_answer(
    pool: ModelPool,
    one: Subject,
    other: Subject,
    prompt: str | Conversation,
    answer: str | Sequence[int],
    *,
    folder: Path | None = None,
) -> Iterator[FidelityProgress | AnswerComparison]:
    """How `other` finds every token of the answer that `one` gave: both read it in one pass, `one` as the reference.

    prompt: what the model was given, as a text, or the conversation that ends with the question. answer: best the ids
    of its tokens, because the same text can be divided otherwise. The rest as `measure_fidelity`.
    """
    return _compared(pool, one, other, _Answer(prompt, answer if isinstance(answer, str) else tuple(answer)), folder)


def estimated(values: Sequence[float]) -> EstimateWithError:
    """The mean and its standard error, from the sample's variance."""
    return EstimateWithError(fmean(values), math.sqrt(variance(values) / len(values)) if len(values) > 1 else None)


def perplexity(logprobs: Sequence[float]) -> EstimateWithError:
    """exp of the mean negative log-probability; the error is that of the mean, carried through exp."""
    mean = estimated([-logprob for logprob in logprobs])
    value = math.exp(mean.value)
    return EstimateWithError(value, None if mean.error is None else value * mean.error)


def share(agreements: Sequence[bool]) -> EstimateWithError:
    """How often something was so, with the binomial's standard error."""
    value, count = fmean(agreements), len(agreements)
    return EstimateWithError(value, math.sqrt(value * (1 - value) / (count - 1)) if count > 1 else None)


def fidelity_of(tokens: Sequence[TokenScore]) -> Fidelity:
    """The figures of one text, from the candidate's scores against a reference."""
    own = perplexity([token.logprob for token in tokens])
    reference = perplexity([token.reference_logprob for token in tokens if token.reference_logprob is not None])
    divergence = estimated([token.kl_divergence for token in tokens if token.kl_divergence is not None])
    agreement = share([token.agrees for token in tokens if token.agrees is not None])
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
    """The same for both models. window: tokens read together; None for all."""

    prompt: str
    continuation: str | tuple[int, ...]
    window: int | None


@dataclass(frozen=True)
class _Text:
    text: str

    def reading(self, engine: LocalEngine) -> _Reading:
        return _Reading("", self.text, min(WINDOW, engine.loaded.trained_context))


@dataclass(frozen=True)
class _Answer:
    prompt: str | Conversation
    answer: str | tuple[int, ...]

    def reading(self, engine: LocalEngine) -> _Reading:
        """The conversation in the words in which this model was given it."""
        if isinstance(self.prompt, str):
            return _Reading(self.prompt, self.answer, None)
        loaded = engine.loaded
        template = chat_template(loaded.chat_template, loaded.bos, loaded.eos)
        return _Reading(fitting_prompt(engine, template, self.prompt).text, self.answer, None)


# --- the two passes ---


def _compared(
    pool: ModelPool, reference: Subject, candidate: Subject, what: _Text | _Answer, folder: Path | None
) -> Iterator[FidelityProgress | Fidelity]:
    tokens: list[TokenScore] = []
    for subject in (reference, candidate):
        _place(subject)  # before anything is loaded
    with _temporary_file(folder) as path:
        with (yield from _opened(pool, reference, "loading the reference")) as lease:
            reading = what.reading(lease.engine)
            yield from _read(pool, lease, reading, path, "reading the reference", [])
        with (yield from _opened(pool, candidate, "loading the candidate")) as lease:
            yield from _read(pool, lease, reading, path, "reading the candidate", tokens)
    yield fidelity_of(tokens)


@contextmanager
def _temporary_file(folder: Path | None) -> Iterator[Path]:
    """Locked while this process lives, so that what a crash leaves behind is removed by the next one."""
    place = folder or Path(tempfile.gettempdir()) / "gguf-playground"
    with unfinished_file(place / f"{uuid.uuid4().hex}.log-probabilities") as path:
        yield path


def _opened(pool: ModelPool, subject: Subject, phase: Phase) -> Generator[FidelityProgress, None, ModelLease]:
    path, context = _place(subject)
    with closing(pool.lease_model(path, context, wait_for_memory=True)) as loading:
        while True:
            try:
                progress = next(loading)
            except StopIteration as end:
                lease: ModelLease = end.value
                return lease
            yield FidelityProgress(phase, progress.fraction, waiting=progress.waiting)


def _place(subject: Subject) -> tuple[Path, ContextParameters]:
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
    pool: ModelPool, lease: ModelLease, reading: _Reading, path: Path, phase: Phase, scores: list[TokenScore]
) -> Iterator[FidelityProgress]:
    engine = lease.engine
    continuation = reading.continuation
    length = engine.count_tokens(reading.prompt) + (
        engine.count_tokens(continuation) if isinstance(continuation, str) else len(continuation)
    )
    wanted = ContextParameters.for_scoring(max(1, min(length, reading.window or length)), engine.context.kv_type)
    pool.free_memory_for_scoring(lease, wanted)
    disk_bytes = 0 if reading.window is None else (length - 1) * engine.loaded.vocabulary_size * 4
    against = phase == "reading the candidate"
    with engine.start_scoring(
        reading.prompt, continuation, path, against_reference=against, window=reading.window
    ) as stream:
        for event in stream:
            if isinstance(event, Scored):
                scores += event.scores
                yield FidelityProgress(phase, event.done / event.total, event.done, event.total, disk_bytes)
