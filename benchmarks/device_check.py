"""What the playground says of a GPU beside what the GPU does: one table, by hand, in some minutes.

For the starter, or the model whose path is given, on the first GPU or on `--device NAME`:

- with all layers on it, with half of them, and with none: the planned memory of the GPU and of the computer beside what
  a load takes, and whether the greedy text is the CPU's (it may differ where the kernels do);
- an importance matrix, measured there and on the CPU;
- the speed of prompts (pp512) and of replies (tg128), beside a plain loop over llama.cpp's functions on the same GPU,
  and beside `llama-bench` if it is installed. `--without-speed` leaves these out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import llama_cpp

from benchmarks.bench import FILLER, cores, ended, engine_on, made, starter, turn
from playground.engine.protocol import GREEDY, Finished, Token
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.llama.devices import Device, read_devices
from playground.llama.params import (
    ALL_LAYERS,
    CPU_ONLY,
    ContextParameters,
    Placement,
    context_parameters,
    model_parameters,
)
from playground.measure.speed import SpeedTest, measure_speed
from playground.quantize.quantize import quantize_file

CONTEXT: Final = 2048
PROMPT: Final = 512
GENERATE: Final = 128
ROUNDS: Final = 5
MEMORY_GAP: Final = 0.02
SPEED_RATIO: Final = 0.95
MIB: Final = 1 << 20

Row = tuple[str, str, str, bool | None]  # what, expected, found; whether that is right, None if nothing is expected


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what the playground says of a GPU.")
    parser.add_argument("model", nargs="?", type=Path, default=starter(), help="a GGUF file (default: the starter)")
    parser.add_argument("--device", default="", help="llama.cpp's name of the GPU (default: the first)")
    parser.add_argument("--without-speed", action="store_true")
    arguments = parser.parse_args()
    devices = read_devices()
    if devices.problem:
        print(devices.problem)
    gpu = devices.find(arguments.device) if arguments.device else next(iter(devices.gpus), None)
    if gpu is None or not gpu.is_gpu:
        print(f"There is no such GPU here: {', '.join(device.name for device in devices.all)}.")
        return 1
    free = f"{gpu.memory_free // MIB:,} of {gpu.memory_total // MIB:,} MiB free"
    print(f"{gpu.name}: {gpu.description}, {gpu.backend}, {free}")
    rows = list(memory_rows(arguments.model, gpu))
    rows += imatrix_rows(gpu)
    if not arguments.without_speed:
        rows += speed_rows(arguments.model, gpu)
    print_table(rows)
    return 0 if all(row[3] is not False for row in rows) else 1


def print_table(rows: Sequence[Row]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]  # type: ignore[arg-type]
    for what, expected, found, is_right in rows:
        mark = {True: "ok", False: "WRONG", None: ""}[is_right]
        print(f"  {what:<{widths[0]}}  {expected:>{widths[1]}}  {found:>{widths[2]}}  {mark}".rstrip())


# --- memory ---


def memory_rows(path: Path, gpu: Device) -> Iterator[Row]:
    with Planner() as planner:
        alone = planner.plan(path, ContextParameters(CONTEXT))
        half = Placement((gpu.name,), alone.layers // 2)
        placements = {"all layers": Placement((gpu.name,), ALL_LAYERS), "half": half, "CPU only": CPU_ONLY}
        plans = {name: planner.plan(path, replace(alone.context, placement=one)) for name, one in placements.items()}
    texts: dict[str, str] = {}
    for name, plan in plans.items():
        with engine_on(path, plan.context) as engine:
            events = list(engine.start_reply(turn(FILLER * 2), GREEDY, max_tokens=24))
            texts[name] = "".join(event.text for event in events if isinstance(event, Token | Finished))
            memory = ended(events).memory
            threads = ended(events).timings.threads
        assert memory is not None
        (device,) = memory.devices or (None,)
        yield from _device_rows(name, plan, gpu, device)
        expected = plan.total
        gap = abs(memory.resident - expected)
        yield (
            f"{name}: computer's memory, MiB", f"{expected / MIB:.1f}", f"{memory.resident / MIB:.1f}",
            None if gpu.unified else gap <= max(0.03 * expected, 30 * MIB),
        )  # fmt: skip
        yield f"{name}: threads of the CPU", "", str(threads), None
    for name in ("all layers", "half"):
        yield f"{name}: greedy text", "the CPU's", "the same" if texts[name] == texts["CPU only"] else "other", None


def _device_rows(name: str, plan: MemoryPlan, gpu: Device, device: Any) -> Iterator[Row]:
    planned = plan.on_device(gpu.name)
    allocated = device.allocated if device else 0
    yield (
        f"{name}: allocated on {gpu.name}, MiB", f"{planned / MIB:.2f}", f"{allocated / MIB:.2f}", planned == allocated
    )  # fmt: skip
    if device is None:
        return
    if device.taken is None:
        yield f"{name}: taken of its free memory, MiB", f"{planned / MIB:.2f}", "not told", None
    else:
        is_near = abs(device.taken - planned) <= MEMORY_GAP * planned
        yield f"{name}: taken of its free memory, MiB", f"{planned / MIB:.2f}", f"{device.taken / MIB:.2f}", is_near
    yield f"{name}: layers on {gpu.name}", str(plan.layers_on(gpu.name)), str(device.layers), device.layers == (
        plan.layers_on(gpu.name)
    )  # fmt: skip


def imatrix_rows(gpu: Device) -> Iterator[Row]:
    """A level that needs an importance matrix, made with one that was measured on the GPU, on both, and on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        source = made("F16", Path(folder))
        files: dict[str, bytes] = {}
        for name, placement in (
            ("CPU", CPU_ONLY), ("all layers", Placement((gpu.name,), ALL_LAYERS)), ("half", Placement((gpu.name,), 15))
        ):  # fmt: skip
            target = Path(folder) / f"made-on-{name.replace(' ', '-')}.gguf"
            for _ in quantize_file(source, "IQ2_XS", target, cores(), lambda placement=placement: placement):
                pass
            files[name] = target.read_bytes()
    for name in ("all layers", "half"):
        pairs = zip(files["CPU"], files[name], strict=True)
        share = sum(one == other for one, other in pairs) / len(files["CPU"])
        yield f"{name}: bytes of a level by its importance matrix", "the CPU's", f"{share:.2%} the same", share > 0.9


# --- speed ---


def speed_rows(path: Path, gpu: Device) -> Iterator[Row]:
    """Ours and a plain loop take turns; each figure is the median of the ratios of one round."""
    placement = Placement((gpu.name,), ALL_LAYERS)
    tests = SpeedTest("prompt", PROMPT), SpeedTest("reply", GENERATE)
    ours: dict[str, list[float]] = {test.name: [] for test in tests}
    plain: dict[str, list[float]] = {test.name: [] for test in tests}
    with (
        engine_on(path, ContextParameters(CONTEXT, slots=1, placement=placement)) as engine,
        plain_loop(path, placement) as loop,
    ):
        for _ in range(ROUNDS):
            for test in tests:
                (*_, result) = measure_speed(engine, test, 1)
                ours[test.name].append(result.tokens_per_second)
                plain[test.name].append(loop(test))
    bench = llama_bench(path, gpu)
    for test in tests:
        name, speed = test.name, statistics.median(ours[test.name])
        ratio = statistics.median(one / other for one, other in zip(ours[name], plain[name], strict=True))
        yield f"{name}, plain loop, tok/s", f"{statistics.median(plain[name]):.1f}", f"{speed:.1f}", None
        yield f"{name}, ratio", f">= {SPEED_RATIO}", f"{ratio:.3f}", ratio >= SPEED_RATIO
        if name in bench:
            ratio = speed / bench[name]
            yield f"{name}, llama-bench, tok/s", f"{bench[name]:.1f}", f"{ratio:.3f}", ratio >= SPEED_RATIO


@contextmanager
def plain_loop(path: Path, placement: Placement) -> Iterator[Callable[[SpeedTest], float]]:
    """Tokens per second of a test by nothing but llama.cpp's own functions, in this process."""
    library = llama_cpp
    library.llama_backend_init()
    library.llama_log_set(_SILENT, library.llama_cpp.ctypes.c_void_p(0))
    model = library.llama_model_load_from_file(os.fsencode(path), model_parameters(placement))
    chosen = ContextParameters(CONTEXT, slots=1, placement=placement)
    context = library.llama_init_from_model(model, context_parameters(chosen, 1))
    tokens = (library.llama_token * PROMPT)(*range(100, 100 + PROMPT))

    def run(test: SpeedTest) -> float:
        library.llama_memory_clear(library.llama_get_memory(context), True)
        started = time.perf_counter()
        if test.kind == "prompt":
            library.llama_decode(context, library.llama_batch_get_one(tokens, test.tokens))
        else:
            for place in range(test.tokens):
                one = (library.llama_token * 1)(tokens[place])
                library.llama_decode(context, library.llama_batch_get_one(one, 1))
                library.llama_synchronize(context)
        library.llama_synchronize(context)
        return test.tokens / (time.perf_counter() - started)

    with closing(_Freed(context, model)):
        for test in (SpeedTest("prompt", PROMPT), SpeedTest("reply", 8)):
            run(test)  # warms up
        yield run


class _Freed:
    def __init__(self, context: Any, model: Any) -> None:
        self._context, self._model = context, model

    def close(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


_SILENT: Final = llama_cpp.llama_log_callback(lambda level, text, data: None)


def llama_bench(path: Path, gpu: Device) -> dict[str, float]:
    """Tokens per second by llama.cpp's own program; {} if it is not installed or does not know the GPU."""
    if not (program := shutil.which("llama-bench")):
        return {}
    command = [program, "-m", str(path), "-ngl", "999", "-dev", gpu.name, "-p", str(PROMPT), "-n", str(GENERATE)]
    answer = subprocess.run([*command, "-fa", "1", "-o", "json"], capture_output=True, text=True, check=False)
    if answer.returncode:
        print(f"llama-bench failed: {answer.stderr.strip()[-200:]}")
        return {}
    rows = json.loads(answer.stdout)
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"] for row in rows}


if __name__ == "__main__":
    sys.exit(main())
