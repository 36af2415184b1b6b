"""Turns a conversation into the prompt that a model was trained on, by the chat template inside its file.

The template is a stranger's program: renderer_process.py runs it in a confined child. This file knows what templates
expect to be given and how they differ: some have no system role, some insist on alternating roles, some want contents
in parts.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from playground.chat.template.marking import ControlMarks, RenderedPrompt, spelled_otherwise
from playground.chat.template.message import Message as Message
from playground.chat.template.message import Tool, ToolCall, as_plain_turns, changed_json, read_arguments
from playground.chat.template.renderer_process import (
    REMEDY,
    RENDERER,
    TemplateObjects,
    TemplateRenderer,
    TemplateStopped,
)
from playground.chat.template.thinking import AS_IT_LIKES, EFFORT, THINKING_SWITCHES, ThinkingChoice
from playground.chat.thought_marks import Pair, pair_around, template_pairs
from playground.errors import TemplateRefused
from playground.llama.control_tokens import ControlTokens

# ChatML, the most common form of a prompt, for models that bring no template.
CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_END_OF_TURN: Final = "<|im_end|>"

_NO_TEMPLATE: Final = "This model file has no chat template."
_FALLBACK_IN_PLACE: Final = (
    "The playground uses ChatML instead, the most common one. "
    "If the replies look odd, try another file of this model; or the model is not made for chatting."
)
_NO_SYSTEM_NOTE: Final = (
    "This model's template has no place for instructions: they are put in front of the first message instead."
)
# As Hugging Face's renderer gives them. Some templates for tools go through the list unasked: those get none at all, as
# llama.cpp leaves it out.
_NO_TOOLS: Final[dict[str, Any]] = {"tools": None, "documents": None}
_PROBE_SYSTEM, _PROBE_USER = "Amaranth.", "Bergamot."  # texts that no template contains by itself
_PROBE_THOUGHTS, _PROBE_ANSWER = "Cardamom.", "Damson."


class ChatTemplate:
    """A chat template ready to render. Raises TemplateRefused where it cannot be read.

    source: Jinja, as in a GGUF file's `tokenizer.chat_template`; None takes ChatML. bos and eos: the texts of the
    model's first and last token, which templates write themselves. renderer: the program's own, except in tests. fault:
    why the model's own template cannot be used and ChatML takes its place; pairs: the marks of thoughts that it names.
    """

    def __init__(
        self,
        source: str | None,
        bos: str,
        eos: str,
        renderer: TemplateRenderer = RENDERER,
        fault: str = "",
        pairs: tuple[Pair, ...] = (),
    ) -> None:
        self.fault = fault
        self._named_pairs = pairs or template_pairs(source)
        self.is_fallback = not (source and source.strip())
        self._source = CHATML if self.is_fallback or source is None else source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._renderer = renderer
        longest = renderer.limits.source_characters
        if len(self._source) > longest:
            raise TemplateRefused(
                f"The chat template is {len(self._source)} characters long; the playground reads up to {longest}.",
                REMEDY,
            )
        self._names = renderer.read_names(self._source)

    def render(
        self, messages: Sequence[Message], *, thinking: ThinkingChoice = AS_IT_LIKES, tools: Sequence[Tool] = ()
    ) -> str:
        """The prompt, up to where the assistant's next reply begins. Raises TemplateRefused.

        tools: the functions that the model may call; a template that knows none gets them as text.

        thinking: as the template takes it. A template without a system
        role gets the system text in front of the first message, and one that insists on alternating roles gets
        neighbours of the same role as one message.
        """
        if not self.takes_tools:
            messages, tools = as_plain_turns(messages, tools), ()
        given = list(messages) if self.takes_system else _with_system_folded(messages)
        try:
            return self._render_with_tools(given, thinking, tools)
        except TemplateObjects:
            merged = _with_neighbours_merged(given)
            if len(merged) == len(given):
                raise
            return self._render_with_tools(merged, thinking, tools)

    def _render_with_tools(self, given: Sequence[Message], thinking: ThinkingChoice, tools: Sequence[Tool]) -> str:
        """Most templates want a call's arguments as an object; some join them to text, and fail."""
        try:
            return self._render(given, thinking, as_parts=self._takes_parts, tools=tools)
        except (TemplateStopped, TemplateObjects):
            raise
        except TemplateRefused:
            if not any(message.tool_calls for message in given):
                raise
            return self._render(given, thinking, as_parts=self._takes_parts, tools=tools, arguments_as_text=True)

    def render_prompt(
        self,
        messages: Sequence[Message],
        controls: ControlTokens,
        *,
        thinking: ThinkingChoice = AS_IT_LIKES,
        tools: Sequence[Tool] = (),
    ) -> RenderedPrompt:
        """As `render`, with what the messages spell of the model's control tokens marked as text.

        Where the template changes what stands for them meanwhile, they are spelled with another first letter.
        """
        marks = ControlMarks(controls)
        prompt = self._render_changed(messages, marks.take_out, thinking, tools)
        if not marks.is_used:
            return RenderedPrompt(prompt)
        if (rendered := marks.put_back(prompt)) is not None:
            return rendered
        return RenderedPrompt(
            self._render_changed(messages, lambda text: spelled_otherwise(text, controls), thinking, tools)
        )

    def _render_changed(
        self,
        messages: Sequence[Message],
        change: Callable[[str], str],
        thinking: ThinkingChoice,
        tools: Sequence[Tool],
    ) -> str:
        """`render`, after each text of messages and tools was changed."""
        changed_tools = [changed_json(tool, change) for tool in tools]
        return self.render([_changed(one, change) for one in messages], thinking=thinking, tools=changed_tools)

    def note_for(self, *, has_system: bool) -> str:
        """What a person should know of this template; empty where there is nothing to say.

        has_system: whether the chat has a system text.
        """
        if self.is_fallback:
            return f"{self.fault} {_FALLBACK_IN_PLACE}" if self.fault else f"{_NO_TEMPLATE} {_FALLBACK_IN_PLACE}"
        return _NO_SYSTEM_NOTE if has_system and not self.takes_system else ""

    def replaced_by_chatml(self, error: TemplateRefused) -> ChatTemplate:
        """ChatML in place of a template that raised the error while it rendered a conversation.

        Raises the error again where the template only objects to this conversation and takes others.
        """
        if self.is_fallback or (isinstance(error, TemplateObjects) and self._takes_questions):
            raise error
        tokens, pairs = self._tokens, self._named_pairs
        return ChatTemplate(None, tokens["bos_token"], tokens["eos_token"], self._renderer, error.problem, pairs)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Where a reply ends besides the model's own end token: ChatML's mark may be ordinary text to this model."""
        return (CHATML_END_OF_TURN,) if self.is_fallback else ()

    @property
    def takes_tools(self) -> bool:
        """Whether the template writes out the functions that the model may call."""
        return "tools" in self._names

    @property
    def source(self) -> str:
        return self._source

    @functools.cached_property
    def takes_system(self) -> bool:
        """Whether a system text reaches the prompt, found out by rendering one."""
        messages = [Message("system", _PROBE_SYSTEM), Message("user", _PROBE_USER)]
        try:
            return _PROBE_SYSTEM in self._render(messages, AS_IT_LIKES, as_parts=self._takes_parts)
        except TemplateStopped:
            raise
        except TemplateRefused:
            return not self._can_render(messages[1:], as_parts=self._takes_parts)

    @functools.cached_property
    def thought_pairs(self) -> tuple[Pair, ...]:
        """The marks around thoughts that the template names, or writes around those of an earlier reply."""
        turns = [Message("user", _PROBE_USER), Message("assistant", _PROBE_ANSWER, _PROBE_THOUGHTS)]
        try:
            written = pair_around(
                _PROBE_THOUGHTS, self._render(turns, ThinkingChoice(True), as_parts=self._takes_parts)
            )
        except TemplateRefused:
            written = None
        named = self._named_pairs
        return (*named, written) if written and written not in named else named

    @functools.cached_property
    def _takes_parts(self) -> bool:
        """Whether contents must be lists of parts, as some templates of models that see pictures demand."""
        messages = [Message("user", _PROBE_USER)]
        return not self._can_render(messages, as_parts=False) and self._can_render(messages, as_parts=True)

    @property
    def _takes_questions(self) -> bool:
        """Whether the template renders at least a single question."""
        return self._can_render([Message("user", _PROBE_USER)], as_parts=self._takes_parts)

    def _can_render(self, messages: Sequence[Message], *, as_parts: bool) -> bool:
        try:
            return _PROBE_USER in self._render(messages, AS_IT_LIKES, as_parts=as_parts)
        except TemplateStopped:
            raise
        except TemplateRefused:
            return False

    def _render(
        self,
        messages: Sequence[Message],
        thinking: ThinkingChoice,
        *,
        as_parts: bool,
        tools: Sequence[Tool] = (),
        arguments_as_text: bool = False,
    ) -> str:
        variables: dict[str, Any] = {
            "messages": [_as_template_sees_it(message, as_parts, arguments_as_text) for message in messages],
            "add_generation_prompt": True,
            **self._tokens,
        }
        if thinking.switch is not None:
            variables |= dict.fromkeys(THINKING_SWITCHES, thinking.switch)
        if thinking.effort:
            variables[EFFORT] = thinking.effort
        input_characters = sum(message.characters for message in messages)
        if tools:
            variables["tools"] = list(tools)
            input_characters += len(json.dumps(variables["tools"]))
            return self._renderer.render(self._source, {"documents": None, **variables}, input_characters)
        try:
            return self._renderer.render(self._source, variables | _NO_TOOLS, input_characters)
        except (TemplateStopped, TemplateObjects):
            raise
        except TemplateRefused as error:
            try:
                return self._renderer.render(self._source, variables, input_characters)
            except TemplateRefused:
                raise error from None


def chat_template(source: str | None, bos: str, eos: str) -> ChatTemplate:
    """The template of a model; ChatML takes the place of one that cannot be read.

    A template is read once: reading takes some milliseconds, and every reply asks for it. One that was stopped may be
    innocent, on a computer that stood still, and is tried again after a while.
    """
    try:
        return _template_read_once(source, bos, eos)
    except TemplateStopped as error:
        return ChatTemplate(None, bos, eos, fault=error.problem, pairs=template_pairs(source))


@functools.lru_cache(maxsize=32)
def _template_read_once(source: str | None, bos: str, eos: str) -> ChatTemplate:
    try:
        return ChatTemplate(source, bos, eos)
    except TemplateStopped:
        raise
    except TemplateRefused as error:
        return ChatTemplate(None, bos, eos, fault=error.problem, pairs=template_pairs(source))


def _changed(message: Message, change: Callable[[str], str]) -> Message:
    calls = tuple(replace(call, arguments=change(call.arguments)) for call in message.tool_calls)
    return replace(message, content=change(message.content), thinking=change(message.thinking), tool_calls=calls)


def _as_template_sees_it(message: Message, as_parts: bool, arguments_as_text: bool = False) -> dict[str, Any]:
    content = [{"type": "text", "text": message.content}] if as_parts else message.content
    seen: dict[str, Any] = {"role": message.role, "content": content}
    if message.thinking:  # templates that want earlier thoughts look here, others never see them
        seen |= {"reasoning_content": message.thinking, "thinking": message.thinking}
    if message.tool_calls:
        seen["tool_calls"] = [_call_as_template_sees_it(call, arguments_as_text) for call in message.tool_calls]
    if message.role == "tool":
        seen |= {"tool_call_id": message.answers}
    return seen


def _call_as_template_sees_it(call: ToolCall, arguments_as_text: bool) -> dict[str, Any]:
    arguments = call.arguments if arguments_as_text else read_arguments(call.arguments)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _with_system_folded(messages: Sequence[Message]) -> list[Message]:
    """The system text in front of the first question."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    others = [message for message in messages if message.role != "system"]
    for place, message in enumerate(others):
        if system and message.role == "user":
            others[place] = replace(message, content=f"{system}\n\n{message.content}")
            break
    return others


def _with_neighbours_merged(messages: Sequence[Message]) -> list[Message]:
    merged: list[Message] = []
    for message in messages:
        can_merge = message.role != "tool" and merged and not (message.tool_calls or merged[-1].tool_calls)
        if can_merge and merged[-1].role == message.role:
            both = f"{merged[-1].content}\n\n{message.content}".strip()
            merged[-1] = replace(message, content=both)
        else:
            merged.append(message)
    return merged
