"""The dial of the Compare tab and the two pickers behind it: one model for both sides, or two different ones.

The dial holds the levels of A and B as a person sees them. It and the pickers tell each other of a change in the
browser, without a way over the server, so nothing that comes late can undo a move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import gradio as gr
from markupsafe import Markup

from playground.app.compare.comparison import CompareRequest
from playground.app.compare.dial import read_dial, read_download
from playground.app.compare.recorded import load_recorded_example
from playground.app.compare.service import CompareService
from playground.app.compare.setup import CompareSetup
from playground.app.messages import log_refusal
from playground.limits.visitor import Visitor
from playground.models.model_file import readable_name
from playground.web.html.compare.figures import outlook_line
from playground.web.html.compare.panes import recorded_line
from playground.web.html.compare.votes import tally_table
from playground.web.html.dial import dial_rows, dial_value, no_dial
from playground.web.model_picker.picker import fill_pickers, wire_choices, wire_redraw
from playground.web.streaming import Updates, Values
from playground.web.tabs.compare.layout import CompareTab
from playground.web.widgets import javascript, keep_early_values

_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_TO_PICKERS_JS: Final = "text => { const levels = JSON.parse(text || '{}'); return [levels.a || '', levels.b || '']; }"
_FROM_PICKERS_JS: Final = "(a, b) => JSON.stringify({a: a || '', b: b || ''})"
_TWO_MODELS: Final = "Two different models are compared. Choose one model to move along its levels."


class _DialWork:
    """What the dial and the pickers draw, when the page opens and when one of them changes."""

    def __init__(
        self,
        tab: CompareTab,
        service: CompareService,
        visitor: Callable[[gr.Request], Visitor],
        read: Callable[[Values], CompareRequest],
        draw_link: Callable[..., Updates],
    ) -> None:
        self._tab, self._service, self._visitor, self._read, self._draw_link = tab, service, visitor, read, draw_link
        self._pickers = [pane.picker for pane in tab.panes]

    def open_tab(self, request: gr.Request, whose: str) -> Iterator[Updates]:
        tab, service = self._tab, self._service
        setup = service.setup.read_link(dict(request.query_params))
        for refusal in setup.refusals:
            log_refusal(refusal, self._visitor(request))
        first, second = service.setup.choices_to_open(setup)
        names = gr.Dropdown(choices=service.picker.model_names(), value=first.model)
        is_one = first.model == second.model
        drawn = self._drawn_dial(first.model, first.level, second.level) if is_one else _two_models(tab)
        drawn |= {tab.dial_model: names}
        if any(picker.redraws.is_chosen(str(request.session_hash)) for picker in self._pickers):
            drawn = {}  # the visitor was quicker
        drawn |= {tab.votes.tally: tally_table(service.voting.read_tallies())}
        drawn |= {tab.recorded: _recorded_line(service.setup, first.model)}
        yield drawn | self._draw_link(setup, is_own=whose == "own")
        yield from fill_pickers(self._pickers, service.picker, request, (first, second), "opening")

    def choose_model(self, request: gr.Request, values: Values) -> Iterator[Updates]:
        """One model for both sides, with the pair of levels that shows most; nothing if it was only looked at."""
        service, pickers, chosen = self._service, self._pickers, values[self._tab.dial_model]
        if all(values[picker.drawn_model] == chosen for picker in pickers):
            return
        choices = service.setup.first_choices(chosen if isinstance(chosen, str) else None)
        # Both at once, before either is filled: who asks meanwhile compares one model, not the new one with the old.
        names = service.picker.model_names()
        both_models = {picker.model: gr.Dropdown(choices=names, value=choices[0].model) for picker in pickers}
        yield self._drawn_dial(choices[0].model, choices[0].level, choices[1].level) | both_models
        yield from fill_pickers(pickers, service.picker, request, choices)

    def follow_pickers(self, values: Values) -> Updates:
        """The dial of the pickers' model. Its levels are written only where it cannot have them: of another model."""
        tab, service = self._tab, self._service
        outlook = {tab.outlook: outlook_line(service.setup.outlook(self._read(values)))}
        first, second = (picker.read_choice(values) for picker in self._pickers)
        names = {tab.dial_model: gr.Dropdown(choices=service.picker.model_names())}
        if first.model != second.model:
            return outlook | names | _two_models(tab)
        dial = service.dials.dial_of(first.model)
        levels = read_dial(values[tab.dial])
        rows = dial_rows(dial)
        names = {tab.dial_model: gr.Dropdown(choices=service.picker.model_names(), value=first.model)}
        if len(levels) == 2 and all(dial.find_stop(level) for level in levels.values()):
            return outlook | names | {tab.dial: gr.HTML(rows=rows)}
        return outlook | names | {tab.dial: gr.HTML(rows=rows, value=dial_value(first.level, second.level))}

    def _drawn_dial(self, model: str | None, first: str | None, second: str | None) -> Updates:
        rows, value = dial_rows(self._service.dials.dial_of(model)), dial_value(first, second)
        return {self._tab.dial: gr.HTML(rows=rows, value=value)}


def wire_dial(
    page: gr.Blocks,
    tab: CompareTab,
    service: CompareService,
    visitor: Callable[[gr.Request], Visitor],
    read: Callable[[Values], CompareRequest],
    draw_link: Callable[..., Updates],
    tabs: gr.Tabs,
) -> None:
    """The dial and the pickers filled when the page opens, by its link if it has one, and kept in step after that."""
    settings, pickers = tab.settings, [pane.picker for pane in tab.panes]
    work = _DialWork(tab, service, visitor, read, draw_link)
    opened = [tabs, tab.message, tab.problem, *settings.linked]
    drawn_at_opening = [*opened, tab.votes.tally, tab.dial, tab.dial_model, tab.recorded]
    drawn_at_opening += [*pickers[0].outputs, *pickers[1].outputs]
    filled = page.load(
        work.open_tab, tab.storage.own_address, drawn_at_opening, js=javascript("whose_address.js"), **_PRIVATE
    )
    filled = keep_early_values("Compare", settings.linked, filled)
    filled.then(None, js="() => { window.compareIsOpen = true; }")  # nothing redraws by itself any more
    for picker in pickers:
        wire_choices(picker, service.picker)
    both = [*pickers[0].outputs, *pickers[1].outputs]
    looked_at: set[Any] = {tab.dial_model, *(picker.drawn_model for picker in pickers)}
    tab.dial_model.input(work.choose_model, looked_at, [tab.dial, *both], trigger_mode="always_last", **_PRIVATE)
    levels = [picker.level for picker in pickers]
    moved = tab.dial.input(None, tab.dial, levels, js=_TO_PICKERS_JS, **_PRIVATE)
    for picker in pickers:
        wire_redraw(picker, service.picker, moved)  # its memory, and what to expect of both, are those of the new level
    gr.on([level.input for level in levels], None, levels, tab.dial, js=_FROM_PICKERS_JS, **_PRIVATE)
    triggers = [pickers[0].line.change, pickers[1].line.change, settings.mode.input]
    inputs = {tab.comparison, *tab.request_inputs}
    outputs = [tab.outlook, tab.dial, tab.dial_model]
    gr.on(triggers, work.follow_pickers, inputs, outputs, trigger_mode="always_last", **_PRIVATE)


def first_properties(tab: CompareTab, setup: CompareSetup, names: list[tuple[str, str]]) -> dict[Any, dict[str, Any]]:
    """What the tab shows of the models here before its first event."""
    model = setup.first_model()
    return {
        tab.dial_model: {"choices": names, "value": model},
        tab.recorded: {"value": _recorded_line(setup, model)},
    }


def _recorded_line(setup: CompareSetup, model: str | None) -> Markup:
    """Where the recorded answers come from, and what the starter would be asked instead, where that would run."""
    example = load_recorded_example()
    starter = readable_name(model or "") if setup.is_starter(model) else ""
    return recorded_line(example.model, example.machine, example.date, starter)


def wire_downloads(tab: CompareTab, tabs: gr.Tabs, wanted_repo: gr.Textbox) -> None:
    """A level on the dial that is not here leads to it in the Models tab. wanted_repo: of that tab, which opens it."""

    def open_models(dial: object) -> Updates:
        return {tabs: gr.Tabs(selected="models"), wanted_repo: read_download(dial)}

    tab.dial.select(open_models, tab.dial, [tabs, wanted_repo], **_PRIVATE)


def _two_models(tab: CompareTab) -> Updates:
    """The dial's place while the two sides are of different models."""
    return {tab.dial: gr.HTML(rows=no_dial(_TWO_MODELS), value=dial_value(None, None))}
