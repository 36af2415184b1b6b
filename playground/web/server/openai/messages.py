"""Anthropic's `/v1/messages`, for agents that speak only that: the same replies in another form."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from playground.app.api_values import LONGEST_REFERENCE
from playground.chat.history import HistoryLimits, check_message_count, checked_text
from playground.chat.programs.reply import ProgramRequest, ReplyPiece, ToolChoice
from playground.chat.template.message import Message, ToolCall
from playground.llama.params import MOST_CONTEXT
from playground.web.server.openai.answers import AnswerForm, Json
from playground.web.server.openai.bodies import MOST_STOPS, MOST_TOOLS, sampling_of
from playground.web.server.openai.errors import ApiError

_REASONS: Final = {"length": "max_tokens", "tool_calls": "tool_use"}
_CHOICES: Final[dict[str, ToolChoice]] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


class Block(BaseModel):
    """A part of a message. content: of a tool's result."""

    type: Literal["text", "thinking", "redacted_thinking", "tool_use", "tool_result"]
    text: str = ""
    thinking: str = ""
    id: str = Field("", max_length=256)
    name: str = Field("", max_length=256)
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = Field("", max_length=256)
    content: str | list[Block] = ""


class Turn(BaseModel):
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


class MessagesTool(BaseModel):
    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    input_schema: dict[str, Any]


class Choice(BaseModel):
    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""


class Thinking(BaseModel):
    type: Literal["enabled", "disabled", "adaptive"]


class MessagesBody(BaseModel):
    model: str = Field(max_length=LONGEST_REFERENCE + 300)
    messages: list[Turn] = Field(min_length=1)
    max_tokens: int = Field(ge=1, le=MOST_CONTEXT)
    system: str | list[Block] = ""
    stop_sequences: list[str] = Field(default_factory=list, max_length=MOST_STOPS)
    temperature: float | None = Field(None, ge=0, le=10, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    tools: list[MessagesTool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: Choice = Field(default_factory=Choice)
    thinking: Thinking | None = None
    stream: bool = False
    context: int | None = Field(None, ge=256, le=MOST_CONTEXT)
    wants_usage: Literal[False] = False  # it is always in the answer

    def request(self, limits: HistoryLimits) -> ProgramRequest:
        """Raises RequestRefused for what is too long."""
        check_message_count(len(self.messages), limits)
        system = checked_text(_text(self.system), "The system prompt", limits)
        turns = [message for turn in self.messages for message in turn.messages(limits)]
        tools = tuple(
            {"type": "function", "function": {"name": tool.name, "description": tool.description,
                                              "parameters": tool.input_schema}}
            for tool in self.tools
        )  # fmt: skip
        return ProgramRequest(
            tuple([Message("system", system), *turns] if system else turns),
            tools=tools,
            tool_choice=_CHOICES[self.tool_choice.type],
            only_tool=self.tool_choice.name if self.tool_choice.type == "tool" else "",
            sampling=sampling_of(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k),
            max_tokens=self.max_tokens,
            stop=tuple(filter(None, self.stop_sequences)),
            thinking=None if self.thinking is None else self.thinking.type != "disabled",
        )


def _text(content: str | list[Block]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(one.text for one in content if one.type == "text")


class MessagesForm(AnswerForm):
    """The answer as blocks: thoughts, text, calls; a stream opens and closes each."""

    object = "message"
    id_prefix = "msg"
    ending = ""
    _open = ""  # the kind of the block under way
    _blocks = 0

    def written(self, chunk: Json) -> str:
        return f"event: {chunk['type']}\ndata: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    def error_body(self, error: ApiError) -> Json:
        inside = error.body["error"]
        kinds = {401: "authentication_error", 404: "not_found_error", 503: "overloaded_error", 500: "api_error"}
        return {
            "type": "error",
            "error": {"type": kinds.get(error.status, inside["type"]), "message": inside["message"]},
        }

    def first_chunks(self) -> list[Json]:
        return [{"type": "message_start", "message": self._message([], None)}]

    def chunks(self, piece: ReplyPiece) -> list[Json]:
        made: list[Json] = []
        if piece.thinking:
            made += self._delta("thinking", {"thinking": ""}, {"type": "thinking_delta", "thinking": piece.thinking})
        if piece.text:
            made += self._delta("text", {"text": ""}, {"type": "text_delta", "text": piece.text})
        for call in piece.calls:
            made += self._closed()
            start: Json = {"id": call.id, "name": call.name, "input": {}}
            made += self._delta("tool_use", start, {"type": "input_json_delta", "partial_json": call.arguments})
            made += self._closed()
        return made

    def _delta(self, kind: str, start: Json, delta: Json) -> list[Json]:
        made: list[Json] = []
        if self._open != kind:
            made += self._closed()
            self._open = kind
            begun = {"type": kind, **start}
            made.append({"type": "content_block_start", "index": self._blocks, "content_block": begun})
        return [*made, {"type": "content_block_delta", "index": self._blocks, "delta": delta}]

    def _closed(self) -> list[Json]:
        if not self._open:
            return []
        self._open, self._blocks = "", self._blocks + 1
        return [{"type": "content_block_stop", "index": self._blocks - 1}]

    def last_chunks(self, *, wants_usage: bool) -> list[Json]:
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        end: Json = {"type": "message_delta", "delta": delta, "usage": self._usage}
        return [*self._closed(), end, {"type": "message_stop"}]

    def whole(self) -> Json:
        blocks: list[Json] = []
        if self._thinking:
            blocks.append({"type": "thinking", "thinking": self._thinking, "signature": ""})
        if self._text:
            blocks.append({"type": "text", "text": self._text})
        blocks += [{"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
                   for call in self._calls]  # fmt: skip
        return {**self._message(blocks, self._reason), "timings": self.timings}

    @property
    def _reason(self) -> str:
        if self._finished and self._finished.reason == "stop string":
            return "stop_sequence"
        return _REASONS.get(self.finish_reason or "", "end_turn")

    @property
    def _usage(self) -> Json:
        usage = self.usage
        return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}

    def _message(self, blocks: list[Json], reason: str | None) -> Json:
        return {
            "id": self._head["id"], "type": "message", "role": "assistant", "model": self._head["model"],
            "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": self._usage,
        }  # fmt: skip
