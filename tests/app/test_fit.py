"""The Fit tab on the real planner: what a person sees of a choice, and what a cell opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.app.fit import FIRST_MODEL, FitChoice, FitService, FitView
from playground.app.hub import HubService
from playground.app.model_choice import ModelChoice
from playground.app.services import Services
from playground.models.catalog import load_catalog
from playground.settings import load_settings
from tests.support.gguf_bytes import small_model

GIB = 1 << 30
GEMMA = next(model for model in load_catalog() if model.id == "gemma4-12b")
STARTER = "disk/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield services


@pytest.fixture
def service(services: Services) -> FitService:
    return FitService(services, HubService(services), usable_for=lambda path: 16 * GIB)


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
    view = last(service, FitChoice("catalogue/gpt-oss-20b", computer="24", level="F16", context=4096))
    assert view.keeps_mxfp4 and view.table
    assert [round(row.size.weight_bytes / 1e9, 1) for row in view.table.rows] == [13.8, 12.1, 11.6, 11.5]
    assert kinds(view, "F16") <= {"fits", "tight"}  # 24 GB are enough, where parameters times bits asked for 64


def test_the_kv_type_changes_the_cache_and_nothing_of_the_weights(service: FitService) -> None:
    f16, q8_0 = last(service, FitChoice(kv_type="f16")), last(service, FitChoice(kv_type="q8_0"))
    assert f16.kv and q8_0.kv and f16.table and q8_0.table
    assert q8_0.kv.planned[-1] / f16.kv.planned[-1] == pytest.approx(17 / 32, rel=0.01)
    assert q8_0.table.rows[0].size == f16.table.rows[0].size


def test_another_computer_is_judged_by_its_own_memory(service: FitService) -> None:
    small, large = (last(service, FitChoice(computer=size)) for size in ("8", "128"))
    assert small.table and small.table.usable == 5 * GIB
    assert kinds(small, "Q4_K_M") == {"wont_fit"} and kinds(large, "F16") == {"fits"}
    other = last(service, FitChoice(computer="other", other_gb=10.5))
    assert other.table and other.table.usable == 7.5 * GIB


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
        ({"other_gb": 10**400, "computer": "9999", "context": -1}, FitChoice()),
        ({"other_gb": 1e99, "chats": 10**9, "kv_type": ["f16"]}, FitChoice()),
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
