"""Writes playground/assets/tensor_tables.toml: the tensors of the catalogue's models, and their weights at every level.

    .venv/bin/python -m scripts.tensor_tables

Names and shapes are llama.cpp's own: what its loader has a place for, given the hyperparameters of the catalogue. What
it cannot know is below: which of the optional tensors the published files have, which are stored as one, and the type
of each before quantization. `tests/models/test_tensor_tables.py` compares the outcome with published files. Run it
again after a model was added to the catalogue, and after another llama.cpp was installed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGUFWriter
from gguf.constants import Keys

from playground.gguf.levels import MAKEABLE_LEVELS
from playground.gguf.tensors import TensorInfo, TensorType
from playground.llama.dry_model import DryModel, Hyperparameter
from playground.llama.log import LlamaLog
from playground.models.catalog import Blueprint, CatalogModel, load_catalog
from playground.models.tensor_tables import Tensor, placed_tensors, write_rows
from playground.quantize.quantize import QuantizedSize, estimate_levels

PROJECT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = PROJECT / "playground" / "assets" / "tensor_tables.toml"
HEAD: Final = """\
# Written by scripts/tensor_tables.py. tensors: name (of many layers at once), type, and shape, a row's length first, of
# a file as it was converted. weight_bytes: of all its tensors at each level, as llama.cpp's quantizer answers.
"""

# Models whose output matrix is a tensor of its own, and not the token embedding: by their published configurations.
_SEPARATE_OUTPUT: Final = frozenset((
    "gpt-oss-20b", "gpt-oss-120b", "qwen3.6-27b", "qwen3.6-35b-a3b", "qwen3.5-9b", "qwen3-8b", "qwen3-14b", "qwen3-32b",
    "qwen3-30b-a3b", "qwen3-coder-30b-a3b", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "llama3-8b", "llama3.1-8b",
    "mistral-7b", "phi3-mini-4k", "phi3-mini-128k", "deepseek-v3",
))  # fmt: skip
# Models whose layers without a window use their keys as values (attention_k_eq_v in their published configurations).
_KEYS_ARE_VALUES: Final = frozenset(("gemma4-12b", "gemma4-26b-a4b", "gemma4-31b"))
_TRAINED_IN_MXFP4: Final = frozenset(("gpt-oss-20b", "gpt-oss-120b"))

# Optional tensors, by the end of their names, and the models that have them; those of one architecture by its name.
_OPTIONAL: Final[tuple[tuple[re.Pattern[str], frozenset[str]], ...]] = (
    (re.compile(r"^output\.weight$"), _SEPARATE_OUTPUT),
    (re.compile(r"^rope_freqs\.weight$"), frozenset(("gemma4", "llama3.1-8b", "llama3.2-3b"))),
    (re.compile(r"^rope_factors_\w+\.weight$"), frozenset(("phi3-mini-128k",))),
    (re.compile(r"\.ffn_(?:gate_inp|down_exps)\.scale$"), frozenset(("gemma4",))),
    (re.compile(r"\.(?:ssm_dt|exp_probs_b)\.bias$"), frozenset(("qwen35", "qwen35moe", "deepseek2"))),
    (re.compile(r"\.attn_[qkv]\.bias$"), frozenset(("gpt-oss", "qwen2"))),
    (re.compile(r"^blk\..*\.bias$"), frozenset(("gpt-oss",))),
    (re.compile(r"^(?:cls|dense_\d)\b|\.bias$|scale$"), frozenset()),
)
# llama.cpp's converter keeps these in 32 bits: conversion/base.py, prepare_tensors.
_IN_32_BITS: Final = re.compile(
    r"_norm\.weight$|\.ffn_gate_inp\.weight$|\.ssm_conv1d\.weight$|\.shortconv\.conv\.weight$|(?<!\.weight)$"
)


def published_tensors(model: CatalogModel, log: LlamaLog) -> Iterator[Tensor]:
    """The tensors of a published file of the model, before it was quantized."""
    blueprint = model.blueprint
    opened = DryModel.from_hyperparameters(blueprint.architecture, blueprint.metadata, blueprint.vocabulary_size, log)
    try:
        shapes = opened.tensor_shapes()
        assert shapes, "this build of llama.cpp does not tell its tensors"
    finally:
        opened.close()
    for name, shape in _as_stored(blueprint.architecture, shapes):
        if _is_published(model, name):
            yield name, _type_before(model, name, shape), shape


def _as_stored(architecture: str, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensors that the converter stores in another way than llama.cpp's loader lists them without a file."""
    for name, shape in shapes.items():
        if architecture == "phi3" and re.search(r"\.attn_[qkv]\.weight$", name):
            if ".attn_q." in name:  # queries, keys and values are one tensor
                rows = sum(shapes[name.replace("attn_q", f"attn_{part}")][1] for part in "qkv")
                yield name.replace("attn_q", "attn_qkv"), (shape[0], rows)
        elif architecture == "deepseek2" and ".ffn_gate_up_exps." in name:  # two tensors
            for half in ("ffn_gate_exps", "ffn_up_exps"):
                yield name.replace("ffn_gate_up_exps", half), (shape[0], shape[1] // 2, shape[2])
        else:
            yield name, shape


def _is_published(model: CatalogModel, name: str) -> bool:
    if model.id in _KEYS_ARE_VALUES and name.endswith(".attn_v.weight"):
        has_window = model.blueprint.metadata["attention.sliding_window_pattern"]
        assert isinstance(has_window, tuple)
        return bool(has_window[int(name.split(".")[1])])
    for pattern, owners in _OPTIONAL:
        if pattern.search(name):
            return model.id in owners or model.blueprint.architecture in owners
    return True


def _type_before(model: CatalogModel, name: str, shape: tuple[int, ...]) -> TensorType:
    if len(shape) < 2 or _IN_32_BITS.search(name):
        return TensorType.F32
    return TensorType.MXFP4 if model.id in _TRAINED_IN_MXFP4 and "_exps." in name else TensorType.BF16


# --- a file for the quantizer ---


def write_stand_in(path: Path, blueprint: Blueprint, tensors: Iterable[TensorInfo]) -> None:
    """A GGUF file with these tensors and a hole where their weights would be, which takes no space on the disk."""
    writer = GGUFWriter(path, blueprint.architecture)
    for key, value in blueprint.metadata.items():
        _add_value(writer, f"{blueprint.architecture}.{key}", value)
    writer.add_uint32(Keys.LLM.VOCAB_SIZE.format(arch=blueprint.architecture), blueprint.vocabulary_size)
    writer.add_tokenizer_model("no_vocab")
    end = 0
    for tensor in tensors:
        kind: Any = tensor.type  # gguf's own enum lacks Q2_0
        writer.add_tensor_info(tensor.name, tensor.shape[::-1], np.dtype(np.float32), tensor.byte_count, kind)
        end = tensor.offset + tensor.byte_count
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        header = writer.ggml_pad(path.stat().st_size, writer.data_alignment)
        file.truncate(header + writer.ggml_pad(end, writer.data_alignment))


def _add_value(writer: GGUFWriter, key: str, value: Hyperparameter) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))


def weights_by_level(
    blueprint: Blueprint, tensors: Iterable[TensorInfo], levels: Iterable[str] = MAKEABLE_LEVELS
) -> dict[str, int]:
    """What the weights of a model take at each level, in bytes; without levels that llama.cpp cannot make of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_stand_in(path, blueprint, tensors)
        sizes = estimate_levels(path, tuple(levels))
    return {level: size.weight_bytes for level, size in sizes.items() if isinstance(size, QuantizedSize)}


def table_of(model: CatalogModel, log: LlamaLog) -> str:
    """The model's table in TOML."""
    tensors = list(published_tensors(model, log))
    sizes = weights_by_level(model.blueprint, placed_tensors(tensors))
    rows = "".join(f'    "{row}",\n' for row in write_rows(tensors))
    levels = "".join(f"{level} = {size}\n" for level, size in sizes.items())
    return f'\n["{model.id}"]\ntensors = [\n{rows}]\n["{model.id}".weight_bytes]\n{levels}'


if __name__ == "__main__":
    with LlamaLog() as log:
        tables = [table_of(model, log) for model in load_catalog()]
    TARGET.write_text(HEAD + "".join(tables), encoding="utf-8")
