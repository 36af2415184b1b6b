"""What the playground remembers of model files: which it downloaded, when each was last loaded, and their checksums.

Three small JSON files in the data folder. One that is missing, damaged or not writable only means that nothing is
known; no work fails because of it. They are read with the json module and not with pydantic, because pydantic refuses
paths that are not UTF-8.
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
from typing import Any, Final

from playground.errors import PlaygroundError
from playground.machine.files import write_json_atomically
from playground.models.model_file import ModelFile

_DOWNLOADS_FILE: Final = "downloaded.json"
_MOST_LOAD_TIMES: Final = 2000
_CHUNK_BYTES: Final = 8 << 20  # hashed in 4 to 40 ms, so cancelling is quick
_downloads_lock: Final = threading.Lock()


# --- which files the playground put on the disk, and deleting them ---


def record_download(data_dir: Path, path: Path) -> None:
    """Remember that the playground downloaded the model whose first file is `path`."""
    with _downloads_lock:
        _save(data_dir / _DOWNLOADS_FILE, sorted({*_downloads(data_dir), str(path)}))


def may_delete_file(file: ModelFile, data_dir: Path) -> bool:
    """Whether the playground put the file there: made, uploaded or downloaded it.

    A list of downloads is needed because other programs use the Hub's cache, too.
    """
    if file.origin == "hub cache":
        return str(file.path) in _downloads(data_dir)
    return file.origin in ("made here", "dropped here")


def delete_file(file: ModelFile, data_dir: Path) -> None:
    """Delete all files of a model, in the Hub's cache their contents too.

    Raises PlaygroundError if the playground did not put it there, or if it cannot be deleted.
    """
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
        _remove_empty_folders({shard.parent for shard in file.shards})
    except OSError as error:
        raise PlaygroundError(f"{file.path.name} cannot be deleted: {error.strerror}.", "Check its folder.") from error
    with _downloads_lock:
        _save(data_dir / _DOWNLOADS_FILE, sorted(_downloads(data_dir) - {str(file.path)}))


def _delete_from_cache(file: ModelFile) -> None:
    """Delete the contents of the shards, and in every snapshot the links to them.

    Not by huggingface_hub's scan_cache_dir: it refuses a whole repository for one broken link or unused ref.
    """
    contents = {_cached_content(shard) for shard in file.shards}
    snapshots = next(folder for folder in file.path.parents if folder.name == "snapshots")
    for path in snapshots.rglob("*.gguf"):
        if _cached_content(path) in contents:
            path.unlink()
    for content in contents:
        content.unlink(missing_ok=True)


def _cached_content(path: Path) -> Path:
    """The file under blobs/ that a link in a snapshot leads to; the path itself if it is no link.

    One step only: a blob can itself be a link to a content that several repositories share, which has to stay.
    """
    return Path(os.path.abspath(path.parent / os.readlink(path))) if path.is_symlink() else path


def _remove_empty_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds something else
            folder.rmdir()


def _downloads(data_dir: Path) -> set[str]:
    paths = _load(data_dir / _DOWNLOADS_FILE)
    return {path for path in paths if isinstance(path, str)} if isinstance(paths, list) else set()


# --- when a file was last loaded ---


class LastUsed:
    """Times of loads by path, in seconds since 1970. Thread-safe."""

    def __init__(self, record: Path, clock: Callable[[], float] = time.time) -> None:
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()

    def record_load(self, path: Path) -> None:
        """The file is loaded now."""
        with self._lock:
            times = self._times() | {str(path.absolute()): round(self._clock())}
            newest = sorted(times.items(), key=lambda entry: entry[1])[-_MOST_LOAD_TIMES:]
            _save(self._record, dict(newest))

    def last_load_time(self, path: Path) -> int | None:
        """When the file was last loaded; None if that is not known."""
        with self._lock:
            return self._times().get(str(path.absolute()))

    def _times(self) -> dict[str, int]:
        times = _load(self._record)
        if not isinstance(times, dict):
            return {}
        return {path: when for path, when in times.items() if isinstance(when, int) and when > 0}


# --- checksums ---


class FileChecksums:
    """SHA-256 checksums of model files, computed on request and remembered until the file changes. Thread-safe.

    A file is identified by its path, size and time of change.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._computed: dict[str, str] = {}  # in this run
        self._lock = threading.Lock()

    def known_checksums(self, file: ModelFile) -> tuple[str, ...] | None:
        """The checksum of each shard in order, in hexadecimal; None if one has to be computed first."""
        with self._lock:
            remembered = self._checksums()
        checksums = [remembered.get(_identity(shard)) for shard in file.shards]
        return tuple(checksum for checksum in checksums if checksum) if all(checksums) else None

    def compute_checksums(self, files: Sequence[ModelFile]) -> Generator[float, None, None]:
        """Compute what is not known yet; yields the fraction done. Closing it stops, and keeps complete checksums."""
        unknown = [file for file in files if not self.known_checksums(file)]
        shards = list(dict.fromkeys(shard for file in unknown for shard in file.shards))
        total = sum(shard.stat().st_size for shard in shards)
        done = 0
        for shard in shards:
            identity, digest = _identity(shard), hashlib.sha256()
            with shard.open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    done += len(chunk)
                    yield min(1.0, done / total)
            if _identity(shard) == identity:  # else it was changed meanwhile
                self._remember(identity, digest.hexdigest())

    def _remember(self, identity: str, checksum: str) -> None:
        with self._lock:
            self._computed[identity] = checksum
            _save(self._record, self._checksums())

    def _checksums(self) -> dict[str, str]:
        remembered = _load(self._record)
        return (remembered if isinstance(remembered, dict) else {}) | self._computed


def _identity(shard: Path) -> str:
    """Differs once the file has changed; "" for a file that is not there."""
    try:
        status = shard.stat()
    except OSError:
        return ""
    return json.dumps([str(shard.absolute()), status.st_size, status.st_mtime_ns])


# --- the JSON files ---


def _load(record: Path) -> Any:
    """None if the file is missing or damaged."""
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _save(record: Path, data: Any) -> None:
    with suppress(PlaygroundError):
        write_json_atomically(record, data)
