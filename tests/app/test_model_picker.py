"""The model picker on the real starter model: levels, contexts, plans, and levels that can be made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from playground.app.compare.dial import DialService
from playground.app.messages import CLEAR
from playground.app.model_picker.choice import LevelRow, ModelChoice
from playground.app.model_picker.makeable_levels import QuantizationUpdate
from playground.app.model_picker.service import ModelPickerService
from playground.app.model_picker.view import PickerView, what_replaced
from playground.app.services import Services
from playground.chat.saved_chat import ChatSettings
from playground.errors import ModelNotFound
from playground.fit.budget import Budget
from playground.gguf.tensors import TensorType
from playground.llama.cpu_kernels import speed_note
from playground.llama.devices import read_devices
from playground.llama.params import MOST_CONTEXT, ContextParameters, DeviceChoice
from playground.measure.forecast import SpeedForecaster
from playground.models.catalog import load_catalog
from playground.quantize.quantize import quantize_file
from playground.settings import load_settings
from scripts.tensor_tables import write_stand_in
from tests.conftest import ONLY_ON_STAND_INS, Gpus

NAME = "SmolLM2-135M-Instruct"
STARTER = ModelChoice(NAME, "Q4_1", 2048)


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """For tests that leave the models as they are."""
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield services


@pytest.fixture
def own_services(starter: Path, tmp_path: Path) -> Iterator[Services]:
    """For a test that adds models."""
    with Services(load_settings(data_dir=tmp_path / "data")) as services:
        yield services


@pytest.fixture
def picker(services: Services) -> ModelPickerService:
    return picker_over(services)


def picker_over(services: Services) -> ModelPickerService:
    return ModelPickerService(
        services.library, services.planner, services.pool.budget_for, 4, services.quantization_jobs
    )


@pytest.fixture
def made(services: Services, starter: Path) -> Iterator[Path]:
    """A Q8_0 made from the starter, for one test."""
    path = services.library.path_for_level(NAME, "Q8_0")
    for _ in quantize_file(starter, "Q8_0", path, threads=2):
        pass
    yield path
    path.unlink()


def row_of(view: PickerView, name: str) -> LevelRow:
    return next(row for row in (*view.levels, *view.makeable) if row.name == name)


def test_the_first_view_is_quick_and_the_last_complete(picker: ModelPickerService) -> None:
    views = list(picker.views(ModelChoice()))
    assert views[0].levels and views[0].plan is None
    last = views[-1]
    assert last.plan and last.verdict
    assert [row.name for row in last.levels] == ["Q4_1"]
    assert [step.tokens for step in last.steps] == [2048, 4096, 8192]
    assert last.choice == ModelChoice(NAME, "Q4_1", 4096)


def test_a_drawing_asks_once_how_much_memory_is_free_and_a_dial_never(services: Services) -> None:
    asked: list[Path] = []

    def budget_for(path: Path) -> Budget:
        asked.append(path)
        return Budget(1 << 33)

    picker = ModelPickerService(services.library, services.planner, budget_for, 4, services.quantization_jobs)
    assert list(picker.views(STARTER))[-1].budget == Budget(1 << 33)
    assert len(asked) == 1
    assert DialService(services, picker).dial_of(NAME).stops
    assert len(asked) == 1


def test_the_largest_comfortable_model_comes_before_the_starter(own_services: Services, starter: Path) -> None:
    """Three copies of the starter: one that is comfortable, one slower than reading, and one too large to be."""

    def speeds(threads: int, types: Sequence[TensorType]) -> dict[TensorType, float]:
        return dict.fromkeys(types, 5e10)

    forecaster = SpeedForecaster(own_services.settings.data_dir / "speeds.json", 2, speeds)
    folder = own_services.library.dropped_folder
    folder.mkdir(parents=True)
    for name, extra in (("Good-1B-Q4_1", 0), ("Slow-2B-Q4_1", 1 << 20), ("Large-3B-Q4_1", 1 << 40)):
        with (folder / f"{name}.gguf").open("wb") as copy:
            copy.write(starter.read_bytes())
            copy.truncate(copy.tell() + extra)
    forecaster.record_reply(folder / "Slow-2B-Q4_1.gguf", "CPU", 2, 64, 100, 3.0)
    picker = ModelPickerService(
        own_services.library, own_services.planner, own_services.pool.budget_for, 4, forecaster=forecaster
    )
    last = list(picker.views(ModelChoice()))[-1]
    assert last.choice.model == "Good-1B"
    assert last.levels[0].forecast is not None
    assert "tok/s here" in last.levels[0].forecast.text


def test_the_level_that_others_were_made_from_is_recommended(picker: ModelPickerService, made: Path) -> None:
    last = list(picker.views(ModelChoice()))[-1]
    assert [(row.name, row.recommended) for row in last.levels] == [("Q4_1", True), ("Q8_0", False)]
    assert "Made from the Q4_1 file" in last.levels[1].notes[0]
    assert last.choice.level == "Q4_1"


def test_where_the_gpu_is_short_the_reason_names_a_level_that_would_fit_whole(gpus: Gpus, services: Services) -> None:
    gpus(190)
    with Services(services.settings) as here:
        picker = ModelPickerService(here.library, here.planner, here.pool.budget_for, 4, here.quantization_jobs)
        view = list(picker.views(ModelChoice(NAME, "Q4_1", 4096)))[-1]
    assert re.fullmatch(
        r"\d+ of 31 layers on the GPU: all would need [\d.]+ MB of GPU memory, and 199 MB are free; "
        r"level Q\w+ would fit whole\.",
        view.where,
    )


def test_the_experts_of_so_many_layers_are_in_ram_as_chosen(gpus: Gpus, own_services: Services) -> None:
    blueprint = next(model.blueprint for model in load_catalog() if model.keeps_mxfp4)
    own_services.library.dropped_folder.mkdir(parents=True)
    write_stand_in(own_services.library.dropped_folder / "Fox-20B-MXFP4.gguf", blueprint, blueprint.tensors)
    gpus(12 * 1024, 8 * 1024)
    budget = Budget.of(64 << 30, read_devices())
    picker = ModelPickerService(own_services.library, own_services.planner, lambda path: budget, 4)
    on_second = ModelChoice("Fox-20B", device=DeviceChoice("rpc1", experts_in_ram=20))
    views = list(picker.views(on_second))
    assert views[0].has_experts is None and views[-1].has_experts
    assert views[-1].choice.device.text == "RPC1,experts=20"
    assert views[-1].where == "All 25 layers on the GPU, but the experts of 20 of them in RAM, as chosen."
    assert views[-1].plan and views[-1].plan.device_names == ("RPC1",)
    dense = list(picker.views(replace(STARTER, device=on_second.device)))[-1]
    assert dense.has_experts is False and dense.where == "All 31 layers on the GPU."


@ONLY_ON_STAND_INS  # it begins on a computer without a GPU
def test_a_chat_from_a_computer_with_other_gpus_says_where_it_runs_now(gpus: Gpus, services: Services) -> None:
    wanted = replace(STARTER, device=DeviceChoice.read("CUDA3:12"))

    def restored() -> tuple[PickerView, str]:
        with Services(services.settings) as here:
            *_, view = ModelPickerService(here.library, here.planner, here.pool.budget_for, 4).views(wanted)
        return view, what_replaced(wanted, view)

    view, sentence = restored()
    assert sentence == "This chat ran on a GPU, and there is none here; the CPU is chosen instead."
    assert view.plan and not view.problem
    gpus(1024)
    view, sentence = restored()
    assert sentence == "This chat ran on CUDA3, which is not a GPU of this computer; Automatic is chosen instead."
    assert view.choice.device == DeviceChoice() and view.where == "All 31 layers on the GPU."


def test_a_level_without_a_fast_kernel_here_is_marked(picker: ModelPickerService) -> None:
    last = list(picker.views(STARTER))[-1]
    assert speed_note(TensorType.Q2_0) in (None, *row_of(last, "Q2_0").notes)
    assert not any("slower" in note or "Slow" in note for note in row_of(last, "Q4_0").notes)


def test_experts_that_stay_mxfp4_are_told_at_every_other_level(own_services: Services) -> None:
    picker = picker_over(own_services)
    blueprint = next(model.blueprint for model in load_catalog() if model.keeps_mxfp4)
    folder = own_services.library.dropped_folder
    folder.mkdir(parents=True)
    for level in ("Q8_0", "MXFP4"):
        write_stand_in(folder / f"Fox-20B-{level}.gguf", blueprint, blueprint.tensors)
    first = next(iter(picker.views(ModelChoice("Fox-20B"))))
    assert "Its experts stay MXFP4 (4.25 bits per weight) at every level" in " ".join(row_of(first, "Q8_0").notes)
    assert not any("experts" in note for note in row_of(first, "MXFP4").notes)


@pytest.mark.parametrize("length", [0, 2**31, 2**32 - 1])
def test_an_impossible_context_is_a_row_with_a_sentence_beside_the_others(
    own_services: Services, starter: Path, length: int
) -> None:
    picker = picker_over(own_services)
    key = b"llama.context_length"
    content = starter.read_bytes()
    at = content.index(key) + len(key) + 4  # after the type of the value
    odd = own_services.library.path_for_level(NAME, "Q5_0")
    odd.parent.mkdir(parents=True)
    odd.write_bytes(content[:at] + length.to_bytes(4, "little") + content[at + 4 :])
    chosen = list(picker.views(ModelChoice(NAME, "Q5_0")))[-1]
    assert "impossible context length" in chosen.problem and chosen.plan is None
    assert row_of(chosen, "Q4_1").verdict and "impossible" in " ".join(row_of(chosen, "Q5_0").notes)
    first = list(picker.views(ModelChoice()))[-1]
    assert first.plan and first.choice.level == "Q4_1" and not first.problem


def test_the_largest_context_of_a_header_is_cut_to_what_can_be_planned(
    services: Services, starter: Path, tmp_path: Path
) -> None:
    key = b"llama.context_length"
    content = starter.read_bytes()
    at = content.index(key) + len(key) + 4
    path = tmp_path / "Far-Q4_1.gguf"
    path.write_bytes(content[:at] + (2**31 - 1).to_bytes(4, "little") + content[at + 4 :])
    assert services.planner.trained_context(path) == MOST_CONTEXT


def test_where_memory_is_short_a_smaller_context_is_chosen_by_itself(services: Services, starter: Path) -> None:
    needed = services.planner.plan(starter, ContextParameters(2048, slots=4)).needed
    budget = Budget(round(needed / 0.9) + (4 << 20))  # too little for the usual context
    picker = ModelPickerService(services.library, services.planner, lambda _: budget, 4)
    last = list(picker.views(ModelChoice()))[-1]
    assert last.choice.context_size == 2048
    assert last.verdict and last.verdict.kind == "fits"
    asked = list(picker.views(ModelChoice(NAME, "Q4_1", 4096)))[-1]  # what a person has chosen stays
    assert asked.choice.context_size == 4096 and asked.verdict and asked.verdict.kind != "fits"


def test_a_larger_context_takes_more_memory(picker: ModelPickerService) -> None:
    plans = [list(picker.views(replace(STARTER, context_size=size)))[-1].plan for size in (2048, 4096, 8192)]
    assert all(small and large and small.kv_cache < large.kv_cache for small, large in pairwise(plans))


def test_a_context_beyond_the_trained_one_becomes_the_trained_one(picker: ModelPickerService) -> None:
    assert list(picker.views(replace(STARTER, context_size=99_999)))[-1].choice.context_size == 8192


@pytest.mark.parametrize("value", ["/etc/passwd", "../x", "Q9", "", "Q4_1\x00"])
def test_a_level_that_is_not_listed_is_refused(picker: ModelPickerService, value: str) -> None:
    with pytest.raises(ModelNotFound):
        picker.find_file(replace(STARTER, level=value))


@pytest.mark.parametrize("size", ["", None, "-1", "0", "1e9", "١٢", "9" * 40, [], "abc"])
def test_a_context_that_is_no_number_is_left_to_the_playground(size: object) -> None:
    assert ModelChoice.read("m", "Q4_1", size, "q7").context_size is None
    assert ModelChoice.read("m", "Q4_1", size, "q7").kv_type == "f16"


# --- levels that can be made ---


def test_levels_that_can_be_made_are_listed_with_exact_size_and_bits(picker: ModelPickerService) -> None:
    last = list(picker.views(ModelChoice()))[-1]
    low = row_of(last, "Q2_K")
    assert last.made_from == "Q4_1" and last.choice.level == "Q4_1" and last.to_make is None
    assert "Q4_1" not in [row.name for row in last.makeable]
    assert low.bits_per_weight == pytest.approx(5.14, abs=0.01) and low.verdict
    assert "Averages 5.1 bits per weight, because" in low.notes[0]
    assert "Made from the Q4_1 file" in low.notes[0]


def test_a_level_that_can_be_made_is_planned_as_it_will_be(own_services: Services) -> None:
    picker = picker_over(own_services)
    planned = list(picker.views(ModelChoice(NAME, "Q2_0", 4096)))[-1]
    assert planned.to_make and planned.to_make.size == row_of(planned, "Q2_0").size
    updates = list(picker.make_level(planned.choice))
    assert updates[-1] == QuantizationUpdate(CLEAR, is_made=True)
    made = list(picker.views(planned.choice))[-1]
    assert made.to_make is None and "Q2_0" in [row.name for row in made.levels]
    assert "Q2_0" not in [row.name for row in made.makeable]
    assert planned.plan and made.plan
    assert planned.plan.total == pytest.approx(made.plan.total, rel=0.03)
    assert planned.plan.kv_cache == made.plan.kv_cache
    assert planned.plan.weights == pytest.approx(made.plan.weights, abs=1024)  # the note in the made file's header


def test_a_stopped_quantization_says_so_and_can_be_started_again(picker: ModelPickerService) -> None:
    updates = list(picker.make_level(ModelChoice(NAME, "Q8_0"), lambda: True))
    assert "Nothing was kept" in str(updates[-1].message) and not updates[-1].is_made
    assert "Q8_0" in [row.name for row in list(picker.views(ModelChoice()))[-1].makeable]


def test_a_level_that_is_made_while_the_picker_is_drawn_counts_as_here(own_services: Services) -> None:
    picker = picker_over(own_services)
    wanted = ModelChoice(NAME, "Q2_0")
    views = picker.views(wanted)
    assert next(views).to_make
    assert list(picker.make_level(wanted))[-1].is_made
    last = list(views)[-1]
    assert last.choice.level == "Q2_0" and last.plan and not last.to_make


@pytest.mark.parametrize("level", ["Q1_0", "../x", "Q4_K_M\x00", ""])
def test_a_level_that_is_not_listed_is_not_made(picker: ModelPickerService, level: str) -> None:
    (_, refused) = picker.make_level(ModelChoice(NAME, level))
    assert "no longer on this computer" in str(refused.message)


def test_without_quantization_no_level_can_be_made(services: Services) -> None:
    picker = ModelPickerService(services.library, services.planner, services.pool.budget_for, 4)
    assert list(picker.views(ModelChoice(NAME, "Q2_0")))[-1].makeable == ()
    (_, refused) = picker.make_level(ModelChoice(NAME, "Q2_0"))
    assert "no longer on this computer" in str(refused.message)


# --- the model of a chat that comes back ---


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (STARTER, ""),
        (ModelChoice(), ""),
        (replace(STARTER, model="Gone\n7B"), "Gone 7B, the model of this chat, is not on this computer; SmolLM2 135M "),
        (replace(STARTER, level="Q9"), "Q9, the level of this chat, is not here any more; Q4_1 is chosen instead."),
        (
            replace(STARTER, context_size=16_384),
            "had a context of 16,384 tokens, more than SmolLM2 135M",
        ),
    ],
)
def test_what_is_not_to_be_had_is_named_with_what_takes_its_place(
    picker: ModelPickerService, wanted: ModelChoice, said: str
) -> None:
    sentence = what_replaced(wanted, list(picker.views(wanted))[-1])
    assert said in sentence and bool(sentence) == bool(said)


def test_what_a_link_asks_for_in_vain_is_told_as_that_of_a_link(picker: ModelPickerService) -> None:
    gone, level = replace(STARTER, model="Gone 7B"), replace(STARTER, level="Q9")
    context = replace(STARTER, context_size=16_384)
    for wanted, said in (
        (gone, "Gone 7B, the model of this link, is not on this computer; SmolLM2 135M Instruct Q4_1 "),
        (level, "Q9, the level of this link, is not here and cannot be made here; Q4_1 is chosen instead."),
        (context, "This link asks for a context of 16,384 tokens, more than SmolLM2 135M"),
    ):
        assert said in what_replaced(wanted, list(picker.views(wanted))[-1], "link")


def test_a_chat_without_a_choice_is_found_by_the_name_of_its_file(picker: ModelPickerService, starter: Path) -> None:
    assert picker.choice_of_chat(ChatSettings()) is None
    named = picker.choice_of_chat(ChatSettings(model_file=starter.name, context_size=2048))
    assert named == STARTER
    gone = picker.choice_of_chat(ChatSettings(model_file="Gone-Q8_0.gguf"))
    assert gone and gone.model == "Gone-Q8_0.gguf"
