"""Several visitors at one playground with the real starter: who waits, who joins, who is refused, what is freed.

The computer is a small one: there is room for one loaded model at a time, as the plans say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatRequest, ChatUpdate
from playground.app.loaded_models import LoadedModels, LoadedModelsView
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.conversation import Conversation
from playground.chat.session import ChatSession
from playground.chat.template.message import Message
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Queued
from playground.limits.limits import Limits
from playground.limits.run import GRACE_SECONDS
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.settings import load_settings
from tests.support.status_messages import sentence

ANNA, BEN, CHRIS = (Visitor(name, f"198.51.100.{number}") for number, name in enumerate("abc", 1))
MINE = ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 2048)
OTHER = replace(MINE, context_size=4096)
AT_LENGTH = ChatRequest(MINE, sampling=GREEDY, max_tokens=1500)
BRIEFLY = replace(AT_LENGTH, max_tokens=12)
STORY, SUM = "Write a long story about a fox.", "What is 2+2?"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), slots=1, updates_per_second=10)
    with Services(settings) as services:
        yield services


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(clock: Clock) -> Runs:
    return Runs(Limits(replies=3, replies_each=1, reply_tokens=1500, reply_seconds=60), clock=clock)


@pytest.fixture
def pool(services: Services, starter: Path) -> Iterator[ModelPool]:
    plans = [
        services.planner.plan(starter, ModelPickerService.context_parameters(picker_of(services), choice))
        for choice in (MINE, OTHER)
    ]
    room = plans[1].total + plans[0].must_stay // 2
    pools: list[ModelPool] = []

    def usable() -> int:
        return room - sum(one.plan.must_stay for one in pools[0].loaded_models() if one.plan and one.state == "ready")

    with closing(CpuShares(2)) as cores, closing(ModelPool(cores, services.planner, usable)) as pool:
        pools.append(pool)
        yield pool


def picker_of(services: Services, runs: Runs | None = None) -> ModelPickerService:
    return ModelPickerService(services.library, services.planner, services.pool.budget_for, 1, runs=runs)


@pytest.fixture
def service(services: Services, pool: ModelPool, runs: Runs) -> ChatService:
    picker = picker_of(services, runs)
    return ChatService(services.settings, pool, picker, LoadedModels(pool, services.planner, picker))


def until_it_writes(chat: Iterator[ChatUpdate]) -> ChatUpdate:
    return next(frame for frame in chat if frame.growing and frame.growing.content)


# --- another model than the one in memory ---


def test_a_model_in_use_stays_and_who_wants_another_hears_for_whom_it_waits(
    service: ChatService, pool: ModelPool
) -> None:
    anna = service.send_message(ANNA, ChatSession(), STORY, AT_LENGTH)
    until_it_writes(anna)
    ben = service.send_message(BEN, ChatSession(), SUM, replace(BRIEFLY, choice=OTHER))
    waiting = next(frame for frame in ben if "Waiting for memory" in sentence(frame.opening))
    assert "SmolLM2 135M Instruct · Q4_1 (1 user): you are next" in sentence(waiting.opening)
    until_it_writes(anna)  # it is still hers
    service.stop_work(ANNA)
    list(anna)
    frames = list(ben)
    assert "4" in frames[-1].session.conversation.messages[-1].content  # type: ignore[union-attr]
    assert [model.key.context.context_size for model in pool.loaded_models()] == [4096]


def test_who_waits_may_join_the_model_in_memory_instead(service: ChatService) -> None:
    anna = service.send_message(ANNA, ChatSession(), SUM, BRIEFLY)
    until_it_writes(anna)
    ben = service.send_message(BEN, ChatSession(), SUM, replace(BRIEFLY, choice=OTHER))
    next(frame for frame in ben if "Waiting for memory" in sentence(frame.opening))
    view = service.loaded_models.view(OTHER)
    (row,) = view.rows
    assert row.users == 1 and view.swap and view.swap.room == "waits for others"
    joined = service.choose_loaded_model(BEN, row.value)
    assert joined == MINE
    assert list(ben)[-1].phase == "rest"
    list(anna)
    assert list(service.send_message(BEN, ChatSession(), SUM, replace(BRIEFLY, choice=joined)))[-1].details


def test_a_swap_tells_what_it_takes_as_soon_as_that_was_measured(service: ChatService) -> None:
    assert service.loaded_models.view(MINE) == LoadedModelsView()
    last = list(service.load_model(ANNA, MINE))[-1]
    assert last.loaded_models and [row.is_selected for row in last.loaded_models.rows] == [True]
    swap = service.loaded_models.view(OTHER).swap
    assert swap and swap.room == "replaces idle" and swap.time and swap.time.is_measured


@pytest.mark.parametrize("pressed", ["", "x", "a\nb\nc\nd", "../../etc/passwd\nQ4_1\n512\nf16", "\n" * 50])
def test_any_text_that_a_browser_sends_as_a_button_is_only_a_choice(service: ChatService, pressed: str) -> None:
    last = list(service.picker.views(service.choose_loaded_model(ANNA, pressed)))[-1]
    assert last.choice.model == "SmolLM2-135M-Instruct"


# --- the same model ---


def test_who_waits_for_a_place_hears_it_and_for_how_long(service: ChatService) -> None:
    list(service.send_message(ANNA, ChatSession(), SUM, BRIEFLY))
    anna, ben = (service.send_message(visitor, ChatSession(), STORY, AT_LENGTH) for visitor in (ANNA, BEN))
    until_it_writes(anna)
    events = (frame.activity.event for frame in ben if frame.activity)
    queued = next(event for event in events if isinstance(event, Queued))
    assert queued.position == 1 and queued.wait_seconds and queued.wait_seconds > 0
    service.stop_work(ANNA)
    list(anna)
    until_it_writes(ben)
    service.stop_work(BEN)
    list(ben)


# --- shares and limits ---


def test_pages_of_one_person_share_one_share_and_others_have_theirs(service: ChatService) -> None:
    anna = service.send_message(ANNA, ChatSession(), STORY, AT_LENGTH)
    next(anna)
    (refusal,) = service.send_message(replace(ANNA, session="another page"), ChatSession(), SUM, BRIEFLY)
    assert "You have 1 reply under way, the most for one visitor here" in sentence(refusal.problem)
    assert refusal.session is None and refusal.phase is None  # what was written stays in the box
    next(service.send_message(BEN, ChatSession(), SUM, BRIEFLY))
    service.stop_work(ANNA)
    list(anna)


def test_a_reply_that_is_asked_to_be_too_long_is_refused_with_the_figure(service: ChatService) -> None:
    (refusal,) = service.send_message(ANNA, ChatSession(), SUM, replace(BRIEFLY, max_tokens=1_000_000))
    assert "up to 1,500 tokens here; 1,000,000 were asked for" in sentence(refusal.problem)


@pytest.mark.parametrize(
    ("chat_request", "messages", "problem"),
    [
        (replace(BRIEFLY, system="x" * 100_001), 0, "The system prompt is 100,001 characters long; the playground"),
        (BRIEFLY, 200, "This chat has 201 messages; the playground takes up to 200. Start a new chat."),
    ],
)
def test_a_chat_that_has_become_too_long_is_refused_with_the_figures(
    service: ChatService, chat_request: ChatRequest, messages: int, problem: str
) -> None:
    chat_session = ChatSession(Conversation("", (Message("user", "Hi"), Message("assistant", "Hi")) * (messages // 2)))
    (refusal,) = service.send_message(ANNA, chat_session, SUM, chat_request)
    assert problem in sentence(refusal.problem)


def test_a_reply_ends_with_its_time_and_keeps_what_was_written(service: ChatService, clock: Clock) -> None:
    anna = service.send_message(ANNA, ChatSession(), STORY, AT_LENGTH)
    until_it_writes(anna)
    clock.now += 60
    last = list(anna)[-1]
    assert "stopped after 1 minute" in sentence(last.problem) and last.activity and last.activity.stopped_by == "time"
    assert last.session and last.session.conversation.messages[-1].content
    assert last.phase == "rest"


# --- what is freed ---


def test_a_page_that_is_gone_frees_its_reply_and_its_model(service: ChatService, pool: ModelPool, runs: Runs) -> None:
    anna = service.send_message(ANNA, ChatSession(), STORY, AT_LENGTH)
    until_it_writes(anna)
    runs.end_session(ANNA.session)
    assert list(anna)[-1].phase == "rest"
    assert [model.users for model in pool.loaded_models()] == [0]


def test_what_a_gone_page_no_longer_moves_on_is_freed_in_its_place(
    service: ChatService, pool: ModelPool, runs: Runs, clock: Clock
) -> None:
    anna = service.send_message(ANNA, ChatSession(), STORY, AT_LENGTH)
    until_it_writes(anna)
    runs.end_session(ANNA.session)
    clock.now += GRACE_SECONDS
    runs.release_abandoned_runs()
    assert [model.users for model in pool.loaded_models()] == [0]
    assert not runs.count_runs()
    ben = service.send_message(BEN, ChatSession(), SUM, BRIEFLY)  # the only place is free again
    assert "4" in until_it_writes(ben).growing.content + list(ben)[-1].session.conversation.messages[-1].content  # type: ignore[union-attr]
    assert list(anna)[-1].phase == "rest"


def test_a_page_that_is_gone_while_it_waits_leaves_the_line(service: ChatService, pool: ModelPool, runs: Runs) -> None:
    anna = service.send_message(ANNA, ChatSession(), STORY, AT_LENGTH)
    until_it_writes(anna)
    ben = service.send_message(BEN, ChatSession(), SUM, replace(BRIEFLY, choice=OTHER))
    next(frame for frame in ben if "Waiting for memory" in sentence(frame.opening))
    runs.end_session(BEN.session)
    assert list(ben)[-1].phase == "rest"
    assert [model.state for model in pool.loaded_models()] == ["ready"]
    service.stop_work(ANNA)
    list(anna)
