"""What leaves the Compare tab: the comparison as a file, the votes, a link."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import gradio as gr

from playground.app.compare.comparison import CompareRequest, Comparison
from playground.app.compare.service import CompareService
from playground.app.compare.setup import link_query
from playground.app.messages import WorkProgress, log_refusal
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.web.html.page import error_card, status_message
from playground.web.streaming import Updates, Values
from playground.web.tabs.compare_layout import CompareTab
from playground.web.widgets import javascript, save_file_js

# Browsers give a page the clipboard only on a safe address; the link also shows, to be copied by hand.
_LINK_JS: Final = """query => {
  if (!query) return '';
  const link = location.origin + location.pathname + '?' + query;
  navigator.clipboard?.writeText(link).catch(() => {});
  return link;
}"""
_OUTDATED_JS: Final = (
    "() => ({__type__: 'update', visible: false})"  # the link is of a set-up that is not there any more
)
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
            return {tab.link: gr.Textbox(query, visible=True)}
        except PlaygroundError as error:
            return {tab.link: gr.Textbox("", visible=False)} | problem(request, error)

    forms: tuple[tuple[gr.Button, Literal["markdown", "json"], str, str], ...] = (
        (tab.save_markdown, "markdown", "comparison.md", "text/markdown"),
        (tab.save_json, "json", "comparison.json", "application/json"),
    )
    saved = [tab.saved, tab.problem]
    for button, form, name, media_type in forms:
        done = button.click(saving(form), tab.comparison, saved, concurrency_limit=None, **_PRIVATE)
        done.then(None, tab.saved, None, js=save_file_js(name, media_type))
    tab.export_votes.click(export_votes, None, saved, **_QUICK).then(
        None, tab.saved, None, js=save_file_js("votes.csv", "text/csv")
    )
    inputs = {tab.comparison, tab.message, *tab.request_inputs}
    settings = tab.settings
    changes = [  # what a person does, not what comes of it later
        tab.dial.input, tab.dial_model.input, tab.message.input, tab.message.submit, tab.send.click,
        settings.system.input, settings.temperature.input, settings.seed.input, settings.mode.input,
        *(chip.click for chip, _ in tab.examples), *(event for pane in tab.panes for event in pane.picker.changes),
    ]  # fmt: skip
    gr.on(changes, None, None, tab.link, js=_OUTDATED_JS, **_PRIVATE)
    _wire_address(tab, changes)
    tab.copy_link.click(make_link, inputs, [tab.link, tab.problem], **_QUICK).then(
        None, tab.link, tab.link, js=_LINK_JS
    )


def _wire_address(tab: CompareTab, changes: list[Any]) -> None:
    """The page's address follows the set-up, in the browser alone. changes: what a person does."""
    settings = tab.settings
    pickers = [pane.picker for pane in tab.panes]
    chosen = [part for picker in pickers for part in (picker.model, picker.level, picker.context)]
    values = [
        tab.dial_model, tab.dial, *chosen, settings.mode, settings.temperature, settings.seed, settings.system,
        tab.storage.texts,
    ]  # fmt: skip
    write = javascript("address.js")
    gr.on(changes, None, values, None, js=f"(...values) => ({write})(true, ...values)", **_PRIVATE)
    later = [tab.storage.texts.change, *(picker.line.change for picker in pickers)]
    gr.on(later, None, values, None, js=f"(...values) => ({write})(false, ...values)", **_PRIVATE)
