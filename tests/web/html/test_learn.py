"""The Learn tab: every section can be tried, every picture is named, every term is explained."""

from __future__ import annotations

import re

import pytest

from playground.web.html.learn import TABS, lesson_page, read_lesson
from playground.web.html.learn_pictures import PICTURES
from playground.web.tabs.learn import to_tab


def test_every_section_can_be_tried_in_a_tab_that_exists() -> None:
    lesson = read_lesson()
    assert len(lesson.sections) >= 7
    assert all(section.tab in TABS and section.link for section in lesson.sections)
    assert lesson_page(lesson).count("data-tab=") == len(lesson.sections)


def test_every_picture_is_used_once_and_named_for_those_who_do_not_see_it() -> None:
    lesson = read_lesson()
    assert sorted(section.picture for section in lesson.sections if section.picture) == sorted(PICTURES)
    assert all(re.search(r'role="img" aria-label="[^"]{20,}"', draw()) for draw in PICTURES.values())


def test_the_words_of_the_field_are_explained() -> None:
    page = lesson_page(read_lesson())
    for term in ("quantization", "KV cache", "tok/s", "time to first token", "KL divergence", "perplexity", "weights"):
        assert term in page


@pytest.mark.parametrize("name", ["nothing", None, [], "learn<script>"])
def test_a_link_leads_to_no_tab_that_is_not_offered(name: object) -> None:
    assert to_tab(name).selected is None
    assert to_tab("fit").selected == "fit"
