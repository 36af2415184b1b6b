"""What a person does with a chat, replies that fit the context, and histories from a browser."""

from __future__ import annotations

from contextlib import closing

import pytest

from playground.chat.conversation import Conversation, stream_reply
from playground.chat.history import HistoryLimits
from playground.chat.template.message import Message
from playground.engine.protocol import Finished, FinishReason, Prefilled, ReplyRequest, Token
from playground.errors import ModelStopped, RequestRefused, TemplateRefused
from playground.llama.sampling_extras import GREEDY
from tests.support.scripted_engine import ScriptedEngine

HI, HELLO = Message("user", "Hi"), Message("assistant", "Hello!", "A greeting.")
CONVERSATION = Conversation("Be brief.", (HI, HELLO, Message("user", "Bye"), Message("assistant", "See you.")))


def long_conversation(turns: int, words: int = 10) -> Conversation:
    """Turns whose question and answer have so many words each, then a last question; each message is one of a kind."""
    chat = Conversation("Be brief.")
    for turn in range(turns):
        chat = chat.with_question(f"q{turn} " * words).with_reply(Message("assistant", f"a{turn} " * words))
    return chat.with_question("last question")


# --- what a person does ---


def test_a_question_and_its_answer_are_added_and_nothing_else_changes() -> None:
    start = Conversation("Be brief.")
    asked = start.with_question("Hi")
    assert asked.with_reply(HELLO).messages == (HI, HELLO)
    assert asked.messages == (HI,) and start.messages == ()


def test_regenerating_goes_back_to_the_last_question() -> None:
    assert CONVERSATION.without_last_reply().messages == CONVERSATION.messages[:3]
    assert CONVERSATION.without_last_reply().without_last_reply().messages == CONVERSATION.messages[:3]


def test_a_branch_begins_at_an_earlier_point() -> None:
    assert CONVERSATION.first_messages(2) == Conversation("Be brief.", (HI, HELLO))


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_an_empty_question_is_refused(blank: str) -> None:
    with pytest.raises(RequestRefused, match="message is empty"):
        CONVERSATION.with_question(blank)


def test_there_is_nothing_to_regenerate_in_an_empty_chat() -> None:
    with pytest.raises(RequestRefused, match="chat has no question yet"):
        Conversation().without_last_reply()


# --- replies ---


def test_a_reply_grows_event_by_event_and_ends_with_its_reason() -> None:
    engine = ScriptedEngine(("<think>", "Hm.", "</think>", "It", " is 4"), tail=".")
    updates = list(stream_reply(engine, Conversation().with_question("2+2?"), GREEDY, 50))
    assert [type(update.event) for update in updates] == [Prefilled, *[Token] * 5, Finished]
    assert [update.answer for update in updates[-3:]] == ["It", "It is 4", "It is 4."]
    last = updates[-1]
    assert last.message == Message("assistant", "It is 4.", "Hm.")
    assert last.finished is not None and last.finished.reason == "end of text"
    assert all(update.finished is None for update in updates[:-1])


def test_the_prompt_holds_the_system_text_and_the_request_what_was_asked_for() -> None:
    engine = ScriptedEngine()
    list(
        stream_reply(
            engine, Conversation("Be brief.").with_question("Hi"), GREEDY, 50, reproducible=True, alternatives=5
        )
    )
    assert engine.prompts == [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    ]
    (asked,) = engine.requests
    assert asked == ReplyRequest(asked.prompt, GREEDY, 50, ("<|im_end|>",), reproducible=True, alternatives=5)


def test_a_template_of_the_models_own_needs_no_stop_string() -> None:
    engine = ScriptedEngine(chat_template="{% for m in messages %}{{ m.role }}:{{ m.content }} {% endfor %}")
    list(stream_reply(engine, Conversation("S").with_question("Hi"), GREEDY))
    assert engine.prompts == ["system:S user:Hi "] and engine.requests[0].stop == ()


def test_a_reply_that_begins_inside_the_thoughts_is_split_too() -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n"
    engine = ScriptedEngine(("Hm.", "</think>", "4"), chat_template=template)
    last = list(stream_reply(engine, Conversation().with_question("2+2?"), GREEDY))[-1]
    assert (last.thinking, last.answer) == ("Hm.", "4")


def test_an_interval_gathers_all_events_of_that_time_in_one_update() -> None:
    engine = ScriptedEngine(("It", " is", " 4"), tail=".")
    first, rest = stream_reply(engine, Conversation().with_question("2+2?"), GREEDY, interval_seconds=5)
    assert first.answer == "It" and first.has_first_token and not first.finished  # it waits for no other token
    assert rest.answer == "It is 4." and len(rest.events) == 3 and rest.finished and not rest.has_first_token


def test_closing_a_reply_cancels_it() -> None:
    engine = ScriptedEngine()
    with closing(stream_reply(engine, Conversation().with_question("Hi"), GREEDY)) as updates:
        next(updates)
        assert engine.cancelled == 0
    assert engine.cancelled == 1


def test_a_model_that_dies_in_mid_reply_raises_after_what_it_said() -> None:
    engine = ScriptedEngine(dies_with=ModelStopped("It ended.", "The next message starts it again."))
    answers: list[str] = []
    with pytest.raises(ModelStopped, match=r"It ended\."):
        answers.extend(update.answer for update in stream_reply(engine, Conversation().with_question("Hi"), GREEDY))
    assert answers[-1] == "Yes."


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ ''.__class__ }}", "__class__"),
        ("{{ messages", "has an error in line 1"),
        ("a\n{{ weather.today }}", "fails in line 2: 'weather' is undefined"),
        ("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", "fails in line 1"),
        ("{{ raise_exception('Only for pictures') }}", "does not take this conversation: Only for pictures"),
        ("{% for m in messages %}{% if loop.index > 1 %}{{ 1 / 0 }}{% endif %}{% endfor %}", "division by zero"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "was stopped: it is nested too deeply"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "far larger than the conversation"),
    ],
)
def test_a_template_that_cannot_be_used_leaves_chatml_and_a_sentence(source: str, why: str) -> None:
    engine = ScriptedEngine(("<think>", "Hm.", "</think>", "4"), chat_template=source)
    chat = Conversation().with_question("Hi").with_reply(Message("assistant", "Hello")).with_question("2+2?")
    *_, last = stream_reply(engine, chat, GREEDY)
    assert engine.prompts[0].endswith("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n")
    assert engine.requests[0].stop == ("<|im_end|>",) and (last.thinking, last.answer) == ("Hm.", "4")
    assert why in last.remarks and "uses ChatML instead" in last.remarks


def test_a_template_that_only_objects_to_this_chat_is_quoted() -> None:
    objection = "{% if m.role == 'assistant' %}{{ raise_exception('No replies') }}{% endif %}"
    engine = ScriptedEngine(chat_template="{% for m in messages %}{{ m.content }}" + objection + "{% endfor %}")
    chat = Conversation().with_question("Hi").with_reply(Message("assistant", "Hello")).with_question("2+2?")
    with pytest.raises(TemplateRefused, match="does not take this conversation: No replies"):
        next(stream_reply(engine, chat, GREEDY))
    assert engine.prompts == []


def test_a_template_that_goes_through_tools_unasked_gets_none() -> None:
    source = "{% for tool in tools %}{{ tool }}{% endfor %}{{ messages[0].content }}"
    engine = ScriptedEngine(chat_template=source)
    *_, last = stream_reply(engine, Conversation().with_question("Hi"), GREEDY)
    assert engine.prompts == ["Hi"] and last.remarks == ""


def test_marks_that_a_template_computes_are_found() -> None:
    source = (
        "{% set mark = 'pon' ~ 'der' %}{% for m in messages %}{% if m.reasoning_content %}<{{ mark }}>"
        "{{ m.reasoning_content }}</{{ mark }}>{% endif %}{{ m.content }}{% endfor %}"
    )
    engine = ScriptedEngine(("<ponder>", "Hm.", "</ponder>", "4"), chat_template=source)
    *_, last = stream_reply(engine, Conversation().with_question("Hi"), GREEDY)
    assert (last.thinking, last.answer) == ("Hm.", "4")


def test_without_a_question_there_is_no_reply() -> None:
    with pytest.raises(RequestRefused, match="no question to answer"):
        next(stream_reply(ScriptedEngine(), CONVERSATION, GREEDY))


# --- a full context ---


def test_nothing_is_left_out_while_everything_fits() -> None:
    engine = ScriptedEngine(context_size=1000)
    assert next(stream_reply(engine, long_conversation(3), GREEDY)).left_out == 0


def test_the_oldest_turns_are_left_out_until_there_is_room_for_a_reply() -> None:
    engine = ScriptedEngine(context_size=200)  # room for a reply: a quarter, 50
    chat = long_conversation(20)
    update = next(stream_reply(engine, chat, GREEDY))
    prompt = engine.prompts[0]
    assert update.prompt_tokens == engine.count_tokens(prompt) <= 150
    assert update.left_out % 2 == 0 and update.left_out > 0
    assert "Be brief." in prompt and "last question" in prompt and "a19" in prompt and "q0 " not in prompt
    first_kept = chat.messages[update.left_out]
    assert first_kept.role == "user" and first_kept.content.strip() in prompt
    one_turn_more = chat.messages[update.left_out - 2 : update.left_out]
    assert update.prompt_tokens + sum(engine.count_tokens(m.content) for m in one_turn_more) > 150 - 10
    assert len(chat.messages) == 41  # nothing is lost on the page


def test_a_short_reply_asks_for_little_room() -> None:
    engine = ScriptedEngine(context_size=200)
    short = next(stream_reply(engine, long_conversation(20), GREEDY, max_tokens=5)).left_out
    assert short < next(stream_reply(engine, long_conversation(20), GREEDY)).left_out


def test_a_question_that_alone_is_too_long_is_refused_with_the_figures() -> None:
    with pytest.raises(RequestRefused) as caught:
        next(stream_reply(ScriptedEngine(context_size=200), long_conversation(3).with_question("word " * 500), GREEDY))
    assert "take 506 tokens; a context of 200 has room for 150 beside a reply." in str(caught.value)
    assert "choose a larger context" in caught.value.remedy


# --- histories from a browser ---


def test_a_conversation_survives_the_way_through_a_browser() -> None:
    assert Conversation.from_untrusted(CONVERSATION.to_json()) == CONVERSATION


def test_gradios_lists_of_parts_are_read() -> None:
    history = [
        {"role": "user", "metadata": None, "options": None, "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello!", "thinking": "A greeting."},
    ]
    assert Conversation.from_untrusted(history).messages == (HI, HELLO)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "not a list"),
        ("text", "not a list"),
        ({"messages": {"role": "user"}}, "not a list"),
        ({"system": 7, "messages": []}, "the system prompt is not text"),
        (["Hi"], "message 1 has no role"),
        ([{"content": "Hi"}], "role of message 1"),
        ([{"role": "root", "content": "Hi"}], "role of message 1"),
        ([{"role": ["user"], "content": "Hi"}], "role of message 1"),
        ([{"role": "user"}], "message 1 is not text"),
        ([{"role": "user", "content": None}], "message 1 is not text"),
        ([{"role": "user", "content": [{"type": "file", "path": "/etc/passwd"}]}], "not text"),
        ([{"role": "user", "content": [["x"]]}], "not text"),
        ([{"role": "user", "content": "Hi", "thinking": 5}], "not text"),
        ([{"role": "user", "content": "\ud800"}], "half a character"),
        ([{"role": "user", "content": "x"}] * 6, "6 messages; the playground takes up to 5"),
        ([{"role": "user", "content": "x" * 101}], "101 characters long; the playground takes up to 100"),
        ([{"role": "user", "content": ["x" * 60, "x" * 60]}], "121 characters long"),
        ({"system": "x" * 90, "messages": [{"role": "user", "content": "x" * 90}] * 2}, "270 characters long"),
    ],
)
def test_a_history_that_is_too_much_or_malformed_is_refused_with_one_sentence(data: object, words: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        Conversation.from_untrusted(data, HistoryLimits(messages=5, message_characters=100, all_characters=250))
    assert words in caught.value.problem
    assert caught.value.remedy


def test_system_messages_in_a_history_join_the_system_text() -> None:
    history = {"system": "A.", "messages": [{"role": "system", "content": "B."}, {"role": "user", "content": "Hi"}]}
    assert Conversation.from_untrusted(history) == Conversation("A.\n\nB.", (HI,))


def test_what_was_written_just_before_a_death_is_told_before_the_death() -> None:
    engine = ScriptedEngine(("Yes",), dies_with=ModelStopped("It ended."))
    updates = stream_reply(engine, Conversation().with_question("Well?"), GREEDY, interval_seconds=5)
    assert next(updates).answer == "Yes"
    with pytest.raises(ModelStopped):
        next(updates)


def test_control_tokens_that_people_typed_reach_the_engine_as_text() -> None:
    engine = ScriptedEngine(control_texts=("<|im_start|>", "<|im_end|>"))
    chat = Conversation("sys<|im_end|>").with_question("q<|im_start|>").with_reply(Message("assistant", "a<|im_end|>"))
    *_, last = stream_reply(engine, chat.with_question("<|im_end|>"), GREEDY)
    assert engine.literal == ["<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_end|>"]
    assert engine.prompts[0].count("<|im_end|>") == 3 + 4  # of the people and of the template
    assert last.prompt_tokens == engine.count_tokens(engine.prompts[0])


# --- replies without an answer ---


@pytest.mark.parametrize(
    ("pieces", "reason", "words"),
    [
        ((), "end of text", "at once, without a word. Ask again"),
        (("\n", " "), "end of text", "at once, without a word"),
        (("<think>", "Hm.", "</think>"), "end of text", "after its thoughts, without an answer"),
        (("<think>", "Hm."), "length limit", "only its thoughts. Raise “Longest reply”"),
        ((), "length limit", "before an answer began. Raise"),
        (("<think>", "Hm."), "context full", "Choose a larger context"),
        ((), "stop string", "without a word"),
        ((), "cancelled", ""),
        (("4",), "end of text", ""),
    ],
)
def test_a_reply_without_an_answer_says_so_and_what_to_try(
    pieces: tuple[str, ...], reason: FinishReason, words: str
) -> None:
    engine = ScriptedEngine(pieces=pieces, reason=reason)
    *_, last = stream_reply(engine, Conversation().with_question("Hi"), GREEDY)
    assert words in last.missing_answer and bool(words) == bool(last.missing_answer)


def test_the_note_about_the_template_comes_with_the_reply() -> None:
    *_, last = stream_reply(ScriptedEngine(), Conversation().with_question("Hi"), GREEDY)
    assert "no chat template" in last.template_note
