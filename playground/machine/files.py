"""Whether a folder takes what is written to it, found out by writing a little; and places that need no disk.

Permissions alone do not say it: a full disk, a quota and a disk that is read-only all look open. Knows nothing of what
is kept where.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, Final, cast

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
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
