"""The last question of a chat at another level, and a reply that goes on, on the real starter model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatRequest, ChatUpdate
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.conversation import WrittenReply
from playground.chat.history import HistoryLimits
from playground.chat.saved_chat import read_saved_chat
from playground.chat.session import ChatSession
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.settings import load_settings
from tests.support.status_messages import sentence

ANNA = Visitor("a")
MODEL = "SmolLM2-135M-Instruct"
SHIPPED, COARSE = ModelChoice(MODEL, "Q4_1", 2048), ModelChoice(MODEL, "Q2_0", 2048)
BRIEFLY = ChatRequest(SHIPPED, sampling=GREEDY, max_tokens=12)
STORY = "Write a story about a fox."


@pytest.fixture(scope="module")
def service(starter: Path, low_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatService]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), updates_per_second=10)
    with Services(settings) as services:
        made = services.library.path_for_level(MODEL, "Q2_0")
        made.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(low_level, made)
        pool, planner = services.pool, services.planner
        picker = ModelPickerService(services.library, planner, pool.budget_for, settings.slots, runs=services.runs)
        yield ChatService(settings, pool, picker, LoadedModels(pool, planner, picker))


@pytest.fixture(scope="module")
def asked(service: ChatService) -> ChatSession:
    return last_session(service.send_message(ANNA, ChatSession(), STORY, BRIEFLY))


def last_session(updates: Iterator[ChatUpdate]) -> ChatSession:
    return [update.session for update in updates if update.session][-1]


def at(choice: ModelChoice) -> ChatRequest:
    return replace(BRIEFLY, choice=choice)


def reply(session: ChatSession) -> str:
    return session.conversation.messages[-1].content


def test_another_level_answers_beside_the_answer_before(service: ChatService, asked: ChatSession) -> None:
    both = last_session(service.swap_level(ANNA, asked, at(COARSE)))
    assert both.beside and both.beside.reply.content == reply(asked) and both.beside.model.level == "Q4_1"
    assert both.model.level == "Q2_0" and reply(both) != reply(asked)
    assert len(both.conversation.messages) == 2


def test_an_answer_that_was_given_comes_back_at_once(service: ChatService, asked: ChatSession) -> None:
    both = last_session(service.swap_level(ANNA, asked, at(COARSE)))
    (back,) = service.swap_level(ANNA, both, at(SHIPPED))
    assert back.session and reply(back.session) == reply(asked) and back.phase == "rest"
    assert back.session.beside and back.session.beside.reply.content == reply(both)


def test_one_of_the_two_answers_is_kept(service: ChatService, asked: ChatSession) -> None:
    both = last_session(service.swap_level(ANNA, asked, at(COARSE)))
    newest, other = (service.keep_answer(both, is_newest=is_newest).session for is_newest in (True, False))
    assert newest and newest.beside is None and reply(newest) == reply(both)
    assert other and other.beside is None and reply(other) == reply(asked) and other.model.level == "Q4_1"


def test_both_answers_outlive_a_reload(service: ChatService, asked: ChatSession) -> None:
    both = last_session(service.swap_level(ANNA, asked, at(COARSE)))
    back, _ = read_saved_chat(both.to_stored_text(), HistoryLimits(), 4096)
    assert back.beside and back.beside.reply.content == reply(asked)
    assert back.beside.model.chosen == (MODEL, "Q4_1") and back.beside.finished
    assert reply(back) == reply(both)


@pytest.mark.parametrize("others", ["x", [1], [{"messages": "x"}], [{"messages": [{"role": "user", "content": "x"}]}]])
def test_other_answers_that_make_no_sense_are_left_out(asked: ChatSession, others: object) -> None:
    text = json.dumps(json.loads(asked.to_stored_text()) | {"others": others})
    back, _ = read_saved_chat(text, HistoryLimits(), 4096)
    assert back.others == () and reply(back) == reply(asked)


def test_an_answer_comes_back_if_the_other_level_gives_none(service: ChatService, asked: ChatSession) -> None:
    *_, last = service.swap_level(ANNA, asked, at(ModelChoice(MODEL, "Q9", 2048)))
    assert last.session and reply(last.session) == reply(asked) and last.session.beside is None
    assert sentence(last.problem)


def test_the_next_question_keeps_the_newest_answer(service: ChatService, asked: ChatSession) -> None:
    both = last_session(service.swap_level(ANNA, asked, at(COARSE)))
    after = last_session(service.send_message(ANNA, both, "And then?", at(COARSE)))
    assert after.beside is None and after.conversation.messages[1].content == reply(both)


def test_a_reply_that_goes_on_is_the_unbroken_one(service: ChatService, asked: ChatSession) -> None:
    unbroken = last_session(service.send_message(ANNA, ChatSession(), STORY, replace(BRIEFLY, max_tokens=24)))
    assert asked.may_continue
    updates = list(service.continue_reply(ANNA, asked, BRIEFLY))
    longer = last_session(iter(updates))
    assert all(update.growing.content.startswith(reply(asked)) for update in updates if update.growing)
    assert reply(longer) == reply(unbroken)
    assert longer.last_end and longer.last_end.timings.generated_tokens == 24


def test_after_a_reload_a_reply_goes_on_from_its_text(service: ChatService, asked: ChatSession) -> None:
    back, _ = read_saved_chat(asked.to_stored_text(), HistoryLimits(), 4096)
    assert back.written is None
    longer = last_session(service.continue_reply(ANNA, back, BRIEFLY))
    assert reply(longer).startswith(reply(asked)) and len(reply(longer)) > len(reply(asked))


def test_a_whole_reply_cannot_go_on(service: ChatService) -> None:
    whole = last_session(service.send_message(ANNA, ChatSession(), "What is 2+2?", replace(BRIEFLY, max_tokens=200)))
    assert not whole.may_continue
    (refused,) = service.continue_reply(ANNA, whole, BRIEFLY)
    assert "no reply to continue" in sentence(refused.problem)


def test_a_full_context_is_said_before_a_reply_goes_on(service: ChatService, asked: ChatSession) -> None:
    written = WrittenReply(asked.conversation.messages[-1], (1,) * 2100, "x")
    *_, last = service.continue_reply(ANNA, replace(asked, written=written), BRIEFLY)
    assert "context is full" in sentence(last.problem)
    assert last.session and reply(last.session) == reply(asked)
