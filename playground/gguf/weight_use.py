"""How much of a model's weights one token reads: nearly all of a dense model, a part of a mixture of experts.

Two kinds of tensors are not read whole. A lookup table (the token embedding, the embeddings per layer of Gemma 3n and
Gemma 4 E2B and E4B) gives one row for each token, a few kilobytes. Of the experts of a layer, a router chooses some for
each token. Drafting layers (nextn, MTP) are not used at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gguf.constants import Keys

from playground.gguf.tensors import TensorInfo, TensorType

_OUTPUT: Final = "output.weight"  # without it the token embedding is also the output layer, which reads all of it
TOKEN_EMBEDDING: Final = "token_embd.weight"
_LOOKUP_TABLES: Final = frozenset(("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"))
EXPERT_TENSOR: Final = re.compile(r"\.ffn_(?:gate|up|down|gate_up)_(?:ch)?exps\.weight$")  # llama.cpp's llama-arch.cpp
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


@dataclass(frozen=True)
class TokenWork:
    """What one token costs: the bytes of weights that it reads, by type, and the model's layers and vocabulary."""

    bytes_by_type: Mapping[TensorType, float]
    layers: int
    vocabulary_size: int

    @property
    def read_bytes(self) -> float:
        return sum(self.bytes_by_type.values())

    def at_level(self, kind: TensorType, read_bytes: float) -> TokenWork:
        """The same model at another level, of which only the main type and the bytes are known."""
        return TokenWork({kind: read_bytes}, self.layers, self.vocabulary_size)


def weight_use(architecture: str, metadata: Mapping[str, object], tensors: Iterable[TensorInfo]) -> WeightUse:
    """From a header's metadata (with the architecture's prefix in its keys) and its table of tensors."""
    sizes = {tensor.name: tensor.byte_count for tensor in tensors}
    total = sum(sizes.values())
    if not total:
        return ALL_READ
    unread = _unread_names(architecture, metadata, sizes)
    experts = sum(size for name, size in sizes.items() if EXPERT_TENSOR.search(name) and name not in unread)
    chosen = _chosen_experts(architecture, metadata)
    return WeightUse(sum(sizes[name] for name in unread) / total, experts / total, chosen)


def token_work(architecture: str, metadata: Mapping[str, object], tensors: Sequence[TensorInfo]) -> TokenWork:
    """From the same as `weight_use`."""
    unread = _unread_names(architecture, metadata, {tensor.name for tensor in tensors})
    chosen = _chosen_experts(architecture, metadata)
    read: dict[TensorType, float] = {}
    for tensor in tensors:
        if tensor.name not in unread:
            share = chosen if EXPERT_TENSOR.search(tensor.name) else 1.0
            read[tensor.type] = read.get(tensor.type, 0.0) + share * tensor.byte_count
    vocabulary = next((tensor.shape[-1] for tensor in tensors if tensor.name == TOKEN_EMBEDDING), 0)
    return TokenWork(read, _number(metadata.get(Keys.LLM.BLOCK_COUNT.format(arch=architecture))), vocabulary)


def _unread_names(architecture: str, metadata: Mapping[str, object], names: Collection[str]) -> set[str]:
    layers = _number(metadata.get(Keys.LLM.BLOCK_COUNT.format(arch=architecture)))
    drafting = _number(metadata.get(f"{architecture}.nextn_predict_layers"))
    tables = _LOOKUP_TABLES | ({TOKEN_EMBEDDING} if _OUTPUT in names else set())
    return {name for name in names if name in tables or (layers and _block(name) >= layers - drafting)}


def _chosen_experts(architecture: str, metadata: Mapping[str, object]) -> float:
    """Of all experts of a layer, the share that one token reads."""
    count = _number(metadata.get(Keys.LLM.EXPERT_COUNT.format(arch=architecture)))
    used = _number(metadata.get(Keys.LLM.EXPERT_USED_COUNT.format(arch=architecture)))
    return used / count if 0 < used < count else 1.0


def _block(name: str) -> int:
    """The layer of a tensor; -1 for one that belongs to none."""
    found = _BLOCK.match(name)
    return int(found[1]) if found else -1


def _number(value: object) -> int:
    """Of a list, such as one number for each layer, the largest: then too much is read rather than too little."""
    numbers = value if isinstance(value, tuple) else (value,)
    return max((one for one in numbers if isinstance(one, int) and not isinstance(one, bool)), default=0)
