"""Where a model runs: the order in which Automatic gives way, with plans made up so that every step can be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from playground.errors import PlaygroundError
from playground.fit.budget import Budget, DeviceBudget, GpuMargin
from playground.fit.offload import LayerCount, choose_placement
from playground.fit.plan import MemoryPlan, Part, PartKind
from playground.fit.verdict import budget_after, judge
from playground.llama.devices import Device
from playground.llama.params import ALL_LAYERS, AUTOMATIC_CHOICE, CPU_ONLY, ContextParameters, DeviceChoice, Placement

MIB, GIB = 1 << 20, 1 << 30
LAYERS = 48  # of a model whose layers take 256 MiB each, of which 200 MiB are experts
LAYER, EXPERTS = 256 * MIB, 200 * MIB
DENSE, MIXTURE = LayerCount(LAYERS, has_experts=False), LayerCount(LAYERS, has_experts=True)
EMPTY = MemoryPlan(ContextParameters(4096), 0, 0, 0, 0, 0, 0, 0)


def card(gib: float, name: str = "CUDA0", *, unified: bool = False, margin: int = 0) -> DeviceBudget:
    return DeviceBudget(name, "NVIDIA GeForce RTX 4070", round(gib * GIB), unified, margin)


def plan_at(placement: Placement) -> MemoryPlan:
    """On the devices what the placement says, the rest in RAM."""
    context = ContextParameters(4096, placement=placement)
    total = LAYERS * LAYER
    parts = []
    for name in placement.devices:
        layers = placement.layers_of(name, LAYERS)
        parts.append(Part("weights", name, layers * LAYER - min(layers, placement.experts_in_ram) * EXPERTS))
    return replace(EMPTY, context=context, weights=total - sum(part.bytes for part in parts), on_devices=tuple(parts))


def chosen(budget: Budget, choice: DeviceChoice = AUTOMATIC_CHOICE, count: LayerCount = DENSE) -> tuple[Placement, str]:
    run = choose_placement(choice, budget, count, plan_at)
    return run.placement, run.reason


# --- Automatic ---


def test_all_layers_go_to_the_gpu_if_they_fit() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(12),)))
    assert placement == Placement(("CUDA0",), ALL_LAYERS)
    assert reason == "All 48 layers on the GPU."


def test_as_many_layers_as_fit_go_to_the_gpu_and_the_reason_has_the_figures() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(7.1),)))
    assert placement.gpu_layers == 28
    assert reason == "28 of 48 layers on the GPU: all would need 12.9 GB of GPU memory, and 7.62 GB are free."


def test_the_margin_is_the_smaller_of_bytes_and_a_share() -> None:
    assert GpuMargin().of(12 * GIB) == round(0.6 * GIB) and GpuMargin().of(80 * GIB) == GIB
    assert GpuMargin(most_bytes=0).of(12 * GIB) == 0 and GpuMargin(share=0.5).of(12 * GIB) == GIB


def test_a_margin_of_the_gpus_memory_is_left_free() -> None:
    placement, _ = chosen(Budget(64 * GIB, (card(7.1, margin=GIB),)))
    assert placement.gpu_layers == 24


def test_the_reason_names_the_largest_level_that_would_fit_whole() -> None:
    budget = Budget(64 * GIB, (card(10.9),))
    levels = {"Q4_K_M": LAYERS * LAYER, "Q3_K_M": 10 * GIB, "Q2_K": 8 * GIB}
    run = choose_placement(AUTOMATIC_CHOICE, budget, DENSE, plan_at, levels)
    assert run.reason == (
        "43 of 48 layers on the GPU: all would need 12.9 GB of GPU memory, and 11.7 GB are free; level Q3_K_M would "
        "fit whole."
    )
    none = choose_placement(AUTOMATIC_CHOICE, budget, DENSE, plan_at, {"Q4_K_M": LAYERS * LAYER})
    assert none.reason.endswith("11.7 GB are free.")


@pytest.mark.parametrize("gib", [0.3, 1, 3.3, 6, 9.7, 11.9])
def test_the_number_of_layers_is_found_with_few_questions(gib: float) -> None:
    asked = set()

    def plan_and_count(placement: Placement) -> MemoryPlan:
        asked.add(placement)
        return plan_at(placement)

    run = choose_placement(AUTOMATIC_CHOICE, Budget(64 * GIB, (card(gib),)), DENSE, plan_and_count)
    assert run.placement.gpu_layers == int(gib * 4)
    assert len(asked) <= 4


def test_experts_go_to_ram_before_whole_layers_do() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(7.1),)), count=MIXTURE)
    assert placement.gpu_layers == ALL_LAYERS and placement.experts_in_ram == 26
    assert reason.startswith("All 48 layers on the GPU, but the experts of 26 of them in RAM: all would need 12.9 GB")


def test_layers_stay_in_ram_where_their_experts_alone_do_not_make_room() -> None:
    placement, _ = chosen(Budget(64 * GIB, (card(1.5),)), count=MIXTURE)
    assert placement.experts_in_ram == 0 and placement.gpu_layers == 6


def test_without_room_for_one_layer_the_cpu_runs_it() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(0.1),)))
    assert placement == CPU_ONLY and reason.startswith("No layer on the GPU: all would need 12.9 GB")


def test_several_gpus_share_the_layers_by_their_free_memory() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(9), card(6, "CUDA1"))))
    assert placement.devices == ("CUDA0", "CUDA1") and placement.split == (9 * 1024, 6 * 1024)
    assert [placement.layers_of(name, LAYERS) for name in placement.devices] == [29, 19]
    assert reason == "All 48 layers on 2 GPUs."


def test_without_a_gpu_there_is_nothing_to_choose_and_nothing_to_say() -> None:
    assert chosen(Budget(64 * GIB)) == (CPU_ONLY, "")


# --- a choice ---


def test_a_chosen_number_of_layers_is_kept_even_if_it_does_not_fit() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(2),)), DeviceChoice(gpu_layers=27))
    assert placement.gpu_layers == 27 and reason == "27 of 48 layers on the GPU, as chosen."


def test_a_chosen_gpu_is_the_only_one_used() -> None:
    placement, _ = chosen(Budget(64 * GIB, (card(24), card(24, "CUDA1"))), DeviceChoice("cuda1"))
    assert placement.devices == ("CUDA1",)


def test_cpu_only_is_cpu_only() -> None:
    assert chosen(Budget(64 * GIB, (card(24),)), DeviceChoice("cpu")) == (CPU_ONLY, "On the CPU, as chosen.")
    assert chosen(Budget(64 * GIB, (card(24),)), DeviceChoice(gpu_layers=0))[0] == CPU_ONLY


def test_chosen_experts_in_ram_are_kept() -> None:
    placement, _ = chosen(Budget(64 * GIB, (card(24),)), DeviceChoice(experts_in_ram=10), MIXTURE)
    assert placement.gpu_layers == ALL_LAYERS and placement.experts_in_ram == 10


def test_chosen_experts_in_ram_are_kept_where_not_all_layers_fit_beside_them() -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(6),)), DeviceChoice(experts_in_ram=20), MIXTURE)
    assert placement.experts_in_ram == 20 and 0 < placement.gpu_layers < LAYERS
    inside = 20 - (LAYERS - placement.gpu_layers)  # the experts come from the first layers, the GPU's from the last
    assert reason.startswith(
        f"{placement.gpu_layers} of 48 layers on the GPU, but the experts of {inside} of them in RAM"
    )


@pytest.mark.parametrize("layers", [None, 27])
def test_a_model_without_experts_has_none_in_ram(layers: int | None) -> None:
    placement, reason = chosen(Budget(64 * GIB, (card(24),)), DeviceChoice("auto", layers, 12))
    assert placement.experts_in_ram == 0 and "experts" not in reason


def test_no_experts_in_ram_is_a_choice_too() -> None:
    placement, _ = chosen(Budget(64 * GIB, (card(7.1),)), DeviceChoice(experts_in_ram=0), MIXTURE)
    assert placement.experts_in_ram == 0 and placement.gpu_layers == 28


def test_a_gpu_that_is_not_there_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(PlaygroundError, match=r"no device CUDA7 here\. Choose one of: auto, cpu, CUDA0\."):
        chosen(Budget(64 * GIB, (card(24),)), DeviceChoice("CUDA7"))


@pytest.mark.parametrize("text", [
    "auto", "cpu", "auto:all", "auto:27", "CUDA0", "CUDA1:0", "RPC0[127.0.0.1-9]:3", "auto,experts=12",
    "CUDA1:all,experts=0",
])  # fmt: skip
def test_a_choice_survives_a_link_or_a_button(text: str) -> None:
    assert DeviceChoice.read(text).text == text


@pytest.mark.parametrize(
    "text", [None, 7, "", "auto:", "auto:-1", "auto:1.5", "x" * 99, "a b", "auto:all\n", "auto,experts=x"]
)
def test_an_impossible_choice_from_a_browser_is_automatic(text: object) -> None:
    assert DeviceChoice.read(text) == DeviceChoice()


# --- the verdict ---


def test_the_verdict_names_the_gpu_that_is_short() -> None:
    verdict = judge(plan_at(Placement(("CUDA0",), ALL_LAYERS)), Budget(64 * GIB, (card(8),)))
    assert verdict.kind == "wont_fit"
    assert verdict.reason == "12.9 GB must be in the memory of NVIDIA GeForce RTX 4070, and 8.59 GB are free."


def test_a_gpu_with_room_does_not_help_ram_that_is_short() -> None:
    verdict = judge(plan_at(Placement(("CUDA0",), 24)), Budget(4 * GIB, (card(24),)))
    assert verdict.kind == "wont_fit" and verdict.needed == 6 * GIB


def test_a_model_that_leaves_less_than_the_margin_is_a_tight_fit() -> None:
    plan = plan_at(Placement(("CUDA0",), ALL_LAYERS))
    assert judge(plan, Budget(64 * GIB, (card(13, margin=GIB),))).kind == "fits"
    assert judge(plan, Budget(64 * GIB, (card(12.5, margin=GIB),))).kind == "tight"


def test_unified_memory_counts_once_against_the_smaller_of_both_limits() -> None:
    plan = plan_at(Placement(("MTL0",), ALL_LAYERS))
    assert judge(plan, Budget(16 * GIB, (card(12.5, "MTL0", unified=True),))).kind == "fits"
    short_of_ram = judge(plan, Budget(11 * GIB, (card(12.5, "MTL0", unified=True),)))
    assert short_of_ram.kind == "wont_fit" and short_of_ram.usable == 11 * GIB
    assert judge(plan, Budget(16 * GIB, (card(11, "MTL0", unified=True),))).kind == "wont_fit"


def test_a_second_model_is_judged_by_what_the_first_one_leaves() -> None:
    plan = plan_at(Placement(("CUDA0",), ALL_LAYERS))
    left = budget_after(Budget(64 * GIB, (card(16),)), [plan])
    assert left.devices[0].usable == 4 * GIB
    assert judge(plan, left).kind == "wont_fit"


# --- published loads ---

# llama.cpp's own breakdown as published in its issues: MiB of model, context and compute on each device, what was free
# before the load, and whether it ran.
PUBLISHED = [
    ("15860: three RTX 4090", {"CUDA0": (13_169, 38, 985), "CUDA1": (13_169, 38, 548), "CUDA2": (13_169, 38, 548)},
     {"CUDA0": 23_629, "CUDA1": 23_624, "CUDA2": 23_624}, True),
    ("19437: GTX 1080 Ti", {"CUDA0": (9_814, 134, 51)}, {"CUDA0": 8_702}, False),
    ("22673: Apple M1 Max", {"MTL0": (37_515, 105, 489)}, {"MTL0": 53_082}, True),
]  # fmt: skip
KINDS: tuple[PartKind, ...] = ("weights", "kv_cache", "compute")


@pytest.mark.parametrize(("source", "held", "free", "ran"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_the_verdict_on_a_published_load_is_what_happened(
    source: str, held: dict[str, tuple[int, int, int]], free: dict[str, int], ran: bool
) -> None:
    devices = [
        Device(name, name, name[:-1], "GPU", size * MIB, size * MIB, unified=name == "MTL0")
        for name, size in free.items()
    ]
    budget = Budget(128 * GIB, tuple(map(DeviceBudget.of, devices)))
    parts = [
        Part(kind, name, size * MIB) for name, sizes in held.items() for kind, size in zip(KINDS, sizes, strict=True)
    ]
    assert (judge(replace(EMPTY, on_devices=tuple(parts)), budget).kind != "wont_fit") == ran, source
