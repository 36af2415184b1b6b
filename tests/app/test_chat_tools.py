"""Tools in a chat: what a model is offered, who decides whether a call runs, and where it ends."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from playground.app.chat.service import ChatService
from playground.app.chat.tools import MOST_ROUNDS
from playground.app.chat.updates import ChatRequest, ChatUpdate, ToolUse
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.servers import Servers
from playground.app.services import Services
from playground.chat.export import as_json, as_markdown
from playground.chat.history import HistoryLimits
from playground.chat.saved_chat import read_saved_chat
from playground.chat.session import ChatSession
from playground.engine.protocol import ReplyRequest
from playground.engine.remote.registry import ServerRegistry
from playground.engine.reply_stream import ReplyStream
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.servers import read_server
from playground.settings import load_settings
from tests.support.gguf_bytes import with_chat_template
from tests.support.scripted_engine import ScriptedEngine
from tests.support.server_stand_in import KEY, ServerStandIn
from tests.support.status_messages import sentence

ANNA = Visitor("a")
STARTER = ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 2048)
KNOWS_TOOLS = (
    "{% for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}{% endfor %}{# <tool_call> #}"
)
SUM = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12*12"}}\n</tool_call>'


@dataclass
class ScriptedReplies(ScriptedEngine):
    """Each reply is the next of a script; the last one is repeated."""

    replies: list[str] = field(default_factory=list)

    def start_reply(self, asked: ReplyRequest) -> ReplyStream:
        self.pieces = tuple(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])
        return super().start_reply(asked)


@dataclass
class ScriptedLease:
    engine: ScriptedReplies
    plan: None = None
    load_seconds: None = None

    def release(self) -> None: ...

    def __enter__(self) -> ScriptedLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"), updates_per_second=10)) as services:
        yield services


def service_of(services: Services, remotes: ServerRegistry | None = None) -> ChatService:
    picker = ModelPickerService(
        services.library, services.planner, services.pool.budget_for, 4, runs=services.runs, servers=Servers(remotes)
    )
    return ChatService(services.settings, services.pool, picker, LoadedModels(services.pool, services.planner, picker))


class Chat:
    """A chat of one person with the chosen model."""

    def __init__(self, service: ChatService, choice: ModelChoice) -> None:
        self.service, self._choice = service, choice
        self.session = ChatSession()
        self.last = ChatUpdate()

    def ask(self, text: str, tools: ToolUse) -> None:
        self._read(self.service.send_message(ANNA, self.session, text, self._request(tools)))

    def answer(self, *, allow: bool, tools: ToolUse = "ask") -> None:
        self._read(self.service.answer_calls(ANNA, self.session, self._request(tools), allow=allow))

    def _request(self, tools: ToolUse) -> ChatRequest:
        return ChatRequest(self._choice, sampling=GREEDY, max_tokens=40, tools=tools)

    def _read(self, updates: Iterator[ChatUpdate]) -> None:
        for self.last in updates:
            self.session = self.last.session or self.session

    @property
    def turns(self) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in self.session.conversation.messages]


class ScriptedChat(Chat):
    """With a model that writes what the test says."""

    def __init__(self, services: Services, monkeypatch: pytest.MonkeyPatch, *replies: str, template: str) -> None:
        self.engine = ScriptedReplies(chat_template=template, replies=list(replies))

        def lease_model(*arguments: Any, **named: Any) -> Generator[None, None, ScriptedLease]:
            yield from ()
            return ScriptedLease(self.engine)

        monkeypatch.setattr(services.pool, "lease_model", lease_model)
        super().__init__(service_of(services), STARTER)


@pytest.fixture
def start(services: Services, monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(*replies: str, template: str = KNOWS_TOOLS) -> ScriptedChat:
        return ScriptedChat(services, monkeypatch, *replies, template=template)

    return start


@pytest.fixture(scope="module")
def stand_in() -> Iterator[ServerStandIn]:
    with ServerStandIn() as server:
        yield server


@pytest.fixture
def start_with_server(services: Services, stand_in: ServerStandIn) -> Iterator[Any]:
    """A chat with a model of a server, which behaves as its name says."""
    remotes = ServerRegistry((read_server("attic", stand_in.url, KEY),))
    remotes.list_servers()
    remotes.wait_for_lists(10)
    yield lambda model: Chat(service_of(services, remotes), ModelChoice(f"{model}@attic", "on attic"))
    remotes.close()


def test_a_call_waits_for_the_person_and_its_result_goes_on_with_the_reply(start: Any) -> None:
    chat = start(f"I compute. {SUM}", "It is 144.")
    chat.ask("What is 12 times 12?", "ask")
    assert chat.last.phase == "rest" and [call.name for call in chat.session.pending_calls] == ["calculator"]
    assert chat.turns == [("user", "What is 12 times 12?"), ("assistant", "I compute.")]
    chat.answer(allow=True)
    assert chat.turns[2:] == [("tool", "144"), ("assistant", "It is 144.")] and not chat.session.pending_calls
    assert "[calculator][date][count_words]" in chat.engine.prompts[0] and "<tool>144" in chat.engine.prompts[1]


def test_a_call_that_is_not_allowed_does_not_run_and_the_model_answers(start: Any) -> None:
    chat = start(SUM, "Then I guess 140.")
    chat.ask("What is 12 times 12?", "ask")
    chat.answer(allow=False, tools="off")
    assert chat.turns[2:] == [
        ("tool", "The person did not let this call run."), ("assistant", "Then I guess 140."),
    ]  # fmt: skip


def test_calls_that_are_allowed_run_at_once_up_to_a_bound(start: Any) -> None:
    chat = start(SUM)
    chat.ask("What is 12 times 12?", "allowed")
    results = [content for role, content in chat.turns if role == "tool"]
    assert results[:-1] == ["144"] * MOST_ROUNDS and "the most here" in results[-1]
    assert len(chat.engine.prompts) == MOST_ROUNDS + 1 and "the most here" in sentence(chat.last.problem)
    chat.ask("And now?", "off")
    assert chat.turns[-2] == ("user", "And now?")


def test_a_new_question_leaves_a_waiting_call_behind(start: Any) -> None:
    chat = start(SUM, "Hello.")
    chat.ask("What is 12 times 12?", "ask")
    chat.ask("Never mind. Hi!", "ask")
    assert [role for role, _ in chat.turns] == ["user", "assistant", "tool", "user", "assistant"]
    assert not chat.session.pending_calls


def test_a_call_with_wrong_arguments_tells_the_model_why(start: Any) -> None:
    chat = start(SUM.replace("expression", "formula"), "I was wrong.")
    chat.ask("What is 12 times 12?", "allowed")
    assert json.loads(chat.turns[2][1]) == {"error": "the argument expression is missing"}


def test_a_malformed_call_is_kept_as_it_was_written_with_its_reason(start: Any) -> None:
    broken = SUM.replace('"arguments":', '"arguments"')
    chat = start(f"So: {broken}")
    chat.ask("What is 12 times 12?", "allowed")
    (malformed,) = chat.session.conversation.messages[-1].malformed_calls
    assert malformed.text == broken and malformed.place == broken.index('{"expression')
    assert chat.turns[-1] == ("assistant", f"So: {broken}") and not chat.session.pending_calls


def test_tools_that_are_off_are_not_offered_and_do_not_run(start: Any) -> None:
    chat = start(SUM)
    chat.ask("What is 12 times 12?", "off")
    assert chat.turns[-1] == ("assistant", SUM) and "calculator]" not in chat.engine.prompts[0]
    chat.ask("What is 12 times 12?", "ask")
    chat.answer(allow=True, tools="off")
    assert "switched off" in sentence(chat.last.problem) and chat.session.pending_calls


def test_a_model_whose_template_knows_no_tools_gets_none_and_says_so(start: Any) -> None:
    chat = start(SUM, template="{% for m in messages %}{{ m.content }}{% endfor %}")
    chat.ask("What is 12 times 12?", "allowed")
    assert "knows no tools" in sentence(chat.last.problem) and "calculator" not in chat.engine.prompts[0]


def test_the_calls_of_a_server_s_model_wait_for_the_person_and_go_back_as_calls(
    start_with_server: Any, stand_in: ServerStandIn
) -> None:
    chat = start_with_server("calls without numbers")
    chat.ask("What is 12 times 12, and which day is it?", "ask")
    assert [call.name for call in chat.session.pending_calls] == ["calculator", "date"]
    assert [tool["function"]["name"] for tool in stand_in.bodies[-1]["tools"]][:2] == ["calculator", "date"]
    chat.answer(allow=True)
    assert [role for role, _ in chat.turns] == ["user", "assistant", "tool", "tool", "assistant"]
    assert chat.turns[2] == ("tool", "144") and chat.turns[-1][1].startswith("It is")
    _, calling, result, _ = stand_in.bodies[-1]["messages"]
    assert calling["tool_calls"][0]["function"] == {"name": "calculator", "arguments": '{"expression": "12*12"}'}
    assert result == {"role": "tool", "content": "144", "tool_call_id": calling["tool_calls"][0]["id"]}
    chat.ask("Thank you.", "off")
    assert "tools" not in stand_in.bodies[-1]
    assert {turn["role"] for turn in stand_in.bodies[-1]["messages"]} == {"user", "assistant"}


def test_a_malformed_call_of_a_server_s_model_is_shown_as_what_it_is(start_with_server: Any) -> None:
    chat = start_with_server("calls wrongly")
    chat.ask("What is 12 times 12?", "allowed")
    (malformed,) = chat.session.conversation.messages[-1].malformed_calls
    assert malformed.text[malformed.place or 0 :].startswith("*12") and not chat.session.pending_calls


def test_a_server_that_takes_no_tools_is_quoted_and_answers_without_them(start_with_server: Any) -> None:
    chat = start_with_server("knows no tools")
    chat.ask("What is 12 times 12?", "ask")
    said = sentence(chat.last.problem)
    assert "this model does not support tools" in said and "switch them off" in said
    chat.ask("What is 12 times 12?", "off")
    assert chat.turns[-1] == ("assistant", "Two and two is four.")


def test_a_chat_with_calls_is_saved_exported_and_opened_again(start: Any) -> None:
    chat = start(SUM, f"Again. {SUM}", SUM.replace('"name"', "name"))
    chat.ask("What is 12 times 12?", "ask")
    chat.answer(allow=True)
    limits = HistoryLimits()
    for saved in (chat.session.to_stored_text(), as_json(chat.session.transcript())):
        opened, _ = read_saved_chat(saved, limits, 1024)
        assert opened.conversation.messages == chat.session.conversation.messages
        assert opened.pending_calls == chat.session.pending_calls
    chat.answer(allow=True)
    opened, _ = read_saved_chat(chat.session.to_stored_text(), limits, 1024)
    assert opened.conversation.messages[-1].malformed_calls == chat.session.conversation.messages[-1].malformed_calls
    page = as_markdown(chat.session.transcript())
    assert '*Calls the tool `calculator` with*\n\n```\n{"expression": "12*12"}\n```' in page
    assert "## What the tool returned\n\n```\n144\n```" in page and "*Malformed tool call: it is not JSON" in page


def test_a_real_model_calls_a_tool_and_reads_what_it_returned(
    starter: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The starter is too small to call tools by itself: its template shows it the call to copy, and then the result."""
    copied = SUM.replace("\n", " ")
    shown = f"Q: 12*12? A: {copied} END\\n" * 4
    results = "Result 7. So it is 7.\\nResult 12. So it is 12.\\nResult 31. So it is 31.\\n"
    template = (
        "{% set tool = messages[-1] %}{% if tool.role == 'tool' %}" + results + "Result {{ tool.content }}. So it is"
        "{% else %}{{ tools | length }} tools\n" + shown + "Q: 12*12? A:{% endif %}"
    ).replace("\\n", "\n")
    with_chat_template(starter, tmp_path / "Caller-Q4_1.gguf", template)
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), model_dirs=(tmp_path,), updates_per_second=10)
    with Services(settings) as services:
        service = service_of(services)
        request = ChatRequest(ModelChoice("Caller", "Q4_1", 2048), sampling=GREEDY, max_tokens=40, tools="allowed")
        session = ChatSession()
        for update in service.send_message(ANNA, session, "12*12?", request):
            session = update.session or session
    turns = [(message.role, message.content) for message in session.conversation.messages]
    assert ("tool", "144") in turns and "144" in turns[-1][1]
