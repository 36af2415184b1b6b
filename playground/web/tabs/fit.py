"""The Fit tab: what a model needs at each level and context, and whether a computer has it."""

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
    USUAL_GPU_GB,
    USUAL_OTHER_GB,
    FitChoice,
    FitService,
    FitView,
)
from playground.app.messages import log_refusal
from playground.app.model_picker.service import ModelPickerService
from playground.errors import PlaygroundError
from playground.fit.computers import GPU_GB
from playground.text_format import short_tokens
from playground.web.html.fit import (
    answer_sentence,
    computer_choices,
    computer_line,
    fit_rows,
    kv_headline,
    kv_table,
    memory_choices_to_read,
)
from playground.web.html.fit_chart import memory_chart
from playground.web.html.page import empty_state, status_message
from playground.web.model_picker.picker import fill_pickers
from playground.web.redraws import Redraws
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Updates, Values
from playground.web.tabs.chat.layout import ChatTab
from playground.web.widgets import button_rows, hidden_text, markup_place

KV_CHOICES: Final = [("f16", "f16"), ("q8_0: half", "q8_0"), ("q4_0: a quarter", "q4_0")]


@dataclass(frozen=True)
class FitTab:
    """The tab's components. drawn_model: the model whose chats, level and context the boxes show; never shown."""

    tab: gr.Tab
    model: gr.Dropdown
    computer: gr.Radio
    gpu_gb: gr.Radio
    memory: gr.Radio
    other_gb: gr.Number
    computer_line: gr.HTML
    kv_type: gr.Radio
    chats: gr.Radio
    levels: gr.Radio
    level: gr.Dropdown
    context: gr.Dropdown
    answer: gr.HTML
    rows: gr.HTML
    cell_notice: gr.HTML
    to_models: gr.Button
    repo: gr.State  # of the clicked cell, where its model is not on this computer
    headline: gr.HTML
    chart: gr.HTML
    kv: gr.HTML
    drawn_model: gr.Textbox
    drawn: gr.State  # the choice that is shown

    @property
    def inputs(self) -> set[Any]:
        """The components that hold the choice."""
        return {
            self.model, self.computer, self.gpu_gb, self.memory, self.other_gb, self.kv_type, self.chats, self.levels,
            self.level, self.context, self.drawn_model, self.drawn,
        }  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """What `draw_fit` may change."""
        return [
            self.model, self.computer, self.gpu_gb, self.memory, self.other_gb, self.computer_line, self.chats,
            self.level, self.context, self.headline, self.answer, self.rows, self.chart, self.kv,
            self.drawn_model, self.drawn,
        ]  # fmt: skip

    def read_choice(self, values: Values) -> FitChoice:
        """The choice that the browser sent; what is missing or impossible becomes the default.

        While the table of another model is being planned, the boxes still show the level of the one before.
        """
        drawn = values.get(self.drawn_model)
        own = {} if drawn and drawn != values.get(self.model) else values
        return FitChoice.from_browser(
            model=values.get(self.model),
            computer=values.get(self.computer),
            gpu_gb=values.get(self.gpu_gb),
            memory=values.get(self.memory),
            other_gb=values.get(self.other_gb),
            kv_type=values.get(self.kv_type),
            levels=values.get(self.levels),
            chats=own.get(self.chats),
            level=own.get(self.level),
            context=own.get(self.context),
        )


# --- lay out ---


def build_fit_tab(tab: gr.Tab, service: FitService) -> FitTab:
    """Inside the tab that is open: what is chosen on the left, what it needs on the right, on a phone below."""
    headline = markup_place("fit-headline")
    with gr.Row(elem_classes="gp-page gp-fit"):
        with gr.Column(elem_classes="gp-side gp-fit-side"):
            model = gr.Dropdown(
                service.model_names(), value=FIRST_MODEL, label="Model", filterable=True, allow_custom_value=True,
                info="Or type owner/repo of any GGUF model on the Hugging Face Hub.", elem_id="fit-model",
            )  # fmt: skip
            computers = computer_choices(service.budget_here(), service.host_name)
            computer = _radio("Computer", computers, THIS, "fit-computer")
            gpu_gb = gr.Radio(
                [(f"{size} GB", size) for size in GPU_GB], value=USUAL_GPU_GB, label="Memory of the GPU", visible=False,
                elem_id="fit-gpu-gb", elem_classes="gp-switch",
            )  # fmt: skip
            memory = gr.Radio([], label="Memory", visible=False, elem_id="fit-memory", elem_classes="gp-switch")
            other_gb = gr.Number(
                USUAL_OTHER_GB, label="Its memory in GB", minimum=1, maximum=LARGEST_COMPUTER_GB, visible=False,
                elem_id="fit-other-gb",
            )  # fmt: skip
            line = markup_place("fit-assumed")
            kv_type = _radio(
                "KV cache precision", KV_CHOICES, "f16", "fit-kv", "Fewer bits leave memory for a longer context."
            )
            chats = _radio("Parallel chats", chat_choices(service.chats), 1, "fit-chats")
            levels = _radio("Levels shown", [("The usual four", "four"), ("Eight", "eight")], "four", "fit-levels")
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
            answer = markup_place("fit-answer")
            chart = markup_place("fit-chart")
            planning = empty_state("Planning the table", "llama.cpp computes what each context needs.")
            rows = button_rows(planning, "fit-table")
            cell_notice = markup_place("fit-away")
            to_models = gr.Button("Open Models", visible=False, size="sm", elem_id="fit-to-models")
            repo = gr.State("")
            kv = markup_place("fit-kv-sum")
            drawn_model = hidden_text("fit-drawn-model")
    return FitTab(
        tab=tab, model=model, computer=computer, gpu_gb=gpu_gb, memory=memory, other_gb=other_gb, computer_line=line,
        kv_type=kv_type, chats=chats, levels=levels, level=level, context=context, headline=headline, answer=answer,
        rows=rows, cell_notice=cell_notice, to_models=to_models, repo=repo, chart=chart, kv=kv, drawn_model=drawn_model,
        drawn=gr.State(),
    )  # fmt: skip


def chat_choices(chats: int) -> list[tuple[str, int]]:
    """One chat, or as many as a model loaded here serves at a time."""
    return [("1", 1), *([(f"{chats} (what Chat reserves)", chats)] if chats > 1 else [])]


def _radio(label: str, choices: list[Any], value: Any, elem_id: str, info: str | None = None) -> gr.Radio:
    return gr.Radio(choices, value=value, label=label, info=info, elem_id=elem_id, elem_classes="gp-switch")


# --- react ---


def draw_fit(tab: FitTab, view: FitView, sent: FitChoice, before: FitView | None = None) -> Updates:
    """The updates that show a view; the chart and the KV cache wait for the whole table.

    sent: the choice that the browser sent, of which only what became something else is written back, once. before: the
    view that is shown; None if it is only the controls of the computer's memory. So a click that comes while a table is
    planned is not undone by it.
    """
    table = view.table
    shown = _controls(tab, before, sent) if before else _memory_controls(tab, sent, sent)
    updates: Updates = {
        component: _COMPONENTS[type(component)](**settings)
        for component, settings in _controls(tab, view, sent).items()
        if settings != shown.get(component)
    }
    updates |= {
        tab.computer_line: computer_line(view),
        tab.answer: answer_sentence(view),
        tab.rows: gr.HTML(rows=status_message(view.message) if view.message else fit_rows(view)),
    }
    if table and not (before and before.table):
        updates[tab.drawn_model] = view.choice.model
    if view.message or (table and table.is_complete):
        updates[tab.drawn] = view.choice
        updates |= {tab.headline: kv_headline(view), tab.chart: memory_chart(view), tab.kv: kv_table(view)}
    return updates


_COMPONENTS: Final[dict[type, Any]] = {gr.Dropdown: gr.Dropdown, gr.Radio: gr.Radio, gr.Number: gr.Number}


def _controls(tab: FitTab, view: FitView, sent: FitChoice) -> dict[Any, dict[str, Any]]:
    """What the controls of the choice become."""
    choice, table = view.choice, view.table

    def chosen(name: str) -> dict[str, Any]:
        value = getattr(choice, name)
        return {} if getattr(sent, name) == value else {"value": value}

    controls: dict[Any, dict[str, Any]] = {
        tab.model: {"choices": list(view.models), **chosen("model")},
        tab.computer: {"choices": computer_choices(view.budget_here, view.host_name), **chosen("computer")},
        tab.chats: chosen("chats"),
        **_memory_controls(tab, choice, sent),
    }
    if table:
        contexts = [(short_tokens(context), context) for context in table.contexts]
        controls[tab.level] = {"choices": list(view.levels), **chosen("level")}
        controls[tab.context] = {"choices": contexts, **chosen("context")}
    return {component: settings for component, settings in controls.items() if settings}


def _memory_controls(tab: FitTab, choice: FitChoice, sent: FitChoice) -> dict[Any, dict[str, Any]]:
    """Those that the kind of computer has."""
    other = choice.other_computer
    kind = other.kind if other else None
    memory = {} if sent.memory == choice.memory_choice else {"value": choice.memory_choice}
    return {
        tab.gpu_gb: {"visible": kind == "gpu"},
        tab.memory: {
            "choices": memory_choices_to_read(kind),
            "label": "RAM beside it" if kind == "gpu" else "Memory",
            "visible": kind is not None,
            **memory,
        },
        tab.other_gb: {"visible": choice.memory_choice == OTHER},
    }


# --- wire ---


def wire_fit_tab(
    tab: FitTab,
    service: FitService,
    tabs: gr.Tabs,
    chat: ChatTab,
    picker: ModelPickerService,
    wanted_repo: gr.Textbox,
) -> None:
    """Every event of the tab; the newest choice wins. The first table is drawn when the tab is first opened.

    wanted_repo: of the Models tab, which opens the repository that is put there.
    """

    redraws = Redraws()

    def redraw(request: gr.Request, values: Values) -> Iterator[Updates]:
        """The view of what is chosen; nothing any more once something else is."""
        sent, before = tab.read_choice(values), None
        is_newest = redraws.begin_redraw(str(request.session_hash))
        yield {control: _COMPONENTS[type(control)](**now) for control, now in _memory_controls(tab, sent, sent).items()}
        for view in service.views(sent):
            if not is_newest():
                break
            if isinstance(view.message, PlaygroundError):
                log_refusal(view.message, visitor_of(request, picker.runs, "fit"))
            yield draw_fit(tab, view, sent, before)
            before = view

    def change_question(request: gr.Request, values: Values) -> Iterator[Updates]:
        """Another level or context. The boxes report also when a person only leaves them."""
        if tab.read_choice(values) != values[tab.drawn]:
            yield from redraw(request, values)

    def change_model(request: gr.Request, values: Values) -> Iterator[Updates]:
        """Another model has its own chats, level and context. The box reports also when a person only leaves it."""
        if values[tab.drawn_model] and values[tab.drawn_model] == values[tab.model]:
            return
        kept = {part: value for part, value in values.items() if part not in (tab.chats, tab.level, tab.context)}
        emptied: Updates = {tab.cell_notice: "", tab.to_models: gr.Button(visible=False)}
        for updates in redraw(request, kept):
            yield updates | emptied
            emptied = {}  # a cell that was pressed while the rest is planned keeps its notice

    def open_cell(request: gr.Request, values: Values) -> Iterator[Updates]:
        action = service.cell_action(tab.read_choice(values), values[tab.rows])
        updates: Updates = {
            tab.rows: gr.HTML(value=""),
            tab.cell_notice: status_message(action.notice),
            tab.to_models: gr.Button(visible=bool(action.repo)),
            tab.repo: action.repo,
        }
        if action.chat is None:
            yield updates
            return
        yield updates | {tabs: gr.Tabs(selected="chat"), chat.loading.progress: ""}
        yield from fill_pickers([chat.picker], picker, request, [action.chat])

    def open_models(repo: str) -> Updates:
        return {tabs: gr.Tabs(selected="models"), wanted_repo: repo}

    quiet: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    # A choice does not wait for the table of the one before it, which it ends.
    newest = {**quiet, "trigger_mode": "multiple"}
    gr.on(
        [
            tab.tab.select, tab.computer.input, tab.gpu_gb.input, tab.memory.input, tab.other_gb.input,
            tab.kv_type.input, tab.chats.input, tab.levels.input,
        ],
        redraw, tab.inputs, tab.outputs, **newest,
    )  # fmt: skip
    gr.on([tab.level.input, tab.context.input], change_question, tab.inputs, tab.outputs, **newest)
    tab.model.input(
        change_model,
        tab.inputs,
        [*tab.outputs, tab.cell_notice, tab.to_models],
        **newest,
    )
    tab.rows.input(
        open_cell, tab.inputs | {tab.rows},
        [tabs, tab.rows, tab.cell_notice, tab.to_models, tab.repo, *chat.picker.outputs, chat.loading.progress],
        **quiet,
    )  # fmt: skip
    tab.to_models.click(open_models, tab.repo, [tabs, wanted_repo], **quiet)
