"""An error as the page shows it, with the log line of a refusal."""

from __future__ import annotations

from playground.app.messages import log_file_refusal, log_refusal
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.web.html.page import error_card

__all__ = ["error_message", "file_error_message", "log_refusal"]


def error_message(error: PlaygroundError, visitor: Visitor | None) -> str:
    """The error as markup; where it refuses something, it is logged."""
    log_refusal(error, visitor)
    return error_card(error)


def file_error_message(error: PlaygroundError, visitor: Visitor | None) -> str:
    """The same for a file that a visitor gave: that it is no model refuses it, too."""
    log_file_refusal(error, visitor)
    return error_card(error)
