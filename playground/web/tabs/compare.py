"""The Compare tab at work: reads its components, draws updates into them, and wires every event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import gradio as gr

from playground.app.compare.comparison import USUAL_TOKENS, CompareRequest, Comparison, growing_answers
from playground.app.compare.service import CompareService
from playground.app.compare.setup import LinkedSetup, link_query
from playground.app.compare.updates import AgreementResult, ComparedAnswers, CompareUpdate, NoiseResult
from playground.app.messages import WorkProgress, log_refusal
from playground.app.resumable import read_key
from playground.chat.prompts import ComparisonPrompt
from playground.engine.protocol import Sampling
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.web.html.answer_tokens import agreement_section, first_difference_section
from playground.web.html.compare import (
    differences_table,
    look_for_line,
    noise_card,
    outlook_line,
    pane_head,
    pane_line,
    tally_table,
)
from playground.web.html.page import error_card, status_message
from playground.web.html.reply import chatbot_messages
from playground.web.model_picker import wire_choices
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Streaming, Updates, Values, what_is_new
from playground.web.tabs.compare_layout import CompareTab
from playground.web.widgets import change_stamp, keep_js, kept_js, save_file_js

# Browsers give a page the clipboard only on a safe address; the link also shows, to be copied by hand.
_LINK_JS: Final = """query => {
  if (!query) return '';
  const link = location.origin + location.pathname + '?' + query;
  navigator.clipboard?.writeText(link).catch(() => {});
  return link;
}"""
_TEXTS: Final = "gguf-playground-comparison"  # the names of what the storage of the browser's tab holds
_GROWING: Final = "gguf-playground-comparison-growing"
_DRAFT: Final = "gguf-playground-comparison-draft"
_KEY: Final = "gguf-playground-comparison-key"
_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}

VisitorOf = Callable[[gr.Request], Visitor]


# --- react ---


def read_request(tab: CompareTab, values: Values) -> CompareRequest:
    """What both pickers and the settings hold; impossible values become the defaults."""
    settings = tab.settings
    temperature = min(max(float(values[settings.temperature] or 0), 0.0), 2.0)
    asked_seed = values[settings.seed]
    seed = None if asked_seed is None or asked_seed < 0 else int(asked_seed)
    left, right = (pane.picker.read_choice(values) for pane in tab.panes)
    return CompareRequest(
        choices=(left, right),
        system=str(values[settings.system] or ""),
        sampling=Sampling(temperature=temperature, seed=seed if temperature else seed or 0),
        max_tokens=max(1, int(values[settings.max_tokens] or USUAL_TOKENS)),
        mode="at once" if values[settings.mode] == "at once" else "in turn",
        blind=bool(values[settings.blind]),
    )


def draw_update(tab: CompareTab, update: CompareUpdate) -> Updates:
    """The new values of the components that the update changes."""
    drawn = what_is_new((tab.comparison, update.comparison))
    if update.comparison is not None:
        drawn[tab.storage.texts] = update.comparison.to_stored_text()
    if update.phase == "rest":
        drawn[tab.storage.growing] = ""
    elif any(state and state.growing for state in update.panes):
        first, second = (state.growing if state else None for state in update.panes)
        drawn[tab.storage.growing] = growing_answers(first, second)
    if update.problem is not None:
        drawn[tab.problem] = status_message(update.problem)
    for position, (pane, state) in enumerate(zip(tab.panes, update.panes, strict=True)):
        if state is not None:
            drawn[pane.head] = pane_head(state, position)
            drawn[pane.log] = chatbot_messages(state.history, state.growing)
            drawn[pane.live] = pane_line(state)
            drawn[pane.note] = status_message(state.note)
    if isinstance(update.answers, ComparedAnswers):
        drawn[tab.differences] = differences_table(update.answers)
        drawn[tab.first_difference] = first_difference_section(update.answers)
    elif update.answers is not None:
        drawn |= {tab.differences: "", tab.first_difference: ""}
    if isinstance(update.noise, NoiseResult):
        drawn[tab.noise] = noise_card(update.noise)
    elif update.noise is not None:
        drawn[tab.noise] = status_message(update.noise)
    if isinstance(update.agreement, AgreementResult):
        drawn[tab.agreement] = agreement_section(update.agreement)
    elif update.agreement is not None:
        drawn[tab.agreement] = status_message(update.agreement)
    if update.tallies is not None:
        drawn[tab.tally] = tally_table(update.tallies)
    if update.has_new_level:
        drawn[tab.panes[0].picker.models_changed] = change_stamp()
    if update.phase is not None:
        drawn |= _draw_phase(tab, update)
    return drawn


def _draw_phase(tab: CompareTab, update: CompareUpdate) -> Updates:
    """Which buttons can be used now."""
    is_busy = update.phase != "rest"
    drawn: Updates = {tab.send: gr.Button(visible=not is_busy), tab.stop: gr.Button(visible=is_busy)}
    comparison = update.comparison
    if comparison is None:
        return drawn
    drawn[tab.undo] = gr.Button(visible=not is_busy and comparison.replaced is not None)
    has_answers = not is_busy and comparison.results is not None
    for button in (tab.save_markdown, tab.save_json):
        drawn[button] = gr.Button(interactive=has_answers)
    for button in (tab.measure_noise, tab.measure_agreement):
        drawn[button] = gr.Button(visible=has_answers)
    drawn[tab.ballot_column] = gr.Column(visible=not is_busy and comparison.may_vote)
    may_regenerate = not is_busy and not comparison.is_empty and not comparison.blind
    for pane in tab.panes:
        drawn[pane.regenerate] = gr.Button(interactive=may_regenerate)
        drawn[pane.picker_column] = gr.Column(visible=not comparison.blind)
    return drawn


def draw_link(tab: CompareTab, tabs: gr.Tabs, setup: LinkedSetup) -> Updates:
    """What a link sets on a new page, with a message for what it asked for in vain."""
    if not setup.has_choices and not setup.problems:
        return {}
    settings = tab.settings
    wanted = ((settings.mode, setup.mode), (settings.temperature, setup.temperature), (settings.seed, setup.seed))
    return {
        tabs: gr.Tabs(selected="compare"),
        tab.message: setup.prompt,
        settings.system: setup.system,
        tab.problem: error_card(" ".join(setup.problems)) if setup.problems else "",
        **what_is_new(*wanted),
    }


# --- wire ---


def wire_compare_tab(
    page: gr.Blocks, tab: CompareTab, service: CompareService, tabs: gr.Tabs, streaming: Streaming
) -> None:
    """Every event of the tab."""
    visitor = partial(visitor_of, runs=service.runs, via="compare")
    _wire_storage(page, tab, service, streaming, visitor)
    _wire_work(tab, service, streaming, visitor)
    _wire_votes(tab, service, visitor)
    _wire_saving(tab, service, visitor)
    _wire_pickers(page, tab, service, tabs, visitor)


def _wire_storage(
    page: gr.Blocks, tab: CompareTab, service: CompareService, streaming: Streaming, visitor: VisitorOf
) -> None:
    """The texts, the growing answers and the draft: kept by the browser's tab at each change, back in its next page."""
    storage = tab.storage

    def restore(request: gr.Request, *values: str | None) -> Iterator[Updates]:
        texts, growing, key = (value or "" for value in values)
        yield {storage.key: read_key(key)}
        for update in service.restore_comparison(visitor(request), texts, growing, key):
            yield draw_update(tab, update)

    parts = {storage.texts: _TEXTS, storage.growing: _GROWING, storage.key: _KEY}
    js = kept_js(*parts.values())
    streaming.wire([page.load], restore, list(parts), [*tab.drawn, storage.key], tab.growing, js=js)
    page.load(None, None, tab.message, js=kept_js(_DRAFT, is_one=True), **_PRIVATE)
    for part, name in {**parts, tab.message: _DRAFT}.items():
        part.change(None, part, None, js=keep_js(name), **_PRIVATE)


def _wire_work(tab: CompareTab, service: CompareService, streaming: Streaming, visitor: VisitorOf) -> None:
    """What runs models; it goes on in a stream of updates until it ends or is stopped."""
    inputs = {tab.comparison, tab.storage.key, *tab.request_inputs}

    def key_of(values: Values) -> str:
        return str(values[tab.storage.key] or "")

    def ask(request: gr.Request, values: Values) -> Iterator[Updates]:
        compare_request, comparison = read_request(tab, values), values[tab.comparison]
        updates = service.ask_both(visitor(request), comparison, values[tab.message], compare_request, key_of(values))
        for number, update in enumerate(updates):
            is_accepted = number == 0 and update.comparison is not None
            yield draw_update(tab, update) | ({tab.message: "", tab.look_for: ""} if is_accepted else {})

    def ask_example(prompt: ComparisonPrompt, request: gr.Request, values: Values) -> Iterator[Updates]:
        """An example starts a new comparison, with the system prompt that belongs to it."""
        yield {tab.settings.system: prompt.system, tab.look_for: look_for_line(prompt.look_for)}
        compare_request = replace(read_request(tab, values), system=prompt.system)
        comparison: Comparison = values[tab.comparison]
        updates = service.ask_both(visitor(request), comparison.cleared(), prompt.text, compare_request, key_of(values))
        for update in updates:
            yield draw_update(tab, update)

    def regenerate(position: int, request: gr.Request, values: Values) -> Iterator[Updates]:
        compare_request = read_request(tab, values)
        updates = service.regenerate_answer(
            visitor(request), values[tab.comparison], position, compare_request, key_of(values)
        )
        for update in updates:
            yield draw_update(tab, update)

    def measure_noise(request: gr.Request, values: Values) -> Iterator[Updates]:
        for update in service.scoring.measure_noise(visitor(request), values[tab.comparison]):
            yield draw_update(tab, update)

    def measure_agreement(request: gr.Request, values: Values) -> Iterator[Updates]:
        for update in service.scoring.measure_agreement(visitor(request), values[tab.comparison]):
            yield draw_update(tab, update)

    def stop(request: gr.Request) -> None:
        service.stop_comparison(visitor(request))

    sent = [tab.send.click, tab.message.submit]
    streaming.wire(sent, ask, {*inputs, tab.message}, [*tab.drawn, tab.message, tab.look_for], tab.growing)
    for chip, prompt in tab.examples:
        outputs = [*tab.drawn, tab.settings.system, tab.look_for]
        streaming.wire([chip.click], partial(ask_example, prompt), inputs, outputs, tab.growing)
    for position, pane in enumerate(tab.panes):
        streaming.wire([pane.regenerate.click], partial(regenerate, position), inputs, tab.drawn, tab.growing)
    streaming.wire([tab.measure_noise.click], measure_noise, {tab.comparison}, tab.drawn, [tab.noise])
    streaming.wire([tab.measure_agreement.click], measure_agreement, {tab.comparison}, tab.drawn, [tab.agreement])
    tab.stop.click(stop, **_QUICK)


def _wire_votes(tab: CompareTab, service: CompareService, visitor: VisitorOf) -> None:
    def voting(word: str) -> Callable[..., Updates]:
        def vote(request: gr.Request, comparison: Comparison, key: str) -> Updates:
            return draw_update(tab, service.cast_vote(visitor(request), comparison, word, key or ""))

        return vote

    def switch_blind(is_on: bool, comparison: Comparison) -> Updates:
        revealed = draw_update(tab, service.reveal_names(comparison)) if not is_on and comparison.blind else {}
        return revealed | {pane.picker_column: gr.Column(visible=not is_on) for pane in tab.panes}

    def clear(comparison: Comparison, key: str) -> Updates:
        columns = {pane.picker_column: gr.Column(visible=not comparison.blind) for pane in tab.panes}
        return draw_update(tab, service.clear_comparison(comparison, key or "")) | columns

    def undo(comparison: Comparison) -> Updates:
        return draw_update(tab, service.undo_clear(comparison))

    for button in tab.ballot:
        button.click(voting(str(button.value)), [tab.comparison, tab.storage.key], tab.drawn, **_QUICK)
    tab.settings.blind.input(switch_blind, [tab.settings.blind, tab.comparison], tab.drawn, **_QUICK)
    tab.clear.click(clear, [tab.comparison, tab.storage.key], tab.drawn, **_QUICK)
    tab.undo.click(undo, tab.comparison, tab.drawn, **_QUICK)


def _wire_saving(tab: CompareTab, service: CompareService, visitor: VisitorOf) -> None:
    """What leaves the page: the comparison as a file, the votes, a link."""

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
            query = link_query(read_request(tab, values), values[tab.message] or comparison.question)
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
    tab.copy_link.click(make_link, inputs, [tab.link, tab.problem], **_QUICK).then(
        None, tab.link, tab.link, js=_LINK_JS
    )


def _wire_pickers(page: gr.Blocks, tab: CompareTab, service: CompareService, tabs: gr.Tabs, visitor: VisitorOf) -> None:
    """Both pickers filled when the page opens, by its link if it has one, and the outlook kept up to date."""
    settings = tab.settings
    pickers = [pane.picker for pane in tab.panes]

    def open_page(request: gr.Request) -> Iterator[Updates]:
        setup = service.setup.read_link(dict(request.query_params))
        for refusal in setup.refusals:
            log_refusal(refusal, visitor(request))
        yield {tab.tally: tally_table(service.read_tallies())} | draw_link(tab, tabs, setup)
        drawn: Updates = {}  # both pickers each time: for a tab that is not open yet, only the last update counts
        for picker, choice in zip(pickers, service.setup.choices_to_open(setup), strict=True):
            for view in service.picker.views(choice):
                drawn |= picker.choice_updates(view)
                yield dict(drawn)

    def show_outlook(values: Values) -> str:
        return outlook_line(service.setup.outlook(read_request(tab, values)))

    linked = [tabs, tab.message, settings.system, settings.mode, settings.temperature, settings.seed, tab.problem]
    page.load(open_page, None, [*pickers[0].outputs, *pickers[1].outputs, *linked, tab.tally], **_PRIVATE)
    for picker in pickers:
        wire_choices(picker, service.picker)
    triggers = [pickers[0].line.change, pickers[1].line.change, settings.mode.input]
    gr.on(triggers, show_outlook, tab.request_inputs, tab.outlook, trigger_mode="always_last", **_PRIVATE)
