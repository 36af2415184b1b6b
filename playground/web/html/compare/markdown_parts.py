"""Finds what Markdown draws in an answer whose tokens are marked: bold words, headings, lists, code in a line, tables.

    "- a **b**"  ->  "-" as a bullet, " a " as it is, "**" as a sign, "b" bold, "**" as a sign

Nothing is taken out of the text. A pane draws each token in its parts and makes the signs invisible, so that every
token keeps its place and its mark, and what is copied is what the model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

FENCE: Final = "```"
_KINDS: Final = ("sign", "bold", "italic", "code", "heading", "bullet", "table")
_SIGN, _BOLD, _ITALIC, _CODE, _HEADING, _BULLET, _TABLE = (1 << place for place in range(len(_KINDS)))
_LONGEST: Final = 400  # characters between two signs: a bound for the search in a long line

_HEADING_LINE: Final = re.compile(r" {0,3}(#{1,6} +)(?=\S)(.*)")
_LIST_ITEM: Final = re.compile(r"[ \t]*([-*+]) +(?=\S)")
_TABLE_ROW: Final = re.compile(r"[ \t]*\|.*\|[ \t]*")
_CODE_SPAN: Final = re.compile(rf"(?<!`)(`)([^`]{{1,{_LONGEST}}})(`)(?!`)")
_BOLD_SPAN: Final = re.compile(rf"(\*\*\*?)(?=[^\s*])(.{{1,{_LONGEST}}}?)(?<=[^\s*])(\1)")
_ITALIC_SPAN: Final = re.compile(rf"(?<![\w*])(\*)(?=[^\s*])([^*]{{1,{_LONGEST}}})(?<=\S)(\*)(?![\w*])")


@dataclass(frozen=True)
class StyledText:
    """Text that is drawn alike. css_class: such as "gp-md-bold gp-md-heading"; "" for plain text."""

    text: str
    css_class: str = ""


class MarkdownParts:
    """The parts of one answer. Code between fences is not looked into: it is drawn as code already."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._kinds = bytearray(len(text))
        start = 0
        for number, prose in enumerate(text.split(FENCE)):
            if number % 2 == 0:
                self._mark_lines(prose, start)
            start += len(prose) + len(FENCE)

    def parts(self, start: int, end: int) -> list[StyledText]:
        """What stands between two places of the text, in order."""
        places = range(start, min(end, len(self._text)))
        runs = ((kinds, list(run)) for kinds, run in groupby(places, key=self._kinds.__getitem__))
        return [StyledText(self._text[run[0] : run[-1] + 1], _css_class(kinds)) for kinds, run in runs]

    def _mark_lines(self, prose: str, start: int) -> None:
        for line in prose.splitlines(keepends=True):
            self._mark_line(line.rstrip("\r\n"), start)
            start += len(line)

    def _mark_line(self, line: str, start: int) -> None:
        if heading := _HEADING_LINE.fullmatch(line):
            self._mark(start + heading.start(1), start + heading.end(1), _SIGN)
            self._mark(start + heading.start(2), start + heading.end(2), _HEADING)
        elif item := _LIST_ITEM.match(line):
            self._mark(start + item.start(1), start + item.end(1), _BULLET)
        elif _TABLE_ROW.fullmatch(line):
            self._mark(start, start + len(line), _TABLE)
        for found in self._mark_spans(_CODE_SPAN, line, start, _CODE):
            line = line[: found.start()] + "`" * len(found[0]) + line[found.end() :]  # nothing is looked for in code
        for pattern, kind in ((_BOLD_SPAN, _BOLD), (_ITALIC_SPAN, _ITALIC)):
            for _ in self._mark_spans(pattern, line, start, kind):
                pass

    def _mark_spans(self, pattern: re.Pattern[str], line: str, start: int, kind: int) -> Iterator[re.Match[str]]:
        for found in pattern.finditer(line):
            self._mark(start + found.start(2), start + found.end(2), kind)
            for sign in (1, 3):
                self._mark(start + found.start(sign), start + found.end(sign), _SIGN)
            yield found

    def _mark(self, start: int, end: int, kind: int) -> None:
        for place in range(start, end):
            self._kinds[place] |= kind


def _css_class(kinds: int) -> str:
    return " ".join(f"gp-md-{name}" for place, name in enumerate(_KINDS) if kinds & 1 << place)
