"""The example prompts that the Chat tab offers, from assets/prompts.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from playground.assets import asset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]


@dataclass(frozen=True)
class ExamplePrompt:
    """A title for a button and the text that it sends."""

    title: str
    text: str


def load_example_prompts() -> tuple[ExamplePrompt, ...]:
    with asset("prompts.toml").open("rb") as file:
        return tuple(ExamplePrompt(entry["title"], entry["text"]) for entry in tomllib.load(file)["prompt"])
