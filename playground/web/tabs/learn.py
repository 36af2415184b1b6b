"""The Learn tab: what quantization is, in short sections, each with a link to the tab that shows it."""

from __future__ import annotations

import gradio as gr

from playground.web.html.learn import TABS, lesson_page
from playground.web.widgets import button_rows


def build_learn_tab() -> gr.HTML:
    """Inside the tab that is open; its value becomes the tab that a person wants to try."""
    return button_rows(lesson_page(), "learn")


def open_tab(name: object) -> gr.Tabs:
    """The tab that a link names; any other value that the browser sends changes nothing."""
    return gr.Tabs(selected=name) if name in TABS else gr.Tabs()


def wire_learn_tab(learn: gr.HTML, tabs: gr.Tabs) -> None:
    """A link opens its tab, at the top of the page."""
    opened = learn.input(
        lambda name: {tabs: open_tab(name), learn: gr.HTML(value="")}, learn, [tabs, learn],
        show_progress="hidden", queue=False, api_visibility="private",
    )  # fmt: skip
    opened.then(None, js="() => window.scrollTo(0, 0)")
