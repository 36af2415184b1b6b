"""Files that came up from a browser: gone once they were read, and nothing else with them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder

from playground.web.server.uploads import discard_upload


@pytest.fixture
def uploaded() -> Iterator[Path]:
    folder = Path(get_upload_folder()) / "of-a-test"
    folder.mkdir(parents=True)
    (folder / "skill.md").write_text("Be kind.")
    yield folder / "skill.md"
    shutil.rmtree(folder, ignore_errors=True)


def test_an_upload_that_was_read_leaves_neither_file_nor_folder(uploaded: Path) -> None:
    discard_upload(uploaded)
    assert not uploaded.parent.exists()
    discard_upload(uploaded)  # twice does no harm


def test_a_file_that_is_no_upload_stays(tmp_path: Path, uploaded: Path) -> None:
    mine = tmp_path / "mine.md"
    mine.write_text("Mine.")
    discard_upload(mine)
    link = uploaded.parent / "link.md"
    link.symlink_to(mine)
    discard_upload(link)
    assert mine.exists()
