"""What an OpenAI-compatible server is asked, and what its answers mean: bodies, pieces of a stream, model lists.

Pure functions of JSON; asks nothing and starts no clock. The servers agree on the middle of the road and each adds its
own beside it, so everything beyond text and the reason of the end may be missing: then it is None, never a guess.
Whatever a server sends is distrusted: a wrong type is as good as a missing value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from playground.engine.protocol import UNKNOWN_ID, Alternative, FinishReason, Sampling

MOST_MODELS: Final = 200  # of one server's list
LONGEST_MODEL_ID: Final = 300  # characters; some servers call a model by its file's whole path
MOST_ALTERNATIVES: Final = 20  # what the protocol allows
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "end of text",
    "eos": "end of text",
    "tool_calls": "end of text",
    "function_call": "end of text",
    "length": "length limit",
}

Turn = Mapping[str, str]  # a message as the protocol has it: {"role": "user", "content": "…"}


@dataclass(frozen=True)
class RemoteModel:
    """One model that a server offers. context_size: tokens, None where the server does not say.

    scores_slowly: log-probabilities are not worth asking for. llama-cpp-python's server sorts the whole vocabulary in
    Python for each token, which slows a small model down twentyfold; it owns its models as "me".
    It reads as a model file does where only its names matter: what a page calls it, and what it is beside others.
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
        """The last part where the server calls the model by a path."""
        return self.id.replace("\\", "/").rstrip("/").rpartition("/")[2] if _is_path(self.id) else self.id

    @property
    def level(self) -> str:
        """Where it runs; which quantization level that is only the server's owner knows."""
        return f"on {self.server}"

    @property
    def requantized_from(self) -> None:
        return None

    @property
    def reference(self) -> str:
        return f"{self.id}@{self.server}"


def _is_path(id: str) -> bool:
    return id.startswith(("/", "./", "../", "~")) or id[1:3] == ":\\"


# --- what is asked ---


def plain_body(
    model: str, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None, alternatives: int
) -> dict[str, Any]:
    """What every server understands."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(turn) for turn in turns],
        "stream": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if alternatives:
        body |= {"logprobs": True, "top_logprobs": min(alternatives, MOST_ALTERNATIVES)}
    return body


def full_body(
    model: str, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None, alternatives: int
) -> dict[str, Any]:
    """Also what most of them know: the rest of the sampling, and their own figures along with the text.

    The repeat penalty goes by two names (llama.cpp's; vLLM's and SGLang's). Figures while the reply is written: vLLM
    and SGLang have them as continuous_usage_stats, llama-server as timings_per_token.
    """
    body = plain_body(model, turns, sampling, max_tokens, alternatives)
    body |= {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repetition_penalty": sampling.repeat_penalty,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "timings_per_token": True,
    }
    return body


# --- what is answered ---


@dataclass(frozen=True)
class ServerFigures:
    """What a server itself says of a reply so far; speeds in tokens per second."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int | None = None
    prompt_speed: float | None = None
    generation_speed: float | None = None

    def updated(self, newer: ServerFigures) -> ServerFigures:
        """With whatever the newer ones know."""
        return ServerFigures(
            **{name: told if told is not None else vars(self)[name] for name, told in vars(newer).items()}
        )


@dataclass(frozen=True)
class ScoredPiece:
    """A token of a piece, with its log-probability and what stood beside it."""

    text: str
    id: int
    logprob: float
    top: tuple[Alternative, ...]


@dataclass(frozen=True)
class Piece:
    """One element of a stream. `thinking` is what the server itself sets apart from the answer.

    scores: the tokens of the piece where log-probabilities were asked for and given. finish: the server's own word for
    how the reply ended; error: its own sentence for why there will be no more.
    """

    text: str = ""
    thinking: str = ""
    scores: tuple[ScoredPiece, ...] = ()
    finish: str | None = None
    figures: ServerFigures = ServerFigures()
    error: str | None = None


def read_piece(data: str) -> Piece:
    """A line's JSON, such as `{"choices": [{"delta": {"content": "Hi"}, "finish_reason": null}]}`.

    Raises ValueError for what is no JSON object.
    """
    try:
        answer = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    if answer.get("error"):
        return Piece(error=said_by(answer))
    choice = _first_object(answer.get("choices"))
    delta = _object(choice.get("delta"))
    thinking = delta.get("reasoning_content") or delta.get("reasoning")  # most servers; newer vLLM and OpenRouter
    return Piece(
        text=_text(delta.get("content")),
        thinking=_text(thinking),
        scores=_scores(choice.get("logprobs")),
        finish=_text(choice.get("finish_reason")) or None,
        figures=_figures(answer),
    )


def finish_reason(said: str, generated: int | None, max_tokens: int | None) -> FinishReason | None:
    """The reason in the playground's words; None where the server gave the reply up (a filter, an abort).

    A reply that was cut before it had all its tokens has filled the context.
    """
    reason = _REASONS.get(said)
    if reason == "length limit" and generated is not None and max_tokens is not None and generated < max_tokens:
        return "context full"
    return reason


def said_by(answer: object) -> str:
    """The server's own words in an error, in whichever of the usual forms; "" where there are none."""
    told: object = answer
    for _ in range(3):
        if not isinstance(told, Mapping):
            break
        told = told.get("error") or told.get("message") or told.get("detail") or ""
    if isinstance(told, list):
        told = "; ".join(_text(_object(part).get("msg")) for part in told[:3])
    return " ".join(_text(told).split())


def read_models(server: str, answer: object) -> tuple[RemoteModel, ...]:
    """The models of a `/v1/models` answer, each once; raises ValueError where it is none."""
    listed = _object(answer).get("data")
    if not isinstance(listed, list):
        raise ValueError("no list of models")
    models: dict[str, RemoteModel] = {}
    for entry in listed[:MOST_MODELS]:
        id = _object(entry).get("id")
        if isinstance(id, str) and 0 < len(id) <= LONGEST_MODEL_ID and id.isprintable():
            models.setdefault(id, RemoteModel(server, id, _context_size(entry), entry.get("owned_by") == "me"))
    return tuple(models.values())


def read_token_count(answer: object) -> int | None:
    """How many tokens a text has, by the answer of a server's own tokenizer."""
    told = _object(answer)
    listed = told.get("tokens")
    return _count(told.get("count")) if not isinstance(listed, list) else len(listed)


def _context_size(entry: Mapping[str, Any]) -> int | None:
    """By vLLM's and SGLang's name for it, llama-server's, and those of services."""
    named = (entry.get("max_model_len"), _object(entry.get("meta")).get("n_ctx"), entry.get("context_length"))
    return next((size for size in map(_count, (*named, entry.get("context_window"))) if size), None)


def _figures(answer: Mapping[str, Any]) -> ServerFigures:
    """From `usage`, which most give at the end, and llama-server's `timings`."""
    usage, timings = _object(answer.get("usage")), _object(answer.get("timings"))
    kept = _count(_object(usage.get("prompt_tokens_details")).get("cached_tokens"))
    read_anew, cached = _count(timings.get("prompt_n")), _count(timings.get("cache_n"))
    whole = read_anew + cached if read_anew is not None and cached is not None else None
    used = _count(usage.get("prompt_tokens"))
    generated = _count(usage.get("completion_tokens"))
    return ServerFigures(
        prompt_tokens=used if used is not None else whole,
        cached_tokens=kept if kept is not None else cached,
        generated_tokens=generated if generated is not None else _count(timings.get("predicted_n")),
        prompt_speed=_speed(timings.get("prompt_per_second")),
        generation_speed=_speed(timings.get("predicted_per_second")),
    )


def _scores(logprobs: object) -> tuple[ScoredPiece, ...]:
    content = _object(logprobs).get("content")
    if not isinstance(content, list):
        return ()
    scored = [_alternative(token) for token in content]
    tops = [_object(token).get("top_logprobs") for token in content]
    return tuple(
        ScoredPiece(own.text, own.id, own.logprob, _alternatives(top))
        for own, top in zip(scored, tops, strict=True)
        if own is not None
    )


def _alternatives(listed: object) -> tuple[Alternative, ...]:
    entries = listed[:MOST_ALTERNATIVES] if isinstance(listed, list) else []
    return tuple(one for entry in entries if (one := _alternative(entry)) is not None)


def _alternative(entry: object) -> Alternative | None:
    """Servers tell a token's text; its number only llama-server does."""
    told = _object(entry)
    logprob, id = told.get("logprob"), told.get("id")
    if not isinstance(logprob, int | float) or isinstance(logprob, bool) or logprob > 0.001:
        return None
    return Alternative(id if isinstance(id, int) else UNKNOWN_ID, _text(told.get("token")), float(logprob))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first_object(value: object) -> Mapping[str, Any]:
    return _object(value[0]) if isinstance(value, list) and value else {}


def _text(value: object) -> str:
    """Halves of characters, which JSON can spell, are replaced: nothing further on could write them."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _speed(value: object) -> float | None:
    is_speed = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
    return float(value) if is_speed else None  # type: ignore[arg-type]
