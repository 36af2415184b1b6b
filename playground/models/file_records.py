"""Deletes models from this disk, but only those that the playground itself put there.

Made here and downloaded here may go; the starter, a person's own folders and what other programs fetched never do. What
was downloaded here is kept as a list in the data folder, because the Hub's cache is shared with other programs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from playground.errors import PlaygroundError
from playground.models.library import ModelFile

_LIST: Final = "downloaded.json"
_writing: Final = threading.Lock()


def note_downloaded(data_dir: Path, path: Path) -> None:
    """Remember that the model whose first file is `path` was downloaded here."""
    with _writing, suppress(OSError):  # a list that cannot be written only means that the model stays
        _write(data_dir, {*_downloaded(data_dir), str(path)})


def may_delete(file: ModelFile, data_dir: Path) -> bool:
    """Whether the playground put the file there."""
    return file.origin in ("made here", "dropped here") or (
        file.origin == "hub cache" and str(file.path) in _downloaded(data_dir)
    )


def delete(file: ModelFile, data_dir: Path) -> None:
    """Remove all files of a model, its contents in the Hub's cache too; raises PlaygroundError where it must not."""
    if not may_delete(file, data_dir):
        raise PlaygroundError(
            f"{file.path.name} was not put there by the playground.", "Delete it with the program that did."
        )
    try:
        if file.origin == "hub cache":
            _delete_from_cache(file)
        else:
            for shard in file.shards:
                shard.unlink(missing_ok=True)
        _remove_empty({shard.parent for shard in file.shards})
    except OSError as error:
        raise PlaygroundError(f"{file.path.name} cannot be deleted: {error.strerror}.", "Check its folder.") from error
    with _writing, suppress(OSError):
        _write(data_dir, _downloaded(data_dir) - {str(file.path)})


def _delete_from_cache(file: ModelFile) -> None:
    """The contents, and in every snapshot the names that lead to them: a name without a content is no use to anyone."""
    contents = {shard.resolve() for shard in file.shards}
    snapshots = next(folder for folder in file.path.parents if folder.name == "snapshots")
    for name in snapshots.rglob("*.gguf"):
        if name.resolve() in contents:
            name.unlink()
    for content in contents:
        content.unlink(missing_ok=True)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds something else
            folder.rmdir()


def _downloaded(data_dir: Path) -> set[str]:
    try:
        names = json.loads((data_dir / _LIST).read_text(encoding="utf-8"))
        return {name for name in names if isinstance(name, str)}
    except (OSError, ValueError, TypeError):
        return set()


def _write(data_dir: Path, names: set[str]) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    arriving = data_dir / f"{_LIST}.arriving"
    arriving.write_text(json.dumps(sorted(names), indent=1), encoding="utf-8")
    arriving.replace(data_dir / _LIST)
