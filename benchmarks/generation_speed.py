"""Generation speed of the engine beside `llama_cpp.Llama` streaming: same file, same threads, alternating in one run.

Generating reads every weight once for each token, so both sides are bound by the same arithmetic; what differs is the
Python around it. Both are timed by their consumer, from the first token that arrives to the last.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import llama_cpp

from benchmarks.bench import STORY, cores, engine_on, median_of, on_device, report, starter, turn
from playground.engine.protocol import GREEDY, Token
from playground.llama.params import ContextParameters

ROUNDS = 10
TOKENS = 192


def tokens_per_second(arrivals: Iterable[object]) -> float:
    times = [time.perf_counter() for _ in arrivals]
    return (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    path = starter()
    context = on_device(path, ContextParameters(2048))
    peer = llama_cpp.Llama(
        str(path), n_gpu_layers=context.placement.gpu_layers, n_ctx=2048, n_threads=cores(), n_threads_batch=cores(),
        flash_attn=True, verbose=False,
    )  # fmt: skip
    ours: list[float] = []
    theirs: list[float] = []
    with engine_on(path, context) as engine:

        def engine_speed(prompt: str) -> float:
            stream = engine.start_reply(prompt, GREEDY, max_tokens=TOKENS)
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
    main()
