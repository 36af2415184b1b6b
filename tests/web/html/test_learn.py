"""The Learn tab: every section can be tried, every picture is named, every term is explained."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from playground.models.catalog import load_catalog
from playground.resources import asset, read_toml
from playground.web.html.learn import TABS, lesson_page, picture
from playground.web.tabs.learn import open_tab

SECTIONS = read_toml("learn.toml")["section"]
USED = [section["picture"] for section in SECTIONS if "picture" in section]


def test_every_section_can_be_tried_in_a_tab_that_exists() -> None:
    assert len(SECTIONS) >= 7
    assert all(section["tab"] in TABS and section["link"] for section in SECTIONS)
    assert lesson_page().count("data-value=") == len(SECTIONS)


def test_every_picture_is_used_once() -> None:
    files = [path.stem for path in asset("pictures").glob("*.svg")]
    assert sorted(USED) == sorted([*files, "sizes"])


@pytest.mark.parametrize("name", USED)
def test_a_picture_is_named_for_those_who_do_not_see_it_and_has_no_colour_of_its_own(name: str) -> None:
    drawing = ElementTree.fromstring(picture(name))
    assert drawing.get("role") == "img" and len(drawing.get("aria-label") or "") > 20
    assert not re.search(r'(fill|stroke|style|id)="', picture(name))  # the page's classes colour it, light and dark
    assert picture(name) in lesson_page()


def test_the_sizes_of_the_picture_are_those_of_the_catalogues_model() -> None:
    assert "Sizes of Gemma 4 12B: F16 23.8 GB, Q8_0 12.7 GB" in picture("sizes")
    model = next(model for model in load_catalog() if model.id == "gemma4-12b")
    assert f"Q4_K_M {model.weight_bytes['Q4_K_M'] / 1e9:.1f} GB" in picture("sizes")


def test_the_technical_terms_are_explained() -> None:
    page = lesson_page()
    for term in ("quantization", "KV cache", "tok/s", "time to first token", "KL divergence", "perplexity", "weights"):
        assert term in page


@pytest.mark.parametrize("name", ["nothing", None, [], "learn<script>"])
def test_a_link_leads_to_no_tab_that_is_not_offered(name: object) -> None:
    assert open_tab(name).selected is None
    assert open_tab("fit").selected == "fit"
