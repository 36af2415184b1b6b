"""Buttons inside rows that are drawn by us: markup in the prop `rows`, the pressed button's data-value in `value`."""

from __future__ import annotations

from typing import Final

import gradio as gr

_JS: Final = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-value]');
  if (!button) return;
  props.value = button.dataset.value;
  trigger('input');
});
"""
_ROWS: Final = "${typeof rows === 'undefined' ? '' : rows}"  # a tab opened later is drawn once before its props come


def button_rows(rows: str, elem_id: str) -> gr.HTML:
    """Its `input` event comes with each press; set `value` to "" afterwards, or the same button is silent."""
    return gr.HTML("", html_template=_ROWS, js_on_load=_JS, apply_default_css=False, rows=rows, elem_id=elem_id)
