"""The line that a reply leaves in the log, however it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from log_lines import Log, written
from scripted_engine import ScriptedEngine

from playground import journal
from playground.chat.conversation import Conversation, reply
from playground.engine.messages import GREEDY
from playground.errors import ModelStopped

QUESTION = "Which Zanzibarian secret must nobody read?"


@pytest.fixture
def records() -> Iterator[Log]:
    yield from written(journal.LineFormatter("json"))


@pytest.fixture
def with_chats() -> Iterator[Log]:
    yield from written(journal.LineFormatter("json", chats=True))


def answered(engine: ScriptedEngine, question: str = QUESTION) -> None:
    for _ in reply(engine, Conversation().ask(question), GREEDY, visitor="1a2b3c4d"):
        pass


def test_a_reply_leaves_one_line_with_its_figures_and_none_of_its_words(records: Log) -> None:
    answered(ScriptedEngine(("Nobody", " knows")))
    (line,) = records.lines
    told = json.loads(line)
    assert (told["event"], told["model"], told["visitor"]) == ("reply", "scripted.gguf", "1a2b3c4d")
    assert told["reason"] == "end of text" and told["tokens"] == 512 and told["tokens_per_second"] == 12.3
    assert "Zanzibarian" not in line and "Nobody" not in line


def test_the_words_are_there_once_they_are_asked_for(with_chats: Log) -> None:
    answered(ScriptedEngine(("Nobody", " knows")))
    (line,) = with_chats.lines
    told = json.loads(line)
    assert (told["question"], told["answer"]) == (QUESTION, "Nobody knows")


def test_a_reply_that_is_broken_off_leaves_one_line(records: Log) -> None:
    growing = reply(ScriptedEngine(("One", " two")), Conversation().ask(QUESTION), GREEDY)
    next(growing), next(growing), next(growing)
    growing.close()
    (line,) = records.lines
    assert json.loads(line)["reason"] == "stopped"


def test_a_reply_that_fails_leaves_one_line_with_its_kind_and_not_what_the_failure_quotes(records: Log) -> None:
    with pytest.raises(ModelStopped):
        answered(ScriptedEngine(("One",), dies_with=ModelStopped(f"It choked on {QUESTION}")))
    (line,) = records.lines
    told = json.loads(line)
    assert (told["reason"], told["error"], told["level"]) == ("failed", "ModelStopped", "warning")
    assert "Zanzibarian" not in line
