"""What happens in the Chat tab: a load, a reply, a stop; as a stream of frames that the tab draws.

Joins the picker's choice, the pool and the conversation. Knows no component: a frame says what is new on the page, and
tests read frames. A stop is a flag that the running generator looks at several times a second, because a generator that
is thrown away cannot say how far it came. The last frame comes when all that was held is given back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal

from playground.app.loaded_models import LoadedModels, LoadedModelsView
from playground.app.makeable_levels import quantization_progress
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.app.refusals import error_message
from playground.chat.conversation import Lease, ReplyUpdate, reply
from playground.chat.history import HistoryLimits, check_chat
from playground.chat.session import ChatSession, ModelUsed
from playground.chat.template.render import Message
from playground.engine.local.pool import LoadStatus, ModelPool
from playground.engine.protocol import Memory, Queued, Sampling, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import DoesNotFit, PlaygroundError, RequestRefused
from playground.limits.runs import Run, Visitor, Work
from playground.models.library import ModelFile
from playground.settings import Settings
from playground.text_format import counted, seconds
from playground.web.html.memory import predicted_beside_measured
from playground.web.html.page import notice, status_message
from playground.web.html.reply import context_meter, live_line, load_progress, reply_details

PLACE: Final = "chat"  # of a page, where one thing at a time goes on

Phase = Literal["rest", "loading", "replying"]


@dataclass(frozen=True)
class ChatUpdate:
    """What is new on the page; None leaves a part as it is. `growing` is the reply so far."""

    talk: ChatSession | None = None
    growing: Message | None = None
    phase: Phase | None = None
    live: str | None = None
    meter: str | None = None
    details: str | None = None
    problem: str | None = None
    progress: str | None = None
    may_load_anyway: bool | None = None
    loaded_models: LoadedModelsView | None = None
    made: bool = False  # a level is on the disk that was not


@dataclass(frozen=True)
class ChatRequest:
    """How the next reply should be made."""

    choice: ModelChoice
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 512


class ChatService:
    """Serves every visitor's chat; the picker's ledger of visits keeps them apart and sees to their shares."""

    def __init__(
        self, settings: Settings, pool: ModelPool, picker: ModelPickerService, loaded_models: LoadedModels
    ) -> None:
        self.picker = picker
        self.loaded_models = loaded_models
        self.runs = picker.runs
        self.limits = HistoryLimits.of(settings)
        self._settings = settings
        self._pool = pool
        self._interval_seconds = 1 / settings.updates_per_second

    # --- what a person does ---

    def send(self, visitor: Visitor, talk: ChatSession, text: str, wish: ChatRequest) -> Iterator[ChatUpdate]:
        """The question into the chat, the model loaded if need be, the reply as it grows."""
        try:
            asked = self._within_limits(talk.asked(text, self.limits), wish)
        except PlaygroundError as error:
            yield ChatUpdate(problem=error_message(error, visitor))
            return
        yield from self._answer(visitor, asked, wish)

    def regenerate(self, visitor: Visitor, talk: ChatSession, wish: ChatRequest) -> Iterator[ChatUpdate]:
        """Another reply to the last question."""
        try:
            asked = self._within_limits(talk.asked_again(), wish)
        except PlaygroundError as error:
            yield ChatUpdate(problem=error_message(error, visitor))
            return
        yield from self._answer(visitor, asked, wish)

    def load(self, visitor: Visitor, choice: ModelChoice, *, anyway: bool = False) -> Iterator[ChatUpdate]:
        """The chosen model into memory, with progress, then predicted beside measured."""
        begin = ChatUpdate(phase="loading", problem="", may_load_anyway=False)
        yield from self._running(visitor, "load", choice, begin, lambda run: self._loaded(visitor, choice, run, anyway))

    def stop(self, visitor: Visitor) -> None:
        """Ends what this page's chat has under way, within one update."""
        self.runs.stop_run(visitor, PLACE)

    def join(self, visitor: Visitor, pressed: str) -> ModelChoice:
        """The choice that a button among the models in memory means; whatever waits for another is given up."""
        self.runs.stop_run(visitor, PLACE, only_if_waiting=True)
        return self.loaded_models.read_button(pressed)

    # --- how it goes ---

    def _within_limits(self, talk: ChatSession, wish: ChatRequest) -> ChatSession:
        """The chat with its system text; raises RequestRefused for too much, asked or to be answered."""
        self.runs.check_reply_length(wish.max_tokens)
        talk = talk.with_system(wish.system)
        check_chat(talk.conversation.system, talk.conversation.messages, self.limits)
        return talk

    def _answer(self, visitor: Visitor, talk: ChatSession, wish: ChatRequest) -> Iterator[ChatUpdate]:
        begin = ChatUpdate(talk, phase="replying", live=live_line(None), problem="", details="", may_load_anyway=False)
        replying = partial(self._replied, visitor, talk, wish)
        yield from self._running(visitor, "reply", wish.choice, begin, replying, talk)

    def _running(
        self,
        visitor: Visitor,
        work: Work,
        choice: ModelChoice,
        begin: ChatUpdate,
        doing: Callable[[Run], Generator[ChatUpdate, None, ChatUpdate]],
        talk: ChatSession | None = None,
    ) -> Iterator[ChatUpdate]:
        """The frames of a work inside the visitor's share; whatever went wrong in it, the last one is at rest."""
        with ExitStack() as share:
            try:
                run = share.enter_context(self.runs.start_run(visitor, work, PLACE))
            except RequestRefused as error:
                yield ChatUpdate(problem=error_message(error, visitor))
                return
            yield begin
            try:
                last = yield from doing(run)
            except PlaygroundError as error:
                last = self._failed(error, visitor, talk)
        yield replace(last, loaded_models=self.loaded_models.view(choice))

    def _loaded(
        self, visitor: Visitor, choice: ModelChoice, run: Run, anyway: bool
    ) -> Generator[ChatUpdate, None, ChatUpdate]:
        file = yield from self._file(visitor, choice, run)
        lease = (yield from self._loading(file, choice, run, anyway)) if file else None
        if lease is None:
            said = notice("Loading was cancelled; nothing is kept.")
            return ChatUpdate(
                phase="rest", progress=error_message(run.interruption, visitor) if run.interruption else said
            )
        with lease:
            return ChatUpdate(phase="rest", progress=_ready(lease))

    def _replied(
        self, visitor: Visitor, talk: ChatSession, wish: ChatRequest, run: Run
    ) -> Generator[ChatUpdate, None, ChatUpdate]:
        file = yield from self._file(visitor, wish.choice, run)
        lease = (yield from self._loading(file, wish.choice, run, anyway=False)) if file else None
        if file is None or lease is None:
            said = error_message(run.interruption, visitor) if run.interruption else notice("Loading was cancelled.")
            return ChatUpdate(talk, phase="rest", progress="", problem=said)
        with lease:
            run.release_if_abandoned(lease.release)
            yield ChatUpdate(progress="")
            return (yield from self._written(lease, self._prepared(talk, wish, file), wish, run))

    def _prepared(self, talk: ChatSession, wish: ChatRequest, file: ModelFile | RemoteModel) -> ChatSession:
        if isinstance(file, RemoteModel):
            used = ModelUsed(file.display_name, file.display_name, file.level, file.context_size)
        else:
            used = ModelUsed(file.display_name, file.file_name, file.level, wish.choice.context_size or 0)
        return replace(talk, model=used, sampling=wish.sampling, max_tokens=wish.max_tokens)

    def _file(
        self, visitor: Visitor, choice: ModelChoice, run: Run
    ) -> Generator[ChatUpdate, None, ModelFile | RemoteModel | None]:
        """The chosen model, made first with progress where it is only on offer; None when it was stopped."""
        made = False
        with closing(self.picker.prepare_model(choice, run.is_stopped, visitor)) as making:
            try:
                while True:
                    progress = next(making)
                    made = True
                    run.restart_wait()  # a making has its own longest time
                    yield ChatUpdate(progress=status_message(quantization_progress(choice.level, progress)))
            except StopIteration as end:
                file: ModelFile | RemoteModel | None = end.value
        if made and file:
            yield ChatUpdate(made=True)
        return file

    def _loading(
        self, file: ModelFile | RemoteModel, choice: ModelChoice, run: Run, anyway: bool
    ) -> Generator[ChatUpdate, None, Lease | None]:
        """Frames with progress, or why it has to wait, then the lease; None when it was stopped."""
        stage = f"Loading {file.display_name} · {file.level}"
        loading: Generator[LoadStatus, None, Lease]
        if isinstance(file, RemoteModel):
            loading, stage = self.picker.servers.lease_model(file), f"Asking {file.server}"
        else:
            allow_unfit = anyway and self._settings.allow_load_anyway
            loading = self._pool.lease_model(
                file.path, self.picker.context_parameters(choice), allow_unfit=allow_unfit, wait_for_memory=True
            )
        run.close_if_abandoned(loading)
        try:
            while not run.is_stopped():
                try:
                    progress = next(loading)
                except StopIteration as end:
                    lease: Lease = end.value
                    return lease
                waits = self.loaded_models.waiting_sentence(progress.waiting)
                yield ChatUpdate(progress=load_progress(None if waits else progress.fraction, waits or stage))
            return None
        finally:
            loading.close()

    def _written(
        self, lease: Lease, talk: ChatSession, wish: ChatRequest, run: Run
    ) -> Generator[ChatUpdate, None, ChatUpdate]:
        updates = reply(
            lease.engine,
            talk.conversation,
            wish.sampling,
            wish.max_tokens,
            interval_seconds=self._interval_seconds,
            visitor=run.visitor,
        )
        run.close_if_abandoned(updates)
        token: Token | None = None
        message = Message("assistant", "")
        try:
            for update in updates:
                token = update.last_token or token
                message = update.message
                if update.event and not isinstance(update.event, Queued):
                    run.begin_work()
                if update.finished:
                    return self._ended(lease, talk.answered(message, update.finished), update, token)
                if run.is_stopped():
                    return _broken_off(_kept(talk, message), token, run)
                if update.event:
                    meter = _meter(token, update.context_size) if token else None
                    yield ChatUpdate(talk, message, live=live_line(update.event), meter=meter)
            return _broken_off(_kept(talk, message), token, run)  # given up in our place meanwhile
        except PlaygroundError as error:
            return self._failed(error, run.visitor, _kept(talk, message))
        finally:
            updates.close()

    def _ended(self, lease: Lease, talk: ChatSession, update: ReplyUpdate, token: Token | None) -> ChatUpdate:
        assert update.finished
        loaded = lease.engine.loaded
        memory = update.finished.memory or (loaded.memory if loaded else None)
        return ChatUpdate(
            talk,
            phase="rest",
            live=live_line(update.finished),
            meter=_meter(token, update.context_size),
            details=reply_details(update.finished.timings, lease.plan, memory),
            problem=_left_out(update.left_out),
        )

    def _failed(self, error: PlaygroundError, visitor: Visitor, talk: ChatSession | None = None) -> ChatUpdate:
        anyway = isinstance(error, DoesNotFit) and self._settings.allow_load_anyway
        return ChatUpdate(
            talk,
            phase="rest",
            live=live_line(None),
            progress="",
            problem=error_message(error, visitor),
            may_load_anyway=anyway,
        )


def _broken_off(talk: ChatSession, token: Token | None, run: Run) -> ChatUpdate:
    """Stopped by the person, by the longest time a reply may take, or by the end of the playground."""
    if run.interruption:
        live = live_line(token, stopped=run.stopped_by)
        return ChatUpdate(talk, phase="rest", live=live, problem=error_message(run.interruption, run.visitor))
    return ChatUpdate(talk, phase="rest", live=live_line(token, stopped="person"))


def _kept(talk: ChatSession, message: Message) -> ChatSession:
    """The chat with as much of a broken-off reply as there is."""
    return talk.answered(message, None) if message.content or message.thinking else talk


def _meter(token: Token | None, context_size: int | None) -> str:
    return context_meter(token.context_used if token else None, context_size)


def _left_out(messages: int) -> str:
    if not messages:
        return ""
    return notice(
        f"The oldest {counted(messages, 'message')} of this chat had no room in the context and were not read. "
        "A larger context keeps more in view.",
        "warning",
    )


def _ready(lease: Lease) -> str:
    loaded = lease.engine.loaded
    if loaded is None or lease.plan is None:
        return notice("Nothing to load: this model runs on a server, in memory of its own.", "good")
    memory: Memory = loaded.memory
    ready = notice(f"Loaded in {seconds(loaded.seconds)} and ready.", "good")
    return f"{ready}{predicted_beside_measured(lease.plan, memory)}"
