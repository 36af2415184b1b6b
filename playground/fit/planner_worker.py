"""A process that keeps one model open without its weights and answers what a context of it would take.

Both ends of the pipe: `PlannerProcess` is the parent's handle, `main` the child's loop.
Words go over the pipes as JSON, one object on a line. A bad file may abort llama.cpp, or keep it busy for ever: that
ends the child, and its handle makes an ordinary error of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from playground.errors import BadModelFile, PlaygroundError
from playground.llama.dry_model import DryModel
from playground.llama.log import LlamaLog, last_words, printable
from playground.llama.params import ContextParameters, context_parameters
from playground.machine.child_process import end_when_parent_is_gone, offer_to_the_oom_killer_first
from playground.machine.confinement import child_environment, confine_this_process
from playground.machine.files import nameless_file
from playground.machine.malloc import KeptPages
from playground.machine.memory import read_process_memory

Json = dict[str, Any]

_STDERR_TAIL_BYTES: Final = 16_384
_LONGEST_ANSWER_BYTES: Final = 1_000_000
_NOTED_BYTES_PER_CELL: Final = 52  # in llama_kv_cells: a position, and a bit for each of 256 sequences; as measured
_SERIES_SECONDS: Final = 0.2  # questions of one table, or of a slider, follow each other sooner
_TRY_AGAIN: Final = "Try again; if it happens again, choose another file."
_ANOTHER_FILE: Final = "Fetch the file again, or choose another one."


class ChildKilled(PlaygroundError):
    """The child was ended from outside, without a word, as the system does when memory is short."""


class PlannerProcess:
    """The parent's end. `opened` is what the child said of its model; `ask` is for one thread at a time.

    The constructor raises BadModelFile when llama.cpp refuses the model or dies of it, ChildKilled when it was ended
    from outside, PlaygroundError when it takes longer than `timeout_seconds`.
    """

    def __init__(self, subject: Json, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._name = printable(Path(subject["path"]).name) if "path" in subject else "this model"
        self._stderr = nameless_file()
        try:
            self._process = _start(self._stderr)
        except BaseException:
            self._stderr.close()
            raise
        self._unread = b""
        try:
            self.opened = self._exchange({"open": subject})
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def process_id(self) -> int:
        return self._process.pid

    def ask(self, context: ContextParameters) -> Json:
        """The sizes of a context. Raises as the constructor does; after a death or a timeout the child is gone."""
        return self._exchange({"context": dataclasses.asdict(context)})

    def close(self) -> None:
        self._process.kill()  # it holds nothing that needs an orderly end
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # unsent words of a dead child
                    stream.close()

    def _exchange(self, question: Json) -> Json:
        try:
            line = self._answer_to(json.dumps(question).encode() + b"\n")
            answer = json.loads(line)
        except TimeoutError:
            self._process.kill()
            raise PlaygroundError(
                f"llama.cpp did not answer within {self._timeout_seconds:g} seconds what {self._name} needs.",
                _TRY_AGAIN,
            ) from None
        except (OSError, EOFError, ValueError):
            raise self._death() from None
        if "refused" in answer:
            kind = BadModelFile if answer["bad_file"] else PlaygroundError
            raise kind(*answer["refused"])
        return answer  # type: ignore[no-any-return]

    def _answer_to(self, question: bytes) -> bytes:
        """One line from the child. Raises TimeoutError, EOFError when the child has ended, OSError."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question)
        self._process.stdin.flush()
        deadline = time.monotonic() + self._timeout_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                received = os.read(self._process.stdout.fileno(), 65_536)
                if not received or len(self._unread) > _LONGEST_ANSWER_BYTES:
                    raise EOFError
                self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self) -> PlaygroundError:
        self._process.kill()
        code = self._process.wait()
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL_BYTES))
        words = last_words(self._stderr.read().decode("utf-8", "replace"))
        if not words:
            return ChildKilled(f"The planning of {self._name} was stopped: {_ending(code)}.", _TRY_AGAIN)
        return BadModelFile(f"llama.cpp stopped while planning {self._name}: {words}.", _ANOTHER_FILE)


def _start(stderr: BinaryIO) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "playground.fit.planner_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=child_environment(),
    )
    # One that is ended while nobody asks would stay in the system's list until somebody does.
    threading.Thread(target=process.wait, daemon=True, name=f"end of {process.pid}").start()
    return process


def _ending(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"


# --- the child's end ---


def main() -> None:
    """Open the model of the first line, then answer each further line, until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what llama.cpp prints must not mix with the answers
    confine_this_process()
    offer_to_the_oom_killer_first()
    end_when_parent_is_gone()
    pages = KeptPages()
    with LlamaLog(on_line=lambda said: _keep_recurrent_state(pages, said)) as log:
        model: DryModel | None = None
        base = _Base()
        for line in _questions(pages):
            question = json.loads(line)
            try:
                if model is None:
                    model = _open(question["open"], log)
                    answer = _description(model)
                else:
                    answer = _sizes(model, ContextParameters(**question["context"]), base, pages)
            except PlaygroundError as error:
                answer = {"refused": [error.problem, error.remedy], "bad_file": isinstance(error, BadModelFile)}
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


def _questions(pages: KeptPages) -> Iterator[bytes]:
    """The parent's lines, one at a time; what is kept goes back to the system where the next is not there soon."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            if not selector.select(_SERIES_SECONDS):
                pages.give_back()
            line = sys.stdin.buffer.readline()
            if not line:
                return
            yield line


def _keep_recurrent_state(pages: KeptPages, said: str) -> None:
    """A recurrent state is really allocated in a dry run too, 600 MiB and more, and alike for every context size.

    llama.cpp speaks of its layers just before it makes one. Should it speak otherwise one day, a table of such a model
    takes seconds longer, and nothing worse.
    """
    pages.keeping = said.startswith("llama_memory_recurrent") and "layer " in said


def _open(subject: Json, log: LlamaLog) -> DryModel:
    if "path" in subject:
        return DryModel.from_file(Path(subject["path"]), log)
    return DryModel.from_hyperparameters(subject["architecture"], subject["metadata"], subject["vocabulary_size"], log)


def _description(model: DryModel) -> Json:
    return {
        "trained_context": model.trained_context,
        "vocabulary_size": model.vocabulary_size,
        "weights": model.weight_bytes,
        "repacked": model.repacked_bytes,
    }


def _sizes(model: DryModel, context: ContextParameters, base: _Base, pages: KeptPages) -> Json:
    with model.context_sizes(context_parameters(context)) as sizes:
        parts = dataclasses.asdict(sizes)
        allocated = parts.pop("allocated")
        answer = {**parts, "base": base.with_a_context_of(context.cells, allocated)}
    pages.hold(allocated)
    return answer


class _Base:
    """This process's own memory while a context is open, which is a run's base; but only the first one tells it.

    Later ones lie in memory that earlier ones have used, up to 60 MiB of it, which a run has not. They differ by what
    is noted of each cell.
    """

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None  # cells, bytes

    def with_a_context_of(self, cells: int, allocated: int) -> int:
        """Bytes beside the context's own parts; `allocated` are those of them that are really there in a dry run."""
        if self._first is None:
            self._first = cells, read_process_memory(os.getpid()).resident - allocated
        first_cells, first_bytes = self._first
        return max(0, first_bytes + (cells - first_cells) * _NOTED_BYTES_PER_CELL)


if __name__ == "__main__":
    main()
