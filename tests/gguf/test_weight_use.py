"""Which weights a token reads, from tables of tensors made up for the purpose."""

from __future__ import annotations

import pytest

from playground.gguf.tensors import TensorInfo, TensorType
from playground.gguf.weight_use import ALL_READ, WeightUse, weight_use


def tensors(**bytes_by_name: int) -> list[TensorInfo]:
    """One-dimensional tensors of so many bytes; `__` in a name stands for a dot."""
    names = ((f"{name.replace('__', '.')}.weight", size) for name, size in bytes_by_name.items())
    return [TensorInfo(name, (size,), TensorType.I8, 0) for name, size in names]


def test_a_token_embedding_with_its_own_output_layer_is_a_lookup() -> None:
    assert weight_use("llama", {}, tensors(token_embd=20, output=20, blk__0__attn_q=60)).unread == 0.2


def test_a_token_embedding_that_is_the_output_layer_too_is_read_whole() -> None:
    assert weight_use("llama", {}, tensors(token_embd=20, blk__0__attn_q=80)) == ALL_READ


def test_embeddings_per_layer_are_a_lookup() -> None:
    assert weight_use("gemma4", {}, tensors(token_embd=20, per_layer_token_embd=40, blk__0__attn_q=40)).unread == 0.4


def test_of_the_experts_a_token_reads_those_that_are_chosen() -> None:
    found = weight_use(
        "qwen3moe",
        {"qwen3moe.expert_count": 128, "qwen3moe.expert_used_count": 8},
        tensors(blk__0__attn_q=10, blk__0__ffn_up_exps=40, blk__0__ffn_gate_up_exps=40, blk__0__ffn_up_shexp=10),
    )
    assert found == WeightUse(unread=0, experts=0.8, chosen=8 / 128)


def test_a_number_of_experts_for_each_layer_counts_by_the_largest() -> None:
    metadata = {"x.expert_count": 8, "x.expert_used_count": (2, 4, 2)}
    assert weight_use("x", metadata, tensors(blk__0__ffn_up_exps=1)).chosen == 0.5


def test_drafting_layers_are_not_read() -> None:
    metadata = {"glm4moe.block_count": 2, "glm4moe.nextn_predict_layers": 1}
    table = tensors(token_embd=10, output=10, blk__0__attn_q=20, blk__1__ffn_up_exps=60)
    assert weight_use("glm4moe", metadata, table) == WeightUse(unread=0.7, experts=0, chosen=1)


@pytest.mark.parametrize("metadata", [{}, {"x.expert_count": "many"}, {"x.expert_count": 0, "x.expert_used_count": 4}])
def test_a_header_that_does_not_say_counts_as_read_whole(metadata: dict[str, object]) -> None:
    assert weight_use("x", metadata, tensors(blk__0__ffn_up_exps=10)).chosen == 1
    assert weight_use("x", metadata, ()) == ALL_READ
