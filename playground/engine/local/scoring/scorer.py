"""Scores texts: how likely a model finds each token, alone or compared with a reference model.

The two models need not be in memory together. The reference writes its log-probabilities over the whole vocabulary to a
file; the candidate reads the same tokens and that file. Both read in the same chunks, because the last digits depend on
them. So a model compared with itself differs by exactly nothing.

llama.cpp is behind two protocols, so that tests can score without a model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise, repeat, takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from playground.engine.local.request import TextStream
from playground.engine.local.scoring.reference_file import compare_row, kl_divergence, pack_row, row_bytes
from playground.engine.local.scoring.sent_tops import SentTops
from playground.engine.protocol import (
    Alternative,
    BriefScores,
    Event,
    Failed,
    Score,
    Scored,
    ScoringEnded,
    TokenScore,
)
from playground.errors import PlaygroundError, RequestRefused
from playground.llama.control_tokens import Span
from playground.text_format import gigabytes

TOP: Final = 5  # alternatives in each TokenScore
SPARE_DISK_BYTES: Final = 256 << 20  # left free beside the file of log-probabilities

Logprobs = npt.NDArray[np.float32]  # one row over the vocabulary, or several


class ReadingContext(Protocol):
    """Where one text is read; llama/scoring_context.py is the real one."""

    def clear_kv_cache(self) -> None: ...
    def read_log_probabilities(
        self, tokens: Sequence[int], position: int, first_wanted: int, threads: int
    ) -> Logprobs: ...
    def close(self) -> None: ...


class ScoredModel(Protocol):
    """What scoring needs of a loaded model; llama/model.py is the real one."""

    vocabulary_size: int

    @property
    def beginning(self) -> tuple[int, ...]: ...
    def tokenize(self, text: str, literal: Sequence[Span] = (), *, plain: bool = False) -> list[int]: ...
    def token_to_piece(self, token: int) -> bytes: ...
    def scoring_context(self, tokens: int, rows: int) -> ReadingContext: ...


@dataclass(frozen=True)
class Window:
    """Tokens that are read together from an empty cache. Every one from `first_scored` (at least 1) on gets a score."""

    tokens: tuple[int, ...]
    first_scored: int

    @property
    def scored_count(self) -> int:
        return len(self.tokens) - self.first_scored


class Scorer:
    """Serves scoring requests one after the other. Call `run_step`, which reads one chunk, while `is_busy`."""

    def __init__(self, model: ScoredModel, emit: Callable[[Event], None]) -> None:
        self._model = model
        self._emit = emit
        self._queue: deque[Score] = deque()
        self._current: Score | None = None
        self._steps: Any = None
        self._started = 0.0
        self._threads = 1
        self._file_bytes = 0
        self._vocabulary: str | None = None

    @property
    def is_busy(self) -> bool:
        return self._current is not None or bool(self._queue)

    def add_request(self, command: Score) -> None:
        self._queue.append(command)

    def cancel_request(self, number: int) -> None:
        """End a request, queued or running. An unknown one is ignored."""
        if self._current and self._current.request == number:
            self._end(ScoringEnded(number, True, time.perf_counter() - self._started, self._file_bytes))
        for command in tuple(self._queue):
            if command.request == number:
                self._queue.remove(command)
                self._emit(ScoringEnded(number, True, 0.0, 0))

    def run_step(self, threads: int) -> None:
        """Read one chunk and emit its scores."""
        self._threads = threads
        if self._current is None:
            self._current = self._queue.popleft()
            self._started, self._file_bytes = time.perf_counter(), 0
            self._steps = self._score_text(self._current)
        number = self._current.request
        try:
            self._emit(next(self._steps))
        except StopIteration:
            self._end(ScoringEnded(number, False, time.perf_counter() - self._started, self._file_bytes))
        except PlaygroundError as error:
            self._end(Failed(number, error.problem, error.remedy))
        except OSError as error:
            self._end(Failed(number, f"The scores cannot be kept on disk: {error.strerror}.", "Free some space."))

    def _end(self, last_event: Event) -> None:
        self._steps.close()  # frees the context and closes the file before the last event is sent
        self._current = self._steps = None
        self._emit(last_event)

    def _score_text(self, command: Score) -> Iterator[Scored]:
        windows = divide_text(self._model, command)
        texts = TextStream()
        done, total = 0, sum(len(window.tokens) - 1 for window in windows)
        last = windows[-1], len(windows[-1].tokens) - 1
        sent = self._sent_tops(command, windows[0])
        longest = max(len(window.tokens) for window in windows)
        with (
            self._open_file(command, windows) as file,
            closing(self._model.scoring_context(longest - 1, command.rows)) as context,
        ):
            for window in windows:
                context.clear_kv_cache()
                for start, stop in chunks(len(window.tokens) - 1, command.rows):
                    first = min(max(start, window.first_scored - 1), stop)
                    rows = context.read_log_probabilities(
                        window.tokens[start:stop], start, first - start, self._threads
                    )
                    targets = window.tokens[first + 1 : stop + 1]
                    done += stop - start
                    if command.brief:
                        brief = self._score_briefly(command, file, targets, rows)
                        yield Scored(command.request, done, total, (), brief)
                        continue
                    reference = self._write_or_read_rows(command, file, rows)
                    scores = [self._score(*rest, texts, sent) for rest in zip(targets, rows, reference, strict=True)]
                    if scores and (window, stop) == last:
                        scores[-1] = replace(scores[-1], text=scores[-1].text + texts.finish_text())
                    yield Scored(command.request, done, total, tuple(scores))

    def _score_briefly(self, command: Score, file: BinaryIO, targets: Sequence[int], rows: Logprobs) -> BriefScores:
        """The figures of a chunk alone; its rows are kept, or compared with those of the reference."""
        own = tuple(float(row[target]) for row, target in zip(rows, targets, strict=True))
        precision = repeat(command.precision)
        with ThreadPoolExecutor(self._threads) as workers:
            if not command.against_reference:
                file.writelines(workers.map(pack_row, rows, targets, precision))
                return BriefScores(own)
            size = row_bytes(command.precision, self._model.vocabulary_size)
            packed = [self._read_exactly(file, size) for _ in targets]
            found = list(workers.map(compare_row, packed, rows, targets, precision))
        return BriefScores(
            own,
            tuple(each.reference_logprob for each in found),
            tuple(each.kl_divergence for each in found),
            tuple(each.agrees for each in found),
        )

    # --- the file of log-probabilities: see reference_file.py ---

    def _open_file(self, command: Score, windows: Sequence[Window]) -> BinaryIO:
        """The file, its first line written or checked. It must exist: the caller has created it, and may delete it."""
        if self._vocabulary is None:
            self._vocabulary = vocabulary_digest(self._model)
        size = self._model.vocabulary_size
        description = {
            "vocabulary": self._vocabulary,
            "size": size,
            "reading": _windows_digest(windows),
            "precision": command.precision,
        }
        path = Path(command.path)
        file: BinaryIO
        if command.against_reference:
            file = path.open("rb")
            try:
                _check_description(json.loads(file.readline()), description)
            except BaseException:
                file.close()
                raise
            return file
        self._file_bytes = sum(window.scored_count for window in windows) * row_bytes(command.precision, size)
        _refuse_full_disk(path, self._file_bytes)
        file = path.open("r+b")
        file.write(json.dumps(description).encode() + b"\n")
        return file

    def _write_or_read_rows(self, command: Score, file: BinaryIO, rows: Logprobs) -> Sequence[Logprobs | None]:
        """The reference's rows for the same tokens; None for each of them if this model is the reference."""
        if not command.against_reference:
            file.write(rows.tobytes())
            return [None] * len(rows)
        data = self._read_exactly(file, rows.nbytes)
        return list(np.frombuffer(data, dtype=np.float32).reshape(rows.shape))

    def _read_exactly(self, file: BinaryIO, size: int) -> bytes:
        data = file.read(size)
        if len(data) != size:
            raise PlaygroundError("The reference's scores are incomplete.", "Measure again.")
        self._file_bytes += len(data)
        return data

    # --- one token ---

    def _sent_tops(self, command: Score, window: Window) -> SentTops:
        """What a server sent of the text, which is read in one window."""
        pieces = b"".join(map(self._model.token_to_piece, window.tokens[window.first_scored :]))
        length = len(command.continuation.encode()) if isinstance(command.continuation, str) else len(pieces)
        model = self._model
        return SentTops(command.sent_tops, model.token_to_piece, model.vocabulary_size, length - len(pieces))

    def _score(
        self, token: int, row: Logprobs, reference: Logprobs | None, texts: TextStream, sent: SentTops
    ) -> TokenScore:
        text = texts.add_bytes(self._model.token_to_piece(token))
        score = TokenScore(
            token, text, float(row[token]), self._most_likely(row), kl_divergence=sent.divergence_at(token, row)
        )
        if reference is None:
            return score
        return replace(
            score,
            reference_logprob=float(reference[token]),
            reference_top=self._most_likely(reference),
            kl_divergence=kl_divergence(reference, row),
            agrees=bool(reference.argmax() == row.argmax()),
        )

    def _most_likely(self, row: Logprobs) -> tuple[Alternative, ...]:
        tokens = np.argpartition(-row, TOP)[:TOP] if len(row) > TOP else np.arange(len(row))
        best = sorted((int(token) for token in tokens), key=lambda token: (-row[token], token))
        return tuple(
            Alternative(token, self._model.token_to_piece(token).decode("utf-8", "replace"), float(row[token]))
            for token in best
        )


def divide_text(model: ScoredModel, command: Score) -> list[Window]:
    """The windows in which a text is read. Raises RequestRefused if nothing of it can be scored.

    A text longer than the window is read in windows that overlap by half. Each token is scored once, and all but those
    of the first window have at least half a window before them.
    """
    prompt = model.tokenize(command.prompt, command.literal) if command.prompt else []
    if isinstance(command.continuation, str):
        whole = command.prompt + command.continuation
        literal = (*command.literal, (len(command.prompt), len(whole)))
        tokens = model.tokenize(whole, literal, plain=not command.prompt)
        pairs = zip(prompt, tokens, strict=False)  # a token across the border belongs to the continuation
        before = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    else:
        tokens, before = [*(prompt or model.beginning), *command.continuation], len(prompt)
    if not all(0 <= token < model.vocabulary_size for token in tokens):
        raise RequestRefused(
            f"These tokens are not in this model's vocabulary of {model.vocabulary_size:,}.",
            "Compare two levels of one model.",
        )
    first = max(1, before)
    if len(tokens) <= first:
        raise RequestRefused("There is nothing to score: the text is too short.", "Give a text of a few words or more.")
    longest = max(2, command.window or len(tokens))
    opening = tuple(tokens[:1]) if tuple(tokens[:1]) == model.beginning else ()
    windows = [Window(tuple(tokens[: longest + 1]), first)] if first <= longest else []
    scored = max(first, longest + 1)
    while scored < len(tokens):
        start = max(scored - 1 - longest // 2, 0)
        piece = (*opening, *tokens[start : start + longest + 1 - len(opening)])
        windows.append(Window(piece, len(opening) + scored - start))
        scored = start + len(piece) - len(opening)
    return windows


def chunks(length: int, rows: int) -> list[tuple[int, int]]:
    """The pieces [start, stop) of up to `rows` in which `length` tokens are read, always the same.

    A single token never stands alone after others: llama.cpp would divide its attention among the threads, and the last
    digits would depend on their number.
    """
    borders = [*range(0, length, rows), length]
    if length > 1 and borders[-1] - borders[-2] == 1:
        borders[-2] -= 1
    return list(pairwise(borders))


def vocabulary_digest(model: ScoredModel) -> str:
    """SHA-256 over the pieces in order: the same for two models exactly if they have the same vocabulary."""
    digest = hashlib.sha256()
    for token in range(model.vocabulary_size):
        piece = model.token_to_piece(token)
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return digest.hexdigest()


def _windows_digest(windows: Sequence[Window]) -> str:
    return hashlib.sha256(json.dumps([(window.tokens, window.first_scored) for window in windows]).encode()).hexdigest()


def _check_description(reference: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises RequestRefused if the reference's file is about another vocabulary or other tokens."""
    if reference["vocabulary"] != own["vocabulary"]:
        sizes = (
            f"{reference['size']:,} and {own['size']:,} tokens"
            if reference["size"] != own["size"]
            else f"both {own['size']:,} tokens, but not the same ones"
        )
        raise RequestRefused(
            f"The two models have different vocabularies ({sizes}), so their probabilities cannot be compared.",
            "Choose two levels of one model.",
        )
    if reference["reading"] != own["reading"]:
        raise RequestRefused(
            "The two models divide the text into tokens differently, so they cannot be compared token by token.",
            "Choose two levels of one model.",
        )


def _refuse_full_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed + SPARE_DISK_BYTES:
        raise PlaygroundError(
            f"The reference's scores need {gigabytes(needed)} on disk for a short time; "
            f"{gigabytes(free)} are free, and the last {gigabytes(SPARE_DISK_BYTES)} are left alone.",
            "Free some space or measure a shorter text.",
        )
