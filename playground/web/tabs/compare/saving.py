"""What leaves the Compare tab: the comparison as a file, the votes, a link."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import gradio as gr

from playground.app.compare.comparison import USUAL_TOKENS, CompareRequest, Comparison
from playground.app.compare.link import link_query
from playground.app.compare.service import CompareService
from playground.app.messages import WorkProgress, log_refusal
from playground.errors import PlaygroundError
from playground.limits.visitor import Visitor
from playground.web.html.page import error_card, status_message
from playground.web.streaming import Updates, Values
from playground.web.tabs.compare.layout import CompareTab
from playground.web.widgets import javascript, save_file_js

# Browsers give a page the clipboard only on a safe address; the link also shows, to be copied by hand.
# It counts for the set-up at the press: one that was changed before it came hides it.
_SHOW_LINK_JS: Final = """(setUp, query, message, ...values) => {
  if (!query || window.linkedSetUp !== JSON.stringify([message, setUp(...values)]))
    return {__type__: 'update', visible: false};
  const link = location.origin + location.pathname + '?' + query;
  navigator.clipboard?.writeText(link).catch(() => {});
  return link;
}"""
_LINK_PRESSED_JS: Final = """(setUp, message, ...values) => {
  window.linkedSetUp = JSON.stringify([message, setUp(...values)]);
}"""
_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}


def wire_saving(
    tab: CompareTab,
    service: CompareService,
    visitor: Callable[[gr.Request], Visitor],
    read: Callable[[Values], CompareRequest],
) -> None:
    """The buttons that save and share. read: the request from the values of its inputs."""

    def problem(request: gr.Request, error: PlaygroundError) -> Updates:
        log_refusal(error, visitor(request))
        return {tab.problem: error_card(error)}

    def saving(form: Literal["markdown", "json"]) -> Callable[..., Iterator[Updates]]:
        def save(request: gr.Request, comparison: Comparison) -> Iterator[Updates]:
            try:
                for part in service.save_comparison(comparison, form):
                    if isinstance(part, str):
                        yield {tab.saved: part, tab.problem: ""}
                    else:
                        progress = WorkProgress("Reading the model files for their checksums", part)
                        yield {tab.problem: status_message(progress)}
            except PlaygroundError as error:
                yield {tab.saved: ""} | problem(request, error)

        return save

    def export_votes() -> Updates:
        try:
            return {tab.saved: service.votes.export_csv(), tab.problem: ""}
        except PlaygroundError as error:
            return {tab.saved: "", tab.problem: error_card(error)}

    def make_link(request: gr.Request, values: Values) -> Updates:
        comparison: Comparison = values[tab.comparison]
        try:
            query = link_query(read(values), values[tab.message] or comparison.question)
            return {tab.tools.link: gr.Textbox(query, visible=True)}
        except PlaygroundError as error:
            return {tab.tools.link: gr.Textbox("", visible=False)} | problem(request, error)

    forms: tuple[tuple[gr.Button, Literal["markdown", "json"], str, str], ...] = (
        (tab.tools.save_markdown, "markdown", "comparison.md", "text/markdown"),
        (tab.tools.save_json, "json", "comparison.json", "application/json"),
    )
    saved = [tab.saved, tab.problem]
    for button, form, name, media_type in forms:
        done = button.click(saving(form), tab.comparison, saved, concurrency_limit=None, **_PRIVATE)
        done.then(None, tab.saved, None, js=save_file_js(name, media_type))
    tab.votes.export.click(export_votes, None, saved, **_QUICK).then(
        None, tab.saved, None, js=save_file_js("votes.csv", "text/csv")
    )
    _wire_link(tab, make_link)


def _wire_link(tab: CompareTab, make_link: Callable[..., Updates]) -> None:
    """The button that copies a link, which goes when the set-up changes, and the page's address, which follows it."""
    shared = tab.settings.linked
    pickers = [pane.picker for pane in tab.panes]
    chosen = [part for picker in pickers for part in (picker.model, picker.level, *picker.settings)]
    values = [tab.message, tab.dial_model, tab.dial, *shared, tab.storage.texts, *chosen]
    fixed = f"{javascript('device_text.js')}, {USUAL_TOKENS}"
    set_up = f"(...values) => ({javascript('address.js')})({fixed}, ...values)"

    def js(function: str, *arguments: str) -> str:
        return f"(...values) => ({function})({', '.join((set_up, *arguments))}, ...values)"

    by_a_person = [
        tab.dial.input, tab.dial_model.input, tab.message.input, tab.message.submit, tab.send.click,
        *(part.input for part in shared), *(chip.click for chip, _ in tab.examples),
        *(event for picker in pickers for event in picker.changes),
    ]  # fmt: skip
    later = [
        *(part.change for part in (*shared, tab.message, tab.dial_model, tab.storage.texts)),
        *(picker.line.change for picker in pickers), *(picker.kv_type.change for picker in pickers),
    ]  # fmt: skip
    for events, is_touched in ((by_a_person, "true"), (later, "false")):
        follow = js(javascript("compare_link.js"), javascript("write_address.js"), is_touched)
        gr.on(events, None, values, tab.tools.link, js=follow, **_PRIVATE)
    inputs = {tab.comparison, tab.message, *tab.request_inputs}
    tab.tools.copy_link.click(None, values, None, js=js(_LINK_PRESSED_JS), **_PRIVATE)
    tab.tools.copy_link.click(make_link, inputs, [tab.tools.link, tab.problem], **_QUICK).then(
        None, [tab.tools.link, *values], tab.tools.link, js=js(_SHOW_LINK_JS)
    )
