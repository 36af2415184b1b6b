"""A server's model in the picker, the Chat tab and the Compare tab, beside the starter: what a person sees."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatRequest
from playground.app.compare.comparison import CompareRequest, Comparison
from playground.app.compare.link import link_query
from playground.app.compare.service import CompareService
from playground.app.compare.updates import ComparedAnswers, CompareUpdate
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.servers import Servers
from playground.app.services import Services
from playground.chat.comparison import Mode
from playground.chat.export import as_json, as_markdown
from playground.chat.first_difference import NoDifference
from playground.chat.session import ChatSession
from playground.engine.protocol import Finished
from playground.errors import ModelNotFound, RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.servers import read_server
from playground.settings import load_settings
from playground.web.html.compare.panes import pane_line
from tests.support.server_process import ALIAS, KEY, ServerProcess
from tests.support.server_stand_in import KEY as STAND_IN_KEY
from tests.support.server_stand_in import ServerStandIn
from tests.support.status_messages import sentence

HERE = ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 2048)
THERE = ModelChoice(f"{ALIAS}@workshop", "on workshop")
SUM = "What is 2+2?"
ANSWER = "The answer to this classic math problem is 4."
ANN = Visitor("ann")


@pytest.fixture(scope="module")
def server(starter: Path) -> Iterator[ServerProcess]:
    with ServerProcess(starter) as process:
        yield process


@pytest.fixture(scope="module")
def services(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    settings = load_settings(
        data_dir=tmp_path_factory.mktemp("data"),
        updates_per_second=10,
        remotes=(read_server("workshop", server.url, KEY),),
    )
    with Services(settings) as services:
        yield services


@pytest.fixture(scope="module")
def picker(services: Services) -> ModelPickerService:
    return ModelPickerService(
        services.library, services.planner, services.pool.budget_for, services.settings.slots,
        runs=services.runs, servers=Servers(services.remotes, may_add=True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def chat(services: Services, picker: ModelPickerService) -> ChatService:
    return ChatService(services.settings, services.pool, picker, LoadedModels(services.pool, services.planner, picker))


@pytest.fixture(scope="module")
def comparison(services: Services, picker: ModelPickerService) -> CompareService:
    return CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))


@pytest.fixture(scope="module")
def compared(comparison: CompareService) -> CompareUpdate:
    """The starter here beside the starter on the server: the last update."""
    request = CompareRequest((HERE, THERE), sampling=GREEDY, max_tokens=24)
    return list(comparison.ask_both(ANN, Comparison(), SUM, request))[-1]


def text_of(markup: str | None) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup or "")).strip()


# --- the picker ---


def test_a_server_s_model_is_on_the_list_with_where_it_runs(picker: ModelPickerService) -> None:
    last = list(picker.views(HERE))[-1]
    assert (f"{ALIAS}, runs on workshop", THERE.model) in last.models
    assert last.choice == HERE and last.verdict


def test_a_server_s_model_has_no_level_of_its_own_and_no_verdict(picker: ModelPickerService) -> None:
    last = list(picker.views(ModelChoice(THERE.model)))[-1]
    assert last.choice == THERE
    assert [row.name for row in last.levels] == ["runs on workshop"]
    assert (last.plan, last.verdict, last.steps) == (None, None, ())
    assert "needs no memory on this computer" in last.problem


@pytest.mark.parametrize("model", ["nothing@workshop", "x@elsewhere", "@", f"{ALIAS}@WORKSHOP"])
def test_a_model_that_no_server_offers_is_refused(picker: ModelPickerService, model: str) -> None:
    with pytest.raises(ModelNotFound):
        list(picker.prepare_model(ModelChoice(model, "on workshop"), lambda: False))


def test_a_server_that_cannot_be_asked_stands_on_the_list_and_says_why(
    services: Services, server: ServerProcess
) -> None:
    wrong = load_settings(remotes=(read_server("attic", server.url, "guess"),))
    with Services(wrong) as others:
        picker = ModelPickerService(
            others.library, others.planner, others.pool.budget_for, 4, servers=Servers(others.remotes)
        )  # fmt: skip
        assert ("attic (not reachable)", "@attic") in picker.model_names(wait=True)
        (view,) = picker.views(ModelChoice("@attic"))
        assert "attic does not accept the key" in view.problem


def test_a_person_may_enter_a_server_and_use_it(
    services: Services, server: ServerProcess, picker: ModelPickerService
) -> None:
    assert picker.servers.add_server("bench", server.url, KEY) == "Connected to bench: 1 model added to the list."
    assert f"{ALIAS}@bench" in {value: name for name, value in picker.model_names()}
    with pytest.raises(RequestRefused, match="Servers cannot be added here"):
        Servers(services.remotes).add_server("shed", server.url, KEY)


# --- the chat ---


def test_a_server_s_model_chats_with_its_times_and_without_made_up_memory(chat: ChatService) -> None:
    frames = list(chat.send_message(ANN, ChatSession(), SUM, ChatRequest(THERE, sampling=GREEDY, max_tokens=24)))
    last = frames[-1]
    chat_session = [frame.session for frame in frames if frame.session][-1]
    assert chat_session.conversation.messages[-1].content == ANSWER
    assert last.activity and isinstance(last.activity.event, Finished) and last.details
    timings = last.activity.event.timings
    assert timings.generated_tokens == 11 and timings.time_to_first_token and timings.total_seconds
    assert last.details.timings.threads is None and last.details.plan is None and last.details.memory is None
    assert chat_session.transcript().level == "on workshop"
    growing = [frame.growing.content for frame in frames if frame.growing]
    assert growing and all(ANSWER.startswith(text) for text in growing)


def test_a_talk_goes_on_with_a_server_as_it_does_here(chat: ChatService) -> None:
    chat_request = ChatRequest(THERE, sampling=GREEDY, max_tokens=12)
    chat_session = [f.session for f in chat.send_message(ANN, ChatSession(), SUM, chat_request) if f.session][-1]
    later = [f.session for f in chat.send_message(ANN, chat_session, "And 3+3?", chat_request) if f.session][-1]
    assert len(later.conversation.messages) == 4


def test_there_is_nothing_to_load_of_a_server_s_model(chat: ChatService) -> None:
    last = list(chat.load_model(ANN, THERE))[-1]
    assert "Nothing to load" in sentence(last.progress) and last.phase == "rest"


@pytest.mark.parametrize(
    ("model", "said", "kept"),
    [
        ("cut", "The connection to bad broke in the middle of its answer. Ask again.", "Well, "),
        ("filters", "bad gave the reply up (content_filter).", "Well, "),
        ("busy", "bad has too many requests. Try again in 7 seconds.", ""),
        ("login page", "answered, but not as an OpenAI-compatible server does.", ""),
    ],
)
def test_a_failing_server_is_a_sentence_and_the_chat_goes_on(
    services: Services, chat: ChatService, model: str, said: str, kept: str
) -> None:
    with ServerStandIn() as bad:
        bad.models = {"data": [{"id": model}, {"id": "plain"}]}
        services.remotes.add_server(read_server("bad", bad.url, STAND_IN_KEY))
        frames = list(chat.send_message(ANN, ChatSession(), SUM, ChatRequest(ModelChoice(f"{model}@bad", "on bad"))))
        assert said in sentence([frame.problem for frame in frames if frame.problem][-1])
        chat_session = [frame.session for frame in frames if frame.session][-1]
        assert [message.content for message in chat_session.conversation.messages[1:]] == ([kept] if kept else [])
        for export in (as_markdown, as_json):
            text = export(chat_session.transcript())
            assert (kept.strip() in text) and (not kept or said in text.replace("\\", ""))
        frames = list(chat.send_message(ANN, ChatSession(), SUM, ChatRequest(ModelChoice("plain@bad", "on bad"))))
        assert frames[-1].details and frames[-1].details.timings.generated_tokens is None


def test_stop_ends_a_server_s_reply_with_what_it_has_written(chat: ChatService) -> None:
    chat_request = ChatRequest(THERE, sampling=GREEDY, max_tokens=800)
    frames = []
    for frame in chat.send_message(ANN, ChatSession(), "Tell me a long story about a fox.", chat_request):
        frames.append(frame)
        if frame.growing and frame.growing.content:
            chat.stop_work(ANN)
    assert [frame.activity.stopped_by for frame in frames if frame.activity][-1] == "person"
    stopped = [frame.session for frame in frames if frame.session][-1]
    assert stopped.conversation.messages[-1].content
    assert "*Broken off: You stopped the reply.*" in as_markdown(stopped.transcript())


# --- the comparison ---


def answers(update: CompareUpdate) -> ComparedAnswers:
    assert isinstance(update.answers, ComparedAnswers)
    return update.answers


def test_the_same_model_here_and_on_a_server_gives_the_same_text(compared: CompareUpdate) -> None:
    assert compared.comparison
    texts = [pane.conversation.messages[-1].content for pane in compared.comparison.panes]
    assert texts == [ANSWER, ANSWER]


def test_a_server_s_answer_has_a_speed_and_no_memory(compared: CompareUpdate) -> None:
    rows = {row.figure: row for row in answers(compared).table}
    for figure in ("memory_planned", "memory_measured"):
        here, there = rows[figure].texts
        assert re.fullmatch(r"[\d.]+ MB", here) and there == "–"
    assert rows["tokens"].texts == ("11 tokens", "11 tokens")
    here, there = rows["generation_speed"].texts
    assert re.fullmatch(r"[\d.]+ tok/s( \(disturbed\))?", here)
    assert re.fullmatch(r"[\d.]+ tok/s|–", there)  # a dash where its tokens came too close together to be timed
    here_pane, there_pane = compared.panes
    assert here_pane and "runs on" not in here_pane.name
    assert there_pane and f"{ALIAS} on workshop" in there_pane.name


def test_what_a_server_does_not_send_cannot_be_compared(comparison: CompareService, compared: CompareUpdate) -> None:
    assert answers(compared).first_difference == NoDifference("tokens not shown", 0)
    assert compared.comparison
    (update,) = comparison.measurements.measure_by_itself(ANN, compared.comparison)
    assert update.result and update.result.agreement_note == "a server cannot be asked"


def test_a_saved_comparison_says_that_one_model_ran_on_a_server(
    comparison: CompareService, compared: CompareUpdate
) -> None:
    assert compared.comparison
    saved = json.loads(str(list(comparison.save_comparison(compared.comparison, "json"))[-1]))
    assert [pane["server"] for pane in saved["panes"]] == [None, "workshop"]
    assert saved["panes"][1]["memory_planned"] is None and saved["panes"][0]["memory_planned"]
    page = str(list(comparison.save_comparison(compared.comparison, "markdown"))[-1])
    assert "on a server, which does not report its file, level or context" in page
    assert KEY not in page + json.dumps(saved)


def test_a_server_that_refuses_leaves_the_other_pane_its_answer(comparison: CompareService) -> None:
    request = CompareRequest((replace(THERE, model="gone@workshop"), HERE), sampling=GREEDY, max_tokens=12)
    last = list(comparison.ask_both(ANN, Comparison(), SUM, request))[-1]
    assert last.comparison and last.comparison.pane_at(1).result
    assert last.panes[0] and "no longer available" in str(last.panes[0].note)


def test_with_a_server_both_answer_at_once_and_speeds_are_comparable(comparison: CompareService) -> None:
    request = CompareRequest((HERE, THERE), sampling=GREEDY, max_tokens=12, mode="at once")
    assert comparison.setup.outlook(request).has_server
    last = list(comparison.ask_both(ANN, Comparison(), SUM, request))[-1]
    assert last.comparison and all(pane.result for pane in last.comparison.panes)
    assert answers(last).shared is None


def test_two_models_of_one_server_share_the_server_and_not_the_cores(comparison: CompareService) -> None:
    request = CompareRequest((THERE, THERE), sampling=GREEDY, max_tokens=12, mode="at once")
    last = list(comparison.ask_both(ANN, Comparison(), SUM, request))[-1]
    assert answers(last).shared == "server"
    assert all(row.better is None for row in answers(last).table if row.unit in ("tokens per second", "seconds"))


def test_a_link_opens_a_comparison_with_a_server(comparison: CompareService) -> None:
    request = CompareRequest((HERE, THERE), sampling=GREEDY)
    setup = comparison.setup.read_link(dict(parse_qsl(link_query(request, SUM))))
    assert setup.problems == ()
    assert setup.choices[1] and (setup.choices[1].model, setup.choices[1].level) == (THERE.model, THERE.level)


@pytest.mark.parametrize("mode", ["in turn", "at once"])
@pytest.mark.parametrize(
    ("model", "said", "kept"),
    [
        ("cut", "The connection to bad broke in the middle of its answer.", "Well, "),
        ("filters", "bad gave the reply up (content_filter).", "Well, "),
        ("busy", "bad has too many requests.", ""),
    ],
)
def test_a_reply_that_its_server_broke_off_is_kept_with_the_cause(
    services: Services, comparison: CompareService, model: str, said: str, kept: str, mode: Mode
) -> None:
    with ServerStandIn() as bad:
        bad.models = {"data": [{"id": model}, {"id": "plain"}]}
        services.remotes.add_server(read_server("bad", bad.url, STAND_IN_KEY))
        choices = ModelChoice(f"{model}@bad", "on bad"), ModelChoice("plain@bad", "on bad")
        updates = list(comparison.ask_both(ANN, Comparison(), SUM, CompareRequest(choices, mode=mode)))
        last = updates[-1]
        assert last.comparison
        broken, whole = last.panes
        assert broken and whole
        assert [message.content for message in broken.history[1:]] == ([kept] if kept else [])
        assert said in sentence(broken.note)
        assert broken.stopped_by == ("failure" if kept else None)
        assert "stopped by you" not in pane_line(broken) + pane_line(whole)
        assert ("broken off" in pane_line(broken)) is bool(kept)
        assert len(whole.history) == 2 and whole.stopped_by is None
        for form in ("json", "markdown"):
            text = [part for part in comparison.save_comparison(last.comparison, form) if isinstance(part, str)][-1]
            assert (kept.strip() in text) and (not kept or said in text.replace("\\", ""))
        # The chat goes on from there.
        again = list(comparison.ask_both(ANN, last.comparison, "And 3+3?", CompareRequest(choices, mode=mode)))[-1]
        assert again.panes[0] and again.panes[0].history[0].content == SUM


@pytest.mark.usefixtures("compared")  # which has read the list of the server's models
def test_a_reply_that_was_stopped_says_so_in_the_export(comparison: CompareService) -> None:
    request = CompareRequest((THERE, THERE), max_tokens=800)
    last = None
    for update in comparison.ask_both(ANN, Comparison(), "Tell me a long story about a fox.", request):
        if update.panes[0] and update.panes[0].growing and update.panes[0].growing.content:
            comparison.stop_comparison(ANN)
        last = update
    assert last and last.comparison and last.panes[0] and last.panes[0].stopped_by == "person"
    parts = list(comparison.save_comparison(last.comparison, "markdown"))
    assert "*Broken off: You stopped the reply.*" in str(parts[-1])
