"""24 programs at once at `/v1`, for two minutes: whether each request gets a whole answer, and at what speed.

Half of the clients stream. Each asks again as soon as it has its answer. Nothing is compared with a peer: the ratio is
that of whole answers to requests.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError

from benchmarks.bench import report, run_main
from tests.support.playground_process import PlaygroundProcess

CLIENTS = 24
SECONDS = 120.0
TOKENS = 48


@dataclass
class Outcome:
    """What came of all requests. lost: errors and answers without an end, by kind. seconds: of each whole answer."""

    asked: int = 0
    tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


async def ask(client: AsyncOpenAI, number: int, turn: int) -> tuple[str | None, int]:
    """The finish reason of one reply, and its tokens."""
    text = f"Client {number}, turn {turn}: tell me a short story about a fox."
    if number % 2:
        whole = await client.chat.completions.create(
            model="starter", messages=[{"role": "user", "content": text}], max_tokens=TOKENS
        )
        return whole.choices[0].finish_reason, whole.usage.completion_tokens if whole.usage else 0
    reason, tokens = None, 0
    stream = await client.chat.completions.create(
        model="starter", messages=[{"role": "user", "content": text}], max_tokens=TOKENS, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    async for chunk in stream:
        reason = (chunk.choices[0].finish_reason if chunk.choices else None) or reason
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return reason, tokens


async def keep_asking(client: AsyncOpenAI, number: int, until: float, outcome: Outcome) -> None:
    turn = 0
    while time.monotonic() < until:
        turn, started = turn + 1, time.monotonic()
        outcome.asked += 1
        try:
            reason, tokens = await ask(client, number, turn)
        except OpenAIError as error:
            outcome.lost[type(error).__name__] += 1
            continue
        if reason is None:
            outcome.lost["no end"] += 1
            continue
        outcome.tokens += tokens
        outcome.seconds.append(time.monotonic() - started)


async def run_clients(address: str, clients: int, seconds: float) -> Outcome:
    outcome, until = Outcome(), time.monotonic() + seconds
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=600) as client:
        await asyncio.gather(*(keep_asking(client, number, until, outcome) for number in range(clients)))
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, PlaygroundProcess(Path(home)) as playground:
        started = time.monotonic()
        outcome = asyncio.run(run_clients(playground.address, arguments.clients, arguments.seconds))
        seconds = time.monotonic() - started
    print("Lost:", dict(outcome.lost) or "nothing")
    rows = [
        ("requests", f"{outcome.asked}"),
        ("whole answers", f"{len(outcome.seconds)}"),
        ("tokens per second in all", f"{outcome.tokens / seconds:.1f}"),
        ("seconds for an answer, median", f"{statistics.median(outcome.seconds):.1f}"),
        ("seconds for an answer, longest", f"{max(outcome.seconds):.1f}"),
    ]
    ratio = len(outcome.seconds) / outcome.asked
    report(f"{arguments.clients} programs at once for {arguments.seconds:.0f} s", rows, ratio, "1")


if __name__ == "__main__":
    run_main(main)
