"""Whether a folder takes what is written to it, found out by writing a little; and places that need no disk.

Permissions alone do not say it: a full disk, a quota and a disk that is read-only all look open. Knows nothing of what
is kept where.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

from playground.errors import PlaygroundError

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
ENDING: Final = ".making"  # not .gguf: nobody lists it as a model
_IN_MEMORY: Final = Path("/dev/shm")
_PROBE_BYTES: Final = 4096  # a block: a full disk may still take a name


def why_not_writable(folder: Path) -> OSError | None:
    """What happens to whoever writes to the folder, which need not be there yet; None where all is well."""
    try:
        place = folder.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error
    return None


def remedy(error: OSError, otherwise: str) -> str:
    """What to do about it, beginning a sentence: room made on a full disk, else what the caller says."""
    return "Make room on its disk" if error.errno in NO_ROOM else otherwise


def settle_temporary_folder() -> None:
    """Choose the folder for temporary files where none of the usual ones takes any: Linux's in memory, if it does.

    Where there is none at all, one is named anyway. Libraries ask for it while they are imported, and would keep the
    playground from starting on a computer whose disk is full; so only what needs one fails, in its own words.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        in_memory = _IN_MEMORY.is_dir() and why_not_writable(_IN_MEMORY) is None
        tempfile.tempdir = str(_IN_MEMORY) if in_memory else os.environ.get("TMPDIR") or "/tmp"


def nameless_file() -> BinaryIO:
    """A small file for what a child process writes: in memory where the system has that, else on the disk."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("last words"), "w+b", buffering=0)
    return cast(BinaryIO, tempfile.TemporaryFile())


# --- unfinished files ---


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
