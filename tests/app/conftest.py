"""What tests of the Models tab's services share: the playground's services with a stand-in for the Hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from huggingface_hub import constants

from playground.app.services import Services
from playground.models.hub.client import HubClient
from playground.quantize.quantize import QuantizedFile, quantize_file
from playground.settings import load_settings
from tests.support.hub_stand_in import HubStandIn

FOX: Final = "test/Fox-135M-GGUF"


@pytest.fixture(scope="session")
def low_level(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter at Q2_0, as somebody may have put it on the Hub."""
    *_, made = quantize_file(starter, "Q2_0", tmp_path_factory.mktemp("made") / "Fox-135M-Q2_0.gguf", threads=2)
    assert isinstance(made, QuantizedFile)
    return made.path


@pytest.fixture
def hub(starter: Path, low_level: Path) -> Iterator[HubStandIn]:
    """A Hub with one model at two levels, and one whose licence has to be accepted."""
    with HubStandIn() as hub:
        files = {"Fox-135M-Q4_1.gguf": starter, "Fox-135M-Q2_0.gguf": low_level}
        hub.add(FOX, files, downloads=9000, likes=12, parameters=134_515_008)
        hub.add("test/Gated-GGUF", {"Gated-Q4_K_M.gguf": b"GGUF" * 100}, gated="manual")
        yield hub


@pytest.fixture
def services(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Services(load_settings(data_dir=tmp_path / "data")) as services:
        services.hub = HubClient(hub.endpoint, cache_dir=tmp_path / "hub")
        yield services
