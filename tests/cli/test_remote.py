"""`chat`, `compare` and `abilities` with a server's model, as a script meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.__main__ import main
from tests.support.server_process import ALIAS, KEY, ServerProcess
from tests.support.server_stand_in import KEY as STAND_IN_KEY
from tests.support.server_stand_in import ServerStandIn

QUESTION = ("-p", "What is 2+2?", "--temperature", "0", "--max-tokens", "8", "--context", "512", "--json")


@pytest.fixture(scope="module")
def server(starter: Path) -> Iterator[ServerProcess]:
    with ServerProcess(starter) as process:
        yield process


@pytest.fixture(autouse=True)
def workshop(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLAYGROUND_REMOTES", f"workshop={server.url}")
    monkeypatch.setenv("PLAYGROUND_REMOTE_KEY_WORKSHOP", KEY)


def test_a_server_s_model_answers_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", f"{ALIAS}@workshop", *QUESTION]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["text"].startswith("The answer") and record["finish_reason"] == "length limit"
    assert record["timings"]["generated_tokens"] == 8 and record["timings"]["total_seconds"] > 0
    assert record["memory_planned"] is None


def test_a_script_compares_a_model_here_with_one_on_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "starter", f"{ALIAS}@workshop", *QUESTION]) == 0
    here, there = json.loads(capsys.readouterr().out)["panes"]
    assert here["text"] == there["text"]
    assert (there["level"], there["file"], there["memory_measured"]) == ("on workshop", None, None)


def test_the_abilities_of_a_servers_model_are_scored_as_those_of_a_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abilities", f"{ALIAS}@workshop", "--suite", "tools", "--tasks", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    (task,) = row["details"]
    assert (row["model"], row["items"]) == (f"{ALIAS}@workshop", 1) and task["prompt"] == "What is 847 times 36?"
    assert task["answer"] and bool(task["problem"]) is not task["passed"]


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server whose model "cut" breaks off in mid-reply."""
    with ServerStandIn() as server:
        monkeypatch.setenv("PLAYGROUND_REMOTES", f"bad={server.url}")
        monkeypatch.setenv("PLAYGROUND_REMOTE_KEY_BAD", STAND_IN_KEY)
        yield


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("models", [["cut@bad"], ["cut@bad", "cut@bad"]], ids=["chat", "compare"])
def test_what_came_before_every_reply_broke_off_is_printed(
    capsys: pytest.CaptureFixture[str], models: list[str]
) -> None:
    command = "chat" if len(models) == 1 else "compare"
    assert main([command, *models, "-p", "Hello", "--json"]) == 1
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    replies = record.get("panes", [record])
    assert [reply["text"] for reply in replies] == ["Well, "] * len(models)
    assert all("broke in the middle of its answer" in reply["error"] for reply in replies)
    assert "broke in the middle of its answer" in printed.err and printed.err.count("\n") == 1


def test_a_wrong_key_is_one_line_for_a_script(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYGROUND_REMOTE_KEY_WORKSHOP", "guess")
    assert main(["chat", f"{ALIAS}@workshop", *QUESTION]) == 1
    printed = capsys.readouterr()
    assert "workshop does not accept the key" in printed.err and printed.err.count("\n") == 1
    assert "guess" not in printed.err and printed.out == ""
