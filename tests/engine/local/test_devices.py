"""Models on real devices: ggml's RPC servers on loopback stand in for GPUs, one for each process that opens a model."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from playground.engine.local.client import LocalEngine, loaded_engine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.protocol import Finished, ReplyRequest, Token
from playground.errors import DoesNotFit, ModelStopped, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.llama.devices import read_devices
from playground.llama.params import ALL_LAYERS, CPU_ONLY, MOST_CONTEXT, ContextParameters, Placement
from playground.llama.sampling_extras import GREEDY
from tests.conftest import GPU, ONLY_ON_STAND_INS, Gpus

MIB = 1 << 20
LAYERS = 31  # the starter's, with the output
PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


def planned(path: Path, placement: Placement, context_size: int = 2048) -> MemoryPlan:
    with Planner() as planner:
        return planner.plan(path, ContextParameters(context_size, placement=placement))


def reply_of(engine: LocalEngine, tokens: int = 12) -> tuple[str, int | None]:
    """The text, and with how many threads of the CPU it was written."""
    events = list(engine.start_reply(ReplyRequest(PROMPT, GREEDY, tokens, reproducible=True)))
    (end,) = (event for event in events if isinstance(event, Finished))
    return "".join(event.text for event in events if isinstance(event, Token | Finished)), end.timings.threads


# --- what is there ---


def test_each_device_is_found_with_the_memory_it_offers(gpus: Gpus) -> None:
    gpus(2048, 1024)
    found = [(device.name, device.memory_free // MIB, device.unified) for device in read_devices().gpus]
    assert found == [("RPC0", 2048, False), ("RPC1", 1024, False)]


# --- the plan is the load ---


@pytest.mark.parametrize("layers", [ALL_LAYERS, 10])
def test_the_plan_of_each_device_is_what_a_load_allocates_there(gpus: Gpus, starter: Path, layers: int) -> None:
    gpus(2048)
    plan = planned(starter, Placement((GPU,), layers))
    assert plan.on_device(GPU) > 0
    with loaded_engine(starter, plan.context, 1) as engine:
        (device,) = engine.loaded.memory.devices
        assert (device.device, device.allocated) == (GPU, plan.on_device(GPU))
        assert device.backend == read_devices().gpus[0].backend
        assert device.layers == (LAYERS if layers == ALL_LAYERS else layers)


def test_ten_layers_on_a_device_leave_the_others_in_ram(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    whole, ten = (planned(starter, Placement((GPU,), layers)) for layers in (ALL_LAYERS, 10))
    none = planned(starter, CPU_ONLY)
    assert whole.kv_cache == 0 and none.on_devices == ()
    on_device = sum(part.bytes for part in ten.on_devices if part.kind == "kv_cache")
    assert on_device + ten.kv_cache == none.kv_cache
    assert none.weights > ten.weights > whole.weights > 0  # the input stays in RAM


def test_two_devices_share_the_layers_as_the_split_says(gpus: Gpus, starter: Path) -> None:
    gpus(2048, 2048)
    placement = Placement(("RPC0", "RPC1"), ALL_LAYERS, split=(3, 1))
    plan = planned(starter, placement)
    assert [placement.layers_of(name, LAYERS) for name in placement.devices] == [24, 7]
    caches = {part.device: part.bytes for part in plan.on_devices if part.kind == "kv_cache"}
    assert caches["RPC0"] == 4 * caches["RPC1"]  # 24 layers, and 6 beside the output
    with loaded_engine(starter, plan.context, 1) as engine:
        for device in engine.loaded.memory.devices:
            # Between two devices the dry run reserves some MiB more for the computation than a load does.
            assert device.allocated == pytest.approx(plan.on_device(device.device), abs=5 * MIB)


def test_a_device_that_is_not_there_is_refused_with_a_sentence(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    with pytest.raises(PlaygroundError, match="The device CUDA7 is not there"):
        planned(starter, Placement(("CUDA7",), ALL_LAYERS))


# --- the CPU alone ---


def test_cpu_only_puts_nothing_on_a_device_and_plans_as_without_one(gpus: Gpus, starter: Path) -> None:
    without = planned(starter, CPU_ONLY)
    gpus(2048)
    plan = planned(starter, CPU_ONLY)
    for part in ("weights", "repacked", "kv_cache", "recurrent", "compute", "output"):
        assert getattr(plan, part) == getattr(without, part), part
    assert plan.on_devices == ()
    with loaded_engine(starter, plan.context, 1) as engine:
        assert engine.loaded.memory.devices == ()


def test_the_same_request_to_a_device_gives_the_same_text(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    long = "The fox went on, over the hill and along the river. " * 60  # more than one piece of 512 tokens
    with loaded_engine(starter, ContextParameters(2048, placement=Placement((GPU,), ALL_LAYERS)), 1) as engine:
        first, other, again = (
            "".join(event.text for event in engine.start_reply(ReplyRequest(text, GREEDY, 12, reproducible=True))
                    if isinstance(event, Token | Finished))
            for text in (long, PROMPT, long)
        )  # fmt: skip
    assert first == again != other


@ONLY_ON_STAND_INS
def test_a_device_and_the_cpu_give_the_same_answer(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    answers, threads = set(), []
    for placement in (CPU_ONLY, Placement((GPU,), 10), Placement((GPU,), ALL_LAYERS)):
        with loaded_engine(starter, ContextParameters(2048, placement=placement), 2) as engine:
            answer, used = reply_of(engine)
            answers.add(answer)
            threads.append(used)
    assert len(answers) == 1 and answers != {""}
    assert threads == [2, 2, 1]  # with all layers on a device, the CPU only drives it


def test_a_model_on_a_device_leaves_the_cores_to_the_models_on_the_cpu(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    whole = ContextParameters(512, placement=Placement((GPU,), ALL_LAYERS))
    with closing(CpuShares(2)) as cores, ExitStack() as engines:
        on_device, on_cpu = (
            engines.enter_context(closing(LocalEngine(starter, context, cores)))
            for context in (whole, ContextParameters(512))
        )
        for engine in (on_device, on_cpu):
            list(engine.load_model())
        with on_device.start_reply(ReplyRequest(PROMPT, GREEDY, 400)) as reply:
            next(event for event in reply if isinstance(event, Token))
            assert reply_of(on_cpu)[1] == 2


# --- a device that is lost ---


@ONLY_ON_STAND_INS
def test_a_lost_device_ends_its_model_with_a_sentence_and_nothing_else(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    context = ContextParameters(512, placement=Placement((GPU,), ALL_LAYERS))
    with loaded_engine(starter, context, 1) as engine, loaded_engine(starter, ContextParameters(512), 1) as other:
        with engine.start_reply(ReplyRequest(PROMPT, GREEDY, 400)) as reply:
            next(event for event in reply if isinstance(event, Token))
            (server,) = psutil.Process(engine.pid).children()
            server.kill()
            with pytest.raises(ModelStopped, match=r"The process that ran .* crashed"):
                list(reply)
        assert reply_of(other)[0]


def test_a_device_out_of_memory_ends_the_load_with_a_sentence_and_nothing_else(gpus: Gpus, starter: Path) -> None:
    gpus(2048)
    beyond = ContextParameters(MOST_CONTEXT, slots=1, placement=Placement((GPU,), ALL_LAYERS))  # some 350 GiB
    reason = "cannot make a context of 16777216 tokens: .*alloc"
    with loaded_engine(starter, ContextParameters(512), 1) as other:
        with pytest.raises(DoesNotFit, match=reason), loaded_engine(starter, beyond, 1):
            pass
        assert reply_of(other)[0]


@ONLY_ON_STAND_INS
def test_a_device_without_room_for_the_weights_ends_the_load_with_a_sentence(
    gpus: Gpus, starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2048)
    context = ContextParameters(512, placement=Placement((GPU,), ALL_LAYERS))
    monkeypatch.setenv("TEST_DEVICE_ROOM", "48")  # of the 92 MiB of the weights: as when another program takes the rest
    with loaded_engine(starter, ContextParameters(512), 1) as other:
        full = pytest.raises(DoesNotFit, match=r"unable to allocate RPC0\S* buffer\. Choose fewer layers on the GPU")
        with full as refused, loaded_engine(starter, context, 1):
            pass
        assert refused.value.ran_out and reply_of(other)[0]
        monkeypatch.delenv("TEST_DEVICE_ROOM")
        with loaded_engine(starter, context, 1) as engine:  # nothing is wrong with the file, and it loads again
            assert reply_of(engine, 1)
