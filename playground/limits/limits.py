"""How much there may be at once, for each person and in all."""

from __future__ import annotations

from dataclasses import dataclass

from playground.settings import Settings


@dataclass(frozen=True)
class Limits:
    """The limits in one record. `..._each`: for each person. Times in seconds."""

    replies: int = 64
    replies_each: int = 3
    lab_runs: int = 4
    lab_runs_each: int = 2
    downloads: int = 20
    downloads_each: int = 10
    results_each_an_hour: int = 200
    reply_tokens: int = 4096
    reply_seconds: float = 1800
    wait_seconds: float = 1800
    lab_seconds: float = 7200

    @classmethod
    def from_settings(cls, settings: Settings) -> Limits:
        """The limits of the settings, but one person never gets all slots of a model that has several."""
        most_each = settings.slots - 1 if settings.slots > 1 else settings.max_replies_per_visitor
        return cls(
            replies=settings.max_replies,
            replies_each=min(settings.max_replies_per_visitor, most_each),
            lab_runs=settings.max_lab_runs,
            lab_runs_each=settings.max_lab_runs_per_visitor,
            downloads=settings.max_downloads,
            downloads_each=settings.max_downloads_per_visitor,
            results_each_an_hour=settings.max_results_per_visitor_an_hour,
            reply_tokens=settings.max_reply_tokens,
            reply_seconds=settings.max_reply_seconds,
            wait_seconds=settings.max_wait_seconds,
            lab_seconds=settings.max_lab_seconds,
        )
