"""Small parts that several tabs use: rows of radio buttons and of buttons, drawn by us, and files that are saved."""

from __future__ import annotations

import time
from typing import Final

import gradio as gr

# The rows live in the prop `rows`, the choice in `value`. A redraw makes new elements, so what a person had unfolded is
# unfolded again, the focus is given back to the one that was reached by keyboard, and the checked one is set again
# because an attribute no longer moves a radio button that a person has used. It is scrolled into the list's view: to
# the middle, or no further than it must be while the person is in the list.
_RADIO_JS: Final = """
let held = null;
let unfolded = false;
element.addEventListener('toggle', event => { if (event.target.isConnected) unfolded = event.target.open; }, true);
element.addEventListener('focusin', event => { held = event.target.value ?? null; });
element.addEventListener('focusout', event => { if (event.relatedTarget) held = null; });
document.addEventListener('pointerdown', event => { if (!element.contains(event.target)) held = null; });
const sync = () => {
  const fold = element.querySelector('details');
  if (fold && unfolded) fold.open = true;
  if (held !== null && document.activeElement === document.body)
    [...element.querySelectorAll('input[type=radio]')].find(r => r.value === held)?.focus({preventScroll: true});
  element.querySelectorAll('input[type=radio]').forEach(r => { r.checked = r.value === props.value; });
  const list = element.querySelector('.gp-scroll');
  const row = list?.querySelector('input:checked')?.closest('label');
  if (!row) return;
  if (list.contains(document.activeElement)) {
    const [shown, its] = [list.getBoundingClientRect(), row.getBoundingClientRect()];
    list.scrollTop += Math.max(0, its.bottom - shown.bottom) - Math.max(0, shown.top - its.top);
    return;
  }
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
_ROWS: Final = "${typeof rows === 'undefined' ? '' : rows}"  # a tab opened later is drawn once before its props come
_BUTTON_JS: Final = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-value]');
  if (!button) return;
  props.value = button.dataset.value;
  trigger('input');
});
"""


def radio_rows(rows: str, elem_id: str) -> gr.HTML:
    """Radio buttons drawn by us: the markup goes into the prop `rows`, the choice into `value`."""
    return gr.HTML("", html_template=_ROWS, js_on_load=_RADIO_JS, apply_default_css=False, rows=rows, elem_id=elem_id)


def button_rows(rows: str, elem_id: str) -> gr.HTML:
    """Its `input` event comes with each press; set `value` to "" afterwards, or the same button is silent."""
    return gr.HTML("", html_template=_ROWS, js_on_load=_BUTTON_JS, apply_default_css=False, rows=rows, elem_id=elem_id)


def news() -> str:
    """A value for a `news` component: another one each time."""
    return str(time.time_ns())


# Nothing of a saved file is kept on the server: its text comes as the value of an event.
_SAVE: Final = """(text, name, type) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def saving_js(name: str, media_type: str) -> str:
    """The browser's part of an event: saves its one input under this name; an empty text saves nothing."""
    return f"text => ({_SAVE})(text, '{name}', '{media_type}')"
