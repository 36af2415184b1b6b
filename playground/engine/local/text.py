"""Turns tokens' bytes into text as they come: whole characters only, and never a piece of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """An incremental UTF-8 decoder that ends at the first stop string, wherever token borders fall."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [word for word in stop if word]
        self._held = ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """The text that is certain now; empty while a character or a possible stop string is incomplete."""
        return self._release(self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """What was held back: the reply is over, so it belongs to the text (a torn character becomes U+FFFD)."""
        return self._release(self._decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [place for word in self._stop if (place := self._held.find(word)) >= 0]
        if found:
            self.stopped = True
            released, self._held = self._held[: min(found)], ""
            return released
        keep = 0 if final else max((_overlap(self._held, word) for word in self._stop), default=0)
        split = len(self._held) - keep
        released, self._held = self._held[:split], self._held[split:]
        return released


def _overlap(text: str, word: str) -> int:
    """How many characters at the end of `text` could be the beginning of `word`."""
    for length in range(min(len(text), len(word) - 1), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
