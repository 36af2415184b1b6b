"""A server's model as an engine.

A RemoteEngine takes messages where a LocalEngine takes a prompt, because a server applies the chat template itself.
Both emit the same events. Each reply is read in a thread of its own, and closing its stream closes its connection.
Servers know different extras, and some refuse what they do not know. So the first request asks for everything, and the
next ones ask for less if it was refused.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from playground.engine.protocol import UNKNOWN_ID, Event, Finished, FinishReason, Prefilled, Token
from playground.engine.remote.client import Connection, RequestAborted, ServerClient, TooMuchAsked
from playground.engine.remote.errors import gave_up, interrupted, lost_connection, not_compatible, tools_refused
from playground.engine.remote.protocol import (
    CallPart,
    Chunk,
    RemoteModel,
    RemoteRequest,
    ServerFigures,
    finish_reason,
    full_body,
    plain_body,
)
from playground.engine.reply_stream import Mail, ReplyStream
from playground.engine.timings import Timings
from playground.errors import PlaygroundError, RemoteProblem

REQUEST: Final = 1  # each reply has a stream of its own, so the number means nothing
_LONGEST_REPLY: Final = 4_000_000  # characters
# A speed is measured only of a reply that was seen to arrive bit by bit, over a time that says something.
_LEAST_SECONDS: Final = 0.25
_LEAST_ARRIVALS: Final = 5
_APART_SECONDS: Final = 0.005  # between two arrivals
_BELIEVED: Final = 1.5  # a server's own figure counts where it differs from what was seen by less than this factor
_CUT_CHARACTER: Final = "\ufffd"
_BEYOND_LIMIT: Final = 16  # chunks that a server may send beyond the tokens asked for, before it is cut off


class RemoteEngine:
    """One model of a server. Call `start_reply` from any thread; nothing is loaded here, and its memory is unknown."""

    loaded: Final = None  # a server does not send the facts of a loaded model

    def __init__(self, client: ServerClient, model: RemoteModel) -> None:
        self.model = model
        self._client = client
        self._refused: frozenset[tuple[bool, bool]] = frozenset()  # kinds of request that were too much for the server
        self._empty_text_tokens: int | None = None

    @property
    def name(self) -> str:
        return f"{self.model.id}@{self.model.server}"

    def start_reply(self, asked: RemoteRequest) -> ReplyStream:
        """Start a reply, whose events come through the stream.

        Calls of tools come as text, between the marks that models write.
        """
        mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        connection = Connection()

        def read_reply() -> None:
            try:
                for event in self._events(connection, asked):
                    mailbox.put(event)
            except RequestAborted:
                pass
            except PlaygroundError as error:
                mailbox.put(error)
            except Exception as error:  # of any kind: the caller must not wait for ever
                mailbox.put(RemoteProblem(f"The reply of {self.model.server} failed: {type(error).__name__}."))

        threading.Thread(target=read_reply, daemon=True, name=f"reply of {self.model.server}").start()
        return ReplyStream(mailbox, connection.abort_request)

    def count_tokens(self, text: str) -> int | None:
        """None if the server cannot count. Tokens that its tokenizer puts before every text are subtracted."""
        count = self._client.count_tokens(self.model.id, text)
        if count is None:
            return None
        if self._empty_text_tokens is None:
            self._empty_text_tokens = self._client.count_tokens(self.model.id, "") or 0
        return count - self._empty_text_tokens

    def _events(self, connection: Connection, asked: RemoteRequest) -> Iterator[Event]:
        server, max_tokens = self._client.server, asked.max_tokens
        asked = replace(asked, alternatives=0) if self.model.scores_slowly else asked
        reply = RemoteReply(time.monotonic())
        finish = ""
        for chunk in self._chunks(connection, asked):
            connection.raise_if_aborted()
            figures = chunk.figures
            if reply.chunks == 0 and figures.prompt_tokens:
                yield Prefilled(REQUEST, figures.prompt_tokens, figures.prompt_tokens, figures.cached_tokens or 0)
            yield from reply.add_chunk(chunk, time.monotonic())
            finish = chunk.choice.finish_reason or finish
            if not finish and max_tokens is not None and reply.chunks > max_tokens + _BEYOND_LIMIT:
                finish = "length"  # the server ignores the limit
                break
            if len(reply.text) > _LONGEST_REPLY:
                raise not_compatible(server)
        ended_at = time.monotonic()
        if not finish:
            raise interrupted(server) if reply.chunks else lost_connection(server)
        reason = finish_reason(finish, reply.known_tokens, max_tokens)
        if reason is None:
            raise gave_up(server, finish)
        yield reply.finish(reason, ended_at, self.count_tokens)

    def _chunks(self, connection: Connection, asked: RemoteRequest) -> Iterator[Chunk]:
        """The stream of the fullest request that this server takes."""
        kinds = [
            (extras, scores)
            for scores in ((True, False) if asked.alternatives else (False,))
            for extras in (True, False)
        ]
        left = [kind for kind in kinds if kind not in self._refused] or kinds[-1:]
        for index, (extras, scores) in enumerate(left):
            build_body = full_body if extras else plain_body
            body = build_body(self.model.id, asked if scores else replace(asked, alternatives=0))
            has_begun = False
            try:
                for chunk in self._client.stream_chunks(body, connection):
                    has_begun = True
                    yield chunk
                self._refused |= frozenset(left[:index])
                return
            except TooMuchAsked as refusal:
                connection.raise_if_aborted()
                if has_begun or (index == len(left) - 1 and not asked.tools):
                    raise
                if index == len(left) - 1:
                    raise tools_refused(refusal) from refusal


class RemoteReply:
    """A reply of a server, chunk by chunk, with the counts and times of the playground's own replies.

    The server's own counts come first, then what can be counted here; what neither can know is None. Its own speeds
    count only where they agree with what was seen to arrive. If the server does not count tokens while it writes, each
    chunk counts as one token, which is how such servers send them. The last event, Finished, has only what is known.
    """

    def __init__(self, started_at: float) -> None:
        self.figures = ServerFigures()
        self.text = ""
        self.chunks = 0
        self._scored_tokens = 0
        self._started_at = started_at
        self._first_at: float | None = None
        self._first_tokens = 0  # in the first chunk, whose time belongs to the prompt
        self._last_at = started_at
        self._arrivals = 0  # moments at which something came
        self._arrived_at = started_at
        self._is_reasoning = False
        self._call: CallPart | None = None  # the first part of the call under way
        self._has_arguments = False
        self._cut = ""  # how a server writes the first bytes of a character, at the end of the text so far

    @property
    def known_tokens(self) -> int | None:
        """Tokens generated so far, as the server counts them or as its log-probabilities show."""
        return self.figures.generated_tokens or self._scored_tokens or None

    def add_chunk(self, chunk: Chunk, now: float) -> Iterator[Token]:
        """The tokens of a chunk: several if the server sends their log-probabilities, otherwise one."""
        self.figures = self.figures.updated(chunk.figures)
        text, scores = self._cut + self._with_marks(chunk), chunk.scores
        whole = text.rstrip(_CUT_CHARACTER)
        text, self._cut = whole, text[len(whole) :]
        if not text and not scores:
            return
        self.chunks += 1
        self.text += text
        self._last_at = now
        if now - self._arrived_at >= _APART_SECONDS:
            self._arrivals, self._arrived_at = self._arrivals + 1, now
        before = self._scored_tokens
        self._scored_tokens += len(scores)
        if self._first_at is None:
            self._first_at = now
            self._first_tokens = self._tokens
        texts = [score.token for score in scores] or [text]
        if "".join(texts) != text:  # marks of reasoning, or characters of several tokens
            texts = [*("" for _ in texts[1:]), text]
        for index, part in enumerate(texts):
            score = scores[index] if scores else None
            yield Token(
                request=REQUEST,
                text=part,
                id=score.id if score else UNKNOWN_ID,
                count=before + index + 1 if score else self._tokens,
                tokens_per_second=self._generation_speed(self._tokens),
                context_used=None if self.figures.prompt_tokens is None else self.figures.prompt_tokens + self._tokens,
                logprob=score.logprob if score else None,
                top=score.top if score else (),
                time_to_first_token=self._first_at - self._started_at,
            )

    def finish(self, reason: FinishReason, now: float, count_tokens: Callable[[str], int | None]) -> Finished:
        """The last event. count_tokens: called only if the server did not count."""
        generated = self.known_tokens if self.chunks else 0
        if generated is None:
            generated = count_tokens(self.text)
        figures = self.figures
        timings = Timings(
            queued_seconds=None,
            prompt_tokens=figures.prompt_tokens,
            cached_tokens=figures.cached_tokens,
            prompt_speed=self._prompt_speed(generated),
            time_to_first_token=None if self._first_at is None else self._first_at - self._started_at,
            generated_tokens=generated,
            generation_speed=self._generation_speed(generated),
            total_seconds=now - self._started_at,
            threads=None,
        )
        is_cut = reason not in ("end of text", "stop string")
        return Finished(REQUEST, reason, timings, "" if is_cut else self._cut)

    @property
    def _tokens(self) -> int:
        return self.known_tokens or self.chunks

    def _generation_speed(self, tokens: int | None) -> float | None:
        """The server's own figure, without the network's share, if what was seen agrees with it; else what was seen."""
        seen, reported = self._measured_speed(tokens), self.figures.generation_speed
        if seen is None or reported is None:
            return seen
        return reported if seen / _BELIEVED <= reported <= seen * _BELIEVED else seen

    def _prompt_speed(self, tokens: int | None) -> float | None:
        """The server's own figure, if its reply was seen to arrive and the prompt's time was there."""
        speed, read = self.figures.prompt_speed, (self.figures.prompt_tokens or 0) - (self.figures.cached_tokens or 0)
        if speed is None or read <= 0 or self._first_at is None or self._measured_speed(tokens) is None:
            return None
        return speed if read / speed <= _BELIEVED * (self._first_at - self._started_at) else None

    def _measured_speed(self, tokens: int | None) -> float | None:
        """Tokens after the first chunk by the seconds after it; None for a reply that came all at once or in a moment.

        Then the pace is that of the network, or of a server that collects its answer before it sends it.
        """
        if tokens is None or self._first_at is None or self._arrivals < _LEAST_ARRIVALS:
            return None
        if self._last_at - self._first_at < _LEAST_SECONDS:
            return None
        later_tokens = tokens - self._first_tokens
        return later_tokens / (self._last_at - self._first_at) if later_tokens > 0 else None

    def _with_marks(self, chunk: Chunk) -> str:
        """Reasoning and calls that the server separates get the marks that models write: one parser reads both."""
        delta, text = chunk.choice.delta, ""
        if reasoning := delta.reasoning_content or delta.reasoning:
            text += reasoning if self._is_reasoning else f"<think>{reasoning}"
            self._is_reasoning = True
        if delta.content:
            text += self._end_of_thoughts() + delta.content
        for part in delta.tool_calls:
            text += self._end_of_thoughts() + self._with_call_marks(part)
        is_cut_off = chunk.choice.finish_reason == "length"
        return text + (self._end_of_call() if chunk.choice.finish_reason and not is_cut_off else "")

    def _end_of_thoughts(self) -> str:
        was_reasoning, self._is_reasoning = self._is_reasoning, False
        return "</think>" if was_reasoning else ""

    def _with_call_marks(self, part: CallPart) -> str:
        text = ""
        if self._call is None or part.index != self._call.index or part.id not in ("", self._call.id):
            text = f'{self._end_of_call()}<tool_call>\n{{"name": {json.dumps(part.function.name)}, "arguments": '
            self._call, self._has_arguments = part, False
        self._has_arguments = self._has_arguments or bool(part.function.arguments)
        return text + part.function.arguments

    def _end_of_call(self) -> str:
        was_under_way, self._call = self._call is not None, None
        return ("" if self._has_arguments else "{}") + "}\n</tool_call>" if was_under_way else ""
