"""Places that are short of something, for a process of its own: a disk that is full, disks that are read-only.

Each is the beginning of a command. What it mounts is seen by that process and its children alone, and gone with them;
permissions would not do, for they do not bind root, and nothing but a full disk behaves as one. Linux; elsewhere, and
where a process may mount nothing, tests that need them are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest

_OWN_MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--propagation", "private"]
_READ_ONLY = """
for folder in /tmp /var/tmp "$PWD" "$HOME"; do
    if [ -d "$folder" ]; then mount --rbind "$folder" "$folder"; mount -o remount,bind,ro "$folder"; fi
done
cd "$PWD"
export TMPDIR="$HOME"
"""
_FULL = f"""{_READ_ONLY}
mount -t tmpfs -o size=1m full "$HOME"
mkdir "$HOME/data" "$HOME/hub"
cat /dev/zero > "$HOME/filler" 2> /dev/null || true
"""


def read_only() -> list[str]:
    """No folder that the playground would use takes a file: its home, the temporary ones, the current one."""
    return _place(_READ_ONLY)


def full_disk() -> list[str]:
    """The home folder, empty at first, lies on a disk without a free byte, and nothing else takes a file either."""
    return _place(_FULL)


def _place(script: str) -> list[str]:
    if not _may_mount():
        pytest.skip("This system lets no process have mounts of its own.")
    return [*_OWN_MOUNTS, "sh", "-ec", f'{script}\nexec "$@"', "sh"]


@cache
def _may_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    script = "mount -t tmpfs -o size=1m test /mnt && mount -o remount,bind,ro /mnt"
    return subprocess.run([*_OWN_MOUNTS, "sh", "-c", script], capture_output=True, check=False).returncode == 0
