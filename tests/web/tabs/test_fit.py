"""The Fit tab: what its boxes ask for while the table of another model is still being planned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from playground.app.fit import THIS, FitChoice, FitService, FitView
from playground.app.hub.service import HubService
from playground.app.messages import Notice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.fit.budget import Budget
from playground.settings import load_settings
from playground.web.tabs.chat.layout import build_chat_tab
from playground.web.tabs.fit import FitTab, build_fit_tab, draw_fit, wire_fit_tab
from playground.web.widgets import hidden_text


@pytest.fixture(scope="module")
def service(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FitService]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield FitService(services, HubService(services), budget_for=lambda path: Budget(16 << 30))


@pytest.fixture(scope="module")
def tab(service: FitService) -> FitTab:
    with gr.Blocks(), gr.Tab("Fit") as place:
        return build_fit_tab(place, service)


def test_boxes_that_still_show_another_model_ask_for_nothing(tab: FitTab, service: FitService) -> None:
    boxes = {tab.model: "gemma3-1b", tab.drawn_model: "qwen3-4b", tab.level: "Q2_K", tab.context: 4096, tab.chats: 4}
    sent = tab.read_choice(boxes)
    assert (sent.level, sent.context, sent.chats) == (None, None, None)
    views = list(service.views(FitChoice("gemma3-1b", level=sent.level)))
    first: FitView = next(view for view in views if view.table)
    assert draw_fit(tab, first, sent)[tab.drawn_model] == first.choice.model
    same = tab.read_choice(boxes | {tab.drawn_model: "gemma3-1b"})
    assert (same.level, same.context, same.chats) == ("Q2_K", 4096, 4)


def test_another_choice_ends_the_table_of_the_one_before_it(
    service: FitService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = 3 * [FitView(FitChoice(), (), message=Notice("Planning"))]
    monkeypatch.setattr(service, "views", lambda choice: iter(views))
    with Services(load_settings(data_dir=tmp_path)) as services:
        picker = ModelPickerService(services.library, services.planner, services.pool.budget_for, 1)
        page: gr.Blocks
        with gr.Blocks() as page:
            with gr.Tabs() as tabs, gr.Tab("Fit") as place:
                tab, chat = build_fit_tab(place, service), build_chat_tab(picker, services.settings)
            wire_fit_tab(tab, service, tabs, chat, picker, hidden_text("wanted"))
        (redraw,) = (one.fn for one in page.fns.values() if one.fn and (tab.computer._id, "input") in one.targets)
        request, values = gr.Request(session_hash="one"), dict.fromkeys(tab.inputs)
        this_one, mac = (
            redraw(request, {**values, tab.computer: THIS}),
            redraw(request, {**values, tab.computer: "mac"}),
        )
        for _ in ("the controls", "the first stage"):
            next(this_one)
        next(mac)
        assert list(this_one) == []
        assert len(list(mac)) == len(views)
