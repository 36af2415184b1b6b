"""The line that a reply leaves in the log, however it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from playground import events
from playground.chat.conversation import Conversation, stream_reply
from playground.errors import ModelStopped, RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from tests.support.log_lines import Log, written
from tests.support.scripted_engine import TIMINGS, ScriptedEngine

ANNA = Visitor("tab-of-anna", "198.51.100.7", "chat")
QUESTION = "Which Zanzibarian secret must nobody read?"


@pytest.fixture
def records() -> Iterator[Log]:
    yield from written(events.LineFormatter("json"))


@pytest.fixture
def with_chats() -> Iterator[Log]:
    yield from written(events.LineFormatter("json", chats=True))


def answered(engine: ScriptedEngine, question: str = QUESTION) -> None:
    for _ in stream_reply(engine, Conversation().with_question(question), GREEDY, visitor=ANNA):
        pass


def test_a_reply_leaves_one_line_with_its_figures_and_none_of_its_words(records: Log) -> None:
    answered(ScriptedEngine(("Nobody", " knows")))
    (line,) = records.lines
    reported = json.loads(line)
    assert (reported["event"], reported["model"], reported["visitor"]) == ("reply", "scripted.gguf", ANNA.short_id)
    assert reported["reason"] == "end of text" and reported["tokens"] == 512 and reported["tokens_per_second"] == 12.3
    assert (reported["via"], reported["prompt_tokens"], reported["time_to_first_token"], reported["seconds"]) == (
        "chat",
        8,
        0.34,
        42.0,
    )
    assert "Zanzibarian" not in line and "Nobody" not in line
    assert "tab-of-anna" not in line and "198.51.100.7" not in line


@pytest.mark.parametrize(("share", "logged"), [(0.5, True), (1.0, None), (None, None)])
def test_a_disturbed_speed_is_marked_in_the_log(
    records: Log, monkeypatch: pytest.MonkeyPatch, share: float | None, logged: bool | None
) -> None:
    monkeypatch.setattr("tests.support.scripted_engine.TIMINGS", replace(TIMINGS, core_share=share))
    answered(ScriptedEngine(("Nobody", " knows")))
    assert json.loads(records.lines[0]).get("disturbed") is logged


def test_the_words_are_there_once_they_are_asked_for(with_chats: Log) -> None:
    answered(ScriptedEngine(("Nobody", " knows")))
    (line,) = with_chats.lines
    reported = json.loads(line)
    assert (reported["question"], reported["answer"]) == (QUESTION, "Nobody knows")


def test_a_reply_that_is_broken_off_leaves_one_line_with_what_was_told_by_then(records: Log) -> None:
    growing = stream_reply(ScriptedEngine(("One", " two")), Conversation().with_question(QUESTION), GREEDY)
    next(growing), next(growing), next(growing)
    growing.close()
    (line,) = records.lines
    reported = json.loads(line)
    assert (reported["reason"], reported["tokens"]) == ("stopped", 2) and reported["prompt_tokens"] > 0
    assert "seconds" not in reported


def test_a_question_that_is_refused_has_begun_no_reply(records: Log) -> None:
    with pytest.raises(RequestRefused):
        answered(ScriptedEngine(context_size=4))
    assert records.lines == []


def test_a_failed_reply_logs_its_kind_but_not_what_the_failure_quotes(records: Log) -> None:
    with pytest.raises(ModelStopped):
        answered(ScriptedEngine(("One",), dies_with=ModelStopped(f"It choked on {QUESTION}")))
    (line,) = records.lines
    reported = json.loads(line)
    assert (reported["reason"], reported["error"], reported["level"]) == ("failed", "ModelStopped", "warning")
    assert "Zanzibarian" not in line
