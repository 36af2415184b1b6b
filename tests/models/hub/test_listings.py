"""What is remembered of repositories that were opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.models.hub.listings import ListedLevel, Listings
from playground.models.hub.repository import HubFile, HubLevel, HubModel, Repository


def repository(name: str, *levels: str) -> Repository:
    offered = tuple(HubLevel(name, "main", "Fox-1B", level, (HubFile(f"{level}.gguf", 7, "e"),)) for level in levels)
    return Repository(name, "main", (HubModel("Fox-1B", offered),))


def test_levels_are_known_after_a_restart(tmp_path: Path) -> None:
    Listings(tmp_path / "kept.json").remember(repository("o/r", "Q8_0", "Q4_K_M"))
    again = Listings(tmp_path / "kept.json")
    assert again.levels("o/r", "Fox-1B") == [ListedLevel("Q8_0", 7, "o/r:Q8_0"), ListedLevel("Q4_K_M", 7, "o/r:Q4_K_M")]
    assert again.levels("o/r", "Owl-1B") == [] == again.levels("o/other", "Fox-1B")


@pytest.mark.parametrize("kept", ["", "[]", '{"repositories": {"o/r": [{"level": 1}]}}', "[" * 100_000])
def test_a_damaged_file_only_means_that_nothing_is_known(tmp_path: Path, kept: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(kept)
    listings = Listings(path)
    assert listings.levels("o/r", "Fox-1B") == []
    listings.remember(repository("o/r", "Q8_0"))
    assert len(Listings(path).levels("o/r", "Fox-1B")) == 1


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    listings = Listings(tmp_path / "file" / "kept.json")
    listings.remember(repository("o/r", "Q8_0"))
    assert listings.levels("o/r", "Fox-1B")
