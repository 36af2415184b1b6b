"""The headers of models that are still on the Hub, read by ranges and kept on disk, so that a plan can be had of them.

A header is kept as its sparse stand-in, the very file the dry run opens: shards side by side under their own names, in
a folder named after their content. What has changed on the Hub therefore never answers for what is there now.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from playground.errors import BadModelFile, HubProblem
from playground.gguf.header import BytesSource, FileSource, GgufHeader, merge_shards, read_header, write_stand_in
from playground.machine.files import write_remedy
from playground.models.hub.client import HubClient, RetryPolicy
from playground.models.hub.repository import HubFile, HubLevel

MIB: Final = 1024 * 1024
LATER_SHARD_BYTES: Final = MIB // 2  # a later shard has no vocabulary: a list of a thousand tensors takes 60 KB
MOST_KEPT: Final = 200  # levels; the least recently used go first


@dataclass(frozen=True)
class LevelHeader:
    """The header of a level: of each shard, and of them all as one; `path` is the first stand-in, for the dry run."""

    level: HubLevel
    shards: tuple[GgufHeader, ...]
    whole: GgufHeader
    path: Path


class HubByteSource:
    """A byte source over HTTP ranges, for the beginning of a file: what was fetched once is not fetched again."""

    def __init__(self, hub: HubClient, level: HubLevel, file: HubFile, retry: RetryPolicy | None = None) -> None:
        self._hub, self._level, self._file, self._retry = hub, level, file, retry
        self.fetched = b""  # from the file's first byte on

    @property
    def size(self) -> int:
        return self._file.size

    def read_range(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`, and all before it; how far a header may go is gguf/cursor.py's to limit."""
        have, end = len(self.fetched), min(offset + count, self.size)
        if end > have:
            level = self._level
            pieces = self._hub.stream_file(level.repo, level.commit, self._file, have, end, self._retry)
            self.fetched += b"".join(pieces)
        return self.fetched[offset:end]


class HubHeaders:
    """Reads headers of levels, from `folder` where they are already there and from the Hub where not."""

    def __init__(self, hub: HubClient, folder: Path) -> None:
        self._hub = hub
        self._folder = folder

    def read_header(self, level: HubLevel, retry: RetryPolicy | None = None) -> LevelHeader:
        """The header of one level. Raises HubProblem, and BadModelFile for what is no sound model."""
        kept = self._folder / _key(level)
        if kept.is_dir():
            try:
                header = _read_kept(level, kept)
                kept.touch()  # the most recently used
                return header
            except (BadModelFile, OSError):
                shutil.rmtree(kept, ignore_errors=True)  # damaged since: fetch it anew
        try:
            self._fetch(level, kept, retry)
            self._forget_the_oldest()
            return _read_kept(level, kept)
        except OSError as error:
            to_do = write_remedy(error, "Allow writing in the data folder")
            raise HubProblem(
                f"The header of {level.reference} could not be kept ({error.strerror or error}).",
                f"{to_do}, or set PLAYGROUND_DATA_DIR to another folder.",
            ) from error

    def forget_header(self, level: HubLevel) -> None:
        """Read the level's header anew next time."""
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
                if not kept.is_dir():  # else somebody else was faster
                    raise
            else:
                Path(arriving).mkdir()  # for the `with` to remove

    def _forget_the_oldest(self) -> None:
        folders = [path for path in self._folder.iterdir() if path.is_dir()]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime)[:-MOST_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)


def _later_header(source: HubByteSource) -> GgufHeader:
    """The header of a shard after the first: a small beginning is enough, unless it turns out not to be."""
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
    """A folder's name for the content of all shards, whatever an etag looks like."""
    return hashlib.sha256("\n".join(f"{file.etag} {_name(file)}" for file in level.files).encode()).hexdigest()[:32]
