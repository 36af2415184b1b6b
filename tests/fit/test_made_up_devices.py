"""Made-up GPUs: llama.cpp plans for them as for a real device of a split model, which ggml's RPC backend is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.fit.budget import Budget, DeviceBudget
from playground.fit.level_placer import move_layers
from playground.fit.planner import Planner
from playground.fit.weight_layout import WeightLayout
from playground.gguf.header import read_model_header
from playground.llama.made_up_devices import made_up_name
from playground.llama.params import ALL_LAYERS, ContextParameters, Placement
from playground.models.catalog import load_catalog
from tests.conftest import ONLY_ON_STAND_INS, Gpus

GIB = 1 << 30
EXPERTS = next(model for model in load_catalog() if model.id == "gpt-oss-20b").blueprint


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


def made_up(*gib: float) -> Budget:
    gpus = [DeviceBudget(made_up_name(i), f"GPU {i}", round(size * GIB), unified=False) for i, size in enumerate(gib)]
    return Budget(256 * GIB, tuple(gpus))


def parts(planner: Planner, path: Path, names: tuple[str, ...], layers: int) -> list[tuple[str, int, int]]:
    """(kind, device's number, bytes) of everything, but for what the process itself takes."""
    placement = Placement(names, layers, split=tuple(range(len(names), 0, -1)) if len(names) > 1 else ())
    plan = planner.plan(path, ContextParameters(2048, slots=1, placement=placement))
    numbers = {"": -1, **{name: number for number, name in enumerate(names)}}
    return sorted((part.kind, numbers[part.device], part.bytes) for part in plan.parts if part.kind != "base")


@ONLY_ON_STAND_INS
@pytest.mark.parametrize("layers", [ALL_LAYERS, 10])
def test_a_made_up_gpu_is_planned_as_a_real_device_is(layers: int, gpus: Gpus, planner: Planner, starter: Path) -> None:
    gpus(2048)
    with Planner() as of_devices:
        real = parts(of_devices, starter, ("RPC0",), layers)
    assert parts(planner, starter, (made_up_name(),), layers) == real


def test_two_made_up_gpus_share_the_layers(planner: Planner, starter: Path) -> None:
    names = (made_up_name(0), made_up_name(1))
    both = parts(planner, starter, names, ALL_LAYERS)
    weights = {device: size for kind, device, size in both if kind == "weights"}
    kv_cache = {device: size for kind, device, size in both if kind == "kv_cache"}
    # the output is the last of 31, and has no cache
    assert kv_cache == {0: 21 * 45 * (1 << 20) // 30, 1: 9 * 45 * (1 << 20) // 30}
    assert weights[0] < 2 * weights[1]  # of the output, the device has a copy


def test_the_experts_of_some_layers_go_to_ram_before_whole_layers_do(planner: Planner) -> None:
    where = planner.place(EXPERTS, ContextParameters(4096, slots=1), made_up(60))
    placement = where.plan.context.placement
    assert placement.gpu_layers == ALL_LAYERS and 0 < placement.experts_in_ram < planner.layer_count(EXPERTS).layers
    assert where.plan.on_device(made_up_name()) <= 60 * GIB
    fewer = Placement(placement.devices, ALL_LAYERS, placement.experts_in_ram - 1)
    assert planner.plan(EXPERTS, ContextParameters(4096, slots=1, placement=fewer)).on_device(made_up_name()) > 60 * GIB


def test_a_second_plan_without_the_vocabulary_is_the_same(starter: Path) -> None:
    """Only the first opening of a file reads the vocabulary; the others take its size from it."""
    first, second = ContextParameters(4096), ContextParameters(8192)
    with Planner() as planner, Planner() as other:
        planner.plan(starter, first)
        planner.plan(starter, ContextParameters(4096, placement=Placement((made_up_name(),), 5)))
        planner.plan(starter, ContextParameters(4096, placement=Placement((made_up_name(),), 6)))
        planner.plan(starter, ContextParameters(4096, placement=Placement((made_up_name(),), 7)))
        planner.plan(starter, ContextParameters(4096, placement=Placement((made_up_name(),), 8)))
        again, whole = planner.plan(starter, second), other.plan(starter, second)
    assert [part for part in again.parts if part.kind != "base"] == [
        part for part in whole.parts if part.kind != "base"
    ]
    assert abs(again.base - whole.base) < 4 << 20


@pytest.mark.parametrize("layers", [ALL_LAYERS, 10])
def test_moving_layers_by_the_table_of_tensors_comes_near_to_the_dry_run(
    layers: int, planner: Planner, starter: Path
) -> None:
    placement = Placement((made_up_name(),), layers)
    context = ContextParameters(2048, slots=1)
    estimate = move_layers(planner.plan(starter, context), placement, planner.layer_count(starter).layers)
    exact = planner.plan(starter, replace(context, placement=placement))
    tensors = read_model_header(starter).tensors
    layout = WeightLayout.of(tensors, planner.layer_count(starter).layers)
    assert layout and estimate.kv_cache == exact.kv_cache
    placed = layout.plan_with_weights(estimate)
    name = made_up_name()
    by_kind = {part.kind: part.bytes for part in exact.on_devices}
    assert {part.kind: part.bytes for part in placed.on_devices if part.kind != "compute"} == {
        kind: size for kind, size in by_kind.items() if kind != "compute"
    }
    assert placed.on_device(name) == pytest.approx(exact.on_device(name), rel=0.15)
    assert placed.weights == exact.weights
