"""The Models tab's markup: what it says of files, repositories and downloads, and that none of it is markup itself."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from playground.app.first_models import CatalogueRow, CatalogueView
from playground.app.hub.view import HubView, SearchView
from playground.app.model_picker.choice import LevelRow
from playground.app.models import InstalledModelRow, InstalledModelsView, MakeableView
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.gguf.tensors import TensorType
from playground.llama.params import ContextParameters
from playground.models.catalog import load_catalog
from playground.models.disk_scan import LeftOut
from playground.models.hub.client import FoundRepository
from playground.models.hub.download_queue import Download, DownloadState
from playground.models.hub.repository import HubFile, HubLevel, Repository, read_models
from playground.models.model_file import ModelFile, Origin
from playground.quantize.quantize import QuantizedSize
from playground.web.html.models import (
    downloads,
    first_model_cards,
    hub_facts,
    hub_levels,
    installed_models,
    makeable_choices,
    makeable_facts,
    repository_head,
    search_results,
)

MB, GB = 10**6, 10**9
EVIL = "<img src=x onerror=alert(1)>\"'`${x}"
LEVEL = HubLevel("test/Fox-GGUF", "c" * 40, "Fox-135M", "Q4_1", (HubFile("Fox-135M-Q4_1.gguf", 94 * MB, "e" * 40),))


def text_of(markup: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup))).strip()


def a_row(
    origin: Origin = "starter", repo: str | None = None, *, may_be_deleted: bool = False, last_used: int | None = None
) -> InstalledModelRow:
    path = Path("/somewhere/private/Fox-Q4_1.gguf")
    file = ModelFile(path, (path,), "Fox", "Q4_1", 94 * MB, origin, repo)
    return InstalledModelRow("abc", file, 5.7, "Made from Q8_0.", may_be_deleted, last_used)


def shelf(*rows: InstalledModelRow, left_out: tuple[LeftOut, ...] = ()) -> str:
    return installed_models(InstalledModelsView(rows, left_out, 76 * GB))


# --- on this disk ---


def test_a_model_here_is_told_with_size_bits_origin_and_last_use() -> None:
    text = text_of(shelf(a_row(last_used=1_800_000_000)))
    assert "Fox Q4_1 94.0 MB · 5.7 bits · comes with the playground · last used 15 January 2027 Made from Q8_0." in text
    assert "1 model file · 76.0 GB free on this disk." in text
    assert "never used" in shelf(a_row())


@pytest.mark.parametrize(
    ("origin", "repo", "words"),
    [
        ("folder", None, "from a models folder"),
        ("made here", None, "made here"),
        ("hub cache", "a/b", "from a/b"),
        ("LM Studio", None, "found in LM Studio"),
        ("LM Studio", "a/b", "from a/b, found in LM Studio"),
    ],
)
def test_where_a_model_comes_from_is_told_in_words(origin: Origin, repo: str | None, words: str) -> None:
    assert f" · {words} · " in text_of(shelf(a_row(origin, repo)))


def test_only_a_row_that_may_be_deleted_offers_it_and_none_names_a_folder() -> None:
    assert 'data-value="delete abc" aria-label="Delete Fox Q4_1"' in shelf(a_row(may_be_deleted=True))
    assert "delete abc" not in shelf(a_row()) and "/somewhere" not in shelf(a_row())
    for action in ("chat", "compare", "make"):
        assert f'data-value="{action} abc"' in shelf(a_row())


def test_an_empty_disk_says_what_to_do() -> None:
    assert "No model on this computer yet Download one of the models above, or search for another." in text_of(shelf())


def test_a_file_that_was_left_out_is_named_with_the_reason() -> None:
    text = text_of(shelf(left_out=(LeftOut(Path("/x/broken.gguf"), "It is cut off."),)))
    assert "1 file left out broken.gguf : It is cut off." in text and "/x/" not in text


def test_a_level_that_can_be_made_is_told_with_its_exact_size() -> None:
    size = QuantizedSize(
        "Q2_0", 62_000_000, 60_000_000, 3.57, TensorType.Q2_0, 272, fallbacks=(), requantized_from=None
    )
    view = MakeableView((), "Fox", (size,), size)
    assert makeable_choices(view) == [("Q2_0 · 62.0 MB · 3.6 bits", "Q2_0")]
    assert makeable_facts(view).startswith("62.0 MB (62,000,000 bytes) · 3.6 bits.")
    assert makeable_facts(MakeableView()).startswith("Nothing to make yet")


# --- the first models ---


@pytest.mark.parametrize(("file_size", "is_explained"), [(2 * GB, True), (GB, False)])
def test_a_card_whose_memory_is_less_than_its_file_says_why(file_size: int, is_explained: bool) -> None:
    plan = MemoryPlan(ContextParameters(8192), GB, 0, MB, 0, MB, 0, MB)
    card = CatalogueRow(load_catalog()[0], "Q4_K_M", file_size, plan=plan, role="small")
    shown = text_of(first_model_cards(CatalogueView((card,)), may_download=True))
    assert ("1.00 GB answers do not read all of the file" in shown) == is_explained


def test_offline_a_card_can_be_pressed_only_where_its_model_is_here() -> None:
    plan = MemoryPlan(ContextParameters(8192), GB, 0, MB, 0, MB, 0, MB)
    away = CatalogueRow(load_catalog()[0], "Q4_K_M", GB, plan=plan, role="small")
    view = CatalogueView((away, replace(away, role="comfortable", is_here=True)))
    buttons = re.findall(r"<button[^>]*>[^<]*", first_model_cards(view, may_download=True, is_offline=True))
    assert [(" disabled" in button, button.rpartition(">")[2]) for button in buttons] == [
        (True, "Download and chat"),
        (False, "Chat"),
    ]


# --- on the Hub ---


def test_a_search_shows_repositories_and_leaves_out_what_is_unknown() -> None:
    known = FoundRepository("a/b", 9000, 12, "apache-2.0", False, 134_515_008)
    text = text_of(search_results(SearchView("fox", (known, FoundRepository("c/d", 1, 0, None, True)))))
    assert "a/b 135M · 9,000 downloads · 12 likes · apache-2.0 Open" in text
    assert "c/d 1 download · 0 likes · licence must be accepted first Open" in text


def test_a_search_without_a_result_says_so_and_an_empty_one_says_nothing() -> None:
    assert "No GGUF model matches these words." in search_results(SearchView("fox"))
    assert search_results(SearchView("")) == ""
    refused = search_results(SearchView("fox", error=PlaygroundError("No connection.", "Models here work.")))
    assert text_of(refused) == "No connection. Models here work." and "gp-error" not in refused


def test_the_facts_of_a_level_say_what_they_rest_on() -> None:
    plan = MemoryPlan(ContextParameters(4096), GB, 0, MB, 0, MB, 0, MB)
    view = HubView(chosen=LEVEL, plan=plan, context_size=4096, largest_context=8192, is_exact=True)
    assert text_of(hub_facts(view)) == (
        "With 4,096 tokens of context. The largest context that fits is 8,192 tokens. "
        "Computed by llama.cpp from the file’s header."
    )
    unfit = replace(view, largest_context=None, is_exact=False)
    assert "No context size fits with this level. Estimated from the file size" in text_of(hub_facts(unfit))
    assert hub_facts(replace(view, plan=None)) == ""


# --- downloads ---


def test_a_running_download_shows_its_share_its_speed_and_a_button_to_cancel_it() -> None:
    markup = downloads([Download("id", LEVEL, "downloading", 47 * MB, 94 * MB, 12.3 * MB, 4.0)])
    assert "Fox-135M Q4_1 Downloading · 47.0 MB of 94.0 MB · 50% · 12.3 MB/s · about 4 s left" in text_of(markup)
    assert 'aria-valuenow="50"' in markup and 'data-value="cancel id"' in markup and "resume id" not in markup


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_a_download_that_ended_early_can_be_resumed_or_removed_from_the_list(state: DownloadState) -> None:
    markup = downloads([Download("id", LEVEL, state, 1, 94 * MB, note="The Hub ended it.")])
    assert text_of(markup).endswith("under 1% The Hub ended it. Resume Remove")
    assert 'data-value="resume id"' in markup and 'data-value="forget id"' in markup and "cancel id" not in markup


def test_a_download_that_is_done_says_where_its_model_is_now() -> None:
    done = text_of(downloads([Download("id", LEVEL, "done", 94 * MB, 94 * MB)]))
    assert "Done · 94.0 MB · now in every model list Remove" in done
    assert downloads([]) == ""


# --- what comes from outside is shown, never run ---


def test_names_from_the_hub_and_from_files_are_escaped() -> None:
    files = [HubFile("Fox-Q4_0.gguf", 10, "e" * 40), HubFile("Hen-Q4_0.gguf", 10, "f" * 40)]
    models, _ = read_models("a/b", "c" * 40, files)
    models = tuple(replace(model, base_name=EVIL) for model in models)
    repository = Repository(EVIL, "c" * 40, models, licence=EVIL, renamed_from=EVIL)
    rows = tuple(LevelRow(level.key, EVIL, 1, None, EVIL, None) for level in repository.levels)
    level = replace(repository.levels[0], base_name=EVIL, level=EVIL)
    row = a_row()
    evil_row = replace(row, key=EVIL, note=EVIL, may_be_deleted=True, file=replace(row.file, level=EVIL, repo=EVIL))
    for markup in (
        hub_levels(HubView(repository, rows, level), EVIL),
        repository_head(repository, EVIL),
        search_results(SearchView("x", (FoundRepository(EVIL, 1, 1, EVIL, True),))),
        downloads([Download(EVIL, level, "failed", 1, 10, note=EVIL)]),
        shelf(evil_row, left_out=(LeftOut(Path(EVIL.replace("/", "")), EVIL),)),
    ):
        assert "<img" not in markup and "onerror=alert(1)>" not in markup and "&lt;img" in markup
        assert not re.search(r'="[^"<>]*<', markup)
