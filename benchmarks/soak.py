"""Many visitors at the playground for some minutes, its models' processes killed at random: is anything left behind?

The visitors chat, compare, stop, close tabs in the middle of a reply, reload, and ask as programs do, over the page's
own protocol (open_page.py), with limits so low that many requests are refused. After a warm-up round and after the
long one everybody leaves, and what the playground then holds is counted from outside (census.py). It passes if every
request had an answer, a refusal or its own cancel, nothing is held that was not held before, and memory has stayed
flat. The random choices are seeded; which reply a kill meets is not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import psutil

from benchmarks.bench import report, run_main
from benchmarks.census import Census, busy_seconds, count, gauges, workers
from benchmarks.open_page import API, page_client, read_layout
from benchmarks.soak_visitors import MOST_MESSAGE_CHARACTERS, Outcome, Visitor
from tests.support.playground_process import PlaygroundProcess

SETTINGS: Final[Mapping[str, str]] = {
    "PLAYGROUND_METRICS": "true",
    "PLAYGROUND_PROXIES": "1",  # each visitor comes from an address of their own
    "PLAYGROUND_SLOTS": "4",
    "PLAYGROUND_MAX_REPLIES": "14",
    "PLAYGROUND_MAX_REPLIES_PER_VISITOR": "2",
    "PLAYGROUND_MAX_REPLY_TOKENS": "128",
    "PLAYGROUND_MAX_MESSAGE_CHARACTERS": str(MOST_MESSAGE_CHARACTERS),
    "PLAYGROUND_MAX_REPLY_SECONDS": "20",
    "PLAYGROUND_MAX_WAIT_SECONDS": "30",
    "PLAYGROUND_TURN_SECONDS": "5",
    "PLAYGROUND_IDLE_SECONDS": "3",
}
PAUSE_SECONDS: Final = 2.0  # that a visitor thinks, so that not everybody is refused all the time
MOST_GROWTH: Final = 1.05  # of memory, from the end of the warm-up to the end
REST_SECONDS: Final = 60.0  # for the last run to end and the last model to be unloaded
FORGET_SECONDS: Final = 45.0  # beyond that, for closed pages to be forgotten and idle threads to end
LOOK_SECONDS: Final = 0.5
_BUSY_SHARE: Final = 0.2  # of a core: a model that decodes uses far more, one that waits nearly none


@dataclass(frozen=True)
class Leftover:
    """What was held when everybody had gone, and what still worked that should not have."""

    census: Census
    under_way: float  # runs
    busy_models: tuple[str, ...]  # models that decoded although nobody waited for them


class Soak:
    """Rounds of visitors at a running playground, and the count of what they leave behind."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        pid: int,
        home: Path,
        visitors: int,
        seed: int,
        kill_after: tuple[int, int],
        pause_seconds: float = 0.0,
    ) -> None:
        """kill_after: a model's process is killed after so many requests have ended, at least and at most."""
        self.outcomes: list[Outcome] = []
        self.killed = 0
        self._client, self._pid, self._home, self._visitors, self._seed = client, pid, home, visitors, seed
        self._kill_after, self._pause_seconds = kill_after, pause_seconds
        self._rng = random.Random(f"killer {seed}")
        self._next_kill = self._rng.randint(*kill_after)
        self._rounds = 0

    async def first_visit(self) -> None:
        """One visitor before the first count, so that everything that is made or imported once is there."""
        (visitor,) = await self._people(1)
        await visitor.compare_once()

    async def run_round(self, more: Callable[[], bool]) -> None:
        """Everybody comes, does things for as long as there is more to do, and leaves."""
        await asyncio.gather(*(visitor.visit(more) for visitor in await self._people(self._visitors)))

    async def _people(self, number: int) -> list[Visitor]:
        self._rounds += 1
        layout = await read_layout(self._client)
        dice = [random.Random(f"{self._seed} {self._rounds} {person}") for person in range(number)]
        return [
            Visitor(self._client, layout, person, rng, self._note, self._pause_seconds)
            for person, rng in enumerate(dice)
        ]

    async def count_at_rest(self, before: Census | None = None, forget_seconds: float = FORGET_SECONDS) -> Leftover:
        """The count once nothing is under way: as soon as it is no more than before, or after `forget_seconds`.

        forget_seconds: how long closed pages and idle threads may take.
        """
        until = time.monotonic() + REST_SECONDS
        seen: dict[int, float] = {}
        busy_models: dict[int, str] = {}
        while True:
            under_way = await self._under_way()
            models = {model.pid: busy_seconds(model) for model in workers(self._pid)}
            if not under_way:
                for pid, seconds in models.items():
                    if pid in seen and seconds - seen[pid] > _BUSY_SHARE * LOOK_SECONDS:
                        busy_models[pid] = f"process {pid}"
                    elif pid in seen:
                        busy_models.pop(pid, None)
                seen = models
                if not models:
                    break
            if time.monotonic() > until:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return Leftover(await self._least(before, forget_seconds), under_way, tuple(busy_models.values()))

    async def _least(self, before: Census | None, seconds: float) -> Census:
        until = time.monotonic() + seconds
        while True:
            census = count(self._pid, self._home)
            if (before and not census.leaks(before)) or time.monotonic() > until:
                return census
            await self._client.get("/config")  # a server ends idle threads when it is asked for something
            await asyncio.sleep(LOOK_SECONDS)

    async def _under_way(self) -> float:
        sums = gauges((await self._client.get(f"{API}/metrics")).text)
        return sums["playground_runs"]

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._next_kill -= 1
        if self._next_kill <= 0 and self._kill_one():
            self._next_kill = self._rng.randint(*self._kill_after)

    def _kill_one(self) -> bool:
        """Kill a process that the playground started, a model's if there is one. False if there is none."""
        processes = workers(self._pid) or psutil.Process(self._pid).children()
        if not processes:
            return False
        with suppress(psutil.Error):
            self._rng.choice(processes).send_signal(signal.SIGKILL)
            self.killed += 1
        return True


def tracebacks(output: str) -> int:
    """How many exceptions nobody caught."""
    return output.count("Traceback (most recent call last)")


def wrong_in(soak: Soak, before: Leftover, after: Leftover, output: str) -> list[str]:
    """Everything that went wrong except for memory. output: what the playground printed."""
    wrong = after.census.leaks(before.census)
    wrong += [f"lost: {one.what}: {one.words}" for one in soak.outcomes if one.ending == "lost"]
    wrong += [f"{after.under_way:.0f} runs under way that nobody waits for"] if after.under_way else []
    wrong += [f"still decoding: {which}" for which in after.busy_models]
    wrong += [f"{tracebacks(output)} tracebacks in the log"] if tracebacks(output) else []
    return wrong


def endings(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """A row for each kind of ending, and one for each of the most frequent refusals."""
    rows = [(ending, f"{number:,}") for ending, number in Counter(one.ending for one in outcomes).most_common()]
    refusals = Counter(outcome.words for outcome in outcomes if outcome.ending == "refused")
    return rows + [(f"  {number}×", " ".join(words.split())[-120:]) for words, number in refusals.most_common(12)]


async def _run_soak(soak: Soak, minutes: float, warm_up_minutes: float) -> tuple[Leftover, Leftover]:
    async def run_for(length: float) -> None:
        until = time.monotonic() + 60 * length
        await asyncio.wait_for(soak.run_round(lambda: time.monotonic() < until), 60 * length + 600)

    await soak.first_visit()
    await run_for(warm_up_minutes)
    before = await soak.count_at_rest()
    print(f"warm: {before.census}", flush=True)
    soak.outcomes.clear()
    await run_for(minutes)
    return before, await soak.count_at_rest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=2, help="minutes before what is held is first counted")
    parser.add_argument("--visitors", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="a file for what the playground printed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "tmp").mkdir()
        with PlaygroundProcess(home, {**SETTINGS, "TMPDIR": str(home / "tmp")}) as playground:

            async def everything() -> tuple[Soak, Leftover, Leftover]:
                async with page_client(playground.address) as client:
                    soak = Soak(client, playground.pid, home, asked.visitors, asked.seed, (8, 40), PAUSE_SECONDS)
                    return soak, *await _run_soak(soak, asked.minutes, asked.warm_up)

            soak, before, after = asyncio.run(everything())
            children = psutil.Process(playground.pid).children(recursive=True)
            playground.end()
            _, survivors = psutil.wait_procs(children, timeout=5)
        output = playground.output
    if asked.log:
        asked.log.write_text(output)
    wrong = wrong_in(soak, before, after, output)
    wrong += [f"{len(survivors)} processes outlived the playground"] if survivors else []
    growth = after.census.memory_bytes / before.census.memory_bytes
    wrong += [f"memory grew to {growth:.3f} of what it was"] if growth > MOST_GROWTH else []
    _print_report(soak, asked, before, after, wrong)
    return 1 if wrong else 0


def _print_report(soak: Soak, asked: argparse.Namespace, before: Leftover, after: Leftover, wrong: list[str]) -> None:
    then, now = before.census, after.census
    rows = [
        ("requests ended", f"{len(soak.outcomes):,}, {soak.killed} processes killed"),
        *endings(soak.outcomes),
        ("threads", f"{now.threads}, after the warm-up {then.threads}"),
        ("open files", f"{now.open_files}, after the warm-up {then.open_files}"),
        ("children", f"{now.workers + now.other_children}, after the warm-up {then.workers + then.other_children}"),
        ("files on the disk", f"{now.files_on_disk}, after the warm-up {then.files_on_disk}"),
        ("memory, MiB", f"{now.memory_bytes / 2**20:.1f}, after the warm-up {then.memory_bytes / 2**20:.1f}"),
        *(("does not hold", words) for words in wrong[:40]),
        ("verdict", "does not hold" if wrong else "holds"),
    ]
    title = f"{asked.visitors} visitors for {asked.minutes:g} minutes, seed {asked.seed}"
    report(title, rows, now.memory_bytes / then.memory_bytes, f"at most {MOST_GROWTH}")


if __name__ == "__main__":
    run_main(main)
