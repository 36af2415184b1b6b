"""Describes a tool as chat templates take it, and checks the arguments of a call against that description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_PYTHON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}

_ARTICLES: Final = {"integer": "an", "array": "an", "object": "an"}


class CallRefused(Exception):
    """A call that no tool can carry out: an unknown name, missing or wrong arguments. Its text says why."""


def describe_tool(
    name: str, description: str, properties: Mapping[str, Any], required: Sequence[str] | None = None
) -> dict[str, Any]:
    """A tool in OpenAI's form. required: the names of arguments that may not be left out; None for all."""
    needed = list(properties if required is None else required)
    parameters = {"type": "object", "properties": dict(properties), "required": needed}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def check_arguments(name: str, parameters: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raises CallRefused for a missing or an unknown argument, or one of the wrong type.

    parameters: JSON schema of an object, of which properties, required, type and enum are looked at.
    """
    properties: Mapping[str, Any] = parameters.get("properties") or {}
    missing = sorted(set(parameters.get("required") or ()) - arguments.keys())
    if missing:
        raise CallRefused(f"the argument {missing[0][:60]} is missing")
    if unknown := sorted(arguments.keys() - properties.keys()):
        raise CallRefused(f"{name} has no argument {unknown[0][:60]!r}")
    for key, value in arguments.items():
        schema = properties[key] if isinstance(properties[key], Mapping) else {}
        wanted = schema.get("type")
        kinds = _PYTHON_TYPES.get(wanted) if isinstance(wanted, str) else None
        is_wrong_bool = isinstance(value, bool) and wanted != "boolean"
        if kinds and (is_wrong_bool or not isinstance(value, kinds)):
            raise CallRefused(
                f"the argument {key} must be {_ARTICLES.get(str(wanted), 'a')} {wanted}, not {str(value)[:60]!r}"
            )
        if isinstance(choices := schema.get("enum"), list) and value not in choices:
            named = ", ".join(map(str, choices))
            raise CallRefused(f"the argument {key} must be one of {named}, not {str(value)[:60]!r}")
