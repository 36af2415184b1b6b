"""The Learn tab: what quantization is, in short sections about the model at hand, each with a link to another tab."""

from __future__ import annotations

import gradio as gr

from playground.app.learn.lesson import LearnService
from playground.web.html.learn import TABS, lesson_page
from playground.web.widgets import button_rows, javascript


def build_learn_tab() -> gr.HTML:
    """Inside the tab that is open; its value becomes the tab that a person wants to try."""
    return button_rows(lesson_page(), "learn", "learn_slider.js")


def open_tab(name: object) -> gr.Tabs:
    """The tab that a link names; any other value that the browser sends changes nothing."""
    return gr.Tabs(selected=name) if name in TABS else gr.Tabs()


def wire_learn_tab(page: gr.Blocks, learn_tab: gr.Tab, learn: gr.HTML, tabs: gr.Tabs, service: LearnService) -> None:
    """The pictures are of the model at hand when the tab is opened; a link opens its tab, at the top of the page."""
    learn_tab.select(
        lambda: gr.HTML(rows=lesson_page(service.lesson())), None, learn,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    opened = learn.input(
        lambda name: {tabs: open_tab(name), learn: gr.HTML(value="")}, learn, [tabs, learn],
        show_progress="hidden", queue=False, api_visibility="private",
    )  # fmt: skip
    opened.then(None, js="() => window.scrollTo(0, 0)")
    page.load(js=javascript("learn.js"), show_progress="hidden", api_visibility="private")
