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
    """

    context: ContextParameters
    weights: int
    repacked: int
    kv_cache: int
    recurrent: int
    compute: int
    output: int
    base: int

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
        """What every token needs: the total without the mapped originals of repacked weights, which are read only once.

        Beyond the usable memory the weights are read from the disk again for every token.
        """
        return self.must_stay + max(0, self.weights - self.repacked)

    def with_weights(self, weights: int) -> MemoryPlan:
        """The same model at another level, whose weights take so many bytes: nothing else depends on the level.

        Whether that level's weights are copied is not known: what every token needs is the same either way, what must
        stay may be more.
        """
        return replace(self, weights=weights, repacked=0)
