"""The endpoints for programs, asked of the real playground by the clients that programs use, MCP's among them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool

from playground.app.records import LevelRecord, MachineRecord, PlanRecord, ReplyRecord
from playground.quantize.quantize import quantize_file
from playground.settings import load_settings
from playground.web.server.request_filter import RequestFilter
from tests.support.playground_process import ROOT, PlaygroundProcess

pytestmark = pytest.mark.process

NAMES = ["machine", "levels", "plan", "chat", "compare"]
PASSWORD = "correct horse battery staple"
PAGE = (ROOT / "docs" / "api.md").read_text()


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    home = tmp_path_factory.mktemp("home")
    made = home / "data" / "models" / "SmolLM2-135M-Instruct" / "SmolLM2-135M-Instruct-Q2_0.gguf"
    for _ in quantize_file(starter, "Q2_0", made, 2):
        pass
    with PlaygroundProcess(home, {"PLAYGROUND_MCP": "true"}) as process:
        yield process


@pytest.fixture(scope="module")
def client(running: PlaygroundProcess) -> Client:
    return Client(running.address, verbose=False)


def described(client: Client) -> dict[str, Any]:
    description = client.view_api(return_format="dict", print_info=False)
    assert isinstance(description, dict)
    return description


def test_exactly_five_endpoints_are_offered_and_each_says_what_it_does(client: Client) -> None:
    offered = described(client)
    assert list(offered["named_endpoints"]) == [f"/{name}" for name in NAMES]
    assert offered["unnamed_endpoints"] == {}
    assert all(endpoint["description"] for endpoint in offered["named_endpoints"].values())


def test_the_page_on_the_api_lists_every_parameter_as_it_is(client: Client) -> None:
    endpoints = described(client)["named_endpoints"]
    for name in NAMES:
        section = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]
        reported = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|", section, re.MULTILINE)
        offered = [(one["parameter_name"], one["parameter_has_default"]) for one in endpoints[f"/{name}"]["parameters"]]
        assert [(parameter, bool(default.strip())) for parameter, default in reported] == offered


@pytest.mark.parametrize(("name", "record"), [("machine", MachineRecord), ("plan", PlanRecord), ("chat", ReplyRecord)])
def test_the_page_on_the_api_names_every_field(name: str, record: type) -> None:
    section = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    assert [field for field in record.__annotations__ if f"`{field}`" not in section] == []


def test_machine_levels_and_plan_answer_with_the_command_lines_fields(client: Client) -> None:
    assert set(client.predict(api_name="/machine")) == set(MachineRecord.__annotations__)
    levels = client.predict(model="SmolLM2-135M-Instruct", api_name="/levels")["levels"]
    assert [(level["level"], level["reference"]) for level in levels] == [
        ("Q2_0", "SmolLM2-135M-Instruct:Q2_0"),
        ("Q4_1", "starter"),
    ]
    assert set(levels[0]) == set(LevelRecord.__annotations__) - {"recommended", "estimated"}
    plan = client.predict(model="starter", context=2048, kv_type="q8_0", slots=1, api_name="/plan")
    assert set(plan) == set(PlanRecord.__annotations__)
    assert plan["context_size"] == 2048
    assert plan["kv_cache"] < client.predict(model="starter", context=2048, slots=1, api_name="/plan")["kv_cache"]


def test_a_chat_comes_as_it_is_written_and_ends_with_its_figures(client: Client) -> None:
    records: list[Any] = list(
        client.submit(prompt="Count from one to ten.", temperature=0, max_tokens=40, api_name="/chat")
    )
    texts = [record["text"] for record in records]
    assert len(set(texts)) > 2
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(texts))
    assert {record["state"] for record in records[:-1]} <= {"loading", "waiting", "writing"}
    last = records[-1]
    assert last["state"] == "done"
    assert last["finish_reason"] in ("length limit", "end of text")
    assert last["timings"]["generated_tokens"] > 0
    assert last["memory_measured"] > 0


def test_the_history_is_read_and_the_same_seed_gives_the_same_answer(client: Client) -> None:
    history = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada."}]
    asked: dict[str, Any] = {"prompt": "What is my name?", "history": history, "seed": 3, "max_tokens": 30}
    first, second = (client.predict(**asked, api_name="/chat") for _ in range(2))
    assert first["text"] == second["text"]
    assert (
        first["timings"]["prompt_tokens"]
        > client.predict(prompt="What is my name?", max_tokens=1, api_name="/chat")["timings"]["prompt_tokens"]
    )


def test_a_comparison_says_what_both_answered_and_where_they_part(client: Client) -> None:
    records: list[Any] = list(
        client.submit(
            prompt="What is 2+2?", model_a="starter", model_b="SmolLM2-135M-Instruct:Q2_0", temperature=0,
            max_tokens=20, api_name="/compare",
        )
    )  # fmt: skip
    assert all(record["first_difference"] is None for record in records[:-1])
    good, poor = records[-1]["panes"]
    assert (good["level"], poor["level"], good["state"], poor["state"]) == ("Q4_1", "Q2_0", "done", "done")
    assert "4" in good["text"] and good["text"] != poor["text"]
    assert good["seed"] == poor["seed"] and good["file"] == "SmolLM2-135M-Instruct.Q4_1.gguf"
    parting = records[-1]["first_difference"]
    assert good["text"].startswith(parting["before"].lstrip())
    assert parting["mine"]["text"] != parting["theirs"]["text"]


def test_what_is_refused_reaches_the_program_as_a_sentence(client: Client) -> None:
    with pytest.raises(AppError, match="up to 4,096 tokens here"):
        client.predict(prompt="x", max_tokens=5000, api_name="/chat")
    with pytest.raises(AppError, match="There is no model nobody on this computer"):
        client.predict(model="nobody", api_name="/plan")


def test_a_cancelled_reply_ends_on_the_server_too(running: PlaygroundProcess, client: Client) -> None:
    job = client.submit(prompt="Tell me a very long story about a fox.", temperature=1, api_name="/chat")
    record: Any
    for record in job:
        if record["state"] == "writing":
            break
    job.cancel()
    done = client.predict(prompt="What is 2+2?", temperature=0, api_name="/chat")  # waits until it is alone
    assert "4" in done["text"]
    assert "reason=stopped" in running.output


def test_the_examples_run_as_they_are_written(running: PlaygroundProcess) -> None:
    page = PAGE.replace("http://127.0.0.1:7860", running.address)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for example in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
            exec(compile(example, "docs/api.md", "exec"), names)
    assert "fits" in said.getvalue() and "done" in said.getvalue()
    assert len(names["both"]["panes"]) == 2
    if shutil.which("curl"):
        (example,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        answer = subprocess.run(["sh", "-c", example], capture_output=True, text=True, timeout=60).stdout
        *_, name, data = (line for line in answer.splitlines() if line)
        assert name == "event: complete"
        (record,) = json.loads(data.removeprefix("data: "))
        assert "4" in record["text"]


# --- MCP ---


def test_an_mcp_program_finds_the_same_five_and_is_answered_in_json(running: PlaygroundProcess) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("machine", {}),
        ("chat", {"prompt": "What is 2+2?", "temperature": 0}),
        ("chat", {"prompt": ""}),
    ]
    tools, (machine, chat, refused) = asyncio.run(as_mcp_program(running.address, calls))
    assert [tool.name for tool in tools] == NAMES
    described = {name: spec.get("description") for name, spec in tools[3].inputSchema["properties"].items()}
    assert all(described.values()) and tools[3].inputSchema["required"] == ["prompt"]
    assert json.loads(text_of(machine))["cores_usable"] >= 1
    assert "4" in json.loads(text_of(chat))["text"] and json.loads(text_of(chat))["state"] == "done"
    assert refused.isError and "message is empty" in text_of(refused)


def test_with_a_password_tools_work_for_who_sends_it(starter: Path, tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, {"PLAYGROUND_MCP": "true", "PLAYGROUND_PASSWORD": PASSWORD}) as process:
        calls: list[tuple[str, dict[str, Any]]] = [("plan", {"model": "starter"})]
        _, (plan,) = asyncio.run(as_mcp_program(process.address, calls, Authorization=f"Bearer {PASSWORD}"))
        assert json.loads(text_of(plan))["verdict"] == "fits"
        guess = urllib.request.Request(f"{process.address}/gradio_api/mcp/", b"{}", {"Authorization": "Bearer guess"})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(guess, timeout=30)
        with pytest.raises(Exception, match=r"(?i)auth|credentials|401|log"):
            Client(process.address, verbose=False).predict(api_name="/machine")


@pytest.mark.parametrize(("settings", "reported"), [({}, "198.51.100.7"), ({"proxies": 1}, "203.0.113.9")])
def test_who_calls_a_tool_cannot_make_up_an_address(settings: dict[str, Any], reported: str) -> None:
    """The tools ask the page from this computer, whose word on addresses counts; so the gate sees to it."""
    seen: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]).get(b"x-forwarded-for"))

    scope = {
        "type": "http", "method": "GET", "path": "/gradio_api/mcp/", "client": ("198.51.100.7", 4000),
        "headers": [(b"host", b"localhost"), (b"x-forwarded-for", b"203.0.113.9")],
    }  # fmt: skip
    asyncio.run(RequestFilter(page, load_settings(host="0.0.0.0", **settings))(scope, None, None))  # type: ignore[arg-type]
    assert seen == [reported.encode()]


async def as_mcp_program(
    address: str, calls: list[tuple[str, dict[str, Any]]], **headers: str
) -> tuple[list[Tool], list[CallToolResult]]:
    async with (
        streamablehttp_client(f"{address}/gradio_api/mcp/", headers=headers) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        return tools, [await session.call_tool(name, values) for name, values in calls]


def text_of(result: CallToolResult) -> str:
    (part,) = result.content
    return str(getattr(part, "text", ""))
