"""Which levels may be slower than larger ones on a processor: the table, and what the installed llama.cpp does."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.gguf.levels import LEVELS, main_type
from playground.gguf.tensors import TensorInfo, TensorType
from playground.llama.cpu_kernels import Kernel, kernel_of, processor_features, speed_note
from playground.llama.dry_model import DryModel
from playground.llama.log import LlamaLog
from playground.models.catalog import Blueprint
from playground.models.tensor_tables import placed_tensors
from scripts.tensor_tables import write_stand_in

AVX512 = frozenset(("AVX", "AVX2", "AVX512", "REPACK"))
AVX2 = frozenset(("AVX", "AVX2", "REPACK"))
ARM = frozenset(("NEON", "DOTPROD", "MATMUL_INT8", "REPACK"))
OLD_ARM = frozenset(("NEON", "REPACK"))
WIDTH = 256


@pytest.mark.parametrize(
    ("kind", "kernels"),
    [
        ("Q4_K", ("repacked", "repacked", "repacked", "row")),
        ("Q4_0", ("repacked", "repacked", "repacked", "row")),
        ("Q2_K", ("repacked", "row", "row", "row")),
        ("Q6_K", ("row", "row", "repacked", "row")),
        ("Q8_0", ("row", "row", "repacked", "row")),
        ("Q3_K", ("row", "row", "row", "row")),
        ("IQ4_XS", ("row", "row", "row", "row")),
        ("Q2_0", ("scalar", "scalar", "row", "row")),
    ],
)
def test_a_type_has_the_kernel_of_the_processor(kind: str, kernels: tuple[Kernel, ...]) -> None:
    found = tuple(kernel_of(TensorType[kind], features) for features in (AVX512, AVX2, ARM, OLD_ARM))
    assert found == kernels


def test_levels_that_were_measured_to_be_slower_than_larger_ones_are_marked() -> None:
    for level in ("Q3_K_M", "IQ4_XS"):
        kind = main_type(level)
        assert kind and "May be slower" in str(speed_note(kind, AVX512))
    assert "without vector instructions" in str(speed_note(TensorType.Q2_0, AVX512))


@pytest.mark.parametrize("level", ["Q4_K_M", "Q4_0", "Q2_K", "Q5_K_M", "Q8_0", "F16"])
def test_levels_that_follow_the_rule_are_not_marked(level: str) -> None:
    kind = main_type(level)
    assert kind is not None and speed_note(kind, AVX512) is None


def test_without_any_fast_kernel_no_level_is_an_exception() -> None:
    assert all(speed_note(kind, OLD_ARM) is None for kind in TensorType)
    assert kernel_of(TensorType.Q4_K, AVX2 - {"REPACK"}) == "row"


def test_every_level_has_its_main_type() -> None:
    assert {level.name for level in LEVELS if main_type(level.name) is None} == set()
    assert [str(main_type(name).name) for name in ("Q3_K_L", "IQ2_M", "UD-Q4_K_XL", "MXFP4")] == [  # type: ignore[union-attr]
        "Q3_K", "IQ2_S", "Q4_K", "MXFP4",
    ]  # fmt: skip
    assert main_type("Q99") is None


@pytest.mark.parametrize(
    "kind", [kind for kind in TensorType if kind.is_quantized and kind.name not in ("Q8_1", "Q8_K")]
)
def test_the_installed_llama_cpp_repacks_what_the_table_says(kind: TensorType, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_stand_in(path, TINY, tuple(tensors_of(kind)))
    with LlamaLog() as log:
        model = DryModel.from_file(path, log)
        try:
            assert (model.repacked_bytes > 0) == (kernel_of(kind) == "repacked")
        finally:
            model.close()


def test_the_features_of_this_processor_are_known() -> None:
    assert processor_features() & {"SSE3", "NEON", "AVX", "VSX", "RVV"}


TINY = Blueprint(
    "llama",
    {
        "block_count": 1,
        "context_length": 64,
        "embedding_length": WIDTH,
        "feed_forward_length": WIDTH,
        "attention.head_count": 4,
        "attention.layer_norm_rms_epsilon": 1e-5,
    },
    vocabulary_size=32,
)


def tensors_of(kind: TensorType) -> tuple[TensorInfo, ...]:
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    norms = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
    return tuple(
        placed_tensors(
            (
                ("token_embd.weight", TensorType.F16, (WIDTH, 32)),
                *((f"{name}.weight", TensorType.F32, (WIDTH,)) for name in norms),
                *((f"blk.0.{part}.weight", kind, (WIDTH, WIDTH)) for part in parts),
            )
        )
    )
