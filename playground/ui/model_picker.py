"""Model, level, context size and what they will need: the picker that every tab with a model shows.

Lays out and wires; what a choice means is picker_view.py's to say. Levels and context sizes are native radio buttons
inside gr.HTML. The browser may send any text as their value, so a choice is looked up in the library, never trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.ui.picker_view import Choice, Desk, PickerView
from playground.ui.render_memory import memory_bar, memory_bar_empty
from playground.ui.render_picker import context_steps, level_rows, picker_line

# The rows live in the prop `rows`, the choice in `value`. A redraw keeps the elements, so the focus stays where it is,
# and the checked one is set again because an attribute no longer moves a radio button that a person has used; it is
# scrolled into the list's view unless the person is in the list.
_RADIO_JS: Final = """
const sync = () => {
  element.querySelectorAll('input[type=radio]').forEach(r => { r.checked = r.value === props.value; });
  const list = element.querySelector('.gp-scroll');
  const row = list?.querySelector('input:checked')?.closest('label');
  if (!row || list.contains(document.activeElement)) return;
  list.scrollTop = Math.max(0, row.offsetTop - list.offsetTop - (list.clientHeight - row.offsetHeight) / 2);
};
element.addEventListener('change', event => {
  if (event.target.type !== 'radio') return;
  props.value = event.target.value;
  trigger('input');
});
sync();
watch(['value', 'rows'], sync);
"""
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
class ModelPicker:
    """The picker's components; `choice` is the list of inputs that `Choice.read` takes."""

    line: gr.HTML
    model: gr.Dropdown
    level: gr.HTML
    context: gr.HTML
    kv_type: gr.Radio
    memory: gr.HTML
    actions: gr.Column  # room for what a tab does with the choice: `with picker.actions: gr.Button("Load")`

    @property
    def choice(self) -> list[Any]:
        return [self.model, self.level, self.context, self.kv_type]

    @property
    def changes(self) -> list[Any]:
        """The events of a person who changes the choice."""
        return [self.model.input, self.level.input, self.context.input, self.kv_type.input]

    @property
    def shown(self) -> list[Any]:
        return [self.line, self.model, self.level, self.context, self.memory]


def build_model_picker(desk: Desk, group: str) -> ModelPicker:
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
                desk.model_names(), label="Model", filterable=True, interactive=True, elem_id=f"{group}-model"
            )
            level = _radio_rows(level_rows([], "", f"{group}-level"), f"{group}-level")
            context = _radio_rows("", f"{group}-context")
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
    return ModelPicker(line, model, level, context, kv_type, memory, actions)


def _radio_rows(rows: str, elem_id: str) -> gr.HTML:
    return gr.HTML(
        "", html_template="${rows}", js_on_load=_RADIO_JS, apply_default_css=False, rows=rows, elem_id=elem_id
    )


def wire_model_picker(page: gr.Blocks, picker: ModelPicker, desk: Desk, group: str) -> None:
    """Redraw whenever the choice changes; the newest choice wins."""

    def redraw(*values: Any) -> Iterator[list[Any]]:
        for view in desk.views(Choice.read(*values)):
            yield draw(view, group)

    def another_model(model: str | None) -> Iterator[list[Any]]:
        yield from redraw(model, None, None, "f16")

    quiet: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    page.load(redraw, picker.choice, picker.shown, **quiet)
    picker.model.input(another_model, picker.model, picker.shown, **quiet)
    gr.on(
        [picker.level.input, picker.context.input, picker.kv_type.input], redraw, picker.choice, picker.shown, **quiet
    )


def draw(view: PickerView, group: str) -> list[Any]:
    """The updates for `ModelPicker.shown`."""
    choice = view.choice
    bar = memory_bar_empty(view.problem or "Working out what this needs …")
    if view.plan and view.verdict:
        bar = memory_bar(view.plan, view.usable, view.verdict)
    return [
        picker_line(view.model_name or "Choose a model", view.level_name, choice.context_size, view.verdict),
        gr.Dropdown(choices=list(view.models), value=choice.model),
        gr.HTML(value=choice.level or "", rows=level_rows(view.levels, choice.level or "", f"{group}-level")),
        gr.HTML(
            value=str(choice.context_size or ""),
            rows=context_steps(view.steps, choice.context_size, f"{group}-context") if choice.context_size else "",
        ),
        bar,
    ]
