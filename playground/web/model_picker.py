"""Model, level, context size and what they will need: the picker that every tab with a model shows.

Lays out and wires; what a choice means is picker_view.py's to say. Levels and context sizes are native radio buttons
inside gr.HTML. The browser may send any text as their value, so a choice is looked up in the library, never trusted.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import gradio as gr

from playground.app.makeable_levels import QuantizationUpdate
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService, PickerView
from playground.app.refusals import error_message
from playground.app.servers import Servers
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.text_format import gibibytes
from playground.web.html.memory import memory_bar, memory_bar_empty
from playground.web.html.page import notice, status_message
from playground.web.html.picker import context_steps, level_rows, picker_line
from playground.web.server.sessions import visitor_of
from playground.web.widgets import news, radio_rows

_FOLD_JS: Final = """
let open = false;
const show = () => element.querySelector('.gp-fold')?.setAttribute('aria-expanded', String(open));
element.addEventListener('click', event => {
  if (!event.target.closest('.gp-fold')) return;
  open = !open;
  show();
});
watch('value', show);
"""
KV_CHOICES: Final = [
    ("16 bits (f16): the usual", "f16"),
    ("8 bits (q8_0): half the memory", "q8_0"),
    ("4 bits (q4_0): a quarter, may be noticed", "q4_0"),
]


@dataclass(frozen=True)
class ServerForm:
    """Its components."""

    address: gr.Textbox
    name: gr.Textbox
    key: gr.Textbox
    add: gr.Button
    said: gr.HTML


@dataclass(frozen=True)
class PickerComponents:
    """The picker's components; `choice` is the list of inputs that `ModelChoice.read` takes."""

    line: gr.HTML
    model: gr.Dropdown
    level: gr.HTML
    make: gr.Button  # makes the chosen level where it is only on offer
    stop_making: gr.Button
    making: gr.HTML
    news: gr.Textbox  # changes whenever this picker's tab has put a level on the disk
    context: gr.HTML
    kv_type: gr.Radio
    memory: gr.HTML
    actions: gr.Column  # room for what a tab does with the choice: `with picker.actions: gr.Button("Load")`
    server: ServerForm | None = None  # where servers may be entered

    @property
    def choice(self) -> list[Any]:
        return [self.model, self.level, self.context, self.kv_type]

    @property
    def changes(self) -> list[Any]:
        """The events of a person who changes the choice."""
        return [self.model.input, self.level.input, self.context.input, self.kv_type.input]

    @property
    def shown(self) -> list[Any]:
        return [self.line, self.model, self.level, self.context, self.memory, self.make]


def build_model_picker(service: ModelPickerService, group: str) -> PickerComponents:
    """The picker inside the column that is open; `group` names it once per page ("chat", "left", "right")."""
    with gr.Column(elem_classes="gp-picker", elem_id=f"{group}-picker"):
        line = gr.HTML(
            picker_line("Choose a model", "", None, None),
            js_on_load=_FOLD_JS,
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
                news = gr.Textbox(visible="hidden", elem_id=f"{group}-news")
            context = radio_rows("", f"{group}-context")
            memory = gr.HTML(
                memory_bar_empty("What the model will need shows here before it is loaded."),
                apply_default_css=False,
                elem_id=f"{group}-memory",
            )
            with gr.Column(elem_classes="gp-actions") as actions:
                pass
            with gr.Accordion("KV cache", open=False, elem_classes="gp-more"):
                kv_type = gr.Radio(
                    KV_CHOICES,
                    value="f16",
                    label="Bits for what the model keeps of the text",
                    info="Fewer bits leave room for a longer context.",
                    elem_id=f"{group}-kv",
                )
            server = build_server_form(group) if service.servers.may_add else None
    return PickerComponents(
        line, model, level, make, stop_making, making, news, context, kv_type, memory, actions, server
    )


def build_server_form(group: str) -> ServerForm:
    """Folded away inside the column that is open; `group` names it once per page."""
    with gr.Accordion("A server with more models", open=False, elem_classes="gp-more", elem_id=f"{group}-server"):
        address = gr.Textbox(
            label="Address",
            info="Of an OpenAI-compatible server: llama-server, vLLM, SGLang, LM Studio …",
            placeholder="http://192.168.1.20:8000/v1",
            max_lines=1,
            elem_id=f"{group}-server-address",
        )
        name = gr.Textbox(
            label="Name", placeholder="such as workshop", max_lines=1, elem_id=f"{group}-server-name"
        )  # fmt: skip
        key = gr.Textbox(
            label="Key", info="If it wants one.", type="password", max_lines=1, elem_id=f"{group}-server-key"
        )  # fmt: skip
        add = gr.Button("Ask for its models", elem_id=f"{group}-server-add")
        said = gr.HTML("", apply_default_css=False, elem_id=f"{group}-server-said")
    return ServerForm(address, name, key, add, said)


def wire_model_picker(page: gr.Blocks, picker: PickerComponents, service: ModelPickerService, group: str) -> None:
    """Filled when the page opens, and redrawn whenever the choice changes."""
    page.load(_redrawing(service, group, _Redraws()), picker.choice, picker.shown, **_REDRAW)
    wire_choices(picker, service, group)


class _Redraws:
    """Which redraw of a page's picker is the newest: an older one that is still under way must not draw over it."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def begin(self, session: str) -> Callable[[], bool]:
        """Tells, from now on, whether this redraw is still the page's newest."""
        with self._lock:
            number = next(self._numbers)
            self._newest.pop(session, None)
            self._newest[session] = number
            while len(self._newest) > _MOST_PAGES:  # the page that has been still for longest
                del self._newest[next(iter(self._newest))]
        return lambda: self._newest.get(session, number) == number


_MOST_PAGES: Final = 10_000


_REDRAW: Final[dict[str, Any]] = {
    "show_progress": "hidden",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}


def wire_choices(picker: PickerComponents, service: ModelPickerService, group: str) -> None:
    """Redraw whenever the choice changes; the newest choice wins. For a tab that fills its pickers itself."""
    redraw = _redrawing(service, group, _Redraws())

    def another_model(request: gr.Request, model: str | None) -> Iterator[list[Any]]:
        yield from redraw(request, model, None, None, "f16")

    picker.model.input(another_model, picker.model, picker.shown, **_REDRAW)
    gr.on(
        [picker.level.input, picker.context.input, picker.kv_type.input],
        redraw,
        picker.choice,
        picker.shown,
        **_REDRAW,
    )
    visitor = partial(visitor_of, runs=service.runs, via="chat" if group == "chat" else "compare")
    _wire_making(picker, service, visitor)
    if picker.server:
        wire_server_form(picker.server, service.servers, visitor, picker.news, news)


def _redrawing(service: ModelPickerService, group: str, redraws: _Redraws) -> Callable[..., Iterator[list[Any]]]:
    def redraw(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        is_newest = redraws.begin(str(request.session_hash))
        for view in service.views(ModelChoice.read(*values)):
            if not is_newest():
                return
            yield draw(view, group)

    return redraw


def _wire_making(
    picker: PickerComponents, service: ModelPickerService, visitor: Callable[[gr.Request], Visitor]
) -> None:
    """The button that makes the chosen level; what has changed on the disk is then told by `news`."""

    def make(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        for frame in service.make_level(ModelChoice.read(*values), visitor=visitor(request)):
            yield _draw_making(picker, frame)

    def stop(request: gr.Request) -> None:
        service.runs.stop(visitor(request), "making")

    drawn = [picker.making, picker.make, picker.stop_making, picker.news]
    picker.make.click(
        make, picker.choice, drawn, show_progress="hidden", concurrency_limit=None, api_visibility="private"
    )
    picker.stop_making.click(stop, show_progress="hidden", queue=False, api_visibility="private")
    gr.on([picker.model.input, picker.level.input], None, None, picker.making, js="() => ''")


def _draw_making(picker: PickerComponents, frame: QuantizationUpdate) -> dict[Any, Any]:
    updates: dict[Any, Any] = {
        picker.making: status_message(frame.message),
        picker.make: gr.Button(visible=not frame.is_busy and not frame.is_made),
        picker.stop_making: gr.Button(visible=frame.is_busy),
    }
    return updates | ({picker.news: news()} if frame.is_made else {})


def wire_server_form(
    form: ServerForm,
    servers: Servers,
    visitor: Callable[[gr.Request], Visitor],
    news: gr.Textbox,
    new_news: Callable[[], str],
) -> None:
    """Adds the server and lets every picker know; news: what the pickers listen to, new_news: another value for it."""

    def add(request: gr.Request, address: str, name: str, key: str) -> dict[Any, Any]:
        try:
            said = servers.add(str(name or ""), str(address or ""), str(key or ""))
        except PlaygroundError as error:
            return {form.said: error_message(error, visitor(request))}
        return {form.said: notice(said, "good"), form.key: "", form.name: "", form.address: "", news: new_news()}

    gr.on(
        [form.add.click, form.key.submit, form.address.submit],
        add,
        [form.address, form.name, form.key],
        [form.said, form.key, form.name, form.address, news],
        show_progress="hidden",
        api_visibility="private",
    )


def keep_pickers_current(
    pickers: Mapping[str, PickerComponents], service: ModelPickerService, sources: Sequence[gr.Textbox] = ()
) -> None:
    """Redraw every picker of the page, by its group, when any of them or another source has news of the disk."""
    triggers = [source.change for source in (*(picker.news for picker in pickers.values()), *sources)]
    for group, picker in pickers.items():
        gr.on(
            triggers,
            _redrawing(service, group, _Redraws()),
            picker.choice,
            picker.shown,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )


def draw(view: PickerView, group: str) -> list[Any]:
    """The updates for `PickerComponents.shown`."""
    choice = view.choice
    bar = memory_bar_empty(view.problem or "Working out what this needs …")
    if view.plan and view.verdict:
        bar = memory_bar(view.plan, view.usable, view.verdict)
    return [
        picker_line(view.model_name or "Choose a model", view.level_name, choice.context_size, view.verdict),
        gr.Dropdown(choices=list(view.models), value=choice.model),
        gr.HTML(
            value=choice.level or "",
            rows=level_rows(view.levels, choice.level or "", f"{group}-level", view.offers, view.made_from),
        ),
        gr.HTML(
            value=str(choice.context_size or ""),
            rows=context_steps(view.steps, choice.context_size, f"{group}-context") if choice.context_size else "",
        ),
        bar,
        _make_button(view),
    ]


def _make_button(view: PickerView) -> gr.Button:
    """`Make Q2_0 (62 MiB)` while the chosen level is only on offer."""
    if view.to_make is None:
        return gr.Button(visible=False)
    return gr.Button(f"Make {view.to_make.level} ({gibibytes(view.to_make.size)})", visible=True)
