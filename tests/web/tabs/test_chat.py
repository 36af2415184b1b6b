"""The Chat tab: what its controls ask for, and what an update changes on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from playground.app.chat.updates import ChatUpdate, ContextUse, ReplyActivity
from playground.app.messages import CLEAR, Notice
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.conversation import Conversation
from playground.chat.saved_chat import growing_text
from playground.chat.session import ChatSession, Instructions
from playground.chat.template.message import Message
from playground.chat.template.thinking import ThinkingChoice
from playground.engine.protocol import Token
from playground.fit.budget import Budget
from playground.llama.params import DeviceChoice
from playground.settings import load_settings
from playground.web.html.reply import as_typed
from playground.web.model_picker.picker import picker_views, redrawing, wire_choices
from playground.web.tabs.chat.layout import ChatTab, build_chat_tab
from playground.web.tabs.chat.tab import draw_update, read_request

ASKED = ChatSession(Conversation().with_question("What is 2+2?"))


@pytest.fixture(scope="module")
def picker_service(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelPickerService]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield ModelPickerService(services.library, services.planner, lambda path: Budget(1 << 33), 4)


@pytest.fixture(scope="module")
def tab(picker_service: ModelPickerService) -> ChatTab:
    with gr.Blocks():
        return build_chat_tab(picker_service, load_settings())


def values(tab: ChatTab, seed: float = 7) -> dict[Any, Any]:
    picker, controls = tab.picker, tab.sampling
    return {
        picker.model: "m",
        picker.level: "Q4_1",
        picker.context: "4096",
        picker.kv_type: "q8_0",
        picker.where.where: "auto",
        picker.where.gpu: "auto",
        picker.where.gpu_layers: 8,
        picker.where.experts: None,
        picker.thinking: "64",
        tab.tool_controls.use: "off",
        controls.system: "Be kind.",
        controls.temperature: 0.5,
        controls.top_k: 20,
        controls.top_p: 0.9,
        controls.min_p: 0.1,
        controls.repeat_penalty: 1.1,
        controls.max_tokens: 256,
        controls.seed: seed,
    }


def test_every_control_reaches_the_request(tab: ChatTab) -> None:
    assert set(values(tab)) == tab.request_inputs
    request = read_request(tab, values(tab))
    assert request.choice == ModelChoice("m", "Q4_1", 4096, "q8_0", thinking=ThinkingChoice(True, most_tokens=64))
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 20, 0.9, 0.1)
    assert (sampling.repeat_penalty, sampling.seed) == (1.1, 7)
    assert (request.system, request.max_tokens) == ("Be kind.", 256)


def test_a_seed_of_minus_one_means_a_new_one_each_time(tab: ChatTab) -> None:
    assert read_request(tab, values(tab, seed=-1)).sampling.seed is None


def test_a_growing_reply_changes_only_what_grows(tab: ChatTab) -> None:
    token = Token(1, "4", 7, 3, 15.61, 98, time_to_first_token=0.34)
    drawn = draw_update(
        tab, ChatUpdate(ASKED, Message("assistant", "4"), activity=ReplyActivity(token), context=ContextUse(98, 2048))
    )
    assert set(drawn) == {tab.log, tab.live, tab.gauge, tab.storage.growing} <= set(tab.growing)
    assert [turn["content"]["text"] for turn in drawn[tab.log]] == [as_typed("What is 2+2?"), "4"]


def test_a_slow_page_that_gets_the_question_with_the_first_words_keeps_both(tab: ChatTab) -> None:
    begun = ChatUpdate(ASKED, phase="replying", activity=ReplyActivity(), problem=CLEAR)
    grown = ChatUpdate(ASKED, Message("assistant", "4"), context=ContextUse(98, 2048))
    drawn = draw_update(tab, grown.after(begun))
    assert drawn[tab.session] == ASKED
    assert "What is 2+2?" in drawn[tab.storage.chat]
    assert drawn[tab.storage.growing] == growing_text(Message("assistant", "4"))
    assert drawn[tab.not_restored] == ""


def test_whatever_an_update_changes_is_among_the_outputs(tab: ChatTab) -> None:
    update = ChatUpdate(
        ASKED, None, "replying", ReplyActivity(), ContextUse(), None, CLEAR, CLEAR, may_load_anyway=True,
        has_new_level=True,
    )  # fmt: skip
    assert set(draw_update(tab, update)) <= set(tab.outputs)


def test_a_notice_replaces_a_problem_and_clear_removes_it(tab: ChatTab) -> None:
    assert "It is late." in draw_update(tab, ChatUpdate(problem=Notice("It is late.")))[tab.problem]
    assert draw_update(tab, ChatUpdate(problem=CLEAR))[tab.problem] == ""
    assert tab.problem not in draw_update(tab, ChatUpdate())


def test_a_new_reply_removes_the_figures_of_the_last_one(tab: ChatTab) -> None:
    assert draw_update(tab, ChatUpdate(ASKED, phase="replying"))[tab.details] == ""
    assert tab.details not in draw_update(tab, ChatUpdate(phase="loading"))


def test_while_a_reply_is_written_instructions_cannot_be_changed(tab: ChatTab) -> None:
    """The reply's last update would put the session from before back."""
    for phase, is_free in (("replying", False), ("rest", True)):
        drawn = draw_update(tab, ChatUpdate(ASKED, phase=phase))  # type: ignore[arg-type]
        assert drawn[tab.tools.attach].interactive is is_free
        assert drawn[tab.tools.detach].interactive is is_free


def test_attached_instructions_show_their_name_as_text(tab: ChatTab) -> None:
    session = ChatSession(instructions=Instructions("<img src=x>.md", "Answer as a pirate."))
    line = draw_update(tab, ChatUpdate(session))[tab.attached]
    assert re.sub("<[^>]*>", "", line) == "Instructions: &lt;img src=x&gt;.md · 19 characters"


def test_what_a_visitor_chooses_while_the_picker_fills_wins(tab: ChatTab, picker_service: ModelPickerService) -> None:
    picker, request = tab.picker, gr.Request(session_hash="filled")
    filling = picker_views(picker, picker_service, request, ModelChoice(), "opening")
    next(filling)
    clicked = values(tab) | {picker.where.where: "cpu", picker.thinking: "off"}
    redraw = redrawing(picker, picker_service, "visitor")
    first = next(redraw(request, clicked))
    assert next(filling, None) is None
    assert (first[picker.kv_type], first[picker.where.where]) == ("q8_0", "cpu")
    assert first[picker.thinking].value == "off"
    again = next(redraw(request, clicked))
    assert picker.kv_type not in again and picker.where.where not in again


def test_what_a_visitor_chooses_before_the_picker_fills_wins(tab: ChatTab, picker_service: ModelPickerService) -> None:
    picker, request = tab.picker, gr.Request(session_hash="chosen early")
    redraw = redrawing(picker, picker_service, "visitor")
    next(redraw(request, values(tab)))
    assert list(picker_views(picker, picker_service, request, ModelChoice(), "opening")) == []
    assert list(redraw(request, values(tab)))
    pressed = picker_views(picker, picker_service, request, ModelChoice(), "page")  # such as a model that is loaded
    assert next(pressed)


def test_a_setting_that_is_chosen_before_the_picker_fills_stays(picker_service: ModelPickerService) -> None:
    page: gr.Blocks
    with gr.Blocks() as page:
        tab = build_chat_tab(picker_service, load_settings())
        wire_choices(tab.picker, picker_service)
    picker, request = tab.picker, gr.Request(session_hash="set early")
    heard = [event for event in page.fns.values() if (picker.kv_type._id, "input") in event.targets]
    (redraw,) = (event.fn for event in heard if picker.line in event.outputs)
    assert redraw and list(redraw(request, values(tab)))
    (_, name), *_ = picker_service.model_names()
    linked = ModelChoice(name, "Q4_1", device=DeviceChoice("cpu"))
    view = next(picker_views(picker, picker_service, request, linked, "opening"))
    assert (view.choice.model, view.choice.level, view.choice.device.text) == (name, "Q4_1", "cpu")
    assert (view.choice.kv_type, view.choice.thinking.text) == ("q8_0", "64")
