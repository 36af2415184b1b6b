"""What programs send to /v1, checked by pydantic, and what is asked by it.

Unknown fields are ignored, as llama-server does; a field that would change the answer and is not known here is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from playground.app.api_values import LONGEST_REFERENCE, MOST_LAYERS
from playground.app.programs.calls import LoadChoice
from playground.chat.history import HistoryLimits, check_message_count, checked_text
from playground.chat.programs.reply import ProgramRequest, ToolChoice
from playground.chat.template.message import Message, ToolCall
from playground.errors import RequestRefused
from playground.llama.params import AUTOMATIC, MOST_CONTEXT, DeviceChoice
from playground.llama.sampling_extras import Sampling, SamplingExtras

MOST_STOPS: Final = 16
MOST_TOOLS: Final = 128
MOST_ALTERNATIVES: Final = 20
MOST_CHOICES: Final = 8
_FUNCTION_NAME: Final = re.compile(r"[\w.:/-]{1,128}")
_SEEDS: Final = (1 << 32) - 1  # with the highest number of 32 bits, llama.cpp draws a seed itself
_ROLES: Final[dict[str, Literal["system", "user", "assistant", "tool"]]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class Body(BaseModel):
    """A JSON object of a request. A field that is null counts as left out: many programs send all that they know."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("send a JSON object")
        return {name: part for name, part in value.items() if part is not None}


def _all_tokens(value: Any) -> Any:
    """As many as are allowed, for -1, which llama-server takes for that."""
    return MOST_CONTEXT if value == -1 else value


MostTokens = Annotated[int | None, BeforeValidator(_all_tokens), Field(ge=1, le=MOST_CONTEXT)]


class TextPart(Body):
    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str = ""
    refusal: str = ""


class CalledFunction(Body):
    name: str = Field(min_length=1, max_length=256)
    arguments: str = "{}"

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return json.dumps(value) if isinstance(value, dict) else value


class CallBody(Body):
    id: str = Field("", max_length=256)
    function: CalledFunction


class MessageBody(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallBody] | None = None
    tool_call_id: str | None = Field(None, max_length=256)

    @model_validator(mode="after")
    def _has_something(self) -> MessageBody:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message has to have a content")
        return self

    def message(self, number: int, limits: HistoryLimits) -> Message:
        """Raises RequestRefused for a text that is too long or that no model can read."""
        content = self.content or ""
        between = "" if self.role == "assistant" else "\n"  # what it has begun goes on without a break
        text = content if isinstance(content, str) else between.join(part.text or part.refusal for part in content)
        thinking = checked_text(self.reasoning_content or "", f"The reasoning of message {number}", limits)
        calls = tuple(
            ToolCall(call.function.name, checked_text(call.function.arguments, "A call", limits), call.id)
            for call in self.tool_calls or ()
        )
        text = checked_text(text, f"Message {number}", limits)
        return Message(_ROLES[self.role], text, thinking, calls, self.tool_call_id or "")


class FunctionBody(Body):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        """A name stands between the marks of a call, which it must not contain."""
        if not _FUNCTION_NAME.fullmatch(value):
            raise ValueError("a name has up to 128 letters, digits and any of _ - . : /")
        return value


class ToolBody(Body):
    type: Literal["function"] = "function"
    function: FunctionBody


class NamedFunction(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"] = "function"
    function: NamedFunction


class SchemaBody(Body):
    json_schema: dict[str, Any] | bool | None = Field(None, alias="schema")


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None
    bare_schema: dict[str, Any] | None = Field(None, alias="schema")  # llama-server's way with json_object

    @property
    def schema_text(self) -> str:
        """ "" where any text will do."""
        if self.type == "text":
            return ""
        schema = self.json_schema.json_schema if self.json_schema else self.bare_schema
        return json.dumps(schema if isinstance(schema, dict) and schema else {"type": "object"})


class StreamOptions(Body):
    include_usage: bool = False


class TemplateSwitches(Body):
    enable_thinking: bool | None = None


class CommonBody(Body):
    """The fields of both kinds of completion."""

    model: str = Field("", max_length=LONGEST_REFERENCE + 300)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: MostTokens = None
    temperature: float | None = Field(None, ge=0, le=10, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=10, allow_inf_nan=False)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, max_length=1000)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    grammar: str | None = None  # as llama-server takes them
    json_schema: dict[str, Any] | None = None
    context: int | None = Field(None, ge=256, le=MOST_CONTEXT)
    device: str | None = Field(None, min_length=1, max_length=100)
    gpu_layers: int | None = Field(None, ge=0, le=MOST_LAYERS)
    cpu_moe: int | None = Field(None, ge=0, le=MOST_LAYERS)

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        texts = [value] if isinstance(value, str) else value or []
        if len(texts) > MOST_STOPS or any(len(text) > 500 for text in texts):
            raise ValueError(f"up to {MOST_STOPS} texts of up to 500 characters")
        return value

    @field_validator("logit_bias")
    @classmethod
    def _ids(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value and not all(key.isascii() and key.isdigit() and len(key) < 10 for key in value):
            raise ValueError("the keys have to be the ids of tokens")
        return value

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def sampling(self) -> Sampling:
        return sampling_of(
            self.seed, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
        )  # fmt: skip

    @property
    def load_choice(self) -> LoadChoice:
        is_placed = any(value is not None for value in (self.device, self.gpu_layers, self.cpu_moe))
        placed = DeviceChoice(self.device or AUTOMATIC, self.gpu_layers, self.cpu_moe) if is_placed else None
        return LoadChoice(self.context, placed)

    @property
    def is_reproducible(self) -> bool:
        """A seed asks for the same answer again. Temperature 0 alone does not: agents send it always."""
        return self.sampling.seed is not None

    @property
    def stops(self) -> tuple[str, ...]:
        texts = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in texts if text)

    def extras(self, schema: str = "") -> SamplingExtras:
        """Raises RequestRefused for two forms at once."""
        schema = schema or (json.dumps(self.json_schema) if self.json_schema is not None else "")
        if schema and self.grammar:
            raise RequestRefused("A grammar and a JSON schema exclude each other.", "Send one of them.")
        return SamplingExtras(
            self.presence_penalty or 0.0,
            self.frequency_penalty or 0.0,
            tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            self.grammar or "",
            schema,
        )


def sampling_of(seed: int | None = None, **chosen: float | int | None) -> Sampling:
    """The usual sampling, but for what was chosen. seed: of any size; -1 draws one, as llama-server does."""
    seed = None if seed is None or seed == -1 else seed % _SEEDS
    return replace(Sampling(seed=seed), **{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]


class ChatBody(CommonBody):
    messages: list[MessageBody] = Field(min_length=1)
    max_completion_tokens: MostTokens = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_ALTERNATIVES)
    response_format: ResponseFormat | None = None
    tools: list[ToolBody] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: ToolChoice | NamedTool = "auto"
    reasoning_effort: str | None = None
    chat_template_kwargs: TemplateSwitches | None = None

    def request(self, limits: HistoryLimits) -> ProgramRequest:
        """Raises RequestRefused for what is too long or contradicts itself."""
        check_message_count(len(self.messages), limits)
        messages = tuple(one.message(number, limits) for number, one in enumerate(self.messages, start=1))
        if [message.role for message in messages[-2:]] == ["assistant", "assistant"]:
            raise RequestRefused("The last two messages are both of the assistant.", "End with a question.")
        named = self.tool_choice if isinstance(self.tool_choice, NamedTool) else None
        thinking = self.chat_template_kwargs.enable_thinking if self.chat_template_kwargs else None
        if thinking is None and self.reasoning_effort == "none":
            thinking = False
        return ProgramRequest(
            messages,
            tools=tuple(tool.model_dump(exclude_none=True) for tool in self.tools or ()),
            tool_choice="auto" if isinstance(self.tool_choice, NamedTool) else self.tool_choice,
            only_tool=named.function.name if named else "",
            sampling=self.sampling,
            extras=self.extras(self.response_format.schema_text if self.response_format else ""),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=self.stops,
            thinking=thinking,
            reproducible=self.is_reproducible,
            alternatives=max(1, self.top_logprobs or 0) if self.logprobs else 0,
            choices=self.n or 1,
        )


class CompletionBody(CommonBody):
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    logprobs: int | None = Field(None, ge=0, le=MOST_ALTERNATIVES)
    echo: bool = False
    suffix: None = None
    best_of: Literal[1] | None = None

    def request(self, limits: HistoryLimits) -> ProgramRequest:
        prompt = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        return ProgramRequest(
            prompt=checked_text(prompt, "The prompt", limits),
            sampling=self.sampling,
            extras=self.extras(),
            max_tokens=self.max_tokens or 16,  # OpenAI's default
            stop=self.stops,
            reproducible=self.is_reproducible,
            alternatives=0 if self.logprobs is None else max(1, self.logprobs),
            choices=self.n or 1,
        )
