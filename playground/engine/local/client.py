"""The page's end of a model's process: start it, submit requests, iterate their events.

Loads no model here. A reader thread sorts the child's events into one mailbox per request; the child's death ends
every mailbox with an error that says what happened.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playground.engine.local.cpu_shares import CpuShares
from playground.engine.protocol import (
    Cancel,
    CountTokens,
    Event,
    Failed,
    Finished,
    ForgetChat,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    Sampling,
    Score,
    ScoringEnded,
    SetThreads,
    ThreadsSet,
    TokenCount,
    decode,
    encode,
)
from playground.engine.reply_stream import Mail, ReplyStream
from playground.errors import BadModelFile, ModelStopped, PlaygroundError
from playground.events import model_died
from playground.llama.log import last_words
from playground.llama.params import ContextParameters
from playground.machine.child_process import ChildProcess, describe_exit

WORKER: Final = "playground.engine.local.worker"
_THREADS_SECONDS: Final = 30  # a step takes half a second; this long means that the child hangs


class LocalEngine:
    """One loaded model in a child process.

    Call `load_model` first, then `start_reply` from any thread. `cores` decides with how many threads it decodes.
    `close` ends the child and gives its memory back.
    """

    def __init__(
        self,
        path: Path,
        context: ContextParameters,
        cores: CpuShares,
    ) -> None:
        self.path = path
        self.context = context
        self._cores = cores
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._mailboxes: dict[int, queue.SimpleQueue[Mail]] = {}
        self._generating: dict[int, bool] = {}  # requests under way, and whether they need whole cores
        self._loading: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self._threads_set: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._loaded: Loaded | None = None
        self._stopped: PlaygroundError | None = None
        self._closing = False
        self._child = ChildProcess(WORKER)
        self._child.send_line(encode(Load(str(path), context)))
        self._reader = threading.Thread(target=self._read, daemon=True, name=f"events of {path.name}")
        self._reader.start()

    # --- loading ---

    def load_model(self) -> Iterator[LoadProgress]:
        """Progress until the model is ready. Raises BadModelFile or ModelStopped with llama.cpp's own words."""
        while self._loaded is None:
            mail = self._loading.get()
            if isinstance(mail, LoadProgress):
                yield mail
            elif isinstance(mail, Loaded):
                self._loaded = mail
            elif isinstance(mail, Failed):
                raise BadModelFile(mail.problem, mail.remedy)
            elif isinstance(mail, PlaygroundError):
                raise mail

    @property
    def loaded(self) -> Loaded:
        if self._loaded is None:
            raise RuntimeError("the model is not loaded yet")
        return self._loaded

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        return self._stopped is None and not self._closing

    # --- requests ---

    def start_reply(
        self,
        prompt: str,
        sampling: Sampling,
        max_tokens: int | None = None,
        stop: tuple[str, ...] = (),
        reproducible: bool = False,
        alternatives: int = 0,
        chat: str = "",
    ) -> ReplyStream:
        """Start a reply; its events come through the stream. See messages.Generate for the meaning of each."""
        number = next(self._numbers)
        stream = self._open_mailbox(number, whole_cores=reproducible)
        self._child.send_line(
            encode(Generate(number, prompt, sampling, max_tokens, stop, reproducible, alternatives, chat))
        )
        return stream

    def forget_chat(self, chat: str) -> None:
        """Let the chat's sequences go; one that still has a reply, when that ends."""
        self._child.send_line(encode(ForgetChat(chat)))

    def start_scoring(
        self,
        prompt: str,
        continuation: str | Sequence[int],
        path: Path,
        *,
        against_reference: bool,
        window: int | None = None,
    ) -> ReplyStream:
        """Score a text token by token: Scored events, then ScoringEnded; see messages.Score for the meaning of each.

        The file at `path` is the caller's to delete, once the stream has ended.
        """
        number = next(self._numbers)
        stream = self._open_mailbox(number, whole_cores=False)  # its chunks make it the same
        text = continuation if isinstance(continuation, str) else tuple(continuation)
        self._child.send_line(encode(Score(number, prompt, text, str(path), against_reference, window)))
        return stream

    def count_tokens(self, text: str) -> int:
        """How many tokens the model makes of a text, special tokens recognised."""
        number = next(self._numbers)
        with self._open_mailbox(number) as stream:
            self._child.send_line(encode(CountTokens(number, text)))
            (count,) = stream
        assert isinstance(count, TokenCount)
        return count.tokens

    def set_threads(self, threads: int) -> None:
        """Returns when the child decodes with so many threads, or has ended."""
        if not self.is_alive:
            return
        self._child.send_line(encode(SetThreads(threads, all_cores=threads >= self._cores.cores)))
        try:
            while self._threads_set.get(timeout=_THREADS_SECONDS) not in (threads, None):
                pass
        except queue.Empty:
            pass

    def _open_mailbox(self, number: int, *, whole_cores: bool | None = None) -> ReplyStream:
        """whole_cores: None where the answer takes no decoding."""
        mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        with self._lock:
            if self._stopped or self._closing:
                raise self._stopped or ModelStopped("This model was unloaded.", "Send the message again to reload it.")
            self._mailboxes[number] = mailbox
            if whole_cores is not None:
                with self._share_changes():
                    self._generating[number] = whole_cores
        return ReplyStream(mailbox, lambda: self._close_mailbox(number))

    def _close_mailbox(self, number: int) -> None:
        """The reader of a mailbox is gone. A reply that still runs is cancelled, and is busy until it says Finished."""
        with self._lock:
            unfinished = self._mailboxes.pop(number, None) is not None
        if unfinished and self.is_alive:
            self._child.send_line(encode(Cancel(number)))

    def _finished(self, number: int) -> None:
        with self._lock, self._share_changes():
            self._generating.pop(number, None)

    @contextmanager
    def _share_changes(self) -> Iterator[None]:
        """Tells the core shares what a change of `_generating` means; under the lock, so that news keep their order."""
        before = any(self._generating.values()) if self._generating else None
        yield
        after = any(self._generating.values()) if self._generating else None
        if after is None and before is not None:
            self._cores.remove_model(self)
        elif after is not None and after != before:
            self._cores.add_model(self, all_cores=after)

    # --- the reader thread ---

    def _read(self) -> None:
        """Sort lines until the child ends; one that cannot be read ends the model, never just this thread."""
        unreadable = False
        try:
            for line in self._child.lines():
                self._sort(decode(line))
        except Exception:  # whatever was wrong with it: whoever waits must not wait for ever
            unreadable = True
            self._child.kill()
        cause = self._said_nonsense() if unreadable and not self._closing else self._cause_of_death()
        self._end_everything(cause)
        if not self._closing:
            model_died(self.path.name, self.pid, cause.problem)

    def _sort(self, event: Event) -> None:
        match event:
            case LoadProgress() | Loaded() | Failed(request=None):
                self._loading.put(event)
            case ThreadsSet():
                self._threads_set.put(event.threads)
            case _:
                self._deliver(event)

    def _deliver(self, event: Event) -> None:
        assert not isinstance(event, LoadProgress | Loaded | ThreadsSet)
        number = event.request
        assert number is not None
        ends = isinstance(event, Finished | ScoringEnded | Failed | TokenCount)
        with self._lock:
            mailbox = self._mailboxes.pop(number, None) if ends else self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.put(event)
        if ends:
            self._finished(number)

    def _end_everything(self, cause: PlaygroundError) -> None:
        with self._lock:
            self._stopped = cause
            mailboxes = list(self._mailboxes.values())
            self._mailboxes.clear()
            with self._share_changes():
                self._generating.clear()
        for mailbox in mailboxes:
            mailbox.put(cause)
        self._loading.put(cause)
        self._threads_set.put(None)

    def _said_nonsense(self) -> PlaygroundError:
        return ModelStopped(
            f"The process that ran {self.path.name} said something that cannot be read, and was ended.",
            "The next message starts it again.",
        )

    def _cause_of_death(self) -> PlaygroundError:
        code = self._child.wait_for_exit()
        if self._closing:
            return ModelStopped("This model was unloaded.", "Send the message again to reload it.")
        words = last_words("\n".join(self._child.last_words()))
        problem = f"The process that ran {self.path.name} {describe_exit(code)}{f': {words}' if words else ''}."
        return ModelStopped(problem, "The next message starts it again.")

    # --- the end ---

    def close(self) -> None:
        """End the child at once; replies under way end with ModelStopped. Safe to call twice."""
        self._closing = True
        self._child.close()
        self._reader.join(timeout=5)
