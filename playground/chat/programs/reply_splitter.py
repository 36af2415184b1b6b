"""Splits a reply, while it streams, into thoughts, answer and calls of functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from playground.chat.programs.tool_calls import ParsedReply, ToolCallParser
from playground.chat.programs.tool_formats import ForcedCall, ToolFormat
from playground.chat.reasoning import ReplyParser, SplitReply
from playground.chat.template.message import MalformedCall, Tool, ToolCall


@dataclass(frozen=True)
class ReplyPart:
    """What a piece of a reply adds. malformed: what looked like calls; it stands in the answer as text, too.

    replaces: this is all there is up to now: what came before as an answer has turned out to be thoughts.
    """

    answer: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    malformed: tuple[MalformedCall, ...] = ()
    replaces: bool = False

    def __add__(self, other: ReplyPart) -> ReplyPart:
        if other.replaces:
            return other
        return ReplyPart(
            self.answer + other.answer,
            self.thinking + other.thinking,
            self.calls + other.calls,
            self.malformed + other.malformed,
            self.replaces,
        )


class ReplySplitter:
    """Call `read` with the pieces of one reply in order, the last one with `final`.

    A call can stand in a channel of thoughts, in gpt-oss: such calls are taken out first, all others of the answer.
    may_replace: an answer may turn out to be thoughts. A program has it already by then, so it stays an answer there.
    """

    def __init__(
        self,
        thoughts: ReplyParser | None = None,
        formats: Sequence[ToolFormat] = (),
        tools: Sequence[Tool] = (),
        begun: ForcedCall | None = None,
        *,
        may_replace: bool = False,
    ) -> None:
        self._thoughts = thoughts
        self._may_replace = may_replace
        self._tools = tools
        self._late_formats = [one for one in formats if not one.before_thoughts]
        early = [one for one in formats if one.before_thoughts] if tools else []
        self._early = ToolCallParser(early, tools, takes_bare=False) if early else None
        self._late = ToolCallParser(self._late_formats, tools, begun=begun) if tools else None

    def read(self, text: str, *, final: bool = False) -> ReplyPart:
        early = _passed(self._early, text, final)
        split = self._split(early.text, final)
        if split.replaces and self._late:
            self._late = ToolCallParser(self._late_formats, self._tools)
        late = _passed(self._late, split.answer, final)
        return ReplyPart(
            late.text, split.thinking, early.calls + late.calls, early.malformed + late.malformed, split.replaces
        )

    def _split(self, text: str, final: bool) -> SplitReply:
        if self._thoughts is None:
            return SplitReply(answer=text)
        split = self._thoughts.feed(text)
        if final:
            split += self._thoughts.finish()
        return replace(split, thinking="", replaces=False) if split.replaces and not self._may_replace else split


def _passed(parser: ToolCallParser | None, text: str, final: bool) -> ParsedReply:
    if parser is None:
        return ParsedReply(text)
    parsed = parser.feed(text)
    return parsed + parser.finish() if final else parsed
