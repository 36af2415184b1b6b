"""A made-up embedding model: two layers of BERT with random weights, which llama.cpp loads like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import gguf
import numpy as np

_WIDTH: Final = 32
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS: Final = ("the", "cat", "dog", "sat", "ran", "on", "a", "mat", "what", "is", ".", "?")


def write_embedding_model(path: Path, *, pooling: int = gguf.PoolingType.MEAN, context: int = 64) -> Path:
    """Write the model. Its vocabulary is a dozen words; any other is [UNK]. context: tokens that it can read."""
    words = [*_SPECIAL, *(f"\u2581{word}" for word in _WORDS)]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("Tiny Embedder")
    writer.add_context_length(context)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(2 * _WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType(pooling))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(_SPECIAL) + [gguf.TokenType.NORMAL] * len(_WORDS))
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_eos_token_id(3)
    writer.add_mask_token_id(4)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    random = np.random.default_rng(7)
    for name, shape in _shapes(len(words), context).items():
        middle = 1.0 if name.endswith("norm.weight") else 0.0
        writer.add_tensor(name, (middle + random.normal(0, 0.2, shape)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(words: int, context: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (words, _WIDTH),
        "token_types.weight": (2, _WIDTH),
        "position_embd.weight": (context, _WIDTH),
        "token_embd_norm.weight": (_WIDTH,),
        "token_embd_norm.bias": (_WIDTH,),
    }
    for layer in ("blk.0", "blk.1"):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "layer_output_norm", "ffn_down"):
            shapes[f"{layer}.{part}.bias"] = (_WIDTH,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"{layer}.{part}.weight"] = (_WIDTH, _WIDTH)
        for part in ("attn_output_norm", "layer_output_norm"):
            shapes[f"{layer}.{part}.weight"] = (_WIDTH,)
        shapes[f"{layer}.ffn_up.weight"], shapes[f"{layer}.ffn_up.bias"] = (2 * _WIDTH, _WIDTH), (2 * _WIDTH,)
        shapes[f"{layer}.ffn_down.weight"] = (_WIDTH, 2 * _WIDTH)
    return shapes
