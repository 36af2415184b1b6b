"""A model whose file name is not UTF-8, as old disks have them: listed, planned, loaded, and shown as readable text."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from playground.__main__ import main
from playground.app.models import ModelsService
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.fit.planner import Planner
from playground.gguf.filenames import parse_file_name
from playground.llama.params import ContextParameters
from playground.models.file_records import FileChecksums
from playground.models.library import Library
from playground.quantize.quantize import QuantizedFile, estimate_level, quantize_file
from playground.settings import load_settings
from playground.text_format import replace_surrogates

NAME = b"mod\xe8le-Q4_1.gguf"  # Latin-1
REPLACED = "\N{REPLACEMENT CHARACTER}"
SHOWN = f"mod{REPLACED}le"


@pytest.fixture(scope="module")
def model(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter under that name."""
    path = tmp_path_factory.mktemp("models") / os.fsdecode(NAME)
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    shutil.copyfile(starter, path)
    return path


@pytest.fixture(autouse=True)
def own_folders(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The playground looks into that model's folder, and into no other one of this computer."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLAYGROUND_MODEL_DIRS", str(model.parent))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_name_that_is_not_utf_8_is_parsed_to_readable_text() -> None:
    name = parse_file_name(os.fsdecode(NAME))
    assert name is not None and (name.base_name, name.level) == (SHOWN, "Q4_1")


def test_the_library_lists_it_and_finds_it_by_its_name(model: Path) -> None:
    library = Library(load_settings())
    (file,) = [file for file in library.files() if file.base_name == SHOWN]
    assert file.path == model and file.file_name == f"{SHOWN}-Q4_1.gguf"
    assert library.find_file(file.reference) == file
    assert library.find_file(str(model)) == file


def test_its_memory_is_planned(model: Path) -> None:
    with Planner() as planner:
        assert planner.plan(model, ContextParameters(2048)).weights > 90_000_000


def test_it_is_loaded_and_answers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = printed(capsys, "chat", str(model), "-p", "Hi", "--max-tokens", "4", "--context", "512", "--json")
    assert json.loads(answer)["text"]


def test_the_command_line_shows_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Q4_1" in printed(capsys, "levels", str(model))
    (level,) = json.loads(printed(capsys, "levels", str(model), "--json"))["levels"]
    assert Path(level["files"][0]) == model


def test_the_page_gets_readable_names_of_it_and_of_a_broken_file_beside_it(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data" / "models" / os.fsdecode(b"broken-\xff-Q8_0.gguf")
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"GGUF")
    with Services(load_settings()) as services:
        view = ModelsService(services).installed_models.view()
    names = [row.file.display_name for row in view.rows] + [file.file_name for file in view.left_out]
    assert f"Mod{REPLACED}le" in names and f"broken-{REPLACED}-Q8_0.gguf" in names


def test_another_level_is_made_of_it(model: Path, tmp_path: Path) -> None:
    target = tmp_path / os.fsdecode(b"mod\xe8le-Q2_0.gguf")
    assert estimate_level(model, "Q2_0").size > 0
    *_, made = quantize_file(model, "Q2_0", target, threads=2)
    assert isinstance(made, QuantizedFile) and target.stat().st_size == made.size


def test_its_checksum_is_kept(model: Path, tmp_path: Path) -> None:
    (file,) = [file for file in Library(load_settings()).files() if file.path == model]
    list(FileChecksums(tmp_path / "checksums.json").compute_checksums([file]))
    assert FileChecksums(tmp_path / "checksums.json").known_checksums(file)


def test_an_error_about_it_is_readable_text() -> None:
    error = PlaygroundError(f"{os.fsdecode(NAME)} is damaged.", f"Delete {os.fsdecode(NAME)}.")
    assert str(error) == f"{SHOWN}-Q4_1.gguf is damaged. Delete {SHOWN}-Q4_1.gguf."


@pytest.mark.parametrize(("text", "shown"), [("plain é 🦊", "plain é 🦊"), ("\udce8\ud800", "\ufffd\ufffd"), ("", "")])
def test_only_surrogates_are_replaced(text: str, shown: str) -> None:
    assert replace_surrogates(text) == shown
