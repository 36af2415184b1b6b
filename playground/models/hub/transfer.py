"""Brings one level from the Hub into its cache: whole, checked and all shards at once, or not visible at all.

What has arrived stays through cuts, stops and restarts, and is taken up again. (huggingface_hub 2.4 throws a broken
download's beginning away, which is why its own download is not used.) Which levels are wanted, in which order, is
downloads.py's to know.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol

from filelock import FileLock, Timeout

from playground.errors import BadModelFile, HubProblem, PlaygroundError
from playground.gguf.header import FileSource, GgufHeader, read_header
from playground.models.hub.cache import RepoCache, free_bytes
from playground.models.hub.client import CancelToken, HubClient, RetryPolicy
from playground.models.hub.headers import HubHeaders
from playground.models.hub.repository import HubFile, HubLevel
from playground.text_format import gibibytes

Stage = Literal["preparing", "checking", "downloading", "waiting"]
MIB: Final = 1024 * 1024
TRIES: Final = 12  # in a row with nothing received in between: a minute or so without a connection
LONGEST_WAIT_SECONDS: Final = 600.0  # the Hub counts requests in windows of 300 s
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full, over a quota, or FAT and its 4 GiB a file


class Transfer:
    """One level on its way. `run` does the work; the other attributes say how far it is, from any thread."""

    def __init__(
        self,
        hub: HubClient,
        headers: HubHeaders,
        level: HubLevel,
        on_change: Callable[[], None] = lambda: None,
        *,
        pause: Callable[[CancelToken, float], None] = CancelToken.wait,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.level = level
        self.stage: Stage = "preparing"
        self.note = ""
        self.stop = CancelToken()
        self._hub, self._headers, self._on_change, self._pause, self._free = hub, headers, on_change, pause, free
        self._cache = RepoCache(hub.cache_dir, level.repo)
        self._retry = RetryPolicy(TRIES, LONGEST_WAIT_SECONDS, self._wait, self.stop)
        self.bytes_done = self._cache.bytes_here(level)
        self.bytes_received = 0  # in this run

    def download_level(self) -> Path:
        """The path of the level's first shard, once all are there; raises Stopped, or PlaygroundError."""
        try:
            if not all(self._cache.has_file(file) for file in self.level.files) and not self._cache.is_published(
                self.level
            ):
                self._bring_all()
            return self._cache.publish_level(self.level, self._hub.uses_links)
        except OSError as error:
            raise self._disk_problem(error) from error

    def remove_partial_files(self) -> None:
        """Throw away what has arrived of an unfinished level."""
        self._cache.remove_partial_files(self.level)
        self.bytes_done = self._cache.bytes_here(self.level)

    def _bring_all(self) -> None:
        self.level = self._as_it_is_now()
        planned = self._headers.read_header(self.level, self._retry)
        self._refuse_without_room()
        for file, header in zip(self.level.files, planned.shards, strict=True):
            if not self._cache.has_file(file):
                with self._alone_with(file):
                    self._bring(file, header)

    def _as_it_is_now(self) -> HubLevel:
        """The level with the repository's present commit; its contents must still be those that were chosen."""
        now = self._hub.fetch_repository(self.level.repo, self._retry)
        files = {file.path: file for level in now.levels for file in level.files}
        for file in self.level.files:
            if files.get(file.path) != file:
                raise HubProblem(
                    f"{file.path} has changed on the Hub since {self.level.reference} was chosen.",
                    "Open the repository again; nothing that is on this computer was touched.",
                )
        return dataclasses.replace(self.level, commit=now.commit)

    def _refuse_without_room(self) -> None:
        needed = self.level.size - self._cache.bytes_here(self.level)
        free = self._free(self._cache.root)
        if needed > free:
            raise HubProblem(
                f"{self.level.reference} needs {gibibytes(needed)} more on the disk, and it is short of that by "
                f"{gibibytes(needed - free)}.",
                f"Make room where {self._hub.cache_dir} is, or choose a smaller level.",
            )

    @contextmanager
    def _alone_with(self, file: HubFile) -> Iterator[None]:
        """While no other program, nor huggingface_hub, writes the same content."""
        path = self._cache.lock_path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                self._wait(1.0, "Another program is downloading this file.")
        try:
            yield
        finally:
            lock.release()

    def _bring(self, file: HubFile, planned: GgufHeader) -> None:
        self.bytes_done = self._cache.bytes_here(self.level)  # anew: another program may have been at it
        if self._cache.has_file(file):
            return
        partial = self._cache.partial_path(file)
        partial.parent.mkdir(parents=True, exist_ok=True)
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        digest = _content_digest(file)
        with partial.open("a+b") as out:
            have = self._read_again(out, digest)
            commit = self.level.commit
            for piece in self._hub.stream_file(self.level.repo, commit, file, have, file.size, self._retry):
                out.write(piece)
                digest.update(piece)
                self.bytes_done += len(piece)
                self.bytes_received += len(piece)
                self._enter("downloading")
        self._enter("checking")
        self._refuse_wrong_content(file, partial, digest.hexdigest())
        self._refuse_other_header(file, partial, planned)
        partial.replace(self._cache.blob_path(file))

    def _read_again(self, out: BinaryIO, digest: _Digest) -> int:
        """Take what is already there into the digest; how many bytes that was."""
        self._enter("checking")
        out.seek(0)
        while piece := out.read(4 * MIB):
            self.stop.raise_if_cancelled()
            digest.update(piece)
        return out.tell()

    def _refuse_wrong_content(self, file: HubFile, partial: Path, digest: str) -> None:
        if digest != (file.sha256 or file.etag):
            partial.unlink()
            self.bytes_done = self._cache.bytes_here(self.level)
            raise HubProblem(
                f"{file.path} arrived damaged: its checksum is not the one the Hub tells.",
                "It was thrown away; download it again.",
            )

    def _refuse_other_header(self, file: HubFile, partial: Path, planned: GgufHeader) -> None:
        try:
            is_as_planned = read_header(FileSource(partial)) == planned
        except BadModelFile:
            is_as_planned = False
        if not is_as_planned:
            self._headers.forget_header(self.level)
            raise HubProblem(
                f"{file.path} is not the model that was planned: its header differs from the one the Hub gave before.",
                "Open the repository again to have it planned anew; the download is kept.",
            )

    def _wait(self, seconds: float, why: str) -> None:
        self._enter("waiting", f"{why} Going on in {seconds:.0f} s." if seconds >= 1 else why)
        self._pause(self.stop, seconds)
        self._enter("preparing")

    def _enter(self, stage: Stage, note: str = "") -> None:
        self.stage, self.note = stage, note
        self._on_change()

    def _disk_problem(self, error: OSError) -> PlaygroundError:
        if error.errno in _NO_ROOM:
            return HubProblem(
                f"The disk took no more of {self.level.reference}: it is full, or takes no files of that size.",
                f"Make room where {self._hub.cache_dir} is, then go on; what has been downloaded stays.",
            )
        return HubProblem(
            f"{self.level.reference} could not be written ({error.strerror or error}).",
            f"Check the folder {self._hub.cache_dir}, or set HF_HOME to another one.",
        )


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def _content_digest(file: HubFile) -> _Digest:
    """What the Hub names contents by: SHA-256 for large files, Git's SHA-1 (after a header) for small ones."""
    if file.sha256 is not None:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
