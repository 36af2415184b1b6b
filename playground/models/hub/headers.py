"""Headers of models on the Hub, read by HTTP ranges and kept on disk, so that a model can be planned before a download.

A header is kept as the stand-in that the dry run opens: a sparse file, with shards side by side under their own names.
Its folder is named after the content, so a header that was kept is never used for a file that has changed since.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from playground.errors import BadModelFile, HubProblem
from playground.gguf.header import GgufHeader, check_chat_model, merge_shards, read_header, write_stand_in
from playground.gguf.reader import BytesSource, FileSource
from playground.machine.files import write_remedy
from playground.models.hub.client import HubClient, RetryPolicy
from playground.models.hub.repository import HubFile, HubLevel

MIB: Final = 1024 * 1024
LATER_SHARD_BYTES: Final = MIB // 2  # a later shard has no vocabulary: a table of a thousand tensors takes 60 KB
MOST_KEPT: Final = 200  # levels; the least recently used is deleted first


@dataclass(frozen=True)
class LevelHeader:
    """The header of a level: of each shard, and of all together. path: the first stand-in, for the dry run."""

    level: HubLevel
    shards: tuple[GgufHeader, ...]
    whole: GgufHeader
    path: Path


class HubByteSource:
    """The beginning of a file on the Hub as a byte source, by HTTP ranges; nothing is fetched twice."""

    def __init__(self, hub: HubClient, level: HubLevel, file: HubFile, retry: RetryPolicy | None = None) -> None:
        self._hub, self._level, self._file, self._retry = hub, level, file, retry
        self.fetched = b""  # from the file's first byte on

    @property
    def size(self) -> int:
        return self._file.size

    def read_range(self, offset: int, count: int) -> bytes:
        """Fetches everything up to the end of the range; GgufReader limits how far a header may reach."""
        have, end = len(self.fetched), min(offset + count, self.size)
        if end > have:
            level = self._level
            pieces = self._hub.stream_file(level.repo, level.commit, self._file, have, end, self._retry)
            self.fetched += b"".join(pieces)
        return self.fetched[offset:end]


class HubHeaders:
    """Reads headers of levels, from `folder` if they are kept there, else from the Hub."""

    def __init__(self, hub: HubClient, folder: Path) -> None:
        self._hub = hub
        self._folder = folder

    def read_header(self, level: HubLevel, retry: RetryPolicy | None = None) -> LevelHeader:
        """The header of one level. Raises HubProblem, and BadModelFile if it is no sound chat model."""
        header = self._read_header(level, retry)
        check_chat_model(header.whole)
        return header

    def _read_header(self, level: HubLevel, retry: RetryPolicy | None) -> LevelHeader:
        kept = self._folder / _key(level)
        if kept.is_dir():
            try:
                header = _read_kept(level, kept)
                kept.touch()  # the most recently used
                return header
            except (BadModelFile, OSError):
                shutil.rmtree(kept, ignore_errors=True)  # damaged: fetch it again
        try:
            self._fetch(level, kept, retry)
            self._forget_the_oldest()
            return _read_kept(level, kept)
        except OSError as error:
            to_do = write_remedy(error, "Allow writing in the data folder")
            raise HubProblem(
                f"The header of {level.reference} could not be saved ({error.strerror or error}).",
                f"{to_do}, or set PLAYGROUND_DATA_DIR to another folder.",
            ) from error

    def forget_header(self, level: HubLevel) -> None:
        """Delete the kept header, so that the next read asks the Hub."""
        shutil.rmtree(self._folder / _key(level), ignore_errors=True)

    def _fetch(self, level: HubLevel, kept: Path, retry: RetryPolicy | None) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="arriving-") as arriving:
            headers = []
            for number, file in enumerate(level.files):
                source = HubByteSource(self._hub, level, file, retry)
                headers.append(read_header(source) if number == 0 else _later_header(source))
                write_stand_in(source, headers[-1], Path(arriving) / _name(file))
            merge_shards(headers)
            try:
                Path(arriving).rename(kept)
            except OSError:
                if not kept.is_dir():  # else another thread or process was faster
                    raise
            else:
                Path(arriving).mkdir()  # for the `with` to remove

    def _forget_the_oldest(self) -> None:
        folders = [path for path in self._folder.iterdir() if path.is_dir()]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime)[:-MOST_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)


def _later_header(source: HubByteSource) -> GgufHeader:
    """The header of a shard after the first: half a MiB is nearly always enough."""
    beginning = source.read_range(0, min(LATER_SHARD_BYTES, source.size))
    try:
        return read_header(BytesSource(beginning, source.size))
    except BadModelFile:
        return read_header(source)


def _read_kept(level: HubLevel, folder: Path) -> LevelHeader:
    paths = [folder / _name(file) for file in level.files]
    shards = tuple(read_header(FileSource(path)) for path in paths)
    return LevelHeader(level, shards, merge_shards(shards), paths[0])


def _name(file: HubFile) -> str:
    return PurePosixPath(file.path).name


def _key(level: HubLevel) -> str:
    """A folder name for the content of all shards; a hash, because an etag can be any text."""
    content = "\n".join(f"{file.etag} {_name(file)}" for file in level.files)
    return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:32]
