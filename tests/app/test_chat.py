"""The chat on the real starter model, update by update."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from playground.app.chat.keeping import KeptChat
from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatRequest, ChatUpdate, LoadReport, ReplyActivity
from playground.app.loaded_models import LoadedModels
from playground.app.messages import WorkProgress
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.resumable import ResumableReplies
from playground.app.services import Services
from playground.chat.session import ChatSession, Instructions, read_instructions
from playground.engine.local.load_queue import LoadStatus
from playground.engine.protocol import Finished
from playground.errors import DoesNotFit, RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.settings import load_settings
from tests.support.status_messages import sentence

ANNA, BEN, BACK = Visitor("a"), Visitor("b"), Visitor("a, after the reload")
KEY = "0123456789abcdef" * 2
STARTER = ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 2048)
BRIEFLY = ChatRequest(STARTER, sampling=GREEDY, max_tokens=12)
AT_LENGTH = ChatRequest(STARTER, sampling=GREEDY, max_tokens=2000)


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), updates_per_second=10)
    with Services(settings) as services:
        yield services


@pytest.fixture(scope="module")
def service(services: Services) -> ChatService:
    settings, pool = services.settings, services.pool
    picker = ModelPickerService(services.library, services.planner, pool.budget_for, settings.slots, runs=services.runs)
    return ChatService(settings, pool, picker, LoadedModels(pool, services.planner, picker))


def last_session(updates: list[ChatUpdate]) -> ChatSession:
    return [update.session for update in updates if update.session][-1]


# --- the chat ---


def test_a_reply_grows_and_ends_with_its_speed(service: ChatService) -> None:
    updates = list(service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY))
    growing = [update.growing.content for update in updates if update.growing]
    assert all(later.startswith(earlier) for earlier, later in pairwise(growing))
    assert updates[-1].phase == "rest"
    last = updates[-1]
    assert last.activity and isinstance(last.activity.event, Finished) and last.activity.stopped_by is None
    timings = last.activity.event.timings
    assert timings.generation_speed and timings.time_to_first_token and timings.generated_tokens
    assert last.context and last.context.size == 2048 and last.context.used
    assert last.details and last.details.timings == timings and last.details.plan and last.details.memory
    assert last_session(updates).conversation.messages[-1].content.startswith(growing[-1])


def test_a_second_turn_finds_the_first_in_the_cache(service: ChatService) -> None:
    session = last_session(list(service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY)))
    updates = list(service.send_message(ANNA, session, "And 3+3?", BRIEFLY))
    assert updates[-1].details and (updates[-1].details.timings.cached_tokens or 0) > 20
    assert len(last_session(updates).conversation.messages) == 4


def test_a_stopped_reply_keeps_what_was_written_and_the_next_one_works(service: ChatService) -> None:
    updates = []
    for update in service.send_message(ANNA, ChatSession(), "Write a long story about a fox.", AT_LENGTH):
        updates.append(update)
        if update.growing and update.growing.content:
            service.stop_work(ANNA)
    assert updates[-1].activity and updates[-1].activity.stopped_by == "person"
    assert updates[-1].phase == "rest"
    assert last_session(updates).conversation.messages[-1].content
    assert list(service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY))[-1].details


def test_one_visitor_cannot_stop_another(service: ChatService) -> None:
    chat = service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY)
    next(chat)
    service.stop_work(BEN)
    last = list(chat)[-1]
    assert last.activity and last.activity.stopped_by is None


def test_a_busy_chat_refuses_a_second_question_and_goes_on(service: ChatService) -> None:
    chat = service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY)
    next(chat)
    (refusal,) = service.send_message(ANNA, ChatSession(), "And now?", BRIEFLY)
    assert "still busy" in sentence(refusal.problem)
    assert refusal.phase is None
    assert list(chat)[-1].phase == "rest"


def test_a_chat_that_is_left_in_the_middle_frees_its_place(service: ChatService) -> None:
    chat = service.send_message(ANNA, ChatSession(), "Write a long story.", AT_LENGTH)
    for update in chat:
        if update.growing:
            break
    chat.close()  # type: ignore[attr-defined]
    assert list(service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY))[-1].phase == "rest"


def test_a_reply_goes_on_when_its_page_was_reloaded_and_the_new_page_can_stop_it(
    services: Services, service: ChatService
) -> None:
    chat = service.send_message(ANNA, ChatSession(), "Write a long story.", AT_LENGTH, KEY)
    kept = next(chat).session
    before = next(update.growing.content for update in chat if update.growing and update.growing.content)
    chat.close()  # type: ignore[attr-defined]
    services.runs.end_session(ANNA.session)
    back = service.keeping.restore_chat(BACK, KeptChat(kept.to_stored_text() if kept else "", key=KEY))
    reloaded = next(back)
    assert reloaded.growing and reloaded.growing.content.startswith(before) and reloaded.phase == "replying"
    longer = next(u.growing for u in back if u.growing and len(u.growing.content) > len(reloaded.growing.content))
    service.stop_work(BACK)
    last = list(back)[-1]
    assert last.activity and last.activity.stopped_by == "person" and last.phase == "rest"
    assert last.session and last.session.conversation.messages[-1].content.startswith(longer.content)
    assert not services.runs.count_runs()


def test_a_reply_whose_page_stays_away_frees_its_place(services: Services, service: ChatService) -> None:
    impatient = ChatService(
        services.settings, services.pool, service.picker, service.loaded_models, ResumableReplies(absence_seconds=0)
    )
    chat = impatient.send_message(ANNA, ChatSession(), "Write a long story.", AT_LENGTH, KEY)
    next(update for update in chat if update.growing)
    chat.close()  # type: ignore[attr-defined]
    services.runs.wait_until_idle(60)
    assert not services.runs.count_runs()
    for _ in impatient.replies.resume(KEY, ANNA):  # to its end, which comes a moment after the place is free
        pass
    kept, goes_on = impatient.replies.find(KEY)
    assert kept and kept.activity and kept.activity.stopped_by == "absence" and not goes_on


def test_another_reply_takes_the_place_of_the_last(service: ChatService) -> None:
    session = last_session(list(service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY)))
    again = last_session(list(service.regenerate_reply(ANNA, session, BRIEFLY)))
    assert [message.role for message in again.conversation.messages] == ["user", "assistant"]
    assert [place for place, _ in again.finished] == [1]


def test_an_edited_question_takes_the_place_of_the_old_one(service: ChatService) -> None:
    session = last_session(list(service.send_message(ANNA, ChatSession(), "What is 2+2?", BRIEFLY)))
    edited = last_session(list(service.send_message(ANNA, session.with_editing(-1, ""), "What is 3+3?", BRIEFLY)))
    assert [message.content for message in edited.conversation.messages if message.role == "user"] == ["What is 3+3?"]
    assert edited.editing is None


def test_an_empty_message_is_answered_with_what_to_do(service: ChatService) -> None:
    (update,) = service.send_message(ANNA, ChatSession(), "  ", BRIEFLY)
    assert "Type something first." in sentence(update.problem)


def test_a_message_beyond_the_context_is_refused_with_figures_and_kept(service: ChatService) -> None:
    updates = list(service.send_message(ANNA, ChatSession(), "word " * 5000, BRIEFLY))
    assert re.search(r"takes [\d,]+ tokens; a context of 2,048", sentence(updates[-1].problem))
    assert updates[-1].phase == "rest"
    assert last_session(updates).last_question.startswith("word")


def test_a_model_that_is_gone_is_an_ordinary_error(service: ChatService) -> None:
    updates = list(
        service.send_message(ANNA, ChatSession(), "Hello", replace(BRIEFLY, choice=replace(STARTER, level="Q9")))
    )
    assert "Choose another one from the list." in sentence(updates[-1].problem)
    assert updates[-1].phase == "rest"


def test_a_load_shows_progress_and_then_predicted_beside_measured(service: ChatService) -> None:
    updates = list(service.load_model(ANNA, replace(STARTER, context_size=1024)))
    stages = [update.progress.stage for update in updates if isinstance(update.progress, WorkProgress)]
    assert "Loading SmolLM2 135M Instruct · Q4_1" in stages
    report = updates[-1].progress
    assert isinstance(report, LoadReport) and report.plan.total > 0 and report.memory.resident > 0


def test_a_model_in_memory_can_be_unloaded_but_not_under_somebody(service: ChatService) -> None:
    choice = replace(STARTER, context_size=1024)
    loaded = list(service.load_model(ANNA, choice))[-1].loaded_models
    assert loaded and loaded.has_selected
    reply = service.send_message(BEN, ChatSession(), "Hello", replace(AT_LENGTH, choice=choice))
    next(update for update in reply if update.growing and update.growing.content)
    assert "in use, so it stays in memory" in sentence(service.unload_model(choice).progress)
    service.stop_work(BEN)
    list(reply)
    unloaded = service.unload_model(choice)
    assert "was unloaded" in sentence(unloaded.progress)
    assert unloaded.loaded_models and not unloaded.loaded_models.has_selected
    assert "not in memory any more" in sentence(service.unload_model(choice).progress)


@pytest.mark.parametrize("ran_out", [False, True])
def test_loading_anyway_is_offered_only_before_memory_has_run_out(
    service: ChatService, services: Services, monkeypatch: pytest.MonkeyPatch, ran_out: bool
) -> None:
    def refuse(*_: object, **__: object) -> Iterator[LoadStatus]:
        raise DoesNotFit("It needs more.", ran_out=ran_out)
        yield

    monkeypatch.setattr(services.pool, "lease_model", refuse)
    last = list(service.load_model(ANNA, replace(STARTER, context_size=640)))[-1]
    assert last.may_load_anyway is not ran_out


def test_a_first_message_tells_of_the_load_where_its_reply_will_stand(service: ChatService) -> None:
    updates = list(
        service.send_message(ANNA, ChatSession(), "Hi", replace(BRIEFLY, choice=replace(STARTER, context_size=1792)))
    )
    openings = [update.opening.stage for update in updates if update.opening]
    assert set(openings) == {"Loading SmolLM2 135M Instruct · Q4_1"}
    assert not any(isinstance(update.progress, WorkProgress) for update in updates)
    assert updates[-1].opening is None and updates[-1].activity and updates[-1].activity.trace.speeds


def test_only_a_first_message_tells_how_long_the_load_before_it_took(service: ChatService) -> None:
    request = replace(BRIEFLY, choice=replace(STARTER, context_size=1280))
    first, second = (list(service.send_message(ANNA, ChatSession(), "Hello", request))[-1] for _ in range(2))
    assert first.details and first.details.load_seconds and first.details.timings.time_to_first_token
    assert first.activity and first.activity.load_seconds == first.details.load_seconds
    assert second.details and second.details.load_seconds is None


def test_a_cancelled_load_says_so(service: ChatService) -> None:
    loading = service.load_model(ANNA, replace(STARTER, context_size=768))
    next(loading)
    service.stop_work(ANNA)
    assert sentence(list(loading)[-1].progress) == "Loading cancelled."


def test_a_question_whose_load_is_cancelled_leaves_the_page_ready(service: ChatService) -> None:
    request = replace(BRIEFLY, choice=replace(STARTER, context_size=896))
    updates = service.send_message(ANNA, ChatSession(), "Hi", request)
    next(updates)
    service.stop_work(ANNA)
    last = list(updates)[-1]
    assert sentence(last.problem) == "Loading cancelled."
    assert last.phase == "rest" and last.activity == ReplyActivity()


def test_attached_instructions_reach_the_model(service: ChatService) -> None:
    session = ChatSession(instructions=Instructions("skill.md", "Answer as a pirate."))
    asked = last_session(list(service.send_message(ANNA, session, "Hello", replace(BRIEFLY, system="Be kind."))))
    assert asked.conversation.system == "Be kind.\n\nAnswer as a pirate."
    assert asked.cleared().instructions == session.instructions


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe\x00", b"x\x00y", b"x" * 500_000])
def test_a_file_that_is_no_short_text_is_refused_as_instructions(
    service: ChatService, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "skill.md"
    file.write_bytes(content)
    with pytest.raises(RequestRefused, match=r"skill\.md"):
        read_instructions(file, service.limits)


def test_the_end_of_the_playground_ends_a_reply_with_a_sentence_and_keeps_its_text(
    starter: Path, tmp_path: Path
) -> None:
    with Services(load_settings(data_dir=tmp_path, updates_per_second=10)) as services:
        settings, pool = services.settings, services.pool
        picker = ModelPickerService(
            services.library, services.planner, pool.budget_for, settings.slots, runs=services.runs
        )
        service = ChatService(settings, pool, picker, LoadedModels(pool, services.planner, picker))
        updates = []
        for update in service.send_message(ANNA, ChatSession(), "Tell me a long story.", AT_LENGTH):
            updates.append(update)
            if update.growing and update.growing.content:
                services.runs.close()
        services.runs.wait_until_idle(0)
        assert not services.runs.count_runs()
        assert "The playground is shutting down." in sentence(updates[-1].problem)
        assert updates[-1].activity and updates[-1].activity.stopped_by == "shutdown"
        assert last_session(updates).conversation.messages[-1].content
        refused = list(service.send_message(ANNA, ChatSession(), "Hello", BRIEFLY))
        assert "shutting down" in sentence(refused[-1].problem)
