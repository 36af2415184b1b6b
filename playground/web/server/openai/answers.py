"""The answers of /v1 in OpenAI's form: whole, or as chunks of a stream, with `timings` as llama-server adds them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from playground import __version__
from playground.chat.programs.reply import ReplyPiece
from playground.chat.template.message import ToolCall
from playground.engine.protocol import Alternative, Finished, FinishReason, Token
from playground.engine.timings import Timings

FINGERPRINT: Final = f"gguf-playground-{__version__}"
_LEAST_LOGPROB: Final = -9999.0  # OpenAI's number for a token that cannot be; JSON knows no infinity
_CUT: Final = "\ufffd"  # where a token is a part of a character
_REASONS: Final[dict[FinishReason, str]] = {
    "end of text": "stop",
    "stop string": "stop",
    "length limit": "length",
    "context full": "length",
    "cancelled": "stop",
}

Json = dict[str, Any]


class ReplyChoice:
    """One reply to the request, collected from its pieces. keeps_tokens: for their probabilities."""

    def __init__(self, index: int, *, keeps_tokens: bool) -> None:
        self.index, self._keeps_tokens = index, keeps_tokens
        self.text = self.thinking = ""
        self.calls: list[ToolCall] = []
        self.tokens: list[Token] = []
        self.finished: Finished | None = None
        self.calls_sent = 0

    def add(self, piece: ReplyPiece) -> None:
        self.text += piece.text
        self.thinking += piece.thinking
        self.calls += piece.calls
        if self._keeps_tokens:
            self.tokens += piece.tokens
        self.finished = piece.finished or self.finished

    @property
    def finish_reason(self) -> str | None:
        if self.finished is None:
            return None
        return "tool_calls" if self.calls else _REASONS[self.finished.reason]


class AnswerForm:
    """Turns the pieces of the replies into chunks, and collects them for a whole answer."""

    object: str
    id_prefix: str
    ending = "data: [DONE]\n\n"  # of a stream

    def __init__(self, model: str, top: int | None, choices: int = 1) -> None:
        """top: how many alternatives are shown with each token; None: no probabilities at all."""
        self._head: Json = {
            "id": f"{self.id_prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }
        self._top = top
        self._choices = [ReplyChoice(index, keeps_tokens=top is not None) for index in range(choices)]

    def add(self, piece: ReplyPiece) -> None:
        self._choices[piece.choice].add(piece)

    @property
    def usage(self) -> Json:
        """The prompt counts once, the tokens of all replies together."""
        ended = [one.finished.timings for one in self._choices if one.finished]
        prompt = max((timings.prompt_tokens or 0 for timings in ended), default=0)
        generated = sum(timings.generated_tokens or 0 for timings in ended)
        cached = max((timings.cached_tokens or 0 for timings in ended), default=0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    @property
    def timings(self) -> Json:
        """Of the first reply."""
        finished = self._choices[0].finished
        return timings_of(finished.timings) if finished else {}

    def chunk(self, choices: list[Json], **more: Any) -> Json:
        return {**self._head, "object": self.object, "choices": choices, **more}

    def written(self, chunk: Json) -> str:
        """A chunk as a server-sent event."""
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    def first_chunks(self, first: ReplyPiece) -> list[Json]:
        """first: the first piece, which `chunks` gets as well."""
        return []

    def chunks(self, piece: ReplyPiece) -> list[Json]:
        """The chunks of one piece, after `add`."""
        raise NotImplementedError

    def last_chunks(self, *, wants_usage: bool) -> list[Json]:
        raise NotImplementedError

    def whole(self) -> Json:
        raise NotImplementedError


class ChatForm(AnswerForm):
    object = "chat.completion.chunk"
    id_prefix = "chatcmpl"

    def first_chunks(self, first: ReplyPiece) -> list[Json]:
        return [self._delta(one, {"role": "assistant", "content": None}) for one in self._choices]

    def chunks(self, piece: ReplyPiece) -> list[Json]:
        choice, made = self._choices[piece.choice], []
        if piece.thinking:
            made.append(self._delta(choice, {"reasoning_content": piece.thinking}))
        if piece.text or (self._top is not None and piece.tokens):
            made.append(self._delta(choice, {"content": piece.text}, piece.tokens))
        for call in piece.calls:
            made.append(self._delta(choice, {"tool_calls": [{"index": choice.calls_sent, **_call(call)}]}))
            choice.calls_sent += 1
        return made

    def last_chunks(self, *, wants_usage: bool) -> list[Json]:
        ends = [
            self.chunk([{"index": one.index, "delta": {}, "finish_reason": one.finish_reason}], timings=self.timings)
            for one in self._choices
        ]
        return [*ends, self.chunk([], usage=self.usage, timings=self.timings)] if wants_usage else ends

    def whole(self) -> Json:
        return {
            **self.chunk([self._whole_choice(one) for one in self._choices]), "object": "chat.completion",
            "usage": self.usage, "timings": self.timings,
        }  # fmt: skip

    def _whole_choice(self, one: ReplyChoice) -> Json:
        message: Json = {"role": "assistant", "content": one.text}
        if one.thinking:
            message["reasoning_content"] = one.thinking
        if one.calls:
            message["tool_calls"] = [_call(call) for call in one.calls]
            message["content"] = one.text or None
        logprobs = None if self._top is None else {"content": self._probabilities(one.tokens)}
        return {"index": one.index, "message": message, "finish_reason": one.finish_reason, "logprobs": logprobs}

    def _delta(self, one: ReplyChoice, delta: Json, tokens: Sequence[Token] = ()) -> Json:
        choice: Json = {"index": one.index, "delta": delta, "finish_reason": None}
        if tokens and self._top is not None:
            choice["logprobs"] = {"content": self._probabilities(tokens)}
        return self.chunk([choice])

    def _probabilities(self, tokens: Sequence[Token]) -> list[Json]:
        return [
            {**_probability(Alternative(token.id, token.piece, token.logprob or 0.0)),
             "top_logprobs": [_probability(other) for other in token.top[: self._top or 0]]}
            for token in tokens
        ]  # fmt: skip


class CompletionForm(AnswerForm):
    object = "text_completion"
    id_prefix = "cmpl"

    def __init__(self, model: str, top: int | None, choices: int = 1, echo: str = "") -> None:
        super().__init__(model, top, choices)
        self._echo = echo

    def first_chunks(self, first: ReplyPiece) -> list[Json]:
        return [self.chunk([self._part(one, self._echo, ())]) for one in self._choices] if self._echo else []

    def chunks(self, piece: ReplyPiece) -> list[Json]:
        if not piece.text:
            return []
        return [self.chunk([self._part(self._choices[piece.choice], piece.text, piece.tokens)])]

    def last_chunks(self, *, wants_usage: bool) -> list[Json]:
        ends = [self.chunk([self._part(one, "", ())], timings=self.timings) for one in self._choices]
        return [*ends, self.chunk([], usage=self.usage)] if wants_usage else ends

    def whole(self) -> Json:
        choices = [self._part(one, self._echo + one.text, one.tokens) for one in self._choices]
        return self.chunk(choices, usage=self.usage, timings=self.timings)

    def _part(self, one: ReplyChoice, text: str, tokens: Sequence[Token]) -> Json:
        is_end = not tokens or one.finished is not None
        return {
            "index": one.index, "text": text, "finish_reason": one.finish_reason if is_end else None,
            "logprobs": self._columns(tokens) if self._top is not None and tokens else None,
        }  # fmt: skip

    def _columns(self, tokens: Sequence[Token]) -> Json:
        """Probabilities in the older form: a list for each column."""
        offsets, place = [], len(self._echo)
        for token in tokens:
            offsets.append(place)
            place += len(token.text)
        return {
            "tokens": [token.piece for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{one.text: one.logprob for one in token.top[: self._top]} for token in tokens],
            "text_offset": offsets,
        }


def _call(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _probability(token: Alternative) -> Json:
    return {
        "token": token.text, "logprob": max(token.logprob, _LEAST_LOGPROB),
        "bytes": None if _CUT in token.text else list(token.text.encode()),
    }  # fmt: skip


def timings_of(timings: Timings) -> Json:
    """llama-server's names: milliseconds, and tokens per second; ours count decoding alone, without the queue."""
    generated, speed = timings.generated_tokens or 0, timings.generation_speed
    cached = timings.cached_tokens or 0
    read = (timings.prompt_tokens or 0) - cached
    return {
        "cache_n": cached,
        "prompt_n": read,
        "prompt_ms": 1000 * read / timings.prompt_speed if timings.prompt_speed else None,
        "prompt_per_token_ms": 1000 / timings.prompt_speed if timings.prompt_speed else None,
        "prompt_per_second": timings.prompt_speed,
        "predicted_n": generated,
        "predicted_ms": 1000 * generated / speed if speed else None,
        "predicted_per_token_ms": 1000 / speed if speed else None,
        "predicted_per_second": speed,
        "disturbed": timings.disturbed,
    }
