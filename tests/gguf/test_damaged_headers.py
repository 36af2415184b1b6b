"""Files that are no sound model: each is refused with one clear sentence, in bounded time and memory."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from playground.errors import BadModelFile
from playground.gguf.header import read_header
from playground.gguf.reader import LARGEST_HEADER_BYTES, LARGEST_WINDOW_BYTES, BytesSource, FileSource
from tests.support.model_bytes import (
    ARCHITECTURE,
    ARRAY,
    BOOL,
    F32,
    I32,
    ONE_TENSOR,
    TEXT,
    U8,
    U32,
    array,
    model,
    number_pair,
    pair,
    tensor,
    text,
    text_pair,
)  # fmt: skip

MIB = 2**20
BEYOND = struct.pack("<Q", 2**63)

DAMAGE = {
    # not GGUF, or not the kind that is read
    "empty": (b"", "the file is empty"),
    "text": (b"# Read me\n", "starts otherwise"),
    "two bytes": (b"GG", "starts otherwise"),
    "a web page": (b"\n<!DOCTYPE html><html>", "starts like a web page"),
    "the error of a server": (b'{"error": "Not found"}', "starts like JSON"),
    "an XML error": (b'<?xml version="1.0"?><Error>', "starts like an XML document"),
    "a zip": (b"PK\x03\x04" + bytes(60), "starts like a zip archive"),
    "safetensors": (struct.pack("<Q", 90) + b'{"__metadata__":{}', "starts like a safetensors file"),
    "a packed file": (b"\x1f\x8b\x08" + bytes(60), "starts like a packed archive"),
    "a picture": (b"\x89PNG\r\n", "starts like a picture"),
    "a song": (b"ID3\x04" + bytes(60), "starts like a picture, a sound"),
    "a program": (b"\x7fELF" + bytes(60), "starts like a program"),
    "a script": (b"#!/bin/sh\ncurl x", "starts like a program"),
    "a web page in UTF-16": ("\ufeff<html>".encode("utf-16-le"), "starts like a web page"),
    "the message of a server": (b"Entry not found", "starts like the message of a server"),
    "a refusal of the Hub": (b"Access to model a/b is restricted. You must be authenticated.", "message of a server"),
    "a text": (b"general.architecture = llama\n", "is a text"),
    "an array of NumPy": (b"\x93NUMPY\x01\0v\0", "starts like data of another program"),
    "zeros": (bytes(600), "holds only zeros"),
    "a note of Git LFS": (b"version https://git-lfs\n", "Git LFS pointer"),
    "before GGUF": (b"tjgg" + bytes(100), "before GGUF"),
    "version 1": (model(version=1), "GGUF version 1"),
    "version 4": (model(version=4), "GGUF version 4"),
    "version 0": (model(version=0), "GGUF version 0"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(64), "big-endian"),
    # counts
    "template a list": (
        model([pair("tokenizer.chat_template", ARRAY, array(I32, 2000, bytes(8000)))]),
        "should be a text and is a list of 2,000",
    ),
    "many keys": (model(key_count=2**40), "1,099,511,627,776 metadata keys"),
    "many tensors": (model(tensor_count=2**63), "9,223,372,036,854,775,808 tensors"),
    "a key too few": (model(key_count=2), "damaged|cut off"),
    "a tensor too few": (model(tensor_count=2), "damaged|cut off|Tensor"),
    # texts
    "key beyond the file": (model([BEYOND + b"key"]), "metadata key 1 of 1 claims"),
    "text beyond the file": (model([text("general.name") + struct.pack("<IQ", TEXT, 5000)], []), "cut off"),
    "absurd text": (model([text("general.name") + struct.pack("<I", TEXT) + BEYOND], []), "general.name claims to be"),
    "key of no text": (model([pair(b"\xff\xfe", U8, b"\1")]), "not readable text"),
    "value of no text": (model([text_pair("general.name", b"\xc3\x28")]), "general.name is not readable text"),
    "tensor name of no text": (model(tensors=[tensor(b"\xff", (32,), 2)]), "not readable text"),
    "long tensor name": (model(tensors=[tensor("n" * 64, (32,), 2)]), "longer than 63 bytes"),
    # values
    "unknown value type": (model([pair("a.key", 13, b"\0" * 8)]), "a.key has a value of type 13"),
    "unknown item type": (model([pair("a.key", ARRAY, array(99, 1, b"\0" * 8))]), "a.key has a value of type 99"),
    "bad truth": (model([pair("a.key", BOOL, b"\2")]), "a.key should be true"),
    "bad truth in a list": (model([pair("a.key", ARRAY, array(BOOL, 2, b"\1\7"))]), "a.key should be true"),
    "long array": (model([pair("a.key", ARRAY, array(I32, 2**61, b""))]), "a.key claims 2,305,843,009,213,693,952"),
    "long array of texts": (model([pair("a.key", ARRAY, array(TEXT, 2**62, b""))]), "a.key claims"),
    "texts beyond the file": (model([pair("a.key", ARRAY, array(TEXT, 2000, BEYOND * 2000))]), "cut off"),
    "nested arrays": (model([pair("a.key", ARRAY, array(ARRAY, 1, array(U8, 1, b"\0")))]), "array of arrays"),
    "deeply nested arrays": (model([pair("a.key", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)]), "array of arrays"),
    "key twice": (model([number_pair("a.key", 1), number_pair("a.key", 1)]), "a.key twice"),
    # standard keys
    "architecture a number": (
        model([number_pair("general.architecture", 1)]),
        "general.architecture should be a text and is 1",
    ),
    "template a number": (model([number_pair("tokenizer.chat_template", 1)]), "chat_template should be a text"),
    "level a text": (
        model([text_pair("general.file_type", "Q4_0")]),
        "general.file_type should be a whole number and is 'Q4_0'",
    ),
    "context a real": (
        model([ARCHITECTURE, pair("llama.context_length", F32, struct.pack("<f", 8192))]),
        "llama.context_length should be a whole number and is 8192.0",
    ),
    "context below zero": (
        model([ARCHITECTURE, pair("llama.context_length", I32, struct.pack("<i", -1))]),
        "llama.context_length should be a whole number",
    ),
    "context a truth": (model([ARCHITECTURE, pair("llama.context_length", BOOL, b"\1")]), "should be a whole number"),
    "tokens a text": (model([text_pair("tokenizer.ggml.tokens", "abc")]), "tokenizer.ggml.tokens should be a list"),
    "split a text": (model([text_pair("split.count", "2")]), "split.count should be a whole number"),
    "alignment 0": (model([number_pair("general.alignment", 0)]), "alignment is 0"),
    "alignment 48": (model([number_pair("general.alignment", 48)]), "alignment is 48"),
    "alignment a text": (model([text_pair("general.alignment", "32")]), "general.alignment should be a whole number"),
    # tensors
    "tensor twice": (model(tensors=[tensor("a", (32,), 2), tensor("a", (32,), 2, 32)]), "two tensors named a"),
    "five dimensions": (model(tensors=[tensor("a", (1, 1, 1, 1, 1), 0)]), "claims 5 dimensions"),
    "a million dimensions": (model(tensors=[text("a") + struct.pack("<I", 10**6)]), "1,000,000 dimensions"),
    "no rows": (model(tensors=[tensor("a", (32, 0), 2)]), "a dimension of 0"),
    "overflow": (model(tensors=[tensor("a", (2**32, 2**32), 0)]), "more weights than any file"),
    "part of a block": (model(tensors=[tensor("a", (48,), 2)]), "rows of 48 weights"),
    "unknown tensor type": (model(tensors=[tensor("a", (32,), 4242)]), "of type 4242"),
    "removed tensor type": (model(tensors=[tensor("a", (32,), 31)]), "Q4_0_4_4, which llama.cpp no longer reads"),
    "gap before a tensor": (model(tensors=[tensor("a", (32,), 2, 64)]), "should start at byte 0"),
    "overlapping tensors": (
        model(tensors=[tensor("a", (32,), 2), tensor("b", (32,), 2, 0)]),
        "should start at byte 32",
    ),
    "weights beyond the file": (model(weight_bytes=71), "it should be 200 bytes long, and it is 199"),
    "weights missing": (
        model(tensors=[tensor("a", (2**40,), 0)]),
        "should be 4,398,046,511,232 bytes long, and it is 200",
    ),
}


@pytest.mark.parametrize(
    ("number", "name", "program"),
    [
        (97, "Q8_0_X4", "ik_llama.cpp"),
        (133, "Q6_0", "ik_llama.cpp"),
        (139, "IQ4_K", "ik_llama.cpp"),
        (146, "IQ4_KSS", "ik_llama.cpp"),
        (157, "IQ2_KL", "ik_llama.cpp"),
        (223, "IQ4_XS_R8", "ik_llama.cpp"),
        (399, "Q8_K_R8", "ik_llama.cpp"),
        (36, "I2_S", "bitnet.cpp"),
        (38, "TL1", "bitnet.cpp"),
        (142, "PQ2_0", "PrismML's llama.cpp"),
        (101, "Q4_0_ROCMFP4_FAST", "ROCmFPX"),
    ],
)
def test_a_type_of_a_fork_is_named_with_the_program_that_reads_it(number: int, name: str, program: str) -> None:
    with pytest.raises(BadModelFile, match=rf"made for {program}: tensor a is of its type {name} .*Run it with"):
        read_header(BytesSource(model(tensors=[tensor("a", (256,), number)])))


@pytest.mark.parametrize(("number", "hint"), [(44, "TurboQuant"), (49, "HIFI"), (201, "update"), (4242, "update")])
def test_a_type_that_no_program_alone_owns_is_not_ascribed_to_one(number: int, hint: str) -> None:
    with pytest.raises(BadModelFile, match=rf"type {number}, which this llama.cpp does not know.* {hint}") as refused:
        read_header(BytesSource(model(tensors=[tensor("a", (256,), number)])))
    assert "made for ik" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        model(tensors=[tensor("a", (1, 1, 1, 1, 1), 0)]),
        model(tensors=[tensor("n" * 90, (32,), 2)]),
        model(tensors=[tensor("a", (48,), 2)]),
        model(tensors=[tensor("a", (32,), 2, 64)]),
        model([number_pair("general.architecture", 1)]),
    ],
)
def test_a_whole_file_of_another_program_is_not_called_damaged(content: bytes) -> None:
    with pytest.raises(BadModelFile) as refused:
        read_header(BytesSource(content))
    assert "damaged" not in str(refused.value) and "etch" not in refused.value.remedy


def test_a_picture_model_that_breaks_llama_cpps_rules_is_told_as_what_it_is() -> None:
    content = model([text_pair("general.architecture", "wan")], [tensor("a", (1, 1, 1, 1, 1), 0)])
    with pytest.raises(BadModelFile, match="a model for pictures or video"):
        read_header(BytesSource(content))


@pytest.mark.parametrize(("content", "finding"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_file_with_one_fault_is_refused_with_a_sentence_that_names_it(content: bytes, finding: str) -> None:
    with pytest.raises(BadModelFile, match=finding) as refused:
        read_header(BytesSource(content))
    assert refused.value.problem.endswith(".") and refused.value.remedy.endswith(".")
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_the_same_file_without_a_fault_is_read() -> None:
    assert len(read_header(BytesSource(model())).tensors) == 1


def test_a_header_cut_off_anywhere_is_refused() -> None:
    content = model(
        [ARCHITECTURE, number_pair("llama.context_length", 8), pair("a", ARRAY, array(TEXT, 2, text("x") + text("y")))],
        [ONE_TENSOR, tensor("b", (7,), 0, 96)],
        weight_bytes=96 + 28,
    )
    assert len(read_header(BytesSource(content)).tensors) == 2
    for length in range(len(content)):
        with pytest.raises(BadModelFile, match=r"empty|GGUF|cut off|room for"):
            read_header(BytesSource(content[:length]))


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    with pytest.raises(BadModelFile, match="cut off"):
        read_header(BytesSource(model()[:60], size=10_000))


def test_a_name_out_of_a_damaged_file_cannot_break_the_sentence() -> None:
    with pytest.raises(BadModelFile) as refused:
        read_header(BytesSource(model([pair("\x1b[31m\n" + "k" * 5000, 77, b"")])))
    assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 300


# --- bounded memory and reading ---


class WatchedSource:
    """Counts the bytes asked for; what lies beyond the given beginning reads as `filling`."""

    def __init__(self, beginning: bytes, size: int, filling: bytes = b"\0") -> None:
        self._beginning = beginning
        self._filling = filling
        self.size = size
        self.asked = 0

    def read_range(self, offset: int, count: int) -> bytes:
        self.asked += count
        return self._beginning[offset : offset + count].ljust(min(count, self.size - offset), self._filling)


HUGE = {
    "4,096 keys of zeros": model([], [], key_count=4096),
    "65,536 tensors of zeros": model([], [], tensor_count=65_536),
    "texts without end": model([text("a") + struct.pack("<IIQ", ARRAY, TEXT, 2**33)], []),
    "numbers without end": model([text("a") + struct.pack("<IIQ", ARRAY, U32, 2**33)], []),
    "a text of 16 MiB": model([text("a") + struct.pack("<IQ", TEXT, 16 * MIB)], [], key_count=9),
    "a list with such a text": model([text("a") + struct.pack("<IIQQ", ARRAY, TEXT, 9, 16 * MIB)], [], key_count=9),
}


@pytest.mark.parametrize("content", HUGE.values(), ids=HUGE.keys())
def test_an_absurd_claim_in_a_huge_file_takes_little_memory_and_reads_little(content: bytes) -> None:
    source = WatchedSource(content, size=500 * 2**30)
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile):
            read_header(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.asked <= LARGEST_HEADER_BYTES + LARGEST_WINDOW_BYTES
    assert peak < 80 * MIB


@pytest.mark.parametrize(
    "name", [name for name, (_, finding) in DAMAGE.items() if "claims" in finding or "many" in name]
)
def test_a_false_count_in_a_small_file_takes_next_to_no_memory(name: str) -> None:
    content, _ = DAMAGE[name]
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile):
            read_header(BytesSource(content))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


# --- the real header, damaged thousands of times ---

NUMBERS = (0, 1, 7, 8, 9, 12, 255, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.fixture(scope="module")
def real_header(starter: Path) -> tuple[bytes, int]:
    """The starter's header bytes and its full size."""
    source = FileSource(starter)
    return source.read_range(0, read_header(source).byte_count), source.size


def is_read(content: bytes, size: int) -> bool:
    """Whether a header comes out; if not, it was refused in one sentence. Anything else escapes and fails the test."""
    source = WatchedSource(content, size)
    try:
        header = read_header(source)
    except BadModelFile as refusal:
        sentence = str(refusal)
    else:
        sentence = ""
        assert header.weight_bytes <= size
    assert len(sentence) < 300 and "\n" not in sentence
    assert source.asked <= min(size, LARGEST_HEADER_BYTES) + LARGEST_WINDOW_BYTES
    return not sentence


def mutated(content: bytes, dice: random.Random) -> bytes:
    """One to four places changed, mostly outside the vocabulary: another byte, a number, a piece lost or doubled."""
    damaged = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        reach = dice.choice((24, 1_300, -22_000, len(damaged)))  # the counts, the first keys, the tensors, anywhere
        place = dice.randrange(abs(reach)) * (1 if reach > 0 else -1) % len(damaged)
        match dice.randrange(4):
            case 0:
                damaged[place] = dice.randrange(256)
            case 1:
                damaged[place : place + 8] = struct.pack("<Q", dice.choice(NUMBERS))
            case 2:
                del damaged[place : place + dice.randint(1, 16)]
            case _:
                damaged[place:place] = damaged[place : place + dice.randint(1, 40)]
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(3))
def test_a_real_header_mutated_a_thousand_times_is_read_or_refused(real_header: tuple[bytes, int], seed: int) -> None:
    content, size = real_header
    dice = random.Random(seed)
    read = sum(is_read(mutated(content, dice), size) for _ in range(1000))
    assert 20 < read < 500  # the rest was refused


def test_a_real_header_cut_off_at_a_thousand_places_is_refused(real_header: tuple[bytes, int]) -> None:
    content, _ = real_header
    dice = random.Random(7)
    anywhere = [dice.randrange(len(content)) for _ in range(500)]
    for place in [*range(300), *anywhere, *range(len(content) - 200, len(content))]:
        assert not is_read(content[:place], place)


SMALL_MODEL = model(
    [
        ARCHITECTURE,
        number_pair("llama.context_length", 4096),
        pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 3, text("a") + text("b") + text("c"))),
        pair("flag", BOOL, b"\1"),
    ],
    [ONE_TENSOR, tensor("b", (7,), 0, 96)],
    weight_bytes=124,
)


def test_a_small_header_mutated_five_thousand_times_is_read_or_refused() -> None:
    dice = random.Random(11)
    read = sum(is_read(mutated(SMALL_MODEL, dice), len(SMALL_MODEL)) for _ in range(5000))
    assert 100 < read < 3000


LLAMA_CPP_READS = """
import ctypes, pathlib, sys

class Parameters(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]

read = ctypes.CDLL(sys.argv[1]).gguf_init_from_file
read.argtypes, read.restype = [ctypes.c_char_p, Parameters], ctypes.c_void_p
for path in sorted(pathlib.Path(sys.argv[2]).glob("*.gguf")):
    print(path.name, bool(read(str(path).encode(), Parameters(True, None))), flush=True)
"""


def test_whatever_llama_cpp_refuses_is_refused_here_too(ggml_path: Path, tmp_path: Path) -> None:
    dice = random.Random(5)
    contents = [SMALL_MODEL, *(content for content, _ in DAMAGE.values())]
    contents += [mutated(SMALL_MODEL, dice) for _ in range(500)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number:04}.gguf").write_bytes(content)
    command = [sys.executable, "-c", LLAMA_CPP_READS, str(ggml_path), str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr[-500:]
    read_there = [line.endswith("True") for line in child.stdout.splitlines()]
    assert len(read_there) == len(contents) and read_there[0] and 20 < sum(read_there) < 300
    for content, there in zip(contents, read_there, strict=True):
        assert there or not is_read(content, len(content))
