"""Gradio's own scripts in the browser, with less to do: what the page serves in place of them.

Each change leaves out work whose result this page has no use for. One whose place is not found exactly once in the
installed Gradio is not made: the page then works as Gradio does it, and costs the browser more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gradio import route_utils

SCRIPTS: Final = Path(route_utils.BUILD_PATH_LIB)  # the folder of Gradio's scripts and styles, at /assets/


@dataclass(frozen=True)
class ScriptChange:
    """file: the script's name before its hash. place: what is found there. becomes: as `re.Match.expand` takes it."""

    file: str
    place: re.Pattern[str]
    becomes: str


def _change(file: str, place: str, becomes: str) -> ScriptChange:
    return ScriptChange(file, re.compile(place), becomes)


CHANGES: Final = (
    # Gradio takes each input of an event that has ended for one of an event that streams its inputs, and from then on
    # looks it up whenever any event takes a step: some 40 components, so that each token costs three times as much.
    _change(
        "Blocks",
        r"(\.stage===`complete`\)\{)((\w+)=`closed`)(,.{1,3000}?)(\w+\.connection_type===`stream`&&\(\3=`closed`\))",
        r"\1\5\4\5",
    ),
    # Having built the page, Gradio builds it once more, and fills every component a second time. Only a page that is
    # being developed is ever built again, when its source has changed.
    _change("Blocks", r"(\w+\(\)),(\w+\(\(\)=>\{\w+\.reload\()", r"\1&&\2"),
    # Gradio watches every property of every component and event in its configuration for changes; nothing changes them.
    _change("Index", r"(\w+\(\w+,\w+\(\w+\)\.get_url_config\(\)),!0\)", r"\1)"),
    # Gradio walks through all parts of the page for each component that an event reads or changes. Here it walks once,
    # and again for one that is not found. Parts that are made anew (`gr.render`), of which this page has none, would be
    # looked up as they were.
    _change(
        "core",
        r"function (\w+)\(e,t\)\{if\(e\.id===t\)return e;if\(e\.children\)for\(let n of e\.children\)"
        r"\{let e=\1\(n,t\);if\(e\)return e\}return null\}",
        r"function \1(e,t){let n=(\1.found??=new WeakMap).get(e)?.get(t);if(n)return n;"
        r"let r=new Map,i=e=>{r.has(e.id)||r.set(e.id,e),e.children?.forEach(e=>i(e))};"
        r"return i(e),\1.found.set(e,r),r.get(t)??null}",
    ),
    # The clock of the sign that the page loads goes on after the sign is gone: 60 frames a second for as long as the
    # page is open. Here it ends with the sign.
    _change(
        "statustracker",
        r"(\w+&&)(\w+\(\)\}\)\}let .{1,3000}?\{)(\w+)(&&\w+\(\)&&\(\w+\.status===`pending`)",
        r"\1\3?.isConnected&&\2\3\4",
    ),
)


def lighter_scripts() -> dict[str, str]:
    """The texts of the scripts that are changed, by the names of their files."""
    texts = dict[str, str]()
    for change in CHANGES:
        for file in sorted(SCRIPTS.glob(f"{change.file}-*.js")):
            text = texts.get(file.name) or file.read_text(encoding="utf-8")
            if changed := _changed(text, change):
                texts[file.name] = changed
    return texts


def _changed(text: str, change: ScriptChange) -> str | None:
    places = [*change.place.finditer(text)]
    if len(places) != 1:
        return None
    start, end = places[0].span()
    return text[:start] + places[0].expand(change.becomes) + text[end:]
