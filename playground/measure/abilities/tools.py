"""The tools that the tasks call. They really run, on numbers, dates and a small table, and touch nothing else.

The table is about towns that do not exist, so that no model knows the answer without the call.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

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
_OPERATORS: Final[dict[type, Callable[..., float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_LONGEST_EXPRESSION: Final = 200  # characters
_LARGEST: Final = 1e15  # of a base and of a power's result
_LARGEST_EXPONENT: Final = 64


def _function(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


_TEXT: Final = {"type": "string"}
_DATE: Final = {"type": "string", "description": "A date as YYYY-MM-DD."}
_UNIT: Final = {"type": "string", "enum": list(_METRES)}

TOOLS: Final[tuple[dict[str, Any], ...]] = (  # as chat templates take them: OpenAI's form, JSON Schema inside
    _function(
        "calculator", "Computes an arithmetic expression with + - * / ** and parentheses.",
        {"expression": {"type": "string", "description": "Such as (3 + 4) * 2.5"}},
    ),
    _function("weekday", "The day of the week of a date.", {"date": _DATE}),
    _function("days_between", "The number of days from one date to another.", {"first": _DATE, "last": _DATE}),
    _function(
        "town_facts", "Looks up a fact about a town.",
        {"town": _TEXT, "fact": {"type": "string", "enum": ["population", "river", "mayor", "founded"]}},
    ),
    _function(
        "convert_length", "Converts a length from one unit to another.",
        {"value": {"type": "number"}, "from_unit": _UNIT, "to_unit": _UNIT},
    ),
)  # fmt: skip
PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in TOOLS
}


class CallRefused(Exception):
    """A call that no tool can carry out: an unknown name, missing or wrong arguments. Its text says why."""


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
    wanted = PARAMETERS[name]
    if missing := wanted.keys() - arguments.keys():
        raise CallRefused(f"the argument {sorted(missing)[0]} is missing")
    if unknown := arguments.keys() - wanted.keys():
        raise CallRefused(f"{name} has no argument {sorted(unknown)[0][:60]!r}")
    for key, value in arguments.items():
        schema = wanted[key]
        kinds = (int, float) if schema["type"] == "number" else (str,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise CallRefused(f"the argument {key} must be a {schema['type']}, not {str(value)[:60]!r}")
        if "enum" in schema and value not in schema["enum"]:
            raise CallRefused(f"the argument {key} must be one of {', '.join(schema['enum'])}, not {str(value)[:60]!r}")


def calculate(expression: str) -> float:
    """The value of an arithmetic expression: numbers and operators, no names, no calls. Raises ValueError.

    >>> calculate("(3 + 4) * 2.5")
    17.5
    """
    if len(expression) > _LONGEST_EXPRESSION:
        raise ValueError("the expression is too long")
    return _value_of(ast.parse(expression.replace("^", "**").replace("×", "*").replace(",", ""), mode="eval").body)


def _value_of(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = _value_of(node.left), _value_of(node.right)
        if abs(base) > _LARGEST or abs(exponent) > _LARGEST_EXPONENT:
            raise ValueError("the power is too large")
        return float(base**exponent) if isinstance(base, float) or exponent < 0 else base**exponent
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value_of(node.left), _value_of(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value_of(node.operand))
    raise ValueError("only numbers, + - * / ** and parentheses are allowed")


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
