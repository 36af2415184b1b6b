"""Verdicts on runs of real GPUs, by the breakdowns of memory that llama.cpp printed there and people published.

The figures are facts from public issues, whose numbers stand beside them, reduced to what is read here: MiB.
"""

from __future__ import annotations

from typing import cast

import pytest

from playground.fit.budget import Budget, DeviceBudget
from playground.fit.plan import MemoryPlan, Part, PartKind
from playground.fit.verdict import judge
from playground.llama.dry_model import ContextMemory
from playground.llama.log import ContextSizes
from playground.llama.params import ALL_LAYERS, ContextParameters, Placement
from playground.llama.weight_buffers import BufferUse

MIB = 1 << 20
RAM = 32_000
PUBLISHED = {  # issue -> GPU, its name here, free memory; weights, context, compute there; weights and compute in RAM
    "llama.cpp 19437": ("GTX 1080 Ti", "CUDA0", 8702, (9814, 134, 51), (166, 30)),
    "ollama 17482": ("RTX 3090", "CUDA0", 23_860, (15_364, 411, 170), (682, 122)),
    "llama.cpp 22673": ("RTX 2000 Ada", "CUDA0", 7627, (2542, 2622, 493), (19_627, 264)),  # experts in RAM
    "llama.cpp 22368": ("Quadro T1000", "Vulkan1", 3808, (3577, 2048, 88), (70, 24)),
    "llama.cpp 16725": ("RX 7900 XTX", "ROCm0", 24_524, (17_827, 3280, 0), (0, 0)),
    "llama.cpp 22673, Metal": ("Apple M1 Max", "MTL0", 53_084, (37_515, 105, 489), (0, 0)),
}


def published(issue: str, ram: int = RAM) -> tuple[MemoryPlan, Budget]:
    """The plan that the dry run would have made of these buffers, and what the computer had."""
    card, name, free, on_gpu, (weights, compute) = PUBLISHED[issue]
    host = name.rstrip("0123456789") + "_Host"
    memory = ContextMemory(
        ContextSizes(0, 0, 0, 0, 0).with_buffers(on_gpu[1] * MIB, (on_gpu[2] + compute) * MIB),
        (
            BufferUse(name, name, *(size * MIB for size in on_gpu)),
            BufferUse("CPU_Mapped", "", weights * MIB, 0, 0),
            BufferUse(host, "", 0, 0, compute * MIB),
        ),
        {},
    )
    in_ram = memory.in_ram
    plan = MemoryPlan(
        ContextParameters(4096, placement=Placement((name,), ALL_LAYERS)),
        memory.ram_weights, memory.ram_repacked, in_ram.kv_cache, in_ram.recurrent, in_ram.compute, in_ram.output, 0,
        on_devices=tuple(Part(cast(PartKind, kind), device, size) for kind, device, size in memory.on_devices),
    )  # fmt: skip
    unified = name.startswith("MTL")
    return plan, Budget(ram * MIB, (DeviceBudget(name, card, free * MIB, unified),))


@pytest.mark.parametrize("issue", PUBLISHED)
def test_each_memory_gets_what_llama_cpp_printed_for_it(issue: str) -> None:
    _, name, _, on_gpu, (weights, compute) = PUBLISHED[issue]
    plan, _ = published(issue)
    assert plan.on_device(name) == sum(on_gpu) * MIB
    assert (plan.weights, plan.repacked, plan.kv_cache, plan.compute) == (weights * MIB, 0, 0, compute * MIB)


@pytest.mark.parametrize(("issue", "ram", "fits"), [
    ("llama.cpp 19437", RAM, False), ("ollama 17482", RAM, True), ("llama.cpp 22673", RAM, True),
    ("llama.cpp 22673", 16_000, False), ("llama.cpp 22368", RAM, False), ("llama.cpp 16725", RAM, True),
    ("llama.cpp 22673, Metal", 56_000, True), ("llama.cpp 22673, Metal", 24_000, False),
])  # fmt: skip
def test_a_verdict_on_a_real_gpu_is_what_happened_there(issue: str, ram: int, fits: bool) -> None:
    plan, budget = published(issue, ram)
    assert judge(plan, budget).is_refused is not fits


def test_the_memory_that_is_short_is_named() -> None:
    assert "GTX 1080 Ti" in judge(*published("llama.cpp 19437")).reason
    assert "RTX 2000 Ada" not in judge(*published("llama.cpp 22673", 16_000)).reason
