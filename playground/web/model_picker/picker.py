"""The model picker that Chat and Compare show: model, level, context size, memory plan.

Three parts: lay out, react, wire. What a choice means is worked out in app/model_picker/service.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import gradio as gr

from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.makeable_levels import QuantizationUpdate
from playground.app.model_picker.service import ModelPickerService
from playground.app.model_picker.view import PickerView
from playground.chat.template.thinking import AS_IT_LIKES
from playground.limits.visitor import Visitor
from playground.steps import newest_within
from playground.text_format import count, gigabytes
from playground.web.html.memory import device_bars, memory_bar, memory_bar_empty
from playground.web.html.page import status_message
from playground.web.html.picker import context_steps, level_rows, picker_line, whole_name
from playground.web.model_picker.server_form import ServerForm, build_server_form, wire_server_form
from playground.web.model_picker.where_it_runs import WhereItRuns, build_where_it_runs, wire_where_it_runs
from playground.web.redraws import Chooser, PageValues, Redraws
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Updates, Values
from playground.web.widgets import change_stamp, hidden_text, javascript, radio_rows

KV_CHOICES: Final = [
    ("f16: full precision", "f16"),
    ("q8_0: half the memory", "q8_0"),
    ("q4_0: a quarter of the memory, quality may suffer", "q4_0"),
]
_THINKING_NAMES: Final = {
    "": "The model’s default",
    "off": "Off",
    "on": "On",
    "low": "Low effort",
    "medium": "Medium effort",
    "high": "High effort",
}
_BOUND: Final = "A limit ends the thoughts after so many tokens; the answer follows."
_STAGE_SECONDS: Final = 0.05  # stages of a view that come in this time are drawn once: a browser takes as long for each
_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_REDRAW: Final[dict[str, Any]] = {**_QUIET, "trigger_mode": "always_last"}


@dataclass(frozen=True)
class PickerComponents:
    """The picker's components. Give handlers `inputs`, read them with `read_choice`, and return `updates`."""

    group: str  # "chat", "left" or "right": part of every element id and of the names of the radio buttons
    line: gr.HTML
    model: gr.Dropdown
    level: gr.HTML
    make: gr.Button  # makes the chosen level, where it is not on the disk yet
    stop_making: gr.Button
    making: gr.HTML
    models_changed: gr.Textbox  # changes whenever this picker's tab has added a model file or a server
    drawn_model: gr.State  # the one whose levels are shown
    context: gr.HTML
    kv_type: gr.Radio
    thinking: gr.Radio
    thinking_box: gr.Accordion  # hidden where the model's template knows nothing of thoughts
    where: WhereItRuns
    memory: gr.HTML
    actions: gr.Column  # room for what a tab does with the choice: `with picker.actions: gr.Button("Load")`
    server: ServerForm | None = None  # None where servers must not be entered
    redraws: Redraws = field(default_factory=Redraws)
    early: PageValues[ModelChoice] = field(default_factory=PageValues)  # what was set before the page had filled it

    @property
    def inputs(self) -> set[Any]:
        return {self.model, self.level, *self.settings}

    @property
    def outputs(self) -> list[Any]:
        """All that a redraw may change."""
        return [*self._shown, self.drawn_model]

    @property
    def _shown(self) -> list[Any]:
        """What `choice_updates` may change."""
        choice = [self.model, self.level, *self.settings]
        return [self.line, *choice, self.thinking_box, self.where.box, self.memory, self.make]

    @property
    def changes(self) -> list[Any]:
        """The events of a person who changes the choice."""
        return [self.model.input, self.level.input, *(one.input for one in self.settings)]

    @property
    def settings(self) -> list[Any]:
        """What changes how the chosen level runs."""
        return [self.context, self.kv_type, *self.where.choice, self.thinking]

    def begin_drawing(
        self, request: gr.Request, choice: ModelChoice, chooser: Chooser
    ) -> tuple[ModelChoice, Callable[[], bool]]:
        """The choice, with what the visitor set while the page was opening, and whether this drawing is the newest."""
        session = str(request.session_hash)
        is_newest = self.redraws.begin_redraw(session, chooser)
        early = self.early.value_of(session, ModelChoice()) if chooser == "opening" else ModelChoice()
        return choice.with_settings_of(early), is_newest

    def read_choice(self, values: Values) -> ModelChoice:
        """The choice that the browser sent; an impossible value becomes the default."""
        return ModelChoice.read(
            values[self.model], values[self.level], values[self.context], values[self.kv_type],
            self.where.read_choice(values), values[self.thinking],
        )  # fmt: skip

    def choice_updates(self, view: PickerView) -> Updates:
        """The view of a choice that the page makes for the visitor, drawn: by a link, a loaded model, a cell."""
        thinking = _thinking_radio(view, value=view.choice.thinking.text)
        chosen = {self.kv_type: view.choice.kv_type, self.thinking: thinking}
        return self.updates(view) | chosen | self.where.updates(view, is_new=True)

    def updates(self, view: PickerView, written: ModelChoice | None = None) -> Updates:
        """The view of a choice, drawn. written: the choice that an earlier view of this redraw has written.

        Its values are not written again, because an update that is late would undo the visitor's next click. For the
        same reason, the KV cache type and where it runs are left out: no view changes them.
        """
        choice = view.choice
        model: dict[str, Any] = {"value": choice.model}
        level: dict[str, Any] = {"value": choice.level or ""}
        context: dict[str, Any] = {"value": str(choice.context_size or "")}
        if written:
            model = model if written.model != choice.model else {}
            level = level if written.level != choice.level else {}
            context = context if written.context_size != choice.context_size else {}
        bar = memory_bar_empty(view.problem or "Calculating memory …")
        if view.plan and view.verdict:
            bar = memory_bar(view.plan, view.usable, view.verdict) + device_bars(view.plan, view.budget, view.where)
        rows = level_rows(view.levels, choice.level or "", f"{self.group}-level", view.makeable, view.made_from)
        chosen_name = next((name for name, value in view.models if value == choice.model), "")
        steps = context_steps(view.steps, choice.context_size, f"{self.group}-context") if choice.context_size else ""
        return {
            self.line: picker_line(
                view.model_name or "Choose a model", view.level_name, choice.context_size, view.verdict
            ),
            self.model: gr.Dropdown(choices=list(view.models), **model),
            self.level: gr.HTML(rows=whole_name(chosen_name) + rows, **level),
            self.context: gr.HTML(rows=steps, **context),
            self.thinking: _thinking_radio(view),
            self.thinking_box: gr.Accordion(_thinking_title(view), visible=bool(view.thinking)),
            **self.where.updates(view),
            self.memory: bar,
            self.make: _make_button(view),
            self.drawn_model: choice.model,
        }

    def is_drawn(self, values: Values) -> bool:
        """Whether the chosen model is shown already: a box of choices reports also when a person only leaves it."""
        return values[self.model] is not None and values[self.model] == values[self.drawn_model]


# --- lay out ---


def build_model_picker(service: ModelPickerService, group: str) -> PickerComponents:
    """The picker inside the column that is open; `group` is its name on the page: "chat", "left" or "right"."""
    on_zerogpu = service.zerogpu is not None and group == "chat"
    with gr.Column(elem_classes="gp-picker", elem_id=f"{group}-picker"):
        drawn_model = gr.State()
        line = gr.HTML(
            picker_line("Choose a model", "", None, None),
            js_on_load=javascript("picker_fold.js"),
            apply_default_css=False,
            elem_id=f"{group}-fold",
        )
        with gr.Column(elem_classes="gp-picker-body"):
            model = gr.Dropdown(
                service.model_names(), label="Model", filterable=True, interactive=True, elem_id=f"{group}-model"
            )
            level = radio_rows(level_rows([], "", f"{group}-level"), f"{group}-level")
            with gr.Column(elem_classes="gp-actions"):
                make = gr.Button("Make", variant="primary", visible=False, elem_id=f"{group}-make")
                making = gr.HTML("", apply_default_css=False, elem_id=f"{group}-making")
                stop_making = gr.Button("Stop", variant="stop", visible=False, elem_id=f"{group}-stop-making")
                models_changed = hidden_text(f"{group}-news")
            context = radio_rows("", f"{group}-context")
            memory = gr.HTML(
                memory_bar_empty("The memory that the model needs shows here before it loads."),
                apply_default_css=False,
                elem_id=f"{group}-memory",
            )
            with gr.Column(elem_classes="gp-actions") as actions:
                pass
            with gr.Accordion("KV cache", open=False, elem_classes="gp-more"):
                kv_type = gr.Radio(
                    KV_CHOICES,
                    value="f16",
                    label="KV cache precision",
                    info="Lower precision leaves room for a longer context.",
                    elem_id=f"{group}-kv",
                )
            with gr.Accordion("Thinking", open=False, visible=False, elem_classes="gp-more") as thinking_box:
                thinking = gr.Radio(
                    [(_THINKING_NAMES[""], "")],
                    value="",
                    label="Thinking before the answer",
                    info=_BOUND,
                    elem_id=f"{group}-thinking",
                )
            where = build_where_it_runs(group, on_zerogpu=on_zerogpu)
            server = build_server_form(group) if service.servers.may_add else None
    return PickerComponents(
        group=group,
        line=line,
        model=model,
        level=level,
        make=make,
        stop_making=stop_making,
        making=making,
        models_changed=models_changed,
        drawn_model=drawn_model,
        context=context,
        kv_type=kv_type,
        thinking=thinking,
        thinking_box=thinking_box,
        where=where,
        memory=memory,
        actions=actions,
        server=server,
    )


# --- react ---


def picker_views(
    picker: PickerComponents,
    service: ModelPickerService,
    request: gr.Request,
    choice: ModelChoice,
    chooser: Chooser = "visitor",
) -> Iterator[PickerView]:
    """The views of a choice, until another redraw of the same picker begins.

    Where the page is the chooser, `choice_updates` draws them, until the visitor chooses something.
    """
    choice, is_newest = picker.begin_drawing(request, choice, chooser)
    for view in newest_within(_STAGE_SECONDS, service.views(choice)):
        if not is_newest():
            return
        yield view


def fill_pickers(
    pickers: Sequence[PickerComponents],
    service: ModelPickerService,
    request: gr.Request,
    choices: Sequence[ModelChoice],
    chooser: Literal["page", "opening"] = "page",
) -> Iterator[Updates]:
    """The choices that the page makes, drawn until the visitor chooses something in that picker."""
    pairs = list(zip(pickers, choices, strict=True))
    begun = [picker.begin_drawing(request, choice, chooser) for picker, choice in pairs]  # all, before one is drawn
    for picker, (choice, is_newest) in zip(pickers, begun, strict=True):
        for view in newest_within(_STAGE_SECONDS, service.views(choice)):
            if not is_newest():
                break
            yield picker.choice_updates(view)


def _thinking_radio(view: PickerView, **more: Any) -> gr.Radio:
    """What a model can be asked for, in words; a choice that this model does not know stays as it is."""
    texts = dict.fromkeys([*(one.text for one in view.thinking or (AS_IT_LIKES,)), view.choice.thinking.text])
    has_bound = any(one.most_tokens is not None for one in view.thinking)
    return gr.Radio(
        choices=[(_thinking_name(text), text) for text in texts], info=_BOUND if has_bound else None, **more
    )


def _thinking_name(text: str) -> str:
    return _THINKING_NAMES.get(text) or f"At most {count(int(text))} tokens"


def _thinking_title(view: PickerView) -> str:
    """`Thinking: off`, so that the choice shows while the part is folded."""
    chosen = view.choice.thinking.text
    return f"Thinking: {_thinking_name(chosen).lower()}" if chosen else "Thinking"


def _make_button(view: PickerView) -> gr.Button:
    """`Make Q2_0 (62.2 MB)`; hidden where the chosen level is on the disk."""
    if view.to_make is None:
        return gr.Button(visible=False)
    return gr.Button(f"Make {view.to_make.level} ({gigabytes(view.to_make.size)})", visible=True)


def _quantization_updates(picker: PickerComponents, update: QuantizationUpdate) -> Updates:
    updates: Updates = {
        picker.making: status_message(update.message),
        picker.make: gr.Button(visible=not update.is_busy and not update.is_made),
        picker.stop_making: gr.Button(visible=update.is_busy),
    }
    return updates | ({picker.models_changed: change_stamp()} if update.is_made else {})


# --- wire ---


def wire_choices(picker: PickerComponents, service: ModelPickerService) -> None:
    """The picker is redrawn whenever the choice changes. Each tab fills its pickers itself, when the page opens."""
    redraw = redrawing(picker, service, "visitor")

    def redraw_another_model(request: gr.Request, values: Values) -> Iterator[Updates]:
        if picker.is_drawn(values):
            return
        yield from redraw(request, {**values, picker.level: None, picker.context: None})

    picker.model.input(redraw_another_model, {*picker.inputs, picker.drawn_model}, picker.outputs, **_REDRAW)
    redraw_run = redrawing(picker, service, "settings")

    def redraw_settings(request: gr.Request, values: Values) -> Iterator[Updates]:
        picker.early.set_value(str(request.session_hash), picker.read_choice(values))
        yield from redraw_run(request, values)

    other_changes = [one.input for one in (picker.level, *picker.settings)]
    gr.on(other_changes, redraw_settings, picker.inputs, picker.outputs, **_REDRAW)
    visitor = partial(visitor_of, runs=service.runs, via="chat" if picker.group == "chat" else "compare")
    wire_where_it_runs(picker.where, service.zerogpu, visitor)
    _wire_making(picker, service, visitor)
    if picker.server:
        wire_server_form(picker.server, service.servers, visitor, picker.models_changed)


def wire_redraw(picker: PickerComponents, service: ModelPickerService, after: Any) -> None:
    """The picker is redrawn after another event, such as a move of a dial that has set its level."""
    after.then(redrawing(picker, service, "visitor"), picker.inputs, picker.outputs, **_REDRAW)


def keep_pickers_current(
    pickers: Sequence[PickerComponents], service: ModelPickerService, sources: Sequence[gr.Textbox] = ()
) -> None:
    """Redraw every picker of the page when one of them, or another source, reports that the models have changed."""
    triggers = [source.change for source in (*(picker.models_changed for picker in pickers), *sources)]
    for picker in pickers:
        gr.on(triggers, redrawing(picker, service, "models"), picker.inputs, picker.outputs, **_REDRAW)


def redrawing(
    picker: PickerComponents, service: ModelPickerService, chooser: Literal["visitor", "settings", "models"]
) -> Callable[..., Iterator[Updates]]:
    """Draws what the browser sends: after a choice of the visitor's, or because the list of models has changed."""

    def redraw(request: gr.Request, values: Values) -> Iterator[Updates]:
        written: ModelChoice | None = None
        # The last message of what filled the picker may come after the click: then all of the choice is written again.
        overtakes = chooser != "models" and picker.redraws.is_filled(str(request.session_hash))
        for view in picker_views(picker, service, request, picker.read_choice(values), chooser):
            yield picker.choice_updates(view) if overtakes else picker.updates(view, written)
            written, overtakes = view.choice, False

    return redraw


def _wire_making(picker: PickerComponents, service: ModelPickerService, visitor: Callable[..., Visitor]) -> None:
    """The button that makes the chosen level."""

    def make(request: gr.Request, values: Values) -> Iterator[Updates]:
        for update in service.make_level(picker.read_choice(values), visitor=visitor(request)):
            yield _quantization_updates(picker, update)

    def stop(request: gr.Request) -> None:
        service.runs.stop_run(visitor(request), "making")

    outputs = [picker.making, picker.make, picker.stop_making, picker.models_changed]
    picker.make.click(make, picker.inputs, outputs, concurrency_limit=None, **_QUIET)
    picker.stop_making.click(stop, queue=False, **_QUIET)
    gr.on([picker.model.input, picker.level.input], None, None, picker.making, js="() => ''")
