"""The tools that are built in. They compute on what they are given, and touch nothing of this computer.

`count_words` and `read_attached_text` read the text that a person attached for the tools, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from playground.chat.template.message import Tool
from playground.chat.tools.arguments import CallRefused, check_arguments, describe_tool
from playground.chat.tools.calculator import calculate

PART_CHARACTERS: Final = 3000  # of the attached text that one call returns: some hundred tokens
_MOST_DAYS: Final = 3_000_000  # around today; what a calendar holds
_MOST_DIGITS: Final = 40  # of a result that is written out


@dataclass(frozen=True)
class AttachedText:
    """A text that a person attached for the tools to read. name: of its file."""

    name: str
    text: str


CALCULATOR: Final = describe_tool(
    "calculator", "Computes an arithmetic expression with + - * / ** and parentheses.",
    {"expression": {"type": "string", "description": "Such as (3 + 4) * 2.5"}},
)  # fmt: skip
DATE: Final = describe_tool(
    "date", "The date and the day of the week: today, or a number of days before or after another date.",
    {
        "days": {"type": "integer", "description": "Days to add; negative: before. 0 or left out: the date itself."},
        "start": {"type": "string", "description": "The date to count from, as YYYY-MM-DD. Left out: today."},
    },
    required=(),
)  # fmt: skip
_COUNT_PROPERTIES: Final = {"text": {"type": "string", "description": "The text to count."}}
_COUNT_DESCRIPTION: Final = "Counts the words, letters and characters of a text."
COUNT_WORDS: Final = describe_tool("count_words", _COUNT_DESCRIPTION, _COUNT_PROPERTIES)
_TEXT_LEFT_OUT: Final = "The text to count. Left out: the attached text."
COUNT_ATTACHED_WORDS: Final = describe_tool(
    "count_words", _COUNT_DESCRIPTION, {"text": {"type": "string", "description": _TEXT_LEFT_OUT}}, required=()
)


def built_in_tools(attached: AttachedText | None) -> tuple[Tool, ...]:
    """The tools of a chat, as chat templates take them."""
    if attached is None:
        return (CALCULATOR, DATE, COUNT_WORDS)
    read = describe_tool(
        "read_attached_text",
        f"Returns a part of the attached text {attached.name!r}, which has {len(attached.text)} characters: "
        f"{PART_CHARACTERS} of them from a place on.",
        {"from_character": {"type": "integer", "description": "Where the part begins. Left out: at the beginning."}},
        required=(),
    )
    return (CALCULATOR, DATE, COUNT_ATTACHED_WORDS, read)


def run_built_in(name: str, arguments: Mapping[str, Any], attached: AttachedText | None, today: date) -> Any:
    """The result of a call, as plain data. Raises CallRefused."""
    tool = next((one for one in built_in_tools(attached) if one["function"]["name"] == name), None)
    if tool is None:
        raise CallRefused(f"there is no tool {name[:60]!r}")
    check_arguments(name, tool["function"]["parameters"], arguments)
    try:
        return _RUN[name](arguments, attached, today)
    except (ValueError, TypeError, ArithmeticError, SyntaxError, RecursionError, MemoryError) as error:
        raise CallRefused(f"{name} cannot work with these arguments: {str(error)[:200]}") from error


def _calculated(arguments: Mapping[str, Any], attached: AttachedText | None, today: date) -> Any:
    value = round(calculate(arguments["expression"]), 6)
    if abs(value) >= 10**_MOST_DIGITS:
        raise ValueError("the result is too large")
    return int(value) if value == int(value) else value


def _dated(arguments: Mapping[str, Any], attached: AttachedText | None, today: date) -> Any:
    days = arguments.get("days", 0)
    if abs(days) > _MOST_DAYS:
        raise ValueError("no calendar goes so far")
    start = date.fromisoformat(arguments["start"]) if arguments.get("start") else today
    found = start + timedelta(days=days)
    return {"date": found.isoformat(), "weekday": found.strftime("%A")}


def _counted(arguments: Mapping[str, Any], attached: AttachedText | None, today: date) -> Any:
    text = arguments["text"] if "text" in arguments or attached is None else attached.text
    letters = sum(character.isalpha() for character in text)
    return {"words": len(re.findall(r"\w+(?:['’-]\w+)*", text)), "letters": letters, "characters": len(text)}


def _read(arguments: Mapping[str, Any], attached: AttachedText | None, today: date) -> Any:
    assert attached
    start = arguments.get("from_character", 0)
    if not 0 <= start < len(attached.text):
        raise ValueError(f"the text has the characters 0 to {len(attached.text) - 1}")
    end = min(start + PART_CHARACTERS, len(attached.text))
    more = {"next_character": end} if end < len(attached.text) else {}
    return {"text": attached.text[start:end], **more}


_RUN: Final[Mapping[str, Callable[[Mapping[str, Any], AttachedText | None, date], Any]]] = {
    "calculator": _calculated,
    "date": _dated,
    "count_words": _counted,
    "read_attached_text": _read,
}
