"""In which memory the weights of a model lie when some of its layers are on GPUs, from its table of tensors.

It follows llama.cpp: the tables that a token looks up stay in the computer's memory, the last layers go to the GPUs,
and the output counts as the last layer. Where input and output share a tensor, a GPU gets a copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from playground.fit.plan import MemoryPlan, Part
from playground.gguf.tensors import TensorInfo
from playground.gguf.weight_use import EXPERT_TENSOR, TOKEN_EMBEDDING, WeightUse
from playground.llama.params import ALL_LAYERS, Placement

_INPUT: Final = ("token_embd", "per_layer_token_embd", "position_embd", "token_types")
_LAYER: Final = re.compile(r"blk\.(\d{1,4})\.")


@dataclass(frozen=True)
class WeightLayout:
    """Bytes of weights.

    inputs: tables of which a token reads a row. layers: of each layer, the output as the last. experts: of them, those
    of experts, 0 for the output. total: of the file, where a tensor that input and output share is one.
    """

    inputs: int
    layers: tuple[int, ...]
    experts: tuple[int, ...]
    total: int

    @classmethod
    def of(cls, tensors: Iterable[TensorInfo], layers: int) -> WeightLayout | None:
        """layers: of the model, with the output. None if the tensors are not those of such a model."""
        sizes = {tensor.name: tensor.byte_count for tensor in tensors}
        inputs, by_layer, experts = 0, [0] * layers, [0] * layers
        for name, size in sizes.items():
            if name.split(".")[0] in _INPUT:
                inputs += size
                continue
            found = _LAYER.match(name)
            number = int(found[1]) if found else layers - 1
            if found and number >= layers - 1:  # drafting layers, which a run leaves out
                return None
            by_layer[number] += size
            experts[number] += size if EXPERT_TENSOR.search(name) else 0
        if "output.weight" not in sizes:
            by_layer[-1] += sizes.get(TOKEN_EMBEDDING, 0)
        return cls(inputs, tuple(by_layer), tuple(experts), sum(sizes.values())) if sizes else None

    def of_level(self, weights: int) -> WeightLayout:
        """The same model at a level whose weights take so many bytes, if every tensor had the same share of it."""
        share = weights / self.total

        def scaled(sizes: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(round(size * share) for size in sizes)

        return WeightLayout(round(self.inputs * share), scaled(self.layers), scaled(self.experts), weights)

    def plan_with_weights(self, plan: MemoryPlan) -> MemoryPlan:
        """A plan whose weights are these, where its placement puts them; the other parts stay."""
        placement = plan.context.placement
        on_devices = self._on_devices(placement)
        in_ram, experts = self._in_ram(placement)
        others = tuple(part for part in plan.on_devices if part.kind != "weights")
        parts = (*(Part("weights", name, size) for name, size in on_devices.items() if size), *others)
        use = WeightUse(self.inputs / in_ram if in_ram else 0.0, experts / in_ram if in_ram else 0.0, plan.use.chosen)
        return replace(
            plan, weights=in_ram, repacked=0, held_weights=0, use=use, on_devices=parts, file_weights=self.total
        )

    def _on_devices(self, placement: Placement) -> dict[str, int]:
        first = self._first_on_devices(placement)
        sizes = {}
        for name in placement.devices:
            end = first + placement.layers_of(name, len(self.layers))
            kept = sum(self.experts[first : min(end, placement.experts_in_ram)])
            sizes[name] = sum(self.layers[first:end]) - kept
            first = end
        return sizes

    def _in_ram(self, placement: Placement) -> tuple[int, int]:
        """All weights in the computer's memory, and of them the experts."""
        first = self._first_on_devices(placement)
        kept = sum(self.experts[first : placement.experts_in_ram])
        return self.inputs + sum(self.layers[:first]) + kept, sum(self.experts[:first]) + kept

    def _first_on_devices(self, placement: Placement) -> int:
        """The first layer on a device."""
        if placement.gpu_layers == ALL_LAYERS:
            return 0
        return max(0, len(self.layers) - placement.gpu_layers)
