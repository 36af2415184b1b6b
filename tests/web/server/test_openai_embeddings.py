"""/v1/embeddings with a made-up model of two layers, which a real process runs, asked by the `openai` package."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import llama_cpp
import numpy as np
import openai
import pytest
from openai import OpenAI
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message

from playground.app.programs.service import ProgramService
from playground.app.services import Services
from playground.engine.local.embedder import Embedder
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Embed, Embedded, EmbeddingEnded, Event
from playground.events import LineFormatter
from playground.llama.model import Aborted
from playground.settings import load_settings
from playground.steps import Steps
from playground.web.server.openai.routes import openai_routes
from tests.support.embedding_model import write_embedding_model
from tests.support.log_lines import Log, written

pytestmark = pytest.mark.llama

TEXTS = ["the cat sat on the mat.", "what is a dog?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedding_model(tmp_path_factory.mktemp("models") / "Tiny-Embedder-F32.gguf", context=64)


@pytest.fixture(scope="module")
def services(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"), model_dirs=(model.parent,))) as services:
        yield services


@pytest.fixture(scope="module")
def service(services: Services) -> ProgramService:
    return ProgramService(services)


@pytest.fixture(scope="module")
def app(services: Services, service: ProgramService) -> Starlette:
    return Starlette(routes=openai_routes(service, services.settings))


@pytest.fixture(scope="module")
def http(app: Starlette) -> TestClient:
    return TestClient(app)


@pytest.fixture
def client(http: TestClient) -> OpenAI:
    return OpenAI(base_url="http://testserver/v1", api_key="none", http_client=http, max_retries=0)


def test_the_vectors_are_those_of_llama_cpp(client: OpenAI, model: Path) -> None:
    asked = client.embeddings.create(model="Tiny-Embedder", input=TEXTS)  # as base64, which is the package's way
    peer = llama_cpp.Llama(str(model), embedding=True, n_ctx=64, n_ubatch=64, flash_attn=True, verbose=False)
    theirs: Any = peer.create_embedding(TEXTS)
    for ours, other in zip(asked.data, theirs["data"], strict=True):
        expected = np.array(other["embedding"]) / np.linalg.norm(other["embedding"])
        assert np.allclose(ours.embedding, expected, atol=1e-5)
    assert asked.usage.prompt_tokens == theirs["usage"]["prompt_tokens"] and [one.index for one in asked.data] == [0, 1]
    alone = client.embeddings.create(model="Tiny-Embedder:F32", input=TEXTS[1], encoding_format="float")
    assert np.allclose(alone.data[0].embedding, asked.data[1].embedding, atol=1e-7)


def test_each_model_does_what_it_is_for(client: OpenAI, http: TestClient) -> None:
    listed = {one["id"]: one["meta"]["embeds"] for one in http.get("/v1/models").json()["data"]}
    assert listed["Tiny-Embedder:F32"] is True and listed["starter"] is False
    with pytest.raises(openai.BadRequestError, match="starter writes text and makes no embeddings"):
        client.embeddings.create(model="starter", input="the cat")
    with pytest.raises(openai.BadRequestError, match="turns texts into vectors and cannot chat"):
        client.chat.completions.create(model="Tiny-Embedder:F32", messages=[{"role": "user", "content": "Hello"}])
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.embeddings.create(model="nobody/nothing", input="the cat")


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({"input": ["the cat", "the " * 100]}, "context_length_exceeded", "Text 2 has 102 tokens; the model reads 64"),
        ({"input": [5, 6, 7]}, "invalid_value", "numbers of tokens are not read"),
        ({"input": ["the cat", " "]}, "invalid_value", "none of them empty"),
        ({"input": "the cat", "dimensions": 8}, "invalid_value", "dimensions"),
    ],
)
def test_what_cannot_be_embedded_is_refused(http: TestClient, body: dict[str, Any], code: str, sentence: str) -> None:
    answer = http.post("/v1/embeddings", json={"model": "Tiny-Embedder", **body})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert sentence in answer.json()["error"]["message"]


@pytest.fixture
def log() -> Iterator[Log]:
    yield from written(LineFormatter("text"))


async def ask_and_leave(app: Starlette, body: bytes, has_begun: Callable[[], bool]) -> list[Message]:
    """Asks for embeddings and goes away once that is so; returns what was answered."""
    sent: list[Message] = []
    is_asked = False

    async def receive() -> Message:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await until(has_begun)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(
        {
            "type": "http", "method": "POST", "path": "/v1/embeddings", "raw_path": b"/v1/embeddings", "root_path": "",
            "scheme": "http", "query_string": b"", "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        },
        receive, send,
    )  # fmt: skip
    return sent


def process_of(pool: ModelPool) -> int:
    """Of the only model that is loaded."""
    (loaded,) = pool.loaded_models()
    with Steps(pool.lease_model(loaded.key.path, loaded.key.context)).finish() as lease:
        return lease.engine.pid


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not is_so():
            await anyio.sleep(0.01)


def test_a_client_that_goes_away_ends_its_embedding(
    client: OpenAI, app: Starlette, services: Services, service: ProgramService, log: Log
) -> None:
    client.embeddings.create(model="Tiny-Embedder", input=TEXTS)  # loads it
    pid = process_of(services.pool)
    os.kill(pid, signal.SIGSTOP)  # so that it is in the middle of the texts, however fast this computer is
    try:
        body = json.dumps({"model": "Tiny-Embedder", "input": TEXTS * 1000}).encode()
        assert asyncio.run(ask_and_leave(app, body, lambda: services.pool.is_decoding)) == []
        asyncio.run(until(lambda: not service.calls.under_way()))
    finally:
        os.kill(pid, signal.SIGCONT)
    asyncio.run(until(lambda: not services.pool.is_decoding))
    (line,) = [line for line in log.lines if "outcome=stopped" in line]
    assert "texts=0" in line
    assert len(client.embeddings.create(model="Tiny-Embedder", input=TEXTS).data) == 2


class _CountingModel:
    """Makes of a text a vector of its length; the text "stop" is aborted once."""

    context_size = trained_context = 100
    was_aborted = False

    def tokenize_whole(self, text: str) -> list[int]:
        return list(text.encode())

    def embed(self, tokens: Sequence[int]) -> Any:
        if bytes(tokens) == b"stop" and not self.was_aborted:
            self.was_aborted = True
            raise Aborted
        return np.array([len(tokens)], dtype=np.float32)

    def clear_abort(self) -> None: ...


def test_requests_take_turns_and_an_abort_loses_no_text() -> None:
    events: list[Event] = []
    embedder = Embedder(_CountingModel(), events.append, clock=lambda: 0.0)
    embedder.add_request(Embed(1, ("a", "stop", "abc")))
    embedder.add_request(Embed(2, ("ab",)))
    embedder.add_request(Embed(3, ("never",)))
    embedder.cancel_request(3)
    while embedder.is_busy:
        embedder.run_step()
    assert events == [
        EmbeddingEnded(3, True, 0.0),
        Embedded(1, (1.0,), 1),
        Embedded(2, (2.0,), 2),
        EmbeddingEnded(2, False, 0.0),
        Embedded(1, (4.0,), 4),
        Embedded(1, (3.0,), 3),
        EmbeddingEnded(1, False, 0.0),
    ]
