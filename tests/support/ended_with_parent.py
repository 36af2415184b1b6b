"""Commands that the kernel ends when the test or benchmark that started them has ended, even if that was killed.

Linux only. Elsewhere such a command runs as it is, and the `with` of what started it ends it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

# 1 is PR_SET_PDEATHSIG, which stays set when another program takes the place of this one.
_ASK_KERNEL: Final = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); os.execvp(sys.argv[1], sys.argv[1:])"
)


def ended_with_parent(command: Sequence[str]) -> list[str]:
    """The same command, which gets SIGTERM when its parent has ended. Start it in a thread that lives as long."""
    return [sys.executable, "-S", "-c", _ASK_KERNEL, *command] if sys.platform == "linux" else list(command)
