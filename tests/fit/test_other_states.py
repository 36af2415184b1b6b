"""A state that is no KV cache, and not called recurrent, is planned as a state and not as the process itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.models.catalog import Blueprint, Hyperparameter

# DeepSeek V4 made small: two layers that compress four tokens into one (csa), one that compresses 128 (hca).
DEEPSEEK_4: dict[str, Hyperparameter] = {
    "block_count": 4, "context_length": 65536, "embedding_length": 512, "feed_forward_length": 1024,
    "attention.head_count": 8, "attention.head_count_kv": 1, "attention.key_length": 128,
    "attention.value_length": 128, "rope.dimension_count": 64, "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.q_lora_rank": 256, "attention.sliding_window": 128, "attention.indexer.head_count": 8,
    "attention.indexer.key_length": 128, "attention.indexer.top_k": 512, "attention.output_group_count": 2,
    "attention.output_lora_rank": 128, "attention.compress_rope_freq_base": 160000.0,
    "attention.compress_ratios": (0, 4, 128, 4), "hyper_connection.count": 4,
    "hyper_connection.sinkhorn_iterations": 20, "hyper_connection.epsilon": 1e-6, "hash_layer_count": 0,
    "expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 256, "expert_shared_count": 1,
    "expert_weights_scale": 1.5, "expert_weights_norm": True, "expert_gating_func": 4, "swiglu_clamp_exp": 10.0,
}  # fmt: skip
MIB = 1 << 20


def deepseek(ratio: int, layers: int) -> Blueprint:
    """With so many layers of one ratio beside one of each kind. A layer of ratio 0 has no compressor."""
    ratios = (0, 4, 128, *[ratio] * layers)
    metadata: dict[str, Hyperparameter] = {"block_count": len(ratios), "attention.compress_ratios": ratios}
    return Blueprint("deepseek4", DEEPSEEK_4 | metadata, 1000)


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize(("ratio", "layers"), [(0, 1), (4, 20), (128, 40)])
def test_a_compressors_state_is_planned_as_a_state(planner: Planner, ratio: int, layers: int, slots: int) -> None:
    plan = planner.plan(deepseek(ratio, layers), ContextParameters(4096, slots=slots))
    four, many = 1 + layers * (ratio == 4), 1 + layers * (ratio == 128)
    # Two tensors of float32 for each layer and sequence: 8 x 256 for ratio 4 and for its indexer, 128 x 128 for 128.
    state = slots * 2 * 4 * (four * 2 * 8 * 256 + many * 128 * 128)
    assert plan.recurrent == pytest.approx(state, abs=64 * 1024)  # up to the rounding of the log


def test_a_large_state_is_not_counted_as_the_process_itself(planner: Planner) -> None:
    without, with_state = (planner.plan(deepseek(ratio, 100), ContextParameters(4096)) for ratio in (0, 128))
    assert with_state.recurrent - without.recurrent > 45 * MIB
    assert with_state.base - without.base < 25 * MIB  # its graph is larger
