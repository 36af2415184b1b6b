"""A chat that was reloaded, cleared, edited or saved comes back, or one sentence says what could not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.chat.keeping import TOO_LONG, ChatKeeping, KeptChat
from playground.app.chat.updates import ChatUpdate
from playground.app.resumable import ResumableReplies
from playground.chat.export import as_json, as_markdown
from playground.chat.history import HistoryLimits
from playground.chat.saved_chat import ChatSettings, growing_text
from playground.chat.session import ChatSession, Instructions
from playground.chat.template.message import Message
from playground.engine.protocol import Finished
from playground.errors import RequestRefused
from playground.limits.limits import Limits
from playground.limits.run import Run
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from tests.support.scripted_engine import TIMINGS
from tests.support.status_messages import sentence

ANNA, BACK = Visitor("a"), Visitor("a, after the reload")
KEY = "0123456789abcdef" * 2
LIMITS = HistoryLimits(messages=20, message_characters=1000, all_characters=10_000)
ASKED = ChatSession().with_question("What is 2+2?", LIMITS)
ANSWERED = ASKED.with_reply(Message("assistant", "4"), Finished(0, "end of text", TIMINGS))
LONGER = ANSWERED.with_question("And 3+3?", LIMITS).with_reply(
    Message("assistant", "6"), Finished(0, "end of text", TIMINGS)
)


@pytest.fixture
def runs() -> Iterator[Runs]:
    with Runs(Limits()) as runs:
        yield runs


@pytest.fixture
def keeping(runs: Runs) -> ChatKeeping:
    return ChatKeeping(runs, LIMITS, ResumableReplies())


def restored(keeping: ChatKeeping, **kept: str) -> ChatUpdate:
    return list(keeping.restore_chat(BACK, KeptChat(**kept)))[-1]


def texts(session: ChatSession | None) -> list[str]:
    return [message.content for message in session.conversation.messages] if session else []


# --- by a link ---


def test_a_link_asks_for_a_model_and_how_it_runs(keeping: ChatKeeping) -> None:
    asked = {"chat": "Fox 7B: new:Q4_1", "chat_context": "2048", "chat_kv": "q8_0", "chat_device": "CUDA0:27"}
    assert keeping.read_link(asked | {"chat_thinking": "off", "system": "Obey.", "prompt": "Hi"}) == ChatSettings(
        "Fox 7B: new", "Q4_1", context_size=2048, kv_type="q8_0", device="CUDA0:27", thinking="off"
    )


def test_what_a_link_asks_for_in_vain_is_named(keeping: ChatKeeping) -> None:
    asked = {"chat": "Fox:Q4_1", "chat_context": "9" * 30, "chat_kv": "<b>", "chat_device": "../.."}
    read = keeping.read_link(asked)
    assert read == ChatSettings("Fox", "Q4_1", ignored=("context size", "KV cache precision", "where it runs"))


@pytest.mark.parametrize("named", ["", ":", "Fox", ":Q4_1", f"{'x' * 600}:Q4_1", "\ud800:Q4_1"])
def test_a_link_that_names_no_model_of_chat_asks_for_nothing(keeping: ChatKeeping, named: str) -> None:
    assert keeping.read_link({"chat": named, "chat_kv": "q8_0", "left": "Fox:Q4_1"}) is None


# --- after a reload ---


def test_a_chat_at_rest_comes_back_with_its_figures(keeping: ChatKeeping) -> None:
    update = restored(keeping, stored=LONGER.to_stored_text())
    assert update.session and as_markdown(update.session.transcript()) == as_markdown(LONGER.transcript())
    assert update.problem is None and update.phase == "rest"


def test_a_question_whose_reply_is_gone_comes_back_with_what_was_written(keeping: ChatKeeping) -> None:
    update = restored(
        keeping, stored=ASKED.to_stored_text(), growing=growing_text(Message("assistant", "It is", "Hm.")), key=KEY
    )
    assert texts(update.session) == ["What is 2+2?", "It is"]
    assert "so the end of the reply is missing. What had come is kept" in sentence(update.problem)
    assert update.session and "so the end of the reply is missing" in as_json(update.session.transcript())


def test_a_question_whose_reply_had_not_begun_comes_back(keeping: ChatKeeping) -> None:
    nothing = growing_text(Message("assistant", ""))
    update = restored(keeping, stored=ASKED.to_stored_text(), growing=nothing, key=KEY)
    assert texts(update.session) == ["What is 2+2?"]
    assert "Regenerate asks again." in sentence(update.problem)


def test_a_question_that_was_stopped_before_a_reply_comes_back_as_it_was(keeping: ChatKeeping) -> None:
    update = restored(keeping, stored=ASKED.to_stored_text(), growing="")
    assert texts(update.session) == ["What is 2+2?"] and update.problem is None


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (TOO_LONG, "longer than a browser can keep"),
        ("{", "The chat kept by this browser cannot be opened: it is not JSON. A new chat was started."),
        (json.dumps([{"role": "wizard", "content": "Hi"}]), "A new chat was started."),
    ],
)
def test_a_chat_that_cannot_come_back_is_a_sentence(keeping: ChatKeeping, stored: str, said: str) -> None:
    update = restored(keeping, stored=stored, growing="x", key="y")
    assert said in sentence(update.problem) and update.session is None and update.phase == "rest"


# --- a reply that is under way on the server ---


def begin_reply(keeping: ChatKeeping, runs: Runs, *updates: ChatUpdate) -> None:
    """A reply of these updates, read to its end by a page that then lost its connection."""

    def work(has_begun: object) -> Iterator[ChatUpdate]:
        assert callable(has_begun)
        with runs.start_run(ANNA, "reply") as run:
            assert isinstance(run, Run)
            has_begun(run)
            yield from updates

    for _ in keeping.replies.start(KEY, ANNA, work):
        pass


def test_a_reply_that_ended_while_the_page_was_away_is_there(keeping: ChatKeeping, runs: Runs) -> None:
    begin_reply(
        keeping,
        runs,
        ChatUpdate(ASKED, phase="replying"),
        ChatUpdate(ASKED, Message("assistant", "It")),
        ChatUpdate(ANSWERED, phase="rest"),
    )
    update = restored(keeping, stored=ASKED.to_stored_text(), growing=".\x1eIt", key=KEY)
    assert texts(update.session) == ["What is 2+2?", "4"]
    assert (update.phase, update.growing, update.problem) == ("rest", None, None)


def test_a_chat_that_went_on_without_the_kept_reply_stays_as_it_is(keeping: ChatKeeping, runs: Runs) -> None:
    begin_reply(keeping, runs, ChatUpdate(ANSWERED, phase="rest"))
    assert texts(restored(keeping, stored=LONGER.to_stored_text(), key=KEY).session) == texts(LONGER)
    assert restored(keeping, stored="", key=KEY).session is None


def test_what_was_new_earlier_still_is_in_the_update_of_a_later_reader() -> None:
    first = ChatUpdate(ASKED, phase="replying", has_new_level=True)
    growth = ChatUpdate(ASKED, Message("assistant", "It"))
    both = growth.after(first)
    assert (both.phase, both.has_new_level, both.growing) == ("replying", True, growth.growing)
    assert ChatUpdate(ANSWERED, phase="rest").after(both).growing is None


# --- cleared, edited ---


def test_a_cleared_chat_can_be_brought_back(keeping: ChatKeeping) -> None:
    chat = replace(LONGER, instructions=Instructions("pirate.md", "Answer as a pirate."))
    cleared = keeping.clear_chat(chat)
    assert cleared.session and cleared.session.is_empty and "Undo" in sentence(cleared.problem)
    back = keeping.undo_clear(cleared.session).session
    assert back == chat


def test_a_cleared_chat_is_gone_once_another_one_has_begun(keeping: ChatKeeping) -> None:
    cleared = keeping.clear_chat(LONGER).session
    assert cleared and cleared.with_question("Hello", LIMITS).replaced is None


def test_an_earlier_message_is_replaced_with_all_that_follows_it() -> None:
    edited = LONGER.with_editing(0, "").with_question("What is 5+5?", LIMITS)
    assert texts(edited) == ["What is 5+5?"] and edited.finished == () and edited.editing is None


def test_leaving_an_edit_changes_nothing_and_gives_the_draft_back() -> None:
    editing = LONGER.with_editing(0, "my draft").with_editing(1, "What is 2+2?")
    assert (editing.editing, editing.draft) == (2, "my draft")
    assert editing.without_editing() == LONGER


@pytest.mark.parametrize("number", [2, 99, -2])
def test_a_message_that_is_not_there_cannot_be_edited(number: int) -> None:
    with pytest.raises(RequestRefused, match="no such message"):
        LONGER.with_editing(number, "")


# --- out of a file ---


def test_a_saved_chat_can_be_opened_again(keeping: ChatKeeping, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(as_json(LONGER.transcript()), encoding="utf-8")
    update, settings = keeping.open_chat(ANNA, ASKED, file)
    assert texts(update.session) == texts(LONGER)
    assert "chat.json is open: 4 messages. Undo brings the chat before it back." in sentence(update.problem)
    assert settings.numbers["temperature"] == LONGER.sampling.temperature
    assert update.session and keeping.undo_clear(update.session).session == ASKED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "is not a text in UTF-8"),
        (b"# Notes", "is not JSON"),
        (b"{}", "has no list of messages"),
        (b"[]", "is a chat without messages"),
        (b'{"panes": [], "messages": []}', "is a saved comparison"),
        (b"[" + b" " * 80_001 + b"]", "is longer than any chat here may be"),
    ],
)
def test_a_file_that_is_no_chat_changes_nothing_and_says_why(
    keeping: ChatKeeping, tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "notes.json"
    file.write_bytes(content)
    update, _ = keeping.open_chat(ANNA, LONGER, file)
    assert update.session is None and update.phase is None
    assert "notes.json" in sentence(update.problem) and said in sentence(update.problem)
