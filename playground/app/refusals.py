"""A refusal on its way to whoever is refused: a sentence on the page, and a line for whoever runs the playground.

Lower floors raise and know nobody; here, where an error meets its visitor, each refusal is told once.
"""

from __future__ import annotations

from playground import events
from playground.errors import BadModelFile, PlaygroundError, RequestRefused
from playground.limits.runs import Visitor
from playground.web.html.page import error_card


def error_message(error: PlaygroundError, visitor: Visitor | None) -> str:
    """The error as markup; where it refuses something, it is noted."""
    log_refusal(error, visitor)
    return error_card(error)


def file_error_message(error: PlaygroundError, visitor: Visitor | None) -> str:
    """The same for a file that a visitor gave: that it is no model refuses it, too."""
    if isinstance(error, BadModelFile):
        _note(error, visitor)
    return error_message(error, visitor)


def log_refusal(error: PlaygroundError, visitor: Visitor | None) -> None:
    """A line for a refusal; other errors have theirs where they happen."""
    if isinstance(error, RequestRefused):
        _note(error, visitor, error.setting)


def _note(error: PlaygroundError, visitor: Visitor | None, setting: str = "") -> None:
    short_id, via = (visitor.short_id, visitor.via) if visitor else ("", "")
    events.refused(short_id, via, setting, error.problem)
