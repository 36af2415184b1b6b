"""Says what becomes of memory that this process has freed, where the C library is glibc; elsewhere nothing happens.

glibc gives a large block back to the kernel the moment it is freed. A process that asks for the same block again and
again then pays each time for hundreds of megabytes of fresh pages, which costs far more than filling them.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_MAX: Final = -4
_NEVER: Final = 2**31 - 1  # bytes, as much as mallopt's int can say


def keep_freed_memory() -> None:
    """From now on what is freed stays with this process for its next allocations, large blocks too."""
    if (mallopt := _c_function("mallopt")) is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def give_back_freed_memory() -> None:
    """The kernel gets what is free now; what is in use stays where it is."""
    if (trim := _c_function("malloc_trim")) is not None:
        trim(ctypes.c_size_t(0))


def _c_function(name: str) -> Any:
    """A function of the C library in this process; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None)
