"""How much of a model's weights one token reads: nearly all of a dense model, a part of a mixture of experts.

Two kinds of tensors are not read whole. A lookup table (the token embedding, the embeddings per layer of Gemma 3n and
Gemma 4 E2B and E4B) gives one row for each token, a few kilobytes. Of the experts of a layer, a router chooses some for
each token. Drafting layers (nextn, MTP) are not used at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gguf.constants import Keys

from playground.gguf.tensors import TensorInfo

_OUTPUT: Final = "output.weight"  # without it the token embedding is also the output layer, which reads all of it
_TOKEN_EMBEDDING: Final = "token_embd.weight"
_LOOKUP_TABLES: Final = frozenset(("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"))
_EXPERTS: Final = re.compile(r"\.ffn_(?:gate|up|down|gate_up)_(?:ch)?exps\.weight$")  # llama.cpp's llama-arch.cpp
_BLOCK: Final = re.compile(r"^blk\.(\d{1,6})\.")


@dataclass(frozen=True)
class WeightUse:
    """Shares of a model's bytes, each from 0 to 1; nearly the same at every level of the model.

    unread: lookup tables, of which a token reads one row, and drafting layers. experts: the experts of all layers.
    chosen: of the experts' bytes, what one token reads.
    """

    unread: float = 0.0
    experts: float = 0.0
    chosen: float = 1.0


ALL_READ: Final = WeightUse()


def weight_use(architecture: str, metadata: Mapping[str, object], tensors: Iterable[TensorInfo]) -> WeightUse:
    """From a header's metadata (with the architecture's prefix in its keys) and its table of tensors."""
    layers = _number(metadata.get(Keys.LLM.BLOCK_COUNT.format(arch=architecture)))
    drafting = _number(metadata.get(f"{architecture}.nextn_predict_layers"))
    sizes = {tensor.name: tensor.byte_count for tensor in tensors}
    total = sum(sizes.values())
    if not total:
        return ALL_READ
    tables = _LOOKUP_TABLES | ({_TOKEN_EMBEDDING} if _OUTPUT in sizes else set())
    unread = {name for name in sizes if name in tables or (layers and _block(name) >= layers - drafting)}
    experts = sum(size for name, size in sizes.items() if _EXPERTS.search(name) and name not in unread)
    count = _number(metadata.get(Keys.LLM.EXPERT_COUNT.format(arch=architecture)))
    used = _number(metadata.get(Keys.LLM.EXPERT_USED_COUNT.format(arch=architecture)))
    chosen = used / count if 0 < used < count else 1.0
    return WeightUse(sum(sizes[name] for name in unread) / total, experts / total, chosen)


def _block(name: str) -> int:
    """The layer of a tensor; -1 for one that belongs to none."""
    found = _BLOCK.match(name)
    return int(found[1]) if found else -1


def _number(value: object) -> int:
    """Of a list, such as one number for each layer, the largest: then too much is read rather than too little."""
    numbers = value if isinstance(value, tuple) else (value,)
    return max((one for one in numbers if isinstance(one, int) and not isinstance(one, bool)), default=0)
