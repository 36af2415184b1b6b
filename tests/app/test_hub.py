"""Repositories of the Hub before anything is downloaded: search, verdicts, refusals. The Hub is on loopback."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.hub.service import HubService
from playground.app.hub.view import ESTIMATED, HubView, SearchView, hub_levels_record
from playground.app.model_picker.choice import LevelRow
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.gguf.tensors import TensorType
from playground.llama.cpu_kernels import speed_note
from playground.llama.params import CPU_ONLY
from playground.models.hub.client import HubClient, RetryPolicy
from tests.app.conftest import FOX
from tests.conftest import Gpus
from tests.support.hub_stand_in import HubStandIn
from tests.support.model_bytes import model, text_pair


@pytest.fixture
def service(services: Services) -> HubService:
    return HubService(services)


def opened(service: HubService, reference: str = FOX) -> HubView:
    return list(service.open_repository(reference))[-1]


def row_of(view: HubView, name: str) -> LevelRow:
    return next(row for row in view.rows if row.name == name)


def test_a_search_finds_repositories_and_asks_once_for_the_same_words(service: HubService, hub: HubStandIn) -> None:
    (found,) = service.search_repositories(" Fox ").found
    assert (found.id, found.downloads, found.likes, found.parameter_count) == (FOX, 9000, 12, 134_515_008)
    asked = len(hub.requests)
    assert service.search_repositories("fox").found
    assert len(hub.requests) == asked


def test_the_name_of_a_repository_is_not_searched_for(service: HubService, hub: HubStandIn) -> None:
    assert service.search_repositories(FOX) == SearchView(FOX) and not hub.requests


def test_a_repository_shows_its_levels_at_once_and_all_verdicts_after_one_header(
    service: HubService, hub: HubStandIn, starter: Path
) -> None:
    views = list(service.open_repository(FOX))
    assert [row.verdict for row in views[0].rows] == [None, None] and views[0].plan is None
    last = views[-1]
    assert [row.name for row in last.rows] == ["Q2_0", "Q4_1"] and all(row.verdict for row in last.rows)
    assert len({request.path for request in hub.requests if "/resolve/" in request.path}) == 1
    assert hub.bytes_sent() < 0.08 * starter.stat().st_size


def test_the_chosen_level_is_planned_exactly_as_the_file_itself_would_be(
    service: HubService, services: Services, starter: Path
) -> None:
    view = opened(service, f"{FOX}:Q4_1")
    assert view.plan and view.is_exact and view.largest_context == 8192
    of_the_file = services.planner.plan(starter, view.plan.context)
    assert replace(view.plan, base=0) == replace(of_the_file, base=0)  # each process measures its own base


def test_another_level_is_estimated_from_its_size_until_it_is_chosen(service: HubService) -> None:
    view = opened(service, f"{FOX}:Q4_1")
    low = row_of(view, "Q2_0")
    slow = speed_note(TensorType.Q2_0)  # a sentence on most processors
    assert low.notes == tuple(filter(None, (ESTIMATED, slow)))
    assert low.verdict and low.bits_per_weight == pytest.approx(3.57, abs=0.05)
    chosen = list(service.choose_level(FOX, low.value))[-1]
    exact = row_of(chosen, "Q2_0")
    assert chosen.is_exact and exact.notes == tuple(filter(None, (slow,))) and exact.verdict
    assert low.verdict.needed == pytest.approx(exact.verdict.needed, rel=0.02)


def test_levels_are_judged_by_the_gpu_before_anything_is_downloaded(
    gpus: Gpus, services: Services, starter: Path
) -> None:
    gpus(96)
    with Services(services.settings) as with_gpu:
        with_gpu.hub = services.hub
        view = opened(HubService(with_gpu), f"{FOX}:Q4_1")
        assert view.plan, view.error
        planned = with_gpu.planner.place(starter, replace(view.plan.context, placement=CPU_ONLY), view.budget)
    assert view.plan and view.verdict and view.verdict.kind != "wont_fit"
    assert view.plan.on_devices == planned.plan.on_devices
    assert re.fullmatch(
        r"\d+ of 31 layers on the GPU: all would need .*; level Q2_0 would fit whole\.|.* are free\.", view.where
    )
    assert re.fullmatch(r"\d+ of 31 layers on the GPU\.", row_of(view, "Q4_1").notes[0])


def test_programs_get_a_record_of_each_level_that_says_what_is_estimated(service: HubService) -> None:
    low, usual = hub_levels_record(opened(service, f"{FOX}:Q4_1"))["levels"]
    assert (low["level"], low["estimated"], usual["level"], usual["estimated"]) == ("Q2_0", True, "Q4_1", False)
    assert usual["reference"] == f"{FOX}:Q4_1" and usual["verdict"] == "fits"
    with pytest.raises(PlaygroundError, match="no repository test/nobody"):
        hub_levels_record(opened(service, "test/nobody"))


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("test/nobody", "no repository test/nobody"),
        ("test/Gated-GGUF:Q4_K_M", "accepted its licence"),
        ("not a name", ""),
        (f"{FOX}:Q9", "does not offer Q9"),
    ],
)
def test_what_the_hub_refuses_is_an_error_that_says_so(service: HubService, reference: str, problem: str) -> None:
    view = opened(service, reference)
    assert view.error and problem in str(view.error)


@pytest.fixture
def with_bad_file(hub: HubStandIn, starter: Path, low_level: Path) -> str:
    files: dict[str, bytes | Path] = {
        "Fox-Q4_1.gguf": starter,
        "Fox-Q2_0.gguf": low_level,
        "Fox-Q4_K_M.gguf": b"no model" * 99,
    }
    hub.add("test/Half-Bad-GGUF", files)
    return "test/Half-Bad-GGUF"


def test_one_bad_header_leaves_the_other_levels_with_their_verdicts(service: HubService, with_bad_file: str) -> None:
    view = opened(service, with_bad_file)  # Q4_K_M is the usual level, and its header is read first
    assert view.error is None and view.chosen and view.chosen.level != "Q4_K_M" and view.plan
    assert {row.name for row in view.rows if row.verdict} == {"Q2_0", "Q4_1"}
    assert "GGUF" in row_of(view, "Q4_K_M").notes[0]
    records = {record["level"]: record for record in hub_levels_record(view)["levels"]}
    assert records["Q4_K_M"]["verdict"] == "unusable" and "GGUF" in records["Q4_K_M"]["reason"]
    assert records["Q4_1"]["verdict"] == records["Q2_0"]["verdict"] == "fits"


def test_a_bad_level_that_was_asked_for_is_an_error_beside_the_good_ones(
    service: HubService, with_bad_file: str
) -> None:
    view = opened(service, f"{with_bad_file}:Q4_K_M")
    assert view.error and "GGUF" in str(view.error) and view.chosen and view.chosen.level == "Q4_K_M"
    assert sum(record["verdict"] == "fits" for record in hub_levels_record(view)["levels"]) == 2


def test_a_level_of_a_fork_gets_no_verdict_and_names_its_program(
    service: HubService, hub: HubStandIn, starter: Path
) -> None:
    hub.add("test/Fork-GGUF", {"Fox-IQ4_KS.gguf": b"x" * 99, "Fox-IQ2_KL.gguf": b"x" * 77, "Fox-Q4_1.gguf": starter})
    view = opened(service, "test/Fork-GGUF")
    assert view.chosen and view.chosen.level == "Q4_1" and view.error is None
    for name in ("IQ4_KS", "IQ2_KL"):
        row = row_of(view, name)
        assert row.verdict is None and "made for ik_llama.cpp" in row.notes[0] and not row.recommended
    assert "ik_llama.cpp" in str(opened(service, "test/Fork-GGUF:IQ4_KS").error)
    hub.add("test/Only-Fork-GGUF", {"Fox-IQ4_KSS.gguf": b"x" * 99})
    assert "ik_llama.cpp" in str(opened(service, "test/Only-Fork-GGUF").error)
    assert hub.bytes_sent("KS") == 0


def test_an_embedding_model_on_the_hub_is_refused_by_its_header(service: HubService, hub: HubStandIn) -> None:
    content = model([text_pair("general.architecture", "bert")])
    hub.add("test/Words-GGUF", {"Words-Q8_0.gguf": content})
    view = opened(service, "test/Words-GGUF")
    assert "an embedding model" in str(view.error)
    (record,) = hub_levels_record(view)["levels"]
    assert record["verdict"] == "unusable" and "an embedding model" in record["reason"]


def test_a_level_that_is_not_offered_is_refused(service: HubService) -> None:
    view = list(service.choose_level(FOX, f"{FOX}/../../x.gguf"))[-1]
    assert "no longer offers that file" in str(view.error)


def test_without_a_network_the_search_says_so(service: HubService, services: Services) -> None:
    services.hub = HubClient("http://127.0.0.1:9", cache_dir=services.hub.cache_dir, retry=RetryPolicy(attempts=1))
    assert service.search_repositories("fox").error
