"""SHA-256 digests of model files, computed when somebody asks and remembered until the file changes.

A file is known by its path, size and time of change. The memory is one small JSON file; one that is lost or damaged,
or cannot be written, costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from playground.models.library import ModelFile

_CHUNK_BYTES: Final = 8 << 20  # 4 to 40 ms of hashing: a stop is never far


class FileDigests:
    """Thread-safe; `memory` is the file in which digests are kept."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._computed: dict[str, str] = {}  # in this run
        self._lock = threading.Lock()

    def known(self, file: ModelFile) -> tuple[str, ...] | None:
        """The digest of each shard in order, in hexadecimal; None where one must be computed first."""
        with self._lock:
            remembered = self._read()
        digests = [remembered.get(_identity(shard)) for shard in file.shards]
        return tuple(digest for digest in digests if digest) if all(digests) else None

    def digest(self, files: Sequence[ModelFile]) -> Generator[float, None, None]:
        """Computes what is not known yet and tells the fraction done; closing it stops, and keeps whole digests."""
        shards = list(dict.fromkeys(shard for file in files if not self.known(file) for shard in file.shards))
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
