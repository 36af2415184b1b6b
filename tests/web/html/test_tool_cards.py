"""Calls of tools as cards: what the model wrote, letter by letter, and what came of it."""

from __future__ import annotations

import re
from html import unescape

from playground.chat.session import NOT_RUN, ChatSession
from playground.chat.template.message import MalformedCall, Message, ToolCall
from playground.engine.protocol import Finished
from playground.web.html.reply import chatbot_messages
from playground.web.html.tool_cards import asked_line
from tests.support.scripted_engine import TIMINGS

CALL = ToolCall("calculator", '{"expression": "2*3 <b> $$x$$\\n\\n_a_"}', "a1")
OTHER = ToolCall("date", "{}", "a2")
ASKED = Message("user", "2*3?")


def shown(*messages: Message) -> list[str]:
    """The text of each part of the conversation, without the copy button's original."""
    parts = [turn["content"]["text"] for turn in chatbot_messages(list(messages))]
    return [re.sub("^<!--.*?-->\n\n", "", part) for part in parts]


def words(markup: str) -> str:
    return unescape(re.sub("<[^>]*>", " ", markup))


def test_a_call_and_its_result_are_one_card_in_the_conversation() -> None:
    reply = Message("assistant", "Let me see.", tool_calls=(CALL, OTHER))
    parts = shown(ASKED, reply, Message("tool", "6", answers="a1"), Message("assistant", "It is 6."))
    assert len(parts) == 5 and parts[1] == "Let me see." and parts[4] == "It is 6."
    assert "calculator" in words(parts[2]) and CALL.arguments in words(parts[2]) and " 6 " in words(parts[2])
    assert "not run yet" in words(parts[3]) and "not run yet" not in words(parts[2])


def test_what_stands_in_a_card_is_neither_markup_nor_markdown() -> None:
    (card,) = shown(Message("assistant", "", tool_calls=(CALL,)))
    assert "<b> " not in card and "$" not in card and "_a_" not in card and "\n\n" not in card


def test_a_card_says_why_a_call_did_not_run() -> None:
    reply = Message("assistant", "", tool_calls=(CALL, OTHER))
    results = Message("tool", NOT_RUN, answers="a1"), Message("tool", '{"error": "no date"}', answers="a2")
    refused, failed = shown(reply, *results)
    assert "gp-call-refused" in refused and NOT_RUN not in words(refused)
    assert "gp-call-failed" in failed and "no date" in words(failed)


def test_a_malformed_call_stands_letter_by_letter_with_the_wrong_one_marked() -> None:
    text = '<tool_call>{"name" "date"}</tool_call>'
    call = MalformedCall(text, "it is not JSON", text.index('"date"'))
    answer, card = shown(Message("assistant", f"Well: {text}", malformed_calls=(call,)))
    assert answer == "Well:" and "It is not JSON" in words(card)
    (pre,) = re.findall("<pre[^>]*>(.*?)</pre>", card)
    assert unescape(re.sub("</?mark>", "", pre)) == text
    assert unescape(re.findall("<mark>(.*?)</mark>", pre)[0]) == '"'
    (cut,) = shown(Message("assistant", text[:15], malformed_calls=(MalformedCall(text[:15], "it ends", 15),)))
    assert "<mark>the end</mark>" in cut


def test_the_question_names_the_tools_of_a_whole_reply() -> None:
    reply = Message("assistant", "", tool_calls=(CALL, OTHER))
    session = ChatSession().with_reply(reply, Finished(0, "end of text", TIMINGS))
    question = words(str(asked_line(session)))
    assert "calculator" in question and "They have not run yet" in question
    assert not asked_line(ChatSession().with_partial_reply(reply, "You stopped the reply."))
