"""The Fit tab at work: views drawn into its components, and a cell that opens Chat.

What a choice means is fit_desk.py's to say, how it reads render_fit.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from playground.app.fit import OTHER, FitChoice, FitService, FitView
from playground.app.format import short_tokens
from playground.app.model_picker import PickerSource
from playground.app.refusals import log_refusal
from playground.web.html.fit import answer_sentence, computer_choices, computer_line, fit_rows, kv_rows, not_here
from playground.web.html.fit_charts import memory_charts
from playground.web.html.page import error_card
from playground.web.model_picker import draw as draw_picker
from playground.web.server.visitors import visitor_of
from playground.web.tabs.chat_layout import ChatTab
from playground.web.tabs.fit_layout import FitTab


def draw(view: FitView, usable_here: int) -> list[Any]:
    """The updates for `FitTab.shown`."""
    choice, table = view.choice, view.table
    contexts = table.contexts if table else ()
    is_last = table is not None and table.is_complete
    return [
        gr.Dropdown(choices=list(view.models), value=choice.model),
        gr.Radio(choices=computer_choices(usable_here), value=choice.computer),
        gr.Number(visible=choice.computer == OTHER),
        gr.Radio(value=choice.chats),
        gr.Dropdown(choices=list(view.levels), value=choice.level) if table else gr.skip(),
        gr.Dropdown(choices=[(short_tokens(one), one) for one in contexts], value=choice.context)
        if table
        else gr.skip(),
        computer_line(view),
        answer_sentence(view),
        gr.HTML(rows=error_card(view.problem) if view.problem else fit_rows(view)),
        memory_charts(table) if is_last or view.problem else gr.skip(),
        kv_rows(view) if is_last or view.problem else gr.skip(),
    ]


def wire_fit_tab(
    tab: FitTab, service: FitService, tabs: gr.Tabs, chat: ChatTab, picker: PickerSource, wanted_of_hub: gr.Textbox
) -> None:
    """Every event of the tab; the newest choice wins. The first table is drawn when the tab is first opened.

    wanted_of_hub: of the Models tab, which opens the repository that it is given.
    """

    def redraw(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        usable_here = service.usable_here()
        for view in service.views(FitChoice.read(*values)):
            if view.error:
                log_refusal(view.error, visitor_of(request, picker.runs, "fit"))
            yield draw(view, usable_here)

    def another_model(
        request: gr.Request, model: Any, computer: Any, other_gb: Any, kv_type: Any, levels: Any
    ) -> Iterator[list[Any]]:
        for drawn in redraw(request, model, computer, other_gb, kv_type, None, levels, None, None):
            yield [*drawn, "", gr.Button(visible=False)]

    def open_cell(cell: Any, *values: Any) -> Iterator[list[Any]]:
        opening = service.opening(FitChoice.read(*values), cell)
        if opening.chat is None:
            words = not_here(opening.problem, opening.remedy)
            to_models = gr.Button(visible=opening.repo is not None)
            yield [gr.skip(), words, to_models, opening.repo or "", *[gr.skip()] * len(chat_parts)]
            return
        for view in picker.views(opening.chat):
            yield [
                gr.Tabs(selected="chat"), "", gr.Button(visible=False), "", *draw_picker(view, "chat"),
                opening.chat.kv_type, "",
            ]  # fmt: skip

    chat_parts = [*chat.picker.shown, chat.picker.kv_type, chat.progress]
    quiet: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    tab.tab.select(redraw, tab.choice, tab.shown, **quiet)
    tab.model.input(
        another_model,
        [tab.model, tab.computer, tab.other_gb, tab.kv_type, tab.levels],
        [*tab.shown, tab.away, tab.to_models],
        **quiet,
    )
    changed = [tab.computer.input, tab.other_gb.input, tab.kv_type.input, tab.chats.input, tab.levels.input]
    gr.on([*changed, tab.level.input, tab.context.input], redraw, tab.choice, tab.shown, **quiet)
    tab.rows.input(
        open_cell, [tab.rows, *tab.choice], [tabs, tab.away, tab.to_models, tab.wanted, *chat_parts], **quiet
    )
    tab.to_models.click(lambda repo: (gr.Tabs(selected="models"), repo), tab.wanted, [tabs, wanted_of_hub], **quiet)
