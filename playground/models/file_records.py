"""What the playground remembers of model files: which it put on the disk, when each was last loaded, and checksums.

Deletes only those that the playground itself put there. Made here and downloaded here may go; the starter, a person's
own folders and what other programs fetched never do. What was downloaded here is kept as a list in the data folder,
because the Hub's cache is shared with other programs. A list that cannot be read or written only means that nothing is
known; no load ever fails for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from playground.errors import PlaygroundError
from playground.models.library import ModelFile

_LIST: Final = "downloaded.json"
_MOST_FILES: Final = 2000
_CHUNK_BYTES: Final = 8 << 20  # 4 to 40 ms of hashing: a stop is never far
_writing: Final = threading.Lock()


# --- what was put there by the playground ---


def note_downloaded(data_dir: Path, path: Path) -> None:
    """Remember that the model whose first file is `path` was downloaded here."""
    with _writing, suppress(OSError):  # a list that cannot be written only means that the model stays
        _write(data_dir, {*_downloaded(data_dir), str(path)})


def may_delete_file(file: ModelFile, data_dir: Path) -> bool:
    """Whether the playground put the file there."""
    return file.origin in ("made here", "dropped here") or (
        file.origin == "hub cache" and str(file.path) in _downloaded(data_dir)
    )


def delete_file(file: ModelFile, data_dir: Path) -> None:
    """Remove all files of a model, its contents in the Hub's cache too; raises PlaygroundError where it must not."""
    if not may_delete_file(file, data_dir):
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


# --- last used ---


class LastUsed:
    """Times of loads by path, in seconds since 1970; thread-safe."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()

    def record_load(self, path: Path) -> None:
        """This file has been loaded now."""
        with self._lock, suppress(OSError):
            times = self._read() | {str(path.absolute()): round(self._clock())}
            newest = sorted(times.items(), key=lambda entry: entry[1])[-_MOST_FILES:]
            self._file.parent.mkdir(parents=True, exist_ok=True)
            arriving = self._file.with_name(f"{self._file.name}.arriving")
            arriving.write_text(json.dumps(dict(newest), indent=1), encoding="utf-8")
            arriving.replace(self._file)

    def last_load_time(self, path: Path) -> int | None:
        """When it was last loaded; None where that is not known."""
        with self._lock:
            return self._read().get(str(path.absolute()))

    def _read(self) -> dict[str, int]:
        try:
            times = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(times, dict):
            return {}
        return {path: when for path, when in times.items() if isinstance(when, int) and when > 0}


# --- checksums ---


class FileChecksums:
    """Thread-safe; `memory` is the file in which digests are kept."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._computed: dict[str, str] = {}  # in this run
        self._lock = threading.Lock()

    def known_checksums(self, file: ModelFile) -> tuple[str, ...] | None:
        """The digest of each shard in order, in hexadecimal; None where one must be computed first."""
        with self._lock:
            remembered = self._read()
        digests = [remembered.get(_identity(shard)) for shard in file.shards]
        return tuple(digest for digest in digests if digest) if all(digests) else None

    def compute_checksums(self, files: Sequence[ModelFile]) -> Generator[float, None, None]:
        """Computes what is not known yet and tells the fraction done; closing it stops, and keeps whole digests."""
        shards = list(dict.fromkeys(shard for file in files if not self.known_checksums(file) for shard in file.shards))
        total = sum(shard.stat().st_size for shard in shards)
        done = 0
        for shard in shards:
            identity, hashed = _identity(shard), hashlib.sha256()
            with shard.open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    hashed.update(chunk)
                    done += len(chunk)
                    yield min(1.0, done / total)
            if _identity(shard) == identity:  # else it was changed meanwhile
                self._remember(identity, hashed.hexdigest())

    def _remember(self, identity: str, digest: str) -> None:
        with self._lock:
            self._computed[identity] = digest
            remembered = self._read()
            unfinished = self._memory.with_name(f".{self._memory.name}.{os.getpid()}")
            with suppress(OSError):
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                unfinished.write_text(json.dumps(remembered), encoding="utf-8")
                unfinished.replace(self._memory)

    def _read(self) -> dict[str, str]:
        try:
            data = json.loads(self._memory.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            data = None
        return (data if isinstance(data, dict) else {}) | self._computed


def _identity(shard: Path) -> str:
    """A file that has changed is another one, and so is one that is not there."""
    try:
        status = shard.stat()
    except OSError:
        return ""
    return json.dumps([str(shard.absolute()), status.st_size, status.st_mtime_ns])
