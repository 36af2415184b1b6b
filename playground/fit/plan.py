"""The memory that a model takes, part by part, and how much of it answers need."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.gguf.weight_use import ALL_READ, WeightUse
from playground.llama.params import ContextParameters

PartKind = Literal["weights", "repacked", "kv_cache", "recurrent", "compute", "output", "base"]
RAM: Final = ""  # as a part's device: the computer's own memory
_RAM_KINDS: Final[tuple[PartKind, ...]] = (
    "weights", "repacked", "kv_cache", "recurrent", "compute", "output", "base",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """device: llama.cpp's name of the GPU in whose memory it lies, or RAM."""

    kind: PartKind
    device: str
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that one loaded model with one context takes, of the computer's memory and of each GPU's.

    on_devices: the parts on GPUs. All other fields are of the computer's memory:

    weights: mapped from the file; the kernel may drop these pages and read them again.
    repacked: a copy of some weights in the order the CPU likes; 0 for many levels. The originals are read once.
    kv_cache, recurrent: what the model remembers of the text; recurrent is 0 for ordinary transformers.
    compute, output: room for the sums of one batch, and for its logits.
    base: the process itself: Python, the libraries, the vocabulary.
    held_weights: of the weights, bytes that are in memory before the load, because the file lies in memory (tmpfs).
    use: which shares of the weights a token reads.
    layers: of the model, with the output, which counts as one; 0 if nobody asked.
    file_weights: of all the file's weights, in any memory; 0 where there is no file.
    may_stay: the most of `must_stay` that a process may take here (ulimit -d); None where that is not limited.

    One figure is shown for a plan: `needed`. The others say what it is made of, or explain a verdict.
    """

    context: ContextParameters
    weights: int
    repacked: int
    kv_cache: int
    recurrent: int
    compute: int
    output: int
    base: int
    held_weights: int = 0
    use: WeightUse = ALL_READ
    layers: int = 0
    may_stay: int | None = None
    on_devices: tuple[Part, ...] = ()
    file_weights: int = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts that are not empty, those in the computer's memory first."""
        in_ram = (Part(kind, RAM, getattr(self, kind)) for kind in _RAM_KINDS)
        return (*(part for part in in_ram if part.bytes), *self.on_devices)

    @property
    def device_names(self) -> tuple[str, ...]:
        """The GPUs that hold a part of it."""
        return tuple(dict.fromkeys(part.device for part in self.on_devices))

    def layers_on(self, name: str) -> int:
        """How many of the layers lie on this GPU; the output counts as one."""
        return self.context.placement.layers_of(name, self.layers)

    @property
    def layers_on_cpu(self) -> int:
        return self.layers - sum(map(self.layers_on, self.context.placement.devices))

    def on_device(self, name: str) -> int:
        """Bytes in the memory of this GPU."""
        return sum(part.bytes for part in self.on_devices if part.device == name)

    @property
    def all_weights(self) -> int:
        """The weights in every memory; more than the file's where input and output share a tensor and lie apart."""
        return self.weights + sum(part.bytes for part in self.on_devices if part.kind == "weights")

    def with_unified(self, devices: Collection[str]) -> MemoryPlan:
        """The same with the parts on these GPUs counted in the computer's memory, in which they lie."""
        moved = {kind: sum(part.bytes for part in self.on_devices if part.device in devices and part.kind == kind)
                 for kind in _RAM_KINDS}  # fmt: skip
        weights = self.weights + moved["weights"]
        share = self.weights / weights if weights else 1.0
        use = replace(self.use, unread=self.use.unread * share, experts=self.use.experts * share)
        sums = {kind: getattr(self, kind) + size for kind, size in moved.items()}
        return replace(self, **sums, use=use, on_devices=())

    @property
    def needed_everywhere(self) -> int:
        """As `needed`, with what lies on GPUs."""
        return self.needed + sum(part.bytes for part in self.on_devices)

    @property
    def must_stay(self) -> int:
        """What the kernel cannot drop: beyond the usable memory the process is killed."""
        return self.repacked + self.kv_cache + self.recurrent + self.compute + self.output + self.base

    @property
    def needed(self) -> int:
        """What answers need in memory: what must stay, and the mapped weights that tokens read.

        Beyond the usable memory, weights are read from the disk again while an answer is written.
        """
        return self.must_stay + self.read_weights

    @property
    def needed_by_each_token(self) -> int:
        """As `needed`, with those experts alone that one token reads; the same for a model without experts."""
        return self.needed - round(self.mapped_experts * (1 - self.use.chosen))

    @property
    def total(self) -> int:
        """Resident when every byte of the file was read and the context is full, as after a load with memory to spare.

        What it has beside `needed` the kernel takes back first: no token reads it.
        """
        return self.weights + self.must_stay

    @property
    def new_weights(self) -> int:
        """The mapped weights that a load brings into memory."""
        return self.weights - self.held_weights

    @property
    def read_weights(self) -> int:
        """The mapped weights that tokens read: without those that are unread, and the originals of repacked ones."""
        return max(0, self.new_weights - round(self.new_weights * self.use.unread) - self.repacked)

    @property
    def mapped_experts(self) -> int:
        """Of `read_weights`, the experts. Which weights were repacked is not known; experts are taken to be, first."""
        return min(self.read_weights, max(0, round(self.new_weights * self.use.experts) - self.repacked))

    @property
    def beside_the_model(self) -> MemoryPlan:
        """Of a context beside another one of the same model: without the weights and the process, which are there."""
        on_devices = tuple(part for part in self.on_devices if part.kind != "weights")
        return replace(self, weights=0, repacked=0, held_weights=0, base=0, on_devices=on_devices)

    def with_weights(self, weights: int, *, held: bool = False) -> MemoryPlan:
        """The same model at another level, whose weights take so many bytes: nothing else depends on the level.

        Whether that level's weights are copied is not known: what answers need is the same either way, what must stay
        may be more. held: its file lies in memory.
        """
        if self.on_devices and self.all_weights:  # each memory keeps its share: an estimate, as levels mix types
            share = weights / (self.file_weights or self.all_weights)
            parts = tuple(
                replace(part, bytes=round(part.bytes * share)) if part.kind == "weights" else part
                for part in self.on_devices
            )
            weights = round(self.weights * share)
            return replace(self, weights=weights, repacked=0, held_weights=weights if held else 0, on_devices=parts,
                           file_weights=round(share * self.file_weights))  # fmt: skip
        return replace(self, weights=weights, repacked=0, held_weights=weights if held else 0)
