"""What a comparison means, in one sentence, and its four figures: file, memory, speed, and words in common.

Pure functions of facts. The same words serve a comparison of this computer, a pair that was not asked yet, and the
recorded example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from playground.chat.comparison import LEAST_TOKENS
from playground.text_format import UNKNOWN, counted, gigabytes_apart, in_gibibytes, percent, short_tokens

NotCompared = Literal["", "not asked", "short", "busy", "shared", "noise"]  # why no speed is called better

_TIMES_FROM: Final = 1.5  # from this ratio on, "times as fast" reads better than a per cent

Pair = tuple[int | None, int | None]


@dataclass(frozen=True)
class ResultFacts:
    """Of A and B. Sizes in bytes, speeds in tokens per second; None for what is unknown.

    not_compared: why none of the two speeds is called better, "" if one is. noise: the difference in speed that two
    runs of one model showed, or the usual one. agreement: the fraction of A's tokens that B would have chosen too;
    agreement_note: why it is unknown. checks: of an answer to the question; passed: how many of them each passes.
    common_tokens: before the first difference. can_go_lower: a level with fewer bits than B stands on the dial.
    is_recorded: nothing ran here yet.
    """

    names: tuple[str, str] = ("A", "B")
    file_bytes: Pair = (None, None)
    memory_bytes: Pair = (None, None)
    context_size: int | None = None
    speeds: tuple[float | None, float | None] = (None, None)
    tokens: Pair = (None, None)
    not_compared: NotCompared = "not asked"
    noise: float = 0.05
    noise_is_measured: bool = False
    agreement: float | None = None
    kl_divergence: float | None = None
    agreement_note: str = ""
    is_same: bool | None = None
    checks: int = 0
    passed: tuple[int, int] = (0, 0)
    common_tokens: int | None = None
    can_go_lower: bool = False
    is_recorded: bool = False


@dataclass(frozen=True)
class Tile:
    """One figure. shares: of the larger of both, for two bars. is_quiet: the difference means nothing.

    hint: the figures in other words, "" if there are none.
    """

    title: str
    headline: str
    detail: str
    shares: tuple[float, float] | None = None
    is_quiet: bool = False
    hint: str = ""


def result_sentence(facts: ResultFacts) -> str:
    """`Same answer with a 36% smaller file.` Empty before both have answered."""
    first, second = facts.names
    smaller = _size_clause(facts.file_bytes)
    cost = f", with {smaller}" if smaller else ""
    right_a, right_b = facts.passed
    if facts.is_same is None:
        return ""
    if facts.is_same:
        return f"Same answer{cost}." if smaller else "Same answer, word for word."
    if facts.checks and right_a == right_b == facts.checks:
        return f"Both get it right, {second}{cost.removeprefix(',')}." if smaller else "Both get it right."
    if facts.checks == 1 and right_a > right_b:
        return f"{first} gets it right. {second} does not{cost}."
    if facts.checks == 1 and right_b > right_a:
        return f"{second} gets it right and {first} does not: with few questions, luck decides."
    if facts.checks == 1:
        return "Neither gets it right: this question is too hard for this model at both levels."
    if facts.checks:
        return f"{first} gets {right_a} of {facts.checks} right, {second} gets {right_b}{cost}."
    if facts.common_tokens:
        return f"The answers are the same for {counted(facts.common_tokens, 'token')}, then they differ."
    return "The answers differ from the first word on."


def next_step(facts: ResultFacts) -> str:
    """What to try next, in a sentence; empty before both have answered here."""
    if facts.is_same is None or facts.is_recorded:
        return ""
    right_a, right_b = facts.passed
    if facts.is_same or (facts.checks and right_a == right_b == facts.checks):
        return "Move B to fewer bits until it breaks." if facts.can_go_lower else "Try a harder question."
    if right_a > right_b:
        return "Move B one step back: does the right answer return?"
    if facts.checks and right_a == right_b:
        return "Try an easier one, or a larger model."
    return "Point at a marked word to see what each model would have said."


def _size_clause(sizes: Pair) -> str:
    """`a 36% smaller file`; "" where the sizes are unknown or equal."""
    first, second = sizes
    if not first or not second or first == second:
        return ""
    if second < first:
        return f"a {percent(1 - second / first)} smaller file"
    return f"a {percent(second / first - 1)} larger file"


# --- the four figures ---


def result_tiles(facts: ResultFacts) -> tuple[Tile, Tile, Tile, Tile]:
    """File, memory, speed, and the words that B would have chosen too."""
    context = f" with {short_tokens(facts.context_size)} context" if facts.context_size else ""
    return (
        _bytes_tile("File", facts.file_bytes, ""),
        _bytes_tile(f"Memory{context}", facts.memory_bytes, ", planned"),
        _speed_tile(facts),
        _agreement_tile(facts),
    )


def _bytes_tile(title: str, sizes: Pair, how: str) -> Tile:
    first, second = sizes
    if not first or not second:
        return Tile(title, UNKNOWN, "unknown")
    texts = gigabytes_apart(first, second)
    largest = max(first, second)
    change = "the same" if first == second else f"{'−' if second < first else '+'}{percent(abs(second / first - 1))}"
    detail, hint = f"{texts[0]} → {texts[1]}{how}", f"{in_gibibytes(first)} → {in_gibibytes(second)}"
    return Tile(title, change, detail, (first / largest, second / largest), first == second, hint)


def _speed_tile(facts: ResultFacts) -> Tile:
    first, second = facts.speeds
    if not first or not second:
        detail = "shows after both have answered" if facts.not_compared == "not asked" else "unknown"
        if facts.is_recorded:
            detail = "not recorded: the computer was busy"
        return Tile("Speed", UNKNOWN, detail)
    shares = first / max(first, second), second / max(first, second)
    measured = f"{_rate(first)} → {_rate(second)} tok/s"
    if facts.not_compared:
        headline = "too short to tell" if facts.not_compared == "short" else "no clear difference"
        why = {
            "short": f"{_fewest(facts.tokens)} of {LEAST_TOKENS} tokens needed",
            "busy": "this computer is busy",
            "shared": "both shared the cores",
            "noise": f"±{percent(facts.noise)} is noise",
        }.get(facts.not_compared, "")
        return Tile("Speed", headline, f"{measured}; {why}", shares, is_quiet=True)
    ratio = max(first, second) / min(first, second)
    is_faster = second > first
    if ratio >= _TIMES_FROM:
        headline = f"{ratio:.1f}× {'as fast' if is_faster else 'slower'}"
    else:
        headline = f"{'+' if is_faster else '−'}{percent(abs(second / first - 1))}"
    noise = f"±{percent(facts.noise)} {'measured' if facts.noise_is_measured else 'usual'} noise"
    return Tile("Speed", headline, f"{measured}; {noise}", shares)


def _agreement_tile(facts: ResultFacts) -> Tile:
    title = "Would have said the same word"
    if facts.agreement is None:
        usual = "shows after both have answered" if facts.is_same is None else "not measured yet"
        return Tile(title, UNKNOWN, facts.agreement_note or usual)
    divergence = "" if facts.kl_divergence is None else f"KL divergence {nats(facts.kl_divergence)}"
    return Tile(title, f"{percent(facts.agreement)} of A’s words", divergence, (1.0, facts.agreement))


def nats(divergence: float) -> str:
    """A KL divergence with the digits that matter: "0", "0.0031", "1.42"; "0" only for exactly 0."""
    if divergence == 0:
        return "0"
    if abs(divergence) < 1e-4:
        return "under 0.0001"
    return f"{divergence:.4f}" if divergence < 0.1 else f"{divergence:.2f}"


def _rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 99.5 else f"{tokens_per_second:.1f}"


def _fewest(tokens: Pair) -> str:
    known = [number for number in tokens if number is not None]
    return str(min(known)) if known else UNKNOWN
