"""The dry run against sizes that others published from real runs, on other machines and other versions of llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from playground.llama.dry_model import DryModel
from playground.llama.log import ContextSizes, LlamaLog
from playground.llama.params import KV_TYPES, ContextParameters, context_parameters

MIB = 1024 * 1024
PUBLISHED = json.loads((Path(__file__).parent / "published_kv_samples.json").read_text())
LOGS: list[dict[str, Any]] = PUBLISHED["logs"]


def parameters_of(log: dict[str, Any]) -> llama_cpp.llama_context_params:
    """Our own parameters, with what the published run chose otherwise."""
    parameters = context_parameters(ContextParameters(log["n_ctx"], slots=log["n_seq"]))
    parameters.n_batch, parameters.n_ubatch = log["n_batch"], log["n_ubatch"]
    parameters.kv_unified, parameters.swa_full = log["kv_unified"], log["swa_full"]
    parameters.type_k, parameters.type_v = KV_TYPES[log["type_k"]], KV_TYPES[log["type_v"]]
    attention = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.flash_attn_type = attention[0] if log["flash_attn"] else attention[1]
    return parameters


def planned(log: dict[str, Any]) -> ContextSizes:
    metadata = dict(PUBLISHED["models"][log["metadata"]])
    architecture, vocabulary_size = metadata.pop("architecture"), metadata.pop("vocab_size")
    with LlamaLog() as llama_log:
        model = DryModel.from_hyperparameters(architecture, metadata, vocabulary_size, llama_log)
        try:
            with model.context_sizes(parameters_of(log)) as sizes:
                return sizes
        finally:
            model.close()


@pytest.mark.parametrize("log", LOGS, ids=[f"{log['model']} at {log['n_ctx']}" for log in LOGS])
def test_the_kv_cache_and_recurrent_state_are_those_of_the_published_run(log: dict[str, Any]) -> None:
    sizes = planned(log)
    assert sizes.kv_cache / MIB == pytest.approx(log["kv_mib"], rel=0.001)
    assert sizes.recurrent / MIB == pytest.approx(log["rs_mib"], rel=0.001, abs=0.01)


def test_all_published_runs_are_here() -> None:
    assert len(LOGS) == 17
