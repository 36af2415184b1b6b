"""The network door to OpenAI-compatible servers: one of their models as an engine, and the list of what they offer.

A RemoteEngine takes messages where a LocalEngine takes a prompt, because a server renders its own; from there on both
speak the same events. Each request has a thread that reads and a connection of its own, so that closing a reply can
cut its line at any moment, even while the server has not begun to answer: that is how such servers learn of a stop.
The key goes to the server's address and nowhere else: redirects are not followed.
"""

from __future__ import annotations

import codecs
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx2

from playground.engine.client import Mail, ReplyStream
from playground.engine.messages import Event, Prefilled, Sampling
from playground.engine.remote_faults import (
    FAULTS,
    broken_off,
    cut_short,
    describe_fault,
    describe_refusal,
    failed_midway,
    given_up,
    is_too_long,
    names_no_model,
    no_first_word,
    odd_answer,
)
from playground.engine.remote_reply import REQUEST, RemoteReply
from playground.engine.remote_words import (
    Piece,
    RemoteModel,
    Turn,
    finish_reason,
    full_body,
    plain_body,
    read_models,
    read_piece,
    read_token_count,
    said_by,
)
from playground.errors import PlaygroundError, RemoteProblem
from playground.servers import RemoteServer

CONNECT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 5.0  # for a list of models, or a count of tokens
_LONGEST_ANSWER: Final = 4 << 20  # bytes of an answer that is read whole
_LONGEST_LINE: Final = 1 << 20  # bytes of one piece of a stream
_LONGEST_REPLY: Final = 4_000_000  # characters
_BEYOND_LIMIT: Final = 16  # pieces that a server may send beyond the tokens asked for, before its line is cut
_COUNTERS: Final = ("/tokenize", "/extras/tokenize/count")  # vLLM, SGLang and llama-server; llama-cpp-python
_NOT_UNDERSTOOD: Final = (400, 422, 501)  # what a server answers that does not know something of the request
_END: Final = "[DONE]"


class _HungUp(Exception):
    """The reader of the reply is gone; never shown."""


class _Line:
    """The connection of one request: `cut` ends it from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._shut()

    def check(self) -> None:
        if self._is_cut:
            raise _HungUp

    def watch(self, name: str, info: dict[str, Any]) -> None:
        """The HTTP client's report of its steps: takes hold of the socket as soon as there is one."""
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._is_cut:
                    self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the plain shutdown: TLS's own would take the socket from under its reader
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class ServerLine:
    """Asks one server; thread-safe. Methods raise RemoteProblem, or RequestRefused, with a sentence."""

    def __init__(self, server: RemoteServer, silence_seconds: float = 120) -> None:
        self.server = server
        self._silence_seconds = silence_seconds
        self._lock = threading.Lock()
        self._shared: httpx2.Client | None = None
        self._counter: str | None = _COUNTERS[0]

    def models(self) -> tuple[RemoteModel, ...]:
        """What the server offers now."""
        answer = self._ask("GET", f"{self.server.url}/models")
        try:
            return read_models(self.server.name, answer)
        except ValueError as error:
            raise odd_answer(self.server) from error

    def count_tokens(self, model: str, text: str) -> int | None:
        """How many tokens the model makes of a text; None where the server has no way to tell."""
        root = self.server.url.removesuffix("/v1")
        for path in _COUNTERS[_COUNTERS.index(self._counter) :] if self._counter else ():
            body = {"model": model, "prompt": text, "content": text, "input": text, "add_special_tokens": False}
            try:
                count = read_token_count(self._ask("POST", f"{root}{path}", body))
            except PlaygroundError:
                count = None
            if count is not None:
                self._counter = path
                return count
        self._counter = None
        return None

    def pieces(self, body: dict[str, Any], line: _Line) -> Iterator[Piece]:
        """The stream of a chat completion, piece by piece, up to its proper end."""
        try:
            with self._client().stream(
                "POST",
                f"{self.server.url}/chat/completions",
                json=body,
                headers=self._headers("text/event-stream"),
                timeout=httpx2.Timeout(self._silence_seconds, connect=CONNECT_SECONDS),
                extensions={"trace": line.watch},
            ) as response:
                if response.status_code != 200:
                    raise self._refusal(response, body)
                yield from self._read(response)
        except FAULTS as error:
            line.check()
            problem = describe_fault(error, self.server, self._silence_seconds)
            broke = isinstance(error, (httpx2.RemoteProtocolError, httpx2.ReadError))
            raise (_asked_too_much(problem) if broke and body.get("logprobs") else problem) from error

    def close(self) -> None:
        with self._lock:
            if self._shared is not None:
                self._shared.close()

    def _read(self, response: httpx2.Response) -> Iterator[Piece]:
        is_empty = True
        for data in self._data_lines(response):
            if data == _END:
                return
            try:
                piece = read_piece(data)
            except ValueError as error:
                raise odd_answer(self.server) from error
            is_empty = False
            if piece.error is not None:
                raise failed_midway(self.server, piece.error)
            yield piece
        if is_empty:
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            raise _asked_too_much(no_first_word(self.server)) if is_stream else odd_answer(self.server)

    def _data_lines(self, response: httpx2.Response) -> Iterator[str]:
        """What follows `data:` in each line of an event stream; other lines are comments and names."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        rest = ""
        for chunk in response.iter_bytes():
            *lines, rest = (rest + decode(chunk)).split("\n")
            if len(rest) > _LONGEST_LINE:
                raise odd_answer(self.server)
            yield from (line[5:].strip() for line in lines if line.startswith("data:"))
        if rest.startswith("data:"):
            yield rest[5:].strip()

    def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> object:
        """A JSON answer within LOOK_SECONDS for each step."""
        timeout = httpx2.Timeout(LOOK_SECONDS)
        try:
            with self._client().stream(method, url, json=body, headers=self._headers(), timeout=timeout) as response:
                if response.status_code != 200:
                    raise self._refusal(response)
                return self._json(response)
        except FAULTS as error:
            raise describe_fault(error, self.server, LOOK_SECONDS) from error
        except ValueError as error:
            raise odd_answer(self.server) from error

    def _json(self, response: httpx2.Response) -> object:
        content = b""
        until = time.monotonic() + 4 * LOOK_SECONDS  # a server that drips would never time out
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _LONGEST_ANSWER or time.monotonic() > until:
                raise ValueError("too much, or too slow")
        try:
            return json.loads(content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    def _refusal(self, response: httpx2.Response, body: dict[str, Any] | None = None) -> PlaygroundError:
        """body: of a chat, which could be asked for less."""
        status, retry_after = response.status_code, response.headers.get("retry-after", "")
        try:
            answer = self._json(response)
        except (ValueError, *FAULTS):
            answer = None
        model = None if body is None else str(body["model"])
        refused = describe_refusal(status, answer, retry_after, self.server, model)
        said = said_by(answer)
        stumbles = status in _NOT_UNDERSTOOD or (status == 500 and body is not None and "logprobs" in body)
        return _asked_too_much(refused) if stumbles and not is_too_long(said) and not names_no_model(said) else refused

    def _headers(self, accept: str = "application/json") -> dict[str, str]:
        key = self.server.key
        return {"Accept": accept} | ({"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})

    def _client(self) -> httpx2.Client:
        """No connection is kept for a second request: a line that is cut must be nobody else's.

        The environment's proxy is used for https alone: a plain request would show the key to it.
        """
        with self._lock:
            if self._shared is None:
                self._shared = httpx2.Client(
                    follow_redirects=False,
                    trust_env=self.server.url.startswith("https:"),
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                )
            return self._shared


class _AskedTooMuch(RemoteProblem):
    """Failed in a way that a simpler request may not."""


def _asked_too_much(problem: PlaygroundError) -> _AskedTooMuch:
    return _AskedTooMuch(problem.problem, problem.remedy)


class RemoteEngine:
    """One model of a server. `submit` from any thread; there is nothing to load, and nothing is known of its memory."""

    loaded: Final = None  # a server keeps the facts of a loaded model to itself

    def __init__(self, line: ServerLine, model: RemoteModel) -> None:
        self.model = model
        self._line = line
        self._beyond: frozenset[tuple[bool, bool]] = frozenset()  # kinds of request that were too much for the server
        self._empty_text: int | None = None

    def submit(
        self, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None = None, alternatives: int = 0
    ) -> ReplyStream:
        """Start a reply to these messages, the system text first; its events come through the stream.

        alternatives: how many top tokens should come with each, where the server gives them.
        """
        mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        line = _Line()

        def read() -> None:
            try:
                for event in self._events(line, turns, sampling, max_tokens, alternatives):
                    mailbox.put(event)
            except _HungUp:
                pass
            except PlaygroundError as error:
                mailbox.put(error)
            except Exception as error:  # whatever it was, whoever waits must learn of it
                mailbox.put(RemoteProblem(f"The reply of {self.model.server} failed: {type(error).__name__}."))

        threading.Thread(target=read, daemon=True, name=f"reply of {self.model.server}").start()
        return ReplyStream(mailbox, line.cut)

    def count_tokens(self, text: str) -> int | None:
        """None where the server cannot tell. What a tokenizer puts before every text is not counted."""
        count = self._line.count_tokens(self.model.id, text)
        if count is None:
            return None
        if self._empty_text is None:
            self._empty_text = self._line.count_tokens(self.model.id, "") or 0
        return count - self._empty_text

    def _events(
        self, line: _Line, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None, alternatives: int
    ) -> Iterator[Event]:
        alternatives = 0 if self.model.scores_slowly else alternatives
        reply = RemoteReply(time.monotonic())
        finish: str | None = None
        for piece in self._pieces(line, turns, sampling, max_tokens, alternatives):
            line.check()
            if reply.pieces == 0 and (prompt := piece.figures.prompt_tokens):
                yield Prefilled(REQUEST, prompt, prompt, piece.figures.cached_tokens or 0)
            yield from reply.take(piece, time.monotonic())
            finish = piece.finish or finish
            if finish is None and max_tokens is not None and reply.pieces > max_tokens + _BEYOND_LIMIT:
                finish = "length"  # it has lost count, or never looked
                break
            if len(reply.text) > _LONGEST_REPLY:
                raise odd_answer(self._line.server)
        ended_at = time.monotonic()
        if finish is None:
            raise cut_short(self._line.server) if reply.pieces else broken_off(self._line.server)
        reason = finish_reason(finish, reply.told_tokens, max_tokens)
        if reason is None:
            raise given_up(self._line.server, finish)
        yield reply.finished(reason, ended_at, self.count_tokens)

    def _pieces(
        self, line: _Line, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None, alternatives: int
    ) -> Iterator[Piece]:
        """The stream of the fullest request that this server takes: each knows other extras, and some refuse them."""
        kinds = [
            (extras, scores) for scores in ((True, False) if alternatives else (False,)) for extras in (True, False)
        ]
        left = [kind for kind in kinds if kind not in self._beyond] or kinds[-1:]
        for place, (extras, scores) in enumerate(left):
            body = (full_body if extras else plain_body)(
                self.model.id, turns, sampling, max_tokens, alternatives if scores else 0
            )
            begun = False
            try:
                for piece in self._line.pieces(body, line):
                    begun = True
                    yield piece
                self._beyond |= frozenset(left[:place])
                return
            except _AskedTooMuch:
                line.check()
                if begun or place == len(left) - 1:
                    raise
