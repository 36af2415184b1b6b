"""Where the Hub's cache on disk keeps the files of a repository, and how a finished level is made visible in it.

The layout is huggingface_hub's own, so that every program that knows it finds what was downloaded here, and the other
way round: contents under blobs/, named by their etags; names under snapshots/<commit>/, links to them.

    models--owner--repo/blobs/<etag>   refs/main   snapshots/<commit>/folder/file.gguf
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

from playground.errors import HubProblem
from playground.models.hub.names import check_file_path, check_repo_name
from playground.models.hub.repository import HubFile, HubLevel

_ETAG: Final = re.compile(r"[0-9a-zA-Z_-]{8,128}")  # what may become the name of a file
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class RepoCache:
    """The part of the cache that belongs to one repository. Creates folders only where it writes."""

    def __init__(self, cache_dir: Path, repo: str) -> None:
        self._cache_dir = cache_dir
        self._folder = "models--" + check_repo_name(repo).replace("/", "--")

    @property
    def root(self) -> Path:
        return self._cache_dir / self._folder

    def blob_path(self, file: HubFile) -> Path:
        """Where the whole content of a file lies."""
        if not _ETAG.fullmatch(file.etag):
            raise HubProblem(f"The Hub names the content of {file.path} in a way that is not known.", "Report it.")
        return self.root / "blobs" / file.etag

    def partial_path(self, file: HubFile) -> Path:
        """Where the beginning of a file lies while the rest is still to come."""
        blob = self.blob_path(file)
        return blob.with_name(f"{blob.name}.incomplete")

    def lock_path(self, file: HubFile) -> Path:
        """The file that huggingface_hub locks, too, while it downloads this content."""
        return self._cache_dir / ".locks" / self._folder / f"{self.blob_path(file).name}.lock"

    def pointer_path(self, commit: str, file: HubFile) -> Path:
        """The path under which a file of this commit is found by name."""
        if not _COMMIT.fullmatch(commit):
            raise HubProblem(f"The Hub names a version of {self._folder} in a way that is not known.", "Report it.")
        return self.root / "snapshots" / commit / check_file_path(file.path)

    def has_file(self, file: HubFile) -> bool:
        return _size(self.blob_path(file)) == file.size

    def bytes_here(self, level: HubLevel) -> int:
        """Bytes of the level that need not be downloaded any more."""
        return sum(
            file.size if self.has_file(file) else min(_size(self.partial_path(file)), file.size) for file in level.files
        )

    def publish_level(self, level: HubLevel, with_links: bool = True) -> Path:
        """Give all files of a complete level their names; returns the first one's path.

        The first shard's name comes last: whoever looks in between finds no model yet.
        """
        if not self.is_published(level):
            for file in reversed(level.files):
                pointer = self.pointer_path(level.commit, file)
                if not pointer.exists():
                    pointer.parent.mkdir(parents=True, exist_ok=True)
                    pointer.unlink(missing_ok=True)  # a link to what is gone
                    _place(self.blob_path(file), pointer, with_links)
            self._remember_main(level.commit)
        return self.pointer_path(level.commit, level.files[0])

    def is_published(self, level: HubLevel) -> bool:
        return all(_size(self.pointer_path(level.commit, file)) == file.size for file in level.files)

    def remove_partial_files(self, level: HubLevel) -> None:
        """Remove beginnings of files; whole files stay."""
        for file in level.files:
            self.partial_path(file).unlink(missing_ok=True)

    def _remember_main(self, commit: str) -> None:
        ref = self.root / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        arriving = ref.with_name("main.arriving")
        arriving.write_text(commit)
        arriving.replace(ref)


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written where `folder` is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _place(blob: Path, pointer: Path, with_links: bool) -> None:
    if with_links:
        try:
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            return
        except OSError:
            if pointer.exists():  # somebody else was faster
                return
    shutil.move(blob, pointer)  # a disk without links, as huggingface_hub does there


def _size(path: Path) -> int:
    """Bytes of a file, through links; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
