"""The events of a reply as its reader gets them: the first token at once, later ones together."""

from __future__ import annotations

import queue

from playground.engine.protocol import Prefilled, Token
from playground.engine.reply_stream import Mail, ReplyStream

LONGER_THAN_ANY_TEST = 3600.0


def token(count: int) -> Token:
    return Token(1, "a", 65, count, None, None)


def test_the_first_token_is_handed_out_at_once_and_later_ones_together() -> None:
    mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
    with ReplyStream(mailbox, lambda: None) as stream:
        read = Prefilled(1, 8, 8, 0)
        for event in (read, token(1), token(2), token(3)):
            mailbox.put(event)
        assert stream.events_within(LONGER_THAN_ANY_TEST) == [read, token(1)]
        assert stream.events_within(0) == [token(2), token(3)]
