"""A model file on this disk, as the library lists it, and the names by which it can be called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playground.text_format import replace_surrogates

Origin = Literal["starter", "hub cache", "folder", "made here", "dropped here", "LM Studio", "Ollama", "llama.cpp"]


@dataclass(frozen=True)
class ModelFile:
    """One model at one level on this disk. path: the first shard. size: bytes of all shards.

    is_only: no other file of the same repository or model has this level.
    """

    path: Path
    shards: tuple[Path, ...]
    base_name: str
    level: str  # "unknown" if neither the name nor the header says
    size: int
    origin: Origin
    repo: str | None = None
    requantized_from: str | None = None
    is_only: bool = True

    @property
    def display_name(self) -> str:
        return readable_name(self.base_name)

    @property
    def file_name(self) -> str:
        """The name of the first file, as text for people."""
        return replace_surrogates(self.path.name)

    @property
    def path_in_repo(self) -> str:
        """The path below the repository's snapshot in the Hub's cache; elsewhere the name of the file."""
        parts = self.path.parts
        if self.repo is None or "snapshots" not in parts:
            return self.path.name
        return "/".join(parts[len(parts) - parts[::-1].index("snapshots") + 1 :])

    @property
    def reference(self) -> str:
        """What `Library.find_file` takes for this file: a name, or the path if it can be typed."""
        path = str(self.path)
        if self.origin in ("starter", "made here", "hub cache") or replace_surrogates(path) != path:
            return self.name
        return path

    @property
    def name(self) -> str:
        """The reference without a path, for clients that must not learn this computer's folders."""
        if self.origin == "starter":
            return "starter"
        return f"{self.repo or self.base_name}:{self.level if self.is_only else replace_surrogates(self.path_in_repo)}"


def readable_name(base_name: str) -> str:
    """A base name as people write it: `gemma-3-4b-it` -> `Gemma 3 4B it`."""
    words = [word for word in re.split(r"[-_\s]+", base_name) if word]
    words = [word.upper() if re.fullmatch(r"(\d+x)?\d+(\.\d+)?[bkmt]", word) else word for word in words]
    name = " ".join(words)
    return name[:1].upper() + name[1:] if words and words[0].islower() else name


def most_original(files: Sequence[ModelFile]) -> ModelFile:
    """Of the levels of one model, the closest to the model as it was published: the largest file that was not made
    here from another level. Only where all were, the largest of them.
    """
    return max(files, key=lambda file: (file.requantized_from is None, file.size))
