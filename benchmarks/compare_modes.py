"""Compare's two modes: in turn beside two single chats (time), and at once beside in turn (total tokens a second).

In turn should cost no more than asking twice; at once the cores are split between the models, not fought over.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.bench import STORY, made, median_of, report, services
from playground.app.services import Services
from playground.chat.compare import compare
from playground.chat.comparison import Mode, Pane
from playground.chat.conversation import Conversation, reply
from playground.engine.protocol import GREEDY
from playground.llama.params import ContextParameters

ROUNDS = 4
TOKENS = 96
CONTEXT = ContextParameters(2048)


def compared(opened: Services, panes: list[Pane], mode: Mode) -> tuple[float, int]:
    """(seconds, tokens in all)"""
    started = time.perf_counter()
    updates = compare(opened.pool, opened.planner, panes, GREEDY, TOKENS, mode=mode, interval_seconds=0.125)
    results = [update.result for update in updates if update.result]
    assert len(results) == len(panes)
    return time.perf_counter() - started, sum(result.finished.timings.generated_tokens for result in results)


def asked_one_by_one(opened: Services, panes: list[Pane]) -> float:
    started = time.perf_counter()
    for pane in panes:
        opening = opened.pool.lease_model(pane.file.path, pane.context)
        try:
            while True:
                next(opening)
        except StopIteration as end:
            with end.value as lease:
                for _ in reply(lease.engine, pane.conversation, GREEDY, TOKENS, reproducible=True, alternatives=5):
                    pass
    return time.perf_counter() - started


def main() -> None:
    in_turn: list[float] = []
    single: list[float] = []
    speeds: dict[Mode, list[float]] = {"in turn": [], "at once": []}
    with tempfile.TemporaryDirectory() as folder, services() as opened:
        paths = [made(level, Path(folder)) for level in ("Q8_0", "Q4_0")]
        panes = [Pane(opened.library.find_file(str(path)), CONTEXT, Conversation().ask(STORY)) for path in paths]
        compared(opened, panes, "in turn")  # both are loaded from here on
        for _ in range(ROUNDS):
            single.append(asked_one_by_one(opened, panes))
            seconds, tokens = compared(opened, panes, "in turn")
            in_turn.append(seconds)
            speeds["in turn"].append(tokens / seconds)
            seconds, tokens = compared(opened, panes, "at once")
            speeds["at once"].append(tokens / seconds)
    ratio = statistics.median(both / singles for both, singles in zip(in_turn, single, strict=True))
    rows = [("two single chats, s", median_of(single)), ("two panes in turn, s", median_of(in_turn))]
    report("In turn", rows, ratio, "<= 1.05")
    ratio = statistics.median(a / b for a, b in zip(speeds["at once"], speeds["in turn"], strict=True))
    rows = [(f"{mode}, tok/s in all", median_of(values)) for mode, values in speeds.items()]
    report("At once", rows, ratio, ">= 0.95")


if __name__ == "__main__":
    main()
