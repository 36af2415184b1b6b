"""One reply for a program: from its messages and functions to pieces of thoughts, answer and calls.

Unlike the page's chats, nothing is left out of a conversation that is too long: a program gets an error, and decides.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Literal

from playground.chat.programs.reply_splitter import ReplySplitter
from playground.chat.programs.tool_calls import name_of, schema_of_calls
from playground.chat.programs.tool_formats import forced_call, formats_of
from playground.chat.reasoning import ReplyParser
from playground.chat.reply_log import ReplyLog
from playground.chat.template.marking import RenderedPrompt, controls_spelled
from playground.chat.template.message import Message, Tool, ToolCall
from playground.chat.template.render import ChatTemplate, chat_template
from playground.chat.template.thinking import ThinkingChoice
from playground.chat.thought_marks import PAIRS, mark_at_end
from playground.engine.interface import Engine, EventStream
from playground.engine.protocol import Embedded, Event, Finished, Prefilled, ReplyRequest, Token
from playground.errors import PromptTooLong, RequestRefused, TemplateRefused
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import NO_EXTRAS, Sampling, SamplingExtras

ToolChoice = Literal["auto", "none", "required"]


@dataclass(frozen=True)
class ProgramRequest:
    """What a program asks for.

    messages: the conversation; one of the assistant at the end is continued. prompt: a bare text to continue instead.
    tool_choice: one of the three words; only_tool: the name of the one function that has to be called.
    thinking: None leaves it to the template. max_tokens: None for as many as are allowed and fit.
    alternatives: how many of the most likely tokens come with each token.
    choices: how many replies are written, each by itself; with a seed, each has the next one.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    only_tool: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    extras: SamplingExtras = NO_EXTRAS
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking: bool | None = None
    reproducible: bool = False
    alternatives: int = 0
    choices: int = 1

    def for_choice(self, number: int) -> ProgramRequest:
        """The same request for one reply of several, counted from 0."""
        seed = self.sampling.seed
        sampling = self.sampling if seed is None else replace(self.sampling, seed=seed + number)
        return replace(self, choices=1, sampling=sampling)

    @property
    def question(self) -> str:
        """The last text that is not of the model, for the log."""
        if self.prompt is not None:
            return self.prompt
        return next((message.content for message in reversed(self.messages) if message.role != "assistant"), "")

    @property
    def offered_tools(self) -> tuple[Tool, ...]:
        """The functions that the model is offered. Raises RequestRefused if a call is demanded and none can be made."""
        if not self.tools and (self.only_tool or self.tool_choice == "required"):
            raise RequestRefused("tool_choice demands a call, and no tools are given.", "Send tools, or leave it out.")
        if self.tool_choice == "none" or not self.tools:
            return ()
        if not self.only_tool:
            return self.tools
        chosen = tuple(tool for tool in self.tools if name_of(tool) == self.only_tool)
        if not chosen:
            raise RequestRefused(f"tool_choice names {self.only_tool[:80]}, which is not among the tools.")
        return chosen

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or bool(self.only_tool)


@dataclass(frozen=True)
class ReplyPiece:
    """What is new since the piece before. prefilled: how far the prompt is read, if that is news.

    malformed_calls: what looked like calls, and is given back as text. embedded: vectors, where these were asked for.
    choice: of which of several replies it is, counted from 0.
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    malformed_calls: int = 0
    tokens: tuple[Token, ...] = ()
    prefilled: Prefilled | None = None
    finished: Finished | None = None
    embedded: tuple[Embedded, ...] = ()
    choice: int = 0

    @property
    def is_empty(self) -> bool:
        return self == ReplyPiece(choice=self.choice)


@dataclass(frozen=True)
class _Prepared:
    """A prompt, and how to read the reply to it."""

    rendered: RenderedPrompt
    reading: ReplySplitter
    stop: tuple[str, ...]
    extras: SamplingExtras


def stream_choices(
    engine: Engine, request: ProgramRequest, *, interval_seconds: float, visitor: Visitor | None = None
) -> Generator[ReplyPiece, None, None]:
    """The pieces of every reply that is asked for, as `stream_program_reply` yields them; all are written at once."""
    with ExitStack() as stack:
        streams: dict[int, Generator[ReplyPiece, None, None]] = {}
        for number in range(request.choices):
            streams[number] = stack.enter_context(
                closing(
                    stream_program_reply(
                        engine,
                        request.for_choice(number),
                        interval_seconds=interval_seconds / request.choices,
                        visitor=visitor,
                    )
                )
            )
        while streams:
            for number, stream in tuple(streams.items()):
                piece = next(stream, None)
                if piece is None:
                    del streams[number]
                else:
                    yield replace(piece, choice=number)


def stream_program_reply(
    engine: Engine, request: ProgramRequest, *, interval_seconds: float, visitor: Visitor | None = None
) -> Generator[ReplyPiece, None, None]:
    """Yield the reply in pieces about every `interval_seconds`, also empty ones; closing the generator cancels it.

    Raises PromptTooLong, RequestRefused, TemplateRefused, and what the engine raises.
    """
    log = ReplyLog(engine.name, visitor, request.question)
    with log.write_at_end():
        prepared = _prepare(engine, request)
        rendered = prepared.rendered
        tokens, size = _count(engine, rendered), engine.loaded.context_size
        if tokens >= size:
            raise PromptTooLong(tokens, size)
        if not tokens:
            raise RequestRefused("The prompt is empty.", "Send a text.")
        stream = engine.start_reply(
            ReplyRequest(
                rendered.text,
                request.sampling,
                request.max_tokens,
                stop=prepared.stop,
                reproducible=request.reproducible,
                alternatives=request.alternatives,
                literal=rendered.literal,
                extras=prepared.extras,
            )
        )
        yield from _followed(stream, prepared.reading, log, interval_seconds)


def count_prompt(engine: Engine, request: ProgramRequest) -> int:
    """How many tokens the prompt of this request has; it may be longer than the context. Raises TemplateRefused."""
    return _count(engine, _prepare(engine, request).rendered)


def _count(engine: Engine, rendered: RenderedPrompt) -> int:
    return engine.count_tokens(rendered.text, rendered.literal)


def _followed(
    stream: EventStream, reading: ReplySplitter, log: ReplyLog, interval_seconds: float
) -> Generator[ReplyPiece, None, None]:
    try:
        while stream.is_open:
            events = stream.events_within(interval_seconds)
            log.add_events(events)
            piece = _piece_of(reading, events)
            log.answer += piece.text
            log.malformed_calls += piece.malformed_calls
            log.tool_calls += len(piece.calls)
            yield piece
    finally:
        stream.close()


def _piece_of(reading: ReplySplitter, events: Sequence[Event]) -> ReplyPiece:
    tokens = tuple(event for event in events if isinstance(event, Token))
    finished = next((event for event in events if isinstance(event, Finished)), None)
    prefilled = next((event for event in reversed(events) if isinstance(event, Prefilled)), None)
    text = "".join(token.text for token in tokens) + (finished.text if finished else "")
    part = reading.read(text, final=finished is not None)
    return ReplyPiece(
        part.answer, part.thinking, part.calls, len(part.malformed), tokens, prefilled=prefilled, finished=finished
    )


def _prepare(engine: Engine, request: ProgramRequest) -> _Prepared:
    if request.prompt is not None:
        return _Prepared(RenderedPrompt(request.prompt), ReplySplitter(), request.stop, request.extras)
    loaded = engine.loaded
    template = chat_template(loaded.chat_template, loaded.bos, loaded.eos)
    try:
        return _prepare_chat(engine, template, request)
    except TemplateRefused as error:
        return _prepare_chat(engine, template.replaced_by_chatml(error), request)


def _prepare_chat(engine: Engine, template: ChatTemplate, request: ProgramRequest) -> _Prepared:
    tools = request.offered_tools
    begun = forced_call(template.source) if request.must_call else None
    extras, thinking = request.extras, request.thinking
    if begun:
        if extras.has_grammar:
            raise RequestRefused("A forced call and a response_format exclude each other.", "Ask for one of them.")
        extras = replace(extras, json_schema=schema_of_calls(tools, begun))
    if extras.has_grammar and thinking is None:
        thinking = False  # a form for the whole reply leaves no place for thoughts
    continued = request.messages[-1].content if request.messages and request.messages[-1].role == "assistant" else ""
    messages = request.messages[:-1] if continued else request.messages
    rendered = template.render_prompt(
        messages, controls_spelled(engine.loaded.control_texts), thinking=ThinkingChoice(thinking), tools=tools
    )
    pairs = template.thought_pairs
    opener = mark_at_end(rendered.text, pairs)
    thoughts = ReplyParser(opener, pairs, rendered.text)
    closer = dict((*pairs, *PAIRS)).get(opener or "", "")
    if begun:
        rendered = replace(rendered, text=f"{rendered.text}{closer}{begun.prefix}")
        thoughts = ReplyParser(None, pairs, "") if closer else thoughts
    elif extras.has_grammar and closer:
        extras = replace(extras, free_until=closer)
    rendered = replace(rendered, text=rendered.text + continued)
    formats = formats_of(template.source)
    reading = ReplySplitter(thoughts, formats, tools, begun)
    return _Prepared(rendered, reading, (*request.stop, *template.stop_strings), extras)
