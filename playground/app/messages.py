"""What a front end tells a person beside the work: a notice, a progress, or an error; and the log line of a refusal.

Facts, not markup: web/html/page.py draws them, the command line prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from playground import events
from playground.errors import BadModelFile, PlaygroundError, RequestRefused
from playground.limits.run import StoppedBy
from playground.limits.visitor import Visitor

NoticeKind = Literal["info", "good", "warning"]
CutShortBy = StoppedBy | Literal["failure"]  # what ended a reply before its end; a failure has an error beside it

CUT_SHORT_SENTENCES: Final[dict[StoppedBy, str]] = {
    "person": "You stopped the reply.",
    "time": "The reply reached the time limit.",
    "shutdown": "The playground was shut down.",
    "absence": "The page was closed or had no connection for too long.",
}


@dataclass(frozen=True)
class Notice:
    """A plain sentence beside the work. An empty text clears the place where it stands."""

    text: str
    kind: NoticeKind = "info"


@dataclass(frozen=True)
class WorkProgress:
    """How far a long work is. fraction: 0 to 1, None while it is unknown."""

    stage: str
    fraction: float | None = None


StatusMessage = Notice | WorkProgress | PlaygroundError

CLEAR: Final = Notice("")


def log_refusal(error: PlaygroundError, visitor: Visitor | None) -> None:
    """Write a log line if the error refuses a request; other errors are logged where they happen."""
    if isinstance(error, RequestRefused):
        _log_refused(error, visitor, error.setting)


def log_file_refusal(error: PlaygroundError, visitor: Visitor | None) -> None:
    """The same for a file that a visitor gave: that it is no model refuses it, too."""
    if isinstance(error, BadModelFile):
        _log_refused(error, visitor)
    log_refusal(error, visitor)


def _log_refused(error: PlaygroundError, visitor: Visitor | None, setting: str = "") -> None:
    short_id, via = (visitor.short_id, visitor.via) if visitor else ("", "")
    events.refused(short_id, via, setting, error.problem)
