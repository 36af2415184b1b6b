"""The Hub's cache on disk: where it keeps the files of a repository, and how a finished level gets its names.

The layout is huggingface_hub's own, so other programs find what was downloaded here, and this one what they
downloaded: contents are in blobs/ under their etags; in snapshots/<commit>/ are links to them under the files' names.

    models--owner--repo/blobs/<etag>   refs/main   snapshots/<commit>/folder/file.gguf
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

from huggingface_hub.file_download import repo_folder_name

from playground.errors import HubProblem
from playground.models.hub.names import check_file_path, check_repo_name
from playground.models.hub.repository import HubFile, HubLevel

_ETAG: Final = re.compile(r"[0-9a-zA-Z_-]{8,128}")  # others are not used as file names
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class RepoCache:
    """The folder of one repository in the cache. Makes folders only when it writes."""

    def __init__(self, cache_dir: Path, repo: str) -> None:
        self._cache_dir = cache_dir
        self._folder = repo_folder_name(repo_id=check_repo_name(repo), repo_type="model")

    @property
    def root(self) -> Path:
        return self._cache_dir / self._folder

    def blob_path(self, file: HubFile) -> Path:
        """Where the content of a file is, once complete."""
        if not _ETAG.fullmatch(file.etag):
            raise HubProblem(f"The Hub names the content of {file.path} in an unknown way.", "Report it.")
        return self.root / "blobs" / file.etag

    def partial_path(self, file: HubFile) -> Path:
        """Where the first part of a file is until the rest has arrived."""
        blob = self.blob_path(file)
        return blob.with_name(f"{blob.name}.incomplete")

    def lock_path(self, file: HubFile) -> Path:
        """The file that huggingface_hub, too, locks while it downloads this content."""
        return self._cache_dir / ".locks" / self._folder / f"{self.blob_path(file).name}.lock"

    def pointer_path(self, commit: str, file: HubFile) -> Path:
        """The path of a file of this commit, under its name."""
        if not _COMMIT.fullmatch(commit):
            raise HubProblem(f"The Hub names a version of {self._folder} in an unknown way.", "Report it.")
        return self.root / "snapshots" / commit / check_file_path(file.path)

    def has_file(self, file: HubFile) -> bool:
        return _size(self.blob_path(file)) == file.size

    def bytes_here(self, level: HubLevel) -> int:
        """Bytes of the level that are on this disk already."""
        return sum(
            file.size if self.has_file(file) else min(_size(self.partial_path(file)), file.size) for file in level.files
        )

    def publish_level(self, level: HubLevel, with_links: bool = True) -> Path:
        """Give all files of a complete level their names. Returns the path of the first shard.

        The first shard gets its name last, so that nobody finds a model of which a part is missing.
        """
        if not self.is_published(level):
            for file in reversed(level.files):
                pointer = self.pointer_path(level.commit, file)
                if not pointer.exists():
                    pointer.parent.mkdir(parents=True, exist_ok=True)
                    pointer.unlink(missing_ok=True)  # a broken link
                    _place(self.blob_path(file), pointer, with_links)
            self._remember_main(level.commit)
        return self.pointer_path(level.commit, level.files[0])

    def is_published(self, level: HubLevel) -> bool:
        return all(_size(self.pointer_path(level.commit, file)) == file.size for file in level.files)

    def remove_partial_files(self, level: HubLevel) -> None:
        """Delete the parts of incomplete files; complete files stay."""
        for file in level.files:
            self.partial_path(file).unlink(missing_ok=True)

    def _remember_main(self, commit: str) -> None:
        ref = self.root / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        new_ref = ref.with_name("main.arriving")
        new_ref.write_text(commit)
        new_ref.replace(ref)


def _place(blob: Path, pointer: Path, with_links: bool) -> None:
    if with_links:
        try:
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            return
        except OSError:
            if pointer.exists():  # made by another program meanwhile
                return
    shutil.move(blob, pointer)  # a disk without links: huggingface_hub does the same


def _size(path: Path) -> int:
    """Bytes of a file, through links; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
