r"""Makes a reply's Markdown safe to show: its HTML stays text, and no image is fetched.

    ![x](http://…) <b>bold</b> and `<b>` in code  ->  \![x](http://…) \<b>bold\</b> and `<b>` in code

Code is not changed. Where it is unclear whether something is code, it is treated as text; the only effect is then a
visible backslash. This is the first of three layers: Gradio's own sanitizer and the content security policy
(web/server/request_filter.py) follow.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_FENCE: Final = re.compile(r"( *)(`{3,}(?=[^`]*$)|~{3,})")
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_BACKTICKS: Final = re.compile(r"`+")
_BEGINS_SOMETHING: Final = re.compile(r"(\\*)(<(?=[A-Za-z/!?])|!(?=\[))")
_MOST_INDENT: Final = 3  # spaces before a fence, outside lists


@lru_cache(maxsize=512)
def escape_markdown(markdown: str) -> str:
    """Escape the beginning of every tag and image outside of code."""
    lines = []
    fence: tuple[int, str] | None = None  # its indent and its characters, while inside
    in_list = False
    for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", markdown):
        found = _FENCE.match(line.rstrip("\r\n"))
        if fence is not None:
            indent, marks = fence
            if found and found[2].startswith(marks) and not line.strip().strip(marks[0]):
                fence = None
            if _is_inside(line, indent):
                lines.append(line)
                continue
            fence = None  # Markdown ends the fence with the list around it
            found = _FENCE.match(line.rstrip("\r\n"))
        in_list = in_list or bool(_LIST_ITEM.match(line))
        if found and (len(found[1]) <= _MOST_INDENT or in_list):
            fence = (len(found[1]), found[2])
        lines.append(_escape_line(line))
    return "".join(lines)


def _is_inside(line: str, indent: int) -> bool:
    return not line.strip() or len(line) - len(line.lstrip(" ")) >= indent


def _escape_line(line: str) -> str:
    """A line outside of fences. A code span must end in the same line, and in the same table cell."""
    done, at = [], 0
    while opening := _BACKTICKS.search(line, at):
        before = line[at : opening.start()]
        closing = None if _ends_escaped(before) else _closing(line, opening)
        if closing is None:
            done.append(_escaped(line[at : opening.end()]))
            at = opening.end()
        else:
            done += [_escaped(before), line[opening.start() : closing]]
            at = closing
    return "".join(done) + _escaped(line[at:])


def _closing(line: str, opening: re.Match[str]) -> int | None:
    """Where the code span that begins here ends; None if it is not one."""
    for run in _BACKTICKS.finditer(line, opening.end()):
        if run[0] == opening[0]:
            return None if "|" in line[opening.end() : run.start()] else run.end()
    return None


def _ends_escaped(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _escaped(text: str) -> str:
    def escape(found: re.Match[str]) -> str:
        return found[0] if len(found[1]) % 2 else f"{found[1]}\\{found[2]}"

    return _BEGINS_SOMETHING.sub(escape, text)
