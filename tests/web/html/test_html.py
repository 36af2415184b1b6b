"""What a person notices of the page's parts: words, figures, escaping."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from playground.engine.protocol import (
    FINISH_SENTENCES,
    FINISH_WORDS,
    Finished,
    FinishReason,
    Memory,
    Prefilled,
    Queued,
    Timings,
    Token,
)
from playground.errors import DoesNotFit
from playground.fit.plan import MemoryPlan
from playground.fit.verdict import Verdict, judge
from playground.llama.params import ContextParameters
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.web.html.memory import memory_bar, predicted_beside_measured, verdict_chip
from playground.web.html.page import empty_state, error_card, machine_strip, notice, page_head
from playground.web.html.reply import context_meter, live_line, load_progress, reply_details

MIB, GIB = 1 << 20, 1 << 30
EVIL = "<img src=x onerror=alert(1)>\"'`${x}"


def text_of(markup: str) -> str:
    """What is left for the eye: no tags, spaces joined."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def widths(markup: str) -> list[float]:
    return [float(width) for width in re.findall(r'gp-seg gp-seg-\w+" style="width:([\d.]+)%', markup)]


def a_plan(weights: int = 4 * GIB, kv_cache: int = GIB, repacked: int = 0) -> MemoryPlan:
    return MemoryPlan(
        context=ContextParameters(4096),
        weights=weights,
        repacked=repacked,
        kv_cache=kv_cache,
        recurrent=0,
        compute=100 * MIB,
        output=MIB,
        base=41 * MIB,
    )


def a_bar(plan: MemoryPlan, usable: int) -> str:
    return memory_bar(plan, usable, judge(plan, usable))


def timings(cached: int = 12, prompt_speed: float | None = 214.3) -> Timings:
    return Timings(0.01, 64, cached, prompt_speed, 0.34, 512, 12.34, 41.9, 2)


def test_every_finish_reason_has_plain_words() -> None:
    reasons = set(get_args(FinishReason))
    assert set(FINISH_WORDS) == set(FINISH_SENTENCES) == reasons


# --- the page ---


def test_the_strip_says_what_this_computer_has_and_what_limits_it() -> None:
    memory = MachineMemory(int(23.5 * GIB), int(21.4 * GIB), None, "this computer's memory")
    cores = Processors(2, 2, 2, 2, None, "this computer's cores")
    strip = machine_strip(memory, cores)
    assert text_of(strip) == "This computer 21.4 GiB usable of 23.5 GiB · 2 cores"
    assert 'title="Limited by this computer&#39;s memory"' in strip
    assert "GGUF playground" in text_of(page_head(memory, cores))


@pytest.mark.parametrize(
    "markup",
    [
        error_card(DoesNotFit(EVIL, EVIL)),
        error_card(EVIL),
        notice(EVIL),
        empty_state(EVIL, EVIL),
        load_progress(0.5, EVIL),
        verdict_chip(Verdict("fits", EVIL, EVIL, 1, 2)),
        memory_bar(a_plan(), GIB, Verdict("wont_fit", EVIL, EVIL, 2, 1)),
    ],
)
def test_what_comes_from_a_file_or_a_model_is_never_markup(markup: str) -> None:
    assert "<img" not in markup
    assert not re.search(r'="[^"<>]*<', markup)


def test_an_error_says_what_is_wrong_and_then_what_to_do() -> None:
    card = error_card(DoesNotFit("It needs 9.1 GiB, 8.0 GiB are usable.", "Q4_K_M fits."))
    assert text_of(card) == "It needs 9.1 GiB, 8.0 GiB are usable. Q4_K_M fits."
    assert 'role="alert"' in card


# --- memory ---


def test_a_verdict_is_told_by_word_and_sign() -> None:
    plan = a_plan()
    chips = [text_of(verdict_chip(judge(plan, usable))) for usable in (20 * GIB, int(5.4 * GIB), 3 * GIB)]
    assert chips == ["✓ Fits", "! Tight", "✕ Won't fit".replace("'", "&#x27;")]
    assert text_of(verdict_chip(None)) == "–"


def test_the_bar_is_one_picture_whose_name_says_everything() -> None:
    bar = a_bar(a_plan(), 20 * GIB)
    (name,) = re.findall(r'role="img" aria-label="([^"]*)"', bar)
    assert name == (
        "Fits. Needs 5.1 GiB of 20.0 GiB usable memory: "
        "weights 4.0 GiB, KV cache 1.0 GiB, compute 101 MiB, overhead 41 MiB"
    )


def test_the_legend_gives_each_part_its_size() -> None:
    assert "Weights 4.0 GiB KV cache 1.0 GiB Compute 101 MiB Overhead 41 MiB" in text_of(a_bar(a_plan(), 20 * GIB))


def test_every_part_is_visible_and_none_leaves_the_bar() -> None:
    for plan, usable in ((a_plan(60 * MIB, MIB), 500 * GIB), (a_plan(300 * GIB, MIB), 8 * GIB)):
        shares = widths(a_bar(plan, usable))
        assert len(shares) == 4
        assert min(shares) > 0.5
        assert sum(shares) <= 100.1


def test_what_goes_beyond_the_usable_memory_is_shown_beyond_a_mark() -> None:
    bar = a_bar(a_plan(weights=15 * GIB), 8 * GIB)
    (mark,) = re.findall(r'gp-mark" style="left:([\d.]+)%', bar)
    assert float(mark) == pytest.approx(100 * 8 / 16.14, abs=0.1)
    assert "usable memory ends here" in text_of(bar)
    assert "usable memory ends here" not in text_of(a_bar(a_plan(), 20 * GIB))


def test_a_plan_that_is_a_hair_too_large_never_reads_as_equal() -> None:
    plan = a_plan()
    needed, usable = re.findall(r"([\d.,]+ \wiB)", text_of(a_bar(plan, plan.total - 1000)))[:2]
    assert needed != usable


def test_weights_that_are_copied_count_once() -> None:
    bar = text_of(a_bar(a_plan(repacked=3 * GIB), 20 * GIB))
    assert "Memory 5.1 GiB of 20.0 GiB usable" in bar
    assert "Weights 1.0 GiB Weights, copied 3.0 GiB" in bar


def test_a_refusal_says_why_and_what_would_fit() -> None:
    verdict = judge(a_plan(), 3 * GIB)
    assert f"{verdict.reason} {verdict.remedy}" in text_of(a_bar(a_plan(), 3 * GIB))


def test_predicted_stands_beside_measured_and_a_difference_shows() -> None:
    plan = a_plan()
    table = text_of(predicted_beside_measured(plan, Memory(plan.must_stay + MIB, plan.weights)))
    together = re.search(r"Together (\S+ GiB) (\S+ GiB)", table)
    assert together and together[1] != together[2]


# --- the reply ---


def test_the_line_of_a_finished_reply_has_all_four_facts() -> None:
    assert text_of(live_line(Finished(1, "end of text", timings()))).startswith(
        "12.3 tok/s · 512 tokens · 0.34 s to first token · finished"
    )


def test_the_line_lives_while_the_reply_is_written() -> None:
    token = Token(1, "word", 7, 34, 15.61, 98, time_to_first_token=0.34)
    assert text_of(live_line(token)) == "15.6 tok/s · 34 tokens · 0.34 s to first token"
    assert text_of(live_line(Token(1, "a", 7, 1, None, 65))) == "– tok/s · 1 token"


def test_a_prompt_being_read_says_how_far_it_is() -> None:
    line = text_of(live_line(Prefilled(1, 30, 60, 12)))
    assert line == "Reading your text: 50% of 60 tokens · 12 of them still in the cache"


def test_a_place_in_the_queue_is_told_in_words() -> None:
    waits = ((1, None), (2, 12.4), (3, 200.0))
    assert [text_of(live_line(Queued(1, place, wait))) for place, wait in waits] == [
        "Waiting for a free place: you are next · begins in –",
        "Waiting for a free place: 1 chat before you · begins in about 12 s",
        "Waiting for a free place: 2 chats before you · begins in about 3 min",
    ]


def test_only_the_end_of_a_reply_is_read_out() -> None:
    running, ended = live_line(Token(1, "a", 7, 3, 9.0, 65)), live_line(Finished(1, "cancelled", timings()))
    assert '<span class="gp-hidden" role="status"></span>' in running
    assert "Reply ended: stopped by you." in ended


def test_the_detail_tells_prompt_speed_cached_tokens_and_memory() -> None:
    detail = text_of(reply_details(timings(), a_plan(), Memory(GIB, 4 * GIB)))
    assert "of them still in the KV cache 12 Prompt speed 214 tok/s" in detail
    assert "Memory predicted measured" in detail


def test_an_unknown_speed_is_a_dash_not_a_nought() -> None:
    assert "Prompt speed – tok/s" in text_of(reply_details(timings(64, None), None, None))


def test_the_context_meter_warns_before_it_is_full() -> None:
    assert text_of(context_meter(1204, 4096)) == "Context 1,204 of 4,096 tokens"
    assert "nearly full" in text_of(context_meter(4000, 4096))
    assert 'aria-valuenow="4096"' in context_meter(9999, 4096)
    assert text_of(context_meter(None, None)) == "Context –"


def test_a_load_shows_its_stage_and_its_share() -> None:
    progress = load_progress(0.43, "Loading SmolLM2 135M · Q4_1")
    assert text_of(progress) == "Loading SmolLM2 135M · Q4_1 43%"
    assert 'aria-valuenow="43"' in progress
    assert "aria-valuenow" not in load_progress(None, "Making room")
