"""The usual rule of thumb for the KV cache: layers x heads x width x context, as if every layer kept the whole text.

Shown beside the plan, never instead of it. Where all layers are alike the two agree; a sliding window, layers with a
state of fixed size, or compressed keys make the plan much smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from playground.llama.params import KvType

MOST_LAYERS: Final = 512  # llama.cpp's own limit; a damaged file may claim more


@dataclass(frozen=True)
class Attention:
    """What the sum takes of a model.

    values_per_token: keys and values of one token in the widest layer, as numbers. window: tokens that some layers look
    back on at most, None where the metadata tell of none. windowed_layers: how many do, None where it is not said.
    """

    layers: int
    values_per_token: int
    window: int | None = None
    windowed_layers: int | None = None


def read_attention(hyperparameters: Mapping[str, object]) -> Attention | None:
    """From GGUF's metadata without the architecture's prefix; None where something is missing.

    Widths follow llama.cpp: a head that no key describes is as wide as the embedding divided by the number of heads.
    """
    layers = _number(hyperparameters.get("block_count")) - _number(hyperparameters.get("nextn_predict_layers"))
    heads = _numbers(hyperparameters.get("attention.head_count"))
    kv_heads = _numbers(hyperparameters.get("attention.head_count_kv")) or heads
    embedding = _number(hyperparameters.get("embedding_length"))
    if not 0 < layers <= MOST_LAYERS or not heads or not kv_heads or not max(heads):
        return None
    usual = embedding // max(heads) if embedding else 0
    pattern = hyperparameters.get("attention.sliding_window_pattern")
    windowed = [bool(layer) for layer in pattern[:layers]] if isinstance(pattern, Sequence) else []
    widths = []
    for layer in range(layers):
        is_windowed = layer < len(windowed) and windowed[layer]
        head_width = sum(_head_width(hyperparameters, part, usual, is_windowed) for part in ("key", "value"))
        widths.append(kv_heads[min(layer, len(kv_heads) - 1)] * head_width)
    window = _number(hyperparameters.get("attention.sliding_window"))
    return Attention(layers, max(widths), window or None, sum(windowed) if windowed else None) if max(widths) else None


def naive_kv_bytes(attention: Attention, context_size: int, kv_type: KvType) -> int:
    """The sum in bytes: every layer like the widest one, every token kept."""
    values, stored_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kv_type.upper()]]
    return attention.layers * attention.values_per_token * context_size * stored_bytes // values


def _head_width(hyperparameters: Mapping[str, object], part: str, usual: int, is_windowed: bool) -> int:
    width = _number(hyperparameters.get(f"attention.{part}_length")) or usual
    return _number(hyperparameters.get(f"attention.{part}_length_swa")) or width if is_windowed else width


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _numbers(value: object) -> tuple[int, ...]:
    """One number, or one for each layer."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_number(item) for item in value)
    return (_number(value),) if _number(value) else ()
