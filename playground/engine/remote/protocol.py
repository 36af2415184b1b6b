"""What an OpenAI-compatible server is asked, and what it answers: request bodies, chunks of a stream, model lists.

Pure functions of JSON. Servers agree on the basics, and each adds fields of its own. So everything but the text and the
reason of the end may be missing: then it is None, never a guess. Servers are not trusted: a field of the wrong type
counts as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from playground.engine.protocol import UNKNOWN_ID, Alternative, FinishReason
from playground.llama.sampling_extras import Sampling

MOST_MODELS: Final = 200  # of one server's list
LONGEST_MODEL_ID: Final = 300  # characters; some servers call a model by the path of its file
MOST_ALTERNATIVES: Final = 20  # what the protocol allows
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "end of text",
    "eos": "end of text",
    "tool_calls": "end of text",
    "function_call": "end of text",
    "length": "length limit",
}

Turn = Mapping[str, Any]  # a message, as the protocol has it: {"role": "user", "content": "…"}
ToolForm = Mapping[str, Any]  # a function that may be called, in OpenAI's form


@dataclass(frozen=True)
class RemoteModel:
    """One model of a server. Where only its names matter, it can be used like a model file.

    context_size: tokens, None if the server does not send it.
    scores_slowly: log-probabilities are not worth asking for. llama-cpp-python's server sorts the whole vocabulary in
        Python for each token, which makes a small model twenty times slower. It gives "me" as the owner of its models.
    """

    server: str
    id: str
    context_size: int | None = None
    scores_slowly: bool = False

    @property
    def base_name(self) -> str:
        return self.id

    @property
    def display_name(self) -> str:
        """The file's name, if the server calls the model by a path."""
        is_path = self.id.startswith(("/", "./", "../", "~")) or self.id[1:3] == ":\\"
        return self.id.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_path else self.id

    @property
    def level(self) -> str:
        """Where it runs: only the owner of the server knows its quantization."""
        return f"on {self.server}"

    @property
    def requantized_from(self) -> None:
        return None

    @property
    def reference(self) -> str:
        return f"{self.id}@{self.server}"


# --- requests ---


@dataclass(frozen=True)
class RemoteRequest:
    """What a server's model is asked.

    turns: the system prompt first. alternatives: how many of the most likely tokens should come with each token, if the
    server can. tools: what the model may call. thinks: False asks it not to think first, where the server knows that.
    """

    turns: Sequence[Turn]
    sampling: Sampling
    max_tokens: int | None = None
    alternatives: int = 0
    tools: Sequence[ToolForm] = ()
    thinks: bool = True


def plain_body(model: str, asked: RemoteRequest) -> dict[str, Any]:
    """What every server understands."""
    sampling = asked.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(turn) for turn in asked.turns],
        "stream": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if asked.max_tokens is not None:
        body["max_tokens"] = asked.max_tokens
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if asked.alternatives:
        body |= {"logprobs": True, "top_logprobs": min(asked.alternatives, MOST_ALTERNATIVES)}
    if asked.tools:
        body["tools"] = [dict(tool) for tool in asked.tools]
    return body


def full_body(model: str, asked: RemoteRequest) -> dict[str, Any]:
    """What most servers understand: also the other sampling settings, and a request for the server's own figures.

    The repeat penalty has two names (llama.cpp's; vLLM's and SGLang's). For figures while the reply is written, vLLM
    and SGLang have continuous_usage_stats, llama-server has timings_per_token. All three know the switch for thoughts.
    """
    sampling = asked.sampling
    body = plain_body(model, asked)
    body |= {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repetition_penalty": sampling.repeat_penalty,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "timings_per_token": True,
    }
    if not asked.thinks:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    return body


# --- answers ---


class _ServerJson(BaseModel):
    """A JSON object of a server. What is not an object counts as an empty one, a field of the wrong type as missing."""

    @model_validator(mode="before")
    @classmethod
    def _empty_if_no_object(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {}

    @field_validator("*", mode="wrap")
    @classmethod
    def _missing_if_wrong(cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        try:
            return validate(value)
        except ValidationError:
            return cls.model_fields[str(info.field_name)].get_default()


def _replace_half_characters(value: object) -> object:
    """JSON can spell half a character, which nothing can write."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_replace_half_characters)]
_Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
_Speed = Annotated[float, Field(strict=True, gt=0, lt=1e9)]  # tokens per second


class Candidate(_ServerJson):
    """A token that the model might have chosen. Only llama-server sends its id."""

    token: _Text = ""
    id: Annotated[int, Field(strict=True)] = UNKNOWN_ID
    logprob: Annotated[float, Field(strict=True, le=0.001)] | None = None


class ScoredToken(Candidate):
    """A token of the reply, with its alternatives."""

    top_logprobs: tuple[Candidate, ...] = ()

    @property
    def top(self) -> tuple[Alternative, ...]:
        return tuple(
            Alternative(candidate.id, candidate.token, candidate.logprob)
            for candidate in self.top_logprobs[:MOST_ALTERNATIVES]
            if candidate.logprob is not None
        )


class _Logprobs(_ServerJson):
    content: tuple[ScoredToken, ...] = ()


class _CalledFunction(_ServerJson):
    name: _Text = ""
    arguments: _Text = ""


class CallPart(_ServerJson):
    """A part of a call of a function. index: of the call in the reply; some servers leave it out.

    The name and an id come with its first part.
    """

    index: _Count = 0
    id: _Text = ""
    function: _CalledFunction = _CalledFunction()


class _Delta(_ServerJson):
    """New text. Servers that separate the reasoning send it by one of two names: most servers; vLLM and OpenRouter."""

    content: _Text = ""
    reasoning_content: _Text = ""
    reasoning: _Text = ""
    tool_calls: tuple[CallPart, ...] = ()


class _Choice(_ServerJson):
    delta: _Delta = _Delta()
    logprobs: _Logprobs = _Logprobs()
    finish_reason: _Text = ""


class _PromptDetails(_ServerJson):
    cached_tokens: _Count | None = None


class _Usage(_ServerJson):
    """Figures that most servers send at the end."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails = _PromptDetails()


class _Timings(_ServerJson):
    """Figures that llama-server sends. prompt_n: tokens of the prompt that were not cached."""

    prompt_n: _Count | None = None
    cache_n: _Count | None = None
    predicted_n: _Count | None = None
    prompt_per_second: _Speed | None = None
    predicted_per_second: _Speed | None = None


@dataclass(frozen=True)
class ServerFigures:
    """What a server itself measured of a reply so far; speeds in tokens per second."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int | None = None
    prompt_speed: float | None = None
    generation_speed: float | None = None

    def updated(self, newer: ServerFigures) -> ServerFigures:
        """These figures, replaced by the newer ones where they are known."""
        known = {name: value for name, value in vars(newer).items() if value is not None}
        return ServerFigures(**(vars(self) | known))


class Chunk(_ServerJson):
    """One element of a stream."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage = _Usage()
    timings: _Timings = _Timings()
    error: Any = None  # why there will be no more, in any of the forms that error_text reads

    @property
    def choice(self) -> _Choice:
        return self.choices[0] if self.choices else _Choice()

    @property
    def scores(self) -> list[ScoredToken]:
        """The chunk's tokens, if log-probabilities were asked for and sent."""
        return [token for token in self.choice.logprobs.content if token.logprob is not None]

    @property
    def figures(self) -> ServerFigures:
        usage, timings, cached = self.usage, self.timings, self.usage.prompt_tokens_details.cached_tokens
        prompt = None if timings.prompt_n is None or timings.cache_n is None else timings.prompt_n + timings.cache_n
        return ServerFigures(
            prompt_tokens=prompt if usage.prompt_tokens is None else usage.prompt_tokens,
            cached_tokens=timings.cache_n if cached is None else cached,
            generated_tokens=timings.predicted_n if usage.completion_tokens is None else usage.completion_tokens,
            prompt_speed=timings.prompt_per_second,
            generation_speed=timings.predicted_per_second,
        )


class _ModelDetails(_ServerJson):
    n_ctx: _Count | None = None


class _ListedModel(_ServerJson):
    """The context size is max_model_len for vLLM and SGLang, meta.n_ctx for llama-server, the others for services."""

    id: Annotated[str, Field(max_length=LONGEST_MODEL_ID)] = ""
    owned_by: str = ""
    max_model_len: _Count | None = None
    meta: _ModelDetails = _ModelDetails()
    context_length: _Count | None = None
    context_window: _Count | None = None


class _ModelList(_ServerJson):
    data: tuple[_ListedModel, ...] | None = None


class _TokenizerAnswer(_ServerJson):
    count: _Count | None = None
    tokens: list[Any] | None = None


# --- reading them ---


def read_chunk(data: str) -> Chunk:
    """The JSON of a line, such as `{"choices": [{"delta": {"content": "Hi"}, "finish_reason": null}]}`.

    Raises ValueError if it is not a JSON object.
    """
    try:
        answer = json.loads(data)  # not pydantic's own parser, which refuses half characters
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    return Chunk.model_validate(answer)


def finish_reason(finish: str, generated: int | None, max_tokens: int | None) -> FinishReason | None:
    """The reason in the playground's words; None if the server gave the reply up (a filter, an abort).

    A reply that ended at a length before it had all its tokens has filled the context.
    """
    reason = _REASONS.get(finish)
    if reason == "length limit" and generated is not None and max_tokens is not None and generated < max_tokens:
        return "context full"
    return reason


def error_text(answer: object) -> str:
    """The server's own words in an error, in any of the usual forms; "" if there are none."""
    said: object = answer
    for _ in range(3):
        if not isinstance(said, Mapping):
            break
        said = said.get("error") or said.get("message") or said.get("detail") or ""
    if isinstance(said, list):
        said = "; ".join(_text(part.get("msg")) for part in said[:3] if isinstance(part, Mapping))
    return " ".join(_text(said).split())


def _text(value: object) -> str:
    return str(_replace_half_characters(value)) if isinstance(value, str) else ""


def read_models(server: str, answer: object) -> tuple[RemoteModel, ...]:
    """The models of a `/v1/models` answer, each once. Raises ValueError if it is no list of models."""
    listed = _ModelList.model_validate(answer).data
    if listed is None:
        raise ValueError("no list of models")
    models: dict[str, RemoteModel] = {}
    for model in listed[:MOST_MODELS]:
        if model.id and model.id.isprintable():
            sizes = (model.max_model_len, model.meta.n_ctx, model.context_length, model.context_window)
            context_size = next((size for size in sizes if size), None)
            models.setdefault(model.id, RemoteModel(server, model.id, context_size, model.owned_by == "me"))
    return tuple(models.values())


def read_token_count(answer: object) -> int | None:
    """How many tokens a text has, from the answer of a server's own tokenizer."""
    counted = _TokenizerAnswer.model_validate(answer)
    return counted.count if counted.tokens is None else len(counted.tokens)
