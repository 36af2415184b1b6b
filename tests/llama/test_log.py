"""What llama.cpp's log says, on lines it really wrote."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import pytest

from playground.llama.log import (
    ERROR,
    INFO,
    WARNING,
    ContextSizes,
    LlamaLog,
    LogLine,
    abort_message,
    failure_reason,
    read_context_sizes,
)
from playground.llama.params import model_parameters

MIB = 1024 * 1024


def said(*texts: str, level: int = INFO) -> list[LogLine]:
    return [LogLine(level, text) for text in texts]


def test_the_sizes_of_an_ordinary_context_are_read() -> None:
    lines = said(
        "llama_context:        CPU  output buffer size =     0.75 MiB",
        "llama_kv_cache:        CPU KV buffer size =     0.00 MiB",
        "llama_kv_cache: size =   45.00 MiB (  2048 cells,  30 layers,  4/1 seqs), K (f16): …",
        "sched_reserve:        CPU compute buffer size =    15.51 MiB",
    )
    assert read_context_sizes(lines) == ContextSizes(45 * MIB, 0, round(15.51 * MIB), round(0.75 * MIB), 0)


def test_the_caches_of_a_sliding_window_and_of_the_whole_text_are_added() -> None:
    lines = said(
        "llama_kv_cache: size =   68.00 MiB (  8192 cells,   8 layers,  4/1 seqs), K (q8_0): …",
        "llama_kv_cache: size =  765.00 MiB (  4608 cells,  40 layers,  4/1 seqs), K (q8_0): …",
    )
    assert read_context_sizes(lines).kv_cache == 833 * MIB


def test_a_recurrent_state_is_told_apart_and_known_to_be_really_there() -> None:
    sizes = read_context_sizes(
        said(
            "llama_memory_recurrent:        CPU RS buffer size =    77.06 MiB",
            "llama_memory_recurrent: size =   77.06 MiB (     4 cells,  24 layers,  4 seqs  0 rs_seq), R (f32): …",
        )
    )
    assert (sizes.kv_cache, sizes.recurrent, sizes.allocated) == (0, round(77.06 * MIB), round(77.06 * MIB))


@pytest.mark.parametrize(
    ("last_error", "expected"),
    [
        (
            "llama_model_load: error loading model: unknown model architecture: 'llamb'",
            "unknown model architecture: 'llamb'",
        ),
        ("gguf_init_from_file_ptr: failed to read magic", "failed to read magic"),
        (
            "llama_init_from_model: failed to initialize the context: V cache quantization requires flash_attn",
            "V cache quantization requires flash_attn",
        ),
    ],
)
def test_the_reason_leaves_out_which_function_said_it(last_error: str, expected: str) -> None:
    lines = said("llama_model_load_from_file_impl: using device CPU") + said(last_error, level=ERROR)
    assert failure_reason(lines) == expected


def test_the_reason_is_the_error_that_says_something() -> None:
    lines = said("load: no vocab", level=WARNING) + said(
        "llama_model_load: error loading model: missing tensor 'output'",
        "llama_model_load_from_file_impl: failed to load model",
        level=ERROR,
    )
    assert failure_reason(lines) == "missing tensor 'output'"


def test_no_error_gives_no_reason() -> None:
    assert failure_reason(said("all went well")) == ""


def test_an_assertion_is_told_without_the_folders_of_who_compiled_it() -> None:
    stderr = "some warning\n/tmp/build-1/vendor/ggml/src/ggml.c:5515: GGML_ASSERT(ggml_can_mul_mat(k, q)) failed\n"
    assert abort_message(stderr) == "ggml.c:5515: GGML_ASSERT(ggml_can_mul_mat(k, q)) failed"


def test_an_uncaught_exception_is_told_by_its_message() -> None:
    stderr = "terminate called after throwing an instance of 'std::length_error'\n  what():  vector::reserve\n\n"
    assert abort_message(stderr) == "what(): vector::reserve"


def test_what_a_file_makes_llama_cpp_say_stays_one_short_printable_line() -> None:
    words = failure_reason(said("load: unknown \x1b[31mtensor\n" + "x" * 10_000, level=ERROR))
    assert words.startswith("unknown [31mtensor xxx")
    assert len(words) == 300


def test_the_log_of_a_real_refusal_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGML, an older format")
    with LlamaLog() as log:
        assert not llama_cpp.llama_model_load_from_file(str(path).encode(), model_parameters(dry=True))
        assert "invalid magic characters: 'GGML'" in failure_reason(log.take_lines())
        assert log.take_lines() == ()


def test_a_line_told_in_pieces_is_one_line_and_debug_lines_are_left_out() -> None:
    log = LlamaLog()
    for level, text in ((INFO, b"loading"), (5, b" ."), (5, b".\n"), (1, b"debug"), (5, b" more\n"), (ERROR, b"end\n")):
        log._hear(level, text, ctypes.c_void_p(0))
    assert log.take_lines() == (LogLine(INFO, "loading .."), LogLine(ERROR, "end"))


# --- llama.cpp's own sums beside the log ---

DEEPSEEK = (
    "llama_kv_cache: size =    2.00 MiB (   512 cells,   4 layers,  4/4 seqs), K (f16): …",
    "llama_kv_cache: size =   16.00 MiB (  8192 cells,   2 layers,  4/4 seqs), K (f16): …",
    "llama_dsv4_comp_state:        CPU DSV4 csa state buffer size =     0.12 MiB",
    "llama_dsv4_comp_state: csa ratio = 4, state = 8 x 256, streams = 4, layers = 2, size =    0.12 MiB",
    "llama_dsv4_comp_state:        CPU DSV4 hca state buffer size =     0.50 MiB",
    "sched_reserve:        CPU compute buffer size =    32.39 MiB",
)


def test_a_state_under_another_name_is_a_recurrent_state() -> None:
    sizes = read_context_sizes(said(*DEEPSEEK)).with_buffers(18 * MIB + 655_360, 32 * MIB)
    assert (sizes.kv_cache, sizes.recurrent, sizes.compute) == (18 * MIB, 655_360, 32 * MIB)
    assert sizes.allocated == round(0.62 * MIB)  # a dry run allocates it: it is not the process itself


@pytest.mark.parametrize(
    ("lines", "state", "kv_cache", "recurrent"),
    [
        pytest.param(["llama_kv_cache: size =   45.00 MiB"], 45 * MIB + 2_000, 45 * MIB + 2_000, 0, id="rounding"),
        pytest.param(
            ["llama_kv_cache: size =   12.00 MiB", "llama_memory_recurrent: size =   77.06 MiB"],
            12 * MIB + 80_800_000, 12 * MIB + 80_800_000 - round(77.06 * MIB), round(77.06 * MIB), id="hybrid",
        ),
        pytest.param(["llama_memory_recurrent: size =   77.06 MiB"], 80_800_000, 0, 80_800_000, id="recurrent only"),
        pytest.param(["llama_new_cache: holds 9 MiB"], 9 * MIB, 9 * MIB, 0, id="a log in other words"),
        pytest.param([], 0, 0, 0, id="nothing"),
    ],
)  # fmt: skip
def test_the_sum_of_the_buffers_is_divided_by_the_log(
    lines: list[str], state: int, kv_cache: int, recurrent: int
) -> None:
    sizes = read_context_sizes(said(*lines)).with_buffers(state, 0)
    assert (sizes.kv_cache, sizes.recurrent) == (kv_cache, recurrent)
