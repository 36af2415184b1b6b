"""A frame's parts as updates of components: None leaves a component as it is."""

from __future__ import annotations

from typing import Any


def what_is_new(*parts: tuple[Any, Any]) -> dict[Any, Any]:
    """Of pairs of a component and its value, those that have one."""
    return {component: value for component, value in parts if value is not None}
