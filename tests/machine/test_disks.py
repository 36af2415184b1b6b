"""The speed of a disk, measured on a file that lies on it."""

from __future__ import annotations

import os
from pathlib import Path

from playground.machine.disks import disk_read_speed


def test_a_file_on_a_disk_tells_how_fast_it_is_read(starter: Path) -> None:
    speed = disk_read_speed(starter)
    assert speed is not None and speed > 0
    assert disk_read_speed(starter) == speed  # measured once


def test_a_stand_in_a_folder_and_a_missing_file_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "stand-in").touch()
    os.truncate(tmp_path / "stand-in", 1 << 30)
    assert [disk_read_speed(tmp_path / name) for name in ("stand-in", "missing", "folder")] == [None] * 3
