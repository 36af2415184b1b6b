r"""Makes a reply's Markdown safe to show: its HTML stays text, no image is fetched, and all of it can be seen.

    ![x](http://…) <b>bold</b> and `<b>` in code  ->  \![x](http://…) \<b>bold\</b> and `<b>` in code

Code is not changed. Where it is unclear whether something is code, it is treated as text; the only effect is then a
visible backslash. This is the first of three layers: Gradio's own sanitizer and the content security policy
(web/server/request_filter.py) follow. Formulas get delimiters of their own, and bold text beside East Asian punctuation
gets what Markdown needs to see its end.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_FENCE: Final = re.compile(r"(`{3,}(?=[^`]*$)|~{3,})[\s\ufeff]*([^\s\ufeff]*)")
_BEFORE_A_FENCE: Final = re.compile(r"(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])(?=[ \t])))*[ \t]*")
_ONE_CONTAINER: Final = re.compile(r" {0,3}(?:(?P<quote>> {0,3})|(?P<item>[-*+]|(?P<number>\d{1,9}[.)])) {1,4})")
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_BEGINS_SOMETHING: Final = re.compile(r"(?<!\\)(\\*)(<(?=[A-Za-z/!?])|!(?=\[))")
_MOST_INDENT: Final = 3  # spaces before a fence, outside lists
_LINE_SEARCH: Final = 1000  # characters, so that a long line with many formulas takes no long time


@dataclass(frozen=True)
class _Fence:
    """A fence that is open. indent: spaces its lines need, after the `>` of a quotation that it stands in.

    is_sure: Markdown certainly sees a fence here too, so that its lines are code.
    """

    marks: str
    indent: int
    is_quoted: bool = False
    is_sure: bool = True

    def holds(self, line: str) -> bool:
        """Whether the line still belongs to it; Markdown ends a fence with the list or quotation around it."""
        if self.is_quoted:
            return line.lstrip(" ").startswith(">")
        return not line.strip() or len(line) - len(line.lstrip(" ")) >= self.indent

    def is_closed_by(self, line: str) -> bool:
        rest = (line.lstrip(" ")[1:] if self.is_quoted else line).strip()
        return rest.startswith(self.marks) and not rest.strip(self.marks[0])


@lru_cache(maxsize=512)
def escape_markdown(markdown: str) -> str:
    """Escape the beginning of every tag and image outside of code, and mark the formulas."""
    done: list[str] = []
    text: list[str] = []  # the lines since the last fence, not escaped yet
    fence: _Fence | None = None
    in_list, after_blank = False, True
    for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", markdown):
        if fence is not None and not fence.holds(line):
            fence = None
        if fence is not None:
            line = line if fence.is_sure else _escape_line(_with_safe_language(line))
            if fence.is_closed_by(line):
                fence = None
            done.append(line)
            continue
        in_list = in_list or bool(_LIST_ITEM.match(line))
        fence = _opened_fence(line, in_list, after_blank)
        after_blank = not line.strip()
        if fence is None:
            text.append(line)
        else:
            done += [_escape_text("".join(text), in_list), _escape_line(_with_safe_language(line))]
            text.clear()
    return "".join(done) + _escape_text("".join(text), in_list)


# --- fences ---


def _opened_fence(line: str, in_list: bool, after_blank: bool) -> _Fence | None:
    line = line.rstrip("\r\n")
    before = _BEFORE_A_FENCE.match(line)
    found = before and _FENCE.match(line, before.end())
    if not before or not found:
        return None
    prefix, marks = before[0], found[1]
    if not prefix.strip(" "):
        return _Fence(marks, len(prefix)) if len(prefix) <= _MOST_INDENT or in_list else None
    container = _ONE_CONTAINER.fullmatch(prefix)
    if container is None:
        return _Fence(marks, 0, is_quoted=prefix.lstrip().startswith(">"), is_sure=False)
    if container["quote"]:
        return _Fence(marks, 0, is_quoted=True)
    return _Fence(marks, len(prefix), is_sure=after_blank or not container["number"])


# Gradio 6.31 leaves a message blank if its highlighter fails, which it does at `cpp` unless a `c` was shown before, and
# at names that every object of JavaScript has. It draws `mermaid` as a diagram, and an error in place of a wrong one.
_SAFE_LANGUAGES: Final = {"cpp": "c", "mermaid": "text", "markup-templating": "text"} | dict.fromkeys(
    (
        "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString",
        "valueOf", "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
    ),
    "text",
)  # fmt: skip


def _with_safe_language(line: str) -> str:
    """The first line of a fence, with another language where the name is one that the highlighter fails at."""
    before = _BEFORE_A_FENCE.match(line)
    found = before and _FENCE.match(line.rstrip("\r\n"), before.end())
    if not found:
        return line
    safe = _SAFE_LANGUAGES.get(re.sub(r"\\(?=[^\w\s])", "", found[2]).replace("\\_", "_"))
    return line if safe is None else line[: found.start(2)] + safe + line[found.end(2) :]


# --- text ---

# The delimiters between which a Chatbot renders formulas. Models do not write the invisible separator (U+2063), so
# Gradio takes no code or money for a formula; in a copied message the formula has its usual delimiters.
LATEX_DELIMITERS: Final[list[dict[str, str | bool]]] = [
    {"left": "\\[\u2063", "right": "\u2063\\]", "display": True},
    {"left": "\\(\u2063", "right": "\u2063\\)", "display": False},
]
_INSIDE: Final = r"(?:(?!\n[ \t]*\r?\n)%s)+?"  # of a formula: no blank line, for Markdown ends the paragraph there
_BETWEEN_BRACKETS: Final = _INSIDE % (r"(?:\\[^()\[\]]|[^\\])")
_BETWEEN_DOLLARS: Final = _INSIDE % (r"(?:\\.|[^\\$])")
_BETWEEN_NAMES: Final = _INSIDE % (r"(?!\\begin\{(?P=name)\}).")
_FORMULA: Final = re.compile(
    rf"\\\[(?P<display>{_BETWEEN_BRACKETS})\\\]"
    rf"|\\\((?P<inline>{_BETWEEN_BRACKETS})\\\)"
    rf"|\$\$(?P<dollars>{_BETWEEN_DOLLARS})\$\$"
    r"|(?P<environment>\\begin\{(?P<name>(?:equation|align|gather|alignat|multline)\*?)\}"
    rf"{_BETWEEN_NAMES}\\end\{{(?P=name)\}})",
    re.DOTALL,
)
_RUN_OR_LINE_END: Final = re.compile(r"`+|[\r\n]")
_NEXT_IN_TEXT: Final = re.compile(r"`+|\\[(\[]|\\begin\{|\$\$")


def _escape_text(text: str, in_list: bool) -> str:
    """Lines outside of fences."""
    done, at, search_from = [], 0, 0
    while found := _NEXT_IN_TEXT.search(text, search_from):
        search_from = found.end()
        if _is_escaped(text, found.start()):
            continue
        if found[0].startswith("`"):
            if (closing := _closing(text, found)) is None:
                continue
            done += [_escaped(text[at : found.start()]), text[found.start() : closing]]
            at = search_from = closing
        elif in_list or not _is_indented_code(text, found.start()):
            formula = _FORMULA.match(text, found.start())
            if formula and formula[0].strip("$[]()\\ \t\r\n"):
                done += [_escaped(text[at : found.start()]), _marked_formula(formula)]
                at = search_from = formula.end()
            elif found[0] in ("\\(", "\\["):  # not closed, or not yet: Markdown would take its backslash
                done += [_escaped(text[at : found.start()]), "\\", found[0]]
                at = search_from
    return "".join(done) + _escaped(text[at:])


def _escape_line(line: str) -> str:
    """A line that may be code or text: nothing in it is a formula."""
    done, at = [], 0
    for opening in re.finditer("`+", line):
        if opening.start() < at or _is_escaped(line, opening.start()):
            continue
        if (closing := _closing(line, opening)) is not None:
            done += [_escape_tags(line[at : opening.start()]), line[opening.start() : closing]]
            at = closing
    return "".join(done) + _escape_tags(line[at:])


def _closing(text: str, opening: re.Match[str]) -> int | None:
    """Where the code span that begins here ends, in the same line and table cell; None if it is not one."""
    for run in _RUN_OR_LINE_END.finditer(text, opening.end()):
        if run[0] in "\r\n":
            return None
        if run[0] == opening[0]:
            return None if "|" in text[opening.end() : run.start()] else run.end()
    return None


def _is_escaped(text: str, at: int) -> bool:
    backslashes = 0
    while backslashes < at and text[at - backslashes - 1] == "\\":
        backslashes += 1
    return backslashes % 2 == 1


def _is_indented_code(text: str, at: int) -> bool:
    near = text[max(0, at - _LINE_SEARCH) : at]
    line = near[max(near.rfind("\n"), near.rfind("\r")) + 1 :]
    return line.expandtabs(4).startswith(" " * (_MOST_INDENT + 1))


def _marked_formula(formula: re.Match[str]) -> str:
    r"""Its text between the delimiters that Gradio renders. `<` becomes `\lt`, so that it begins no tag."""
    kind = LATEX_DELIMITERS[1 if formula["inline"] else 0]
    source = formula["display"] or formula["inline"] or formula["dollars"] or formula["environment"]
    source = re.sub(r"<(?=[A-Za-z/!?])", r"\\lt ", source.replace("\u2063", "")).replace("![", "!{}[")
    return f"{kind['left']}{source}{kind['right']}"


def _escaped(text: str) -> str:
    return _escape_tags(text) if text.isascii() else _with_ends_of_bold(_escape_tags(text))


def _escape_tags(text: str) -> str:
    def escape(found: re.Match[str]) -> str:
        return found[0] if len(found[1]) % 2 else f"{found[1]}\\{found[2]}"

    return _BEGINS_SOMETHING.sub(escape, text)


_STARRED: Final = re.compile(r"(?<![*\\])(?P<stars>\*{1,3})(?![\s*])(?P<inside>[^*\r\n]*[^\s*\\])(?P=stars)(?!\*)")
_NOTHING: Final = "<!---->"  # a comment; Markdown counts its ends as punctuation, and nothing of it is shown


def _with_ends_of_bold(text: str) -> str:
    """`は**「x」**と`: Markdown sees no bold text where a star stands between punctuation and a letter.

    That rule is made for languages with spaces; see https://github.com/commonmark/commonmark-spec/issues/650.
    """

    def mend(found: re.Match[str]) -> str:
        before, after = text[: found.start()][-1:], text[found.end() :][:1]
        inside = found["inside"]
        opener = _NOTHING if _hides_bold(before, inside[0]) else ""
        closer = _NOTHING if _hides_bold(after, inside[-1]) else ""
        return f"{opener}{found[0]}{closer}"

    return _STARRED.sub(mend, text)


def _hides_bold(outside: str, inside: str) -> bool:
    """Whether a star between these characters is not seen, and one of them is East Asian."""
    if not outside or outside.isspace() or _is_punctuation(outside) or not _is_punctuation(inside):
        return False
    return any(unicodedata.east_asian_width(one) in "WF" for one in (outside, inside))


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
