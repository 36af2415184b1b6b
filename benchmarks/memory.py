"""The plan, made before a byte of weights was read, beside the measured memory with the cache filled.

For the starter as shipped, a level with repacked weights (Q4_0) and one without (Q8_0), at three contexts each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.bench import FILLER, ended, engine_on, made, report, run_main, starter, turn
from playground.engine.protocol import ReplyRequest
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY

CONTEXTS = (1024, 4096, 8192)
MIB = 1024 * 1024


def filled(path: Path, context: ContextParameters) -> int:
    """Resident bytes once nearly every cell of the cache holds a token."""
    with engine_on(path, context) as engine:
        per_filler = engine.count_tokens(FILLER * 10) / 10
        repeats = int((context.context_size - 60) / per_filler)
        end = ended(list(engine.start_reply(ReplyRequest(turn(FILLER * repeats), GREEDY, max_tokens=None))))
    assert end.memory is not None
    return end.memory.resident


def main() -> None:
    rows: list[tuple[str, str]] = []
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder, Planner() as planner:
        levels = {"Q4_1 as shipped": starter(), **{level: made(level, Path(folder)) for level in ("Q4_0", "Q8_0")}}
        for name, path in levels.items():
            for size in CONTEXTS:
                context = ContextParameters(size)
                planned, measured = planner.plan(path, context).total, filled(path, context)
                allowed = max(0.03 * measured, 10 * MIB)
                worst = max(worst, abs(planned - measured) / allowed)
                figures = f"planned {planned / MIB:6.1f} MiB, measured {measured / MIB:6.1f} MiB"
                rows.append((f"{name}, {size} tokens", f"{figures}, {planned / measured - 1:+.1%}"))
    report("Planned beside measured memory (ratio: the worst gap to 3 % or 10 MiB)", rows, worst, "<= 1")


if __name__ == "__main__":
    run_main(main)
