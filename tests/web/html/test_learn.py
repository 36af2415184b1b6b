"""The Learn tab: every section can be tried, every picture is named, and those of the model at hand are its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from playground.app.learn.block import block_lesson
from playground.app.learn.lesson import LearnService, Lesson
from playground.app.services import Services
from playground.gguf.rounding import ALL_BITS, round_block, round_weights
from playground.llama.params import ContextParameters
from playground.resources import asset, read_toml
from playground.settings import load_settings
from playground.web.html.learn import TABS, lesson_page, picture
from playground.web.tabs.learn import open_tab
from tests.support.gguf_bytes import small_model

SECTIONS = read_toml("learn.toml")["section"]
USED = [section["picture"] for section in SECTIONS if "picture" in section]


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield services


@pytest.fixture(scope="module")
def lesson(services: Services) -> Lesson:
    """Of the starter, the only model here."""
    lesson = LearnService(services, lambda models: next(iter(models))).lesson()
    assert lesson is not None
    return lesson


@pytest.mark.parametrize("usual", ["Fox-1B", "Owl-1B"])
def test_the_lesson_is_of_the_model_that_the_page_opens_with(tmp_path: Path, usual: str) -> None:
    for name in ("Fox-1B", "Owl-1B"):
        (tmp_path / f"{name}-F32.gguf").write_bytes(small_model())
    with Services(load_settings(data_dir=tmp_path / "data", model_dirs=(tmp_path,))) as services:
        lesson = LearnService(services, lambda models: usual).lesson()
    assert lesson is not None and lesson.model.replace(" ", "-") == usual


def test_every_section_can_be_tried_in_a_tab_that_exists_and_says_which() -> None:
    assert all(section["link"].lower().startswith(f"open {section['tab']}") for section in SECTIONS)
    assert all(section["tab"] in TABS for section in SECTIONS)
    assert lesson_page().count("data-value=") == len(SECTIONS)
    assert len({section["id"] for section in SECTIONS}) == len(SECTIONS)


def test_every_drawing_is_used_once_where_there_is_no_model() -> None:
    drawings = [path.read_text(encoding="utf-8") for path in asset("pictures").glob("*.svg")]
    assert sorted(map(picture, USED)) == sorted(drawings)


@pytest.mark.parametrize("name", USED)
def test_a_picture_is_named_for_those_who_do_not_see_it_and_has_no_colour_of_its_own(name: str) -> None:
    drawing = ElementTree.fromstring(picture(name))
    assert drawing.get("role") == "img" and len(drawing.get("aria-label") or "") > 20
    assert not re.search(r'(fill|stroke|style|id)="', picture(name))  # the page's classes colour it, light and dark
    assert picture(name) in lesson_page()


def test_a_block_of_the_model_at_hand_is_shown_at_every_number_of_bits(lesson: Lesson) -> None:
    drawn = picture("block", lesson)
    assert "32 weights of <b>SmolLM2 135M Instruct Q4_1</b>" in drawn and "they were rounded once before" in drawn
    assert drawn.count("<circle") == 32 * len(ALL_BITS) and drawn.count("gp-bits-panel") == len(ALL_BITS)
    assert lesson.block is not None
    errors = [rounded.error for rounded in lesson.block.rounded]
    assert errors == sorted(errors) and errors[0] < 0.001 and errors[-1] > 0.2
    assert f"All {lesson.block.weight_count:,} weights of the tensor" in drawn
    for tensor in lesson.block.tensors:
        assert 0.99 * lesson.block.weight_count < sum(tensor.counts) <= lesson.block.weight_count


def test_three_and_two_bits_follow_the_rule_of_four() -> None:
    """A block of whole steps comes back as it was; the scale is that of the largest weight."""
    for bits in (4, 3, 2):
        half = 2 ** (bits - 1)
        block = np.array([0.25 * (index % (2 * half) - half) for index in range(32)], np.float32)
        rounded = round_block(block, bits)
        assert rounded.scale == 0.25 and rounded.error == 0 and np.array_equal(rounded.values, block)
    normal = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    assert all(round_weights(normal, bits).shape == (8, 64) for bits in ALL_BITS)


def test_a_block_of_nothing_but_zeros_does_no_harm() -> None:
    weights = np.zeros((2, 64), np.float32)
    weights[1, 40] = 1.0
    shown = block_lesson("blk.0.attn_k.weight", "F16", weights)
    assert all(np.isfinite([each.error for each in shown.rounded]))


def test_the_bytes_and_the_cache_are_those_of_the_model_at_hand(
    lesson: Lesson, services: Services, starter: Path
) -> None:
    assert "Q4_1</th><td>210</td>" in picture("types", lesson)
    assert 0.95 < sum(share.bytes for share in lesson.types) / starter.stat().st_size < 1
    assert [step.tokens for step in lesson.cache] == [2048, 4096, 8192]
    planned = services.planner.plan(starter, ContextParameters(4096, slots=services.settings.slots))
    assert (lesson.cache[1].kv_cache, lesson.cache[1].needed) == (planned.kv_cache, planned.needed)
    assert '<th scope="row">4,096</th>' in picture("cache", lesson)


def test_the_technical_terms_are_explained() -> None:
    page = lesson_page()
    for term in ("quantization", "KV cache", "tok/s", "time to first token", "KL divergence", "perplexity", "weights"):
        assert term in page


@pytest.mark.parametrize("name", ["nothing", None, [], "learn<script>"])
def test_a_link_leads_to_no_tab_that_is_not_offered(name: object) -> None:
    assert open_tab(name).selected is None
    assert open_tab("fit").selected == "fit"
