"""An engine that says what a test tells it to: the real stream of events, filled from a script; a word is a token."""

from __future__ import annotations

import queue
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from playground.engine.protocol import Finished, FinishReason, Loaded, Memory, Prefilled, ReplyRequest, Token
from playground.engine.reply_stream import Mail, ReplyStream
from playground.engine.timings import Timings
from playground.errors import PlaygroundError
from playground.llama.control_tokens import Span

TIMINGS = Timings(0.0, 12, 4, 300.0, 0.34, 512, 12.3, 42.0, 2)


@dataclass
class ScriptedEngine:
    """pieces: the texts of the reply's tokens. tail: text that comes with Finished. dies_with: raised in mid-reply."""

    pieces: Sequence[str] = ("Yes", ".")
    tail: str = ""
    reason: FinishReason = "end of text"
    context_size: int = 1000
    chat_template: str | None = None
    control_texts: tuple[str, ...] = ()
    literal: list[str] = field(default_factory=list)
    dies_with: PlaygroundError | None = None
    requests: list[ReplyRequest] = field(default_factory=list)
    cancelled: int = 0
    _finished: bool = False

    @property
    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.requests]

    @property
    def name(self) -> str:
        return "scripted.gguf"

    @property
    def loaded(self) -> Loaded:
        return Loaded(
            "scripted",
            self.context_size,
            self.context_size,
            10,
            10,
            self.chat_template,
            "<s>",
            "</s>",
            0.0,
            Memory(1, 1),
            self.control_texts,
        )

    def count_tokens(self, text: str, literal: Sequence[Span] = ()) -> int:
        return len(re.findall(r"\S+", text))

    def start_reply(self, asked: ReplyRequest) -> ReplyStream:
        self.literal = [asked.prompt[start:stop] for start, stop in asked.literal]
        self.requests.append(asked)
        mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        tokens = self.count_tokens(asked.prompt)
        mailbox.put(Prefilled(1, tokens, tokens, 0))
        for count, piece in enumerate(self.pieces, start=1):
            mailbox.put(Token(1, piece, count, count, None, tokens + count))
        mailbox.put(self.dies_with or Finished(1, self.reason, TIMINGS, self.tail))
        return ReplyStream(mailbox, self._stream_closed)

    def _stream_closed(self) -> None:
        self.cancelled += 1
