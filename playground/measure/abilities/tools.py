"""The tools that the tasks call. They really run, on numbers, dates and a small table, and touch nothing else.

The table is about towns that do not exist, so that no model knows the answer without the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from playground.chat.tools.arguments import CallRefused, check_arguments, describe_tool
from playground.chat.tools.calculator import calculate

_TOWNS: Final = {
    "norham": {"population": 18240, "river": "Esker", "mayor": "Ada Quill", "founded": 1127},
    "velden": {"population": 40915, "river": "Isk", "mayor": "Piet Anders", "founded": 1240},
    "orla": {"population": 5610, "river": "Lund", "mayor": "Ruth Balasz", "founded": 1362},
    "tarnow bay": {"population": 9388, "river": "Tarn", "mayor": "Lena Hartog", "founded": 1804},
}
_METRES: Final = {
    "metre": 1.0,
    "kilometre": 1000.0,
    "centimetre": 0.01,
    "mile": 1609.344,
    "foot": 0.3048,
    "inch": 0.0254,
}
_TEXT: Final = {"type": "string"}
_DATE: Final = {"type": "string", "description": "A date as YYYY-MM-DD."}
_UNIT: Final = {"type": "string", "enum": list(_METRES)}

TOOLS: Final[tuple[dict[str, Any], ...]] = (  # as chat templates take them: OpenAI's form, JSON Schema inside
    describe_tool(
        "calculator", "Computes an arithmetic expression with + - * / ** and parentheses.",
        {"expression": {"type": "string", "description": "Such as (3 + 4) * 2.5"}},
    ),
    describe_tool("weekday", "The day of the week of a date.", {"date": _DATE}),
    describe_tool("days_between", "The number of days from one date to another.", {"first": _DATE, "last": _DATE}),
    describe_tool(
        "town_facts", "Looks up a fact about a town.",
        {"town": _TEXT, "fact": {"type": "string", "enum": ["population", "river", "mayor", "founded"]}},
    ),
    describe_tool(
        "convert_length", "Converts a length from one unit to another.",
        {"value": {"type": "number"}, "from_unit": _UNIT, "to_unit": _UNIT},
    ),
)  # fmt: skip
PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS
}


def run_tool(name: str, arguments: Mapping[str, Any]) -> Any:
    """The result of a call, as plain data. Raises CallRefused."""
    check_call(name, arguments)
    try:
        return _RUN[name](**arguments)
    except (ValueError, KeyError, TypeError, ZeroDivisionError, OverflowError, SyntaxError, RecursionError) as error:
        raise CallRefused(f"{name} cannot work with these arguments: {error}") from error


def check_call(name: str, arguments: Mapping[str, Any]) -> None:
    """Raises CallRefused for an unknown function, a missing or an unknown argument, or one of the wrong type."""
    if name not in PARAMETERS:
        raise CallRefused(f"there is no function {name[:60]!r}")
    check_arguments(name, PARAMETERS[name], arguments)


def _calculator(expression: str) -> float:
    return round(calculate(expression), 6)


def _town_facts(town: str, fact: str) -> Any:
    return _TOWNS[town.strip().lower()][fact]


_RUN: Final[Mapping[str, Callable[..., Any]]] = {
    "calculator": _calculator,
    "weekday": lambda date: _date(date).strftime("%A"),
    "days_between": lambda first, last: (_date(last) - _date(first)).days,
    "town_facts": _town_facts,
    "convert_length": lambda value, from_unit, to_unit: round(value * _METRES[from_unit] / _METRES[to_unit], 4),
}


def _date(text: str) -> date:
    return date.fromisoformat(text)
