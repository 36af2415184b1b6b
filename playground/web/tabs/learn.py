"""The Learn tab: what quantization is, in short sections, each with a link to the tab that shows it."""

from __future__ import annotations

from typing import Final

import gradio as gr

from playground.web.html.learn import TABS, lesson_page, read_lesson

_LINK_JS: Final = """
element.addEventListener('click', event => {
  const link = event.target.closest('[data-tab]');
  if (!link) return;
  props.value = link.dataset.tab;
  trigger('input');
});
"""


def build_learn_tab() -> gr.HTML:
    """Inside the tab that is open; the value becomes the tab that a person wants to try."""
    return gr.HTML(
        "",
        html_template="${page}",
        js_on_load=_LINK_JS,
        apply_default_css=False,
        page=lesson_page(read_lesson()),
        elem_id="learn",
    )


def wire_learn_tab(learn: gr.HTML, tabs: gr.Tabs) -> None:
    """A link opens its tab, at the top of the page."""
    learn.input(to_tab, learn, tabs, show_progress="hidden", queue=False, api_visibility="private").then(
        None, None, None, js="() => window.scrollTo(0, 0)"
    )


def to_tab(name: object) -> gr.Tabs:
    """The tab that a link names; anything else the browser sends stays where it is."""
    return gr.Tabs(selected=name) if name in TABS else gr.Tabs()
