"""What can be switched off for all visitors: the services refuse it, even if a browser sends it past the buttons."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from playground.app.chat.service import ChatService
from playground.app.compare.comparison import CompareRequest, Comparison, PaneSession
from playground.app.compare.service import CompareService
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.models import ModelsService
from playground.app.servers import Servers
from playground.app.services import Services
from playground.chat.comparison import PaneResult
from playground.chat.conversation import Conversation
from playground.chat.template.message import Message
from playground.engine.local.memory_reservation import MemoryReservation
from playground.engine.protocol import Finished, Token
from playground.engine.timings import Timings
from playground.errors import PlaygroundError, RequestRefused
from playground.fit.budget import Budget
from playground.limits.visitor import Visitor
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.models.catalog import load_catalog
from playground.models.hub.client import HubClient
from playground.models.hub.names import repository_filter
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.settings import Settings, load_settings
from tests.support.hub_stand_in import HubStandIn

STARTER = "SmolLM2-135M-Instruct"
ALLOWED, OTHER = "good/Fox-GGUF", "bad/Fox-GGUF"


@pytest.fixture
def as_on_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name in ("PLAYGROUND_ALLOWED_REPOS", "PLAYGROUND_ALLOW_DELETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPACE_ID", "owner/space")
    return load_settings(data_dir=tmp_path / "data")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with HubStandIn() as server:
        server.add(ALLOWED, {"Fox-Q4_K_M.gguf": b"GGUF" * 100})
        server.add(OTHER, {"Fox-Q4_K_M.gguf": b"GGUF" * 100})
        yield server


def test_a_space_is_strict_unless_set_otherwise(as_on_space: Settings) -> None:
    off = ("allow_load_anyway", "allow_quantize", "allow_delete", "allow_local_files", "may_add_remotes")
    assert [name for name in off if getattr(as_on_space, name)] == []
    allowed = repository_filter(as_on_space.allowed_repos)
    assert all(allowed(model.repo) for model in load_catalog() if model.repo)
    assert not allowed("stranger/Model-GGUF")


@pytest.mark.parametrize(
    ("said", "repo", "is_allowed"),
    [
        (None, "any/one", True),
        ("*", "any/one", True),
        ("", "any/one", False),
        ("a/b c/*", "A/B", True),
        ("a/b, c/*", "c/anything", True),
        ("a/b c/*", "a/bc", False),
        ("a/b c/*", "cc/x", False),
        ("catalogue a/b", "a/b", True),
    ],
)
def test_the_list_of_repositories_reads_as_people_write_it(
    said: str | None, repo: str, is_allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLAYGROUND_ALLOWED_REPOS", raising=False)
    if said is not None:
        monkeypatch.setenv("PLAYGROUND_ALLOWED_REPOS", said)
    assert repository_filter(load_settings().allowed_repos)(repo) is is_allowed


def test_a_repository_that_is_not_allowed_is_neither_found_nor_opened(hub: HubStandIn, tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path / "data", allowed_repos="good/*")) as services:
        services.hub = HubClient(hub.endpoint, cache_dir=tmp_path / "hub", allowed=services.hub._allowed)
        service = ModelsService(services)
        assert [one.id for one in service.hub.search_repositories("Fox").found] == [ALLOWED]
        before = len(hub.requests)
        for view in (*service.hub.open_repository(OTHER), *service.hub.choose_level(OTHER, f"{OTHER}/Fox-Q4_K_M.gguf")):
            assert "not allowed here" in str(view.error)
            assert isinstance(view.error, RequestRefused) and view.error.setting == "allowed_repos"
        assert "not allowed here" in str(service.start_download(OTHER, f"{OTHER}/Fox-Q4_K_M.gguf"))
        assert len(hub.requests) == before
        level = HubClient(hub.endpoint).fetch_repository(OTHER).levels[0]
        before = len(hub.requests)
        with pytest.raises(PlaygroundError, match="not allowed here"):
            list(services.hub.stream_file(OTHER, level.commit, level.files[0], 0, 4))
        assert len(hub.requests) == before


@pytest.fixture
def shut(starter: Path, tmp_path: Path) -> Iterator[Services]:
    settings = load_settings(
        data_dir=tmp_path / "data", allow_load_anyway=False, allow_quantize=False, allow_delete=False,
        allow_local_files=False, allow_downloads=False, allow_lab=False, allow_remotes=False, slots=1,
    )  # fmt: skip
    with Services(settings) as services:
        yield services


def test_everything_that_is_switched_off_is_refused_with_a_sentence(shut: Services, starter: Path) -> None:
    models = ModelsService(shut)
    servers = Servers(shut.remotes, may_add=shut.settings.may_add_remotes)
    shut.hub = HubClient("http://127.0.0.1:9")
    assert "turned off here" in str(models.start_download(OTHER, "x"))
    assert "turned off here" in str(models.change_download("resume x"))
    for refused in (
        lambda: models.installed_models.add_file(str(starter)),
        lambda: models.installed_models.keep_uploads([str(starter)]),
        lambda: models.installed_models.delete_model(models.installed_models.view().rows[0].key),
        lambda: servers.add_server("x", "http://127.0.0.1:9/v1", ""),
    ):
        with pytest.raises(PlaygroundError, match=" here"):
            refused()
    assert starter.exists()
    assert "switched off here" in str(list(models.make_level(STARTER, "Q2_0"))[-1].message)
    assert models.makeable_view(STARTER).sizes == ()


def test_where_nothing_is_measured_no_control_and_no_scoring_begins(shut: Services) -> None:
    picker = ModelPickerService(shut.library, shut.planner, shut.pool.budget_for, 1, runs=shut.runs)
    service = CompareService(shut, picker, LoadedModels(shut.pool, shut.planner, picker))
    file = ModelFile(Path("m.gguf"), (Path("m.gguf"),), "m", "Q8_0", 1, "folder")
    timings = Timings(0.0, 40, 0, 500.0, 0.1, 40, 100.0, 1.0, 2)
    word = Token(1, "Hi", 7, 1, None, 1, 0.1)
    result = PaneResult(
        Conversation().with_question("Hi?").with_reply(Message("assistant", "Hi")),
        Finished(1, "end of text", timings), None, None, (word,), GREEDY, "in turn", 0, 1000,
    )  # fmt: skip
    pane = PaneSession(result.conversation, file, ContextParameters(512), result=result)
    answered = Comparison((pane, pane), request=CompareRequest((ModelChoice("m", "Q8_0"), ModelChoice("m", "Q8_0"))))
    assert not service.scoring.is_worth_repeating(answered)
    (update,) = service.measurements.measure_by_itself(Visitor("page", "page"), answered)
    assert update.result and update.result.agreement_note == "not measured here"


def test_load_anyway_is_refused_where_it_is_switched_off(shut: Services) -> None:
    picker = ModelPickerService(shut.library, shut.planner, lambda path: Budget(1 << 20), 1, runs=shut.runs)
    service = ChatService(shut.settings, shut.pool, picker, LoadedModels(shut.pool, shut.planner, picker))
    shut.pool._memory = MemoryReservation(shut.planner, lambda: 1 << 20)  # a computer with one MiB left
    choice = replace(ModelChoice(STARTER, "Q4_1"), context_size=512)
    last = list(service.load_model(Visitor("page", "page"), choice, allow_unfit=True))[-1]
    assert "would end the model" in str(last.problem) and last.may_load_anyway is False
    assert not shut.pool.loaded_models()


def test_a_folder_that_is_not_on_offer_is_not_reached_through_a_link_in_one_that_is(
    starter: Path, tmp_path: Path
) -> None:
    """A link is its owner's doing: the file it leads to is offered as a model or not at all."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "passwords-Q4_0.gguf").symlink_to("/etc/passwd")
    library = Library(load_settings(data_dir=tmp_path / "data", model_dirs=(folder,)))
    files, left_out = library.scan_models()
    assert [file.path for file in files if folder in file.path.parents] == []
    (reason,) = [one.reason for one in left_out if one.path.parent == folder]
    assert "root" not in reason


def test_two_threads_asking_at_once_share_one_hub_with_its_list(tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path, allowed_repos=())) as services:
        seen: list[HubClient] = []
        threads = [threading.Thread(target=lambda: seen.append(services.hub)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in seen:
            with pytest.raises(PlaygroundError, match="not allowed here"):
                one.fetch_repository("any/one")
