"""The catalogue that comes with the playground."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from playground.llama.dry_model import DryModel
from playground.llama.log import LlamaLog
from playground.llama.params import ContextParameters, context_parameters
from playground.llama.weight_buffers import weight_bytes_by_kind
from playground.models.catalog import CatalogModel, load_catalog

CATALOG = {model.id: model for model in load_catalog()}
SEPARATE_OUTPUT = {
    "gpt-oss-20b",
    "gpt-oss-120b",
    "qwen2.5-coder-0.5b",
    "qwen2.5-coder-1.5b",
    "qwen3-8b",
    "qwen3-14b",
    "qwen3-32b",
    "qwen3-30b-a3b",
    "qwen3-coder-30b-a3b",
    "qwen3.5-9b",
    "qwen3.6-27b",
    "qwen3.6-35b-a3b",
    "llama3-8b",
    "llama3.1-8b",
    "mistral-7b",
    "phi3-mini-4k",
    "phi3-mini-128k",
    "deepseek-v3",
}


def test_the_catalogue_goes_from_small_to_large_and_names_each_model_once() -> None:
    counts = [model.parameter_count for model in CATALOG.values()]
    assert len(CATALOG) == len(load_catalog()) == 35
    assert counts == sorted(counts)
    assert len({model.display_name for model in CATALOG.values()}) == 35


@pytest.mark.parametrize("model", CATALOG.values(), ids=CATALOG)
def test_every_model_is_told_in_one_plain_sentence(model: CatalogModel) -> None:
    assert model.summary.endswith(".")
    assert model.summary.count(".") == 1 + len(re.findall(r"\d\.\d", model.summary))
    assert len(model.summary) < 120
    assert model.repo is None or re.fullmatch(r"[\w.-]+/[\w.-]+", model.repo)


def test_a_pattern_is_written_out_layer_by_layer() -> None:
    heads = CATALOG["gemma4-12b"].blueprint.metadata["attention.head_count_kv"]
    assert heads == (8, 8, 8, 8, 8, 1) * 8


def test_patterns_follow_one_another() -> None:
    widths = CATALOG["gemma4-e2b"].blueprint.metadata["feed_forward_length"]
    assert widths == (6144,) * 15 + (12288,) * 20


@contextmanager
def opened(model: CatalogModel) -> Iterator[DryModel]:
    blueprint = model.blueprint
    with LlamaLog() as log:
        dry = DryModel.from_hyperparameters(blueprint.architecture, blueprint.metadata, blueprint.vocabulary_size, log)
        try:
            yield dry
        finally:
            dry.close()


@pytest.mark.parametrize("model", CATALOG.values(), ids=CATALOG)
def test_llama_cpp_knows_every_model_and_tells_the_memory_of_a_context(model: CatalogModel) -> None:
    with (
        opened(model) as dry,
        dry.context_sizes(context_parameters(ContextParameters(4096, slots=1))) as sizes,
    ):
        assert sizes.kv_cache > 0 and sizes.compute > 0
        assert dry.trained_context == model.blueprint.metadata["context_length"]


@pytest.mark.parametrize("model", CATALOG.values(), ids=CATALOG)
def test_llama_cpp_counts_the_parameters_that_the_catalogue_names(model: CatalogModel) -> None:
    with opened(model) as dry:
        kinds = weight_bytes_by_kind(dry._model)
    assert kinds is not None
    counted = sum(kinds.values()) // 4  # without a file every weight is a 32-bit number
    if model.id not in SEPARATE_OUTPUT:  # one matrix for input and output, which llama.cpp lays out twice
        width = model.blueprint.metadata["embedding_length"]
        assert isinstance(width, int)
        counted -= model.blueprint.vocabulary_size * width
    assert counted == pytest.approx(model.parameter_count, rel=0.005)
