"""What the log says: one line for each event, nobody's chat in it, and the same from the real playground."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from log_lines import Log, written
from playground_process import PlaygroundProcess

from playground import journal
from playground.errors import PlaygroundError, RequestRefused
from playground.settings import load_settings
from playground.visits.ledger import Visitor, Visits
from playground.visits.limits import Limits

QUESTION = "Which Zanzibarian secret must nobody read?"


@pytest.fixture
def text() -> Iterator[Log]:
    yield from written(journal.LineFormatter("text"))


@pytest.fixture
def records() -> Iterator[Log]:
    yield from written(journal.LineFormatter("json"))


# --- a line ---


def test_a_line_of_text_names_its_event_and_each_field(text: Log) -> None:
    journal.model_loaded("Small Model.gguf", 2048, 1.234, 5_000_000)
    (line,) = text.lines
    assert line.endswith('info model loaded model="Small Model.gguf" context_size=2048 seconds=1.23 plan_bytes=5000000')


def test_a_line_of_json_has_the_same_fields(records: Log) -> None:
    journal.download_ended("owner/Small:Q4_0", "failed", 17, "The disk is full.")
    (line,) = records.lines
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning", "event": "download ended", "model": "owner/Small:Q4_0", "state": "failed",
        "received_bytes": 17, "why": "The disk is full.",
    }  # fmt: skip


def test_what_cannot_be_told_is_left_out(text: Log) -> None:
    journal.reply_ended("a.gguf", "", "stopped", 3, None, None, chat={})
    (line,) = text.lines
    assert line.endswith("info reply model=a.gguf reason=stopped tokens=3")


def test_no_name_can_break_out_of_its_line(text: Log) -> None:
    journal.model_died("a\n2026-01-01 info start\x1b[31m\u2028.gguf", 7, "because")
    (line,) = text.lines
    assert "\x1b" not in line and "\\n2026" in line


def test_what_others_log_is_a_line_too(text: Log) -> None:
    logging.getLogger("playground.models.downloads").warning("The list\nwas %s", "damaged")
    (line,) = text.lines
    assert line.endswith(r'warning note of=playground.models.downloads why="The list\nwas damaged"')


# --- visitors ---


def test_a_refusal_is_a_line_with_the_visitors_short_name_alone(records: Log) -> None:
    visits, anna = Visits(Limits(replies_each=1)), Visitor("tab-of-anna", "198.51.100.7")
    with (
        visits.running(anna, "reply"),
        pytest.raises(RequestRefused),
        visits.running(anna, "reply", "elsewhere"),
    ):
        pass
    (line,) = records.lines
    assert json.loads(line)["event"] == "refused" and json.loads(line)["visitor"] == anna.short_id
    assert "tab-of-anna" not in line and "198.51.100.7" not in line


# --- the real one ---


def events_behind(address: str, button: str) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """(the page's components, the events that a press of the button begins, one after the other)."""
    with urllib.request.urlopen(f"{address}/config", timeout=30) as answer:
        config = json.load(answer)
    parts = {part["id"]: part["props"] for part in config["components"]}
    (number,) = [id for id, props in parts.items() if props.get("elem_id") == button]
    chain = [event for event in config["dependencies"] if [number, "click"] in [list(t) for t in event["targets"]]]
    while after := [one for one in config["dependencies"] if one["trigger_after"] == chain[-1]["id"]]:
        chain += after
    return parts, [event for event in chain if event["backend_fn"]]


def ask(address: str, question: str, tokens: int) -> None:
    """One message, sent as a browser would."""
    parts, chain = events_behind(address, "chat-send")
    chosen = {
        "chat-message": question, "chat-model": "SmolLM2-135M-Instruct", "chat-level": "Q4_1", "chat-context": "512",
        "chat-kv": "f16", "chat-longest-reply": tokens,
    }  # fmt: skip
    for event in chain:
        data = [chosen.get(parts[id].get("elem_id"), parts[id].get("value")) for id in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": "a-test", "trigger_id": None}
        request = urllib.request.Request(
            f"{address}/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()
        with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=a-test", timeout=60) as stream:
            for line in stream:
                if b"process_completed" in line:
                    break


def test_a_visit_to_the_real_playground_leaves_a_line_for_each_event(starter: Path, tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, PLAYGROUND_LOG_FORMAT="json") as process:
        ask(process.address, QUESTION, 16)
        assert process.end() == 0
    lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == ["start", "model loaded", "reply", "shutdown"]
    assert 0 < lines[2]["tokens"] <= 16 and lines[2]["visitor"] and lines[1]["plan_bytes"] > 0
    assert "Zanzibarian" not in process.output and "a-test" not in process.output


def test_a_setting_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_LOG_LEVEL", "LOUD")
    with pytest.raises(PlaygroundError, match="PLAYGROUND_LOG_LEVEL"):
        load_settings()
