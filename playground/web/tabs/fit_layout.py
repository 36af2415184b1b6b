"""The Fit tab laid out: which components there are, and where. What they do is fit_tab.py's to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.fit import (
    FIRST_CONTEXT,
    FIRST_LEVEL,
    FIRST_MODEL,
    LARGEST_COMPUTER_GB,
    THIS,
    USUAL_NUMBER_GB,
    FitService,
)
from playground.app.format import short_tokens
from playground.web.html.fit import computer_choices
from playground.web.html.page import empty_state

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
