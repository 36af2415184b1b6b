"""Finds the GGUF files in a folder or in the Hugging Face cache, and puts shards together into whole models.

Reads names only and opens no file. Folders that cannot be read are skipped, and so are links that lead in a circle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playground.gguf.filenames import FileName, parse_file_name, split_shard
from playground.gguf.kinds import no_chat_model
from playground.text_format import replace_surrogates

# Kinds that a name tells surely, or a header does not tell. Whether a file is an adapter, its header says.
KINDS_BY_NAME: Final = ("projector", "imatrix", "draft")


@dataclass(frozen=True)
class WholeModel:
    """A model with all its shards in order; the first holds the metadata."""

    name: FileName
    shards: tuple[Path, ...]


@dataclass(frozen=True)
class LeftOut:
    """A file that is not listed, and why, in a sentence."""

    path: Path
    reason: str

    @property
    def file_name(self) -> str:
        """As text for people."""
        return replace_surrogates(self.path.name)


def gguf_paths(folder: Path) -> Iterator[Path]:
    """Every .gguf file below the folder, sorted by name; follows links, but enters each folder once."""
    visited: set[tuple[int, int]] = set()
    for directory, folders, names in os.walk(folder, followlinks=True):
        try:
            status = os.stat(directory)
        except OSError:
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if name.lower().endswith(".gguf") and path.is_file():
                yield path


def whole_models(folder: Path, paths: Iterable[Path], home: str = "") -> tuple[list[WholeModel], list[LeftOut]]:
    """The models among the paths below the folder, without projectors, draft models, imatrix files and adapters.

    home: the name of the repository whose folder it is; by default the folder's own.
    """
    groups: dict[tuple[Path, str, int], dict[int, tuple[FileName, Path]]] = {}
    models: list[WholeModel] = []
    others: list[LeftOut] = []
    for path in paths:
        name = parse_file_name(str(path.relative_to(folder)), home or folder.name)
        if name is None:
            continue
        if name.kind in KINDS_BY_NAME:
            others.append(LeftOut(path, f"It is {no_chat_model(name.kind)}"))
            continue
        if name.shard_count == 1:
            models.append(WholeModel(name, (path,)))
        else:
            group = groups.setdefault((path.parent, split_shard(path.stem)[0], name.shard_count), {})
            group[name.shard] = (name, path)
    left_out = others
    for (_, _, shard_count), group in groups.items():
        in_order = [group[shard] for shard in sorted(group)]
        if sorted(group) == list(range(1, shard_count + 1)):
            models.append(WholeModel(in_order[0][0], tuple(path for _, path in in_order)))
        else:
            of_model = f"of the {shard_count} parts of {in_order[0][0].base_name}"
            reason = f"{len(group)} {of_model} are here; a model needs all of them."
            left_out.append(LeftOut(in_order[0][1], reason))
    return models, left_out


def cached_repositories(cache: Path) -> Iterator[tuple[str, list[Path]]]:
    """Each model repository in a Hugging Face cache, as `owner/repo`, with its snapshots: main, then the newest.

    Not by huggingface_hub's scan_cache_dir: it leaves out a whole repository for one broken link or unused ref.
    """
    for folder in sorted(cache.glob("models--*")):
        repo = replace_surrogates(folder.name).removeprefix("models--").replace("--", "/")
        try:
            main = (folder / "refs" / "main").read_text().strip()
        except (OSError, UnicodeDecodeError):
            main = ""
        try:
            snapshots = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
            snapshots.sort(key=lambda path: (path.name != main, -path.stat().st_mtime))
        except OSError:
            continue
        yield repo, snapshots


def repository_folder(repo: str) -> str:
    """The name of a repository's folder in a Hugging Face cache."""
    return f"models--{repo.replace('/', '--')}"


def hub_caches() -> list[Path]:
    """The cache of huggingface_hub, and the one into which a Space preloads files, independent of HF_HOME."""
    from huggingface_hub import constants

    preloaded = Path.home() / ".cache" / "huggingface" / "hub"
    return list(dict.fromkeys((Path(constants.HF_HUB_CACHE), preloaded)))
