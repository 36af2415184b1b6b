"""The parameters of a model and its context, made in one place for the plan and for the run.

A plan that reserved other buffers than the run would be a guess, so both take their C structs from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import llama_cpp

KvType = Literal["f16", "q8_0", "q4_0"]
KV_TYPES: Final[dict[KvType, int]] = {
    "f16": llama_cpp.GGML_TYPE_F16,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
}

BATCH_TOKENS: Final = 256  # most tokens in one llama_decode; 512 are no faster on a CPU, and need twice the buffer
SCORED_ROWS: Final = 64  # tokens in one llama_decode when every one of them is scored; each takes a row of logits
MOST_CONTEXT: Final = 16_777_216  # tokens; llama.cpp's own bookkeeping for more takes long, even in a dry run
CONTEXT_STEP: Final = 256  # llama.cpp rounds a context up to a multiple of this


@dataclass(frozen=True)
class ContextParameters:
    """What a person chooses for a loaded model.

    context_size: cells of the KV cache in tokens, shared by all slots (one unified cache).
    slots: sequences that can be decoded at once; their logits are reserved in the compute buffer.
    scored_rows: tokens of a batch that may all want their logits, where a text is scored; 0 where replies are written.
    """

    context_size: int
    kv_type: KvType = "f16"
    slots: int = 4
    scored_rows: int = 0

    def __post_init__(self) -> None:
        if self.context_size < 1 or self.slots < 1:
            raise ValueError(f"context_size and slots start at 1, got {self.context_size} and {self.slots}")

    @classmethod
    def for_scoring(cls, tokens: int, kv_type: KvType = "f16") -> ContextParameters:
        """The temporary context in which one text of so many tokens is scored."""
        return cls(tokens, kv_type, slots=1, scored_rows=SCORED_ROWS)

    @property
    def cells(self) -> int:
        """The context that llama.cpp will really allocate, in tokens."""
        return math.ceil(self.context_size / CONTEXT_STEP) * CONTEXT_STEP


def model_parameters(*, dry: bool = False) -> llama_cpp.llama_model_params:
    """How a model is opened; `dry` simulates every allocation and reads no weights.

    A dry run must not map the file: with mmap on, llama.cpp fails an assertion when nothing is allocated.
    """
    params: llama_cpp.llama_model_params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    if dry:
        params.no_alloc = True
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    return params


def context_parameters(chosen: ContextParameters, threads: int = 1) -> llama_cpp.llama_context_params:
    """The context of a plan or a run.

    n_outputs_max is the number of sequences (the default reserves logits for a whole batch), and sliding-window models
    keep only their window (swa_full off): the two defaults that decide the memory of a context.
    """
    params: llama_cpp.llama_context_params = llama_cpp.llama_context_default_params()
    params.n_ctx = chosen.cells
    params.n_batch = params.n_ubatch = min(chosen.scored_rows or BATCH_TOKENS, chosen.cells)
    params.n_seq_max = chosen.slots
    params.n_outputs_max = max(chosen.slots, chosen.scored_rows)
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
    params.type_k = params.type_v = KV_TYPES[chosen.kv_type]
    params.swa_full = False
    params.kv_unified = True
    params.no_perf = True
    return params
