"""Several visitors at once at the real playground, its models' processes killed under them: nothing is lost or left.

The visitors are those of benchmarks/soak.py, which does the same with more of them for ten minutes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.open_page import page_client
from benchmarks.soak import SETTINGS, Leftover, Soak, wrong_in
from tests.support.playground_process import PlaygroundProcess

pytestmark = pytest.mark.soak

VISITORS = 6
REQUESTS = 18
KILLED = 2
ENDINGS = {"answered", "refused", "left"}  # of requests: it goes on until each was there
PATIENCE_SECONDS = 300  # for what takes 20 s on two cores that are not too busy
# Of some twenty visits, threads and all: what one page keeps for ever, half a MiB, does not show; ten-fold leaks do.
MOST_GROWTH_BYTES = 60 << 20


async def visited(soak: Soak) -> tuple[Leftover, Leftover]:
    await soak.first_visit()
    before = await soak.count_at_rest(forget_seconds=0)

    def more() -> bool:
        endings = {outcome.ending for outcome in soak.outcomes}
        return len(soak.outcomes) < REQUESTS or soak.killed < KILLED or not endings >= ENDINGS

    await soak.run_round(more)
    return before, await soak.count_at_rest(before.census)


def test_visitors_and_killed_models_lose_no_request_and_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    async def everything() -> tuple[Soak, Leftover, Leftover]:
        async with page_client(playground.address) as client:
            soak = Soak(client, playground.pid, tmp_path, VISITORS, seed=7, kill_after=(4, 10))
            return soak, *await asyncio.wait_for(visited(soak), PATIENCE_SECONDS)

    (tmp_path / "tmp").mkdir()
    settings = {**SETTINGS, "PLAYGROUND_IDLE_SECONDS": "1", "TMPDIR": str(tmp_path / "tmp")}
    with PlaygroundProcess(tmp_path, settings) as playground:
        soak, before, after = asyncio.run(everything())
    assert wrong_in(soak, before, after, playground.output) == [], playground.output
    assert after.census.memory_bytes - before.census.memory_bytes < MOST_GROWTH_BYTES
