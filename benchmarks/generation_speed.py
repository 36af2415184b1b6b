"""Generation speed of the engine beside `llama_cpp.Llama` streaming: same file, same threads, alternating in one run.

Generating reads every weight once for each token, so both sides are bound by the same arithmetic; what differs is the
Python around it. Both are timed by their consumer, from the first token that arrives to the last.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

import llama_cpp

from benchmarks.bench import STORY, cores, engine_on, median_of, on_device, report, run_main, starter, turn
from playground.engine.protocol import ReplyRequest, Token
from playground.llama.devices import read_devices
from playground.llama.params import ContextParameters, Placement
from playground.llama.sampling_extras import GREEDY

ROUNDS = 10
TOKENS = 192


def tokens_per_second(arrivals: Iterable[object]) -> float:
    times = [time.perf_counter() for _ in arrivals]
    return (len(times) - 1) / (times[-1] - times[0])


def where_of_peer(placement: Placement) -> dict[str, Any]:
    """The arguments of `llama_cpp.Llama` for the same place: no device in the model, one device, or all of them."""
    if placement.is_cpu_only:
        return {"split_mode": llama_cpp.LLAMA_SPLIT_MODE_NONE, "main_gpu": -1, "op_offload": False}
    if len(placement.devices) > 1:
        return {"n_gpu_layers": placement.gpu_layers, "tensor_split": list(placement.split)}
    names = [device.name for device in read_devices().gpus]
    (device,) = placement.devices
    one = {"split_mode": llama_cpp.LLAMA_SPLIT_MODE_NONE, "main_gpu": names.index(device)}
    return {"n_gpu_layers": placement.gpu_layers, **one}


def main() -> None:
    path = starter()
    context = on_device(path, ContextParameters(2048))
    threads = 1 if context.placement.is_whole_on_devices else cores()
    peer = llama_cpp.Llama(
        str(path), n_ctx=2048, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False,
        **where_of_peer(context.placement),
    )  # fmt: skip
    ours: list[float] = []
    theirs: list[float] = []
    with engine_on(path, context) as engine:

        def engine_speed(prompt: str) -> float:
            stream = engine.start_reply(ReplyRequest(prompt, GREEDY, max_tokens=TOKENS))
            return tokens_per_second(event for event in stream if isinstance(event, Token))

        def peer_speed(prompt: str) -> float:
            return tokens_per_second(peer.create_completion(prompt, max_tokens=TOKENS, temperature=0.0, stream=True))

        for number in range(ROUNDS):  # who goes first changes: it makes a difference of some per cent
            prompt = turn(f"{STORY} Chapter {number}.")
            sides = [(ours, engine_speed), (theirs, peer_speed)]
            for speeds, measure in sides if number % 2 else reversed(sides):
                speeds.append(measure(prompt))
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    rows = [("engine, tok/s", median_of(ours)), ("llama_cpp.Llama, tok/s", median_of(theirs))]
    report("Generation speed", rows, ratio, ">= 1.0")


if __name__ == "__main__":
    run_main(main)
