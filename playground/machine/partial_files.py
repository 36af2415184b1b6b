"""A file in the making: under another name in its own folder, locked while its maker lives, gone unless it is renamed.

Knows nothing of what is in it. The lock is the kernel's (flock), so it ends with its process, however that ends: an
unlocked file of this kind is a leftover of a crash and is removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from playground.errors import PlaygroundError
from playground.machine.files import remedy

ENDING: Final = ".making"  # not .gguf: nobody lists it as a model


@contextmanager
def unfinished_file(target: Path) -> Iterator[Path]:
    """An empty file beside `target` to write to and then rename; removed at the end if that did not happen.

    Makes the folder where it is missing. Raises PlaygroundError when the folder cannot be written to, or when `target`
    is being made by someone else right now.
    """
    folder = target.parent
    path = folder / f".{target.name}{ENDING}"
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
        descriptor = _create(path)
    except OSError as error:
        _remove_empty(missing)
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise PlaygroundError(f"{target.name} is being made right now.", "Wait for it.") from None
        to_do = remedy(error, "Allow writing there, or choose another folder")
        why = f"The folder {folder.name} cannot be written to: {error.strerror}."
        raise PlaygroundError(why, f"{to_do}.") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(missing)


def _create(path: Path) -> int:
    """A descriptor of the new, locked file; raises FileExistsError where a living process has it."""
    while True:
        remove_leftovers(path.parent)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        with suppress(OSError):  # a disk that knows no locks; leftovers on it are for a person to remove
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # someone took it for a leftover before it was locked


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files whose makers are gone; what is locked, or not ours to delete, stays."""
    for path in folder.glob(f".*{ENDING}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its maker lives
                path.unlink()
            finally:
                os.close(descriptor)


def _remove_empty(folders: Iterable[Path]) -> None:
    """The folders made for nothing, the innermost first; one that holds anything stays."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
