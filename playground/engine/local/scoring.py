"""Reads texts and tells how likely a model finds each token: alone, or against what another model wrote down before.

Two models are compared without being in memory together: the reference writes its log-probabilities over the whole
vocabulary to a file, the candidate reads the same tokens and that file. Both read in the same chunks, on which the last
digits depend; so a model compared with itself differs by exactly nothing. Knows no pipes and no llama.cpp.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from playground.engine.local.request import TextStream
from playground.engine.protocol import Alternative, Event, Failed, Score, Scored, ScoringEnded, TokenScore
from playground.errors import PlaygroundError, RequestRefused
from playground.llama.params import SCORED_ROWS
from playground.text_format import gibibytes, gibibytes_apart

TOP: Final = 5  # alternatives told with each token
SPARE_DISK_BYTES: Final = 256 << 20  # left free beside the file of log-probabilities
_FLOAT_BYTES: Final = 4

Rows = npt.NDArray[np.float32]


class ReadingContext(Protocol):
    """Where one text is read; llama/scoring_context.py is the real one."""

    def forget(self) -> None: ...
    def read(self, tokens: Sequence[int], position: int, first_wanted: int, threads: int) -> Rows: ...
    def close(self) -> None: ...


class ScoredModel(Protocol):
    """What scoring needs of a loaded model; llama/decoder.py is the real one."""

    vocabulary_size: int

    @property
    def beginning(self) -> tuple[int, ...]: ...
    def tokenize(self, text: str, *, plain: bool = False) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def scoring_context(self, tokens: int) -> Any: ...


@dataclass(frozen=True)
class Window:
    """Tokens read together from an empty cache; every one from `first_scored` (at least 1) on gets a score."""

    tokens: tuple[int, ...]
    first_scored: int

    @property
    def scored(self) -> int:
        return len(self.tokens) - self.first_scored


class Scorer:
    """Serves scoring requests one after the other, a chunk a `step`; call it while `busy`."""

    def __init__(
        self, model: ScoredModel, emit: Callable[[Event], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._waiting: deque[Score] = deque()
        self._current: Score | None = None
        self._steps: Any = None
        self._started = 0.0
        self._threads = 1
        self._file_bytes = 0
        self._vocabulary: str | None = None

    @property
    def busy(self) -> bool:
        return self._current is not None or bool(self._waiting)

    def submit(self, wanted: Score) -> None:
        self._waiting.append(wanted)

    def cancel(self, request: int) -> None:
        """End a request wherever it is; one that is not here is not minded."""
        if self._current and self._current.request == request:
            self._end(ScoringEnded(request, True, self._clock() - self._started, self._file_bytes))
        for wanted in tuple(self._waiting):
            if wanted.request == request:
                self._waiting.remove(wanted)
                self._emit(ScoringEnded(request, True, 0.0, 0))

    def step(self, threads: int) -> None:
        """Read one chunk and tell its scores."""
        self._threads = threads
        if self._current is None:
            self._current = self._waiting.popleft()
            self._started, self._file_bytes = self._clock(), 0
            self._steps = self._scored(self._current)
        request = self._current.request
        try:
            self._emit(next(self._steps))
        except StopIteration:
            self._end(ScoringEnded(request, False, self._clock() - self._started, self._file_bytes))
        except PlaygroundError as error:
            self._end(Failed(request, error.problem, error.remedy))
        except OSError as error:
            self._end(Failed(request, f"The scores cannot be kept on disk: {error.strerror}.", "Free some space."))

    def _end(self, last_word: Event) -> None:
        self._steps.close()  # frees the context and closes the file before anybody hears that it is over
        self._current = self._steps = None
        self._emit(last_word)

    def _scored(self, wanted: Score) -> Iterator[Scored]:
        windows = windows_of(self._model, wanted)
        texts = TextStream()
        done, total = 0, sum(len(window.tokens) - 1 for window in windows)
        last = windows[-1], len(windows[-1].tokens) - 1
        with (
            self._file(wanted, windows) as file,
            closing(self._model.scoring_context(max(len(window.tokens) for window in windows) - 1)) as context,
        ):
            for window in windows:
                context.forget()
                for start, stop in chunks(len(window.tokens) - 1):
                    first = min(max(start, window.first_scored - 1), stop)
                    rows = context.read(window.tokens[start:stop], start, first - start, self._threads)
                    targets = window.tokens[first + 1 : stop + 1]
                    reference = self._exchanged(wanted, file, rows)
                    scores = [self._score(*pair, texts) for pair in zip(targets, rows, reference, strict=True)]
                    if scores and (window, stop) == last:
                        scores[-1] = replace(scores[-1], text=scores[-1].text + texts.finish())
                    done += stop - start
                    yield Scored(wanted.request, done, total, tuple(scores))

    # --- the file of log-probabilities: a line that says what it is about, then rows of 32-bit floats ---

    def _file(self, wanted: Score, windows: Sequence[Window]) -> BinaryIO:
        """Open, its first line written or checked. It must be there: whoever asked made it, and may have removed it."""
        if self._vocabulary is None:
            self._vocabulary = fingerprint(self._model)
        size = self._model.vocabulary_size
        about = {"vocabulary": self._vocabulary, "size": size, "reading": _fingerprint_of_reading(windows)}
        path = Path(wanted.path)
        file: BinaryIO
        if wanted.against_reference:
            file = path.open("rb")
            try:
                _check(json.loads(file.readline()), about)
            except BaseException:
                file.close()
                raise
            return file
        self._file_bytes = sum(window.scored for window in windows) * size * _FLOAT_BYTES
        _refuse_full_disk(path, self._file_bytes)
        file = path.open("r+b")
        file.write(json.dumps(about).encode() + b"\n")
        return file

    def _exchanged(self, wanted: Score, file: BinaryIO, rows: Rows) -> Sequence[Rows | None]:
        """Rows written down for later, or the reference's rows for the same tokens."""
        if not wanted.against_reference:
            file.write(rows.tobytes())
            return [None] * len(rows)
        data = file.read(rows.nbytes)
        if len(data) != rows.nbytes:
            raise PlaygroundError("The reference's scores are incomplete.", "Measure again.")
        self._file_bytes += len(data)
        return list(np.frombuffer(data, dtype=np.float32).reshape(rows.shape))

    # --- one token ---

    def _score(self, token: int, row: Rows, reference: Rows | None, texts: TextStream) -> TokenScore:
        text = texts.feed(self._model.piece(token))
        score = TokenScore(token, text, float(row[token]), self._top(row))
        if reference is None:
            return score
        return replace(
            score,
            reference_logprob=float(reference[token]),
            reference_top=self._top(reference),
            kl_divergence=kl_divergence(reference, row),
            agrees=bool(reference.argmax() == row.argmax()),
        )

    def _top(self, row: Rows) -> tuple[Alternative, ...]:
        likely = np.argpartition(-row, TOP)[:TOP] if len(row) > TOP else np.arange(len(row))
        best = sorted((int(token) for token in likely), key=lambda token: (-row[token], token))
        return tuple(
            Alternative(token, self._model.piece(token).decode("utf-8", "replace"), float(row[token])) for token in best
        )


def kl_divergence(reference: Rows, candidate: Rows) -> float:
    """KL(reference || candidate) in nats, from two rows of log-probabilities over the same vocabulary.

    The rows are 32-bit floats and add up to one only to about 1e-7, so that two nearly equal ones can come out as much
    below zero, where no divergence can be: that is told as 0. Equal rows give exactly 0.
    """
    exact = reference.astype(np.float64)
    probabilities = np.exp(exact)
    possible = probabilities > 0
    return max(0.0, float(np.sum(probabilities[possible] * (exact[possible] - candidate[possible]))))


def windows_of(model: ScoredModel, wanted: Score) -> list[Window]:
    """How a text is read. Raises RequestRefused when nothing of it can be scored.

    A text longer than the window is read in pieces that overlap by half: each token is scored once, and all but those
    of the first piece have at least half a window before them.
    """
    prompt = model.tokenize(wanted.prompt) if wanted.prompt else []
    if isinstance(wanted.continuation, str):
        tokens = model.tokenize(wanted.prompt + wanted.continuation, plain=not wanted.prompt)
        before = sum(1 for _ in _shared(prompt, tokens))  # a token across the border belongs to the continuation
    else:
        tokens, before = [*(prompt or model.beginning), *wanted.continuation], len(prompt)
    if not all(0 <= token < model.vocabulary_size for token in tokens):
        raise RequestRefused(
            f"These tokens are not of this model's vocabulary of {model.vocabulary_size:,}.",
            "Compare two levels of one model.",
        )
    first = max(1, before)
    if len(tokens) <= first:
        raise RequestRefused("There is nothing to score: the text is too short.", "Give a text of a few words or more.")
    longest = max(2, wanted.window or len(tokens))
    opening = tuple(tokens[:1]) if tuple(tokens[:1]) == model.beginning else ()
    windows = [Window(tuple(tokens[: longest + 1]), first)] if first <= longest else []
    scored = max(first, longest + 1)
    while scored < len(tokens):
        start = max(scored - 1 - longest // 2, 0)
        piece = (*opening, *tokens[start : start + longest + 1 - len(opening)])
        windows.append(Window(piece, len(opening) + scored - start))
        scored = start + len(piece) - len(opening)
    return windows


def chunks(length: int) -> list[tuple[int, int]]:
    """The pieces [start, stop) in which `length` tokens are read, always the same.

    Never a single token after others: llama.cpp would divide its attention among the threads, and last digits would
    depend on how many there are.
    """
    borders = [*range(0, length, SCORED_ROWS), length]
    if length > 1 and borders[-1] - borders[-2] == 1:
        borders[-2] -= 1
    return list(pairwise(borders))


def fingerprint(model: ScoredModel) -> str:
    """The same for two models exactly if their vocabularies are: size and pieces, in order."""
    digest = hashlib.sha256()
    for token in range(model.vocabulary_size):
        piece = model.piece(token)
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return digest.hexdigest()


def _fingerprint_of_reading(windows: Sequence[Window]) -> str:
    return hashlib.sha256(json.dumps([(window.tokens, window.first_scored) for window in windows]).encode()).hexdigest()


def _check(written: dict[str, Any], mine: dict[str, Any]) -> None:
    if written["vocabulary"] != mine["vocabulary"]:
        sizes = (
            f"{written['size']:,} and {mine['size']:,} tokens"
            if written["size"] != mine["size"]
            else f"both {mine['size']:,} tokens, but not the same ones"
        )
        raise RequestRefused(
            f"The two models have different vocabularies ({sizes}), so their probabilities cannot be compared.",
            "Choose two levels of one model.",
        )
    if written["reading"] != mine["reading"]:
        raise RequestRefused(
            "The two models divide the text into tokens differently, so they cannot be compared token by token.",
            "Choose two levels of one model.",
        )


def _refuse_full_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed + SPARE_DISK_BYTES:
        needed_text, free_text = gibibytes_apart(needed, free)
        raise PlaygroundError(
            f"The reference's scores take {needed_text} on disk for a while; "
            f"{free_text} are free, and {gibibytes(SPARE_DISK_BYTES)} of them are left alone.",
            "Free some space or measure a shorter text.",
        )


def _shared(one: Sequence[int], other: Sequence[int]) -> Iterator[int]:
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return
        yield mine
