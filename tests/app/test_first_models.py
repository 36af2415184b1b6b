"""Three good first models come out of the catalogue by plan and forecast, each downloadable with one press."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from huggingface_hub import constants

from playground.app.messages import CLEAR, Notice
from playground.app.models import ModelsService
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.gguf.tensors import TensorType
from playground.measure.forecast import READING_SPEED, SpeedForecaster
from tests.support.hub_stand_in import HubStandIn

GIB = 1 << 30
SMALL = "unsloth/Qwen3.5-0.8B-GGUF"


@pytest.fixture
def service(services: Services, monkeypatch: pytest.MonkeyPatch) -> ModelsService:
    """A computer with 12 GiB to give that reads weights at 30 GB/s."""

    def speeds(threads: int, types: Sequence[TensorType]) -> dict[TensorType, float]:
        return dict.fromkeys(types, 30e9)

    services.forecaster = SpeedForecaster(services.settings.data_dir / "speeds.json", 2, speeds)
    monkeypatch.setattr(services.pool, "usable_bytes_for", lambda *_: 12 * GIB)
    return ModelsService(services)


def test_the_cards_fit_and_the_comfortable_one_is_faster_than_reading(service: ModelsService) -> None:
    view = service.first_models.view()
    cards = {card.role: card for card in view.cards}
    assert list(cards) == ["small", "comfortable", "largest"]  # from small to large
    for card in view.cards:
        assert card.plan is not None and card.plan.needed < 12 * GIB
        assert card.verdict is not None and card.verdict.kind == "fits"
        assert card.plan.context.context_size == 8192
    comfortable = cards["comfortable"].forecast
    assert comfortable is not None and comfortable.low >= READING_SPEED
    assert cards["comfortable"].download_bytes < cards["largest"].download_bytes
    shown = [row.model.id for row in (*view.cards, *view.rows)]
    assert len(shown) == len(set(shown))
    assert next(row for row in view.rows if row.model.id == "deepseek-v3").is_too_large


def test_the_rest_is_sorted_by_the_column_asked_for(service: ModelsService) -> None:
    by_size = [row.download_bytes for row in service.first_models.view("size").rows]
    assert by_size == sorted(by_size)
    by_speed = [row.forecast.middle for row in service.first_models.view("speed").rows
                if row.forecast and not row.is_too_large]  # fmt: skip
    assert by_speed == sorted(by_speed, reverse=True)
    names = [row.model.display_name.lower() for row in service.first_models.view("name").rows]
    assert names == sorted(names)


def test_a_first_model_is_downloaded_at_its_level_or_one_near_it(
    service: ModelsService, services: Services, hub: HubStandIn, low_level: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(SMALL, {"Qwen3.5-0.8B-Q2_0.gguf": low_level})  # without Q4_K_M
    message, download = service.download_first_model("qwen3.5-0.8b")
    assert isinstance(message, Notice) and "Chat opens with it" in message.text
    services.downloads.wait_for_end(download, 60)
    path = service.downloaded_file(download)
    assert path is not None and path.name == "Qwen3.5-0.8B-Q2_0.gguf"
    assert service.first_models.view().download_speed
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert service.download_first_model("qwen3.5-0.8b") == (CLEAR, download)  # it is here: nothing is asked or fetched


@pytest.mark.parametrize("id", ["", "nobody", "qwen3.5-0.8b"])  # the last one is not on this Hub
def test_what_cannot_be_downloaded_is_said(service: ModelsService, id: str) -> None:
    message, download = service.download_first_model(id)
    assert isinstance(message, PlaygroundError) and download == ""
