"""The Learn tab's markup: sections read from assets/learn.toml, each with a picture and one way to try it.

Pure but for reading that file; the pictures are learn_pictures.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from playground.resources import read_toml
from playground.web.html.learn_pictures import PICTURES

TABS: Final = ("chat", "compare", "fit", "models")


@dataclass(frozen=True)
class Word:
    """A word of the field beside the plain one."""

    plain: str
    term: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """One thing to understand; `tab` is where it can be tried, `picture` a name in PICTURES or empty."""

    title: str
    text: tuple[str, ...]
    tab: str
    link: str
    term: str = ""
    picture: str = ""
    caption: str = ""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Lesson:
    lead: str
    sections: tuple[Section, ...]


def read_lesson() -> Lesson:
    """The text of assets/learn.toml."""
    document = read_toml("learn.toml")
    return Lesson(document["lead"], tuple(_section(entry) for entry in document["section"]))


def _section(entry: Mapping[str, Any]) -> Section:
    return Section(
        title=entry["title"],
        text=tuple(entry["text"]),
        tab=entry["tab"],
        link=entry["try"],
        term=entry.get("term", ""),
        picture=entry.get("picture", ""),
        caption=entry.get("caption", ""),
        words=tuple(Word(*word) for word in entry.get("words", ())),
    )


def lesson_page(lesson: Lesson) -> str:
    """The whole tab."""
    sections = "".join(_section_markup(section) for section in lesson.sections)
    return f'<article class="gp-learn"><p class="gp-learn-lead">{escape(lesson.lead)}</p>{sections}</article>'


def _section_markup(section: Section) -> str:
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    term = f'<p class="gp-term"><b>In the field’s words:</b> {escape(section.term)}</p>' if section.term else ""
    words = "".join(
        f"<div><dt>{escape(word.plain)} ({escape(word.term)})</dt><dd>{escape(word.meaning)}</dd></div>"
        for word in section.words
    )
    link = f'<button type="button" class="gp-try" data-tab="{section.tab}">{escape(section.link)} →</button>'
    picture = (
        f'<figure class="gp-picture">{PICTURES[section.picture]()}<figcaption>{escape(section.caption)}</figcaption>'
        "</figure>"
        if section.picture
        else ""
    )
    glossary = f'<dl class="gp-words">{words}</dl>' if words else ""
    return f"<section><div><h2>{escape(section.title)}</h2>{text}{term}{glossary}{link}</div>{picture}</section>"
