"""What happens in the Chat tab: a load, a reply, a stop; as a stream of frames that the tab draws.

Joins the picker's choice, the pool and the conversation. Knows no component: a frame says what is new on the page, and
tests read frames. A stop is a flag that the running generator looks at several times a second, because a generator that
is thrown away cannot say how far it came.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from playground.chat.conversation import ReplyUpdate, reply
from playground.chat.history import HistoryLimits
from playground.chat.template import Message
from playground.engine.messages import Event, Memory, Sampling, Token
from playground.engine.pool import Lease, ModelPool
from playground.errors import DoesNotFit, PlaygroundError, RequestRefused
from playground.models.library import ModelFile
from playground.settings import Settings
from playground.ui.making import making_progress
from playground.ui.picker_view import Choice, PickerDesk
from playground.ui.render import error_card, notice
from playground.ui.render_memory import predicted_beside_measured
from playground.ui.render_reply import context_meter, live_line, load_progress, reply_details
from playground.ui.talk import ModelUsed, Talk
from playground.ui.words import counted, seconds

Phase = Literal["rest", "loading", "replying"]


@dataclass(frozen=True)
class Frame:
    """What is new on the page; None leaves a part as it is. `growing` is the reply so far."""

    talk: Talk | None = None
    growing: Message | None = None
    phase: Phase | None = None
    live: str | None = None
    meter: str | None = None
    details: str | None = None
    problem: str | None = None
    progress: str | None = None
    may_load_anyway: bool | None = None
    made: bool = False  # a level is on the disk that was not


@dataclass(frozen=True)
class Wish:
    """How the next reply should be made."""

    choice: Choice
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 512


class ChatDesk:
    """Serves every visitor's chat; `session` keeps them apart."""

    def __init__(self, settings: Settings, pool: ModelPool, picker: PickerDesk) -> None:
        self.picker = picker
        self.limits = HistoryLimits.of(settings)
        self._settings = settings
        self._pool = pool
        self._interval_seconds = 1 / settings.updates_per_second
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    # --- what a person does ---

    def send(self, session: str, talk: Talk, text: str, wish: Wish) -> Iterator[Frame]:
        """The question into the chat, the model loaded if need be, the reply as it grows."""
        try:
            asked = talk.asked(text, self.limits)
        except PlaygroundError as error:
            yield Frame(problem=error_card(error))
            return
        yield from self._answer(session, asked, wish)

    def regenerate(self, session: str, talk: Talk, wish: Wish) -> Iterator[Frame]:
        """Another reply to the last question."""
        try:
            asked = talk.asked_again()
        except PlaygroundError as error:
            yield Frame(problem=error_card(error))
            return
        yield from self._answer(session, asked, wish)

    def load(self, session: str, choice: Choice, *, anyway: bool = False) -> Iterator[Frame]:
        """The chosen model into memory, with progress, then predicted beside measured."""
        try:
            with self._running(session) as stop:
                yield Frame(phase="loading", problem="", may_load_anyway=False)
                file = yield from self._file(choice, stop)
                lease = (yield from self._loading(file, choice, stop, anyway)) if file else None
                if lease is None:
                    yield Frame(phase="rest", progress=notice("Loading was cancelled; nothing is kept."))
                    return
                with lease:
                    yield Frame(phase="rest", progress=_loaded(lease))
        except PlaygroundError as error:
            yield self._failed(error)

    def stop(self, session: str) -> None:
        """Ends what this session has under way, within one update."""
        with self._lock:
            flag = self._stops.get(session)
        if flag:
            flag.set()

    # --- how it goes ---

    def _answer(self, session: str, talk: Talk, wish: Wish) -> Iterator[Frame]:
        talk = talk.with_system(wish.system)
        try:
            with self._running(session) as stop:
                yield Frame(talk, phase="replying", live=live_line(None), problem="", details="", may_load_anyway=False)
                file = yield from self._file(wish.choice, stop)
                lease = (yield from self._loading(file, wish.choice, stop, anyway=False)) if file else None
                if file is None or lease is None:
                    yield Frame(talk, phase="rest", progress="", problem=notice("Loading was cancelled."))
                    return
                talk = self._prepared(talk, wish, file)
                with lease:
                    yield Frame(progress="")
                    yield from self._written(lease, talk, wish, stop)
        except RequestRefused as error:
            yield Frame(problem=error_card(error))
        except PlaygroundError as error:
            yield self._failed(error, talk)

    def _prepared(self, talk: Talk, wish: Wish, file: ModelFile) -> Talk:
        used = ModelUsed(file.display_name, file.path.name, file.level, wish.choice.context_size or 0)
        return replace(talk, model=used, sampling=wish.sampling, max_tokens=wish.max_tokens)

    def _file(self, choice: Choice, stop: threading.Event) -> Generator[Frame, None, ModelFile | None]:
        """The chosen file, made first with progress where it is only on offer; None when it was stopped."""
        made = False
        with closing(self.picker.ready(choice, stop.is_set)) as making:
            try:
                while True:
                    progress = next(making)
                    made = True
                    yield Frame(progress=making_progress(choice.level, progress))
            except StopIteration as end:
                file: ModelFile | None = end.value
        if made and file:
            yield Frame(made=True)
        return file

    def _loading(
        self, file: ModelFile, choice: Choice, stop: threading.Event, anyway: bool
    ) -> Generator[Frame, None, Lease | None]:
        """Frames with progress, then the lease; None when it was stopped."""
        stage = f"Loading {file.display_name} · {file.level}"
        allow_unfit = anyway and self._settings.allow_load_anyway
        loading = self._pool.open(file.path, self.picker.context(choice), allow_unfit=allow_unfit)
        try:
            while not stop.is_set():
                try:
                    yield Frame(progress=load_progress(next(loading).fraction, stage))
                except StopIteration as end:
                    lease: Lease = end.value
                    return lease
            return None
        finally:
            loading.close()

    def _written(self, lease: Lease, talk: Talk, wish: Wish, stop: threading.Event) -> Iterator[Frame]:
        longest = min(wish.max_tokens, self._settings.max_reply_tokens)
        updates = reply(
            lease.engine, talk.conversation, wish.sampling, longest, interval_seconds=self._interval_seconds
        )
        token: Token | None = None
        message = Message("assistant", "")
        try:
            for update in updates:
                token = _last_token(update.events) or token
                message = update.message
                if update.finished:
                    yield self._ended(lease, talk.answered(message, update.finished), update, token)
                    return
                if stop.is_set():
                    yield Frame(_kept(talk, message), phase="rest", live=live_line(token, stopped=True))
                    return
                if update.event:
                    meter = _meter(token, update.context_size) if token else None
                    yield Frame(talk, message, live=live_line(update.event), meter=meter)
        except PlaygroundError as error:
            yield self._failed(error, _kept(talk, message))
        finally:
            updates.close()

    def _ended(self, lease: Lease, talk: Talk, update: ReplyUpdate, token: Token | None) -> Frame:
        assert update.finished
        memory = update.finished.memory or lease.engine.loaded.memory
        return Frame(
            talk,
            phase="rest",
            live=live_line(update.finished),
            meter=_meter(token, update.context_size),
            details=reply_details(update.finished.timings, lease.plan, memory),
            problem=_left_out(update.left_out),
        )

    def _failed(self, error: PlaygroundError, talk: Talk | None = None) -> Frame:
        anyway = isinstance(error, DoesNotFit) and self._settings.allow_load_anyway
        return Frame(
            talk, phase="rest", live=live_line(None), progress="", problem=error_card(error), may_load_anyway=anyway
        )

    @contextmanager
    def _running(self, session: str) -> Iterator[threading.Event]:
        """One thing at a time for each session; the flag is set by `stop`."""
        flag = threading.Event()
        with self._lock:
            if session in self._stops:
                raise RequestRefused("This chat is still busy.", "Wait for the reply, or stop it first.")
            self._stops[session] = flag
        try:
            yield flag
        finally:
            with self._lock:
                del self._stops[session]


def _kept(talk: Talk, message: Message) -> Talk:
    """The chat with as much of a broken-off reply as there is."""
    return talk.answered(message, None) if message.content or message.thinking else talk


def _last_token(events: tuple[Event, ...]) -> Token | None:
    return next((event for event in reversed(events) if isinstance(event, Token)), None)


def _meter(token: Token | None, context_size: int) -> str:
    return context_meter(token.context_used if token else None, context_size)


def _left_out(messages: int) -> str:
    if not messages:
        return ""
    return notice(
        f"The oldest {counted(messages, 'message')} of this chat had no room in the context and were not read. "
        "A larger context keeps more in view.",
        "warning",
    )


def _loaded(lease: Lease) -> str:
    loaded = lease.engine.loaded
    memory: Memory = loaded.memory
    ready = notice(f"Loaded in {seconds(loaded.seconds)} and ready.", "good")
    return f"{ready}{predicted_beside_measured(lease.plan, memory)}"
