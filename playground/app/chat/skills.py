"""The shelf of skills: named texts that are put in front of a chat, each switched on or off for it.

A browser keeps its own shelf, so what it sends may be anything. The owner of this computer may offer a folder of files
beside it, which nobody can change from the page.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from playground.chat.history import HistoryLimits, checked_text
from playground.chat.session import Instructions, read_instructions
from playground.errors import PlaygroundError, RequestRefused

MOST_SKILLS: Final = 24
_LONGEST_NAME: Final = 120  # characters
_SUFFIXES: Final = (".md", ".txt")


@dataclass(frozen=True)
class Shelf:
    """kept: what the browser keeps. from_folder: what the owner of this computer offers; a kept one goes before it."""

    kept: tuple[Instructions, ...] = ()
    from_folder: tuple[Instructions, ...] = ()

    @property
    def skills(self) -> tuple[Instructions, ...]:
        """All of them, by name."""
        named = {skill.name: skill for skill in (*self.from_folder, *self.kept)}
        return tuple(named[name] for name in sorted(named, key=str.casefold))

    def find(self, name: object) -> Instructions | None:
        return next((skill for skill in self.skills if skill.name == name), None)

    def with_skill(self, skill: Instructions) -> Shelf:
        """With one more, or with another text of the same name. Raises RequestRefused on a full shelf."""
        others = tuple(one for one in self.kept if one.name != skill.name)
        if len(others) >= MOST_SKILLS:
            raise RequestRefused(f"The shelf is full: it holds {MOST_SKILLS} skills.", "Remove one first.")
        return replace(self, kept=(*others, Instructions(skill.name, skill.text)))

    def without_skill(self, name: object) -> Shelf:
        return replace(self, kept=tuple(skill for skill in self.kept if skill.name != name))

    def switched_on(self, names: Iterable[object]) -> Instructions | None:
        """These skills as the instructions of a chat, in the order of the shelf; None for none."""
        wanted = set(map(str, names))
        chosen = [skill for skill in self.skills if skill.name in wanted]
        if not chosen:
            return None
        texts = "\n\n".join(skill.text.strip() for skill in chosen)
        shown = ", ".join(skill.name for skill in chosen)
        return Instructions(shown, texts, tuple(skill.name for skill in chosen))

    def to_text(self) -> str:
        """What the browser keeps, as JSON; `read_shelf` reads it."""
        return json.dumps([{"name": skill.name, "text": skill.text} for skill in self.kept]) if self.kept else ""


def read_shelf(text: object, limits: HistoryLimits, folder: Path | None = None) -> Shelf:
    """What a browser kept, and the folder's files; what cannot be read is left out."""
    return Shelf(tuple(_kept_skills(text, limits)), _skills_in(folder, limits))


def toggled(on: Collection[str], name: str) -> set[str]:
    """The names that are on after a press on this one."""
    return set(on) ^ {name}


def _kept_skills(text: object, limits: HistoryLimits) -> Iterable[Instructions]:
    if not isinstance(text, str) or len(text) > 8 * limits.all_characters:
        return
    try:
        listed: Any = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return
    for entry in listed[:MOST_SKILLS] if isinstance(listed, list) else ():
        name, content = (entry.get("name"), entry.get("text")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            continue
        try:
            yield Instructions(name, checked_text(content, "A skill", limits))
        except RequestRefused:
            continue


def _skills_in(folder: Path | None, limits: HistoryLimits) -> tuple[Instructions, ...]:
    """The text files of a folder, by name; a file that cannot be read is left out."""
    found: list[Instructions] = []
    try:
        paths = sorted(folder.iterdir()) if folder else []
    except OSError:
        return ()
    for path in paths[: 4 * MOST_SKILLS]:
        try:
            if path.suffix.lower() in _SUFFIXES and path.is_file() and len(found) < MOST_SKILLS:
                found.append(read_instructions(path, limits))
        except (OSError, PlaygroundError):
            continue
    return tuple(found)
