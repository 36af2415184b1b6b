"""The tensors of the catalogue's models and their sizes, beside published files and llama.cpp's own quantizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.gguf.header import read_header
from playground.gguf.reader import FileSource
from playground.gguf.tensors import TensorType
from playground.llama.log import LlamaLog
from playground.models.catalog import CatalogModel, load_catalog
from playground.models.tensor_tables import load_tensor_tables, read_rows, write_rows
from scripts.tensor_tables import published_tensors, weights_by_level, write_stand_in

MIB, GIB = 1 << 20, 1 << 30
CATALOG = {model.id: model for model in load_catalog()}

# "loaded meta data with … key-value pairs and N tensors", as llama.cpp logged it for published files.
PUBLISHED_COUNTS = {
    "gemma4-e2b": 601,
    "gemma4-e4b": 720,
    "gemma4-26b-a4b": 658,
    "gpt-oss-20b": 459,
    "deepseek-v3": 1086,
    "mistral-7b": 291,
    "llama3-8b": 291,
    "qwen3-4b": 398,
    "gemma3-1b": 340,
    "gemma3-27b": 808,
    "phi3-mini-4k": 195,
    "qwen2.5-coder-0.5b": 291,
    "qwen2.5-coder-1.5b": 339,
    "qwen3-32b": 707,
    "llama3.1-8b": 292,
    "gemma4-31b": 833,
}

# The column "size" of llama-bench for published files, in bytes, to the digits that it prints. Of files that were made
# by llama.cpp's own choice of types; not of publishers' own mixes.
PUBLISHED_SIZES = [
    ("gemma3-1b", "Q4_K_M", 762.49 * MIB, 0.005 * MIB),
    ("gemma3-27b", "Q4_K_M", 15.40 * GIB, 0.005 * GIB),
    ("gemma3-27b", "Q4_0", 14.49 * GIB, 0.005 * GIB),
    ("gemma2-2b", "Q4_0", 1.51 * GIB, 0.005 * GIB),
    ("gemma2-2b", "Q5_K_M", 1.79 * GIB, 0.005 * GIB),
    ("phi3-mini-4k", "Q4_K_M", 2.23 * GIB, 0.005 * GIB),
    ("phi3-mini-4k", "Q4_0", 2.03 * GIB, 0.005 * GIB),
    ("qwen3-4b", "Q4_K_M", 2_491_323_904, 0),
    ("qwen3.5-0.8b", "Q8_0", 763.78 * MIB, 0.005 * MIB),
    ("qwen3.5-0.8b", "F16", 1.40 * GIB, 0.005 * GIB),
    ("lfm2-1.2b", "Q8_0", 1.16 * GIB, 0.005 * GIB),
    ("gemma4-e2b", "Q8_0", 4.61 * GIB, 0.005 * GIB),
    ("gemma4-e4b", "Q4_K_M", 4.95 * GIB, 0.005 * GIB),
    ("gemma4-12b", "Q4_K_M", 6.86 * GIB, 0.005 * GIB),
    ("gemma4-12b", "Q8_0", 11.78 * GIB, 0.005 * GIB),
    ("gemma4-26b-a4b", "Q4_K_M", 15.63 * GIB, 0.005 * GIB),
    ("gpt-oss-20b", "F16", 12.83 * GIB, 0.005 * GIB),
    ("gpt-oss-20b", "Q8_0", 11.27 * GIB, 0.005 * GIB),
    ("gpt-oss-20b", "Q5_K_M", 10.90 * GIB, 0.005 * GIB),
    ("llama3-8b", "Q4_K_M", 4.58 * GIB, 0.005 * GIB),
    ("llama3-8b", "Q5_K_M", 5.33 * GIB, 0.005 * GIB),
    ("llama3-8b", "Q8_0", 7.95 * GIB, 0.005 * GIB),
    ("mistral-7b", "Q4_K_M", 4.07 * GIB, 0.005 * GIB),
    ("deepseek-v3", "Q4_K_M", 376.65 * GIB, 0.1 * GIB),  # a file from before its attention was stored in two parts
]

# Bytes of published files. Their headers, mostly the tokenizer's, are of nearly the same size for one vocabulary.
HEADERS = {
    128_256: 7_830_000, 151_936: 5_957_000, 201_088: 13_008_000, 248_320: 10_980_000, 262_144: 6_540_000,
}  # fmt: skip
GEMMA4_HEADER = 15_820_000  # its vocabulary has merges
PUBLISHED_FILES = [
    ("qwen2.5-coder-0.5b", "Q4_K_M", 491_400_064),
    ("qwen2.5-coder-1.5b", "Q4_K_M", 1_117_320_768),
    ("qwen3-1.7b", "Q4_K_M", 1_107_409_952),
    ("qwen3-1.7b", "Q8_0", 1_834_427_424),
    ("qwen3-8b", "Q4_K_M", 5_027_785_216),
    ("qwen3-8b", "Q8_0", 8_709_519_872),
    ("qwen3-14b", "Q4_K_M", 9_001_752_960),
    ("qwen3-32b", "Q4_K_M", 19_762_149_024),
    ("qwen3-30b-a3b", "Q4_K_M", 18_556_686_752),
    ("qwen3-30b-a3b", "Q8_0", 32_483_932_576),
    ("qwen3-coder-30b-a3b", "Q4_K_M", 18_556_689_568),
    ("qwen3.5-4b", "Q8_0", 4_482_403_488),
    ("qwen3.5-9b", "Q8_0", 9_527_502_048),
    ("qwen3.6-35b-a3b", "Q8_0", 36_903_140_320),
    ("gemma3-4b", "Q4_K_M", 2_489_757_856),
    ("gemma3-12b", "Q4_K_M", 7_300_574_976),
    ("llama3.2-3b", "Q4_K_M", 2_019_377_696),
    ("llama3.1-8b", "Q4_K_M", 4_920_739_232),
    ("gemma4-31b", "Q4_K_M", 18_687_061_792),
    ("gemma4-31b", "Q8_0", 32_635_674_400),
    ("gpt-oss-120b", "MXFP4_MOE", 63_387_346_464),
]


@pytest.mark.parametrize("model", CATALOG.values(), ids=CATALOG)
def test_every_model_has_its_tensors_and_they_add_up_to_its_parameters(model: CatalogModel) -> None:
    tensors = model.blueprint.tensors
    assert sum(tensor.weight_count for tensor in tensors) == model.parameter_count
    assert len({tensor.name for tensor in tensors}) == len(tensors)


@pytest.mark.parametrize(("model", "count"), PUBLISHED_COUNTS.items())
def test_a_model_has_as_many_tensors_as_its_published_file(model: str, count: int) -> None:
    assert len(CATALOG[model].blueprint.tensors) == count


@pytest.mark.parametrize(("model", "level", "size"), PUBLISHED_FILES)
def test_a_published_file_is_a_level_and_its_header(model: str, level: str, size: int) -> None:
    blueprint = CATALOG[model].blueprint
    header = GEMMA4_HEADER if blueprint.architecture == "gemma4" else HEADERS[blueprint.vocabulary_size]
    assert CATALOG[model].weight_bytes[level] == pytest.approx(size - header, abs=40_000)


@pytest.mark.parametrize(("model", "level", "size", "error"), PUBLISHED_SIZES)
def test_a_level_has_the_size_of_the_published_file(model: str, level: str, size: float, error: float) -> None:
    assert CATALOG[model].weight_bytes[level] == pytest.approx(size, abs=error)


@pytest.mark.parametrize(
    ("model", "level", "file_bytes"),
    [("gemma3-270m", "Q8_0", 291_545_600), ("lfm2-1.2b", "Q4_K_M", 730_893_248)],
)
def test_a_published_file_is_larger_by_its_header_alone(model: str, level: str, file_bytes: int) -> None:
    """A header is 0.7 to 16 MB, most of it the vocabulary."""
    assert 0 < file_bytes - CATALOG[model].weight_bytes[level] < 16_000_000


@pytest.mark.parametrize("model", ["gemma3-270m", "gemma4-e2b", "gpt-oss-20b", "qwen3.5-0.8b"])
def test_the_sizes_are_those_of_the_installed_quantizer(model: str) -> None:
    """`.venv/bin/python -m scripts.tensor_tables` writes them again."""
    table = load_tensor_tables()[model]
    levels = ("Q2_K", "IQ2_M", "IQ4_XS", "Q4_K_M", "Q8_0", "F16", "MXFP4_MOE")
    worked_out = weights_by_level(CATALOG[model].blueprint, table.tensors, levels)
    assert worked_out == {level: table.weight_bytes[level] for level in levels if level in table.weight_bytes}


@pytest.mark.parametrize("model", ["gemma4-26b-a4b", "phi3-mini-128k", "qwen3.6-27b", "deepseek-v3"])
def test_the_tensors_are_those_of_the_installed_llama_cpp(model: str) -> None:
    with LlamaLog() as log:
        found = list(published_tensors(CATALOG[model], log))
    known = [(tensor.name, tensor.type, tensor.shape) for tensor in load_tensor_tables()[model].tensors]
    assert sorted(found) == sorted(known)


def test_experts_that_were_trained_in_mxfp4_stay_so_at_every_level() -> None:
    model = CATALOG["gpt-oss-20b"]
    experts = sum(tensor.byte_count for tensor in model.blueprint.tensors if tensor.type is TensorType.MXFP4)
    assert model.keeps_mxfp4 and experts > 10_000_000_000
    assert all(size > experts for size in model.weight_bytes.values())
    assert 13.7e9 < model.weight_bytes["F16"] < 13.9e9  # parameters times 16 bits would be 41.8
    assert [one.id for one in load_catalog() if one.keeps_mxfp4] == ["gpt-oss-20b", "gpt-oss-120b"]


def test_rows_name_the_tensors_of_many_layers_at_once() -> None:
    tensors = [
        ("token_embd.weight", TensorType.BF16, (64, 32)),
        *((f"blk.{layer}.attn_q.weight", TensorType.BF16, (64, 64)) for layer in (0, 1, 2, 4)),
        ("blk.3.attn_q.weight", TensorType.BF16, (64, 128)),
    ]
    rows = write_rows(tensors)
    assert rows == [
        "token_embd.weight BF16 64 32",
        "blk.{0-2,4}.attn_q.weight BF16 64 64",
        "blk.{3}.attn_q.weight BF16 64 128",
    ]
    assert sorted(read_rows(rows)) == sorted(tensors)


def test_a_stand_in_has_the_tensors_and_takes_no_space(tmp_path: Path) -> None:
    path = tmp_path / "stand-in.gguf"
    blueprint = CATALOG["gemma3-1b"].blueprint
    write_stand_in(path, blueprint, blueprint.tensors)
    header = read_header(FileSource(path))
    assert header.tensors == blueprint.tensors and path.stat().st_blocks * 512 < 1_000_000


@pytest.mark.parametrize(("model", "count"), [("gemma4-26b-a4b", 392), ("gemma4-e2b", 283)])
def test_as_many_tensors_stay_in_32_bits_as_in_the_published_file(model: str, count: int) -> None:
    """ "type f32: 392 tensors", as llama.cpp logged it for files at Q4_K_M."""
    assert sum(tensor.type is TensorType.F32 for tensor in CATALOG[model].blueprint.tensors) == count
