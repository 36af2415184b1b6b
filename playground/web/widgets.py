"""Parts that tabs share or would be long with: rows of buttons, sampling settings, files that the browser saves."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.chat.saved_chat import LARGEST_SEED, SAMPLING_RANGES, SHORTEST_REPLY
from playground.llama.sampling_extras import Sampling
from playground.resources import asset
from playground.web.streaming import Values

ROWS: Final = "${typeof rows === 'undefined' ? '' : rows}"  # a tab opened later is drawn once before its props arrive


def javascript(name: str) -> str:
    """A script in playground/assets/js/, such as "radio_rows.js"."""
    return asset(f"js/{name}").read_text(encoding="utf-8")


def radio_rows(rows: str, elem_id: str, value: str = "") -> gr.HTML:
    """Radio buttons that the server draws: the markup goes into the prop `rows`, the chosen value into `value`.

    Native radio buttons, so arrow keys, screen readers and thumbs work as everywhere. The browser may send any text as
    `value`: look it up, never trust it.
    """
    return _rows(rows, elem_id, "radio_rows.js", value=value)


def button_rows(rows: str, elem_id: str, *more: str) -> gr.HTML:
    """Buttons inside rows that the server draws; `value` becomes the `data-value` of the pressed one.

    Its `input` event comes with each press. Set `value` to "" afterwards, or the next press of the same button is lost.
    more: the names of scripts that run beside its own.
    """
    return _rows(rows, elem_id, "button_rows.js", *more)


def key_rows(elem_id: str, *more: str) -> gr.HTML:
    """As `button_rows`; a button with a `data-key` is also pressed by that key, wherever the focus is but in a box.

    more: the names of scripts that run beside its own.
    """
    return _rows("", elem_id, "vote_sheet.js", *more)


def build_dial(value: str, rows: str, elem_id: str, elem_class: str) -> gr.HTML:
    """A bit dial (html/dial.py). Its `input` event comes when a handle has rested for a moment."""
    return gr.HTML(
        value, html_template=ROWS, js_on_load=javascript("dial.js"), apply_default_css=False, rows=rows,
        elem_id=elem_id, elem_classes=elem_class,
    )  # fmt: skip


def markup_place(elem_id: str, value: str = "") -> gr.HTML:
    """A place for markup that the server draws."""
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id)


def hidden_text(elem_id: str) -> gr.Textbox:
    """A text that events pass on and nobody sees.

    Gradio measures a box that grows with its text whenever that changes, for which the browser lays out the page; one
    with as many lines as it may have is left alone.
    """
    return gr.Textbox(visible="hidden", lines=2, max_lines=2, elem_classes="gp-never", elem_id=elem_id)


def _rows(rows: str, elem_id: str, *scripts: str, value: str = "") -> gr.HTML:
    return gr.HTML(
        value,
        html_template=ROWS,
        js_on_load="\n".join(map(javascript, scripts)),
        apply_default_css=False,
        rows=rows,
        elem_id=elem_id,
    )


def save_file_js(name: str, media_type: str) -> str:
    """The browser's part of an event: saves its one input as a file of this name. The server keeps nothing of it."""
    return f"text => ({javascript('save_file.js')})(text, '{name}', '{media_type}')"


def keep_js(name: str) -> str:
    """The browser's part of an event: its tab keeps the one input under this name, for a reload."""
    return f"text => ({javascript('keep.js')})('{name}', text)"


def kept_js(*names: str, is_one: bool = False) -> str:
    """The browser's part of an event: the inputs are what its tab kept under these names. is_one: a single input."""
    return f"() => ({javascript('kept.js')})({json.dumps(names)}){'[0]' if is_one else ''}"


def draft_js(name: str, elem_id: str) -> str:
    """The browser's part of a page's opening: the text last written in a box, which its tab keeps from then on."""
    functions = f"{javascript('keep.js')}, {javascript('kept.js')}"
    return f"() => ({javascript('draft.js')})({functions}, '{name}', '{elem_id}')"


def keep_early_values(name: str, controls: Sequence[Any], filled: Any) -> Any:
    """Let what a person has set before the page has filled the controls stay, though what fills them was on its way.

    name: of these controls, once on a page. filled: the event that fills them. Returns the last event, to go on from.
    """
    for number, control in enumerate(controls):
        note = f"value => {{ (window.early{name} ??= {{}})[{number}] = value; }}"
        control.input(None, control, None, js=note, show_progress="hidden", api_visibility="private")
    stays = "{__type__: 'update'}"
    put_back = f"""(...values) => {{
      const early = window.early{name} ?? {{}};
      window.early{name} = {{}};
      return values.map((_, number) => number in early ? early[number] : {stays});
    }}"""
    return filled.then(
        None, list(controls), list(controls), js=put_back, show_progress="hidden", api_visibility="private"
    )


def change_stamp() -> str:
    """A new value for a hidden text box whose `change` event others listen to."""
    return str(time.time_ns())


# --- sampling settings ---

TEMPERATURE: Final = 0.3  # so that two levels differ by their weights rather than by chance


@dataclass(frozen=True)
class SamplingControls:
    """How a reply is made: the system prompt, the sampling parameters, the longest reply in tokens."""

    system: gr.Textbox
    temperature: gr.Slider
    top_k: gr.Slider
    top_p: gr.Slider
    min_p: gr.Slider
    repeat_penalty: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number

    def read_sampling(self, values: Values) -> Sampling:
        seed = values[self.seed]
        return Sampling(
            temperature=float(values[self.temperature]),
            top_k=int(values[self.top_k]),
            top_p=float(values[self.top_p]),
            min_p=float(values[self.min_p]),
            repeat_penalty=float(values[self.repeat_penalty]),
            seed=None if seed is None or seed < 0 else int(seed),
        )


def build_sampling_controls(most_tokens: int) -> SamplingControls:
    """A folded panel of the Chat tab. most_tokens: the longest reply that may be asked for."""

    ranges = SAMPLING_RANGES | {"longest_reply": (SHORTEST_REPLY, most_tokens)}

    def slider(label: str, info: str, value: float, step: float = 0.05) -> gr.Slider:
        name = label.lower().replace(" ", "-")
        least, most = ranges[name.replace("-", "_")]
        return gr.Slider(least, most, value=value, step=step, label=label, info=info, elem_id=f"chat-{name}")

    with gr.Accordion("Sampling settings", open=False, elem_id="chat-parameters", elem_classes="gp-more"):
        return SamplingControls(
            system=gr.Textbox(
                label="System prompt", info="Instructions the model gets before the chat.", lines=3, max_lines=8,
                elem_id="chat-system",
            ),
            temperature=slider("Temperature", "0 takes the likeliest token; more is more varied.", TEMPERATURE),
            top_k=slider("Top-k", "Choose among this many likeliest tokens; 0: all.", 40, 1),
            top_p=slider("Top-p", "Choose among the likeliest that together reach this share.", 0.95, 0.01),
            min_p=slider("Min-p", "Drop tokens less likely than this fraction of the top one.", 0.05, 0.01),
            repeat_penalty=slider("Repeat penalty", "1 is off; a little more avoids repetition.", 1, 0.01),
            max_tokens=slider("Longest reply", "In tokens.", min(1024, most_tokens), 16),
            seed=gr.Number(
                label="Seed", info="Same seed, same random choices. −1: new each time.", value=-1, precision=0,
                minimum=-1, maximum=LARGEST_SEED, elem_id="chat-seed",
            ),
        )  # fmt: skip
