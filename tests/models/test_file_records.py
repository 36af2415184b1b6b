"""When a model was last used outlives the playground."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.models.file_records import LastUsed


def test_the_last_load_is_known_after_a_restart_and_never_is_told_from_once(tmp_path: Path) -> None:
    times = iter([1000.0, 2000.4])
    used = LastUsed(tmp_path / "data" / "last-used.json", lambda: next(times))
    used.record_load(tmp_path / "a.gguf")
    used.record_load(tmp_path / "a.gguf")
    again = LastUsed(tmp_path / "data" / "last-used.json")
    assert again.last_load_time(tmp_path / "a.gguf") == 2000
    assert again.last_load_time(tmp_path / "b.gguf") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"/a.gguf": "yesterday"}', "\x00"])
def test_a_damaged_list_means_that_nothing_is_known_and_is_begun_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "last-used.json"
    file.write_text(content)
    used = LastUsed(file, lambda: 3000)
    assert used.last_load_time(Path("/a.gguf")) is None
    used.record_load(Path("/a.gguf"))
    assert used.last_load_time(Path("/a.gguf")) == 3000


def test_a_folder_that_cannot_be_written_stops_no_load(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    LastUsed(tmp_path / "data" / "last-used.json").record_load(tmp_path / "a.gguf")
