"""The Fit tab on the real planner: what a person sees of a choice, and what a cell opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.app.fit import FIRST_MODEL, FitChoice, FitService, FitView
from playground.app.hub.service import HubService
from playground.app.model_picker.choice import ModelChoice
from playground.app.services import Services
from playground.fit.budget import Budget
from playground.models.catalog import load_catalog
from playground.settings import load_settings
from tests.conftest import Gpus
from tests.support.gguf_bytes import small_model

GIB = 1 << 30
GIGABYTE = 1_000_000_000
GEMMA = next(model for model in load_catalog() if model.id == "gemma4-12b")
STARTER = "disk/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield services


@pytest.fixture
def service(services: Services) -> FitService:
    return FitService(services, HubService(services), budget_for=lambda path: Budget(16 * GIB))


def last(service: FitService, choice: FitChoice) -> FitView:
    return list(service.views(choice))[-1]


def kinds(view: FitView, level: str) -> set[str]:
    assert view.table
    return {cell.verdict.kind for row in view.table.rows if row.size.level == level for cell in row.cells}


def test_the_tab_opens_with_the_articles_example(service: FitService) -> None:
    view = last(service, FitChoice())
    assert view.name == "Gemma 4 12B" and view.table and view.kv
    assert view.levels == ("F16", "Q8_0", "Q4_K_M", "Q2_K")
    assert view.table.contexts[0] == 4096 and view.table.contexts[-1] == 262_144
    sizes = [(row.size.origin, row.size.weight_bytes) for row in view.table.rows]
    assert sizes == [("computed", GEMMA.weight_bytes[level]) for level in view.levels]
    assert kinds(view, "F16") == {"wont_fit"} and kinds(view, "Q4_K_M") == {"fits"}
    assert view.kv.naive[-1] == 96 * GIB and view.kv.naive[-1] > 20 * view.kv.planned[-1]


def test_a_model_on_disk_is_planned_from_its_file_as_chat_loads_it(service: FitService, services: Services) -> None:
    view = last(service, FitChoice(STARTER))
    assert view.table and view.choice.chats == 4 and view.choice.level == "Q4_1"
    row = next(row for row in view.table.rows if row.size.level == "Q4_1")
    assert row.size.origin == "file"
    plan = services.planner.plan(services.library.find_file("starter").path, row.cells[0].plan.context)
    assert (row.cells[0].plan.kv_cache, row.cells[0].plan.needed) == (plan.kv_cache, plan.needed)


def test_levels_that_can_be_made_have_their_exact_size(service: FitService, services: Services) -> None:
    view = last(service, FitChoice(STARTER))
    assert view.table
    q2_k = next(row.size for row in view.table.rows if row.size.level == "Q2_K")
    exact = services.quantization_jobs.makeable_levels("SmolLM2-135M-Instruct")["Q2_K"]
    assert q2_k.origin == "to be made" and q2_k.weight_bytes == exact.weight_bytes
    assert 0 < exact.size - q2_k.weight_bytes < 5_000_000  # the header
    f16 = next(row.size for row in view.table.rows if row.size.level == "F16")
    assert f16.origin == "computed" and 2 * 134_515_008 <= f16.weight_bytes < 2.01 * 134_515_008


def test_a_model_with_experts_in_mxfp4_has_them_so_at_every_level(service: FitService) -> None:
    view = last(service, FitChoice("catalogue/gpt-oss-20b", computer="pc", memory="24", level="F16", context=4096))
    assert view.keeps_mxfp4 and view.table
    assert [round(row.size.weight_bytes / 1e9, 1) for row in view.table.rows] == [13.8, 12.1, 11.6, 11.5]
    assert kinds(view, "F16") <= {"fits", "tight"}  # 24 GB are enough, where parameters times bits asked for 64


def test_cells_on_this_computer_have_the_speed_that_is_forecast(service: FitService, services: Services) -> None:
    starter = services.library.find_file("starter")
    forecast = services.forecaster.forecast_file(starter.path, wait=True)
    view = last(service, FitChoice(STARTER))
    assert forecast and view.table
    cell = view.table.cell("Q4_1", 2048)
    assert cell and cell.speed == (forecast.low, forecast.high)
    other = last(service, FitChoice(STARTER, computer="mac"))
    assert other.table and {cell.speed for row in other.table.rows for cell in row.cells} == {None}


def test_the_kv_type_changes_the_cache_and_nothing_of_the_weights(service: FitService) -> None:
    f16, q8_0 = last(service, FitChoice(kv_type="f16")), last(service, FitChoice(kv_type="q8_0"))
    assert f16.kv and q8_0.kv and f16.table and q8_0.table
    assert q8_0.kv.planned[-1] / f16.kv.planned[-1] == pytest.approx(17 / 32, rel=0.01)
    assert q8_0.table.rows[0].size == f16.table.rows[0].size


def test_another_computer_is_judged_by_its_own_memory(service: FitService) -> None:
    small, large = (last(service, FitChoice(computer="pc", memory=size)) for size in ("8", "128"))
    assert small.table and small.table.usable == 8 * GIB - 3 * GIGABYTE
    assert kinds(small, "Q4_K_M") == {"wont_fit"} and kinds(large, "F16") == {"fits"}
    other = last(service, FitChoice(computer="pc", memory="other", other_gb=10.5))
    assert other.table and other.table.usable == 10.5 * GIB - 3 * GIGABYTE
    phone = last(service, FitChoice(computer="phone", memory="12"))
    assert phone.table and phone.table.usable == 6 * GIB and not phone.table.budget.devices


def where(view: FitView, level: str) -> list[str]:
    assert view.table
    return [cell.where for row in view.table.rows if row.size.level == level for cell in row.cells]


def test_on_a_computer_with_a_gpu_each_cell_says_where_it_would_run(service: FitService) -> None:
    """Planned by llama.cpp on a made-up GPU of 12 GB, 11 of which a model can have, beside 29 GiB of RAM."""
    view = last(service, FitChoice(computer="gpu", gpu_gb=12, memory="32", level="Q8_0"))
    assert set(where(view, "Q2_K")) == {"all on the GPU"}
    layers = [int(text.removesuffix(" of 49 layers")) for text in where(view, "Q8_0")]
    assert layers == sorted(layers, reverse=True) and 40 >= layers[0] > layers[-1] > 20
    assert view.table
    cell = view.table.cell("Q8_0", 4096)
    assert cell and cell.reason.endswith("level Q4_K_M would fit whole.")
    assert cell.plan.on_device("MadeUp0") < 11 * GIB < cell.plan.needed_everywhere
    assert cell.plan.all_weights == pytest.approx(GEMMA.weight_bytes["Q8_0"] * (1 + 1 / 12), rel=0.05)  # tied output
    small = last(service, FitChoice(computer="gpu", gpu_gb=8, memory="16"))
    assert kinds(small, "F16") == {"wont_fit"} and set(where(small, "F16")) == {""}


def test_the_experts_of_a_mixture_go_to_ram_first(service: FitService) -> None:
    view = last(service, FitChoice("catalogue/gpt-oss-20b", computer="gpu", gpu_gb=8, memory="32"))
    assert all(re.fullmatch(r"experts of \d+ in RAM", text) for text in where(view, "Q4_K_M"))


def test_a_macs_memory_counts_once(service: FitService) -> None:
    """Of 16 GB, macOS lets the GPU have two thirds."""
    view = last(service, FitChoice(computer="mac", memory="16"))
    assert view.table and view.table.usable == 16 * GIB - 3 * GIGABYTE
    assert where(view, "Q4_K_M")[:5] == ["all on the GPU"] * 5 and kinds(view, "F16") == {"wont_fit"}


def test_this_computers_own_gpu_is_judged_by_its_memory(services: Services, gpus: Gpus) -> None:
    gpus(96)
    with Services(services.settings) as with_gpu:
        view = last(FitService(with_gpu, HubService(with_gpu)), FitChoice(STARTER, chats=1))
    assert view.table and view.table.budget.devices
    assert re.fullmatch(r"\d+ of 31 layers", where(view, "F16")[0]) and where(view, "Q4_1")[0] != "RAM only"
    own = view.table.cell("Q4_1", 2048)
    assert own and own.plan.all_weights >= own.on_cpu.weights


def test_eight_levels_on_request(service: FitService) -> None:
    assert len(last(service, FitChoice(every_level=True)).levels) == 8


def test_a_chosen_level_and_context_that_the_model_lacks_give_way(service: FitService) -> None:
    choice = last(service, FitChoice(STARTER, level="Q9", context=262_144)).choice
    assert (choice.level, choice.context) == ("Q4_1", 8192)


@pytest.mark.parametrize("model", ["disk", "", None])
def test_a_model_that_is_not_on_offer_becomes_the_first(service: FitService, model: str | None) -> None:
    assert next(iter(service.views(FitChoice(model)))).choice.model == FIRST_MODEL


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"model": [], "computer": {}, "other_gb": "9", "kv_type": "f64", "chats": "4", "level": 3}, FitChoice()),
        ({"other_gb": float("nan"), "context": "128K"}, FitChoice()),
        ({"other_gb": 10**400, "computer": "9999", "memory": "32", "context": -1}, FitChoice()),
        ({"other_gb": 1e99, "chats": 10**9, "kv_type": ["f16"]}, FitChoice()),
        ({"computer": "mac", "memory": "13", "gpu_gb": 9}, FitChoice(computer="mac")),
        ({"computer": "gpu", "memory": "64", "gpu_gb": 24}, FitChoice(computer="gpu", memory="64", gpu_gb=24)),
        ({"model": "m", "levels": "eight", "chats": 4}, FitChoice("m", every_level=True, chats=4)),
    ],
)
def test_an_impossible_value_from_a_browser_becomes_the_default(sent: dict[str, object], read: FitChoice) -> None:
    assert FitChoice.from_browser(**sent) == read


def test_a_model_that_llama_cpp_refuses_is_a_message_in_place_of_the_table(tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path)) as services:
        broken = services.library.dropped_folder / "Broken-Q4_0.gguf"
        broken.parent.mkdir(parents=True)
        broken.write_bytes(small_model())
        view = last(FitService(services, HubService(services)), FitChoice("disk/Broken"))
    assert view.table is None and "llama.cpp" in str(view.message)


# --- a click on a cell ---


def test_a_cell_of_a_model_on_disk_opens_chat_with_it(service: FitService) -> None:
    action = service.cell_action(FitChoice(STARTER, kv_type="q8_0"), "Q4_1|4096")
    assert action.chat == ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 4096, "q8_0")


def test_a_cell_of_a_level_that_can_be_made_opens_chat_too(service: FitService) -> None:
    action = service.cell_action(FitChoice(STARTER), "Q2_K|2048")
    assert action.chat == ModelChoice("SmolLM2-135M-Instruct", "Q2_K", 2048)


def test_a_cell_of_a_model_that_is_not_here_says_where_to_get_it(service: FitService) -> None:
    action = service.cell_action(FitChoice(FIRST_MODEL), "Q4_K_M|131072")
    assert action.chat is None and action.repo == "unsloth/gemma-4-12b-it-GGUF"
    assert action.repo in action.notice.text and "Q4_K_M is not on this computer yet" in action.notice.text


@pytest.mark.parametrize("cell", [None, "", "Q4_1", "Q4_1|", "Q9|4096", "Q4_1|-1", "Q4_1|٣", "Q4_1|" + "9" * 30, 7])
def test_a_cell_that_is_none_opens_nothing(service: FitService, cell: object) -> None:
    action = service.cell_action(FitChoice(STARTER), cell)
    assert action.chat is None and "no longer in the table" in action.notice.text
