"""The OpenAI-compatible interface of the real playground, asked by the clients that programs use."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from playground.web.server.request_filter import MAX_BODY_BYTES
from tests.support.playground_process import PlaygroundProcess

pytestmark = pytest.mark.process

SUM: list[Any] = [{"role": "user", "content": "What is 2+2?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
KEY = "a key that nobody guesses"


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    with PlaygroundProcess(tmp_path_factory.mktemp("home"), {"PLAYGROUND_API_KEY": KEY}) as process:
        yield process


@pytest.fixture(scope="module")
def client(running: PlaygroundProcess) -> OpenAI:
    return OpenAI(base_url=f"{running.address}/v1", api_key=KEY, max_retries=0)


def asked(running: PlaygroundProcess, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{running.address}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}", **headers},
        timeout=60,
    )  # fmt: skip


def test_the_openai_package_gets_answers_streams_and_figures(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["starter"]
    whole = client.chat.completions.create(model="starter", messages=SUM, temperature=0)
    text = whole.choices[0].message.content
    assert text == "The answer to this classic math problem is 4." and whole.choices[0].finish_reason == "stop"
    assert whole.usage and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    timings: Any = whole.model_extra and whole.model_extra["timings"]
    assert timings["predicted_n"] == whole.usage.completion_tokens and timings["predicted_per_second"] > 0

    chunks = list(
        client.chat.completions.create(
            model="starter", messages=SUM, temperature=0, stream=True, stream_options={"include_usage": True},
            logprobs=True, top_logprobs=3,
        )
    )  # fmt: skip
    *deltas, last, usage = chunks
    assert deltas[0].choices[0].delta.role == "assistant" and deltas[0].choices[0].delta.content is None
    assert "".join(chunk.choices[0].delta.content or "" for chunk in deltas) == text
    assert last.choices[0].finish_reason == "stop" and not last.choices[0].delta.content
    assert usage.choices == [] and usage.usage and usage.usage.completion_tokens == whole.usage.completion_tokens
    tokens = [
        token for chunk in deltas if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content or ()
    ]
    assert "".join(token.token for token in tokens) == text
    assert all(token.logprob <= 0 and token.bytes and len(token.top_logprobs) == 3 for token in tokens)

    cut = client.chat.completions.create(model="starter", messages=SUM, temperature=0, stop=["classic"])
    assert cut.choices[0].message.content == "The answer to this " and cut.choices[0].finish_reason == "stop"
    parts = [{"type": "text", "text": text} for text in ("The answer to this cl", "assic")]
    begun = [*SUM, {"role": "assistant", "content": parts}]
    continued = client.chat.completions.create(model="starter", messages=begun, temperature=0, max_completion_tokens=3)
    assert continued.choices[0].message.content == " math problem is" and continued.choices[0].finish_reason == "length"
    seeded = [client.chat.completions.create(model="starter", messages=SUM, seed=7, max_tokens=8) for _ in range(2)]
    same = {reply.choices[0].message.content for reply in seeded}
    assert len(same) == 1
    two = client.chat.completions.create(model="starter", messages=SUM, seed=7, max_tokens=8, n=2)
    texts = [choice.message.content for choice in two.choices]
    assert texts[0] in same and texts[1] not in same and [choice.index for choice in two.choices] == [0, 1]
    alone = seeded[0].usage
    assert two.usage and alone and two.usage.completion_tokens > alone.completion_tokens
    assert two.usage.prompt_tokens == alone.prompt_tokens
    streamed = ["", ""]
    for chunk in client.chat.completions.create(model="starter", messages=SUM, seed=7, max_tokens=8, n=2, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts
    bare = client.completions.create(model="starter", prompt="Once upon a", max_tokens=2, temperature=0, logprobs=1)
    assert bare.choices[0].text.startswith(" time") and bare.choices[0].logprobs
    assert bare.choices[0].logprobs.tokens and bare.choices[0].logprobs.tokens[0] == " time"


class Cat(BaseModel):
    name: str
    age: int


def test_the_openai_package_gets_forms_and_calls(client: OpenAI) -> None:
    described: list[Any] = [{"role": "user", "content": "Describe a cat named Tom, two years old."}]
    cat = client.chat.completions.parse(
        model="starter", messages=described, temperature=0, response_format=Cat, max_tokens=80
    )
    assert isinstance(cat.choices[0].message.parsed, Cat)
    json_only = client.chat.completions.create(
        model="starter", messages=described, temperature=0, response_format={"type": "json_object"}, max_tokens=80
    )
    assert (json_only.choices[0].message.content or "").startswith("{")
    rhyme = client.chat.completions.create(
        model="starter", messages=described, max_tokens=20, extra_body={"grammar": 'root ::= "yes" | "no"'}
    )
    assert rhyme.choices[0].message.content in ("yes", "no")

    question: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.chat.completions.create(
        model="starter", messages=question, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=80
    )
    assert first.choices[0].finish_reason == "tool_calls" and first.choices[0].message.tool_calls
    call: Any = first.choices[0].message.tool_calls[0]
    assert call.type == "function" and call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    talk = [*question, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}]
    answer = client.chat.completions.create(model="starter", messages=talk, tools=[WEATHER], max_tokens=16)
    assert answer.usage and first.usage and answer.usage.prompt_tokens > first.usage.prompt_tokens
    named = client.chat.completions.create(
        model="starter", messages=question, tools=[WEATHER], max_tokens=80, stream=True,
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )  # fmt: skip
    streamed = [call for chunk in named for call in chunk.choices[0].delta.tool_calls or ()]
    assert [call.function and call.function.name for call in streamed] == ["weather"]


def test_an_agent_that_speaks_anthropics_interface_is_answered(running: PlaygroundProcess) -> None:
    def ask(**more: Any) -> httpx.Response:
        body = {"model": "starter", "max_tokens": 60, "temperature": 0, "messages": SUM, **more}
        return httpx.post(f"{running.address}/v1/messages", json=body, headers={"x-api-key": KEY}, timeout=60)

    whole = ask().json()
    assert whole["content"] == [{"type": "text", "text": "The answer to this classic math problem is 4."}]
    assert (whole["type"], whole["stop_reason"]) == ("message", "end_turn") and whole["usage"]["output_tokens"] > 0

    events = [json.loads(line[6:]) for line in ask(stream=True).text.splitlines() if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]

    function = WEATHER["function"]
    tool = {"name": "weather", "input_schema": function["parameters"]}
    question = {"role": "user", "content": [{"type": "text", "text": "Weather in Paris?"}]}
    called = ask(messages=[question], tools=[tool], tool_choice={"type": "any"}).json()
    assert called["stop_reason"] == "tool_use" and set(called["content"][-1]["input"]) == {"city"}
    result = {"type": "tool_result", "tool_use_id": called["content"][-1]["id"], "content": "18 degrees"}
    talk = [question, {"role": "assistant", "content": called["content"]}, {"role": "user", "content": [result]}]
    asked, answered = called["usage"], ask(messages=talk, tools=[tool]).json()["usage"]
    assert answered["cache_read_input_tokens"] > 0
    assert sum(answered.values()) - answered["output_tokens"] > sum(asked.values()) - asked["output_tokens"]
    counted = httpx.post(
        f"{running.address}/v1/messages/count_tokens", json={"model": "starter", "messages": SUM},
        headers={"x-api-key": KEY}, timeout=60,
    )  # fmt: skip
    usage = whole["usage"]
    assert counted.json() == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}
    refused = ask(max_tokens=0)
    assert refused.status_code == 400 and refused.json()["error"]["type"] == "invalid_request_error"


def test_many_asynchronous_clients_are_all_answered(running: PlaygroundProcess) -> None:
    async def ask() -> list[str | None]:
        async with AsyncOpenAI(base_url=f"{running.address}/v1", api_key=KEY, max_retries=0) as client:
            replies = await asyncio.gather(
                *(client.chat.completions.create(model="starter", messages=SUM, temperature=0) for _ in range(6))
            )
        return [reply.choices[0].message.content for reply in replies]

    assert asyncio.run(ask()) == ["The answer to this classic math problem is 4."] * 6


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"model": "nobody/nothing:Q4_K_M", "messages": SUM}, 404, "model_not_found", "no model"),
        ({"messages": SUM}, 400, "invalid_value", "say which"),
        ({"model": "starter"}, 400, "invalid_value", "messages"),
        ({"model": "starter", "messages": "hello"}, 400, "invalid_value", "messages"),
        ({"model": "starter", "messages": [123]}, 400, "invalid_value", "messages"),
        ({"model": "starter", "messages": [{"role": "user"}]}, 400, "invalid_value", "content"),
        ({"model": "starter", "messages": SUM, "n": 9}, 400, "invalid_value", "n"),
        ({"model": "starter", "messages": SUM, "temperature": -1}, 400, "invalid_value", "temperature"),
        ({"model": "starter", "messages": SUM, "device": "CUDA7"}, 400, "bad_request", "no device CUDA7 here. Choose"),
        ({"model": "starter", "messages": SUM, "gpu_layers": -1}, 400, "invalid_value", "gpu_layers"),
        ({"model": "starter", "messages": [*SUM] * 150}, 400, "context_length_exceeded", "8,192"),
        ({"model": "starter", "messages": SUM, "response_format": {"type": "sound"}}, 400, "invalid_value", "type"),
        ({"model": "starter", "messages": SUM, "json_schema": {"type": 123}}, 400, "bad_request", "JSON schema"),
        ({"model": "starter", "messages": SUM, "json_schema": {"type": "hiccup"}}, 400, "bad_request", "JSON schema"),
        ({"model": "starter", "messages": SUM, "grammar": "none"}, 400, "bad_request", "cannot read the grammar"),
        ({"model": "starter", "messages": SUM, "stream": True, "grammar": "none"}, 400, "bad_request", "grammar"),
    ],
)
def test_what_cannot_be_served_is_an_error_of_openais_form(
    running: PlaygroundProcess, body: Any, status: int, code: str, words: str
) -> None:
    if code == "context_length_exceeded":
        body = {**body, "messages": [{"role": "user", "content": "Say it again. " * 3000}]}
    answer = asked(running, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], set(error) >= {"message", "type", "param", "code"}) == (
        status,
        code,
        True,
    )
    assert words in error["message"]


def test_bodies_that_are_too_much_or_no_json_are_errors_of_the_same_form(running: PlaygroundProcess) -> None:
    def refusal(content: bytes, path: str = "chat/completions") -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        answer = httpx.post(f"{running.address}/v1/{path}", content=content, headers=headers, timeout=60)
        return answer.status_code, answer.json()

    huge = b'{"model": "starter", "messages": "' + b"x" * MAX_BODY_BYTES + b'"}'
    status, body = refusal(huge)
    assert status == 413 and f"{MAX_BODY_BYTES:,} bytes" in body["error"]["message"]
    status, body = refusal(huge, "messages")
    assert (status, body["type"], body["error"]["type"]) == (413, "error", "request_too_large")
    deep = b'{"model": "starter", "messages": [{"role": "user", "content": "x"}], "json_schema": '
    many = json.dumps({"model": "starter", "messages": SUM * 10_000}).encode()
    for content, words in (
        (b"\xff\xfe{}", "The body"),
        (b"", "The body"),
        (b'{"model": "starter", "messages": [{"role": "user", "content": "\xff"}]}', "The body"),
        (b'{"model": "starter", "messages": [{"role": "user", "content": "\\ud83d"}]}', "The body"),
        (deep + b'{"items": ' * 5000 + b"1" + b"}" * 5001, "The body"),
        (many, "messages"),
    ):
        status, body = refusal(content)
        assert status == 400 and words in body["error"]["message"], body


def test_only_a_program_with_the_key_is_served(running: PlaygroundProcess, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{running.address}/v1", api_key="guessed", max_retries=0).models.list()
    by_form = httpx.post(f"{running.address}/v1/chat/completions", content=b"{}", headers={
        "authorization": f"Bearer {KEY}", "content-type": "text/plain"})  # fmt: skip
    assert by_form.status_code == 415  # what another web page can send without asking
    with pytest.raises(openai.BadRequestError, match="no embeddings"):
        client.embeddings.create(model="starter", input="x")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")
    assert client.models.retrieve("starter").id == "starter"


def test_a_client_that_goes_away_frees_its_place(running: PlaygroundProcess, client: OpenAI) -> None:
    long: Any = [{"role": "user", "content": "Tell me a very long story."}]
    ended = running.output.count("reason=stopped")
    stream = client.chat.completions.create(model="starter", messages=long, max_tokens=3000, stream=True)
    assert next(iter(stream)) and next(iter(stream))
    stream.close()
    # Its tokens were asked for with half of the context: others would wait if it went on.
    client.chat.completions.create(model="starter", messages=SUM, seed=1, temperature=0)
    assert running.output.count("reason=stopped") == ended + 1


def test_the_program_llm_answers_with_the_starter(running: PlaygroundProcess, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: here\n  model_name: starter\n  api_base: {running.address}/v1\n  api_key_name: here\n"
    )
    (tmp_path / "keys.json").write_text(json.dumps({"here": KEY}))
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "here", "What is 2+2?", "-o", "temperature", "0", "--no-log"],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "The answer to this classic math problem is 4.", done.stderr
