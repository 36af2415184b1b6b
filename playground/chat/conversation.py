"""A conversation as a value, and the reply to it as a stream.

Every change gives a new Conversation, so that earlier points stay to return to. `reply` joins the pieces: history to
prompt (template.py), prompt to events (an engine), text to thoughts and answer (thinking.py). A server makes the prompt
itself: it is given the messages, and the rest is the same. It starts no clock and shows nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from playground.chat.history import HistoryLimits, checked_text, read_history
from playground.chat.reasoning import ReplyParser, SplitReply, thinking_opener
from playground.chat.reply_log import ReplyLog
from playground.chat.template.render import ChatTemplate, Message, chat_template
from playground.engine.protocol import Event, Finished, Loaded, Sampling, Token
from playground.engine.remote.engine import RemoteEngine
from playground.errors import RequestRefused
from playground.fit.plan import MemoryPlan
from playground.limits.runs import Visitor

REPLY_ROOM_TOKENS: Final = 256  # kept free for a reply, or a quarter of a small context


class EventStream(Protocol):
    """The events of one reply; ends after Finished, and `close` cancels it."""

    def __next__(self) -> Event: ...
    def events_within(self, seconds: float) -> list[Event]: ...
    def close(self) -> None: ...
    @property
    def is_open(self) -> bool: ...


class Engine(Protocol):
    """A loaded model in a process of this computer; it takes a prompt, where a RemoteEngine takes messages."""

    @property
    def loaded(self) -> Loaded: ...
    @property
    def name(self) -> str: ...
    def count_tokens(self, text: str) -> int: ...
    def start_reply(
        self,
        prompt: str,
        sampling: Sampling,
        max_tokens: int | None = None,
        stop: tuple[str, ...] = (),
        reproducible: bool = False,
        alternatives: int = 0,
        chat: str = "",
    ) -> EventStream: ...


class Lease(Protocol):
    """The right to use a model: of the pool's, in this computer's memory, or of a server's, which has no plan here."""

    @property
    def engine(self) -> Engine | RemoteEngine: ...
    @property
    def plan(self) -> MemoryPlan | None: ...
    def release(self) -> None: ...
    def __enter__(self) -> Lease: ...
    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Conversation:
    """What was said, oldest first; messages are the user's and the assistant's, the system prompt stands apart."""

    system: str = ""
    messages: tuple[Message, ...] = ()

    def ask(self, text: str) -> Conversation:
        """With one more question."""
        if not text.strip():
            raise RequestRefused("The message is empty.", "Type something first.")
        return replace(self, messages=(*self.messages, Message("user", checked_text(text, "The message"))))

    def answered(self, message: Message) -> Conversation:
        """With the assistant's reply."""
        return replace(self, messages=(*self.messages, message))

    def edit_last(self, text: str) -> Conversation:
        """The last question put differently; what followed it is dropped."""
        return self.branch_at(self._last_question()).ask(text)

    def without_last_reply(self) -> Conversation:
        """Up to and with the last question: what a new reply is made from."""
        return self.branch_at(self._last_question() + 1)

    def branch_at(self, count: int) -> Conversation:
        """The conversation as it was after its first `count` messages."""
        return replace(self, messages=self.messages[: max(count, 0)])

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_untrusted` reads back."""
        messages = [
            {"role": message.role, "content": message.content}
            | ({"thinking": message.thinking} if message.thinking else {})
            for message in self.messages
        ]
        return {"system": self.system, "messages": messages}

    @classmethod
    def from_untrusted(cls, data: object, limits: HistoryLimits | None = None) -> Conversation:
        """Raises RequestRefused for what is too much or not of the right form; see history.py for the forms."""
        return cls(*read_history(data, limits or HistoryLimits()))

    def _last_question(self) -> int:
        places = [place for place, message in enumerate(self.messages) if message.role == "user"]
        if not places:
            raise RequestRefused("There is no question in this chat yet.", "Ask something first.")
        return places[-1]


@dataclass(frozen=True)
class ReplyUpdate:
    """Where a reply stands: the text so far, and the engine's events since the update before.

    left_out: messages at the beginning that had no room in this prompt; they stay in the conversation. prompt_tokens
    and context_size: tokens, None where a server keeps them to itself. finished: the reason and the timings, in the
    last update.
    """

    thinking: str
    answer: str
    events: tuple[Event, ...]
    left_out: int
    prompt_tokens: int | None
    context_size: int | None

    @property
    def event(self) -> Event | None:
        """The newest event; None when nothing happened since the update before."""
        return self.events[-1] if self.events else None

    @property
    def last_token(self) -> Token | None:
        """The newest token; None when none was written since the update before."""
        return next((event for event in reversed(self.events) if isinstance(event, Token)), None)

    @property
    def finished(self) -> Finished | None:
        return self.event if isinstance(self.event, Finished) else None

    @property
    def message(self) -> Message:
        """The reply so far, as a turn to keep."""
        return Message("assistant", self.answer, self.thinking)


@dataclass(frozen=True)
class Prompt:
    """What the model is given: the text, its tokens, and how many of the oldest messages had no room in it."""

    text: str
    tokens: int
    left_out: int


@dataclass(frozen=True)
class _Asked:
    """A reply under way: its events, who reads its text, and what is known of its prompt."""

    stream: EventStream
    parser: ReplyParser
    context_size: int | None
    prompt_tokens: int | None = None
    left_out: int = 0


def reply(
    engine: Engine | RemoteEngine,
    conversation: Conversation,
    sampling: Sampling,
    max_tokens: int | None = None,
    *,
    thinking: bool | None = None,
    reproducible: bool = False,
    alternatives: int = 0,
    interval_seconds: float | None = None,
    visitor: Visitor | None = None,
) -> Generator[ReplyUpdate, None, None]:
    """The assistant's reply to the last question, as it grows; closing the generator cancels it.

    An update comes with each event, or, with interval_seconds, about that often with all events since then, and then
    also when there are none. Raises RequestRefused when even the last question has no room, TemplateRefused, and what
    the engine raises. thinking and reproducible are for a model of this computer; a server does as it is set up.
    visitor: who asked, for the log; their page's next reply from this engine takes over the sequence of this one.
    """
    account = ReplyLog(engine.name, visitor, conversation.messages[-1].content if conversation.messages else "")
    with account.kept():
        if isinstance(engine, RemoteEngine):
            asked = _ask_server(engine, conversation, sampling, max_tokens, alternatives)
        else:
            chat = visitor.session if visitor else ""
            asked = _ask_here(engine, conversation, sampling, max_tokens, thinking, reproducible, alternatives, chat)
        yield from _followed(asked, account, interval_seconds)


def _followed(asked: _Asked, account: ReplyLog, interval_seconds: float | None) -> Generator[ReplyUpdate, None, None]:
    stream, parser = asked.stream, asked.parser
    so_far = SplitReply()
    try:
        while stream.is_open:
            events = [next(stream)] if interval_seconds is None else stream.events_within(interval_seconds)
            for event in events:
                so_far += _said(parser, event)
            account.hear(events)
            account.answer = so_far.answer
            yield ReplyUpdate(
                so_far.thinking, so_far.answer, tuple(events), asked.left_out, asked.prompt_tokens, asked.context_size
            )
    finally:
        stream.close()


def _ask_here(
    engine: Engine,
    conversation: Conversation,
    sampling: Sampling,
    max_tokens: int | None,
    thinking: bool | None,
    reproducible: bool,
    alternatives: int,
    chat: str,
) -> _Asked:
    loaded = engine.loaded
    template = chat_template(loaded.chat_template, loaded.bos, loaded.eos)
    prompt = fitting_prompt(engine, template, conversation, max_tokens, thinking=thinking)
    opener = thinking_opener(prompt.text)
    parser = ReplyParser(opener is not None, opener or "<think>")
    stream = engine.start_reply(
        prompt.text, sampling, max_tokens, template.stop_strings, reproducible, alternatives, chat
    )
    return _Asked(stream, parser, loaded.context_size, prompt.tokens, prompt.left_out)


def _ask_server(
    engine: RemoteEngine, conversation: Conversation, sampling: Sampling, max_tokens: int | None, alternatives: int
) -> _Asked:
    """The whole conversation goes out: what has no room is the server's to refuse, since only it can count."""
    _question_of(conversation)
    system = [{"role": "system", "content": conversation.system}] if conversation.system.strip() else []
    turns = [{"role": message.role, "content": message.content} for message in conversation.messages]
    stream = engine.start_reply([*system, *turns], sampling, max_tokens, alternatives)
    return _Asked(stream, ReplyParser(), engine.model.context_size)


def fitting_prompt(
    engine: Engine,
    template: ChatTemplate,
    conversation: Conversation,
    max_tokens: int | None = None,
    *,
    thinking: bool | None = None,
) -> Prompt:
    """The prompt with as much of the conversation as leaves room for a reply.

    The oldest turns are left out, each question with its answers; the system prompt and the last message never are.
    Raises RequestRefused when that is still too much.
    """
    messages = conversation.messages
    _question_of(conversation)
    context_size = engine.loaded.context_size
    room = min(REPLY_ROOM_TOKENS, context_size // 4, max_tokens or REPLY_ROOM_TOKENS)

    def prompt_from(cut: int) -> Prompt:
        system = (Message("system", conversation.system),) if conversation.system.strip() else ()
        text = template.render((*system, *messages[cut:]), thinking=thinking)
        return Prompt(text, engine.count_tokens(text), cut)

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
    """Raises RequestRefused where the conversation does not end with one."""
    if not conversation.messages or conversation.messages[-1].role != "user":
        raise RequestRefused("There is no question to answer.", "Write a message first.")
    return conversation.messages[-1]


def _said(parser: ReplyParser, event: Event) -> SplitReply:
    if isinstance(event, Token):
        return parser.feed(event.text)
    if isinstance(event, Finished):
        return parser.feed(event.text) + parser.finish()
    return SplitReply()
