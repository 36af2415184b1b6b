"""What a person sees of a reply: the live line, the details, the context gauge, the messages."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from html import unescape
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from playground.app.chat.updates import ContextUse, LoadReport, ReplyDetails
from playground.app.messages import WorkProgress
from playground.chat.speed_trace import MOST_POINTS, SpeedTrace
from playground.chat.template.message import Message
from playground.engine.protocol import (
    FINISH_SENTENCES,
    FINISH_WORDS,
    Finished,
    FinishReason,
    Memory,
    Prefilled,
    Queued,
    Token,
)
from playground.engine.timings import Timings
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.web.html.reply import (
    AnswerPair,
    as_typed,
    chatbot_messages,
    context_gauge,
    instructions_line,
    live_line,
    load_report,
    reply_details,
)

MIB, GIB = 1 << 20, 1 << 30


def text_of(markup: str) -> str:
    """What is left for the eye: no tags, spaces joined."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


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


def timings(cached: int = 12, prompt_speed: float | None = 214.3) -> Timings:
    return Timings(0.01, 64, cached, prompt_speed, 0.34, 512, 12.34, 41.9, 2)


def test_a_load_before_the_first_token_is_told_beside_it() -> None:
    event = Finished(1, "end of text", timings())
    assert "1.80 s load + 0.34 s to first token" in text_of(live_line(event, load_seconds=1.8))
    assert "0.34 s to first token" in text_of(live_line(event)) and "load" not in text_of(live_line(event))
    details = ReplyDetails(timings(), None, None, load_seconds=1.8)
    assert "Loading the model 1.80 s" in text_of(reply_details(details))


def test_every_finish_reason_has_plain_words() -> None:
    reasons = set(get_args(FinishReason))
    assert set(FINISH_WORDS) == set(FINISH_SENTENCES) == reasons


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
    assert line == "Reading the prompt: 50% of 60 tokens · 12 from the cache"


def test_a_place_in_the_queue_is_told_in_words() -> None:
    waits = ((1, None), (2, 12.4), (3, 200.0))
    assert [text_of(live_line(Queued(1, place, wait))) for place, wait in waits] == [
        "Waiting in the queue: you are next · starts in –",
        "Waiting in the queue: 1 chat before you · starts in about 12 s",
        "Waiting in the queue: 2 chats before you · starts in about 3 min",
    ]


def test_only_the_end_of_a_reply_is_read_out() -> None:
    running, ended = live_line(Token(1, "a", 7, 3, 9.0, 65)), live_line(Finished(1, "cancelled", timings()))
    assert '<span class="gp-hidden" role="status"></span>' in running
    assert "Reply ended: stopped by you." in ended


def test_the_detail_tells_prompt_speed_cached_tokens_and_memory() -> None:
    detail = text_of(reply_details(ReplyDetails(timings(), a_plan(), Memory(GIB, 4 * GIB))))
    assert "of these from the KV cache 12 Prompt speed 214 tok/s" in detail
    assert "Memory predicted measured" in detail


def test_an_unknown_speed_is_a_dash_not_a_nought() -> None:
    assert "Prompt speed – tok/s" in text_of(reply_details(ReplyDetails(timings(64, None), None, None)))


def test_the_context_gauge_warns_before_it_is_full() -> None:
    assert text_of(context_gauge(ContextUse(1204, 4096))) == "Context 1,204 of 4,096 tokens"
    assert "nearly full" in text_of(context_gauge(ContextUse(4000, 4096)))
    assert 'aria-valuenow="4096"' in context_gauge(ContextUse(9999, 4096))
    assert text_of(context_gauge(ContextUse())) == "Context –"


def test_the_context_gauge_names_the_question_that_the_model_forgets_next() -> None:
    assert "title=" not in context_gauge(ContextUse(1204, 4096, first_read="Who was Ada?"))
    gauge = context_gauge(ContextUse(4000, 4096, first_read="Who\nwas <Ada>?"))
    assert "make the model forget “Who was &lt;Ada&gt;?” and its answer" in gauge
    gauge = context_gauge(ContextUse(2000, 4096, left_out=2, first_read="What did she write " + 9 * "and why "))
    assert "no longer reads the first 2 messages of this chat; next it forgets “What did she write and" in gauge


def test_the_speed_over_a_reply_is_a_curve_with_its_range_in_words() -> None:
    trace = SpeedTrace()
    for count, speed in ((1, None), (11, 10.0), (31, 15.0), (33, 1.0)):
        trace = trace.with_token(Token(1, "", 0, count, speed, count))
    assert trace.speeds == pytest.approx((10.0, 20.0, 2 / 30))
    line = live_line(Finished(1, "end of text", timings()), trace=trace)
    assert "Speed over this reply: 0.07 tok/s to 20.0 tok/s." in line and "people read: 4 to 6 tokens a second" in line
    assert "<svg" not in live_line(Finished(1, "end of text", timings()), trace=SpeedTrace((5.0,)))


def test_a_long_reply_keeps_a_curve_of_few_points() -> None:
    trace = SpeedTrace()
    for count in range(2, 500):
        trace = trace.with_token(Token(1, "", 0, count, 10.0, count))
    assert MOST_POINTS / 2 <= len(trace.speeds) <= MOST_POINTS and trace.speeds == pytest.approx(
        (10.0,) * len(trace.speeds)
    )


def test_a_reply_that_waits_for_a_load_says_so_in_its_own_place() -> None:
    shown = chatbot_messages([Message("user", "Hi")], Message("assistant", ""), WorkProgress("Loading <Tiny>", 0.43))
    assert shown[-1]["role"] == "assistant" and text_of(shown[-1]["content"]["text"]) == "Loading &lt;Tiny&gt; … 43%"


def test_a_reply_that_was_cut_off_says_after_how_many_tokens() -> None:
    line = text_of(live_line(Finished(1, "length limit", timings())))
    assert line.startswith("12.3 tok/s · 512 tokens · 0.34 s to first token · cut off at 512 tokens")
    one = live_line(Finished(1, "length limit", replace(timings(), generated_tokens=None)))
    assert "cut off at the length limit" in text_of(one)


def test_a_reply_that_was_stopped_keeps_its_figures_and_says_by_whom() -> None:
    token = Token(1, "word", 7, 34, 15.61, 98, time_to_first_token=0.34)
    line = text_of(live_line(token, stopped="person"))
    assert line.startswith("15.6 tok/s · 34 tokens · 0.34 s to first token · stopped by you")
    assert text_of(live_line(None, stopped="shutdown")).startswith("the playground is shutting down")


def test_a_loaded_model_shows_its_time_and_its_memory() -> None:
    report = text_of(load_report(LoadReport(1.5, a_plan(), Memory(GIB, 4 * GIB))))
    assert report.startswith("Loaded in 1.50 s and ready. Memory predicted measured Allocated")


def test_thoughts_are_folded_once_the_answer_begins() -> None:
    question, thoughts = Message("user", "2+2?"), Message("assistant", "", "Two and two.")
    (_, thinking) = chatbot_messages([question], thoughts)
    assert thinking["metadata"]["status"] == "pending"
    (_, thought, answer) = chatbot_messages([question], replace(thoughts, content="4"))
    assert thought["metadata"]["status"] == "done" and answer["content"]["text"] == "4"


def test_each_answer_keeps_its_figures_below_it_and_a_growing_one_has_none() -> None:
    chat = [Message("user", "2+2?"), Message("assistant", '4, "**<5**"'), Message("user", "3+3?")]
    ends = {1: Finished(1, "end of text", timings())}
    _, first, _, growing = chatbot_messages(chat, Message("assistant", "6"), ends=ends)
    figures = "12.3 tok/s · 512 tokens · 0.34 s to first token · finished"
    without = chatbot_messages(chat)[1]["content"]["text"]
    assert first["content"]["text"] == f'{without}\n\n<div class="gp-answer-figures" title="{figures}"></div>'
    assert growing["content"]["text"] == "6"


def test_two_answers_side_by_side_have_the_figures_of_their_own() -> None:
    pair = AnswerPair("Q2_0", "Q4_1", Message("assistant", "4"), Finished(1, "length limit", timings()))
    chat = [Message("user", "2+2?"), Message("assistant", "5")]
    _, other, newest = chatbot_messages(chat, pair=pair, ends={1: Finished(1, "end of text", timings())})
    assert "cut off at 512 tokens" in other["content"]["text"] and "· finished" in newest["content"]["text"]


def test_figures_are_no_line_of_a_code_block_that_was_cut_off() -> None:
    cut = Message("assistant", "Run:\n```python\nprint(")
    (shown,) = chatbot_messages([cut], ends={0: Finished(1, "length limit", timings())})
    assert "gp-answer-figures" not in shown["content"]["text"]


def test_a_reply_is_shown_without_its_markup() -> None:
    (turn,) = chatbot_messages([], Message("assistant", "![x](http://a.example/x.png) <b>bold</b>"))
    assert turn["content"]["text"] == "\\![x](http://a.example/x.png) \\<b>bold\\</b>"


def test_a_message_shown_from_another_text_brings_along_what_was_written() -> None:
    written = "<b>é 🙂</b> \\(x\\)"
    (turn,) = chatbot_messages([Message("assistant", written)])
    comment, end, shown = turn["content"]["text"].partition("-->")
    _, original, length = comment.split(":")
    assert end and b64decode(original).decode() == written and int(length) == len(shown.encode("utf-16-le")) // 2
    assert shown.startswith("\n\n\\<b>")
    (plain,) = chatbot_messages([Message("assistant", "**bold**, as it is")])
    assert plain["content"]["text"] == "**bold**, as it is"


@given(st.text(st.sampled_from(list("`~<b>#*_\\&;%\r\n\t 1.>$")), max_size=60))
def test_what_a_person_typed_is_shown_character_by_character(text: str) -> None:
    shown = MarkdownIt("commonmark", {"html": True}).render(as_typed(text)).removeprefix('<pre class="gp-typed">\n')
    typed, end, rest = shown.partition("</pre>")
    assert unescape(typed) == re.sub("\r\n?", "\n", text) and "<" not in typed and end and not rest.strip()


def test_without_instructions_nothing_is_shown() -> None:
    assert instructions_line(None) == ""


def test_a_disturbed_speed_says_so_while_it_grows_and_at_its_end() -> None:
    growing = Token(1, "a", 7, 34, 15.6, 98, time_to_first_token=0.34, disturbed=True)
    finished = Finished(1, "end of text", replace(timings(), core_share=0.6))
    for line in (live_line(growing), live_line(growing, stopped="person"), live_line(finished)):
        assert (
            text_of(line)
            .removesuffix(" Reply stopped.")
            .removesuffix(" Reply ended: finished.")
            .endswith("· speed disturbed")
        )
        assert "Something else had the processor" in line
    details = text_of(reply_details(ReplyDetails(finished.timings, None, None)))
    assert "12.3 tok/s (disturbed)" in details and "They had the processor 60% of the time" in details
    assert "disturbed" not in live_line(Finished(1, "end of text", replace(timings(), core_share=0.95)))
