"""Downloads one level from the Hub into its cache: checked, and all shards at once or none.

Received bytes stay on the disk through broken connections, cancelling and restarts, and the download goes on from
there. huggingface_hub's own download is not used because it deletes a partial file (measured with 2.4).
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
from playground.gguf.header import GgufHeader, read_header
from playground.gguf.reader import FileSource
from playground.machine.files import DISK_FULL_ERRORS, free_disk_bytes
from playground.models.hub.cache import RepoCache
from playground.models.hub.client import CancelToken, HubClient, RetryPolicy
from playground.models.hub.headers import HubHeaders
from playground.models.hub.repository import HubFile, HubLevel
from playground.text_format import gigabytes

TransferStage = Literal["preparing", "checking", "downloading", "waiting"]
MIB: Final = 1024 * 1024
ATTEMPTS: Final = 12  # in a row without a byte received: about a minute without a connection
LONGEST_WAIT_SECONDS: Final = 600.0  # the Hub counts requests in windows of 300 s
_DISK_FULL: Final = (*DISK_FULL_ERRORS, errno.EFBIG)  # the last: FAT holds at most 4 GiB a file


class Transfer:
    """The download of one level. `download_level` does the work; any thread may read the other attributes meanwhile.

    note: why the transfer waits. bytes_done: of the level on this disk. bytes_received: by this transfer.
    """

    def __init__(
        self,
        hub: HubClient,
        headers: HubHeaders,
        level: HubLevel,
        on_change: Callable[[], None] = lambda: None,
        *,
        pause: Callable[[CancelToken, float], None] = CancelToken.wait,
        free: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        self.level = level
        self.stage: TransferStage = "preparing"
        self.note = ""
        self.cancel = CancelToken()
        self._hub, self._headers, self._on_change, self._pause, self._free = hub, headers, on_change, pause, free
        self._cache = RepoCache(hub.cache_dir, level.repo)
        self._retry = RetryPolicy(ATTEMPTS, LONGEST_WAIT_SECONDS, self._wait, self.cancel)
        self.bytes_done = self._cache.bytes_here(level)
        self.bytes_received = 0

    def download_level(self) -> Path:
        """Returns the path of the level's first shard. Raises TransferCancelled, or PlaygroundError."""
        cache = self._cache
        try:
            has_content = all(cache.has_file(file) for file in self.level.files)
            if not has_content and not cache.is_published(self.level):
                self._download_files()
            return cache.publish_level(self.level, self._hub.uses_links)
        except OSError as error:
            raise self._disk_problem(error) from error

    def remove_partial_files(self) -> None:
        """Delete what has arrived of an incomplete level."""
        self._cache.remove_partial_files(self.level)
        self.bytes_done = self._cache.bytes_here(self.level)

    def _download_files(self) -> None:
        self.level = self._level_at_newest_commit()
        planned = self._headers.read_header(self.level, self._retry)
        self._check_free_space()
        for file, header in zip(self.level.files, planned.shards, strict=True):
            if not self._cache.has_file(file):
                with self._locked(file):
                    self._download_file(file, header)

    def _level_at_newest_commit(self) -> HubLevel:
        """The level in the repository's newest commit. Raises HubProblem if its files have changed."""
        now = self._hub.fetch_repository(self.level.repo, self._retry)
        files = {file.path: file for level in now.levels for file in level.files}
        for file in self.level.files:
            if files.get(file.path) != file:
                raise HubProblem(
                    f"{file.path} has changed on the Hub since {self.level.reference} was chosen.",
                    "Open the repository again; nothing on this computer was changed.",
                )
        return dataclasses.replace(self.level, commit=now.commit)

    def _check_free_space(self) -> None:
        needed = self.level.size - self._cache.bytes_here(self.level)
        free = self._free(self._cache.root)
        if needed > free:
            raise HubProblem(
                f"{self.level.reference} needs {gigabytes(needed)} on the disk: {gigabytes(needed - free)} too much.",
                f"Free some space on the disk of {self._hub.cache_dir}, or choose a smaller level.",
            )

    @contextmanager
    def _locked(self, file: HubFile) -> Iterator[None]:
        """Wait until no other program writes the same content, and keep others from it; huggingface_hub obeys too."""
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

    def _download_file(self, file: HubFile, planned: GgufHeader) -> None:
        self.bytes_done = self._cache.bytes_here(self.level)  # another program may have added some
        if self._cache.has_file(file):
            return
        partial = self._cache.partial_path(file)
        partial.parent.mkdir(parents=True, exist_ok=True)
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        digest = _content_digest(file)
        with partial.open("a+b") as out:
            have = self._digest_received(out, digest)
            commit = self.level.commit
            for piece in self._hub.stream_file(self.level.repo, commit, file, have, file.size, self._retry):
                out.write(piece)
                digest.update(piece)
                self.bytes_done += len(piece)
                self.bytes_received += len(piece)
                self._set_stage("downloading")
        self._set_stage("checking")
        self._check_content(file, partial, digest.hexdigest())
        self._check_header(file, partial, planned)
        partial.replace(self._cache.blob_path(file))

    def _digest_received(self, out: BinaryIO, digest: _Digest) -> int:
        """Add the bytes of an earlier attempt to the digest; returns their number."""
        self._set_stage("checking")
        out.seek(0)
        while piece := out.read(4 * MIB):
            self.cancel.raise_if_cancelled()
            digest.update(piece)
        return out.tell()

    def _check_content(self, file: HubFile, partial: Path, digest: str) -> None:
        if digest != (file.sha256 or file.etag):
            partial.unlink()
            self.bytes_done = self._cache.bytes_here(self.level)
            raise HubProblem(
                f"{file.path} arrived damaged: its checksum is not the one that the Hub gives.",
                "The damaged file was deleted; download it again.",
            )

    def _check_header(self, file: HubFile, partial: Path, planned: GgufHeader) -> None:
        try:
            is_as_planned = read_header(FileSource(partial)) == planned
        except BadModelFile:
            is_as_planned = False
        if not is_as_planned:
            self._headers.forget_header(self.level)
            raise HubProblem(
                f"{file.path} is not the model that was planned: its header differs from the one read before.",
                "Open the repository again to plan it again; the download is kept.",
            )

    def _wait(self, seconds: float, why: str) -> None:
        self._set_stage("waiting", f"{why} Going on in {seconds:.0f} s." if seconds >= 1 else why)
        self._pause(self.cancel, seconds)
        self._set_stage("preparing")

    def _set_stage(self, stage: TransferStage, note: str = "") -> None:
        self.stage, self.note = stage, note
        self._on_change()

    def _disk_problem(self, error: OSError) -> PlaygroundError:
        if error.errno in _DISK_FULL:
            return HubProblem(
                f"The disk is full, or does not take files as large as those of {self.level.reference}.",
                f"Free some space on the disk of {self._hub.cache_dir}, then resume; what has been downloaded stays.",
            )
        return HubProblem(
            f"{self.level.reference} could not be written ({error.strerror or error}).",
            f"Check the folder {self._hub.cache_dir}, or set HF_HOME to another one.",
        )


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def _content_digest(file: HubFile) -> _Digest:
    """The digest that the Hub gives for a file: SHA-256, or for a small file Git's SHA-1 with its header."""
    if file.sha256 is not None:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
