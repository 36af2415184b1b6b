"""A plan beside the memory of a process that really loaded the model and filled its context."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import llama_cpp
import pytest

from playground.fit.planner import Planner
from playground.llama.log import LlamaLog
from playground.llama.params import ContextParameters, model_parameters
from playground.llama.weight_buffers import repacked_bytes

MIB = 1024 * 1024
CONTEXT = ContextParameters(512)  # the engine makes it full in a second; benchmarks/ has the larger ones

REAL_RUN = """
import json, os, sys
import llama_cpp
from playground.llama.params import ContextParameters, context_parameters, model_parameters
from playground.machine.memory import read_process_memory

def decode(tokens, first):
    batch.n_tokens = tokens
    for index in range(tokens):
        batch.token[index], batch.pos[index] = 100 + index, first + index
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        batch.logits[index] = index == tokens - 1
    assert llama_cpp.llama_decode(context, batch) == 0

chosen = ContextParameters(int(sys.argv[2]))
model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), model_parameters())
context = llama_cpp.llama_init_from_model(model, context_parameters(chosen))
batch = llama_cpp.llama_batch_init(256, 0, 1)
for first in range(0, chosen.cells, 256):
    decode(256, first)
memory = read_process_memory(os.getpid())
print(json.dumps([memory.anonymous, memory.mapped, memory.exact_split]))
"""


@pytest.fixture(scope="module")
def repacked_level(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter made into Q4_0, whose weights most CPUs want in another order."""
    path = tmp_path_factory.mktemp("levels") / "starter-Q4_0.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize, parameters.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, True, 2
    with LlamaLog():
        done = llama_cpp.llama_model_quantize(str(starter).encode(), str(path).encode(), ctypes.byref(parameters))
    assert done == 0
    return path


@pytest.mark.parametrize("level", ["as shipped", "Q4_0"])
def test_the_plan_is_what_a_real_load_takes_with_its_context_full(
    level: str, starter: Path, request: pytest.FixtureRequest
) -> None:
    path = starter if level == "as shipped" else request.getfixturevalue("repacked_level")
    with Planner() as planner:
        plan = planner.plan(path, CONTEXT)
    run = subprocess.run(
        [sys.executable, "-c", REAL_RUN, str(path), str(CONTEXT.context_size)], capture_output=True, check=True
    )
    anonymous, mapped, exact_split = json.loads(run.stdout)
    assert anonymous + mapped == pytest.approx(plan.total, rel=0.03, abs=10 * MIB)
    if exact_split:
        libraries = plan.must_stay - anonymous  # mapped files that are not the model, counted in the base
        assert 0 < libraries < 40 * MIB
        assert mapped - libraries == pytest.approx(plan.weights, abs=10 * MIB)


def test_what_is_repacked_is_known_before_the_load(repacked_level: Path) -> None:
    reported = []
    with LlamaLog() as log:
        for dry in (True, False):
            model = llama_cpp.llama_model_load_from_file(str(repacked_level).encode(), model_parameters(dry=dry))
            reported.append(repacked_bytes(model))
            llama_cpp.llama_model_free(model)
        copied = [line.text for line in log.take_lines() if "CPU_REPACK model buffer size" in line.text]
    assert reported[0] == reported[1]
    in_the_log = float(copied[-1].split("=")[1].split()[0]) if copied else 0.0
    assert reported[0] is not None
    assert reported[0] / MIB == pytest.approx(in_the_log, abs=0.01)
