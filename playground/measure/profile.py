"""Measures how the speed of a level holds: deep in a long context, for several chats, with other numbers of threads.

What limits it is read from the same figures: the bytes that a token reads, against how fast this computer's memory can
be read (a short probe); how the threads compare; and whether the computer became slower meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from playground.engine.local.lease import ModelLease
from playground.engine.local.pool import ModelPool
from playground.llama.kernel_speed import measure_memory_bandwidth
from playground.llama.params import ContextParameters
from playground.machine.cpus import read_processors, read_throttling
from playground.measure.speed import SpeedTest, speed_steps
from playground.text_format import gigabytes, percent, speed

Step = tuple[str, float, str]  # as measure/run.py yields them

_DEPTH_FACTOR: Final = 4  # from one depth to the next
_FIRST_DEPTH: Final = 1024
_NOISE: Final = 0.07  # a smaller difference of two speeds says nothing


@dataclass(frozen=True)
class ProfilePlan:
    """What a profile measures. deepest: the context, in tokens. chats: at most so many at once. threads: those to try.

    prompt_tokens, reply_tokens, repeats: of each test.
    """

    deepest: int = 16384
    chats: int = 4
    threads: tuple[int, ...] = ()
    prompt_tokens: int = 256
    reply_tokens: int = 64
    repeats: int = 2

    @property
    def depths(self) -> tuple[int, ...]:
        """0, 1024, 4096 … up to what the deepest context leaves room for.

        >>> ProfilePlan(deepest=16384).depths
        (0, 1024, 4096, 16000)
        """
        last = self.deepest - self.prompt_tokens - 128
        depths = [0]
        depth = _FIRST_DEPTH
        while depth * 2 < last:
            depths.append(depth)
            depth *= _DEPTH_FACTOR
        return (*depths, last) if last > depths[-1] else tuple(depths)

    @property
    def chat_counts(self) -> tuple[int, ...]:
        """2, 4, 8 … up to the most.

        >>> ProfilePlan(chats=6).chat_counts
        (2, 4, 6)
        """
        counts = [2**power for power in range(1, 7) if 2**power < self.chats]
        return (*counts, self.chats) if self.chats > 1 else ()

    @property
    def read_tokens(self) -> int:
        """How many tokens are read in all: the deepest context once, since each depth continues the one before."""
        return self.deepest + 2 * (self.repeats + 1) * self.prompt_tokens * len(self.depths)

    @property
    def written_tokens(self) -> int:
        tests = len(self.depths) + sum(self.chat_counts) + len(self.threads) + 1
        return tests * (self.repeats + 1) * self.reply_tokens


def usual_threads(used: int) -> tuple[int, ...]:
    """One, half, what the playground uses, and more of the hardware threads, which are often too many."""
    return tuple(sorted({1, max(1, used // 2), used, max(used, min(2 * used, read_processors().affinity))}))


class LeaseModel(Protocol):
    def __call__(self, context: ContextParameters) -> Generator[Step, None, ModelLease]: ...


def measure_profile(
    pool: ModelPool, lease_model: LeaseModel, context: ContextParameters, plan: ProfilePlan, read_bytes: float | None,
    stage: str,
) -> Generator[Step, None, dict[str, Any]]:  # fmt: skip
    """Yields progress; returns the figures. context: of one chat. read_bytes: of weights, for each token."""
    work = _Profile(plan, stage)
    before = read_throttling()
    lease = yield from lease_model(replace(context, context_size=plan.deepest, slots=1))
    for depth in plan.depths:
        yield from work.test(lease, SpeedTest("prompt", plan.prompt_tokens, depth=depth), pool.cores)
        yield from work.test(lease, SpeedTest("reply", plan.reply_tokens, depth=depth), pool.cores)
    is_on_cpu = not lease.engine.context.placement.is_whole_on_devices
    for threads in plan.threads if is_on_cpu else ():
        with pool.decoding_with(threads):
            yield from work.test(lease, SpeedTest("reply", plan.reply_tokens), threads)
    yield from work.test(lease, SpeedTest("reply", plan.reply_tokens), pool.cores)  # to see whether it became slower
    kv_bytes = sum(part.bytes for part in lease.plan.parts if part.kind == "kv_cache") / plan.deepest
    if plan.chat_counts:
        room = max(SpeedTest("reply", plan.reply_tokens, count).context_size for count in plan.chat_counts)
        lease = yield from lease_model(replace(context, context_size=room, slots=plan.chats))
        for count in plan.chat_counts:
            yield from work.test(lease, SpeedTest("reply", plan.reply_tokens, count), pool.cores)
    after = read_throttling()
    figures: dict[str, Any] = {
        "tests": work.rows,
        "used_threads": pool.cores,
        "read_bytes": read_bytes,
        "kv_bytes": kv_bytes,
        "memory_bandwidth": measure_memory_bandwidth(pool.cores) if is_on_cpu else None,
        "throttled_seconds": after.since(before).throttled_seconds if before and after else None,
    }
    return figures


class _Profile:
    """Collects the rows of a profile, and says how far it is."""

    def __init__(self, plan: ProfilePlan, stage: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self._repeats, self._stage = plan.repeats, stage
        self._tests = 2 * len(plan.depths) + len(plan.threads) + 1 + len(plan.chat_counts)
        self._done = 0

    def test(self, lease: ModelLease, test: SpeedTest, threads: int) -> Generator[Step, None, None]:
        result = None
        with closing(speed_steps(lease.engine, test, self._repeats)) as steps:
            for step in steps:
                result = step or result
                runs = len(result.runs) if result else 0
                yield f"{self._stage}: {test.name}", (self._done + runs / self._repeats) / self._tests, ""
        self._done += 1
        if result is not None:
            self.rows.append(
                {
                    "test": test.name, "kind": test.kind, "depth": test.depth, "concurrent": test.concurrent,
                    "threads": threads, "tokens_per_second": result.tokens_per_second, "deviation": result.deviation,
                    "disturbed": result.disturbed, "device": lease.plan.context.placement.name,
                }
            )  # fmt: skip


# --- what the figures say ---


@dataclass(frozen=True)
class SpeedRow:
    """One test of a profile, read from figures that may come from anybody's file."""

    kind: str
    depth: int
    concurrent: int
    threads: int
    tokens_per_second: float
    deviation: float | None
    disturbed: bool

    @property
    def test(self) -> str:
        """What was done: "writes a reply after 1,024 tokens", "writes a reply, 4 chats at once"."""
        what = "reads a prompt" if self.kind == "prompt" else "writes a reply"
        after = f" after {self.depth:,} tokens" if self.depth else ""
        return f"{what}{after}{f', {self.concurrent} chats at once' if self.concurrent > 1 else ''}"


def profile_rows(figures: Mapping[str, Any]) -> list[SpeedRow]:
    """What can be read of the tests."""
    found = figures.get("tests")
    rows = []
    for each in found if isinstance(found, list) else []:
        try:
            deviation = each["deviation"]
            row = SpeedRow(
                str(each["kind"]), int(each["depth"]), int(each["concurrent"]), int(each["threads"]),
                float(each["tokens_per_second"]), None if deviation is None else float(deviation),
                bool(each["disturbed"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if 0 < row.tokens_per_second < 1e9 and 0 <= row.depth < 1 << 40:
            rows.append(row)
    return rows


def replies_by_depth(rows: Sequence[SpeedRow], threads: int) -> list[SpeedRow]:
    """The replies of one chat with the usual threads, each depth once, the first measurement of it."""
    found: dict[int, SpeedRow] = {}
    for row in rows:
        if row.kind == "reply" and row.concurrent == 1 and row.threads == threads:
            found.setdefault(row.depth, row)
    return [found[depth] for depth in sorted(found)]


def profile_sentences(figures: Mapping[str, Any]) -> list[str]:
    """How much slower a long context is, what several chats give, which threads are best, and what limits it."""
    rows, used = profile_rows(figures), _number(figures, "used_threads")
    deep = replies_by_depth(rows, int(used or 0))
    sentences = [_of_depth(deep), _of_chats(rows, deep), _of_threads(rows, int(used or 0)), _of_limit(figures, deep)]
    return [sentence for sentence in [*sentences, *_of_slowing(rows, figures, int(used or 0))] if sentence]


def _of_depth(deep: Sequence[SpeedRow]) -> str:
    if len(deep) < 2:
        return ""
    first, last = deep[0], deep[-1]
    change = 1 - last.tokens_per_second / first.tokens_per_second
    after = f"After {last.depth:,} tokens of context a reply is written"
    if change < _NOISE:
        return f"{after} as fast as at the beginning ({speed(last.tokens_per_second)})."
    return (
        f"{after} {percent(change)} slower: {speed(last.tokens_per_second)} instead of "
        f"{speed(first.tokens_per_second)}."
    )


def _of_chats(rows: Sequence[SpeedRow], deep: Sequence[SpeedRow]) -> str:
    several = max((row for row in rows if row.concurrent > 1), key=lambda row: row.concurrent, default=None)
    if several is None or not deep:
        return ""
    gain = several.tokens_per_second / deep[0].tokens_per_second
    return (
        f"{several.concurrent} chats at once get {speed(several.tokens_per_second)} in all, {gain:.1f} times one chat; "
        f"each has {speed(several.tokens_per_second / several.concurrent)}."
    )


def _of_threads(rows: Sequence[SpeedRow], used: int) -> str:
    speeds: dict[int, float] = {}
    for row in rows:
        if row.kind == "reply" and row.concurrent == 1 and not row.depth:
            speeds[row.threads] = max(speeds.get(row.threads, 0.0), row.tokens_per_second)
    if used not in speeds or len(speeds) < 2:
        return ""
    best = max(speeds, key=lambda threads: speeds[threads])
    gain = speeds[best] / speeds[used] - 1
    if gain > _NOISE:
        return f"{best} threads are {percent(gain)} faster than the {used} that the playground uses here."
    too_many = [(threads, 1 - value / speeds[used]) for threads, value in speeds.items() if threads > used]
    slower = next(((threads, loss) for threads, loss in sorted(too_many) if loss > _NOISE), None)
    if slower:
        return f"{used} threads are right: {slower[0]} are too many, and {percent(slower[1])} slower."
    return f"{used} threads are right: no other number is faster."


def limit_share(figures: Mapping[str, Any], row: SpeedRow) -> float | None:
    """How much of the memory's bandwidth a reply uses, by what each token must read; None where it is not known.

    It is also the part of a token's time that reading would take if nothing else were done.
    """
    bandwidth, weights = _number(figures, "memory_bandwidth"), _number(figures, "read_bytes")
    if not bandwidth or not weights:
        return None
    return row.tokens_per_second * (weights + row.depth * (_number(figures, "kv_bytes") or 0.0)) / bandwidth


def _of_limit(figures: Mapping[str, Any], deep: Sequence[SpeedRow]) -> str:
    share = limit_share(figures, deep[0]) if deep else None
    bandwidth = _number(figures, "memory_bandwidth")
    if share is None or not bandwidth:
        return ""
    read = f"Each token reads {gigabytes(round(_number(figures, 'read_bytes') or 0))} of weights. With the"
    measured = f"{read} {bandwidth / 1e9:.1f} GB/s that this memory gives, that takes {min(share, 1):.0%} of its time"
    if share > 0.5:
        return f"{measured}, most of it: the bandwidth is the limit, so fewer bits make it faster."
    return f"{measured}; arithmetic and the rest take more, so fewer bits alone gain little."


def _of_slowing(rows: Sequence[SpeedRow], figures: Mapping[str, Any], used: int) -> list[str]:
    """Throttling: by a container's quota, or by heat."""
    sentences = []
    throttled = _number(figures, "throttled_seconds")
    if throttled and throttled > 0.5:
        sentences.append(f"The container’s limit of processor time stopped it for {throttled:.1f} s meanwhile.")
    same = [
        row for row in rows if (row.kind, row.depth, row.concurrent, row.threads) == ("reply", 0, 1, used)
    ]  # fmt: skip
    if len(same) > 1 and (loss := 1 - same[-1].tokens_per_second / same[0].tokens_per_second) > 2 * _NOISE:
        why = "something else had the processor" if same[-1].disturbed else "it may have become too warm"
        sentences.append(f"At the end the same test was {percent(loss)} slower than in the beginning: {why}.")
    return sentences


def _number(figures: Mapping[str, Any], name: str) -> float | None:
    value = figures.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
