"""Tells files apart that have the same name: two models called alike, and two files of one model at one level.

A file is listed under its base name, and many publishers call their files alike ("unsloth.Q4_K_M.gguf"). Where such
files come from different places and are not levels of one model, each model's name gets its owner or folder:

    alice/piano-teacher-GGUF, bob/chess-coach-GGUF -> unsloth (alice), unsloth (bob)
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final

from playground.gguf.filenames import names_level_only
from playground.models.model_file import ModelFile
from playground.text_format import replace_surrogates

_LISTED_BY_NAME: Final = ("starter", "made here")  # they belong to a model by its name


@dataclass
class _Place:
    """The files of one base name in one repository or folder, or in several that hold levels of one model."""

    repo: str
    folder: str  # below the repository, or on the disk; without folders that are only named after a level
    files: list[ModelFile] = field(default_factory=list)
    identities: set[Hashable] = field(default_factory=set)

    def belongs_to(self, other: _Place) -> bool:
        """Whether the two hold levels of one model, as far as can be seen."""
        one_repo = not (self.repo and other.repo) or self.repo.lower() == other.repo.lower()
        levels = {file.level for file in other.files}
        no_level_twice = all(file.level not in levels for file in self.files)
        return one_repo and no_level_twice and self.identities == other.identities

    def labels(self) -> tuple[str, ...]:
        """What can tell the place from others, the shortest first."""
        folders = [part for part in PurePath(self.folder).parts if part.strip("/\\")]
        owner, _, name = self.repo.partition("/")
        return (owner or "".join(folders[-1:]), name or " ".join(folders[-2:]), " ".join((owner, name, *folders[-2:])))


def with_unique_names(files: Sequence[ModelFile], identity: Callable[[ModelFile], Hashable]) -> list[ModelFile]:
    """The files, renamed where two models share a base name, and marked where two share a level.

    identity: of the model that a file holds; the same for all levels of a model.
    """
    names: dict[int, str] = {}
    for group in _by_base_name(files).values():
        places = _places(group, identity)
        has_starter = any(file.origin == "starter" for file in group)
        if len(places) + has_starter > 1:
            for place, label in zip(places, _distinct_labels(places), strict=True):
                names |= {id(file): f"{file.base_name} ({label})" for file in place.files}
    renamed = [replace(file, base_name=names.get(id(file), file.base_name)) for file in files]
    levels = Counter((file.repo or file.base_name, file.level) for file in renamed)
    return [replace(file, is_only=levels[file.repo or file.base_name, file.level] == 1) for file in renamed]


def _by_base_name(files: Iterable[ModelFile]) -> dict[str, list[ModelFile]]:
    groups: dict[str, list[ModelFile]] = defaultdict(list)
    for file in files:
        groups[file.base_name.lower()].append(file)
    return groups


def _places(files: Sequence[ModelFile], identity: Callable[[ModelFile], Hashable]) -> list[_Place]:
    """The places of different models. Those that belong to the starter, or to each other, are joined."""
    found: dict[tuple[str, str], _Place] = {}
    for file in files:
        if file.origin not in _LISTED_BY_NAME:
            place = _Place(file.repo or "", _folder(file))
            found.setdefault((place.repo.lower(), place.folder), place).files.append(file)
    starters = [file for file in files if file.origin == "starter"]
    if len(found) + bool(starters) < 2:
        return []
    joined = [_Place("", "", starters, {identity(file) for file in starters})] if starters else []
    for place in found.values():
        place.identities = {identity(file) for file in place.files}
        home = next((other for other in joined if place.belongs_to(other)), None)
        if home is None:
            joined.append(place)
        else:
            home.files = [*home.files, *place.files]
            home.repo = home.repo or place.repo
    return joined[bool(starters) :]


def _folder(file: ModelFile) -> str:
    path = PurePath(file.path_in_repo if file.repo else replace_surrogates(str(file.path))).parent
    while names_level_only(path.name):
        path = path.parent
    return str(path)


def _distinct_labels(places: Sequence[_Place]) -> list[str]:
    for labels in zip(*(place.labels() for place in places), strict=True):
        if all(labels) and len({label.lower() for label in labels}) == len(labels):
            return [re.sub(r"[/\\:\x00-\x1f]", " ", label) for label in labels]
    return [str(number) for number in range(1, len(places) + 1)]
