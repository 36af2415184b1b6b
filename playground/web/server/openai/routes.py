"""The routes of /v1. Each checks the key, reads the body, and answers whole or as a stream of server-sent events.

The status of a stream is decided before its first byte: until something of the reply is there, or WAIT_SECONDS have
passed. After that an error is an event of the stream.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from playground import events
from playground.app.programs.calls import LoadChoice
from playground.app.programs.service import ProgramModel, ProgramService
from playground.chat.history import HistoryLimits
from playground.chat.programs.reply import ProgramRequest, ReplyPiece
from playground.errors import PlaygroundError
from playground.limits.visitor import Visitor
from playground.settings import Settings
from playground.web.server.openai.answers import AnswerForm, ChatForm, CompletionForm
from playground.web.server.openai.bodies import ChatBody, CommonBody, CompletionBody
from playground.web.server.openai.embeddings import EmbeddingBody, EmbeddingForm
from playground.web.server.openai.errors import PREFIX, ApiError, api_error
from playground.web.server.openai.messages import CountBody, CountForm, MessagesBody, MessagesForm
from playground.web.server.openai.reply_thread import ReplyThread
from playground.web.server.password import WRONG_GUESS_SECONDS

WAIT_SECONDS: Final = 10.0  # for the first news of a reply, and between two signs of life in a stream

Endpoint = Callable[[Request], Awaitable[Response]]


def openai_routes(service: ProgramService, settings: Settings) -> list[BaseRoute]:
    """The routes of /v1, which answer by an error where the interface is off."""
    api = OpenAiApi(service, settings)
    routes: dict[str, tuple[str, Endpoint]] = {
        "models": ("GET", api.list_models),
        "models/{name:path}": ("GET", api.show_model),
        "chat/completions": ("POST", api.complete_chat),
        "completions": ("POST", api.complete_text),
        "messages": ("POST", api.answer_messages),
        "messages/count_tokens": ("POST", api.count_tokens),
        "embeddings": ("POST", api.embed),
    }
    listed: list[BaseRoute] = [
        Route(f"{PREFIX}/{path}", api.checked(endpoint), methods=[method])
        for path, (method, endpoint) in routes.items()
    ]
    return [*listed, Route(f"{PREFIX}/{{rest:path}}", api.checked(api.find_nothing), methods=["GET", "POST"])]


class OpenAiApi:
    """Every endpoint as a method."""

    def __init__(self, service: ProgramService, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._limits = HistoryLimits.of(settings)

    def checked(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint behind the check of the key, with errors in the form of its interface."""

        async def answer(request: Request) -> Response:
            try:
                await self._check_access(request)
                return await endpoint(request)
            except (ApiError, ValidationError, PlaygroundError) as error:
                return api_error(error).response(request.url.path)

        return answer

    async def _check_access(self, request: Request) -> None:
        settings = self._settings
        if not settings.offers_api:
            raise ApiError(
                404, "The interface for programs is off here: PLAYGROUND_API_KEY has to be set, and PLAYGROUND_API not "
                "be false.", "api_off",
            )  # fmt: skip
        keys = [key.get_secret_value() for key in (settings.api_key, settings.password) if key.get_secret_value()]
        given = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        fits = [hmac.compare_digest(given.encode("latin-1", "replace"), key.encode()) for key in keys]
        if keys and not any(fits):
            events.refused("", "api", "api_key", "Not the key of this playground.")
            if given:
                await anyio.sleep(WRONG_GUESS_SECONDS)
            raise ApiError(401, "Send the key of this playground as the bearer token.", "invalid_api_key")

    def _visitor(self, request: Request) -> Visitor:
        """Each request is a session of its own; from another computer its address counts."""
        peer = request.client.host if request.client else None
        forwarded = request.headers.get("x-forwarded-for", "")
        return self._service.runs.identify_visitor(f"program {secrets.token_hex(8)}", peer, forwarded, "api")

    # --- endpoints ---

    async def list_models(self, request: Request) -> Response:
        models = await anyio.to_thread.run_sync(self._service.models)
        return JSONResponse({"object": "list", "data": [self._model(one) for one in models]})

    async def show_model(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        model = await anyio.to_thread.run_sync(self._service.model_named, name)
        return JSONResponse(self._model(model))

    def _model(self, model: ProgramModel) -> dict[str, Any]:
        meta = {
            "size": model.size, "n_ctx": model.context_size, "loaded": model.context_size is not None,
            "embeds": model.embeds,
        }  # fmt: skip
        return {
            "id": model.name, "object": "model", "created": self._service.started_at, "owned_by": "gguf-playground",
            "meta": meta,
        }  # fmt: skip

    async def complete_chat(self, request: Request) -> Response:
        body = ChatBody.model_validate_json(await _json_body(request))
        asked = body.request(self._limits)
        form = ChatForm(body.model, (body.top_logprobs or 0) if body.logprobs else None, asked.choices)
        return self._answer(request, body, form, asked)

    async def complete_text(self, request: Request) -> Response:
        body = CompletionBody.model_validate_json(await _json_body(request))
        asked = body.request(self._limits)
        echo = (asked.prompt or "") if body.echo else ""
        form = CompletionForm(body.model, body.logprobs, asked.choices, echo)
        return self._answer(request, body, form, asked)

    def _answer(self, request: Request, body: CommonBody, form: AnswerForm, asked: ProgramRequest) -> Response:
        _check_model(body.model)
        reply = ReplyThread(self._service.reply(self._visitor(request), body.model, asked, body.load_choice))
        return ReplyAnswer(reply, form, is_stream=body.stream, wants_usage=body.wants_usage)

    async def answer_messages(self, request: Request) -> Response:
        body = MessagesBody.model_validate_json(await _json_body(request))
        return self._answer(request, body, MessagesForm(body), body.request(self._limits))

    async def count_tokens(self, request: Request) -> Response:
        body = CountBody.model_validate_json(await _json_body(request))
        asked = body.request(self._limits)
        _check_model(body.model)
        pieces = self._service.count_prompt(self._visitor(request), body.model, asked, body.load_choice)
        return ReplyAnswer(ReplyThread(pieces), CountForm(body.model, None))

    async def embed(self, request: Request) -> Response:
        body = EmbeddingBody.model_validate_json(await _json_body(request))
        texts = body.texts(self._limits)
        _check_model(body.model)
        pieces = self._service.embed(self._visitor(request), body.model, texts, LoadChoice(body.context))
        return ReplyAnswer(ReplyThread(pieces), EmbeddingForm(body.model, body))

    async def find_nothing(self, request: Request) -> Response:
        raise ApiError(404, f"There is no {request.method} {request.url.path[:200]} here.", "not_found")


def _check_model(name: str) -> None:
    if not name:
        raise ApiError(400, "model: say which; GET /v1/models lists them.", "invalid_value", "model")


async def _json_body(request: Request) -> bytes:
    """The body, if it says that it is JSON: other web pages can make a browser send anything else without asking."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "Send the header Content-Type: application/json.", "unsupported_media_type")
    return await request.body()


class ReplyAnswer(Response):
    """A reply as an HTTP answer. When the client goes away, the reply ends."""

    def __init__(
        self, reply: ReplyThread, form: AnswerForm, *, is_stream: bool = False, wants_usage: bool = False
    ) -> None:
        self._reply, self._form = reply, form
        self._is_stream, self._wants_usage = is_stream, wants_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    await self._reply.stop_when_gone(receive)
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                await (self._stream if self._is_stream else self._whole)(scope, receive, send)
                group.cancel_scope.cancel()
        finally:
            self._reply.stop()

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while (piece := await self._reply.next_piece(WAIT_SECONDS)) is not None:
                self._form.add(piece)
            response = JSONResponse(self._form.whole())
        except Exception as error:  # of any kind: it is the answer
            response = api_error(error).response(scope["path"])
        await response(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            piece = await self._reply.next_piece(WAIT_SECONDS)
        except Exception as error:
            await api_error(error).response(scope["path"])(scope, receive, send)
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def send_text(text: str, *, is_last: bool = False) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": not is_last})

        try:
            for chunk in self._form.first_chunks(piece or ReplyPiece()):
                await send_text(self._form.written(chunk))
            while piece is not None:
                self._form.add(piece)
                chunks = self._form.chunks(piece)
                await send_text("".join(map(self._form.written, chunks)) or ": waiting\n\n")
                piece = await self._reply.next_piece(WAIT_SECONDS)
            for chunk in self._form.last_chunks(wants_usage=self._wants_usage):
                await send_text(self._form.written(chunk))
        except Exception as error:
            await send_text(self._form.written(api_error(error).body_for(scope["path"])))
        await send_text(self._form.ending, is_last=True)
