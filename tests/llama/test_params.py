"""The parameters of plan and run: what of them follows from the place where a model runs."""

from __future__ import annotations

import llama_cpp
import pytest

from playground.gguf.tensors import TensorType
from playground.llama import cpu_kernels
from playground.llama.params import (
    ALL_LAYERS,
    CPU_ONLY,
    ContextParameters,
    Embeds,
    Placement,
    context_parameters,
    model_parameters,
)

WHOLE, HALF = Placement(("CUDA0",), ALL_LAYERS), Placement(("CUDA0",), 12)


@pytest.mark.parametrize(
    ("placement", "batch", "at_once"), [(CPU_ONLY, 256, 256), (HALF, 2048, 512), (WHOLE, 2048, 512)]
)
def test_a_batch_is_as_large_as_the_device_takes(placement: Placement, batch: int, at_once: int) -> None:
    params = context_parameters(ContextParameters(8192, placement=placement))
    assert (params.n_batch, params.n_ubatch) == (batch, at_once)
    small = context_parameters(ContextParameters(256, placement=placement))
    assert small.n_batch == small.n_ubatch == 256


@pytest.mark.parametrize(("embeds", "at_once"), [("at once", 1024), ("in pieces", 256)])
def test_a_text_for_a_vector_is_one_batch(embeds: Embeds, at_once: int) -> None:
    params = context_parameters(ContextParameters.for_embedding(1000, embeds))
    assert params.embeddings and (params.n_batch, params.n_outputs_max, params.n_ubatch) == (1024, 1024, at_once)


@pytest.mark.parametrize(("placement", "is_there"), [(CPU_ONLY, False), (HALF, True), (WHOLE, True)])
def test_the_kv_cache_and_large_steps_go_to_the_gpu_where_there_is_one(placement: Placement, is_there: bool) -> None:
    params = context_parameters(ContextParameters(8192, placement=placement))
    assert (params.offload_kqv, params.op_offload) == (is_there, is_there)
    assert params.flash_attn_type == llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO  # llama.cpp asks the device whether it can


def test_cpu_only_has_no_device_and_no_drivers_buffers() -> None:
    params = model_parameters(CPU_ONLY)
    devices, _, overrides = params.kept_alive
    assert list(devices) == [None] and len(overrides) == 1
    assert params.n_gpu_layers == 0 and params.no_host


@pytest.mark.parametrize(("features", "repacks"), [({"AVX2", "REPACK"}, True), ({"AVX2", "REPACK", "AMX_INT8"}, False)])
def test_a_build_that_would_use_amx_repacks_nothing(
    features: set[str], repacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_kernels, "processor_features", lambda: frozenset(features))
    assert model_parameters(CPU_ONLY).use_extra_bufts == repacks
    assert (cpu_kernels.kernel_of(TensorType.Q4_0) == "repacked") == repacks
