"""What an event tells of components: a frame's parts as updates, and nothing at all where nothing is new."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr


def what_is_new(*parts: tuple[Any, Any]) -> dict[Any, Any]:
    """Of pairs of a component and its value, those that have one; None leaves a component as it is."""
    return {component: value for component, value in parts if value is not None}


def never_empty(generator: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """The event's function with one update that changes nothing where it would yield none.

    Gradio empties every output of a generator that yields nothing, the labels of buttons included.
    """

    @functools.wraps(generator)
    def told(*values: Any) -> Iterator[Any]:
        is_told = False
        with closing(generator(*values)) as updates:
            for update in updates:
                is_told = True
                yield update
        if not is_told:
            yield gr.skip()

    return told
