"""The Models tab's service on the real starter and a Hub on loopback: this disk, levels made here, downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from playground.app.messages import CLEAR, Notice
from playground.app.models import InstalledModels, ModelsService
from playground.app.services import Services
from playground.errors import ModelNotFound, PlaygroundError, RequestRefused
from playground.limits.limits import Limits
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.llama.params import ContextParameters
from playground.models.hub.download_queue import Download
from playground.models.hub.repository import HubLevel
from playground.settings import load_settings
from playground.steps import Steps
from tests.app.conftest import FOX
from tests.support.gguf_bytes import small_model, split_model
from tests.support.hub_stand_in import HubStandIn

STARTER = "SmolLM2-135M-Instruct"
MIB = 1 << 20
SOON = 20.0  # seconds; a test that needs them has failed


@pytest.fixture
def service(services: Services) -> ModelsService:
    return ModelsService(services)


def level_of(service: ModelsService, name: str) -> HubLevel:
    *_, view = service.hub.open_repository(FOX)
    assert view.repository
    return next(level for level in view.repository.levels if level.level == name)


def fetch(service: ModelsService, services: Services, name: str) -> Download:
    level = level_of(service, name)
    service.start_download(FOX, level.key)
    return services.downloads.wait_for_end(level.key, SOON)


def arrived(tmp_path: Path, name: str, content: bytes) -> str:
    """A file in the folder of uploads."""
    path = tmp_path / "uploads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def never() -> bool:
    return False


# --- on this disk ---


def test_the_starter_is_listed_with_its_bits_and_cannot_be_deleted(service: ModelsService, starter: Path) -> None:
    view = service.installed_models.view()
    (row,) = view.rows
    assert (row.file.path, row.file.origin, row.may_be_deleted) == (starter, "starter", False)
    assert row.bits_per_weight == pytest.approx(5.7, abs=0.05) and view.free > 0
    with pytest.raises(PlaygroundError, match="not put there by the playground"):
        service.installed_models.delete_model(row.key)
    assert starter.exists()


def test_a_key_of_a_row_tells_nothing_of_this_computers_folders(service: ModelsService) -> None:
    (row,) = service.installed_models.view().rows
    assert len(row.key) == 16 and int(row.key, 16)


def test_a_made_level_is_listed_and_deleted_with_its_folder(service: ModelsService) -> None:
    assert list(service.make_level(STARTER, "Q2_0", never))[-1].is_made
    made = next(row for row in service.installed_models.view().rows if row.file.level == "Q2_0")
    assert made.may_be_deleted
    service.installed_models.delete_model(made.key)
    assert not made.file.path.exists() and not made.file.path.parent.exists()
    assert len(service.installed_models.view().rows) == 1


def test_where_deleting_is_forbidden_no_row_offers_it_and_no_browser_can(
    service: ModelsService, services: Services
) -> None:
    list(service.make_level(STARTER, "Q2_0", never))
    key = next(row.key for row in service.installed_models.view().rows if row.file.level == "Q2_0")
    services.settings = services.settings.model_copy(update={"allow_delete": False, "allow_quantize": False})
    strict = ModelsService(services)
    assert not any(row.may_be_deleted for row in strict.installed_models.view().rows)
    with pytest.raises(RequestRefused, match="turned off here"):
        strict.installed_models.delete_model(key)


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
def test_a_path_that_leads_nowhere_is_refused(service: ModelsService, path: str) -> None:
    with pytest.raises(ModelNotFound):
        service.installed_models.add_file(path)


def test_a_file_that_is_no_model_is_refused_by_its_header(service: ModelsService, tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("These are notes.")
    with pytest.raises(PlaygroundError, match=r"GGUF"):
        service.installed_models.add_file(str(tmp_path / "notes.gguf"))


def test_a_model_was_last_used_when_it_was_loaded_and_never_before(
    service: ModelsService, services: Services, starter: Path
) -> None:
    assert service.installed_models.view().rows[0].last_used is None
    leased = Steps(services.pool.lease_model(starter, ContextParameters(512, slots=1))).finish()
    leased.release()
    assert service.installed_models.view().rows[0].last_used
    with Services(services.settings) as again:
        assert again.last_used.last_load_time(starter) is not None


# --- dropped onto the page ---


def test_a_dropped_model_is_moved_into_the_data_folder_and_may_be_deleted(services: Services, tmp_path: Path) -> None:
    installed_models = ModelsService(services).installed_models
    upload = arrived(tmp_path, "Tiny-Q4_0.gguf", small_model())
    inode = Path(upload).stat().st_ino
    (file,) = installed_models.keep_uploads([upload])
    assert file.origin == "dropped here" and file.path.stat().st_ino == inode  # the same bytes, not a copy of them
    assert files_in(tmp_path / "uploads") == []
    row = next(row for row in installed_models.view().rows if row.file == file)
    assert row.may_be_deleted and installed_models.delete_model(row.key) == file
    assert files_in(services.library.dropped_folder) == []


def test_all_parts_of_a_model_come_together_or_not_at_all(services: Services, tmp_path: Path, starter: Path) -> None:
    installed_models = ModelsService(services).installed_models
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
        ModelsService(services).installed_models.keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", content)])
    assert files_in(tmp_path / "uploads") == [] and files_in(services.library.dropped_folder) == []


def test_a_second_file_of_the_same_name_does_not_replace_the_first(services: Services, tmp_path: Path) -> None:
    installed_models = ModelsService(services).installed_models
    (file,) = installed_models.keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", small_model(1))])
    with pytest.raises(PlaygroundError, match=r"dropped here before.*Delete that one first"):
        installed_models.keep_uploads([arrived(tmp_path, "Tiny-Q4_0.gguf", small_model(2))])
    assert file.path.read_bytes() == small_model(1)


def test_where_files_may_not_be_opened_none_is_kept(services: Services, tmp_path: Path) -> None:
    upload = arrived(tmp_path, "Tiny-Q4_0.gguf", small_model())
    strict = InstalledModels(
        load_settings(allow_local_files=False), services.library, services.last_used, services.forecaster
    )
    with pytest.raises(RequestRefused, match="Uploading files is turned off here"):
        strict.keep_uploads([upload])
    with pytest.raises(RequestRefused, match="Opening files by path is turned off here"):
        strict.add_file(upload)


def test_an_upload_without_a_file_is_refused(service: ModelsService) -> None:
    with pytest.raises(PlaygroundError, match="No file arrived"):
        service.installed_models.keep_uploads([])


# --- levels made here ---


def test_every_level_that_can_be_made_has_its_exact_size_before_it_is_made(service: ModelsService) -> None:
    view = service.makeable_view(STARTER, "Q2_0")
    assert view.sources == (("SmolLM2 135M Instruct Q4_1", STARTER),) and view.base_name == STARTER
    assert {"F16", "Q8_0", "IQ4_XS", "Q2_0"} <= {size.level for size in view.sizes}
    assert "Q1_0" not in {size.level for size in view.sizes}
    assert view.chosen and view.chosen.bits_per_weight == pytest.approx(3.57, abs=0.05)
    list(service.make_level(STARTER, "Q2_0", never))
    made = next(row.file for row in service.installed_models.view().rows if row.file.level == "Q2_0")
    assert view.chosen.size == made.size


@pytest.mark.parametrize(("model", "level"), [(None, None), ("../x", "Q9"), ([], {}), (STARTER, "Q1_0")])
def test_an_impossible_choice_of_a_level_becomes_the_usual_one(
    service: ModelsService, model: object, level: object
) -> None:
    view = service.makeable_view(model, level)
    assert view.base_name == STARTER and view.chosen and view.chosen.level == "Q8_0"


def test_where_making_is_forbidden_nothing_is_offered_and_nothing_made(services: Services) -> None:
    services.settings = services.settings.model_copy(update={"allow_quantize": False})
    strict = ModelsService(services)
    assert strict.makeable_view(STARTER, "Q8_0").sizes == ()
    (_, refused) = strict.make_level(STARTER, "Q8_0", never)
    assert isinstance(refused.message, RequestRefused) and refused.message.setting == "allow_quantize"
    assert len(strict.installed_models.view().rows) == 1


# --- downloads ---


def test_a_download_is_listed_while_it_runs_and_in_every_list_when_it_is_done(
    service: ModelsService, services: Services, hub: HubStandIn
) -> None:
    level = level_of(service, "Q2_0")
    held = hub.hold("Q2_0", 30 * MIB)
    assert "Downloading Fox-135M Q2_0" in str(service.start_download(FOX, level.key))
    running = services.downloads.wait_until(level.key, lambda record: record.bytes_done >= 29 * MIB, SOON)
    assert running.state == "downloading" and [record.id for record in service.downloads()] == [level.key]
    held.release.set()
    assert services.downloads.wait_for_end(level.key, SOON).state == "done"
    assert "Fox-135M" in services.library.models() and service.hub.is_installed(level)
    assert "already on this computer" in str(service.start_download(FOX, level.key))


def test_a_cancelled_download_keeps_what_came_and_goes_on_from_there(
    service: ModelsService, services: Services, hub: HubStandIn
) -> None:
    level = level_of(service, "Q2_0")
    hub.hold("Q2_0", 30 * MIB)
    service.start_download(FOX, level.key)
    services.downloads.wait_until(level.key, lambda record: record.bytes_done >= 29 * MIB, SOON)
    assert service.change_download(f"cancel {level.key}") == CLEAR
    cancelled = services.downloads.wait_for_end(level.key, SOON)
    assert cancelled.state == "cancelled" and cancelled.bytes_done >= 29 * MIB
    hub.forget_requests()
    assert service.change_download(f"resume {level.key}") == CLEAR
    assert services.downloads.wait_for_end(level.key, SOON).state == "done"
    assert hub.bytes_sent() < 35 * MIB
    assert service.change_download(f"forget {level.key}") == CLEAR and service.downloads() == ()


def test_a_download_can_be_deleted_and_what_another_program_fetched_cannot(
    service: ModelsService, services: Services, low_level: Path
) -> None:
    done = fetch(service, services, "Q2_0")
    assert done.path
    content = done.path.resolve()
    (mine,) = [row for row in service.installed_models.view().rows if row.file.repo == FOX]
    assert mine.may_be_deleted
    service.installed_models.delete_model(mine.key)
    assert not content.exists() and not done.path.exists()
    assert not [row for row in service.installed_models.view().rows if row.file.repo == FOX]

    done.path.parent.mkdir(parents=True, exist_ok=True)  # as another program would put it there
    done.path.symlink_to(low_level)
    (theirs,) = [row for row in service.installed_models.view().rows if row.file.repo == FOX]
    assert not theirs.may_be_deleted
    with pytest.raises(PlaygroundError, match="not put there"):
        service.installed_models.delete_model(theirs.key)
    assert low_level.exists()


def test_an_action_that_no_button_asks_for_does_nothing_or_says_why(service: ModelsService) -> None:
    assert service.change_download("") == CLEAR == service.change_download("delete x")
    assert "There is no download" in str(service.change_download("cancel x"))
    assert "no longer offers" in str(service.start_download(FOX, f"{FOX}/../../x.gguf"))


def test_one_visitor_downloads_no_more_than_a_share_and_ends_only_what_is_theirs(
    services: Services, hub: HubStandIn
) -> None:
    services.settings = services.settings.model_copy(update={"on_space": True})
    services.runs = Runs(Limits(downloads_each=1))
    service = ModelsService(services)
    anna, ben = Visitor("a", "198.51.100.1"), Visitor("b", "198.51.100.2")
    first, second = level_of(service, "Q2_0"), level_of(service, "Q4_1")
    held = hub.hold("Q2_0", 30 * MIB)
    assert isinstance(service.start_download(FOX, first.key, anna), Notice)
    assert "You have 1 download under way" in str(service.start_download(FOX, second.key, anna))
    assert "Another visitor started this download" in str(service.change_download(f"cancel {first.key}", ben))
    assert service.change_download(f"cancel {first.key}", anna) == CLEAR
    held.release.set()
    assert services.downloads.wait_for_end(first.key, SOON).state == "cancelled"
    assert isinstance(service.start_download(FOX, second.key, anna), Notice)
    services.downloads.cancel_download(second.key)


def test_where_downloads_are_forbidden_none_begins(service: ModelsService, services: Services) -> None:
    level = level_of(service, "Q2_0")
    services.settings = services.settings.model_copy(update={"allow_downloads": False})
    refused = ModelsService(services).start_download(FOX, level.key)
    assert isinstance(refused, RequestRefused) and refused.setting == "allow_downloads"
    assert service.downloads() == ()


def test_a_damaged_list_of_downloads_and_offline_mode_are_told(
    services: Services, service: ModelsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = services.settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "downloads.json").write_text("{")
    damaged = service.downloads_warning
    assert damaged.kind == "warning" and "The list of unfinished downloads was damaged" in damaged.text
    assert service.why_unreachable is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "Offline mode is on" in str(service.why_unreachable)
