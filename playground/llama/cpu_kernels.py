"""Which quantized types llama.cpp multiplies fast on this computer's processor.

Fewer bits are less to read for each token, and so usually more speed. The exceptions are types that llama.cpp has no
fast kernel for. Its fast kernels work on repacked weights, in an order that suits the processor; where there is none
for a type, a row at a time is multiplied, and for a few types without vector instructions.

Source: llama.cpp 0c1e57098, which llama-cpp-python 0.3.36 builds: ggml/src/ggml-cpu/repack.cpp and arch-fallback.h.
What its amx/common.h repacks is left out, since no AMX is used (`has_amx`). A test compares the table with what the
installed llama.cpp repacks.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import Final, Literal

import llama_cpp

from playground.gguf.tensors import TensorType

Kernel = Literal["repacked", "row", "scalar"]

# type -> features of a processor, as llama.cpp names them: with any of these it repacks the weights.
_REPACKED: Final[dict[TensorType, frozenset[str]]] = {
    TensorType.Q4_0: frozenset(("AVX2", "DOTPROD", "MATMUL_INT8")),
    TensorType.Q4_K: frozenset(("AVX2", "DOTPROD", "MATMUL_INT8")),
    TensorType.IQ4_NL: frozenset(("AVX2", "DOTPROD")),
    TensorType.MXFP4: frozenset(("AVX2", "DOTPROD")),
    TensorType.Q2_K: frozenset(("AVX512",)),
    TensorType.Q5_K: frozenset(("DOTPROD", "MATMUL_INT8")),
    TensorType.Q6_K: frozenset(("DOTPROD", "MATMUL_INT8")),
    TensorType.Q8_0: frozenset(("DOTPROD", "MATMUL_INT8")),
    TensorType.Q1_0: frozenset(("DOTPROD", "MATMUL_INT8")),
}
# type -> features: with none of these it is multiplied without vector instructions.
_VECTOR: Final[dict[TensorType, frozenset[str]]] = {
    TensorType.Q2_0: frozenset(("NEON",)),
    TensorType.TQ1_0: frozenset(("AVX2", "NEON")),
    TensorType.TQ2_0: frozenset(("AVX2", "NEON")),
}


_ASKING: Final = threading.Lock()  # llama.cpp writes its answer into one text for all threads


@cache
def processor_features() -> frozenset[str]:
    """What this build of llama.cpp uses of this processor, such as AVX2 or DOTPROD.

    >>> processor_features()  # of "CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | REPACK = 1 | "
    frozenset({'SSE3', 'AVX2', 'REPACK'})
    """
    with _ASKING:
        described: str = llama_cpp.llama_print_system_info().decode()
    return frozenset(re.findall(r"(\w+) = 1\b", described))


def has_amx(features: frozenset[str] | None = None) -> bool:
    """Whether this build would use AMX. No weights are repacked then (llama/params.py): AMX crashes in most builds."""
    return "AMX_INT8" in (processor_features() if features is None else features)


def kernel_of(kind: TensorType, features: frozenset[str] | None = None) -> Kernel:
    """How llama.cpp multiplies weights of this type on a processor with these features, by default this one."""
    has = processor_features() if features is None else features
    if "REPACK" in has and not has_amx(has) and kind in _REPACKED and _REPACKED[kind] & has:
        return "repacked"
    return "scalar" if kind in _VECTOR and not _VECTOR[kind] & has else "row"


def speed_note(kind: TensorType, features: frozenset[str] | None = None) -> str | None:
    """A sentence where a level whose weights are mostly of this type may be slower than a larger one; else None.

    Measured with a 1.5B model on 2 cores with AVX-512: Q3_K_M and IQ4_XS (a row at a time) wrote 20 to 28 % slower
    than Q4_K_M (repacked). The starter at Q2_0 (no vector instructions) wrote 4.6 times slower than at Q8_0.
    """
    kernel = kernel_of(kind, features)
    if not kind.is_quantized or kernel == "repacked":
        return None
    if kernel == "scalar":
        return f"Slow on this processor: llama.cpp multiplies {kind.name} without vector instructions here."
    faster = [one for one in _REPACKED if kernel_of(one, features) == "repacked"]
    if any(one.bits_per_weight > kind.bits_per_weight for one in faster):
        return (
            "May be slower on this processor than a level with more bits: llama.cpp has no fast kernel for "
            f"{kind.name} here."
        )
    return None
