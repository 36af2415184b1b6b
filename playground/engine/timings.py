"""The figures of one reply: seconds, tokens, tokens per second, and whether something disturbed them.

The model's process measures them; nobody else takes times.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

UNDISTURBED_SHARE: Final = 0.9  # of its cores' time; a speed at which a model had less says little about the model


@dataclass(frozen=True)
class Timings:
    """Seconds, tokens, and tokens per second of one reply. None: a server does not send it, or there was no time.

    prompt_speed: of the tokens that were evaluated, without the cached ones.
    generation_speed: of the tokens after the first, whose time belongs to the prompt.
    core_share: how much of the time the model's threads really ran while it computed: CPU time by wall time and
        threads, of the prompt or of the generation, the lower of the two. None where it is not known, as on a GPU.
    """

    queued_seconds: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    prompt_speed: float | None
    time_to_first_token: float | None
    generated_tokens: int | None
    generation_speed: float | None
    total_seconds: float
    threads: int | None
    core_share: float | None = None

    @property
    def disturbed(self) -> bool:
        """Whether something else had the cores for so long that the speeds are not what the model reaches."""
        return self.core_share is not None and self.core_share < UNDISTURBED_SHARE

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "disturbed": self.disturbed}

    def continued_by(self, later: Timings) -> Timings:
        """Those of a reply that went on after it had ended: its beginning, and both parts' tokens and time."""
        tokens = _sum(self.generated_tokens, later.generated_tokens)
        shares = [share for share in (self.core_share, later.core_share) if share is not None]
        speed = later.generation_speed
        if self.generation_speed and speed and self.generated_tokens and later.generated_tokens:
            seconds = self.generated_tokens / self.generation_speed + later.generated_tokens / speed
            speed = (self.generated_tokens + later.generated_tokens) / seconds
        return replace(
            self,
            generated_tokens=tokens,
            generation_speed=speed or self.generation_speed,
            total_seconds=self.total_seconds + later.total_seconds,
            core_share=min(shares, default=None),
        )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
