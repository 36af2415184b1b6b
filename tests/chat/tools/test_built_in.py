"""The built-in tools: right results, and a reason for every call that cannot run."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from playground.chat.tools.arguments import CallRefused
from playground.chat.tools.built_in import PART_CHARACTERS, AttachedText, built_in_tools, run_built_in

TODAY = date(2024, 2, 28)
TEXT = AttachedText("notes.txt", "ab " * PART_CHARACTERS)


def run(name: str, attached: AttachedText | None = None, **arguments: Any) -> Any:
    return run_built_in(name, arguments, attached, TODAY)


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("calculator", {"expression": "(3 + 4) * 2.5"}, 17.5),
        ("calculator", {"expression": "1,234 * 2"}, 2468),
        ("date", {}, {"date": "2024-02-28", "weekday": "Wednesday"}),
        ("date", {"days": 2}, {"date": "2024-03-01", "weekday": "Friday"}),
        ("date", {"days": -1, "start": "2000-01-01"}, {"date": "1999-12-31", "weekday": "Friday"}),
        ("count_words", {"text": "It’s a well-known fox."}, {"words": 4, "letters": 16, "characters": 22}),
    ],
)
def test_a_tool_returns_what_it_says(name: str, arguments: dict[str, Any], result: Any) -> None:
    assert run(name, **arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("calculator", {"expression": "__import__('os')"}, "only numbers"),
        ("calculator", {"expression": "1/0"}, "division by zero"),
        ("calculator", {"expression": "9**64 * 9**64"}, "too large"),
        ("calculator", {"expression": "(" * 150}, "cannot work"),
        ("calculator", {}, "expression is missing"),
        ("calculator", {"expression": 3}, "must be a string"),
        ("date", {"days": True}, "must be an integer"),
        ("date", {"days": 10**12}, "no calendar"),
        ("date", {"start": "tomorrow"}, "cannot work"),
        ("date", {"when": "now"}, "no argument 'when'"),
        ("read_attached_text", {}, "no tool 'read_attached_text'"),
        ("open_file", {"path": "/etc/passwd"}, "no tool 'open_file'"),
    ],
)
def test_a_call_that_cannot_run_says_why(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(CallRefused, match=words):
        run(name, **arguments)


def test_a_text_is_read_in_parts_only_where_one_is_attached() -> None:
    first = run("read_attached_text", TEXT)
    assert len(first["text"]) == first["next_character"] == PART_CHARACTERS
    last = run("read_attached_text", TEXT, from_character=2 * PART_CHARACTERS)
    assert last == {"text": TEXT.text[2 * PART_CHARACTERS :]}
    with pytest.raises(CallRefused, match="the characters 0 to"):
        run("read_attached_text", TEXT, from_character=len(TEXT.text))
    assert run("count_words", TEXT)["words"] == PART_CHARACTERS
    assert "notes.txt" in json.dumps(built_in_tools(TEXT)) and "read_attached_text" not in str(built_in_tools(None))
