"""The importance matrix, against the same sums done by hand, and the levels that llama.cpp makes only with one."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from playground.errors import PlaygroundError
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource
from playground.llama.params import ALL_LAYERS, Placement
from playground.llama.quantizer.imatrix import _Sums, declare_tensor_functions, measure_importance
from playground.quantize.quantize import QuantizationProgress, QuantizedFile, estimate_level, quantize_file
from tests.conftest import ONLY_ON_STAND_INS, Gpus

WIDTH = 256  # the block of the lowest levels
TEXT = "The fox reads, and the moon is full of mountains."


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A llama of one layer that knows every byte as a word, and what each byte's embedding is."""
    path = tmp_path_factory.mktemp("reader") / "Reader-F32.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    printable = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
    others = iter(range(256, 512))  # GPT-2 writes the other bytes as letters from here on
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([chr(byte) if byte in printable else chr(next(others)) for byte in range(256)])
    writer.add_token_merges(["zz qq"])
    writer.add_add_bos_token(False)
    random = np.random.default_rng(1)
    embeddings = random.standard_normal((256, WIDTH)).astype(np.float32)
    writer.add_tensor("token_embd.weight", embeddings)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{part}.weight", random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 16)
    writer.add_tensor("output.weight", random.standard_normal((256, WIDTH)).astype(np.float32))
    for norm in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{norm}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, embeddings


def test_a_column_weighs_the_mean_square_of_what_it_is_multiplied_by(reader: tuple[Path, np.ndarray]) -> None:
    path, embeddings = reader
    declare_tensor_functions()
    reported: list[float] = []
    importance = measure_importance(str(path), TEXT * 30, 2, reported.append)  # more than is read in one go
    read = embeddings[list((TEXT * 30).encode())]
    normed = read / np.sqrt((read**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = (normed**2).mean(axis=0)
    for part in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(importance[f"blk.0.{part}.weight"], expected, rtol=1e-4)
    assert {name.split(".")[2] for name in importance if name.startswith("blk")} == {
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"
    }  # fmt: skip
    assert reported == sorted(reported) and reported[-1] == 1.0


def test_each_expert_is_weighed_by_what_it_read() -> None:
    sums = _Sums(experts=3, columns=2)
    inputs = np.array([[[1, 2]], [[3, 4]]], np.float32)  # two tokens, whose experts read the same row
    sums.add(inputs, np.array([[0, 2], [0, 0]], np.int32))
    by_expert = sums.mean_squares().reshape(3, 2)
    np.testing.assert_allclose(by_expert[0], [(1 + 9 + 9) / 3, (4 + 16 + 16) / 3])
    np.testing.assert_allclose(by_expert[1], [1, 1])  # never woken
    np.testing.assert_allclose(by_expert[2], [1, 4])


def test_a_level_that_wants_an_importance_matrix_is_made_to_the_byte_and_says_how(
    reader: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, level = reader[0], "IQ2_XXS"
    foretold = estimate_level(path, level)
    assert foretold.uses_imatrix and "importance matrix" in (foretold.note or "")
    events = list(quantize_file(path, level, tmp_path / f"Reader-{level}.gguf", 2))
    made = events[-1]
    assert isinstance(made, QuantizedFile) and made.size == foretold.size
    assert any(isinstance(event, QuantizationProgress) and event.measures_imatrix for event in events)
    assert "calibration.txt" in str(read_header(FileSource(made.path)).metadata["quantize.imatrix.dataset"])


@ONLY_ON_STAND_INS
def test_an_importance_matrix_is_the_same_from_a_device_as_from_the_cpu(
    gpus: Gpus, reader: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    gpus(1024)
    path, level = reader[0], "IQ2_XXS"

    def made_on(*devices: str) -> bytes:
        placement = Placement(devices, ALL_LAYERS if devices else 0)
        target = tmp_path / f"Reader-{len(list(tmp_path.iterdir()))}-{level}.gguf"
        list(quantize_file(path, level, target, 2, lambda: placement))
        return target.read_bytes()

    assert made_on("RPC0") == made_on()
    with pytest.raises(PlaygroundError, match="The device CUDA7 is not there"):
        made_on("CUDA7")
