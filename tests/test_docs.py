"""The documents agree with the code: the arrows between folders, the settings, the files and folders that are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from playground.settings import Settings
from scripts.draw_imports import TOP_DOWN, drawing, folder_imports, redrawn

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "playground"
DEVELOPMENT = (PROJECT / "docs" / "development.md").read_text()
README = (PROJECT / "README.md").read_text()


def test_the_arrows_between_the_folders_are_those_of_the_imports() -> None:
    """`make fix` draws them again."""
    assert redrawn(DEVELOPMENT, folder_imports(PACKAGE)) == DEVELOPMENT


def test_an_import_becomes_an_arrow(tmp_path: Path) -> None:
    for folder, source in (("web", "def later():\n    from shop.app.chat import send"), ("app", "import os")):
        (tmp_path / "shop" / folder).mkdir(parents=True)
        (tmp_path / "shop" / folder / "__init__.py").write_text(source)
    imports = folder_imports(tmp_path / "shop")
    assert imports == {"web": {"app"}, "app": set()}
    assert "| `web/` | → `app/` |\n| `app/` | – |" in drawing(imports)


def test_every_folder_has_its_row_in_the_readme_and_its_place_in_the_picture() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(TOP_DOWN) == folders
    assert set(re.findall(r"^\| `playground/(\w+)/` \|", README, re.MULTILINE)) == folders | {"assets"}
    picture = DEVELOPMENT.split("```")[1]
    assert folders <= set(re.findall(r"(\w+)/", picture))


@pytest.mark.parametrize("name", ["docs/development.md", "CONTRIBUTING.md"])
def test_every_file_that_a_guide_names_is_there(name: str) -> None:
    text = (PROJECT / name).read_text()
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|md|toml))`", text)) | set(re.findall(r"`((?:\w+/)+)`", text))
    assert named
    assert [one for one in sorted(named) if not (PACKAGE / one).exists() and not (PROJECT / one).exists()] == []
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (PROJECT / name).parent.joinpath(target).exists(), target


def test_every_setting_has_its_row_in_the_readme() -> None:
    rows = re.findall(r"^\| `PLAYGROUND_([A-Z_]+)` \|", README, re.MULTILINE)
    assert sorted(name.lower() for name in rows) == sorted(Settings.model_fields)
