"""Eight chats at once beside one: tokens per second in all.

Sequences that share a batch share each read of the weights, so the total grows although each chat gets slower.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.bench import STORY, engine_on, median_of, report, run_main, starter, tokens_in, turn
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import ReplyRequest
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY

ROUNDS = 4
CHATS = 8
TOKENS = 128


def total_speed(engine: LocalEngine, chats: int, round_number: int) -> float:
    started = time.perf_counter()
    streams = [
        engine.start_reply(ReplyRequest(turn(f"{STORY} Round {round_number}, chat {chat}."), GREEDY, max_tokens=TOKENS))
        for chat in range(chats)
    ]
    tokens = sum(tokens_in(list(stream)) for stream in streams)
    return tokens / (time.perf_counter() - started)


def main() -> None:
    alone: list[float] = []
    together: list[float] = []
    with engine_on(starter(), ContextParameters(4096, slots=CHATS)) as engine:
        for number in range(ROUNDS):
            alone.append(total_speed(engine, 1, number))
            together.append(total_speed(engine, CHATS, number))
    ratio = statistics.median(many / one for many, one in zip(together, alone, strict=True))
    rows = [("one chat, tok/s", median_of(alone)), (f"{CHATS} chats at once, tok/s in all", median_of(together))]
    report("Eight chats at once", rows, ratio, ">= 1.6")


if __name__ == "__main__":
    run_main(main)
