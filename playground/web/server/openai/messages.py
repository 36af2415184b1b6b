"""Anthropic's `/v1/messages`, for agents that speak only that: the same replies in another form."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import Field

from playground.chat.history import HistoryLimits, check_message_count, checked_text
from playground.chat.programs.reply import ProgramRequest, ReplyPiece, ToolChoice
from playground.chat.template.message import Message, ToolCall
from playground.llama.params import MOST_CONTEXT
from playground.web.server.openai.answers import AnswerForm, Json
from playground.web.server.openai.bodies import MOST_STOPS, MOST_TOOLS, Body, CommonBody, FunctionBody

_REASONS: Final = {"length": "max_tokens", "tool_calls": "tool_use"}
_CHOICES: Final[dict[str, ToolChoice]] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


class Block(Body):
    """A part of a message. content: of a tool's result."""

    type: Literal["text", "thinking", "redacted_thinking", "tool_use", "tool_result"]
    text: str = ""
    thinking: str = ""
    id: str = Field("", max_length=256)
    name: str = Field("", max_length=256)
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = Field("", max_length=256)
    content: str | list[Block] = ""


class Turn(Body):
    role: Literal["user", "assistant"]
    content: str | list[Block]

    def messages(self, limits: HistoryLimits) -> list[Message]:
        """The results of functions first, each as a message of its own."""
        blocks = [] if isinstance(self.content, str) else self.content
        results = [one for one in blocks if one.type == "tool_result"]
        made = [Message("tool", checked_text(_text(one.content), "A result", limits), answers=one.tool_use_id)
                for one in results]  # fmt: skip
        calls = tuple(ToolCall(one.name, json.dumps(one.input), one.id) for one in blocks if one.type == "tool_use")
        text = checked_text(_text(self.content), "A message", limits)
        thinking = "".join(one.thinking for one in blocks)
        return [*made, Message(self.role, text, thinking, calls)] if text or calls or not results else made


class MessagesTool(FunctionBody):
    parameters: dict[str, Any] = Field(alias="input_schema")


class Choice(Body):
    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""


class Thinking(Body):
    type: Literal["enabled", "disabled", "adaptive"]


class CountBody(CommonBody):
    """A request whose prompt is to be counted."""

    messages: list[Turn] = Field(min_length=1)
    system: str | list[Block] = ""
    stop_sequences: list[str] = Field(default_factory=list, max_length=MOST_STOPS)
    tools: list[MessagesTool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: Choice = Field(default_factory=Choice)
    thinking: Thinking | None = None

    def request(self, limits: HistoryLimits) -> ProgramRequest:
        """Raises RequestRefused for what is too long."""
        check_message_count(len(self.messages), limits)
        system = checked_text(_text(self.system), "The system prompt", limits)
        turns = [message for turn in self.messages for message in turn.messages(limits)]
        return ProgramRequest(
            tuple([Message("system", system), *turns] if system else turns),
            tools=tuple({"type": "function", "function": one.model_dump(exclude_none=True)} for one in self.tools),
            tool_choice=_CHOICES[self.tool_choice.type],
            only_tool=self.tool_choice.name if self.tool_choice.type == "tool" else "",
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            stop=tuple(filter(None, self.stop_sequences)),
            thinking=None if self.thinking is None else self.thinking.type != "disabled",
        )


class MessagesBody(CountBody):
    max_tokens: int = Field(ge=1, le=MOST_CONTEXT)


def _text(content: str | list[Block]) -> str:
    return content if isinstance(content, str) else "\n".join(one.text for one in content if one.type == "text")


class MessagesForm(AnswerForm):
    """The answer as blocks: thoughts, text, calls; a stream opens and closes each."""

    object = "message"
    id_prefix = "msg"
    ending = ""
    _open = ""  # the kind of the block under way
    _blocks = 0

    def __init__(self, body: MessagesBody) -> None:
        super().__init__(body.model, None)
        self._stops = frozenset(filter(None, body.stop_sequences))

    def written(self, chunk: Json) -> str:
        return f"event: {chunk['type']}\n{super().written(chunk)}"

    def first_chunks(self, first: ReplyPiece) -> list[Json]:
        message = self._message([])
        if read := first.prefilled:
            message["usage"] |= {"input_tokens": read.total - read.cached, "cache_read_input_tokens": read.cached}
        return [{"type": "message_start", "message": message}]

    def chunks(self, piece: ReplyPiece) -> list[Json]:
        made: list[Json] = []
        for kind, text in (("thinking", piece.thinking), ("text", piece.text)):
            if text:
                made += self._delta(_written(kind, ""), {"type": f"{kind}_delta", kind: text})
        for call in piece.calls:
            made += self._closed()
            made += self._delta(_called(call, {}), {"type": "input_json_delta", "partial_json": call.arguments})
        return made

    def _delta(self, block: Json, delta: Json) -> list[Json]:
        made: list[Json] = []
        if self._open != block["type"]:
            made += self._closed()
            made.append({"type": "content_block_start", "index": self._blocks, "content_block": block})
            self._open = block["type"]
        return [*made, {"type": "content_block_delta", "index": self._blocks, "delta": delta}]

    def _closed(self) -> list[Json]:
        if not self._open:
            return []
        stop = [{"type": "content_block_stop", "index": self._blocks}]
        if self._open == "thinking":  # agents expect that thoughts are signed
            stop = [*self._delta(_written("thinking", ""), {"type": "signature_delta", "signature": ""}), *stop]
        self._open, self._blocks = "", self._blocks + 1
        return stop

    def last_chunks(self, *, wants_usage: bool) -> list[Json]:
        end: Json = {"type": "message_delta", "delta": self._end, "usage": self._usage}
        return [*self._closed(), end, {"type": "message_stop"}]

    def whole(self) -> Json:
        (reply,) = self._choices
        texts = (("thinking", reply.thinking), ("text", reply.text))
        blocks = [_written(kind, text) for kind, text in texts if text]
        blocks += [_called(call, json.loads(call.arguments)) for call in reply.calls]
        return {**self._message(blocks), "timings": self.timings}

    @property
    def _end(self) -> Json:
        """Why the reply ended. A stop string of the chat template is the end of a turn."""
        (reply,) = self._choices
        stop = reply.finished.stop if reply.finished and reply.finished.stop in self._stops else None
        reason = "stop_sequence" if stop else reply.finish_reason and _REASONS.get(reply.finish_reason, "end_turn")
        return {"stop_reason": reason, "stop_sequence": stop}

    @property
    def _usage(self) -> Json:
        usage = self.usage
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": usage["prompt_tokens"] - cached, "cache_read_input_tokens": cached,
            "output_tokens": usage["completion_tokens"],
        }  # fmt: skip

    def _message(self, blocks: list[Json]) -> Json:
        return {
            "id": self._head["id"], "type": "message", "role": "assistant", "model": self._head["model"],
            "content": blocks, **self._end, "usage": self._usage,
        }  # fmt: skip


class CountForm(AnswerForm):
    """How many tokens a prompt has."""

    object = id_prefix = "count"
    _tokens = 0

    def add(self, piece: ReplyPiece) -> None:
        self._tokens = piece.prefilled.total if piece.prefilled else self._tokens

    def whole(self) -> Json:
        return {"input_tokens": self._tokens}


def _written(kind: str, text: str) -> Json:
    return {"type": kind, kind: text, **({"signature": ""} if kind == "thinking" else {})}


def _called(call: ToolCall, arguments: Json) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
