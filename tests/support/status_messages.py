"""What a person reads of a status message."""

from __future__ import annotations

from playground.app.messages import Notice, StatusMessage


def sentence(message: object) -> str:
    """The words of an error, a notice or a progress; "" for None."""
    if message is None:
        return ""
    assert isinstance(message, StatusMessage)
    if isinstance(message, Exception):
        return str(message)
    return message.text if isinstance(message, Notice) else message.stage
