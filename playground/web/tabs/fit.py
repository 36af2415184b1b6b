"""The Fit tab at work: views drawn into its components, and a cell that opens Chat.

What a choice means is fit_desk.py's to say, how it reads render_fit.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.fit import (
    FIRST_CONTEXT,
    FIRST_LEVEL,
    FIRST_MODEL,
    LARGEST_COMPUTER_GB,
    OTHER,
    THIS,
    USUAL_NUMBER_GB,
    FitChoice,
    FitService,
    FitView,
)
from playground.app.model_picker import ModelPickerService
from playground.app.refusals import log_refusal
from playground.text_format import short_tokens
from playground.web.html.fit import (
    answer_sentence,
    computer_choices,
    computer_line,
    fit_rows,
    kv_rows,
    memory_charts,
    not_here,
)
from playground.web.html.page import empty_state, error_card
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Updates
from playground.web.tabs.chat_layout import ChatTab

KV_CHOICES: Final = [("f16", "f16"), ("q8_0: half", "q8_0"), ("q4_0: a quarter", "q4_0")]

# The table lives in the prop `rows`; a click on a cell leaves "LEVEL|CONTEXT" in `value`.
_CELL_JS: Final = """
element.addEventListener('click', event => {
  const cell = event.target.closest('[data-cell]');
  if (!cell) return;
  props.value = cell.dataset.cell;
  trigger('input');
});
"""


@dataclass(frozen=True)
class FitTab:
    """The components that the app and its tests touch; `choice` is what FitChoice.read takes, in order."""

    tab: gr.Tab
    model: gr.Dropdown
    computer: gr.Radio
    other_gb: gr.Number
    kv_type: gr.Radio
    chats: gr.Radio
    levels: gr.Radio
    level: gr.Dropdown
    context: gr.Dropdown
    assumed: gr.HTML
    answer: gr.HTML
    rows: gr.HTML
    away: gr.HTML
    to_models: gr.Button
    wanted: gr.State  # the repository that a cell of a model elsewhere led to
    charts: gr.HTML
    kv: gr.HTML

    @property
    def choice(self) -> list[Any]:
        return [
            self.model, self.computer, self.other_gb, self.kv_type, self.chats, self.levels, self.level, self.context,
        ]  # fmt: skip

    @property
    def shown(self) -> list[Any]:
        return [
            self.model, self.computer, self.other_gb, self.chats, self.level, self.context, self.assumed, self.answer,
            self.rows, self.charts, self.kv,
        ]  # fmt: skip


def build_fit_tab(tab: gr.Tab, service: FitService) -> FitTab:
    """Inside the tab that is open: what is chosen on the left (on a phone above), what it needs on the right."""
    with gr.Row(elem_classes="gp-page gp-fit"):
        with gr.Column(elem_classes="gp-side gp-fit-side"):
            model = gr.Dropdown(
                service.model_names(), value=FIRST_MODEL, label="Model", filterable=True, allow_custom_value=True,
                info="Or type owner/repo of any GGUF model on the Hugging Face Hub.", elem_id="fit-model",
            )  # fmt: skip
            computer = _switch("Computer", computer_choices(service.usable_here()), THIS, "computer")
            other_gb = gr.Number(
                USUAL_NUMBER_GB, label="Its memory in GB", minimum=1, maximum=LARGEST_COMPUTER_GB, visible=False,
                elem_id="fit-other-gb",
            )  # fmt: skip
            assumed = _html("", "fit-assumed")
            kv_type = _switch("KV cache", KV_CHOICES, "f16", "kv", "How exactly the text so far is kept.")
            chats = _switch("Chats at once", chat_choices(service.chats), 1, "chats")
            levels = _switch("Levels", [("The usual four", "four"), ("Eight", "eight")], "four", "levels")
        with gr.Column(elem_classes="gp-fit-main"):
            with gr.Row(elem_classes="gp-fit-question"):
                gr.HTML("What would I need for", apply_default_css=False, elem_classes="gp-fit-ask")
                context = gr.Dropdown(
                    [(short_tokens(FIRST_CONTEXT), FIRST_CONTEXT)], value=FIRST_CONTEXT, label="Context",
                    show_label=False, container=False, filterable=False, elem_id="fit-context",
                )  # fmt: skip
                gr.HTML("at", apply_default_css=False, elem_classes="gp-fit-ask")
                level = gr.Dropdown(
                    [FIRST_LEVEL], value=FIRST_LEVEL, label="Level", show_label=False, container=False,
                    filterable=False, elem_id="fit-level",
                )  # fmt: skip
            answer = _html("", "fit-answer")
            rows = gr.HTML(
                "", html_template="${rows}", js_on_load=_CELL_JS, apply_default_css=False, elem_id="fit-table",
                rows=empty_state("Working out the table", "llama.cpp is asked once for each context."),
            )  # fmt: skip
            away = _html("", "fit-away")
            to_models = gr.Button("Open Models", visible=False, size="sm", elem_id="fit-to-models")
            wanted = gr.State("")
            charts = _html("", "fit-charts")
            kv = _html("", "fit-kv-sum")
    return FitTab(
        tab, model, computer, other_gb, kv_type, chats, levels, level, context, assumed, answer, rows, away,
        to_models, wanted, charts, kv,
    )  # fmt: skip


def chat_choices(chats: int) -> list[tuple[str, int]]:
    """One chat, or as many as a model loaded here serves."""
    return [("One", 1), *([(f"{chats}, as Chat here keeps room for", chats)] if chats > 1 else [])]


def _switch(label: str, choices: list[Any], value: Any, name: str, info: str | None = None) -> gr.Radio:
    return gr.Radio(choices, value=value, label=label, info=info, elem_id=f"fit-{name}", elem_classes="gp-switch")


def _html(value: str, elem_id: str) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id)


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
    tab: FitTab,
    service: FitService,
    tabs: gr.Tabs,
    chat: ChatTab,
    picker: ModelPickerService,
    wanted_of_hub: gr.Textbox,
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

    def open_cell(cell: Any, *values: Any) -> Iterator[Updates]:
        opening = service.cell_action(FitChoice.read(*values), cell)
        if opening.chat is None:
            words = not_here(opening.problem, opening.remedy)
            to_models = gr.Button(visible=opening.repo is not None)
            yield {tab.away: words, tab.to_models: to_models, tab.wanted: opening.repo or ""}
            return
        left_fit: Updates = {
            tabs: gr.Tabs(selected="chat"), tab.away: "", tab.to_models: gr.Button(visible=False), tab.wanted: "",
            chat.progress: "",
        }  # fmt: skip
        for view in picker.views(opening.chat):
            yield left_fit | chat.picker.updates(view)

    chat_parts = [*chat.picker.outputs, chat.progress]
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
