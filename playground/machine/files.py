"""Files on this computer's disks: whether a folder can be written to, and files that appear only when they are whole.

Permissions alone do not say whether a folder can be written to: a full disk, a quota and a read-only disk all look
open, so `why_not_writable` writes a little. Two kinds of files appear under their name only when they are whole:
`write_json_atomically` for a small record, `unfinished_file` for a large file that takes its time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from playground.errors import PlaygroundError

DISK_FULL_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT)
UNFINISHED_SUFFIX: Final = ".making"  # not .gguf: no list of models shows it
_SHARED_MEMORY: Final = Path("/dev/shm")
_PROBE_BYTES: Final = 4096  # a block: a full disk may still take an empty file


def why_not_writable(folder: Path) -> OSError | None:
    """The error that writing a file into the folder meets, or None. The folder need not exist yet, and is not made."""
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


def free_disk_bytes(folder: Path) -> int:
    """Bytes that can still be written where `folder` is; it need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def damaged_file_path(path: Path) -> Path:
    """A new name beside `path` for a damaged file: votes.sqlite.damaged-20261124-101500-123456."""
    moment = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    return path.with_name(f"{path.name}.damaged-{moment}")


def write_remedy(error: OSError, otherwise: str) -> str:
    """What to do about a failed write, as the beginning of a sentence: `otherwise`, unless the disk is full."""
    return "Make room on its disk" if error.errno in DISK_FULL_ERRORS else otherwise


def choose_temporary_folder() -> None:
    """Set Python's folder for temporary files if none of the usual ones can be written to: to /dev/shm where that can.

    Where there is none at all, one is set anyway. Libraries ask for the folder while they are imported, and would keep
    the playground from starting on a computer whose disk is full; so only what really needs a temporary file fails.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        in_memory = _SHARED_MEMORY.is_dir() and why_not_writable(_SHARED_MEMORY) is None
        tempfile.tempdir = str(_SHARED_MEMORY) if in_memory else os.environ.get("TMPDIR") or "/tmp"


def write_json_atomically(path: Path, data: Any) -> None:
    """Write `data` as JSON to `path`; a reader sees the old content or the new one, never a part.

    Makes the folder where it is missing. If several threads or processes write, the last one wins. The content is
    not forced onto the disk (no fsync): that would make the caller wait for seconds while a download writes gigabytes,
    and every file written here can be lost in a power cut without harm.
    Raises PlaygroundError with what to do when the file cannot be written; the old content then stays.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(data, indent=1), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise _not_writable(path.parent, error) from error


@contextmanager
def unfinished_file(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, to be written and then renamed; removed at the end if it was not renamed.

    It is locked by this process (flock), and the kernel ends the lock with the process: an unlocked file of this kind
    is left over from a crash, and `remove_leftovers` deletes it.
    Makes the folder where it is missing. Raises PlaygroundError when the folder cannot be written to, or when another
    process or thread is writing `target` right now.
    """
    folder = target.parent
    path = folder / f".{target.name}{UNFINISHED_SUFFIX}"
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
        descriptor = _create_locked(path)
    except OSError as error:
        _remove_empty_folders(missing)
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise PlaygroundError(f"{target.name} is being made right now.", "Wait for it.") from None
        raise _not_writable(folder, error) from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty_folders(missing)


def remove_leftovers(folder: Path) -> None:
    """Delete unfinished files whose process is gone; those that are locked, or not ours to delete, stay."""
    for path in folder.glob(f".*{UNFINISHED_SUFFIX}"):
        with suppress(OSError):
            remove_if_unlocked(path)


def remove_if_unlocked(path: Path, *, wait: bool = False) -> None:
    """Delete an unfinished file. Raises OSError when its process lives, or when it cannot be deleted.

    wait: its process is just ending, and the kernel may not have ended the lock yet.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        path.unlink()
    finally:
        os.close(descriptor)


def _create_locked(path: Path) -> int:
    """A descriptor of the new, locked file. Raises FileExistsError when a living process holds it."""
    while True:
        remove_leftovers(path.parent)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        with suppress(OSError):  # a disk without locks; leftovers on it have to be removed by a person
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process removed it as a leftover before it was locked


def _remove_empty_folders(folders: Iterable[Path]) -> None:
    """Remove folders that were made for nothing, the innermost first; one that holds anything stays."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _not_writable(folder: Path, error: OSError) -> PlaygroundError:
    remedy = write_remedy(error, "Allow writing there, or choose another folder")
    return PlaygroundError(f"The folder {folder.name} cannot be written to: {error.strerror}.", f"{remedy}.")
