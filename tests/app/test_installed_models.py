"""The shelf over a real disk: what is dropped is kept or leaves nothing, and the day of the last use is remembered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.app.models import InstalledModels
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.llama.params import ContextParameters
from playground.settings import load_settings
from playground.web.html.models import installed_models as rows
from tests.support.gguf_bytes import small_model, split_model


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Services(load_settings(data_dir=tmp_path / "data")) as services:
        yield services


def shelf_of(services: Services) -> InstalledModels:
    return InstalledModels(services.settings, services.library, services.last_used)


def arrived(tmp_path: Path, name: str, content: bytes) -> str:
    """A file where uploads come to lie."""
    path = tmp_path / "uploads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_dropped_model_is_moved_into_the_data_folder_and_may_be_deleted(services: Services, tmp_path: Path) -> None:
    installed_models = shelf_of(services)
    upload = arrived(tmp_path, "Tiny-Q4_0.gguf", small_model())
    inode = Path(upload).stat().st_ino
    (file,) = installed_models.keep_uploads([upload])
    assert file.origin == "dropped here" and file.path.stat().st_ino == inode  # the same bytes, not a copy of them
    assert files_in(tmp_path / "uploads") == []
    row = next(row for row in installed_models.view().rows if row.file == file)
    assert row.may_be_deleted and installed_models.delete_model(row.key) == file
    assert files_in(services.library.dropped_folder) == []


def test_all_parts_of_a_model_come_together_or_not_at_all(services: Services, tmp_path: Path, starter: Path) -> None:
    installed_models = shelf_of(services)
    parts = [
        arrived(tmp_path, f"Fox-Q4_1-{number:05d}-of-00003.gguf", part.whole())
        for number, part in enumerate(split_model(starter, 3), 1)
    ]
    with pytest.raises(PlaygroundError, match=r"only part of a model.*all of its parts"):
        installed_models.keep_uploads(parts[:1])
    assert files_in(services.library.dropped_folder) == []
    first = arrived(tmp_path, Path(parts[0]).name, split_model(starter, 3)[0].whole())
    (file,) = installed_models.keep_uploads([first, *parts[1:]])
    assert len(file.shards) == 3 and files_in(tmp_path / "uploads") == []


@pytest.mark.parametrize(
    ("content", "words"), [(b"<html>", "GGUF"), (b"", "empty"), (small_model()[:-1000], "cut off")]
)
def test_what_is_no_sound_model_is_refused_and_leaves_nothing(
    services: Services, tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(PlaygroundError, match=words):
        shelf_of(services).keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", content)])
    assert files_in(tmp_path / "uploads") == [] and files_in(services.library.dropped_folder) == []


def test_a_second_file_of_the_same_name_does_not_replace_the_first(services: Services, tmp_path: Path) -> None:
    installed_models = shelf_of(services)
    (file,) = installed_models.keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", small_model(1))])
    with pytest.raises(PlaygroundError, match=r"dropped here before.*Delete that one first"):
        installed_models.keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", small_model(2))])
    assert file.path.read_bytes() == small_model(1)


def test_where_files_may_not_be_opened_none_is_kept(services: Services, tmp_path: Path) -> None:
    services.settings = services.settings.model_copy(update={"allow_local_files": False})
    with pytest.raises(PlaygroundError, match="cannot be dropped here"):
        shelf_of(services).keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", small_model())])
    with pytest.raises(PlaygroundError, match="No file arrived"):
        InstalledModels(load_settings(data_dir=tmp_path / "data"), services.library, services.last_used).keep_uploads(
            []
        )


def test_a_model_was_last_used_on_the_day_it_was_loaded_and_never_before(services: Services, starter: Path) -> None:
    installed_models = shelf_of(services)
    assert "last used –" in re.sub("<[^>]*>", "", rows(installed_models.view()))
    opening = services.pool.lease_model(starter, ContextParameters(512, slots=1))
    while True:
        try:
            next(opening)
        except StopIteration as end:
            end.value.release()
            break
    assert re.search(r"last used \d{1,2} [A-Z][a-z]+ \d{4}", re.sub("<[^>]*>", "", rows(installed_models.view())))
    again = Services(services.settings)
    assert again.last_used.last_load_time(starter) is not None
    again.close()
