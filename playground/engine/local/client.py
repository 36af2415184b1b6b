"""A loaded model as the page sees it: starts the child process, sends it requests, and sorts its events.

A reader thread puts the child's events into one mailbox for each request. If the child ends, every mailbox gets an
error that says why.
"""

from __future__ import annotations

import itertools
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from playground.engine.local.cpu_shares import CpuShares
from playground.engine.pipe import decode_event, encode_command
from playground.engine.protocol import (
    Cancel,
    CountTokens,
    Embed,
    EmbeddingEnded,
    Event,
    Failed,
    Finished,
    ForgetChat,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    Precision,
    Score,
    ScoringEnded,
    SentTop,
    SetThreads,
    ThreadsSet,
    TokenCount,
)
from playground.engine.reply_stream import Mail, ReplyStarter, ReplyStream
from playground.engine.timings import Timings
from playground.errors import BadModelFile, DoesNotFit, ModelStopped, PlaygroundError
from playground.events import model_died
from playground.llama.control_tokens import Span
from playground.llama.log import abort_message
from playground.llama.params import SCORED_ROWS, ContextParameters, Placement
from playground.machine.child_process import ChildProcess, describe_exit

WORKER: Final = "playground.engine.local.worker"
_THREADS_SECONDS: Final = 30  # a step takes half a second: a child that does not confirm in this time hangs


_DRIVING_THREADS: Final = 1  # of a model whose layers are all on GPUs: more would only wait for these, spinning


class LocalEngine(ReplyStarter):
    """One model in a child process.

    Call `load_model` first, then `start_reply` from any thread. `cpu_shares` decides with how many threads it decodes;
    a model whose layers are all on GPUs takes no core from the others. `close` ends the child, which gives its memory
    back.
    """

    def __init__(
        self,
        path: Path,
        context: ContextParameters,
        cpu_shares: CpuShares,
        on_reply: Callable[[LocalEngine, Timings], None] = lambda engine, timings: None,
    ) -> None:
        """on_reply: called with the timings of every reply that was alone in this model from its start to its end."""
        self.path = path
        self._on_reply = on_reply
        self._shared: set[int] = set()  # requests that were decoded while another was
        self.context = context
        self._cpu_shares = cpu_shares
        self._request_numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._mailboxes: dict[int, queue.SimpleQueue[Mail]] = {}
        self._decoding: dict[int, bool] = {}  # request -> whether it needs all cores; until it says that it has ended
        self._loading: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self._threads_set: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._loaded: Loaded | None = None
        self._stopped: PlaygroundError | None = None
        self._closing = False
        self._child = ChildProcess(WORKER)
        self._child.send_line(encode_command(Load(str(path), context)))
        self._computes_on_cpu = not context.placement.is_whole_on_devices
        if not self._computes_on_cpu:
            self._child.send_line(encode_command(SetThreads(_DRIVING_THREADS)))
        self._reader = threading.Thread(target=self._read_events, daemon=True, name=f"events of {path.name}")
        self._reader.start()

    # --- loading ---

    def load_model(self, patience_seconds: float | None = None) -> Iterator[LoadProgress]:
        """Progress until the model is ready. Raises BadModelFile, DoesNotFit or ModelStopped, with llama.cpp's reason.

        patience_seconds: after so long without progress, the last one comes again.
        """
        last = LoadProgress(0.0)
        while self._loaded is None:
            try:
                mail = self._loading.get(timeout=patience_seconds)
            except queue.Empty:
                mail = last
            if isinstance(mail, LoadProgress):
                last = mail
                yield mail
            elif isinstance(mail, Loaded):
                self._loaded = mail
            elif isinstance(mail, Failed):
                if mail.no_memory:
                    raise DoesNotFit(mail.problem, mail.remedy, ran_out=True)
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

    def _next_request(self) -> int:
        return next(self._request_numbers)

    def _begin_reply(self, command: Generate) -> ReplyStream:
        stream = self._open_mailbox(command.request, all_cores=command.asked.reproducible)
        self._child.send_line(encode_command(command))
        return stream

    def start_scoring(
        self,
        prompt: str,
        continuation: str | Sequence[int],
        path: Path,
        *,
        against_reference: bool,
        window: int | None = None,
        literal: Sequence[Span] = (),
        brief: bool = False,
        precision: Precision = "exact",
        rows: int = SCORED_ROWS,
        sent_tops: Sequence[SentTop] = (),
    ) -> ReplyStream:
        """Score a text token by token: Scored events, then ScoringEnded. The parameters are those of protocol.Score.

        The caller creates the file at `path`, and deletes it after the stream has ended.
        """
        number = next(self._request_numbers)
        stream = self._open_mailbox(number, all_cores=False)  # its fixed chunks give the same scores with any number
        text = continuation if isinstance(continuation, str) else tuple(continuation)
        command = Score(
            number, prompt, text, str(path), against_reference, window, tuple(literal), brief, precision, rows,
            tuple(sent_tops),
        )  # fmt: skip
        self._child.send_line(encode_command(command))
        return stream

    def start_embedding(self, texts: Sequence[str]) -> ReplyStream:
        """Turn texts into vectors: an Embedded event for each, in order, then EmbeddingEnded."""
        number = next(self._request_numbers)
        stream = self._open_mailbox(number, all_cores=False)
        self._child.send_line(encode_command(Embed(number, tuple(texts))))
        return stream

    def count_tokens(self, text: str, literal: Sequence[Span] = ()) -> int:
        """How many tokens the model makes of a text, special tokens recognised but in the spans of `literal`."""
        number = next(self._request_numbers)
        with self._open_mailbox(number, all_cores=None) as stream:
            self._child.send_line(encode_command(CountTokens(number, text, tuple(literal))))
            (count,) = stream
        assert isinstance(count, TokenCount)
        return count.tokens

    def forget_chat(self, chat: str) -> None:
        """Clear what the KV cache holds of a chat, after its reply if one is under way."""
        self._child.send_line(encode_command(ForgetChat(chat)))

    def set_threads(self, threads: int) -> None:
        """Returns when the child decodes with this many threads, or has ended."""
        if not self.is_alive:
            return
        self._child.send_line(encode_command(SetThreads(threads, all_cores=threads >= self._cpu_shares.cores)))
        try:
            while self._threads_set.get(timeout=_THREADS_SECONDS) not in (threads, None):
                pass
        except queue.Empty:
            pass

    def _open_mailbox(self, number: int, *, all_cores: bool | None) -> ReplyStream:
        """all_cores: whether the request needs them; None if it does not decode."""
        mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        with self._lock:
            if self._stopped or self._closing:
                raise self._stopped or _unloaded()
            self._mailboxes[number] = mailbox
            if all_cores is not None:
                if self._decoding:
                    self._shared.update((number, *self._decoding))
                with self._updated_shares():
                    self._decoding[number] = all_cores
        return ReplyStream(mailbox, lambda: self._close_mailbox(number))

    def _close_mailbox(self, number: int) -> None:
        """Nobody reads this mailbox any more: cancels the request if it still runs."""
        with self._lock:
            unfinished = self._mailboxes.pop(number, None) is not None
        if unfinished and self.is_alive:
            self._child.send_line(encode_command(Cancel(number)))

    @contextmanager
    def _updated_shares(self) -> Iterator[None]:
        """Passes a change of `_decoding` on to the shares of the cores. Under the lock: changes keep their order."""
        before = any(self._decoding.values()) if self._decoding else None
        yield
        if not self._computes_on_cpu:
            return
        after = any(self._decoding.values()) if self._decoding else None
        if after is None and before is not None:
            self._cpu_shares.remove_model(self)
        elif after is not None and after != before:
            self._cpu_shares.add_model(self, all_cores=after)

    # --- the reader thread ---

    def _read_events(self) -> None:
        """Sort events until the child ends. A line that cannot be read ends the child, not just this thread."""
        unreadable = False
        try:
            for line in self._child.lines():
                self._sort_event(decode_event(line))
        except Exception:  # of any kind: callers that wait for events must not wait for ever
            unreadable = True
            self._child.kill()
        error = self._unreadable_output() if unreadable and not self._closing else self._reason_of_end()
        self._fail_all(error)
        if not self._closing:
            model_died(self.path.name, self.pid, error.problem)

    def _sort_event(self, event: Event) -> None:
        match event:
            case LoadProgress() | Loaded() | Failed(request=None):
                self._loading.put(event)
            case ThreadsSet():
                self._threads_set.put(event.threads)
            case _:
                self._deliver_event(event)

    def _deliver_event(self, event: Event) -> None:
        assert not isinstance(event, LoadProgress | Loaded | ThreadsSet)
        number = event.request
        assert number is not None
        is_last = isinstance(event, Finished | ScoringEnded | EmbeddingEnded | Failed | TokenCount)
        with self._lock:
            mailbox = self._mailboxes.pop(number, None) if is_last else self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.put(event)
        if is_last:
            with self._lock, self._updated_shares():
                self._decoding.pop(number, None)
                was_shared = number in self._shared
                self._shared.discard(number)
            if isinstance(event, Finished) and not was_shared:
                self._on_reply(self, event.timings)

    def _fail_all(self, error: PlaygroundError) -> None:
        with self._lock:
            self._stopped = error
            mailboxes = list(self._mailboxes.values())
            self._mailboxes.clear()
            with self._updated_shares():
                self._decoding.clear()
        for mailbox in mailboxes:
            mailbox.put(error)
        self._loading.put(error)
        self._threads_set.put(None)

    def _unreadable_output(self) -> PlaygroundError:
        return ModelStopped(
            f"The process that ran {self.path.name} sent a message that cannot be read, so it was stopped.",
            _remedy_after_crash(self.path, None, self.context.placement),
        )

    def _reason_of_end(self) -> PlaygroundError:
        code = self._child.wait_for_exit()
        if self._closing:
            return _unloaded()
        reason = abort_message("\n".join(self._child.last_words()))
        problem = f"The process that ran {self.path.name} {describe_exit(code)}{f': {reason}' if reason else ''}."
        return ModelStopped(problem, _remedy_after_crash(self.path, code, self.context.placement))

    # --- the end ---

    def close(self) -> None:
        """End the child now; replies under way end with ModelStopped. May be called twice."""
        self._closing = True
        self._child.close()
        self._reader.join(timeout=5)


@contextmanager
def loaded_engine(path: Path, context: ContextParameters, cores: int) -> Iterator[LocalEngine]:
    """A loaded model that shares its cores with no other one: for a program that runs one model, and closes it."""
    with closing(CpuShares(cores)) as shares, closing(LocalEngine(path, context, shares)) as engine:
        for _ in engine.load_model():
            pass
        yield engine


_crashed: Final[set[tuple[str, int, int | None]]] = set()  # path, its time and the exit code of every crash in this run


def _remedy_after_crash(path: Path, code: int | None, placement: Placement) -> str:
    """What to do after a process ended; a crash that the same file had before will most likely come again.

    code: None for a message that cannot be read. The system ends a process by SIGKILL for lack of memory, and a person
    by SIGTERM: these say nothing of the file.
    """
    if code in (0, -signal.SIGKILL, -signal.SIGTERM):
        return "The next message starts it again."
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    on_gpu = code is not None and code < 0 and not placement.is_cpu_only
    if (str(path), changed, code) in _crashed:
        instead = "CPU only, or another file" if on_gpu else "another file or level"
        return f"It crashed so before with this file: choose {instead} of the model."
    _crashed.add((str(path), changed, code))
    if on_gpu:
        return "The next message starts it again; if that happens again, choose CPU only, or look at the GPU's driver."
    return "The next message starts it again; if it crashes again, this file cannot be run here."


def _unloaded() -> ModelStopped:
    return ModelStopped("This model was unloaded.", "Send the message again to reload it.")
