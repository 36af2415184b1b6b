"""The dry run asks the real llama.cpp, in its real child."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError
from playground.fit.planner import Planner
from playground.gguf.header import read_header, write_stand_in
from playground.gguf.reader import FileSource
from playground.llama.params import ContextParameters
from playground.models.catalog import Blueprint, load_catalog

MIB = 1024 * 1024
SMALL = ContextParameters(2048)
CATALOG = {model.id: model for model in load_catalog()}


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def write_model(
    folder: Path, *, architecture: str = "llama", leave_out: str = "", shards: int = 0, **numbers: int
) -> Path:
    """A real model, 64 wide, one layer, that knows no words; `shards` is the tensors in each file, 0 for one file."""
    path = folder / "tiny.gguf"
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=shards)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    hyperparameters = {
        "vocab_size": 32, "block_count": 1, "context_length": 4096, "embedding_length": 64, "feed_forward_length": 128,
        "attention.head_count": 4, "attention.head_count_kv": 4, **numbers,
    }  # fmt: skip
    for key, number in hyperparameters.items():
        writer.add_uint32(f"{architecture}.{key}", number)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    shapes = {"token_embd": (32, 64), "output_norm": (64,), "output": (32, 64)}
    shapes |= {f"blk.0.attn_{part}": (64, 64) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.attn_norm": (64,), "blk.0.ffn_norm": (64,)}
    shapes |= {"blk.0.ffn_gate": (128, 64), "blk.0.ffn_up": (128, 64), "blk.0.ffn_down": (64, 128)}
    for name, shape in shapes.items():
        if name != leave_out:
            writer.add_tensor(f"{name}.weight", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(folder.glob("tiny*.gguf"))


def test_the_plan_of_the_starter_names_every_part(planner: Planner, starter: Path) -> None:
    plan = planner.plan(starter, SMALL)
    layers, heads, width, key_and_value, bytes_each = 30, 3, 64, 2, 2
    assert plan.kv_cache == layers * heads * width * key_and_value * bytes_each * 2048
    assert 0 < starter.stat().st_size - plan.weights < 7 * MIB
    assert plan.repacked == plan.recurrent == 0
    assert 0 < plan.output < plan.compute < 20 * MIB
    assert 30 * MIB < plan.base < 100 * MIB
    assert plan.total == plan.weights + plan.must_stay


def test_a_larger_context_and_a_smaller_kv_type_move_the_kv_cache_alone(planner: Planner, starter: Path) -> None:
    small, large = planner.plan(starter, SMALL), planner.plan(starter, ContextParameters(8192))
    packed = planner.plan(starter, ContextParameters(8192, kv_type="q8_0"))
    assert large.kv_cache == 4 * small.kv_cache
    assert packed.kv_cache == pytest.approx(large.kv_cache * 34 / 64, rel=0.001)  # 34 bytes for 32 values of 2 bytes
    assert small.weights == large.weights == packed.weights


def test_the_trained_context_is_the_files_own(planner: Planner, starter: Path) -> None:
    assert planner.trained_context(starter) == 8192


def test_a_header_alone_gives_the_plan_of_the_whole_file(planner: Planner, starter: Path, tmp_path: Path) -> None:
    source = FileSource(starter)
    stand_in = tmp_path / "stand-in.gguf"
    write_stand_in(source, read_header(source), stand_in)
    whole, header_only = planner.plan(starter, SMALL), planner.plan(stand_in, SMALL)
    assert (header_only.weights, header_only.kv_cache, header_only.compute) == (
        whole.weights, whole.kv_cache, whole.compute,
    )  # fmt: skip


def test_a_split_model_is_planned_from_its_first_shard(planner: Planner, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "split").mkdir()
    whole = planner.plan(write_model(tmp_path / "whole"), SMALL)
    first = write_model(tmp_path / "split", shards=4)
    assert len(list(first.parent.glob("*.gguf"))) == 3
    assert planner.plan(first, SMALL).weights == whole.weights


def test_a_missing_shard_is_named(planner: Planner, tmp_path: Path) -> None:
    first = write_model(tmp_path, shards=4)
    max(tmp_path.glob("*.gguf")).unlink()
    with pytest.raises(BadModelFile, match="00003-of-00003"):
        planner.plan(first, SMALL)


def test_a_blueprint_is_planned_without_any_file(planner: Planner) -> None:
    blueprint = CATALOG["gemma4-12b"].blueprint
    plan = planner.plan(blueprint, ContextParameters(262_144, slots=1))
    assert plan.weights == plan.repacked == 0
    assert plan.kv_cache / 1024**3 == pytest.approx(4.39, abs=0.01)  # not the 96 GB of the naive sum
    assert planner.trained_context(blueprint) == 262_144


def test_a_recurrent_state_is_counted_once(planner: Planner) -> None:
    blueprint = CATALOG["qwen3.5-0.8b"].blueprint
    one, four = (planner.plan(blueprint, ContextParameters(4096, slots=slots)) for slots in (1, 4))
    assert one.recurrent / MIB == pytest.approx(19.27, abs=0.01)
    assert four.recurrent == pytest.approx(4 * one.recurrent, rel=0.001)
    assert abs(four.base - one.base) < 10 * MIB


def test_a_blueprint_with_a_drafting_layer_is_planned_as_it_runs(planner: Planner) -> None:
    """Qwen 3.6 and 3.8 27B: 64 layers, and one that drafts tokens, which a run does not load."""
    known = CATALOG["qwen3.6-27b"].blueprint
    own = {key: value for key, value in known.metadata.items() if key != "nextn_predict_layers"} | {"block_count": 64}
    with_layer = {**own, "block_count": 65, "nextn_predict_layers": 1}
    alone, drafting = (planner.plan(Blueprint("qwen35", keys, 248_320), SMALL) for keys in (own, with_layer))
    assert alone.kv_cache == 16 * 2 * 4 * 256 * 2 * 2048  # every fourth of 64 layers
    assert (drafting.kv_cache, drafting.recurrent, drafting.compute) == (alone.kv_cache, alone.recurrent, alone.compute)


def test_a_blueprint_of_drafting_layers_alone_is_refused_in_words(planner: Planner) -> None:
    known = CATALOG["qwen3.6-27b"].blueprint
    draft = Blueprint("qwen35", {**known.metadata, "block_count": 1, "nextn_predict_layers": 1}, 248_320)
    with pytest.raises(BadModelFile, match="layers that draft tokens for another model"):
        planner.plan(draft, SMALL)


def test_a_file_with_a_drafting_layer_is_planned_as_it_runs(planner: Planner, tmp_path: Path) -> None:
    plans = [planner.plan(write_qwen35(tmp_path, drafting=drafting), SMALL) for drafting in (False, True)]
    assert (tmp_path / "drafting.gguf").stat().st_size > (tmp_path / "plain.gguf").stat().st_size
    one_layer_with_attention = 2 * 2 * 16 * 2 * 2048  # K and V of 2 heads, 16 wide, of two bytes
    assert plans[0].kv_cache == pytest.approx(one_layer_with_attention, abs=20_000)  # of a state so small
    parts = [(plan.kv_cache, plan.recurrent, plan.compute, plan.read_weights) for plan in plans]
    assert parts[0] == parts[1] and plans[0].weights < plans[1].weights


def write_qwen35(folder: Path, *, drafting: bool) -> Path:
    """A small Qwen 3.5 that knows no words: three linear layers, one with attention, and perhaps one that drafts."""
    path = folder / ("drafting.gguf" if drafting else "plain.gguf")
    writer = gguf.GGUFWriter(path, "qwen35")
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    numbers = {
        "vocab_size": 32, "block_count": 5 if drafting else 4, "context_length": 4096, "embedding_length": 64,
        "feed_forward_length": 128, "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16,
        "attention.value_length": 16, "ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16,
        "ssm.time_step_rank": 4, "ssm.group_count": 2, "full_attention_interval": 4, "rope.dimension_count": 16,
    } | ({"nextn_predict_layers": 1} if drafting else {})  # fmt: skip
    for key, number in numbers.items():
        writer.add_uint32(f"qwen35.{key}", number)
    writer.add_float32("qwen35.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_array("qwen35.rope.dimension_sections", [3, 3, 2, 0])
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (32, 64), "output_norm.weight": (64,), "output.weight": (32, 64),
    }  # fmt: skip
    for layer in range(5 if drafting else 4):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in _qwen35_layer(linear=layer < 3).items()}
    if drafting:
        shapes |= {"blk.4.nextn.eh_proj.weight": (64, 128), "blk.4.nextn.enorm.weight": (64,)}
        shapes |= {"blk.4.nextn.hnorm.weight": (64,)}
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _qwen35_layer(*, linear: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's tensors, rows first."""
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (64,), "post_attention_norm.weight": (64,),
        "ffn_gate.weight": (128, 64), "ffn_up.weight": (128, 64), "ffn_down.weight": (64, 128),
    }  # fmt: skip
    if linear:
        return shapes | {
            "attn_qkv.weight": (128, 64), "attn_gate.weight": (64, 64), "ssm_conv1d.weight": (128, 4),
            "ssm_dt.bias": (4,), "ssm_a": (4,), "ssm_beta.weight": (4, 64), "ssm_alpha.weight": (4, 64),
            "ssm_norm.weight": (16,), "ssm_out.weight": (64, 64),
        }  # fmt: skip
    return shapes | {
        "attn_q.weight": (128, 64), "attn_k.weight": (32, 64), "attn_v.weight": (32, 64),
        "attn_output.weight": (64, 64), "attn_q_norm.weight": (16,), "attn_k_norm.weight": (16,),
    }  # fmt: skip


def test_what_a_token_reads_of_a_blueprint_is_known_by_its_tensors(planner: Planner) -> None:
    per_layer = planner.plan(CATALOG["gemma4-e2b"].blueprint, SMALL).use
    experts = planner.plan(CATALOG["gemma4-26b-a4b"].blueprint, SMALL).use
    assert per_layer.unread == pytest.approx(0.5, abs=0.05)  # the embeddings of 35 layers
    assert experts.experts > 0.85 and experts.chosen == 8 / 128


def test_the_memory_of_the_planners_processes_is_given_back_when_asked(starter: Path) -> None:
    before = {child.pid for child in children()}
    with Planner() as planner:
        assert planner.held_bytes() == 0
        first = planner.plan(starter, SMALL)
        assert 20 * MIB < planner.held_bytes() < 200 * MIB
        planner.give_back_memory()
        assert planner.held_bytes() == 0 and {child.pid for child in children()} <= before
        assert planner.plan(starter, SMALL) == first
        assert planner.plan(starter, ContextParameters(4096)).kv_cache == 2 * first.kv_cache


@pytest.mark.parametrize("model", ["qwen3.5-0.8b", "gemma3-1b"])
def test_a_context_is_planned_alike_as_the_first_of_its_model_and_after_others(model: str) -> None:
    """A state with a recurrent part and one without; earlier contexts leave used memory behind in the child."""
    blueprint, last = CATALOG[model].blueprint, ContextParameters(131_072)
    with Planner() as planner:
        alone = planner.plan(blueprint, last)
    with Planner() as planner:
        after_others = [planner.plan(blueprint, ContextParameters(size)) for size in (4096, 8192, 32_768, 131_072)][-1]
    assert after_others.base == pytest.approx(alone.base, abs=2 * MIB)
    assert dataclasses.replace(after_others, base=0) == dataclasses.replace(alone, base=0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: write_bytes(folder, b"<html>Not found</html>"), "invalid magic characters: '<htm'"),
        (lambda folder: write_bytes(folder, b""), "failed to read magic"),
        (lambda folder: cut(write_model(folder), 300), "failed to read key-value pairs"),
        (lambda folder: cut(write_model(folder), 100_000), "incomplete"),
        (lambda folder: write_model(folder, architecture="llamb"), "'llamb'.* Choose a model this llama.cpp knows"),
        (lambda folder: write_model(folder, leave_out="blk.0.ffn_up"), "'blk.0.ffn_up.weight' not found"),
        (lambda folder: write_model(folder, block_count=100_000), "GGML_ASSERT.*LAYERS"),
    ],
    ids=["a web page", "empty", "cut in the header", "cut in the weights", "unknown", "missing tensor", "assertion"],
)
def test_a_bad_file_is_refused_in_the_words_of_llama_cpp(
    planner: Planner, tmp_path: Path, spoil: Callable[[Path], Path], words: str
) -> None:
    path = spoil(tmp_path)
    with pytest.raises(BadModelFile, match=words) as refusal:
        planner.plan(path, SMALL)
    assert "\n" not in str(refusal.value) and str(path.parent) not in str(refusal.value)
    assert path.name in str(refusal.value)
    assert str(refusal.value).count("..") == 0


def write_bytes(folder: Path, content: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return path


def cut(path: Path, size: int) -> Path:
    assert path.stat().st_size > size
    os.truncate(path, size)
    return path


def test_a_context_that_aborts_llama_cpp_does_not_keep_the_next_from_being_planned(planner: Planner) -> None:
    sound = CATALOG["gemma2-2b"].blueprint
    absurd = Blueprint("gemma2", {**sound.metadata, "attention.head_count_kv": 3}, sound.vocabulary_size)
    for _ in range(2):
        with pytest.raises(BadModelFile, match="GGML_ASSERT"):
            planner.plan(absurd, SMALL)
    assert planner.plan(sound, SMALL).kv_cache > 0


def test_a_file_that_is_not_there_is_named(planner: Planner, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"gone\.gguf"):
        planner.plan(tmp_path / "gone.gguf", SMALL)


def test_a_file_that_changes_is_planned_anew(planner: Planner, tmp_path: Path) -> None:
    first = planner.plan(write_model(tmp_path, feed_forward_length=128), SMALL)
    (tmp_path / "tiny.gguf").write_bytes(b"overwritten")
    assert first.weights > 0
    with pytest.raises(BadModelFile):
        planner.plan(tmp_path / "tiny.gguf", SMALL)


def test_a_child_that_is_killed_between_two_questions_is_replaced(starter: Path) -> None:
    before = {child.pid for child in children()}
    with Planner() as planner:
        first = planner.plan(starter, SMALL)
        (child,) = [child for child in children() if child.pid not in before]
        child.kill()
        assert planner.plan(starter, ContextParameters(4096)).kv_cache == 2 * first.kv_cache


def test_an_answer_already_given_needs_no_child(starter: Path) -> None:
    before = {child.pid for child in children()}
    with Planner() as planner:
        first = planner.plan(starter, SMALL)
        (child,) = [child for child in children() if child.pid not in before]
        child.kill()
        assert planner.plan(starter, SMALL) == first


def test_a_child_that_is_killed_while_nobody_asks_leaves_the_systems_list(starter: Path) -> None:
    before = {child.pid for child in children()}
    with Planner() as planner:
        planner.plan(starter, SMALL)
        (child,) = [child for child in children() if child.pid not in before]
        (waiting,) = [thread for thread in threading.enumerate() if thread.name == f"errors of {child.pid}"]
        os.kill(child.pid, signal.SIGKILL)
        waiting.join(10)
        assert not psutil.pid_exists(child.pid)


def test_a_child_that_does_not_answer_in_time_is_an_error_and_is_gone(starter: Path) -> None:
    before = {child.pid for child in children()}
    with Planner(timeout_seconds=0.001) as planner:
        with pytest.raises(PlaygroundError, match=r"did not answer within 0\.001 seconds"):
            planner.plan(starter, SMALL)
        assert {child.pid for child in children()} <= before


def test_only_so_many_children_stay_open_and_none_after_the_planner(starter: Path) -> None:
    before = {child.pid for child in children()}
    with Planner(children=2) as planner:
        for name in ("gemma3-1b", "qwen3-4b", "llama3-8b"):
            planner.plan(CATALOG[name].blueprint, SMALL)
        assert len({child.pid for child in children()} - before) == 2
    assert {child.pid for child in children()} <= before
    with pytest.raises(PlaygroundError, match="closed"):
        planner.plan(starter, SMALL)


def test_after_a_while_only_the_model_asked_about_last_stays_open() -> None:
    before = set(children())
    with Planner(idle_seconds=0.5) as planner:
        planner.plan(CATALOG["gemma3-1b"].blueprint, SMALL)
        (first,) = set(children()) - before
        planner.plan(CATALOG["qwen3-4b"].blueprint, SMALL)
        gone, still_open = psutil.wait_procs([first], timeout=60)
        assert gone and not still_open
        (last,) = set(children()) - before
        assert last.is_running()


def test_many_threads_ask_at_once_and_each_gets_its_own_answer(planner: Planner, starter: Path) -> None:
    contexts = [ContextParameters(256 * step) for step in range(1, 25)]
    with ThreadPoolExecutor(8) as threads:
        plans = list(threads.map(lambda context: planner.plan(starter, context), contexts))
    assert [plan.context for plan in plans] == contexts
    assert [plan.kv_cache / MIB for plan in plans] == pytest.approx([5.625 * step for step in range(1, 25)], abs=0.01)


def test_a_child_ends_with_its_parent_even_when_that_is_killed(starter: Path) -> None:
    script = (
        "import sys, psutil\n"
        "from playground.fit.planner import Planner\n"
        "from playground.llama.params import ContextParameters\n"
        "planner = Planner()\n"
        "planner.plan(sys.argv[1], ContextParameters(2048))\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(starter)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None and parent.stdout is not None
    with parent, parent.stdin, parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
