"""The chat of a front end: sends questions, loads models and streams replies, as updates that hold facts.

A stop sets a flag that the running generator checks several times a second, so that it can still report how far the
reply came. The last update of a work comes after everything that it held is released.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from playground.app.chat.keeping import ChatKeeping
from playground.app.chat.opening import ModelOpener, at_place_of_reply
from playground.app.chat.tools import MOST_ROUNDS, TOO_MANY_ROUNDS, ToolRunner
from playground.app.chat.updates import (
    ChatRequest,
    ChatUpdate,
    ContextUse,
    LoadReport,
    ReplyActivity,
    ReplyDetails,
    refused_update,
)
from playground.app.drawing_pace import DrawingPace
from playground.app.loaded_models import LoadedModels
from playground.app.messages import CLEAR, CUT_SHORT_SENTENCES, Notice, log_refusal
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.resumable import ResumableReplies
from playground.chat.conversation import NOTHING_WRITTEN, ReplyUpdate, WrittenReply, stream_reply
from playground.chat.export import where_it_ran
from playground.chat.history import HistoryLimits, check_chat
from playground.chat.saved_chat import read_growing_reply
from playground.chat.session import NOT_RUN, ChatSession, ModelUsed, read_instructions
from playground.chat.speed_trace import SpeedTrace
from playground.chat.template.message import Message, Tool
from playground.chat.tools.built_in import AttachedText
from playground.engine.interface import Lease
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Finished, Queued, Remark, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import DoesNotFit, PlaygroundError, RequestRefused
from playground.limits.run import Run, Work
from playground.limits.visitor import Visitor
from playground.models.model_file import ModelFile
from playground.settings import Settings

PLACE: Final = "chat"  # of a page, where one thing at a time goes on
_STOP_SECONDS: Final = 5.0  # for a reply to end, before another level is asked
_ANOTHER_LEVEL: Final = "It ended when another level was asked."
_TOO_MANY_ROUNDS: Final = Notice(
    f"The tools have run {MOST_ROUNDS} times for this question, the most here, and the model called them again. Ask "
    "again in other words, or ask for less at once.",
    "warning",
)


class ChatService:
    """Serves the chats of all visitors, each within its share of runs.

    replies: those that go on without their page for a while. keeping: what comes back after a reload, a clear, a file.
    """

    def __init__(
        self,
        settings: Settings,
        pool: ModelPool,
        picker: ModelPickerService,
        loaded_models: LoadedModels,
        replies: ResumableReplies[ChatUpdate] | None = None,
        tools: ToolRunner | None = None,
    ) -> None:
        self.replies: ResumableReplies[ChatUpdate] = replies or ResumableReplies()
        self.picker = picker
        self.loaded_models = loaded_models
        self.runs = picker.runs
        self.limits = HistoryLimits.of(settings)
        self.tools = tools or ToolRunner()
        self.keeping = ChatKeeping(self.runs, self.limits, self.replies)
        self._settings = settings
        self._opener = ModelOpener(settings, pool, picker, loaded_models)
        self._interval_seconds = 1 / settings.updates_per_second

    # --- what a visitor does ---

    def send_message(
        self, visitor: Visitor, session: ChatSession, text: str, request: ChatRequest, key: str = ""
    ) -> Iterator[ChatUpdate]:
        """Add the question, load the model if it is not loaded, stream the reply.

        key: with which the page finds the reply again, if it is closed or loses its connection; "": it ends then.
        """
        try:
            asked = self._checked(session.with_question(text, self.limits), request)
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        yield from self._answer(visitor, asked, request, key)

    def regenerate_reply(
        self, visitor: Visitor, session: ChatSession, request: ChatRequest, key: str = ""
    ) -> Iterator[ChatUpdate]:
        """Replace the last reply by another one."""
        try:
            asked = self._checked(session.without_last_reply(), request)
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        yield from self._answer(visitor, asked, request, key)

    def answer_calls(
        self, visitor: Visitor, session: ChatSession, request: ChatRequest, key: str = "", *, allow: bool
    ) -> Iterator[ChatUpdate]:
        """Run the calls that wait for the person, or tell the model that they were not allowed; the reply goes on."""
        try:
            if not session.pending_calls:
                raise RequestRefused("No call of a tool waits here.", "Ask something first.")
            if allow and request.tools == "off":
                raise RequestRefused("The tools are switched off.", "Switch them on in the settings, or do not run it.")
            asked = self._checked(session if allow else session.with_calls_refused(NOT_RUN), request)
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        yield from self._answer(visitor, asked, request, key)

    def continue_reply(
        self, visitor: Visitor, session: ChatSession, request: ChatRequest, key: str = ""
    ) -> Iterator[ChatUpdate]:
        """The last reply, which was cut off, goes on from where it stopped, by the level that wrote it."""
        try:
            written = session.reply_to_continue
            asked = self._checked(session.without_last_reply(), request)
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        if session.model.chosen:
            model, level = session.model.chosen
            request = replace(request, choice=replace(request.choice, model=model, level=level))
        yield from self._answer(visitor, asked, request, key, _Goal(session, written))

    def swap_level(
        self, visitor: Visitor, session: ChatSession, request: ChatRequest, key: str = "", growing: str = ""
    ) -> Iterator[ChatUpdate]:
        """The last question to the level that is chosen now; the answer until now stays beside the new one.

        A whole answer that this level gave before comes back at once. Yields nothing before the first question.
        growing: what was written of a reply that this ends, as `growing_text` writes it.
        """
        self.runs.stop_run(visitor, PLACE)
        self.runs.wait_until_free(visitor, PLACE, _STOP_SECONDS)
        if session.is_empty:
            return
        if growing and session.is_waiting and not session.others:
            session = session.with_partial_reply(read_growing_reply(growing, self.limits), _ANOTHER_LEVEL)
        if session.rounds:
            refusal = RequestRefused("This answer used tools.", "Regenerate asks the level that is chosen now.")
            yield refused_update(refusal, visitor)
            return
        chosen = (request.choice.model or "", request.choice.level or "")
        if not session.is_waiting and session.model.chosen == chosen:
            yield ChatUpdate(session, phase="rest")
        elif there := session.with_other_answer(chosen):
            self.replies.forget(key)
            yield ChatUpdate(there, phase="rest", activity=ReplyActivity(there.last_end), problem=CLEAR)
        else:
            try:
                asked = self._checked(session.with_answer_aside(), request)
            except PlaygroundError as error:
                yield refused_update(error, visitor)
                return
            yield from self._answer(visitor, asked, request, key, _Goal(asked.with_answer_back()))

    def keep_answer(self, session: ChatSession, *, is_newest: bool, key: str = "") -> ChatUpdate:
        """One of the two answers that stand beside each other, alone."""
        self.replies.forget(key)
        kept = session.with_newest_kept() if is_newest else session.with_other_kept()
        return ChatUpdate(kept, phase="rest", activity=ReplyActivity(kept.last_end), problem=CLEAR)

    def load_model(self, visitor: Visitor, choice: ModelChoice, *, allow_unfit: bool = False) -> Iterator[ChatUpdate]:
        """Load the chosen model, with progress; the last update has a LoadReport.

        allow_unfit: load it although it does not fit, where the settings allow that.
        """
        first = ChatUpdate(phase="loading", problem=CLEAR, may_load_anyway=False)
        yield from self._run(visitor, "load", choice, first, partial(self._load, choice, allow_unfit))

    def unload_model(self, choice: ModelChoice) -> ChatUpdate:
        """Give the memory of the chosen model back, unless somebody uses it."""
        outcome = self.loaded_models.unload_selected(choice)
        return ChatUpdate(progress=outcome, loaded_models=self.loaded_models.view(choice))

    def stop_work(self, visitor: Visitor) -> None:
        """End the reply or the load that this page has under way, within one update."""
        self.runs.stop_run(visitor, PLACE)

    def choose_loaded_model(self, visitor: Visitor, row_value: str) -> ModelChoice:
        """The choice that selects a loaded model; if this page's chat waits for another model, that ends."""
        self.runs.stop_run(visitor, PLACE, only_if_waiting=True)
        return self.loaded_models.read_button(row_value)

    def attach_text(self, visitor: Visitor, session: ChatSession, path: Path) -> ChatUpdate:
        """The session with an uploaded file for the tools to read."""
        try:
            given = read_instructions(path, self.limits)
        except PlaygroundError as error:
            return refused_update(error, visitor)
        return ChatUpdate(replace(session, attached=AttachedText(given.name, given.text)), problem=CLEAR)

    # --- how it goes ---

    def _checked(self, session: ChatSession, request: ChatRequest) -> ChatSession:
        """The session with its system prompt; raises RequestRefused if it, or the reply, would be too long."""
        self.runs.check_reply_length(request.max_tokens)
        session = session.with_system_prompt(request.system)
        check_chat(session.conversation.system, session.conversation.messages, self.limits)
        return session

    def _answer(
        self, visitor: Visitor, session: ChatSession, request: ChatRequest, key: str, goal: _Goal | None = None
    ) -> Iterator[ChatUpdate]:
        goal = goal or _Goal(session)
        chosen = (request.choice.model or "", request.choice.level or "")
        session = replace(session, model=ModelUsed(level=chosen[1], chosen=chosen))  # until it is loaded
        first = ChatUpdate(
            session, goal.message, phase="replying", activity=ReplyActivity(), problem=CLEAR, may_load_anyway=False
        )
        work = partial(self._reply, session, request, goal)
        reply = partial(self._run, visitor, "reply", request.choice, first, work, goal.instead)
        yield from self.replies.start(key, visitor, lambda has_begun: reply(has_begun=has_begun))

    def _run(
        self,
        visitor: Visitor,
        kind: Work,
        choice: ModelChoice,
        first: ChatUpdate,
        work: Callable[[Run], Generator[ChatUpdate, None, ChatUpdate]],
        session: ChatSession | None = None,
        has_begun: Callable[[Run], None] | None = None,
    ) -> Iterator[ChatUpdate]:
        """The updates of a work within the visitor's share. The last one is at rest, also after an error.

        has_begun: takes the run of a work that goes on without its page for a while.
        """
        absence_seconds = self.replies.absence_seconds if has_begun else 0.0
        with ExitStack() as share:
            try:
                run = share.enter_context(self.runs.start_run(visitor, kind, PLACE, absence_seconds=absence_seconds))
            except RequestRefused as error:
                yield refused_update(error, visitor)
                return
            if has_begun:
                has_begun(run)
            yield first
            try:
                last = yield from work(run)
            except PlaygroundError as error:
                last = self._failed(error, visitor, session)
        yield replace(last, loaded_models=self.loaded_models.view(choice))

    def _load(self, choice: ModelChoice, allow_unfit: bool, run: Run) -> Generator[ChatUpdate, None, ChatUpdate]:
        opened = yield from self._opener.open_model(choice, run, allow_unfit=allow_unfit)
        if opened is None:
            return ChatUpdate(phase="rest", progress=_stop_reason(run) or Notice("Loading cancelled."))
        with opened.lease:
            return ChatUpdate(phase="rest", progress=_load_result(opened.lease))

    def _reply(
        self, session: ChatSession, request: ChatRequest, goal: _Goal, run: Run
    ) -> Generator[ChatUpdate, None, ChatUpdate]:
        opened = yield from at_place_of_reply(session, goal.message, self._opener.open_model(request.choice, run))
        if opened is None:
            why = _stop_reason(run) or Notice("Loading cancelled.")
            return ChatUpdate(goal.instead, phase="rest", activity=ReplyActivity(), progress=CLEAR, problem=why)
        with opened.lease as lease:
            run.release_if_abandoned(lease.release)
            used = _model_used(opened.model, request.choice)
            answering = replace(session, model=used, sampling=request.sampling, max_tokens=request.max_tokens)
            last = yield from self._rounds(lease, answering, request, goal, run)
        messages = last.session.conversation.messages if last.session else ()
        has_more = len(messages) > len(session.conversation.messages)  # results of tools, too
        return last if has_more else replace(last, session=goal.instead)

    def _rounds(
        self, lease: Lease, session: ChatSession, request: ChatRequest, goal: _Goal, run: Run
    ) -> Generator[ChatUpdate, None, ChatUpdate]:
        """Replies, and between them what the tools that they call return, up to a bound."""
        if request.tools != "off":
            yield from self.tools.start(session, run)
        while True:
            if session.pending_calls:
                session = yield from self.tools.answer_calls(session, run)
            last = yield from self._stream(lease, session, goal, run, self.tools.offered(session, request.tools))
            goal = _Goal(session)
            if request.tools != "off":
                last = self.tools.with_problems(last)
            if last.session is None or not last.session.pending_calls:
                return last
            session = last.session
            if session.rounds > MOST_ROUNDS:
                return replace(last, session=session.with_calls_refused(TOO_MANY_ROUNDS), problem=_TOO_MANY_ROUNDS)
            if request.tools != "allowed":
                return last
            yield ChatUpdate(session, Message("assistant", ""), activity=last.activity, context=last.context)

    def _stream(
        self, lease: Lease, session: ChatSession, goal: _Goal, run: Run, tools: tuple[Tool, ...]
    ) -> Generator[ChatUpdate, None, ChatUpdate]:
        updates = stream_reply(
            lease.engine,
            session.conversation,
            session.sampling,
            session.max_tokens,
            thinking=session.model.thinking,
            tools=tools,
            interval_seconds=self._interval_seconds,
            visitor=run.visitor,
            written=goal.written,
        )
        run.close_if_abandoned(updates)
        token: Token | None = None
        trace, pace = SpeedTrace(), DrawingPace(self._interval_seconds)
        written = goal.written or NOTHING_WRITTEN
        try:
            with closing(updates):
                for update in updates:
                    token = update.last_token or token
                    trace = trace.with_token(update.last_token)
                    written = written.with_events(update.events, update.message)
                    if update.event and not isinstance(update.event, Queued | Remark):
                        run.begin_work()
                    if update.finished:
                        return _finished(lease, session, update, goal, written, ReplyActivity(token, trace=trace))
                    if run.is_stopped():
                        break
                    if update.event and (not update.last_token or pace.is_due(update.characters)):
                        context = _context_use(session, token, update) if token else None
                        activity = ReplyActivity(update.event, load_seconds=lease.load_seconds, trace=trace)
                        yield ChatUpdate(session, update.message, activity=activity, context=context)
        except PlaygroundError as error:
            failed = self._failed(error, run.visitor, session.with_partial_reply(written.message, str(error), written))
            return replace(failed, activity=ReplyActivity(token, "failure", trace=trace)) if token else failed
        activity = ReplyActivity(token, run.stopped_by, trace=trace)  # also if `run` has closed the generator itself
        reason = _stop_reason(run)
        why = str(reason) if reason else CUT_SHORT_SENTENCES[run.stopped_by]
        session = session.with_partial_reply(written.message, why, written)
        return ChatUpdate(session, phase="rest", activity=activity, problem=reason)

    def _failed(self, error: PlaygroundError, visitor: Visitor, session: ChatSession | None = None) -> ChatUpdate:
        return replace(
            refused_update(error, visitor),
            session=session,
            phase="rest",
            activity=ReplyActivity(),
            progress=CLEAR,
            may_load_anyway=isinstance(error, DoesNotFit) and not error.ran_out and self._settings.allow_load_anyway,
        )


@dataclass(frozen=True)
class _Goal:
    """What a reply is for. instead: the chat if nothing comes. written: what is there of a reply that shall go on."""

    instead: ChatSession
    written: WrittenReply | None = None

    @property
    def message(self) -> Message | None:
        return self.written.message if self.written else None

    def whole(self, finished: Finished) -> Finished:
        """The end of the whole reply, also of the part that was there before."""
        before = self.instead.last_end if self.written else None
        return replace(finished, timings=before.timings.continued_by(finished.timings)) if before else finished


def _finished(
    lease: Lease, session: ChatSession, update: ReplyUpdate, goal: _Goal, written: WrittenReply, so_far: ReplyActivity
) -> ChatUpdate:
    """so_far: the last token before the end, and the speed until then."""
    assert update.finished
    token = so_far.event if isinstance(so_far.event, Token) else None
    finished = goal.whole(update.finished)
    context = _context_use(session, token, update)
    remarks = update.remarks or context.forgets
    loaded = lease.engine.loaded
    memory = update.finished.memory or (loaded.memory if loaded else None)
    if lease.plan:
        session = replace(session, model=replace(session.model, ran_on=where_it_ran(lease.plan, memory)))
    return ChatUpdate(
        replace(session.with_reply(update.message, finished), written=written),
        phase="rest",
        activity=ReplyActivity(finished, load_seconds=lease.load_seconds, trace=so_far.trace),
        context=context,
        details=ReplyDetails(finished.timings, lease.plan, memory, lease.load_seconds),
        problem=Notice(remarks, "info" if remarks == update.where else "warning") if remarks else CLEAR,
    )


def _context_use(session: ChatSession, token: Token | None, update: ReplyUpdate) -> ContextUse:
    read = [place for place in session.questions if place >= update.left_out]
    first = session.conversation.messages[read[0]].content if len(read) > 1 else ""
    return ContextUse(token.context_used if token else None, update.context_size, update.left_out, first)


def _stop_reason(run: Run) -> RequestRefused | None:
    """Why the run was ended, if its visitor did not end it; a log line says so."""
    reason = run.interruption
    if reason:
        log_refusal(reason, run.visitor)
    return reason


def _load_result(lease: Lease) -> LoadReport | Notice:
    loaded = lease.engine.loaded
    if loaded is None or lease.plan is None:
        return Notice("Nothing to load: this model runs on a server and uses its memory.", "good")
    return LoadReport(loaded.seconds, lease.plan, loaded.memory)


def _model_used(model: ModelFile | RemoteModel, choice: ModelChoice) -> ModelUsed:
    chosen = (choice.model, choice.level) if choice.model and choice.level else None
    if isinstance(model, RemoteModel):
        return ModelUsed(model.display_name, model.display_name, model.level, model.context_size, chosen=chosen)
    size, kv_type, device, thinking = choice.context_size, choice.kv_type, choice.device, choice.thinking
    names = (model.display_name, model.file_name, model.level)
    return ModelUsed(*names, size, kv_type, chosen, device, thinking=thinking)
