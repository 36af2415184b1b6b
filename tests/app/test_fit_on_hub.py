"""The Fit tab asked about a repository of the Hub, as a person types it; the Hub is a stand-in on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from playground.app.fit import FitChoice, FitService, FitView
from playground.app.hub.service import HubService
from playground.app.services import Services
from playground.fit.budget import Budget
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource
from playground.models.hub.client import HubClient, RetryPolicy
from playground.settings import load_settings
from tests.support.gguf_bytes import Blob, Slice
from tests.support.hub_stand_in import HubStandIn

REPO = "test/Fox-135M-GGUF"
MORE = 10_000_000  # bytes by which the second level is larger


@pytest.fixture
def server(starter: Path) -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        larger = Blob((Slice(starter, 0, starter.stat().st_size), bytes(MORE)))
        server.add(REPO, {"Fox-135M-Q4_1.gguf": starter, "Fox-135M-Q5_K_M.gguf": larger})
        server.add("test/Gated-GGUF", {"Gated-Q4_K_M.gguf": b"GGUF" * 100}, gated="manual")
        yield server


@pytest.fixture
def service(server: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FitService]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Services(load_settings(data_dir=tmp_path / "data")) as services:
        services.hub = HubClient(server.endpoint, cache_dir=tmp_path / "hub", retry=RetryPolicy(attempts=1))
        yield FitService(services, HubService(services), budget_for=lambda path: Budget(16 << 30))


def views(service: FitService, model: str) -> list[FitView]:
    return list(service.views(FitChoice(model)))


def test_a_repository_is_planned_from_one_header_and_its_levels_sizes(
    service: FitService, server: HubStandIn, starter: Path
) -> None:
    asking, *_, last = views(service, REPO)
    assert asking.table is None and "Asking the Hub" in str(asking.message)
    assert last.table and last.name.startswith("Fox 135M")
    sizes = {row.size.level: row.size for row in last.table.rows}
    weights = read_header(FileSource(starter)).weight_bytes
    assert sizes["Q4_1"].weight_bytes == weights and not sizes["Q4_1"].is_estimate
    assert sizes["Q5_K_M"].weight_bytes == weights + MORE and not sizes["Q5_K_M"].is_estimate
    assert sizes["F16"].origin == "computed" and sizes["F16"].weight_bytes == pytest.approx(2 * 134_515_008, rel=0.01)
    assert len([request for request in server.requests if "/storage/" in request.path]) == 1
    assert server.bytes_sent() < 0.08 * starter.stat().st_size


@pytest.mark.parametrize("text", [f"{REPO}:Q5_K_M", "{endpoint}/" + REPO + "/blob/main/Fox-135M-Q5_K_M.gguf"])
def test_a_level_or_an_address_of_a_file_chooses_that_level(service: FitService, server: HubStandIn, text: str) -> None:
    last = views(service, text.format(endpoint=server.endpoint))[-1]
    assert last.table and last.choice.level == "Q5_K_M"


def test_an_opened_repository_is_on_offer_like_any_other_model(service: FitService, server: HubStandIn) -> None:
    key = views(service, REPO)[-1].choice.model
    server.forget_requests()
    again = views(service, str(key))[-1]
    assert again.table and again.choice.model == key and server.requests == []
    action = service.cell_action(again.choice, "Q4_1|4096")
    assert action.repo == REPO and REPO in action.notice.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("test/nobody", "There is no repository test/nobody"),
        (f"{REPO}:Q9", "does not offer Q9"),
        ("test/Gated-GGUF", "accepted its licence"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence_in_place_of_the_table(service: FitService, text: str, words: str) -> None:
    last = views(service, text)[-1]
    assert last.table is None and words in str(last.message) and ("Gemma 4 12B", "catalogue/gemma4-12b") in last.models
