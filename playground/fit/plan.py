"""The memory that a model takes, part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from playground.llama.params import ContextParameters


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that one loaded model with one context takes in the process that runs it.

    weights: mapped from the file; the kernel may drop these pages and read them again.
    repacked: a copy of some weights in the order the CPU likes; 0 for many levels. The originals are read once.
    kv_cache, recurrent: what the model remembers of the text; recurrent is 0 for ordinary transformers.
    compute, output: room for the sums of one batch, and for its logits.
    base: the process itself: Python, the libraries, the vocabulary.
    held_weights: of the weights, bytes that are in memory before the load, because the file lies in memory (tmpfs).
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

    @property
    def must_stay(self) -> int:
        """What the kernel cannot drop: beyond the usable memory the process is killed."""
        return self.repacked + self.kv_cache + self.recurrent + self.compute + self.output + self.base

    @property
    def total(self) -> int:
        """Resident when all is loaded and the context is full."""
        return self.weights + self.must_stay

    @property
    def working_set(self) -> int:
        """What every token needs: the total without the mapped originals of repacked weights, which are read only once,
        and without weights that are in memory already.

        Beyond the usable memory the weights are read from the disk again for every token.
        """
        return self.must_stay + max(0, self.new_weights - self.repacked)

    @property
    def new_weights(self) -> int:
        """The mapped weights that a load brings into memory."""
        return self.weights - self.held_weights

    def with_weights(self, weights: int, *, held: bool = False) -> MemoryPlan:
        """The same model at another level, whose weights take so many bytes: nothing else depends on the level.

        Whether that level's weights are copied is not known: what every token needs is the same either way, what must
        stay may be more. held: its file lies in memory.
        """
        return replace(self, weights=weights, repacked=0, held_weights=weights if held else 0)
