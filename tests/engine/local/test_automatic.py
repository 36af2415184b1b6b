"""Automatic and the pool on real devices: ggml's RPC servers on loopback stand in for GPUs of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.lease import ModelLease
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Finished, ReplyRequest, Token
from playground.errors import DoesNotFit, ModelStopped, PlaygroundError
from playground.fit.budget import Budget
from playground.fit.planner import PlacedPlan, Planner
from playground.fit.verdict import judge
from playground.llama.devices import DeviceReader, read_devices
from playground.llama.params import ALL_LAYERS, ContextParameters, DeviceChoice
from playground.llama.sampling_extras import GREEDY
from playground.steps import Steps
from tests.conftest import GPU, ONLY_ON_STAND_INS, Gpus

RAM = 8 << 30
LAYERS = 31  # the starter's, with the output


def with_gpus(gpus: Gpus, *mebibytes: int) -> Budget:
    """What a model can have on a computer with GPUs of so many MiB."""
    gpus(*mebibytes)
    return Budget.of(RAM, read_devices())


def placed(path: Path, budget: Budget, choice: DeviceChoice, context_size: int = 2048) -> PlacedPlan:
    with Planner() as planner:
        return planner.place(path, ContextParameters(context_size, device=choice), budget)


# --- Automatic ---


def test_automatic_takes_the_whole_model_if_it_fits(gpus: Gpus, starter: Path) -> None:
    where = placed(starter, with_gpus(gpus, 2048), DeviceChoice())
    assert where.plan.context.placement.gpu_layers == ALL_LAYERS
    assert where.reason == "All 31 layers on the GPU."


def test_automatic_takes_as_many_layers_as_fit_and_says_why(gpus: Gpus, starter: Path) -> None:
    budget = with_gpus(gpus, 96)
    where = placed(starter, budget, DeviceChoice())
    layers = where.plan.context.placement.gpu_layers
    assert 0 < layers < LAYERS
    assert where.reason.startswith(f"{layers} of 31 layers on the GPU: all would need 15")
    assert judge(where.plan, budget.with_margins).kind != "wont_fit"
    one_more = placed(starter, budget, DeviceChoice(gpu_layers=layers + 1)).plan
    assert judge(one_more, budget.with_margins).kind == "wont_fit"


def test_automatic_stays_on_the_cpu_where_not_even_one_layer_fits(gpus: Gpus, starter: Path) -> None:
    where = placed(starter, with_gpus(gpus, 4), DeviceChoice())
    assert where.plan.context.placement.is_cpu_only
    assert where.reason.startswith("No layer on the GPU: all would need")


def test_a_verdict_names_the_device_that_is_short(gpus: Gpus, starter: Path) -> None:
    budget = with_gpus(gpus, 96)
    verdict = judge(placed(starter, budget, DeviceChoice(gpu_layers=ALL_LAYERS)).plan, budget)
    assert verdict.kind == "wont_fit" and budget.devices[0].description in verdict.reason


def test_a_device_that_is_not_there_is_refused_with_those_that_are(gpus: Gpus, starter: Path) -> None:
    with pytest.raises(PlaygroundError, match=r"There is no device CUDA7 here.*auto, cpu, " + GPU):
        placed(starter, with_gpus(gpus, 96), DeviceChoice("CUDA7"))


def test_two_devices_share_the_layers_by_their_free_memory(gpus: Gpus, starter: Path) -> None:
    where = placed(starter, with_gpus(gpus, 3072, 1024), DeviceChoice())
    placement = where.plan.context.placement
    assert (placement.devices, placement.split) == (("RPC0", "RPC1"), (3072, 1024))
    assert where.reason == "All 31 layers on 2 GPUs."


# --- the pool ---


def lease(pool: ModelPool, path: Path, choice: DeviceChoice) -> ModelLease:
    return Steps(pool.lease_model(path, ContextParameters(512, device=choice))).finish()


@contextmanager
def pool_with_devices() -> Iterator[ModelPool]:
    cores = CpuShares(1)
    with Planner() as planner, DeviceReader() as devices:
        pool = ModelPool(cores, planner, lambda: RAM, devices=devices)
        try:
            yield pool
        finally:
            pool.close()
            cores.close()


def test_one_level_runs_on_the_gpu_and_on_the_cpu_beside_each_other(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    with (
        pool_with_devices() as pool,
        lease(pool, starter, DeviceChoice()) as on_gpu,
        lease(pool, starter, DeviceChoice("cpu")) as on_cpu,
        lease(pool, starter, DeviceChoice()) as again,
    ):
        assert on_gpu.engine.pid != on_cpu.engine.pid
        assert again.engine.pid == on_gpu.engine.pid
        assert on_gpu.plan.context.placement.name == GPU and on_cpu.plan.context.placement.name == "CPU"


def test_a_load_that_a_device_cannot_hold_is_refused_before_it_begins(gpus: Gpus, starter: Path) -> None:
    gpus(96)
    with pool_with_devices() as pool, pytest.raises(DoesNotFit, match="must be in the memory of"):
        lease(pool, starter, DeviceChoice(gpu_layers=ALL_LAYERS))


@ONLY_ON_STAND_INS
def test_after_a_lost_device_the_next_message_starts_the_model_anew(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    with pool_with_devices() as pool:
        with (
            lease(pool, starter, DeviceChoice()) as lost,
            lost.engine.start_reply(ReplyRequest("Once", GREEDY, 400)) as reply,
        ):
            next(event for event in reply if isinstance(event, Token))
            (server,) = psutil.Process(lost.engine.pid).children()
            server.kill()
            with pytest.raises(ModelStopped):
                list(reply)
        with lease(pool, starter, DeviceChoice()) as again:
            assert again.plan.context.placement.name == GPU
            assert isinstance(list(again.engine.start_reply(ReplyRequest("Once", GREEDY, 4)))[-1], Finished)


def test_a_text_too_long_for_the_gpu_beside_the_model_is_not_scored_there(gpus: Gpus, starter: Path) -> None:
    gpus(160)
    with pool_with_devices() as pool, lease(pool, starter, DeviceChoice()) as on_gpu:
        placement = on_gpu.plan.context.placement
        pool.free_memory_for_scoring(on_gpu, ContextParameters.for_scoring(512, placement=placement))
        with pytest.raises(DoesNotFit, match=r"To score 8,192 tokens.* must be in the memory of"):
            pool.free_memory_for_scoring(on_gpu, ContextParameters.for_scoring(8192, placement=placement))
