"""The Models tab's desk with the real starter and the Hub on loopback: what a person sees, view by view."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from playground.app.hub import WORKED_OUT, HubView, SearchView
from playground.app.model_choice import LevelRow
from playground.app.model_picker import ModelPickerService, PickerView
from playground.app.models import InstalledModelsView, ModelsService, size_line
from playground.app.services import Services
from playground.errors import ModelNotFound, PlaygroundError
from playground.limits.limits import Limits
from playground.limits.runs import Runs, Visitor
from playground.models.disk_scan import LeftOut
from playground.models.hub.client import FoundRepository, HubClient, RetryPolicy
from playground.models.hub.download_queue import Download
from playground.models.hub.repository import HubFile, HubLevel, Repository, read_models
from playground.quantize.quantize import QuantizedFile, quantize_file
from playground.settings import load_settings
from playground.web.html.models import (
    downloads,
    hub_facts,
    hub_levels,
    installed_models,
    repository_head,
    search_results,
)
from tests.support.hub_stand_in import HubStandIn

STARTER = "SmolLM2-135M-Instruct"
REPO = "test/Fox-135M-GGUF"
MIB = 1 << 20
SOON = 20.0  # seconds; a test that needs them has failed
EVIL = "<img src=x onerror=alert(1)>\"'`${x}"


@pytest.fixture(scope="module")
def low_level(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter at Q2_0, as somebody else may have put it on the Hub."""
    *_, made = quantize_file(starter, "Q2_0", tmp_path_factory.mktemp("made") / "Fox-135M-Q2_0.gguf", threads=2)
    assert isinstance(made, QuantizedFile)
    return made.path


@pytest.fixture
def server(starter: Path, low_level: Path) -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        files = {"Fox-135M-Q4_1.gguf": starter, "Fox-135M-Q2_0.gguf": low_level}
        server.add(REPO, files, downloads=9000, likes=12, parameters=134_515_008)
        server.add("test/Gated-GGUF", {"Gated-Q4_K_M.gguf": b"GGUF" * 100}, gated="manual")
        yield server


@pytest.fixture
def services(server: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Services(load_settings(data_dir=tmp_path / "data")) as services:
        services.hub = HubClient(server.endpoint, cache_dir=tmp_path / "hub")
        yield services


@pytest.fixture
def service(services: Services) -> ModelsService:
    return ModelsService(services)


@pytest.fixture
def picker(services: Services) -> ModelPickerService:
    settings = services.settings
    return ModelPickerService(
        services.library, services.planner, services.pool.usable_bytes_for, settings.slots, services.quantization_jobs
    )


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def opened(service: ModelsService, reference: str = REPO) -> HubView:
    return list(service.hub.open_repository(reference))[-1]


def level_of(view: HubView, name: str) -> HubLevel:
    assert view.repository
    return next(level for level in view.repository.levels if level.level == name)


def row_of(view: HubView | PickerView, name: str) -> LevelRow:
    rows = view.rows if isinstance(view, HubView) else (*view.levels, *view.makeable)
    return next(row for row in rows if row.name == name)


def fetch(service: ModelsService, services: Services, name: str) -> Download:
    level = level_of(opened(service), name)
    service.start_download(REPO, level.key)
    return services.downloads.wait_for_end(level.key, SOON)


def never() -> bool:
    return False


# --- on this disk ---


def test_what_is_here_is_told_with_size_true_bits_and_origin(service: ModelsService, starter: Path) -> None:
    view = service.installed_models.view()
    (row,) = view.rows
    assert (row.file.path, row.may_be_deleted) == (starter, False)
    assert "94 MiB · 5.7 bits · starter" in text_of(installed_models(view)) and "free on this disk" in text_of(
        installed_models(view)
    )


def test_a_made_level_is_listed_deleted_after_a_question_and_the_starter_never(
    service: ModelsService, services: Services, starter: Path
) -> None:
    frames = list(service.make_level(STARTER, "Q2_0", never))
    assert frames[-1].is_made
    made = next(row for row in service.installed_models.view().rows if row.file.level == "Q2_0")
    assert made.may_be_deleted and f'data-value="delete {made.key}"' in installed_models(
        service.installed_models.view()
    )
    service.installed_models.delete_model(made.key)
    assert not made.file.path.exists() and not made.file.path.parent.exists()
    (left,) = service.installed_models.view().rows
    with pytest.raises(PlaygroundError, match="was not put there by the playground"):
        service.installed_models.delete_model(left.key)
    assert starter.exists()


def test_a_row_tells_nothing_of_this_computers_folders(service: ModelsService, starter: Path) -> None:
    assert str(starter.parent) not in installed_models(service.installed_models.view())


def test_where_deleting_is_forbidden_no_row_offers_it_and_no_browser_can(
    service: ModelsService, services: Services
) -> None:
    list(service.make_level(STARTER, "Q2_0", never))
    key = next(row.key for row in service.installed_models.view().rows if row.file.level == "Q2_0")
    services.settings = services.settings.model_copy(update={"allow_delete": False, "allow_quantize": False})
    strict = ModelsService(services)
    assert "Delete" not in installed_models(strict.installed_models.view()) and strict.makeable_levels(STARTER) == {}
    with pytest.raises(PlaygroundError, match="cannot be deleted here"):
        strict.installed_models.delete_model(key)
    assert "switched off here" in str(list(strict.make_level(STARTER, "Q8_0", never))[-1].message)


def test_a_file_opened_by_its_path_is_in_every_list_and_never_deleted(
    service: ModelsService, services: Services, low_level: Path
) -> None:
    added = service.installed_models.add_file(f' "{low_level}" ')
    assert "Fox-135M" in services.library.models()
    row = next(row for row in service.installed_models.view().rows if row.file == added)
    assert not row.may_be_deleted
    with pytest.raises(PlaygroundError, match="not put there"):
        service.installed_models.delete_model(row.key)


@pytest.mark.parametrize("path", ["", "  ", "/nowhere/x.gguf", "x\0y"])
def test_a_path_that_leads_nowhere_is_answered_with_what_to_do(service: ModelsService, path: str) -> None:
    with pytest.raises(ModelNotFound, match="Type the path"):
        service.installed_models.add_file(path)


def test_a_file_that_is_no_model_is_refused_by_its_header(service: ModelsService, tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("These are notes.")
    with pytest.raises(PlaygroundError, match=r"GGUF"):
        service.installed_models.add_file(str(tmp_path / "notes.gguf"))


def test_every_level_that_can_be_made_tells_its_size_to_the_byte(service: ModelsService) -> None:
    sizes = service.makeable_levels(STARTER)
    assert {"F16", "Q8_0", "IQ4_XS", "Q2_0"} <= sizes.keys() and "Q1_0" not in sizes
    assert size_line(sizes["Q2_0"]).startswith(f"59 MiB ({sizes['Q2_0'].size:,} bytes) · 3.6 bits.")


# --- on the Hub ---


def test_a_search_finds_repositories_with_their_figures(service: ModelsService, server: HubStandIn) -> None:
    found = text_of(search_results(service.hub.search_repositories(" Fox ")))
    assert f"{REPO} 135M · 9,000 downloads · 12 likes · apache-2.0" in found
    asked = len(server.requests)
    assert service.hub.search_repositories("fox").found  # the same words again ask nothing
    assert len(server.requests) == asked


def test_the_name_of_a_repository_is_not_searched_for(service: ModelsService, server: HubStandIn) -> None:
    assert service.hub.search_repositories(REPO) == SearchView(REPO) and not server.requests


def test_a_repository_shows_its_levels_at_once_and_exact_verdicts_after_one_header(
    service: ModelsService, server: HubStandIn, starter: Path
) -> None:
    views = list(service.hub.open_repository(REPO))
    assert [row.verdict for row in views[0].rows] == [None, None] and views[0].plan is None
    last = views[-1]
    assert [row.name for row in last.rows] == ["Q2_0", "Q4_1"] and all(row.verdict for row in last.rows)
    assert len({request.path for request in server.requests if "/resolve/" in request.path}) == 1
    assert server.bytes_sent() < 0.08 * starter.stat().st_size


def test_the_chosen_level_is_planned_exactly_as_the_file_itself_would_be(
    service: ModelsService, services: Services, starter: Path
) -> None:
    view = opened(service, f"{REPO}:Q4_1")
    assert view.plan and view.is_exact and view.largest_context == 8192
    of_the_file = services.planner.plan(starter, view.plan.context)
    assert replace(view.plan, base=0) == replace(of_the_file, base=0)  # each process measures its own base
    assert "From its own header" in hub_facts(view)


def test_another_level_is_worked_out_from_its_size_until_it_is_chosen(service: ModelsService) -> None:
    view = opened(service, f"{REPO}:Q4_1")
    low = row_of(view, "Q2_0")
    assert low.notes == (WORKED_OUT,) and low.verdict and low.bits_per_weight == pytest.approx(3.57, abs=0.05)
    chosen = list(service.hub.choose_level(REPO, low.value))[-1]
    assert chosen.is_exact and row_of(chosen, "Q2_0").notes == ()
    assert low.verdict.needed == pytest.approx(row_of(chosen, "Q2_0").verdict.needed, rel=0.02)  # type: ignore[union-attr]


def test_what_the_hub_refuses_shows_as_a_sentence(service: ModelsService) -> None:
    assert "no repository test/nobody" in str(opened(service, "test/nobody").error)
    assert "accepted its licence" in str(opened(service, "test/Gated-GGUF:Q4_K_M").error)
    assert opened(service, "not a name").error and opened(service, f"{REPO}:Q9").error
    assert list(service.hub.choose_level(REPO, "test/Fox-135M-GGUF/other.gguf"))[-1].error


def test_without_a_network_the_search_says_so_and_the_disk_works(service: ModelsService, services: Services) -> None:
    services.hub = HubClient("http://127.0.0.1:9", cache_dir=services.hub.cache_dir, retry=RetryPolicy(attempts=1))
    assert text_of(search_results(service.hub.search_repositories("fox")))
    assert service.installed_models.view().rows and "error" in search_results(service.hub.search_repositories("fox"))


# --- downloads ---


def test_a_download_is_listed_while_it_runs_and_in_every_picker_when_it_is_done(
    service: ModelsService, services: Services, server: HubStandIn, picker: ModelPickerService
) -> None:
    level = level_of(opened(service), "Q2_0")
    hold = server.hold("Q2_0", 30 * MIB)
    assert "is on its way" in text_of(service.start_download(REPO, level.key))
    running = services.downloads.wait_until(level.key, lambda record: record.bytes_done >= 29 * MIB, SOON)
    assert service.is_downloading() and running.state == "downloading"
    words = text_of(downloads(service.downloads()))
    assert re.search(r"Downloading · \d+ MiB of 59 MiB · \d+%", words) and "Cancel" in words
    hold.release.set()
    assert services.downloads.wait_for_end(level.key, SOON).state == "done"
    assert not service.is_downloading() and "now in every model list" in text_of(downloads(service.downloads()))
    assert ("Fox 135M", "Fox-135M") in picker.model_names()
    assert opened(service, f"{REPO}:Q2_0").is_here


def test_a_cancelled_download_keeps_what_came_and_goes_on_from_there(
    service: ModelsService, services: Services, server: HubStandIn
) -> None:
    level = level_of(opened(service), "Q2_0")
    server.hold("Q2_0", 30 * MIB)
    service.start_download(REPO, level.key)
    services.downloads.wait_until(level.key, lambda record: record.bytes_done >= 29 * MIB, SOON)
    assert service.change_download(f"cancel {level.key}") == ""
    cancelled = services.downloads.wait_for_end(level.key, SOON)
    assert cancelled.state == "cancelled" and cancelled.bytes_done >= 29 * MIB
    assert "Resume" in downloads(service.downloads()) and "Forget" in downloads(service.downloads())
    server.forget_requests()
    assert service.change_download(f"resume {level.key}") == ""
    assert services.downloads.wait_for_end(level.key, SOON).state == "done"
    assert server.bytes_sent() < 35 * MIB
    assert service.change_download(f"forget {level.key}") == "" and downloads(service.downloads()) == ""


def test_a_download_can_be_deleted_and_what_another_program_fetched_cannot(
    service: ModelsService, services: Services, low_level: Path
) -> None:
    done = fetch(service, services, "Q2_0")
    assert done.path
    content = done.path.resolve()
    (mine,) = [row for row in service.installed_models.view().rows if row.file.repo == REPO]
    assert mine.may_be_deleted
    service.installed_models.delete_model(mine.key)
    assert not content.exists() and not done.path.exists()
    assert not [row for row in service.installed_models.view().rows if row.file.repo == REPO]

    done.path.parent.mkdir(parents=True, exist_ok=True)  # as another program would put it there
    done.path.symlink_to(low_level)
    (theirs,) = [row for row in service.installed_models.view().rows if row.file.repo == REPO]
    assert not theirs.may_be_deleted
    with pytest.raises(PlaygroundError, match="not put there"):
        service.installed_models.delete_model(theirs.key)
    assert low_level.exists()


def test_an_action_that_no_button_asks_for_does_nothing_or_says_why(service: ModelsService) -> None:
    assert service.change_download("") == "" and service.change_download("delete x") == ""
    assert "There is no download" in text_of(service.change_download("cancel x"))
    assert "does not offer" in text_of(service.start_download(REPO, "test/Fox-135M-GGUF/../../x.gguf"))


def test_one_visitor_fetches_no_more_than_a_share_and_ends_only_what_is_theirs(
    services: Services, server: HubStandIn
) -> None:
    services.settings = services.settings.model_copy(update={"on_space": True})
    services.runs = Runs(Limits(downloads_each=1))
    service = ModelsService(services)
    anna, ben = Visitor("a", "198.51.100.1"), Visitor("b", "198.51.100.2")
    first, second = (level_of(opened(service), level) for level in ("Q2_0", "Q4_1"))
    hold = server.hold("Q2_0", 30 * MIB)
    assert "is on its way" in text_of(service.start_download(REPO, first.key, anna))
    assert "You have 1 download under way" in text_of(service.start_download(REPO, second.key, anna))
    assert "Another visitor started this download" in text_of(service.change_download(f"cancel {first.key}", ben))
    assert service.change_download(f"cancel {first.key}", anna) == ""
    hold.release.set()
    assert services.downloads.wait_for_end(first.key, SOON).state == "cancelled"
    assert "You have" not in text_of(service.start_download(REPO, second.key, anna))
    services.downloads.cancel_download(second.key)


def test_where_downloads_are_forbidden_none_begins(service: ModelsService, services: Services) -> None:
    level = level_of(opened(service), "Q2_0")
    services.settings = services.settings.model_copy(update={"allow_downloads": False})
    assert "Nothing is downloaded here." in text_of(ModelsService(services).start_download(REPO, level.key))
    assert service.downloads() == ()


# --- what comes from outside is shown, never run ---


def test_names_from_the_hub_and_from_files_are_escaped(service: ModelsService) -> None:
    files = [HubFile("Fox-Q4_0.gguf", 10, "e" * 40), HubFile("Hen-Q4_0.gguf", 10, "f" * 40)]
    models, _ = read_models("a/b", "c" * 40, files)
    models = tuple(replace(model, base_name=EVIL) for model in models)
    repository = Repository(EVIL, "c" * 40, models, licence=EVIL, renamed_from=EVIL)
    rows = tuple(LevelRow(level.key, EVIL, 1, None, EVIL, None) for level in repository.levels)
    level = replace(repository.levels[0], base_name=EVIL, level=EVIL)
    record = Download(EVIL, level, "failed", 1, 10, note=EVIL)
    for markup in (
        hub_levels(HubView(repository, rows, level), EVIL),
        repository_head(repository, EVIL),
        search_results(SearchView("x", (FoundRepository(EVIL, 1, 1, EVIL, True),))),
        downloads([record]),
        installed_models(InstalledModelsView((), (LeftOut(Path(EVIL.replace("/", "")), EVIL),), 0)),
    ):
        assert "<img" not in markup and "onerror=alert(1)>" not in markup


def test_the_tab_says_that_the_list_of_downloads_was_damaged(services: Services, service: ModelsService) -> None:
    folder = services.settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "downloads.json").write_text("{")
    assert "The list of unfinished downloads was damaged" in text_of(service.away)
