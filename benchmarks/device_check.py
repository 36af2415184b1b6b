"""What the playground says of a GPU beside what the GPU does: one table, by hand, in some minutes.

For the starter, or the model whose path is given, on the first GPU or on `--device NAME`:

- with all layers on it, with half of them, and with none: the planned memory of the GPU and of the computer beside what
  a load takes, and whether the greedy text is the CPU's (it may differ where the kernels do);
- the importance matrix of a short text, measured there and on the CPU;
- the speed of prompts (pp512) and of replies (tg128), beside a plain loop over llama.cpp's functions on the same GPU,
  and beside `llama-bench` if it is installed. `--without-speed` leaves these out.

It ends with 1 if something is not as expected.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import llama_cpp
import numpy as np

from benchmarks.bench import FILLER, cores, ended, engine_on, run_main, starter, turn
from playground.engine.protocol import DeviceMemory, Finished, ReplyRequest, Token
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.llama.devices import Device, Devices, read_devices
from playground.llama.params import (
    ALL_LAYERS,
    CPU_ONLY,
    ContextParameters,
    Placement,
    context_parameters,
    model_parameters,
)
from playground.llama.quantizer.imatrix import declare_tensor_functions, measure_importance
from playground.llama.sampling_extras import GREEDY
from playground.measure.speed import SpeedTest, measure_speed
from tests.support.ended_with_parent import ended_with_parent

CONTEXT: Final = 2048
PROMPT: Final = 512
GENERATE: Final = 128
ROUNDS: Final = 5
MEMORY_GAP: Final = 0.02
RAM_GAP: Final = 0.03
SPEED_RATIO: Final = 0.95
IMPORTANCE_GAP: Final = 0.05  # other kernels round otherwise
MIB: Final = 1 << 20


class Row(NamedTuple):
    """is_right: None where nothing is expected, or the driver does not tell."""

    what: str
    expected: str
    found: str
    is_right: bool | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what the playground says of a GPU.")
    parser.add_argument("model", nargs="?", type=Path, default=starter(), help="a GGUF file (default: the starter)")
    parser.add_argument("--device", default="", help="llama.cpp's name of the GPU (default: the first)")
    parser.add_argument("--without-speed", action="store_true")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the table there, as JSON")
    arguments = parser.parse_args()
    gpu = find_gpu(read_devices(), arguments.device)
    if gpu is None:
        return 1
    path = arguments.model
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    with Planner() as planner:
        alone = planner.plan(path, ContextParameters(CONTEXT))
        whole, half = (Placement((gpu.name,), layers) for layers in (ALL_LAYERS, alone.layers // 2))
        places = {"all layers": whole, "half": half, "CPU only": CPU_ONLY}
        plans = {name: planner.plan(path, replace(alone.context, placement=place)) for name, place in places.items()}
    rows = chain(memory_rows(path, gpu, plans), imatrix_rows(path, whole, half))
    if not arguments.without_speed:
        rows = chain(rows, speed_rows(path, gpu, whole))
    print(f"  {'':<50}{'expected':>12}{'found':>12}")
    wrong, shown = 0, []
    for row in rows:
        mark = {True: "ok", False: "WRONG", None: ""}[row.is_right]
        print(f"  {row.what:<50}{row.expected:>12}{row.found:>12}  {mark}".rstrip(), flush=True)
        wrong += row.is_right is False
        shown.append(row)
    if arguments.rows:
        arguments.rows.write_text(json.dumps(shown))
    print(f"{wrong} rows are not as expected." if wrong else "All is as expected.")
    return min(wrong, 1)


def find_gpu(devices: Devices, name: str) -> Device | None:
    if devices.problem:
        print(devices.problem)
    gpu = devices.find(name) if name else next(iter(devices.gpus), None)
    if gpu is None or not gpu.is_gpu:
        print(f"There is no such GPU here, only {', '.join(device.name for device in devices.all)}.")
        return None
    free = f"{gpu.memory_free // MIB:,} of {gpu.memory_total // MIB:,} MiB free"
    print(f"{gpu.name}: {gpu.description}, {gpu.backend}, {free}")
    return gpu


# --- memory ---


def memory_rows(path: Path, gpu: Device, plans: dict[str, MemoryPlan]) -> Iterator[Row]:
    texts: dict[str, str] = {}
    for name, plan in plans.items():
        with engine_on(path, plan.context) as engine:
            events = list(engine.start_reply(ReplyRequest(turn(FILLER * 2), GREEDY, max_tokens=16)))
        texts[name] = "".join(event.text for event in events if isinstance(event, Token | Finished))
        end = ended(events)
        assert end.memory is not None
        yield from device_rows(name, plan, gpu.name, next(iter(end.memory.devices), None))
        gap = abs(end.memory.resident - plan.total)
        # A driver has memory of its own in this process, and a software driver all of the GPU's.
        is_near = gap <= max(RAM_GAP * plan.total, 30 * MIB) if plan.context.placement.is_cpu_only else None
        yield Row(f"{name}: computer's memory, MiB", in_mib(plan.total), in_mib(end.memory.resident), is_near)
        threads = 1 if plan.context.placement.is_whole_on_devices else cores()
        yield Row(f"{name}: threads", str(threads), str(end.timings.threads), end.timings.threads == threads)
    for name in ("all layers", "half"):
        yield Row(f"{name}: greedy text", "the CPU's", "same" if texts[name] == texts["CPU only"] else "other")


def device_rows(name: str, plan: MemoryPlan, gpu: str, device: DeviceMemory | None) -> Iterator[Row]:
    planned = plan.on_device(gpu)
    allocated = device.allocated if device else 0
    yield Row(f"{name}: allocated on the GPU, MiB", in_mib(planned), in_mib(allocated), planned == allocated)
    if device is None:
        return
    yield Row(f"{name}: layers", str(plan.layers_on(gpu)), str(device.layers), plan.layers_on(gpu) == device.layers)
    is_near = abs(device.taken - planned) <= MEMORY_GAP * planned if device.taken else None
    taken = in_mib(device.taken) if device.taken else "not told"
    yield Row(f"{name}: taken of its free memory, MiB", in_mib(planned), taken, is_near)


def in_mib(size: int) -> str:
    return f"{size / MIB:,.2f}"


# --- the importance matrix ---


def imatrix_rows(path: Path, whole: Placement, half: Placement) -> Iterator[Row]:
    """The importance of every column of the weights, measured in this process."""
    declare_tensor_functions()
    llama_cpp.llama_backend_init()

    def measured(placement: Placement) -> dict[str, np.ndarray]:
        return measure_importance(str(path), turn(FILLER * 2), cores(), lambda fraction: None, placement)

    alone = measured(CPU_ONLY)
    for name, placement in (("all layers", whole), ("half", half)):
        found = measured(placement)
        is_whole = alone.keys() == found.keys()
        yield Row(f"{name}: tensors of an importance matrix", str(len(alone)), str(len(found)), is_whole)
        gaps = [np.abs(found[tensor] - alone[tensor]).mean() / alone[tensor].mean() for tensor in found.keys() & alone]
        gap = float(np.median(gaps)) if gaps else 1.0
        yield Row(f"{name}: its gap from the CPU's", f"<= {IMPORTANCE_GAP:.0%}", f"{gap:.2%}", gap <= IMPORTANCE_GAP)


# --- speed ---


def speed_rows(path: Path, gpu: Device, whole: Placement) -> Iterator[Row]:
    """Ours and a plain loop take turns; a ratio is the median of those of each round."""
    tests = SpeedTest("prompt", PROMPT), SpeedTest("reply", GENERATE)
    ours: dict[str, list[float]] = {test.name: [] for test in tests}
    plain: dict[str, list[float]] = {test.name: [] for test in tests}
    context = ContextParameters(CONTEXT, slots=1, placement=whole)
    with engine_on(path, context) as engine, plain_loop(path, context) as run_plain:
        for _ in range(ROUNDS):
            for test in tests:
                (*_, result) = measure_speed(engine, test, 1)
                ours[test.name].append(result.tokens_per_second)
                plain[test.name].append(run_plain(test))
    bench = llama_bench(path, gpu)
    for name in ours:
        speed = statistics.median(ours[name])
        yield Row(f"{name}: tok/s of a plain loop, and here", f"{statistics.median(plain[name]):.1f}", f"{speed:.1f}")
        ratio = statistics.median(one / other for one, other in zip(ours[name], plain[name], strict=True))
        yield Row(f"{name}: of the plain loop's speed", f">= {SPEED_RATIO}", f"{ratio:.3f}", ratio >= SPEED_RATIO)
        if name in bench:
            ratio = speed / bench[name]
            found = f"{ratio:.3f}"
            yield Row(f"{name}: of llama-bench's {bench[name]:.1f}", f">= {SPEED_RATIO}", found, ratio >= SPEED_RATIO)


@contextmanager
def plain_loop(path: Path, context: ContextParameters) -> Iterator[Callable[[SpeedTest], float]]:
    """Tokens per second of a test by nothing but llama.cpp's own functions, in this process."""
    parameters = model_parameters(context.placement)
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    opened = llama_cpp.llama_init_from_model(model, context_parameters(context))
    tokens = (llama_cpp.llama_token * PROMPT)(*range(100, 100 + PROMPT))

    def run(test: SpeedTest) -> float:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(opened), True)
        started = time.perf_counter()
        if test.kind == "prompt":
            llama_cpp.llama_decode(opened, llama_cpp.llama_batch_get_one(tokens, test.tokens))
            llama_cpp.llama_synchronize(opened)
        else:
            for place in range(test.tokens):
                one = (llama_cpp.llama_token * 1)(tokens[place])
                llama_cpp.llama_decode(opened, llama_cpp.llama_batch_get_one(one, 1))
                llama_cpp.llama_synchronize(opened)
        return test.tokens / (time.perf_counter() - started)

    try:
        run(SpeedTest("prompt", PROMPT))  # warms up
        yield run
    finally:
        llama_cpp.llama_free(opened)
        llama_cpp.llama_model_free(model)


_SILENT: Final = llama_cpp.llama_log_callback(lambda level, text, data: None)


def llama_bench(path: Path, gpu: Device) -> dict[str, float]:
    """Tokens per second by llama.cpp's own program; {} if it is not installed or does not know the GPU."""
    if not (program := shutil.which("llama-bench")):
        return {}
    command = [program, "-m", str(path), "-ngl", "999", "-dev", gpu.name, "-p", str(PROMPT), "-n", str(GENERATE)]
    asked = ended_with_parent([*command, "-fa", "1", "-o", "json"])
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if answer.returncode:
        print(f"llama-bench failed: {answer.stderr.strip()[-200:]}")
        return {}
    rows = json.loads(answer.stdout)
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"] for row in rows}


if __name__ == "__main__":
    run_main(main)
