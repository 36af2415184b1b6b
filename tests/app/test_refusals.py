"""Each refused request is one line in the log, which names the setting that decides so."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.app.chat.keeping import KeptChat
from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatRequest
from playground.app.compare.service import CompareService
from playground.app.loaded_models import LoadedModels
from playground.app.messages import log_file_refusal, log_refusal
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.models import ModelsService
from playground.app.services import Services
from playground.chat.session import ChatSession
from playground.errors import BadModelFile, DoesNotFit
from playground.events import LineFormatter
from playground.limits.visitor import Visitor
from playground.settings import Settings, load_settings
from playground.web.server import password
from tests.support.log_lines import Log, written
from tests.support.playground_process import ROOT

ANNA = Visitor("tab-of-anna", "198.51.100.7", "chat")
REQUEST = ChatRequest(ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 512))


@pytest.fixture
def records() -> Iterator[Log]:
    yield from written(LineFormatter("json"))


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    settings = load_settings(
        data_dir=tmp_path_factory.mktemp("data"), max_message_characters=100, max_reply_tokens=600, slots=2,
        max_replies_per_visitor=1, allow_lab=False, allow_downloads=False, allow_quantize=False, allow_delete=False,
    )  # fmt: skip
    with Services(settings) as services:
        yield services


@pytest.fixture(scope="module")
def picker(services: Services) -> ModelPickerService:
    return ModelPickerService(services.library, services.planner, services.pool.budget_for, 2, runs=services.runs)


@pytest.fixture(scope="module")
def chat(services: Services, picker: ModelPickerService) -> ChatService:
    return ChatService(services.settings, services.pool, picker, LoadedModels(services.pool, services.planner, picker))


@pytest.fixture(scope="module")
def compare(services: Services, picker: ModelPickerService) -> CompareService:
    return CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))


def only_refusal(log: Log) -> dict[str, Any]:
    (line,) = log.lines
    record: dict[str, Any] = json.loads(line)
    assert record["event"] == "refused" and record["level"] == "info"
    return record


def test_a_share_that_is_used_up_is_a_line_with_the_visitors_short_name_alone(chat: ChatService, records: Log) -> None:
    with chat.runs.start_run(ANNA, "reply", "elsewhere"):
        list(chat.send_message(ANNA, ChatSession(), "Hello", REQUEST))
    refusal = only_refusal(records)
    assert refusal["setting"] == "max_replies_per_visitor"
    assert (refusal["visitor"], refusal["via"]) == (ANNA.short_id, "chat")
    assert "tab-of-anna" not in records.lines[0] and "198.51.100.7" not in records.lines[0]


@pytest.mark.parametrize(
    ("text", "chat_request", "setting"),
    [
        ("x" * 101, REQUEST, "max_message_characters"),
        ("Hello", ChatRequest(REQUEST.choice, system="x" * 101), "max_message_characters"),
        ("Hello", ChatRequest(REQUEST.choice, max_tokens=601), "max_reply_tokens"),
        ("  ", REQUEST, None),
    ],
)
def test_what_is_too_long_is_a_line(
    text: str, chat_request: ChatRequest, setting: str | None, chat: ChatService, records: Log
) -> None:
    list(chat.send_message(ANNA, ChatSession(), text, chat_request))
    assert only_refusal(records).get("setting") == setting


def test_a_chat_from_a_browser_that_is_too_long_is_a_line(chat: ChatService, records: Log) -> None:
    list(chat.keeping.restore_chat(ANNA, KeptChat(json.dumps([{"role": "user", "content": "x" * 101}]))))
    assert only_refusal(records)["setting"] == "max_message_characters"


def test_what_is_switched_off_is_a_line(compare: CompareService, services: Services, records: Log) -> None:
    models = ModelsService(services)
    attempts: dict[str, Callable[[], object]] = {
        "allow_downloads": lambda: models.start_download("owner/Model-GGUF", "a key", ANNA),
        "allow_quantize": lambda: list(models.make_level("SmolLM2-135M-Instruct", "Q2_0", visitor=ANNA)),
    }
    for setting, attempt in attempts.items():
        attempt()
        assert json.loads(records.lines[-1])["setting"] == setting
    assert len(records.lines) == len(attempts)


def test_a_file_that_is_no_model_is_a_line_where_a_visitor_gave_it(records: Log) -> None:
    log_file_refusal(BadModelFile("holiday.gguf is not a GGUF model."), ANNA)
    assert only_refusal(records)["why"] == "holiday.gguf is not a GGUF model."


def test_what_has_a_line_of_its_own_is_no_refusal(records: Log) -> None:
    for error in (BadModelFile("It is damaged."), DoesNotFit("It needs more.")):
        log_refusal(error, ANNA)
    assert records.lines == []


def test_a_wrong_password_is_a_line_without_it(monkeypatch: pytest.MonkeyPatch, records: Log) -> None:
    monkeypatch.setattr(password, "WRONG_GUESS_SECONDS", 0)
    check = password.password_check(load_settings(password="open sesame"))
    assert check

    async def guess() -> bool:
        return await check("anna", "my dog's name")

    assert not asyncio.run(guess())
    assert only_refusal(records)["setting"] == "password" and "dog" not in records.lines[0]


def test_every_setting_that_a_refusal_names_is_one() -> None:
    named = {
        keyword.value.value
        for path in (ROOT / "playground").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "setting" and isinstance(keyword.value, ast.Constant)
    }
    assert len(named) > 10 and named <= set(Settings.model_fields)


def test_a_link_that_asks_for_too_much_is_known_for_a_line(compare: CompareService) -> None:
    setup = compare.setup.read_link({"left": "SmolLM2-135M-Instruct:Q4_1", "prompt": "x" * 101})
    assert [refusal.setting for refusal in setup.refusals] == ["max_message_characters"]
    assert len(setup.problems) == 1
