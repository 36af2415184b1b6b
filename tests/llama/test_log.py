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


# From public issues and pull requests, whose numbers stand beside them; reduced to the lines that are read.
PUBLISHED_CONTEXTS = {  # lines of a context on a GPU -> state buffers, compute, output in MiB
    "llama.cpp 27680, CUDA": (
        ["llama_context:  CUDA_Host  output buffer size =     0.49 MiB",
         "llama_kv_cache: size =    0.00 MiB ( 64000 cells,   0 layers,  1/1 seqs), K (bf16):    0.00 MiB, V (bf16): …",
         "llama_kv_cache:      CUDA0 KV buffer size =   182.75 MiB"],
        (182.75, 0, 0.49),
    ),
    "llama.cpp 13545, two GPUs by ROCm": (
        ["llama_context:  ROCm_Host  output buffer size =     0.58 MiB",
         "llama_kv_cache_unified:      ROCm0 KV buffer size =  1600.00 MiB",
         "llama_kv_cache_unified:      ROCm1 KV buffer size =  1472.00 MiB",
         "llama_context:      ROCm0 compute buffer size =   120.00 MiB",
         "llama_context:      ROCm1 compute buffer size =   300.75 MiB",
         "llama_context:  ROCm_Host compute buffer size =    68.01 MiB"],
        (3072, 488.76, 0.58),
    ),
    "llama.cpp 12728, Vulkan": (
        ["init:    Vulkan0 KV buffer size = 19200.00 MiB",
         "llama_context:    Vulkan0 compute buffer size =  1174.00 MiB",
         "llama_context: Vulkan_Host compute buffer size =    18.01 MiB"],
        (19_200, 1192.01, 0),
    ),
    "an Apple M4 Pro in 2026, Metal": (  # a published log of llama-server: a model with attention and recurrent layers
        ["llama_context:        CPU  output buffer size =     0.95 MiB",
         "llama_kv_cache:       MTL0 KV buffer size =  4352.00 MiB",
         "llama_kv_cache: size = 4352.00 MiB (262144 cells,   8 layers,  1/1 seqs), K (q8_0): 2176.00 MiB, V (q8_0): …",
         "llama_memory_recurrent:       MTL0 RS buffer size =    50.25 MiB",
         "llama_memory_recurrent: size =   50.25 MiB (     1 cells,  32 layers,  1 seqs), R (f32):    2.25 MiB, …",
         "sched_reserve:       MTL0 compute buffer size =   832.60 MiB",
         "sched_reserve:        CPU compute buffer size =   528.29 MiB"],
        (4402.25, 1360.89, 0.95),
    ),
}  # fmt: skip


@pytest.mark.parametrize("issue", PUBLISHED_CONTEXTS)
def test_a_context_on_a_gpu_is_read_with_its_buffers_in_the_drivers_memory(issue: str) -> None:
    lines, sizes = PUBLISHED_CONTEXTS[issue]
    read = read_context_sizes(said(*lines))
    assert (read.allocated, read.compute, read.output) == tuple(round(size * MIB) for size in sizes)


PUBLISHED_FAILURES = {  # errors while a model is loaded on a GPU -> the reason that people see
    "llama.cpp 20431, CUDA": (
        ["ggml_backend_cuda_buffer_type_alloc_buffer: allocating 144817.04 MiB on device 0: cudaMalloc failed: "
         "out of memory",
         "alloc_tensor_range: failed to allocate CUDA0 buffer of size 151851674624",
         "llama_model_load: error loading model: unable to allocate CUDA0 buffer"],
        "unable to allocate CUDA0 buffer",
    ),
    "gpustack 1269, four GPUs by CUDA": (
        ["ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4480.00 MiB on device 3: cudaMalloc failed: "
         "out of memory",
         "llama_kv_cache_init: failed to allocate buffer for kv cache",
         "llama_init_from_model: llama_kv_cache_init() failed for self-attention cache",
         "common_init_from_params: failed to create context with model"],
        "llama_kv_cache_init() failed for self-attention cache",
    ),
    "llama.cpp 12728, Vulkan": (
        ["ggml_vulkan: Device memory allocation of size 2166360064 failed.",
         "ggml_vulkan: Requested buffer size exceeds device memory allocation limit: ErrorOutOfDeviceMemory",
         "ggml_gallocr_reserve_n: failed to allocate Vulkan0 buffer of size 2166360064",
         "llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers"],
        "failed to allocate compute pp buffers",
    ),
    "rocm-systems 1731, ROCm": (
        ["ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4500.00 MiB on device 0: cudaMalloc failed: "
         "out of memory",
         "alloc_tensor_range: failed to allocate ROCm0 buffer of size 4718592000"],
        "failed to allocate ROCm0 buffer of size 4718592000",
    ),
    "whisper.cpp in 2026, Metal": (
        ["ggml_metal_buffer_init: error: failed to allocate buffer, size =     2.20 MiB"],
        "failed to allocate buffer, size = 2.20 MiB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("issue", PUBLISHED_FAILURES)
def test_why_a_gpu_refused_a_model_is_said_in_its_drivers_words(issue: str) -> None:
    lines, reason = PUBLISHED_FAILURES[issue]
    assert failure_reason(said(*lines, level=ERROR)) == reason


def test_no_error_gives_no_reason() -> None:
    assert failure_reason(said("all went well")) == ""


def test_an_assertion_is_told_without_the_folders_of_who_compiled_it() -> None:
    stderr = "some warning\n/tmp/build-1/vendor/ggml/src/ggml.c:5515: GGML_ASSERT(ggml_can_mul_mat(k, q)) failed\n"
    assert abort_message(stderr) == "ggml.c:5515: GGML_ASSERT(ggml_can_mul_mat(k, q)) failed"


def test_an_uncaught_exception_is_told_by_its_message() -> None:
    stderr = "terminate called after throwing an instance of 'std::length_error'\n  what():  vector::reserve\n\n"
    assert abort_message(stderr) == "what(): vector::reserve"


PUBLISHED_ABORTS = {  # what a GPU's driver logs, the standard error of the abort after it -> the reason
    "llama.cpp 13909, CUDA": (
        ["CUDA error: an illegal memory access was encountered",
         "  current device: 7, in function ggml_backend_cuda_synchronize at /llama.cpp/ggml/src/ggml-cuda.cu:2461",
         "  cudaStreamSynchronize(cuda_ctx->stream())"],
        "/llama.cpp/ggml/src/ggml-cuda/ggml-cuda.cu:75: CUDA error\n./llama.cpp/llama-cli(+0x751b7b)[0x5c5553040b7b]\n",
        "CUDA error: an illegal memory access was encountered",
    ),
    "llama.cpp 20306 and 22673, Metal": (
        ["ggml_metal_synchronize: error: command buffer 1 failed with status 5",
         "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"],
        "ggml-metal-context.m:5: fatal error\n",
        "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    ),
    "llama.cpp 27183, Vulkan": (
        [],
        "terminate called after throwing an instance of 'vk::DeviceLostError'\n"
        "  what():  vk::Queue::submit: ErrorDeviceLost\n",
        "what(): vk::Queue::submit: ErrorDeviceLost",
    ),
}  # fmt: skip


@pytest.mark.parametrize("issue", PUBLISHED_ABORTS)
def test_a_driver_that_ends_its_process_leaves_its_reason(issue: str, capfd: pytest.CaptureFixture[str]) -> None:
    logged, aborted, reason = PUBLISHED_ABORTS[issue]
    with LlamaLog() as log:
        log._hear(ERROR, b"llama_decode: failed to decode, ret = -3\n", ctypes.c_void_p(0))
        for line in logged:
            log._hear(ERROR, f"{line}\n".encode(), ctypes.c_void_p(0))
    assert abort_message(capfd.readouterr().err + aborted) == reason


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
