"""The speed of a reply over its length: tokens per second between one update of the page and the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from playground.engine.protocol import Token

MOST_POINTS: Final = 60  # of a long reply the older half is drawn in half as many points
WORDS_PER_MINUTE: Final = (175, 300)  # of most adults who read English non-fiction silently: Brysbaert 2019
WORDS_PER_TOKEN: Final = 0.82  # of English prose, measured
READING_SPEED: Final = tuple(words / 60 / WORDS_PER_TOKEN for words in WORDS_PER_MINUTE)  # tokens per second


@dataclass(frozen=True)
class SpeedTrace:
    """speeds: tokens per second of each stretch, the oldest first. tokens, seconds: decoded until now."""

    speeds: tuple[float, ...] = ()
    tokens: int = 0
    seconds: float = 0.0

    def with_token(self, token: Token | None) -> SpeedTrace:
        """With the stretch that ends with this token; the engine's own times, not the page's."""
        if token is None or not token.tokens_per_second:
            return self
        decoded = token.count - 1  # the first token comes with the prompt
        seconds = decoded / token.tokens_per_second
        if decoded <= self.tokens or seconds <= self.seconds:
            return self
        speed = (decoded - self.tokens) / (seconds - self.seconds)
        speeds = (*self.speeds, speed)
        if len(speeds) > MOST_POINTS:
            speeds = _in_pairs(speeds)
        return replace(self, speeds=speeds, tokens=decoded, seconds=seconds)


def _in_pairs(speeds: tuple[float, ...]) -> tuple[float, ...]:
    """Half as many points: the mean of each two."""
    return tuple((first + second) / 2 for first, second in zip(speeds[::2], speeds[1::2], strict=False))
