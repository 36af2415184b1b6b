"""Measures the speed of a loaded model: prefill (reading a prompt) and decode (writing a reply), over several runs.

All times come from the engine's Timings. Prefill ("pp512": a prompt of 512 tokens) evaluates many tokens at once and is
limited by arithmetic. Decode ("tg128": 128 tokens generated) produces one token after the other, each of which reads
all weights once, so it is limited by memory bandwidth; fewer bits per weight speed it up most.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Final, Literal

from playground.engine.protocol import Finished, ReplyRequest
from playground.engine.timings import Timings
from playground.llama.sampling_extras import GREEDY

if TYPE_CHECKING:
    from playground.engine.local.client import LocalEngine

# Ordinary English, repeated for longer prompts.
PROSE: Final = (
    "The harbour was quiet when the first boats came in. Nets lay drying on the wall, and a boy counted the crates as "
    "they were carried up the steps: eleven of herring, four of mackerel, one of something nobody could name. His "
    "grandmother wrote the numbers into a blue book, because she trusted paper more than memory, and memory more than "
    "fishermen. By noon the sun had reached the far side of the square. The baker closed his shutters, two dogs argued "
    "about the shade under the cart, and somewhere above the roofs a radio explained tomorrow's weather to itself. "
)
_LOST_TOKENS: Final = 8  # of a filled context: its last words may be divided otherwise before other ones
OPENING: Final = "A long story about an old lighthouse, told from its first day to its last. Chapter one. "


_Work = Generator[None, None, list[Timings]]


@dataclass(frozen=True)
class SpeedTest:
    """Reading a prompt, or writing a reply, of `tokens` tokens. concurrent: replies written at the same time.

    depth: tokens that the context holds before.
    """

    kind: Literal["prompt", "reply"]
    tokens: int
    concurrent: int = 1
    depth: int = 0

    @property
    def name(self) -> str:
        """The name in llama.cpp's llama-bench: "pp512", "tg128", "tg128 @ d4096"; "tg128 x8" for eight replies."""
        short = f"{'pp' if self.kind == 'prompt' else 'tg'}{self.tokens}"
        at_depth = f" @ d{self.depth}" if self.depth else ""
        return f"{short}{at_depth}{f' x{self.concurrent}' if self.concurrent > 1 else ''}"

    @property
    def context_size(self) -> int:
        """Tokens of the KV cache that the test needs, the opening included."""
        return self.concurrent * (self.depth + self.tokens + 64)


@dataclass(frozen=True)
class SpeedResult:
    """The runs of a test so far: tokens per second of each, and the mean number of tokens of a run.

    disturbed: something else had the cores during at least one run.
    """

    test: SpeedTest
    runs: tuple[float, ...]
    mean_tokens: float
    disturbed: bool = False

    @property
    def tokens_per_second(self) -> float:
        return fmean(self.runs)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation; None for one run."""
        return stdev(self.runs) if len(self.runs) > 1 else None

    @property
    def is_shortened(self) -> bool:
        """Whether the model ended its replies early, so that the speed is that of fewer tokens."""
        return self.test.kind == "reply" and self.mean_tokens < self.test.tokens


def measure_speed(engine: LocalEngine, test: SpeedTest, repeat: int) -> Iterator[SpeedResult]:
    """Yields the result so far after each of `repeat` runs; a warm-up run before them does not count.

    Closing the iterator cancels the run. Raises what the engine raises.
    """
    return (result for result in speed_steps(engine, test, repeat) if result is not None)


def speed_steps(engine: LocalEngine, test: SpeedTest, repeat: int) -> Generator[SpeedResult | None, None, None]:
    """The same, with None whenever the model has read or written a little: the moments at which it can be closed.

    At a depth the context is filled first, once, and each run begins behind it. A model whose cache cannot go back
    (a recurrent one) would read everything again, so that its run says nothing of the depth: it is left out.
    """
    runs: list[float] = []
    tokens: list[int] = []
    disturbed = False
    if test.depth:
        yield from _work(engine, _context_of(engine, test.depth), max_tokens=1)
    for number in range(repeat + 1):
        work = _prompt_run(engine, test, number) if test.kind == "prompt" else _reply_run(engine, test)
        timings = yield from work
        is_there = all((each.cached_tokens or 0) >= test.depth - _LOST_TOKENS for each in timings)
        speeds = [speed for each in timings if (speed := _speed_of(test, each))]
        if number > 0 and speeds and is_there:
            runs.append(sum(speeds))
            tokens += [_tokens_of(test, each) for each in timings]
            disturbed = disturbed or any(each.disturbed for each in timings)
            yield SpeedResult(test, tuple(runs), fmean(tokens), disturbed)


def _tokens_of(test: SpeedTest, timings: Timings) -> int:
    """Those that were evaluated, without what was in the cache."""
    if test.kind == "prompt":
        return (timings.prompt_tokens or 0) - ((timings.cached_tokens or 0) if test.depth else 0)
    return timings.generated_tokens or 0


def _speed_of(test: SpeedTest, timings: Timings) -> float | None:
    """Of a reply. The speeds of concurrent replies are added up, because the same decode steps serve them all."""
    return timings.prompt_speed if test.kind == "prompt" else timings.generation_speed


def prompt_with_tokens(engine: LocalEngine, tokens: int, opening: str) -> str:
    """A text of `tokens` tokens in this model's vocabulary, or one fewer if no prefix has exactly that many."""
    text = opening + PROSE * (tokens * 8 // len(PROSE) + 2)  # no vocabulary has 8 letters a token on prose
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if engine.count_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _context_of(engine: LocalEngine, depth: int) -> str:
    return prompt_with_tokens(engine, depth, "")


def _prompt_run(engine: LocalEngine, test: SpeedTest, number: int) -> _Work:
    """Each run starts with other words, so that nothing of the prompt is in the cache."""
    prompt = prompt_with_tokens(engine, test.tokens, f"{number * 7919 + 17} tales. ")
    before = _context_of(engine, test.depth) if test.depth else ""
    return (yield from _work(engine, before + prompt, max_tokens=1))


def _reply_run(engine: LocalEngine, test: SpeedTest) -> _Work:
    prompt = _context_of(engine, test.depth) if test.depth else OPENING
    return (yield from _work(engine, prompt, test.tokens, test.concurrent))


def _work(engine: LocalEngine, prompt: str, max_tokens: int, concurrent: int = 1) -> _Work:
    """Starts all replies before reading any; yields at each event. They are ordinary ones: a chat has these speeds.

    Each run is that of the same chats, so that no text of an earlier run stays in the KV cache beside them.
    """
    found: list[Timings] = []
    with ExitStack() as streams:
        replies = [
            streams.enter_context(engine.start_reply(ReplyRequest(prompt, GREEDY, max_tokens, chat=f"speed {number}")))
            for number in range(concurrent)
        ]
        for reply in replies:
            for event in reply:
                if isinstance(event, Finished):
                    found.append(event.timings)
                yield None
    return found
