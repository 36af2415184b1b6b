"""Levels made here, by llama.cpp's own quantizer: from the real starter and from small models built below."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError
from playground.gguf.header import GgufHeader, read_header
from playground.gguf.reader import FileSource
from playground.machine.files import unfinished_file
from playground.quantize.quantize import (
    QuantizationProgress,
    QuantizedFile,
    QuantizedSize,
    estimate_level,
    estimate_levels,
    level_note,
    lowest_origin,
    quantize_file,
)

WIDTH = 256  # the block of the K-quants


def build_model(path: Path, *, shards: int = 1, architecture: str = "llama") -> Path:
    """A llama of one layer in 16-bit floats, with all that the quantizer looks at; returns its first file."""
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=0 if shards == 1 else -(-10 // shards))
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(32)
    random = np.random.default_rng(1)
    parts = [
        f"blk.0.{part}" for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    ]
    for name in ("token_embd", "output", *parts):
        rows = WIDTH if name in parts else 32
        writer.add_tensor(f"{name}.weight", random.standard_normal((rows, WIDTH)).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if shards == 1 else path.with_name(f"{path.stem}-00001-of-{shards:05}.gguf")


def build_experts(path: Path) -> Path:
    """A gpt-oss of one layer as it is published: experts in MXFP4, the rest in 16-bit floats."""
    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(2)
    writer.add_expert_used_count(1)
    writer.add_expert_feed_forward_length(WIDTH)
    writer.add_sliding_window(32)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(32)
    random = np.random.default_rng(1)
    for name in ("token_embd", "output", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output"):
        rows = WIDTH if name.startswith("blk") else 32
        writer.add_tensor(f"{name}.weight", random.standard_normal((rows, WIDTH)).astype(np.float16))
    for name in ("gate", "up", "down"):
        weights = random.standard_normal((2, WIDTH, WIDTH)).astype(np.float32)
        packed = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.MXFP4)
        writer.add_tensor(f"blk.0.ffn_{name}_exps.weight", packed, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make(source: Path, level: str, target: Path) -> QuantizedFile:
    *_, made = quantize_file(source, level, target, threads=2)
    assert isinstance(made, QuantizedFile)
    return made


def header_of(path: Path) -> GgufHeader:
    return read_header(FileSource(path))


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("source") / "Tiny-F16.gguf")


# --- the real starter ---


@pytest.mark.parametrize("level", ["Q8_0", "Q2_0"])
def test_a_level_of_the_starter_is_as_large_as_foretold_and_says_what_it_is(
    starter: Path, tmp_path: Path, level: str
) -> None:
    foretold = estimate_level(starter, level)
    made = make(starter, level, tmp_path / f"Starter-{level}.gguf")
    header = header_of(made.path)
    assert made.path.stat().st_size == made.size == foretold.size
    assert header.bits_per_weight == pytest.approx(foretold.bits_per_weight, abs=1e-9)
    assert (header.level, header.requantized_from) == (level, "Q4_1")
    assert left_in(tmp_path) == [made.path]


def test_progress_begins_at_nothing_never_goes_back_and_ends_at_all(starter: Path, tmp_path: Path) -> None:
    *events, made = quantize_file(starter, "Q8_0", tmp_path / "starter.gguf", threads=2)
    fractions = [event.fraction for event in events if isinstance(event, QuantizationProgress)]
    assert fractions[0] == 0 and fractions[-1] == 1 and len(fractions) > 20
    assert all(before <= after for before, after in pairwise(fractions))
    assert isinstance(made, QuantizedFile) and len(fractions) == len(events)


def test_a_stopped_run_leaves_nothing(starter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "Starter"
    work = quantize_file(starter, "Q8_0", folder / "Starter-Q8_0.gguf", threads=1)
    fractions = (event.fraction for event in work if isinstance(event, QuantizationProgress))
    assert 0 < next(fraction for fraction in fractions if fraction > 0) < 1
    assert [path.suffix for path in folder.iterdir()] == [".making"]
    work.close()
    assert left_in(tmp_path) == []


def test_a_file_named_q2_k_that_takes_five_bits_says_so_and_why(starter: Path) -> None:
    foretold = estimate_level(starter, "Q2_K")
    assert len(foretold.fallbacks) == 180
    assert foretold.note == (
        "Averages 5.1 bits per weight, because some tensors stay at higher precision. "
        "180 of 272 tensors use a fallback type: this model's rows (576) are not a multiple of 256. "
        "Made from the Q4_1 file, so it cannot be better than Q4_1."
    )


def test_a_refused_level_gives_llama_cpps_own_words(starter: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaygroundError, match=r"no tensor type fallback is defined for type q1_0.*576.*128.*Choose"):
        make(starter, "Q1_0", tmp_path / "made" / "starter.gguf")
    assert left_in(tmp_path) == []


def test_one_level_that_is_refused_does_not_spoil_the_estimates_of_the_others(starter: Path) -> None:
    outcomes = estimate_levels(starter, ("Q1_0", "IQ2_XXS", "Q4_0", "Q8_0"))
    refused = [level for level, outcome in outcomes.items() if isinstance(outcome, PlaygroundError)]
    sizes = [outcome.size for outcome in outcomes.values() if isinstance(outcome, QuantizedSize)]
    assert refused == ["Q1_0"] and len(sizes) == 3
    assert sizes[0] < sizes[1] < starter.stat().st_size < sizes[2]


def test_a_disk_too_full_is_noticed_before_anything_is_written(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    needed = estimate_level(starter, "Q8_0").size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * needed, 9 * needed, needed - 1))
    with pytest.raises(PlaygroundError, match=r"Q8_0 needs (.+), and (?!\1 ).+ are free on this disk. Free some space"):
        make(starter, "Q8_0", tmp_path / "made" / "starter.gguf")
    assert left_in(tmp_path) == []


# --- small models ---


def test_every_level_that_is_foretold_is_made_to_the_byte(tiny: Path, tmp_path: Path) -> None:
    foretold = {
        level: outcome for level, outcome in estimate_levels(tiny).items() if isinstance(outcome, QuantizedSize)
    }
    assert {"TQ1_0", "Q2_0", "Q4_K_M", "IQ4_XS", "Q6_K", "Q8_0", "F16", "BF16", "F32"} <= foretold.keys()
    for level in ("Q1_0", "TQ2_0", "Q2_0", "Q4_K_M", "IQ4_XS", "Q8_0", "BF16", "F32"):
        assert make(tiny, level, tmp_path / f"{level}.gguf").size == foretold[level].size, level


def test_a_level_that_needs_an_importance_matrix_is_refused_without_a_text(tiny: Path, tmp_path: Path) -> None:
    assert estimate_level(tiny, "IQ1_S").uses_imatrix
    with pytest.raises(PlaygroundError, match=r"IQ1_S is made with an importance matrix, and none can be measured"):
        make(tiny, "IQ1_S", tmp_path / "Tiny-IQ1_S.gguf")
    assert not any(tmp_path.glob("*IQ1_S*"))


@pytest.mark.parametrize(("level", "rest"), [("Q4_K_M", "Q6_K"), ("Q8_0", "Q8_0"), ("Q2_K", "Q3_K"), ("BF16", "BF16")])
def test_experts_in_mxfp4_stay_as_they_are_at_every_level(tmp_path: Path, level: str, rest: str) -> None:
    source = build_experts(tmp_path / "Tiny-MXFP4.gguf")
    made = make(source, level, tmp_path / f"Tiny-{level}.gguf")
    before, after = ({tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (source, made.path))
    experts = [name for name in before if "_exps" in name]
    assert len(experts) == 3 and all(np.array_equal(after[name].data, before[name].data) for name in experts)
    assert after["blk.0.attn_v.weight"].tensor_type.name == rest
    assert header_of(made.path).level == level and made.size == made.planned.size
    assert f"Its experts stay MXFP4 (4.25 bits per weight) at every level: {level} is" in (made.planned.note or "")


def test_a_level_made_from_floats_is_not_called_requantized(tiny: Path, tmp_path: Path) -> None:
    made = make(tiny, "Q8_0", tmp_path / "Tiny-Q8_0.gguf")
    assert made.planned.requantized_from is None and made.planned.note is None
    assert header_of(made.path).requantized_from is None


def test_the_mark_of_the_lowest_origin_follows_a_file_through_every_making(tiny: Path, tmp_path: Path) -> None:
    source = tiny
    marks = []
    for level in ("Q4_1", "F16", "Q8_0", "Q2_0", "Q6_K"):
        source = make(source, level, tmp_path / f"Tiny-{level}.gguf").path
        marks.append(header_of(source).requantized_from)
    assert marks == [None, "Q4_1", "Q4_1", "Q4_1", "Q2_0"]


def test_shards_become_one_file_whichever_of_them_is_named(tmp_path: Path) -> None:
    first = build_model(tmp_path / "Tiny-F16.gguf", shards=3)
    whole = make(build_model(tmp_path / "Whole-F16.gguf"), "Q8_0", tmp_path / "Whole-Q8_0.gguf")
    for number in (1, 3):
        part = first.with_name(first.name.replace("00001", f"{number:05}", 1))
        made = make(part, "Q8_0", tmp_path / f"{number}.gguf")
        header = header_of(made.path)
        assert made.size == made.planned.size and header.shard_count == 1
        assert header.weight_bytes == header_of(whole.path).weight_bytes
        assert made.path.read_bytes()[header.byte_count :] == whole.path.read_bytes()[-made.size + header.byte_count :]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    first = build_model(tmp_path / "Tiny-F16.gguf", shards=3)
    (tmp_path / "Tiny-F16-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelNotFound, match=r"Tiny-F16-00002-of-00003\.gguf"):
        estimate_level(first, "Q8_0")


def test_a_level_is_named_in_either_case_and_an_unknown_one_lists_what_there_is(tiny: Path) -> None:
    assert estimate_level(tiny, "q8_0").level == "Q8_0"
    for name in ("Q9_X", "UD-Q4_K_XL", "NVFP4"):
        with pytest.raises(PlaygroundError, match=f"a level named {name}.*Q4_K_M"):
            estimate_level(tiny, name)


def test_a_file_that_is_there_is_never_overwritten(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "Tiny-Q8_0.gguf"
    target.write_text("mine")
    with pytest.raises(PlaygroundError, match=r"Tiny-Q8_0\.gguf exists already"):
        make(tiny, "Q8_0", target)
    with pytest.raises(PlaygroundError, match="exists already"):
        make(tiny, "Q8_0", tiny)
    assert target.read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_not_overwritten_either(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "Tiny-Q8_0.gguf"
    work = quantize_file(tiny, "Q8_0", target, threads=1)
    next(work)
    target.write_text("mine")
    with pytest.raises(PlaygroundError, match="exists already"):
        list(work)
    assert target.read_text() == "mine" and left_in(tmp_path) == [target]


def test_two_makings_of_one_file_do_not_meet(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "Tiny-Q8_0.gguf"
    first = quantize_file(tiny, "Q8_0", target, threads=1)
    next(first)
    with pytest.raises(PlaygroundError, match="is being made right now"):
        make(tiny, "Q8_0", target)
    *_, made = first
    assert isinstance(made, QuantizedFile) and target.stat().st_size == made.size


def test_what_is_no_model_is_refused_with_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("Dear diary, today")
    with pytest.raises(BadModelFile, match="GGUF"):
        estimate_level(text, "Q8_0")
    with pytest.raises(ModelNotFound, match=r"no file nowhere\.gguf"):
        estimate_level(tmp_path / "nowhere.gguf", "Q8_0")
    with pytest.raises(ModelNotFound):
        estimate_level(tmp_path, "Q8_0")


def test_a_model_llama_cpp_does_not_know_is_refused_in_its_words(tmp_path: Path) -> None:
    source = build_model(tmp_path / "Odd-F16.gguf", architecture="abacus")
    with pytest.raises(PlaygroundError, match=r"cannot make Q8_0 of this model: .*abacus"):
        estimate_level(source, "Q8_0")


def test_a_folder_that_cannot_be_made_is_told(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlaygroundError, match=r"cannot be written to: .*choose another folder"):
        make(tiny, "Q8_0", tmp_path / "file" / "Tiny-Q8_0.gguf")


def test_names_with_spaces_and_letters_of_the_world_are_files_like_any_other(tiny: Path, tmp_path: Path) -> None:
    source = tiny.rename(tiny.with_name("Größe 模型-F16.gguf"))
    assert make(source, "Q8_0", tmp_path / "neu hier" / "Größe 模型-Q8_0.gguf").path.is_file()


# --- what becomes of the child and of leftovers ---


def test_a_quantizer_that_is_killed_is_an_error_that_says_so(tiny: Path, tmp_path: Path) -> None:
    work = quantize_file(tiny, "Q8_0", tmp_path / "made" / "Tiny-Q8_0.gguf", threads=1)
    next(work)
    children = psutil.Process().children()
    (child,) = (child for child in children if "playground.llama.quantizer.process" in child.cmdline())
    child.kill()
    with pytest.raises(PlaygroundError, match="memory ran out"):
        list(work)
    assert left_in(tmp_path) == []


KILLED_IN_MID_WORK = """
import os, psutil, signal, sys
from pathlib import Path
from playground.quantize.quantize import quantize_file
work = quantize_file(Path(sys.argv[1]), "Q8_0", Path(sys.argv[2]), 1)
while next(work).fraction == 0: pass
print(psutil.Process().children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_quantizer_whose_page_is_killed_ends_and_takes_its_file_with_it(starter: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_IN_MID_WORK, str(starter), str(tmp_path / "Starter-Q8_0.gguf")]
    ended = subprocess.run(command, capture_output=True, timeout=50)
    assert ended.returncode == -9
    if psutil.pid_exists(quantizer := int(ended.stdout)):
        psutil.Process(quantizer).wait(timeout=20)
    assert left_in(tmp_path) == []


def test_a_leftover_of_a_crash_is_removed_and_a_living_makers_file_is_not(tmp_path: Path) -> None:
    (tmp_path / ".Old-Q8_0.gguf.making").write_bytes(b"half")
    with unfinished_file(tmp_path / "One-Q8_0.gguf") as one, unfinished_file(tmp_path / "Two-Q8_0.gguf") as two:
        assert left_in(tmp_path) == [one, two]
    assert left_in(tmp_path) == []


# --- sentences ---


@pytest.mark.parametrize(
    ("level", "requantized_from", "bits", "note"),
    [
        ("Q8_0", None, 8.51, None),
        ("Q2_K", None, 5.14, "Averages 5.1 bits per weight, because some tensors stay at higher precision."),
        ("Q8_0", None, 7.1, "Averages 7.1 bits per weight, fewer than usual for Q8_0."),
        ("Q8_0", "Q4_1", 8.51, "Made from the Q4_1 file, so it cannot be better than Q4_1."),
        ("unknown", None, 5.0, None),
        ("Q4_K_M", None, None, None),
    ],
)
def test_a_note_tells_what_the_name_does_not(
    level: str, requantized_from: str | None, bits: float | None, note: str | None
) -> None:
    assert level_note(level, requantized_from, bits) == note


@pytest.mark.parametrize(
    ("level", "is_quantized", "noted", "origin"),
    [
        ("F16", False, None, None),
        ("F16", False, "Q4_1", "Q4_1"),
        ("Q4_1", True, None, "Q4_1"),
        ("Q8_0", True, "Q4_1", "Q4_1"),
        ("Q2_0", True, "Q4_1", "Q2_0"),
        ("Q4_1", True, "Q4_1", "Q4_1"),
        ("an unknown level", True, "Q4_1", "Q4_1"),
    ],
)
def test_the_lowest_level_on_the_way_is_the_origin(
    level: str, is_quantized: bool, noted: str | None, origin: str | None
) -> None:
    assert lowest_origin(level, is_quantized, noted) == origin
