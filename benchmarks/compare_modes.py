"""The two modes of Compare: in turn against two single chats (time), and at once against in turn (tokens a second).

In turn should cost no more than two single chats. At once the models share the cores, and should write as many tokens a
second together as one alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.bench import STORY, made, median_of, report, run_main, services
from playground.app.services import Services
from playground.chat.compare import compare
from playground.chat.comparison import Mode, Pane
from playground.chat.conversation import Conversation, stream_reply
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.models.model_file import ModelFile
from playground.steps import Steps

ROUNDS = 4
TOKENS = 96
CONTEXT = ContextParameters(2048)
QUESTION = Conversation().with_question(STORY)


def compare_seconds(opened: Services, files: list[ModelFile], mode: Mode) -> tuple[float, int]:
    """Duration of a comparison, and the tokens of all answers."""
    panes = [Pane(file, CONTEXT, QUESTION) for file in files]
    started = time.perf_counter()
    updates = compare(opened.pool, opened.planner, panes, GREEDY, TOKENS, mode=mode, interval_seconds=0.125)
    results = [update.result for update in updates if update.result]
    assert len(results) == len(panes)
    return time.perf_counter() - started, sum(result.finished.timings.generated_tokens or 0 for result in results)


def single_chats_seconds(opened: Services, files: list[ModelFile]) -> float:
    started = time.perf_counter()
    for file in files:
        with Steps(opened.pool.lease_model(file.path, CONTEXT)).finish() as lease:
            for _ in stream_reply(lease.engine, QUESTION, GREEDY, TOKENS, reproducible=True, alternatives=5):
                pass
    return time.perf_counter() - started


def main() -> None:
    in_turn: list[float] = []
    single: list[float] = []
    speeds: dict[Mode, list[float]] = {"in turn": [], "at once": []}
    with tempfile.TemporaryDirectory() as folder, services() as opened:
        files = [opened.library.find_file(str(made(level, Path(folder)))) for level in ("Q8_0", "Q4_0")]
        compare_seconds(opened, files, "in turn")  # loads both
        for _ in range(ROUNDS):
            single.append(single_chats_seconds(opened, files))
            seconds, tokens = compare_seconds(opened, files, "in turn")
            in_turn.append(seconds)
            speeds["in turn"].append(tokens / seconds)
            seconds, tokens = compare_seconds(opened, files, "at once")
            speeds["at once"].append(tokens / seconds)
    ratio = statistics.median(both / singles for both, singles in zip(in_turn, single, strict=True))
    rows = [("two single chats, s", median_of(single)), ("two panes in turn, s", median_of(in_turn))]
    report("In turn", rows, ratio, "<= 1.05")
    ratio = statistics.median(a / b for a, b in zip(speeds["at once"], speeds["in turn"], strict=True))
    rows = [(f"{mode}, tok/s in all", median_of(values)) for mode, values in speeds.items()]
    report("At once", rows, ratio, ">= 0.95")


if __name__ == "__main__":
    run_main(main)
