"""What the repositories held that were opened here: names and sizes of their levels, kept in the data folder.

So a level that could be downloaded is known without asking the Hub again. What is kept may be out of date; opening the
repository brings it up to date.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field, ValidationError

from playground.errors import PlaygroundError
from playground.machine.files import write_json_atomically
from playground.models.hub.repository import Repository

_MOST_REPOSITORIES: Final = 200
_MOST_LEVELS: Final = 60  # of a repository
_MOST_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class ListedLevel:
    """A level of a repository. size: bytes of all its files. reference: such as `owner/repo:Q4_K_M`."""

    level: str
    size: int
    reference: str


class _Entry(BaseModel):
    base_name: str = Field(max_length=300)
    level: str = Field(max_length=100)
    size: int = Field(ge=0)
    reference: str = Field(max_length=500)


class _Listings(BaseModel):
    repositories: dict[str, list[_Entry]] = {}  # the one that was opened last at the end


class Listings:
    """Thread-safe. A file that is missing, damaged or not writable only means that less is known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: _Listings | None = None

    def remember(self, repository: Repository) -> None:
        entries = [
            _Entry(base_name=level.base_name, level=level.level, size=level.size, reference=level.reference)
            for level in repository.levels[:_MOST_LEVELS]
            if level.made_for is None
        ]
        with self._lock:
            known = self._read().repositories
            is_new = known.pop(repository.id, None) != entries
            known[repository.id] = entries
            while len(known) > _MOST_REPOSITORIES:
                del known[next(iter(known))]
            if is_new:
                with suppress(PlaygroundError):  # a folder that cannot be written to
                    write_json_atomically(self._path, self._read().model_dump())

    def levels(self, repo: str, base_name: str) -> list[ListedLevel]:
        """Those of one model of a repository; none for one that was never opened here."""
        with self._lock:
            entries = self._read().repositories.get(repo, [])
        return [ListedLevel(one.level, one.size, one.reference) for one in entries if one.base_name == base_name]

    def _read(self) -> _Listings:
        if self._known is None:
            self._known = _Listings()
            try:
                if self._path.stat().st_size <= _MOST_BYTES:
                    self._known = _Listings.model_validate(json.loads(self._path.read_bytes()))
            except (OSError, ValueError, RecursionError, ValidationError):
                pass
        return self._known
