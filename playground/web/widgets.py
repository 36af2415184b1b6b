"""Small parts that several tabs use: rows of radio buttons and of buttons, and files that the browser saves."""

from __future__ import annotations

import time
from typing import Final

import gradio as gr

from playground.resources import asset

_ROWS: Final = "${typeof rows === 'undefined' ? '' : rows}"  # a tab opened later is drawn once before its props arrive


def javascript(name: str) -> str:
    """A script in playground/assets/js/, such as "radio_rows.js"."""
    return asset(f"js/{name}").read_text(encoding="utf-8")


def radio_rows(rows: str, elem_id: str) -> gr.HTML:
    """Radio buttons that the server draws: the markup goes into the prop `rows`, the chosen value into `value`.

    Native radio buttons, so arrow keys, screen readers and thumbs work as everywhere. The browser may send any text as
    `value`: look it up, never trust it.
    """
    return _rows(rows, elem_id, "radio_rows.js")


def button_rows(rows: str, elem_id: str) -> gr.HTML:
    """Buttons inside rows that the server draws; `value` becomes the `data-value` of the pressed one.

    Its `input` event comes with each press. Set `value` to "" afterwards, or the next press of the same button is lost.
    """
    return _rows(rows, elem_id, "button_rows.js")


def markup_place(elem_id: str, value: str = "") -> gr.HTML:
    """A place for markup that the server draws."""
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id)


def _rows(rows: str, elem_id: str, script: str) -> gr.HTML:
    return gr.HTML(
        "",
        html_template=_ROWS,
        js_on_load=javascript(script),
        apply_default_css=False,
        rows=rows,
        elem_id=elem_id,
    )


def save_file_js(name: str, media_type: str) -> str:
    """The browser's part of an event: saves its one input as a file of this name. The server keeps nothing of it."""
    return f"text => ({javascript('save_file.js')})(text, '{name}', '{media_type}')"


def change_stamp() -> str:
    """A new value for a hidden text box whose `change` event others listen to."""
    return str(time.time_ns())
