"""Headers that are sound: the real starter, built ones, and all that can be asked of them."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from playground.errors import BadModelFile
from playground.gguf.header import GgufHeader, check_chat_model, merge_shards, read_header, write_stand_in
from playground.gguf.kinds import embeds_by_last_token
from playground.gguf.reader import BytesSource, FileSource, LongArray
from tests.support.model_bytes import (
    ARCHITECTURE,
    ARRAY,
    BOOL,
    F32,
    I32,
    TEXT,
    U8,
    U64,
    array,
    model,
    number_pair,
    pair,
    tensor,
    text,
    text_pair,
)  # fmt: skip


class CountingSource:
    """The beginning of a large file, which remembers what was asked of it."""

    def __init__(self, beginning: bytes, size: int) -> None:
        self._beginning = beginning
        self.size = size
        self.reads: list[tuple[int, int]] = []

    def read_range(self, offset: int, count: int) -> bytes:
        self.reads.append((offset, count))
        return self._beginning[offset : offset + count].ljust(min(count, self.size - offset), b"\0")


def header_of(*pairs: bytes, tensors: tuple[bytes, ...] = ()) -> GgufHeader:
    return read_header(BytesSource(model(pairs, tensors, weight_bytes=4096)))


# --- the real model ---


def test_the_starter_says_what_is_known_of_it(starter: Path) -> None:
    header = read_header(FileSource(starter))
    assert (header.architecture, header.trained_context, header.vocabulary_size) == ("llama", 8192, 49152)
    assert (len(header.tensors), header.parameter_count, header.level) == (272, 134_515_008, "Q4_1")
    assert header.kind == "model" and header.requantized_from is None and header.shard_count == 1
    assert header.chat_template is not None and "<|im_start|>" in header.chat_template


def test_the_starters_weights_take_more_bits_than_its_level_is_named_for(starter: Path) -> None:
    header = read_header(FileSource(starter))
    assert header.byte_count + header.weight_bytes == starter.stat().st_size
    assert header.bits_per_weight == pytest.approx(8 * header.weight_bytes / 134_515_008)
    assert 5.7 < header.bits_per_weight < 5.8


def test_the_starters_tensors_and_metadata_are_those_that_the_gguf_package_reads(starter: Path) -> None:
    header, reference = read_header(FileSource(starter)), gguf.GGUFReader(starter)
    assert header.byte_count == reference.data_offset
    for ours, theirs in zip(header.tensors, reference.tensors, strict=True):
        assert (ours.name, ours.shape, int(ours.type)) == (
            theirs.name,
            tuple(theirs.shape.tolist()),
            int(theirs.tensor_type),
        )
        assert ours.weight_count == theirs.n_elements and ours.byte_count == theirs.n_bytes
        assert header.byte_count + ours.offset == theirs.data_offset
    fields = {name: field for name, field in reference.fields.items() if not name.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for name, field in fields.items():
        value = header.metadata[name]
        if isinstance(value, LongArray):
            assert value == LongArray(field.types[1], len(field.data))
        else:
            assert (list(value) if isinstance(value, tuple) else value) == field.contents()


@pytest.mark.parametrize("level", ["Q2_0", "Q2_K"])
def test_the_sizes_of_a_level_made_by_llama_cpp_add_up_to_its_file(starter: Path, tmp_path: Path, level: str) -> None:
    path, params = tmp_path / "made.gguf", llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{level}")
    params.allow_requantize, params.nthread = True, 1
    assert llama_cpp.llama_model_quantize(str(starter).encode(), str(path).encode(), params) == 0
    header = read_header(FileSource(path))
    assert header.level == level and header.parameter_count == 134_515_008
    assert header.byte_count + header.weight_bytes == path.stat().st_size


def test_a_header_is_read_without_the_weights(starter: Path) -> None:
    with starter.open("rb") as file:
        beginning = file.read(1_785_664)
    source = BytesSource(beginning, starter.stat().st_size)
    assert read_header(source) == read_header(FileSource(starter))


def test_a_file_that_the_gguf_package_wrote_reads_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "made.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Made Up")
    writer.add_context_length(40960)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_token_list(["<s>", "</s>", "grüß"])
    writer.add_chat_template("{{ messages }}")
    writer.add_custom_alignment(64)
    writer.add_tensor("a.weight", np.ones((3, 5), np.float32))
    writer.add_tensor("b.weight", np.ones((7,), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header = read_header(FileSource(path))
    assert (header.architecture, header.name, header.level) == ("qwen3", "Made Up", "BF16")
    assert (header.trained_context, header.vocabulary_size, header.chat_template) == (40960, 3, "{{ messages }}")
    assert [(tensor.name, tensor.shape, tensor.byte_count) for tensor in header.tensors] == [
        ("a.weight", (5, 3), 60),
        ("b.weight", (7,), 14),
    ]
    assert header.byte_count % 64 == 0 and header.bits_per_weight == pytest.approx(8 * 74 / 22)


# --- values ---


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_in_use_are_read(version: int) -> None:
    assert read_header(BytesSource(model(version=version))).version == version


def test_every_kind_of_value_is_read() -> None:
    header = header_of(
        ARCHITECTURE,
        pair("yes", BOOL, b"\1"),
        pair("small", U8, b"\xff"),
        pair("negative", I32, struct.pack("<i", -5)),
        pair("large", U64, struct.pack("<Q", 2**63)),
        pair("real", F32, struct.pack("<f", 0.5)),
        pair("texts", ARRAY, array(TEXT, 2, text("a") + text(""))),
        pair("truths", ARRAY, array(BOOL, 2, b"\0\1")),
        pair("none", ARRAY, array(F32, 0, b"")),
    )
    assert dict(header.metadata) == {
        "general.architecture": "llama", "yes": True, "small": 255, "negative": -5, "large": 2**63, "real": 0.5,
        "texts": ("a", ""), "truths": (False, True), "none": (),
    }  # fmt: skip


@pytest.mark.parametrize(("length", "is_long"), [(1024, False), (1025, True)])
def test_an_array_beyond_1024_items_is_remembered_by_its_length(length: int, is_long: bool) -> None:
    header = header_of(pair("numbers", ARRAY, array(I32, length, bytes(4 * length))), number_pair("after", 7))
    value = header.metadata["numbers"]
    assert value == (LongArray(gguf.GGUFValueType.INT32, length) if is_long else (0,) * length)
    assert header.metadata["after"] == 7


@pytest.mark.parametrize(
    "texts",
    [
        [b"token"] * 70_000,
        [b""] * 70_000,
        [b"x" * (300 * (number % 97 == 0) + number % 50) for number in range(70_000)],
        [bytes(number % 20) + b"\x01" + bytes(9) for number in range(70_000)],  # zeros that look like lengths
        [b"\x05" + bytes(7) + b"trap!"] * 70_000,
        [b"y" * 70_000] * 200 + [b"z"] * 1_000,
    ],
    ids=["short", "empty", "mixed", "zeros", "trap", "long"],
)
def test_many_texts_of_any_form_are_passed_to_the_very_end(texts: list[bytes]) -> None:
    items = b"".join(struct.pack("<Q", len(item)) + item for item in texts)
    tokens = pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, len(texts), items))
    header = header_of(ARCHITECTURE, tokens, number_pair("after", 7))
    assert header.vocabulary_size == len(texts) and header.metadata["after"] == 7


def test_the_header_of_a_large_file_is_had_in_few_ranges() -> None:
    tokens = b"".join(text(f"token{number}") for number in range(262_144))
    merges = b"".join(text(f"to ken{number}") for number in range(500_000))
    beginning = model(
        [
            ARCHITECTURE,
            pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 262_144, tokens)),
            pair("tokenizer.ggml.scores", ARRAY, array(F32, 262_144, bytes(4 * 262_144))),
            pair("tokenizer.ggml.merges", ARRAY, array(TEXT, 500_000, merges)),
        ]
    )
    source = CountingSource(beginning, size=40 * 2**30)
    header = read_header(source)
    assert header.vocabulary_size == 262_144 and len(header.tensors) == 1
    assert len(source.reads) <= 3 and len(beginning) > 14e6
    assert sum(count for _, count in source.reads) <= len(beginning) + 16 * 2**20
    assert source.reads[0] == (0, 4 * 2**20)


def test_the_header_of_a_small_file_is_had_in_one_read() -> None:
    content = model()
    source = CountingSource(content, len(content))
    read_header(source)
    assert source.reads == [(0, len(content))]


# --- what a header tells ---


def test_a_header_that_says_nothing_gives_nothing() -> None:
    header = header_of()
    assert (header.architecture, header.name, header.level, header.chat_template) == ("", "", None, None)
    assert (header.trained_context, header.vocabulary_size, header.bits_per_weight) == (None, None, 0.0)


def test_the_vocabulary_as_said_outright_comes_before_the_token_list() -> None:
    tokens = pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 2, text("a") + text("b")))
    assert header_of(ARCHITECTURE, tokens).vocabulary_size == 2
    assert header_of(ARCHITECTURE, tokens, number_pair("llama.vocab_size", 5)).vocabulary_size == 5


def test_a_level_unknown_to_llama_cpp_is_none() -> None:
    assert header_of(number_pair("general.file_type", 4242)).level is None
    assert header_of(number_pair("general.file_type", 41)).level == "Q2_0"


def test_a_level_made_from_a_quantized_file_says_so() -> None:
    assert header_of(text_pair("gguf_playground.requantized_from", "Q4_1")).requantized_from == "Q4_1"


@pytest.mark.parametrize(
    ("pairs", "tensors", "kind"),
    [
        ([("general.architecture", "bert"), ("bert.pooling_type", 1)], ["token_embd.weight"], "embedding"),
        ([("general.architecture", "gemma-embedding")], ["token_embd.weight"], "embedding"),
        ([("general.architecture", "qwen3"), ("qwen3.pooling_type", 3)], ["token_embd.weight"], "embedding"),
        ([("general.architecture", "qwen3"), ("qwen3.pooling_type", 4)], ["cls.output.weight"], "reranker"),
        ([("general.architecture", "bert")], ["token_embd.weight", "cls.weight"], "reranker"),
        ([("general.architecture", "llama"), ("llama.attention.causal", False)], ["token_embd.weight"], "encoder"),
        ([("general.architecture", "t5")], ["token_embd.weight"], "encoder-decoder"),
        ([("general.architecture", "llada")], ["token_embd.weight"], "diffusion"),
        ([("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "lora")], ["a"], "adapter"),
        ([("general.architecture", "llama")], ["blk.0.attn_q.weight.lora_a"], "adapter"),
        ([("general.architecture", "clip")], ["v.patch_embd.weight"], "projector"),
        ([("general.type", "imatrix")], ["blk.0.attn_q.weight.in_sum2"], "imatrix"),
        ([], ["blk.0.attn_q.weight.in_sum2", "blk.0.attn_q.weight.counts"], "imatrix"),
        ([("general.architecture", "llama"), ("tokenizer.ggml.model", "llama")], [], "vocabulary"),
        ([("general.architecture", "flux")], ["img_in.weight"], "image"),
        ([("general.architecture", "controlvector")], ["direction.1"], "control vector"),
        ([("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "control_vector")], ["a"],
         "control vector"),
        ([("general.architecture", "eagle3")], ["token_embd.weight"], "draft"),
        ([("general.architecture", "gemma4-assistant")], ["token_embd.weight"], "draft"),
        ([("general.architecture", "qwen3tts")], ["token_embd.weight"], "speech"),
        ([("general.architecture", "wavtokenizer-dec")], ["token_embd.weight"], "speech"),
        ([("general.architecture", "llama"), ("llama.pooling_type", 0), ("llama.attention.causal", True)],
         ["token_embd.weight"], "model"),
    ],
)  # fmt: skip
def test_a_header_says_what_cannot_chat(pairs: list[tuple[str, str | int]], tensors: list[str], kind: str) -> None:
    names = [tensor(name, (32,), 0, 128 * number) for number, name in enumerate(tensors)]
    header = read_header(BytesSource(model([any_pair(*pair) for pair in pairs], names, weight_bytes=128 * len(names))))
    assert header.kind == kind
    if kind != "model":
        with pytest.raises(BadModelFile, match=r"^The file is an? .*, not a model to chat with: it .*\. Choose"):
            check_chat_model(header)


def any_pair(key: str, value: str | int) -> bytes:
    if isinstance(value, bool):
        return pair(key, BOOL, bytes([value]))
    return text_pair(key, value) if isinstance(value, str) else number_pair(key, value)


def test_only_a_model_that_looks_back_reads_a_text_for_a_vector_in_pieces() -> None:
    assert embeds_by_last_token({"general.architecture": "qwen3", "qwen3.pooling_type": 3})
    assert not embeds_by_last_token({"general.architecture": "qwen3", "qwen3.pooling_type": 1})
    assert not embeds_by_last_token({"general.architecture": "bert", "bert.pooling_type": 3})
    both_ways = {"general.architecture": "qwen3", "qwen3.pooling_type": 3, "qwen3.attention.causal": False}
    assert not embeds_by_last_token(both_ways)


@pytest.mark.parametrize(("said", "kind"), [("adapter", "adapter"), ("mmproj", "projector"), ("model", "model")])
def test_a_file_says_itself_whether_it_is_a_model(said: str, kind: str) -> None:
    assert header_of(text_pair("general.type", said)).kind == kind


# --- shards ---


def shard(number: int, count: int, *tensors: bytes, total: int = 2) -> GgufHeader:
    pairs = [
        number_pair("split.no", number),
        number_pair("split.count", count),
        number_pair("split.tensors.count", total),
    ]
    return header_of(*([ARCHITECTURE] if number == 0 else []), *pairs, tensors=tensors)


def test_shards_together_cover_the_whole_model() -> None:
    first = shard(0, 3)  # holds no tensors, as is usual
    second, third = shard(1, 3, tensor("a", (32,), 2)), shard(2, 3, tensor("b", (64,), 8))
    whole = merge_shards([first, second, third])
    assert (whole.architecture, whole.parameter_count, whole.weight_bytes) == ("llama", 96, 18 + 68)
    assert whole.bits_per_weight == pytest.approx(8 * 86 / 96)


def test_a_model_in_one_file_is_its_own_whole() -> None:
    header = read_header(BytesSource(model()))
    assert merge_shards([header]) == header


@pytest.mark.parametrize(
    ("headers", "finding"),
    [
        ([shard(0, 2)], "comes in 2 files, and 1 are here"),
        ([shard(1, 2, tensor("a", (32,), 2)), shard(0, 2)], "not that file"),
        ([shard(0, 2), shard(1, 3, tensor("a", (32,), 2))], "not that file"),
        ([shard(0, 2, tensor("a", (32,), 2)), shard(1, 2, tensor("a", (32,), 2))], "do not belong together"),
        ([shard(0, 2), shard(1, 2, tensor("a", (32,), 2))], "do not belong together"),
    ],
    ids=["missing", "order", "other count", "doubled tensor", "too few tensors"],
)
def test_shards_that_do_not_belong_together_are_refused(headers: list[GgufHeader], finding: str) -> None:
    with pytest.raises(BadModelFile, match=finding):
        merge_shards(headers)


# --- stand-in ---


def test_a_stand_in_has_the_header_and_the_size_but_takes_no_room(starter: Path, tmp_path: Path) -> None:
    source, path = FileSource(starter), tmp_path / "stand-in.gguf"
    header = read_header(source)
    write_stand_in(source, header, path)
    assert read_header(FileSource(path)) == header
    assert path.stat().st_size == starter.stat().st_size
    assert path.read_bytes()[: header.byte_count] == source.read_range(0, header.byte_count)
    if path.stat().st_blocks:  # some file systems do not tell
        assert path.stat().st_blocks * 512 < 4 * 2**20
