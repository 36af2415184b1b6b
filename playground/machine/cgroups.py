"""Finds the control groups (cgroups) of Linux that this process is in, from its own up to the highest that can be seen.

Knows where the groups' folders are and how their small text files are read; memory.py and cpus.py interpret the limits.
A limit anywhere on the path to the root counts. In a container the path that the kernel reports may be the host's,
while the mounted tree starts at the container; /proc/self/mountinfo says where it starts. Where none of this exists
(macOS), there are no groups and nothing is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

Version = Literal[1, 2]
_UNIFIED: Final = ""  # the controller field of version 2's line in /proc/self/cgroup: "0::/path"
_SYSTEMD_UNIT: Final = re.compile(r"(?!docker-|libpod-|cri-|crio-|kubepods|lxc).+\.(slice|service|scope)")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")  # mountinfo writes a space in a path as \040


@dataclass(frozen=True)
class Cgroup:
    """One folder of the tree; `name` is its last part, "" for the top of what this process may see."""

    version: Version
    folder: Path
    name: str

    @property
    def systemd_unit(self) -> str | None:
        """The unit that the person at this computer knows the group by, None for a container's."""
        return self.name if _SYSTEMD_UNIT.fullmatch(self.name) else None

    def read_text(self, file: str) -> str:
        return read_small_file(self.folder / file)

    def read_integer(self, file: str) -> int | None:
        """A file with one whole number that is not negative; "max", "-1" and anything else is None."""
        return parse_whole_number(self.read_text(file))

    def read_table(self, file: str) -> dict[str, int]:
        """A file of lines such as "inactive_file 4096"; lines of another form are left out."""
        pairs = (line.split() for line in self.read_text(file).splitlines())
        numbers = {pair[0]: parse_whole_number(pair[1]) for pair in pairs if len(pair) == 2}
        return {key: number for key, number in numbers.items() if number is not None}


def own_cgroups(root: Path, controller: str) -> list[Cgroup]:
    """The groups that may limit this process's `controller` ("memory", "cpu"), nearest first, both versions.

    root: "/" on a real machine; a recorded tree in tests.
    """
    paths = _own_paths(root)
    groups: list[Cgroup] = []
    if _UNIFIED in paths:
        groups += _path_to_the_top(root, 2, paths[_UNIFIED], _mounts(root, None))
    if controller in paths:
        groups += _path_to_the_top(root, 1, paths[controller], _mounts(root, controller))
    return groups


def read_small_file(path: Path) -> str:
    """The file's text, or "" where there is none to read: missing, forbidden, or not text."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except (OSError, ValueError):
        return ""


def parse_whole_number(text: str) -> int | None:
    """A number of at most 20 digits (2**64); None for anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _own_paths(root: Path) -> dict[str, PurePosixPath]:
    """/proc/self/cgroup by controller, from lines such as "4:cpu,cpuacct:/docker/4f1c" and "0::/user.slice"."""
    paths: dict[str, PurePosixPath] = {}
    for line in read_small_file(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and path.startswith("/") and number.isdigit():
            paths |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    return paths


@dataclass(frozen=True)
class _Mount:
    top: PurePosixPath  # the group that is mounted: "/" on a host, "/docker/4f1c" in a container
    point: Path  # where, below `root`


def _mounts(root: Path, controller: str | None) -> list[_Mount]:
    """Where a controller of version 1, or version 2 (None), is mounted; by custom where mountinfo does not say."""
    found = list(_listed_mounts(root, controller))
    if found:
        return found
    base = root / "sys/fs/cgroup"
    folders = [base, base / "unified"] if controller is None else [base / controller, base / "cpu,cpuacct"]
    return [_Mount(PurePosixPath("/"), folder) for folder in folders if os.path.isdir(folder)][:1]


def _listed_mounts(root: Path, controller: str | None) -> Iterator[_Mount]:
    """Lines such as "35 24 0:30 /docker/4f1c /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory"."""
    for line in read_small_file(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] != ("cgroup2" if controller is None else "cgroup"):
            continue
        if controller is None or controller in kind[2].split(","):
            yield _Mount(PurePosixPath(_unescaped(fields[3])), root / _unescaped(fields[4]).lstrip("/"))


def _unescaped(path: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), path)


def _path_to_the_top(root: Path, version: Version, path: PurePosixPath, mounts: list[_Mount]) -> list[Cgroup]:
    """The group's folder and its parents' up to the mount, from the mounts in which the path can be found.

    Where it can be found in none (a path such as "/../../x", seen from another namespace), the first mount's top is
    taken: a container's tree starts at the container.
    """
    inside = [(mount, path.relative_to(mount.top)) for mount in mounts if path.is_relative_to(mount.top)]
    inside = [(mount, rest) for mount, rest in inside if ".." not in rest.parts]
    if not inside:
        inside = [(mount, PurePosixPath()) for mount in mounts[:1]]
    groups: dict[Path, Cgroup] = {}
    for mount, rest in inside:
        for step in (rest, *rest.parents) if rest.parts else (rest,):
            folder = mount.point / step
            groups.setdefault(folder, Cgroup(version, folder, step.name or mount.top.name))
    return list(groups.values())
