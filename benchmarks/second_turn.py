"""Time to the first token of the second turn of a 2,000-token chat, beside the same text read with nothing cached.

The second turn's prompt begins with all that is in the KV cache already; only the new question has to be read.
"""

from __future__ import annotations

import statistics

from benchmarks.bench import FILLER, ended, engine_on, median_of, report, run_main, starter, turn
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import Finished, ReplyRequest, Token
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY

ROUNDS = 4


def first_turn(number: int) -> str:
    return turn(f"{number}. Read this: {FILLER * 108} What happened?")


def wait_seconds(engine: LocalEngine, prompt: str) -> tuple[float, int]:
    """(time to first token, tokens that had to be read)"""
    timings = ended(list(engine.start_reply(ReplyRequest(prompt, GREEDY, max_tokens=8)))).timings
    assert timings.time_to_first_token is not None
    return timings.time_to_first_token, (timings.prompt_tokens or 0) - (timings.cached_tokens or 0)


def main() -> None:
    second: list[float] = []
    fresh: list[float] = []
    with engine_on(starter(), ContextParameters(8192, slots=1)) as engine:
        for number in range(ROUNDS):
            events = list(engine.start_reply(ReplyRequest(first_turn(number), GREEDY, max_tokens=32)))
            answer = "".join(event.text for event in events if isinstance(event, Token | Finished))
            question = f"{answer}<|im_end|>\n{turn('And then?')}"
            seconds, read_now = wait_seconds(engine, first_turn(number) + question)
            second.append(seconds)
            seconds, read_fresh = wait_seconds(engine, first_turn(number + 100) + question)
            fresh.append(seconds)
    ratio = statistics.median(warm / cold for warm, cold in zip(second, fresh, strict=True))
    rows = [
        (f"second turn, ms ({read_now} tokens read)", median_of([1000 * seconds for seconds in second])),
        (f"fresh, ms ({read_fresh} tokens read)", median_of([1000 * seconds for seconds in fresh])),
    ]
    report("Time to first token", rows, ratio, "<= 0.1")


if __name__ == "__main__":
    run_main(main)
