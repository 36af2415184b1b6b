"""An OpenAI-compatible server that behaves as the model's name says, badly for the most part; on loopback, for tests.

What it was asked is kept in `asked` (path, headers, body). A stream that "hangs" stays open until its client leaves,
which `left` tells.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "the-one-key"
USAGE = {"prompt_tokens": 30, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 12}}
LLAMA_TIMINGS = {
    "cache_n": 12, "prompt_n": 18, "prompt_per_second": 250.0, "predicted_n": 3, "predicted_per_second": 42.5,
}  # fmt: skip


def piece(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more.pop("choice", {})}], **more}


def thought(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}]}


def called(arguments: str, name: str = "", index: int | None = 0, id: str = "") -> dict[str, Any]:
    call: dict[str, Any] = {"function": {"name": name, "arguments": arguments} if name else {"arguments": arguments}}
    call |= {"id": id} if id else {}
    call |= {} if index is None else {"index": index}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


def scored(text: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": name, "logprob": value} for name, value in ((text, logprob), *others)]
    return piece(text, choice={"logprobs": {"content": [{"token": text, "logprob": logprob, "top_logprobs": top}]}})


WELL = [piece(""), piece("Two and"), piece(" two"), piece(" is four."), piece(finish="stop")]
STREAMS: dict[str, list[dict[str, Any] | str]] = {
    "plain": [*WELL],
    "counts at the end": [*WELL, {"choices": [], "usage": USAGE}],
    "counts as it goes": [
        piece("One ", usage={"prompt_tokens": 30, "completion_tokens": 2}),
        piece("two three ", usage={"prompt_tokens": 30, "completion_tokens": 7}),
        piece(finish="stop", usage={"prompt_tokens": 30, "completion_tokens": 8}),
    ],
    "like llama-server": [*WELL[:-1], piece(finish="stop", timings=LLAMA_TIMINGS)],
    "thinks": [thought("Two and "), thought("two."), piece("Four"), piece("."), piece(finish="stop")],
    "calls": [
        thought("I compute."),
        called("", "calculator"),
        called('{"expression":'),
        called(' "847 * 36"}'),
        piece(finish="tool_calls"),
    ],
    "calls twice": [called("", "now"), called('{"da', "weekday", 1), piece(finish="length")],
    "calls without numbers": [
        called('{"expression": "12*12"}', "calculator", None, "a"),
        called("{}", "date", None, "b"),
        piece(finish="tool_calls"),
    ],
    "calls wrongly": [called('{"expression": 12*12}', "calculator"), piece(finish="tool_calls")],
    "scores": [scored("Four", -0.25, ("Five", -1.5)), scored(".", -0.01, ("!", -4.6)), piece(finish="stop")],
    "scores nonsense": [
        piece("Four", choice={"logprobs": {"content": [{"token": 4, "logprob": "high"}, "x", None]}}),
        piece(".", choice={"logprobs": {"content": "much"}}, usage={"completion_tokens": True, "prompt_tokens": -3}),
        piece(finish="stop", usage=[1], timings="fast"),
    ],
    "full": [piece("As I was"), piece(finish="length", usage={"prompt_tokens": 30, "completion_tokens": 3})],
    "cut in a character": [piece("Hi \ufffd"), piece("\ufffd"), piece(finish="length")],
    "a character it cannot write": [piece("a\ufffd"), piece("b\ufffd"), piece(finish="stop")],
    "filters": [piece("Well, "), piece(finish="content_filter")],
    "fails midway": [piece("Well, "), {"error": {"message": f"GPU fell off; your key was {KEY}"}}],
    "not json": [piece("Well, "), "<html>login</html>"],
    "not an object": ["[1, 2, 3]"],
    "half a character": [piece("\ud83d"), piece("smile"), piece(finish="stop")],
}
REFUSALS: dict[str, tuple[int, Any]] = {
    "unknown": (404, {"error": {"message": "The model `unknown` does not exist.", "code": "model_not_found"}}),
    "too long": (400, {"error": {"message": "This model's maximum context length is 2048 tokens, however …"}}),
    "busy": (429, {"error": {"message": "Rate limit reached"}}),
    "loading": (503, {"error": {"message": "Loading model", "code": 503}}),
    "broken": (500, {"detail": "Internal Server Error"}),
    "echoes": (500, {"error": {"message": f"cannot use {KEY} " + "x" * 5000 + "\n\x1b[31m"}}),
    "picky": (422, {"detail": [{"msg": "Value is not allowed", "loc": ["body"]}]}),
    "elsewhere": (302, None),
}


class ServerStandIn:
    """`with ServerStandIn() as server:` serves at `server.url`; `models` is what its list offers, any JSON at all."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.models: Any = {
            "data": [{"id": name, "max_model_len": 2048} for name in (*STREAMS, *REFUSALS, "knows no tools")]
        }
        self.left = threading.Event()
        self.go_on = threading.Event()  # when set, the model "waits" writes the rest of its answer
        self.hold = threading.Event()  # while a list of models is asked for: answered when set
        self.hold.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for path, _, body in self.asked if path == "/v1/chat/completions"]

    def __enter__(self) -> ServerStandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                stand_in.asked.append((self.path, dict(self.headers), {}))
                stand_in.hold.wait(30)
                if self._may_enter():
                    self._json(200, stand_in.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.asked.append((self.path, dict(self.headers), body))
                if not self._may_enter():
                    return
                if self.path != "/v1/chat/completions":
                    self._json(404, {"detail": "Not Found"})
                    return
                self._behave(body)

            def _behave(self, body: dict[str, Any]) -> None:
                name, last = body["model"], body["messages"][-1]
                if last["role"] == "tool":
                    self._stream([piece(f"It is {last['content']}."), piece(finish="stop")])
                elif name in STREAMS:
                    self._stream(STREAMS[name])
                elif name == "knows no tools" and "tools" in body:
                    self._json(400, {"error": {"message": "this model does not support tools"}})
                elif name == "simple" and ("top_k" in body or "logprobs" in body):
                    self._json(400, {"error": {"message": "Unrecognized request argument supplied: top_k"}})
                elif name in ("simple", "knows no tools"):
                    self._stream(WELL)
                elif name == "stumbles over scores" and "logprobs" in body:
                    self._stream([], end=False)
                elif name == "stumbles over scores":
                    self._stream(WELL)
                elif name == "cut":
                    self._stream([piece("Well, ")], end=False, cut=True)
                elif name == "interrupted":
                    self._stream([piece("Well, ")])
                elif name == "silent":
                    self._stream([], end=False)
                elif name == "hangs":
                    self._stream([piece("Well, ")], end=False)
                    self._wait_until_left()
                elif name == "waits":
                    with self._leaving():
                        self._stream([piece("Well, ")], end=False)
                        stand_in.go_on.wait(60)
                        self._stream([piece("here it is."), piece(finish="stop")], is_begun=True)
                elif name == "hangs before its answer":
                    self._wait_until_left()
                elif name == "never stops":
                    with self._leaving():
                        self._stream((piece("la ") for _ in range(10**9)), end=False)
                elif name == "long line":
                    with self._leaving():
                        self._head("text/event-stream")
                        while True:
                            self.wfile.write(b"data: " + b"x" * 65536)
                elif name == "login page":
                    self._head("text/html")
                    self.wfile.write(b"<html><h1>Log in</h1></html>\n")
                else:
                    status, answer = REFUSALS[name]
                    self._json(status, answer, {"Retry-After": "7", "Location": "http://127.0.0.1:9/v1"})

            def _stream(
                self,
                pieces: Iterable[dict[str, Any] | str],
                *,
                end: bool = True,
                cut: bool = False,
                is_begun: bool = False,
            ) -> None:
                if not is_begun:
                    self._head("text/event-stream", {"Content-Length": "100000"} if cut else {})
                    self.wfile.write(b": a comment\r\n\r\nevent: message\n")
                for each in pieces:
                    data = each if isinstance(each, str) else json.dumps(each)
                    self.wfile.write(f"data: {data}\r\n\r\n".encode())
                if end:
                    self.wfile.write(b"data: [DONE]\n\n")
                self.wfile.flush()

            def _wait_until_left(self) -> None:
                self.connection.settimeout(30)
                if self.connection.recv(1) == b"":
                    stand_in.left.set()

            @contextmanager
            def _leaving(self) -> Iterator[None]:
                try:
                    yield
                except (BrokenPipeError, ConnectionResetError):
                    stand_in.left.set()

            def _may_enter(self) -> bool:
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    self._json(401, {"error": {"message": "Invalid API key", "type": "invalid_request_error"}})
                    return False
                return True

            def _json(self, status: int, answer: Any, more: dict[str, str] | None = None) -> None:
                content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self._head("application/json", {"Content-Length": str(len(content)), **(more or {})}, status)
                self.wfile.write(content)

            def _head(self, kind: str, more: dict[str, str] | None = None, status: int = 200) -> None:
                self.send_response(status)
                for name, value in ({"Content-Type": kind} | (more or {})).items():
                    self.send_header(name, value)
                self.end_headers()

        return Handler


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
