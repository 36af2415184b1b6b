"""A conversation as an immutable value, and the reply to it as a stream of updates.

`stream_reply` turns the messages into a prompt (template/render.py), sends it to an engine, and splits the text that
comes back into thoughts and answer (reasoning.py). A remote engine gets the messages and makes the prompt itself. All
timings come from the engine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from playground.chat.history import HistoryLimits, checked_text, read_history, write_message, write_turn
from playground.chat.programs.reply_splitter import ReplyPart, ReplySplitter
from playground.chat.programs.tool_formats import HERMES, formats_of
from playground.chat.reasoning import ReplyParser
from playground.chat.reply_log import ReplyLog
from playground.chat.template.marking import controls_spelled
from playground.chat.template.message import MalformedCall, Message, Tool, ToolCall, as_plain_turns
from playground.chat.template.render import ChatTemplate, chat_template
from playground.chat.template.thinking import AS_IT_LIKES, ThinkingChoice
from playground.chat.thought_marks import PAIRS, Pair, mark_at_end
from playground.engine.interface import Engine, EventStream
from playground.engine.protocol import UNKNOWN_ID, Event, Finished, Remark, ReplyRequest, Token
from playground.engine.remote.engine import RemoteEngine
from playground.engine.remote.protocol import RemoteRequest
from playground.errors import RequestRefused, TemplateRefused
from playground.limits.visitor import Visitor
from playground.llama.control_tokens import Span
from playground.llama.sampling_extras import NO_EXTRAS, Sampling, SamplingExtras
from playground.text_format import counted

REPLY_ROOM_TOKENS: Final = 256  # kept free for a reply, or a quarter of a small context
_NO_TOOLS_NOTE: Final = "This model's chat template knows no tools, so the model was offered none."


@dataclass(frozen=True)
class WrittenReply:
    """What is there of a reply that shall go on. text: as the model wrote it, with the marks around its thoughts.

    Without tokens, as after a reload, the message is read again; then the marks are those that the template names.
    """

    message: Message
    tokens: tuple[int, ...] = ()
    text: str = ""

    def with_events(self, events: Sequence[Event], message: Message) -> WrittenReply:
        """With what has come since; unchanged if a server wrote it, whose tokens have no numbers."""
        tokens = [event for event in events if isinstance(event, Token)]
        texts = [event.text for event in events if isinstance(event, Token | Finished)]
        if any(token.id == UNKNOWN_ID for token in tokens):
            return WrittenReply(message)
        ids = (*self.tokens, *(token.id for token in tokens))
        return WrittenReply(message, ids, self.text + "".join(texts))


NOTHING_WRITTEN: Final = WrittenReply(Message("assistant", ""))


@dataclass(frozen=True)
class Conversation:
    """The system prompt, and the messages of user and assistant, oldest first."""

    system: str = ""
    messages: tuple[Message, ...] = ()

    def with_question(self, text: str) -> Conversation:
        """Add a question. Raises RequestRefused for an empty one."""
        if not text.strip():
            raise RequestRefused("The message is empty.", "Type something first.")
        return replace(self, messages=(*self.messages, Message("user", checked_text(text, "The message"))))

    def with_reply(self, message: Message) -> Conversation:
        """Add the assistant's reply."""
        return replace(self, messages=(*self.messages, message))

    def without_last_reply(self) -> Conversation:
        """The messages up to and including the last question."""
        return self.first_messages(self._last_question() + 1)

    def first_messages(self, count: int) -> Conversation:
        """The conversation after its first `count` messages."""
        return replace(self, messages=self.messages[: max(count, 0)])

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_untrusted` reads back."""
        return {"system": self.system, "messages": [write_message(message) for message in self.messages]}

    @classmethod
    def from_untrusted(cls, data: object, limits: HistoryLimits | None = None) -> Conversation:
        """Read messages from a browser or a file, in the forms of history.py. Raises RequestRefused."""
        return cls(*read_history(data, limits or HistoryLimits()))

    def _last_question(self) -> int:
        places = [place for place, message in enumerate(self.messages) if message.role == "user"]
        if not places:
            raise RequestRefused("This chat has no question yet.", "Ask something first.")
        return places[-1]


@dataclass(frozen=True)
class ReplyUpdate:
    """The text so far, and the engine's events since the update before.

    left_out: how many of the oldest messages did not fit into the prompt; they stay in the conversation. prompt_tokens
    and context_size: in tokens, None if a server does not report them. finished: set in the last update. template_note:
    what is unusual about the model's chat template, for people. where: what is to be said of where it was written.
    calls, malformed: calls of tools in it, and what only looks like some.
    """

    thinking: str
    answer: str
    events: tuple[Event, ...]
    left_out: int
    prompt_tokens: int | None
    context_size: int | None
    template_note: str = ""
    where: str = ""
    calls: tuple[ToolCall, ...] = ()
    malformed: tuple[MalformedCall, ...] = ()

    @property
    def event(self) -> Event | None:
        """The newest event; None if nothing happened since the update before."""
        return self.events[-1] if self.events else None

    @property
    def last_token(self) -> Token | None:
        """The newest token; None when none was written since the update before."""
        return next((event for event in reversed(self.events) if isinstance(event, Token)), None)

    @property
    def has_first_token(self) -> bool:
        """Whether the reply begins with this update."""
        return any(isinstance(event, Token) and event.count == 1 for event in self.events)

    @property
    def finished(self) -> Finished | None:
        return self.event if isinstance(self.event, Finished) else None

    @property
    def message(self) -> Message:
        """The reply so far, as a message."""
        return Message("assistant", self.answer, self.thinking, self.calls, malformed_calls=self.malformed)

    @property
    def characters(self) -> int:
        """The length of the reply so far."""
        return len(self.thinking) + len(self.answer)

    @property
    def missing_answer(self) -> str:
        """Why a finished reply has no answer, and what to try; empty if it has one, or if a person stopped it."""
        return missing_answer(self.message, self.finished)

    @property
    def remarks(self) -> str:
        """All that a person should know of a finished reply: sentences, or empty."""
        left_out = (
            f"The oldest {counted(self.left_out, 'message')} of this chat did not fit into the context, so the model "
            "did not read them. A larger context holds more."
        )
        said = (self.missing_answer, left_out if self.left_out else "", self.template_note, self.where)
        return " ".join(filter(None, said))


def missing_answer(reply: Message, finished: Finished | None) -> str:
    """As `ReplyUpdate.missing_answer`. finished: None while the reply is being written."""
    if finished is None or finished.reason == "cancelled" or reply.content.strip() or reply.tool_calls:
        return ""
    has_thoughts = bool(reply.thinking.strip())
    if finished.reason == "length limit":
        what = "The reply reached its longest length before an answer began"
        remedy = "Raise “Longest reply” (on the command line, --max-tokens)"
    elif finished.reason == "context full":
        what = "The context was full before an answer began"
        remedy = "Choose a larger context, or start a new chat"
    elif has_thoughts:
        what = "The model ended its reply after its thoughts, without an answer"
        remedy = "Ask again, ask in other words, or try another level of this model"
    else:
        what = "The model ended its reply at once, without a word"
        remedy = "Ask again with another seed or a higher temperature, ask in other words, or try another model"
    thoughts = ": there are only its thoughts" if has_thoughts and finished.reason != "end of text" else ""
    return f"{what}{thoughts}. {remedy}."


@dataclass(frozen=True)
class Prompt:
    """The text for the model, its number of tokens, and how many of the oldest messages were left out.

    literal: the spans of the text in which a control token is only spelled out, because somebody typed it.
    """

    text: str
    tokens: int
    left_out: int
    literal: tuple[Span, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A reply under way: its events, the parser of its text, the figures of its prompt, and what was there before."""

    stream: EventStream
    splitter: ReplySplitter
    context_size: int | None
    prompt_tokens: int | None = None
    left_out: int = 0
    template_note: str = ""
    written: str = ""


def stream_reply(
    engine: Engine | RemoteEngine,
    conversation: Conversation,
    sampling: Sampling,
    max_tokens: int | None = None,
    *,
    thinking: ThinkingChoice = AS_IT_LIKES,
    reproducible: bool = False,
    alternatives: int = 0,
    tools: Sequence[Tool] = (),
    interval_seconds: float | None = None,
    visitor: Visitor | None = None,
    written: WrittenReply | None = None,
) -> Generator[ReplyUpdate, None, None]:
    """Yield the reply to the last question as it grows; closing the generator cancels it.

    Yields an update for each event, or, with interval_seconds, about that often with all events since then, if any.
    Raises RequestRefused if even the last question does not fit, TemplateRefused, and what the engine raises. Remote
    engines ignore reproducible, and of thinking all but whether it is off. tools: what the model may call, if its
    template knows tools; a server decides that itself. visitor: for the log; the next reply of the same page and
    engine reuses the sequence of this one. written: what is there of the reply already; it goes on after that, with up
    to max_tokens more, and each update has all of it; a server's reply cannot go on, which raises RequestRefused.
    """
    log = ReplyLog(engine.name, visitor, conversation.messages[-1].content if conversation.messages else "")
    with log.write_at_end():
        if isinstance(engine, RemoteEngine) and written:
            raise RequestRefused("A server’s reply cannot go on from here.", "Raise “Longest reply” and regenerate it.")
        if isinstance(engine, RemoteEngine):
            asked = _ask_server(engine, conversation, sampling, max_tokens, alternatives, thinking, tools)
        else:
            chat = visitor.session if visitor else ""
            settings = _LocalSettings(max_tokens, thinking, reproducible, alternatives, chat, tools)
            asked = _ask_here(engine, conversation, sampling, settings, written)
        yield from _followed(asked, log, interval_seconds)


def _followed(asked: _Asked, log: ReplyLog, interval_seconds: float | None) -> Generator[ReplyUpdate, None, None]:
    stream, splitter = asked.stream, asked.splitter
    so_far = splitter.read(asked.written) if asked.written else ReplyPart()
    where = ""
    try:
        while stream.is_open:
            events = [next(stream)] if interval_seconds is None else stream.events_within(interval_seconds)
            for event in events:
                if isinstance(event, Token | Finished):
                    so_far += splitter.read(event.text, final=isinstance(event, Finished))
                if isinstance(event, Remark) and event.lasts:
                    where = f"{where} {event.text}".strip()
            log.add_events(events)
            log.answer = so_far.answer
            log.tool_calls, log.malformed_calls = len(so_far.calls), len(so_far.malformed)
            yield ReplyUpdate(
                thinking=so_far.thinking,
                answer=so_far.answer,
                events=tuple(events),
                left_out=asked.left_out,
                prompt_tokens=asked.prompt_tokens,
                context_size=asked.context_size,
                template_note=asked.template_note,
                where=where,
                calls=so_far.calls,
                malformed=so_far.malformed,
            )
    finally:
        stream.close()


@dataclass(frozen=True)
class _LocalSettings:
    """As the parameters of `stream_reply`."""

    max_tokens: int | None
    thinking: ThinkingChoice
    reproducible: bool
    alternatives: int
    chat: str
    tools: Sequence[Tool]


def _ask_here(
    engine: Engine,
    conversation: Conversation,
    sampling: Sampling,
    settings: _LocalSettings,
    written: WrittenReply | None,
) -> _Asked:
    thinking, tools = settings.thinking, settings.tools
    template, prompt = fitting_prompt(engine, conversation, settings.max_tokens, thinking=thinking, tools=tools)
    pairs = template.thought_pairs
    opener = mark_at_end(prompt.text, pairs)
    parser = ReplyParser(opener, pairs, prompt.text)
    offered = settings.tools if template.takes_tools else ()
    splitter = ReplySplitter(parser, formats_of(template.source), offered, may_replace=True)
    text, literal, before = prompt.text, prompt.literal, ""
    if written:
        before = written.text or _as_written(written.message, opener, pairs)
        if not written.tokens:
            text, literal = text + before, (*literal, (len(text), len(text) + len(before)))
        _check_room(engine, prompt, written, before)
    limit = settings.thinking.limit(opener, pairs)
    extras = SamplingExtras(thinking=limit) if limit else NO_EXTRAS
    stream = engine.start_reply(
        ReplyRequest(
            text,
            sampling,
            settings.max_tokens,
            stop=template.stop_strings,
            reproducible=settings.reproducible,
            alternatives=settings.alternatives,
            chat=settings.chat,
            literal=literal,
            extras=extras,
            written=written.tokens if written else (),
        )
    )
    note = template.note_for(has_system=bool(conversation.system.strip()))
    if settings.tools and not offered:
        note = f"{note} {_NO_TOOLS_NOTE}".strip()
    size = engine.loaded.context_size
    return _Asked(stream, splitter, size, prompt.tokens, prompt.left_out, note, before)


def _as_written(message: Message, opener: str | None, pairs: Sequence[Pair]) -> str:
    """A reply as its model wrote it, as far as that is known: thoughts between the marks of its template."""
    if not message.thinking:
        return message.content
    known = dict((*PAIRS, *pairs))
    first = opener if opener in known else next(iter(dict(pairs or PAIRS)))
    begun = message.thinking if opener else f"{first}\n{message.thinking}"
    return f"{begun}\n{known[first or '']}\n\n{message.content}" if message.content else begun


def _check_room(engine: Engine, prompt: Prompt, written: WrittenReply, text: str) -> None:
    """Raises RequestRefused if the context has no room for one more token."""
    length = len(written.tokens) or engine.count_tokens(text)
    if prompt.tokens + length + 1 >= engine.loaded.context_size:
        raise RequestRefused("The context is full, so this reply cannot go on.", "Choose a larger context.")


def _ask_server(
    engine: RemoteEngine, conversation: Conversation, sampling: Sampling, max_tokens: int | None, alternatives: int,
    thinking: ThinkingChoice, tools: Sequence[Tool],
) -> _Asked:  # fmt: skip
    """Send the whole conversation: only the server can count its tokens, so it refuses what does not fit.

    Where no tools are offered, earlier calls and their results are sent as text: some servers refuse them otherwise.
    """
    _question_of(conversation)
    system = [{"role": "system", "content": conversation.system}] if conversation.system.strip() else []
    messages = conversation.messages if tools else as_plain_turns(conversation.messages, ())
    turns = [*system, *map(write_turn, messages)]
    thinks = thinking.switch is not False
    stream = engine.start_reply(RemoteRequest(turns, sampling, max_tokens, alternatives, tools, thinks))
    splitter = ReplySplitter(ReplyParser(), (HERMES,), tools, may_replace=True)
    return _Asked(stream, splitter, engine.model.context_size)


def fitting_prompt(
    engine: Engine,
    conversation: Conversation,
    max_tokens: int | None = None,
    *,
    thinking: ThinkingChoice = AS_IT_LIKES,
    tools: Sequence[Tool] = (),
) -> tuple[ChatTemplate, Prompt]:
    """Render as much of the conversation as leaves room for a reply, with the model's template or ChatML in its place.

    The oldest turns are left out, each question with its answers; the system prompt and the last message never are.
    Raises RequestRefused if that is still too long, TemplateRefused if the template objects to this conversation.
    """
    loaded = engine.loaded
    template = chat_template(loaded.chat_template, loaded.bos, loaded.eos)
    try:
        return template, _fitting_prompt(engine, template, conversation, max_tokens, thinking, tools)
    except TemplateRefused as error:
        template = template.replaced_by_chatml(error)
        return template, _fitting_prompt(engine, template, conversation, max_tokens, thinking, tools)


def _fitting_prompt(
    engine: Engine,
    template: ChatTemplate,
    conversation: Conversation,
    max_tokens: int | None,
    thinking: ThinkingChoice,
    tools: Sequence[Tool],
) -> Prompt:
    messages = conversation.messages
    _question_of(conversation)
    context_size = engine.loaded.context_size
    controls = controls_spelled(engine.loaded.control_texts)
    offered = tools if template.takes_tools else ()
    room = min(REPLY_ROOM_TOKENS, context_size // 4, max_tokens or REPLY_ROOM_TOKENS)

    def prompt_from(cut: int) -> Prompt:
        system = (Message("system", conversation.system),) if conversation.system.strip() else ()
        turns = (*system, *messages[cut:])
        rendered = template.render_prompt(turns, controls, thinking=thinking, tools=offered)
        return Prompt(rendered.text, engine.count_tokens(rendered.text, rendered.literal), cut, rendered.literal)

    whole = prompt_from(0)
    if whole.tokens + room <= context_size:
        return whole
    cuts = [place for place, message in enumerate(messages) if message.role == "user" and place > 0]
    first = bisect_left(cuts, True, key=lambda cut: prompt_from(cut).tokens + room <= context_size)
    if first < len(cuts):
        return prompt_from(cuts[first])
    needed = prompt_from(cuts[-1]).tokens if cuts else whole.tokens
    what = "Your message and the system prompt take" if conversation.system.strip() else "Your message takes"
    raise RequestRefused(
        f"{what} {needed:,} tokens; a context of {context_size:,} has room for {context_size - room:,} beside a reply.",
        "Shorten it, or choose a larger context.",
    )


def _question_of(conversation: Conversation) -> Message:
    """The last message. Raises RequestRefused if it is neither a question nor what a tool returned."""
    if not conversation.messages or conversation.messages[-1].role == "assistant":
        raise RequestRefused("There is no question to answer.", "Type a message first.")
    return conversation.messages[-1]
