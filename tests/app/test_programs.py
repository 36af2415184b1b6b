"""Replies for programs with the real starter: what is under way, Stop, and an agent's run on two models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.programs.calls import LoadChoice
from playground.app.programs.pairs import AgentAnswer, AgentPair
from playground.app.programs.service import NotForThis, ProgramModel, ProgramService, StoppedHere
from playground.app.services import Services
from playground.chat.programs.reply import ProgramRequest
from playground.chat.template.message import Message
from playground.engine.remote.registry import ServerRegistry
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.params import DeviceChoice
from playground.llama.sampling_extras import GREEDY
from playground.quantize.quantize import quantize_file
from playground.servers import RemoteServer
from playground.settings import load_settings
from playground.web.html.programs import agent_pairs, connect_card, program_calls
from tests.conftest import GPU, Gpus

AGENT = Visitor("program", "203.0.113.9", "api")
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    },
}
SUM = ProgramRequest((Message("user", "What is 2+2?"),), sampling=GREEDY, max_tokens=24)
WEATHER_IN_PARIS = ProgramRequest(
    (Message("user", "Weather in Paris?"),), tools=(WEATHER,), tool_choice="required", sampling=GREEDY, max_tokens=60
)


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("home") / "models"
    for _ in quantize_file(starter, "Q2_0", folder / "Low-135M-Q2_0.gguf", 2):
        pass
    settings = load_settings(data_dir=folder.parent / "data", model_dirs=(folder,), api_context=1024)
    with Services(settings) as services:
        yield services


@pytest.fixture(scope="module")
def service(services: Services) -> ProgramService:
    return ProgramService(services)


def answered(service: ProgramService, model: str, request: ProgramRequest) -> AgentPair:
    """The pair of a request to `compare:A|B`, once B has answered, too."""
    for _ in service.reply(AGENT, model, request):
        pass
    pair, tick = service.pairs.newest()[0], threading.Event()
    while not (pair.is_whole or pair.problem):
        tick.wait(0.05)
    return pair


def test_an_agents_run_on_two_models_says_where_they_part_and_what_they_called(service: ProgramService) -> None:
    same = answered(service, "compare:starter|starter", SUM)
    assert same.first.text == same.second.text == "The answer to this classic math problem is 4."
    assert same.difference is None and same.same_calls is None
    assert "No function was called. The answers are the same." in agent_pairs([same])

    part = answered(service, "compare:starter|Low-135M:Q2_0", SUM)
    assert part.difference and part.first.text != part.second.text
    assert "The answers part after" in agent_pairs([part]) and "<mark>" in agent_pairs([part])

    calls = answered(service, "compare:starter|starter", WEATHER_IN_PARIS)
    assert calls.same_calls is True and [name for name, _ in calls.first.called] == ["weather"]
    assert "Both called the same functions with the same arguments." in agent_pairs([calls])
    one = replace(calls, second=replace(calls.second, calls=(), text="I cannot tell."))
    assert "Only the first called a function. The answers differ." in agent_pairs([one])
    with pytest.raises(RequestRefused, match="names two models"):
        list(service.reply(AGENT, "compare:starter", SUM))


@pytest.mark.parametrize(("problem", "is_warned"), [("", False), ("It does not fit.", True)])
def test_an_answer_that_is_awaited_is_no_warning_and_one_that_failed_is(problem: str, is_warned: bool) -> None:
    pair = AgentPair(1, AGENT, "Hi", ProgramRequest(), AgentAnswer("A", "Hello."), AgentAnswer("B"), problem=problem)
    shown = agent_pairs([pair])
    assert ("gp-shelf-note" in shown) == is_warned and ("waits for its turn" in shown) != is_warned
    assert problem in shown and "Hello." in shown


def test_what_programs_ask_is_shown_to_its_own_visitor_alone(services: Services, service: ProgramService) -> None:
    long = ProgramRequest((Message("user", "A story of <b>foxes</b>"),), max_tokens=900)
    reply = service.reply(AGENT, "starter", long)
    assert any(piece.tokens for piece in reply)
    (call,) = service.calls_for(Visitor("page"))  # this computer's own
    assert "<b>starter</b>" in program_calls([call], 0) and "&lt;b&gt;foxes" in program_calls([call], 0)
    open_to_all = ProgramService(services)
    open_to_all.calls, open_to_all._settings = service.calls, load_settings(host="0.0.0.0")
    assert open_to_all.calls_for(Visitor("page", "203.0.113.7")) == []
    assert open_to_all.calls_for(Visitor("page", AGENT.address)) == [call]

    service.stop_call(Visitor("page"), call.number)
    with pytest.raises(StoppedHere):
        list(reply)
    assert service.calls_for(Visitor("page")) == [] and not services.runs.count_runs()


def test_the_panel_shows_a_key_to_nobody_but_its_owner(service: ProgramService) -> None:
    def card(**settings: str) -> str:
        return connect_card("http://x/v1", load_settings(**settings), service.models())

    embedder = ProgramModel("embedder", 1, None, embeds=True)
    assert "embedder" not in connect_card("http://x/v1", load_settings(), [*service.models(), embedder])
    assert "No key is needed" in card() and "base_url=&#34;http://x/v1&#34;" in card()
    assert "my-key" in card(api_key="my-key")
    strangers = card(api_key="my-key", host="0.0.0.0")
    assert "my-key" not in strangers and "PLAYGROUND_API_KEY" in strangers
    assert "is off here" in card(host="0.0.0.0")


def test_a_model_that_is_not_here_is_refused(services: Services, service: ProgramService) -> None:
    services.remotes = ServerRegistry((RemoteServer("workshop", "http://127.0.0.1:9/v1"),))
    with pytest.raises(NotForThis, match=r"qwen@workshop runs on another server\. Ask that server"):
        list(service.reply(AGENT, "qwen@workshop", SUM))
    services.remotes.close()
    with pytest.raises(PlaygroundError, match="no model"):
        list(service.reply(AGENT, "nobody/nothing:Q4_0", SUM))


def test_a_program_says_where_its_model_runs_and_uses_one_that_is_there(gpus: Gpus, services: Services) -> None:
    gpus(1024)
    with Services(services.settings) as here:
        service = ProgramService(here)

        def places(choice: LoadChoice) -> list[str]:
            """Where the models in memory are, after a reply by that choice."""
            for _ in service.reply(AGENT, "starter", replace(SUM, max_tokens=1), choice):
                pass
            return [model.plan.context.placement.name for model in here.pool.loaded_models() if model.plan]

        on_cpu = LoadChoice(device=DeviceChoice("cpu"))
        assert places(on_cpu) == ["CPU"]
        assert places(LoadChoice()) == ["CPU"]  # which is there, and a program that does not choose takes it
        assert sorted(places(LoadChoice(device=DeviceChoice(GPU)))) == ["CPU", GPU]
        assert sorted(places(on_cpu)) == ["CPU", GPU]
