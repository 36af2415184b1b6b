"""The documents agree with the code: the arrows between folders, the settings, the files and folders that are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from playground.fit.kv_formula import naive_kv_bytes, read_attention
from playground.fit.planner import Planner
from playground.gguf.levels import nominal_bits
from playground.llama.params import ContextParameters
from playground.models.catalog import load_catalog
from playground.settings import Settings, load_settings
from playground.text_format import WORDS_PER_TOKEN
from scripts.draw_imports import TOP_DOWN, drawing, folder_imports, redrawn
from scripts.settings_table import groups, settings_page

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


# --- figures in sentences ---

READER = "Brysbaert"  # M. Brysbaert, How many words do we read per minute?, 2019: the source of every reading speed
TEXTS = {
    name: (PROJECT / name).read_text()
    for name in ("README.md", "docs/scaling.md", "docs/hosting.md", "playground/assets/learn.toml")
}


def test_the_rule_of_thumb_is_off_by_as_much_as_the_readme_says() -> None:
    gemma = next(model for model in load_catalog() if model.id == "gemma4-12b")
    attention = read_attention(gemma.blueprint.metadata)
    assert attention
    with Planner() as planner:
        ratios = [
            naive_kv_bytes(attention, context, "f16")
            / planner.plan(gemma.blueprint, ContextParameters(context, slots=load_settings().slots)).kv_cache
            for context in (32_768, 262_144)
        ]
    sentence = f"it is {ratios[0]:.1f} times at 32K tokens and {ratios[1]:.0f} times at 256K."
    assert sentence in README.replace("\n", " ")


def test_the_sizes_in_the_first_paragraph_are_those_of_the_levels() -> None:
    assert "to about a half, a third or a fifth" in README.replace("\n", " ")
    shares = [nominal_bits(level) / 16 for level in ("Q8_0", "Q4_K_M", "Q2_K")]
    assert shares == pytest.approx([1 / 2, 1 / 3, 1 / 5], rel=0.1)


@pytest.mark.parametrize("name", TEXTS)
def test_a_reading_speed_has_its_source(name: str) -> None:
    """238 English words a minute, and 3 words for 4 tokens, are 5.3 tokens a second."""
    assert round(238 / 60 / WORDS_PER_TOKEN, 1) == 5.3
    for sentence in re.findall(r"[Pp]eople read (?:at )?about[^.]*\d[^.]*\.", TEXTS[name].replace("\n", " ")):
        assert re.search(r"read (?:at )?about 5 ", sentence) and READER in sentence, sentence


@pytest.mark.parametrize("name", TEXTS)
def test_a_token_is_a_part_of_an_english_word(name: str) -> None:
    for sentence in re.findall(r"three quarters of an? [^.;]*", TEXTS[name].replace("\n", " ")):
        assert sentence.startswith("three quarters of an English word"), sentence


# --- the settings ---


def test_the_page_of_settings_is_what_its_script_writes() -> None:
    """`make fix` writes it again."""
    assert (PROJECT / "docs" / "settings.md").read_text() == settings_page()


def test_every_setting_has_a_row_and_belongs_to_a_group() -> None:
    grouped = [name for _, names in groups() for name in names]
    assert sorted(grouped) == sorted(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_a_default_of_a_space_stands_beside_that_of_a_computer() -> None:
    page = settings_page()
    assert "| `PLAYGROUND_MAX_REPLY_TOKENS` | 4096, on a Space 1024 | the longest reply |" in page
    assert "| `PLAYGROUND_ALLOW_DELETE` | true, on a Space false |" in page
    assert "| `PLAYGROUND_HOST` | `127.0.0.1`, on a Space `0.0.0.0` |" in page
