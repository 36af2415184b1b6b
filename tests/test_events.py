"""What the log says: one line for each event, nobody's chat in it, and the same from the real playground."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from playground import events
from playground.errors import PlaygroundError
from playground.settings import load_settings
from tests.support.log_lines import Log, written
from tests.support.page_events import STARTER_CHOICE, PageEvents
from tests.support.playground_process import PlaygroundProcess

QUESTION = "Which Zanzibarian secret must nobody read?"


@pytest.fixture
def text() -> Iterator[Log]:
    yield from written(events.LineFormatter("text"))


@pytest.fixture
def records() -> Iterator[Log]:
    yield from written(events.LineFormatter("json"))


# --- a line ---


def test_a_line_of_text_names_its_event_and_each_field(text: Log) -> None:
    events.model_loaded("Small Model.gguf", 2048, 1.234, 5_000_000)
    (line,) = text.lines
    assert line.endswith(
        'info model loaded model="Small Model.gguf" context_size=2048 seconds=1.23 plan_bytes=5000000 device=CPU'
    )


def test_a_line_of_json_has_the_same_fields(records: Log) -> None:
    events.download_ended("owner/Small:Q4_0", "failed", 17, "The disk is full.")
    (line,) = records.lines
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning", "event": "download ended", "model": "owner/Small:Q4_0", "state": "failed",
        "received_bytes": 17, "why": "The disk is full.",
    }  # fmt: skip


def test_an_unknown_figure_is_left_out(text: Log) -> None:
    events.reply_ended("a.gguf", "", "", "stopped", events.ReplyFigures(3), chat={})
    (line,) = text.lines
    assert line.endswith("info reply model=a.gguf reason=stopped tokens=3")


def test_no_name_can_break_out_of_its_line(text: Log) -> None:
    events.model_died("a\n2026-01-01 info start\x1b[31m\u2028.gguf", 7, "because")
    (line,) = text.lines
    assert "\x1b" not in line and "\\n2026" in line


def test_what_others_log_is_a_line_too(text: Log) -> None:
    logging.getLogger("playground.models.hub.download_queue").warning("The list\nwas %s", "damaged")
    (line,) = text.lines
    assert line.endswith(r'warning note of=playground.models.hub.download_queue why="The list\nwas damaged"')


def test_a_subscriber_gets_events_that_are_not_written(text: Log) -> None:
    heard: list[tuple[str, object]] = []
    logging.getLogger("playground").setLevel(logging.ERROR)
    with events.subscribed(lambda event, fields: heard.append((event, fields["seconds"]))):
        events.level_made("Small", "Q4_0", 17, 1.2345)
    events.level_made("Small", "Q4_0", 17, 1.2345)
    assert heard == [("level made", 1.2345)]


def test_a_subscriber_that_fails_breaks_nothing(text: Log, capsys: pytest.CaptureFixture[str]) -> None:
    def count_wrongly(event: str, fields: events.Fields) -> None:
        raise ZeroDivisionError

    with events.subscribed(count_wrongly):
        events.shut_down()
    assert len(text.lines) == 1 and "ZeroDivisionError" in capsys.readouterr().err


# --- the real one ---


@dataclass(frozen=True)
class Visit:
    """What is left of a visit to the real playground: its output, and what Prometheus read at the end."""

    output: str
    figures: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]


def upload(address: str, name: str, content: bytes) -> int:
    """Drops a file onto the page; the HTTP status."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\n'
        + content + b"\r\n--x--\r\n"
    )  # fmt: skip
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        ask = urllib.request.Request(f"{address}/gradio_api/upload", body, headers)
        urllib.request.urlopen(ask, timeout=30).close()
    except urllib.error.HTTPError as refusal:
        return refusal.code
    return 200


def call(address: str, endpoint: str, *values: object) -> str:
    """Asks as a program would; all that is answered."""
    body = json.dumps({"data": values}).encode()
    ask = urllib.request.Request(f"{address}/gradio_api/call/{endpoint}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(ask, timeout=30) as answer:
        number = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/{endpoint}/{number}", timeout=30) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def visit(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A question, one that is too long, a model file that is none, and a program that asks for too much."""
    with PlaygroundProcess(
        tmp_path_factory.mktemp("home"),
        {"PLAYGROUND_LOG_FORMAT": "json", "PLAYGROUND_METRICS": "true", "PLAYGROUND_MAX_MESSAGE_CHARACTERS": "100"},
    ) as process:
        page = PageEvents(process.address)
        for question in (QUESTION, QUESTION * 10):
            page.press("chat-send", {**STARTER_CHOICE, "chat-message": question, "chat-longest-reply": 16})
        assert upload(process.address, "holiday.gguf", b"\xff\xd8 a photograph") == 415
        assert "event: error" in call(process.address, "plan", "starter", 512, "f16", 1000, None, None, None)
        with urllib.request.urlopen(f"{process.address}/gradio_api/metrics", timeout=30) as answer:
            figures = answer.read().decode()
        assert process.end() == 0
    return Visit(process.output, figures)


@pytest.mark.process
def test_a_visit_to_the_real_playground_leaves_a_line_for_each_event(visit: Visit) -> None:
    assert [line["event"] for line in visit.lines] == [
        "start",
        "model loaded",
        "reply",
        "refused",
        "refused",
        "refused",
        "shutdown",
    ]
    _, load, reply, too_long, no_model, too_much, _ = visit.lines
    assert load["plan_bytes"] > 0
    assert 0 < reply["tokens"] <= 16 and reply["visitor"] == too_long["visitor"] and reply["via"] == "chat"
    assert (too_long["via"], too_long["setting"]) == ("chat", "max_message_characters")
    assert too_much["via"] == "api" and "slots" in too_much["why"]
    assert no_model["via"] == "upload" and "is not a GGUF model" in no_model["why"]


@pytest.mark.process
def test_nobodys_words_and_no_pages_name_are_in_the_log_or_the_figures(visit: Visit) -> None:
    for found in (visit.output, visit.figures):
        assert "Zanzibarian" not in found and "a-test" not in found


@pytest.mark.process
def test_the_figures_for_prometheus_are_those_of_the_log(visit: Visit) -> None:
    _, load, reply, *_ = visit.lines
    samples = {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(visit.figures)
        for sample in family.samples
    }
    assert samples[f"playground_replies_total {reply['reason']} chat"] == 1
    assert samples["playground_generated_tokens_total"] == reply["tokens"]
    assert samples["playground_prompt_tokens_total"] == reply["prompt_tokens"] > 10
    disturbed = "yes" if reply.get("disturbed") else "no"
    speeds = [samples[f"playground_generation_tokens_per_second_{part} {disturbed}"] for part in ("count", "sum")]
    assert speeds == [1, pytest.approx(reply["tokens_per_second"], abs=0.006)]
    for name, found in (
        ("playground_time_to_first_token_seconds", reply["time_to_first_token"]),
        ("playground_queue_wait_seconds", reply["queued_seconds"]),
        ("playground_reply_seconds", reply["seconds"]),
        ("playground_model_load_seconds", load["seconds"]),
    ):
        assert samples[f"{name}_count"] == 1
        assert samples[f"{name}_sum"] == pytest.approx(found, abs=0.006)
    assert samples["playground_model_loads_total loaded"] == 1
    assert samples["playground_refusals_total max_message_characters chat"] == 1
    assert samples["playground_refusals_total none upload"] == 1
    assert samples["playground_device_layers CPU CPU"] == 31  # the starter's, with the output
    assert samples["playground_experts_in_ram_layers"] == 0
    assert samples["playground_models ready"] == 1 and samples["playground_runs reply"] == 0


def test_an_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_LOG_LEVEL", "LOUD")
    with pytest.raises(PlaygroundError, match="PLAYGROUND_LOG_LEVEL"):
        load_settings()
