"""Vectors of texts for a program, from a model that is made for it."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from playground import events
from playground.chat.programs.reply import ReplyPiece
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import Embedded
from playground.errors import PlaygroundError, TextTooLong
from playground.limits.visitor import Visitor


def stream_embeddings(
    engine: LocalEngine, texts: Sequence[str], visitor: Visitor, *, interval_seconds: float
) -> Generator[ReplyPiece, None, None]:
    """Yield the vectors in the order of the texts, in pieces about every `interval_seconds`, also empty ones.

    Closing the generator cancels the rest. Writes one log line at the end. Raises TextTooLong, and what the engine
    raises.
    """
    most = min(engine.loaded.context_size, engine.loaded.trained_context)
    done: list[Embedded] = []
    outcome, error = "stopped", ""
    stream = engine.start_embedding(texts)
    try:
        while stream.is_open:
            new = [event for event in stream.events_within(interval_seconds) if isinstance(event, Embedded)]
            for number, one in enumerate(new, start=len(done) + 1):
                if not one.vector:
                    raise TextTooLong(number, one.tokens, most)
            done += new
            yield ReplyPiece(embedded=tuple(new))
        outcome = "done"
    except PlaygroundError as problem:
        outcome, error = "failed", type(problem).__name__
        raise
    finally:
        stream.close()
        tokens = sum(one.tokens for one in done)
        events.texts_embedded(engine.name, visitor.short_id, visitor.via, outcome, len(done), tokens, error)
