"""The Compare tab at work: frames drawn into its components, and every event wired.

What happens is compare_desk.py's to say, where things stand compare_layout.py's, how results read render_compare.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import gradio as gr

from playground.app.compare.comparison import USUAL_TOKENS, CompareRequest, Comparison
from playground.app.compare.service import CompareService
from playground.app.compare.setup import query_of
from playground.app.compare.updates import CompareUpdate
from playground.app.model_choice import ModelChoice
from playground.app.refusals import error_message, log_refusal
from playground.chat.conversation import Conversation
from playground.chat.prompts import ComparisonPrompt
from playground.chat.session import ChatSession, shown
from playground.engine.protocol import Sampling
from playground.errors import PlaygroundError
from playground.web.html.compare import look_for_line
from playground.web.html.page import error_card
from playground.web.html.reply import load_progress
from playground.web.model_picker import wire_choices
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Streaming, what_is_new
from playground.web.tabs.compare_layout import CompareTab
from playground.web.widgets import change_stamp, save_file_js

# The clipboard is there only on a safe address; the link is shown for copying by hand in any case.
_LINK_JS: Final = """query => {
  if (!query) return '';
  const link = location.origin + location.pathname + '?' + query;
  navigator.clipboard?.writeText(link).catch(() => {});
  return link;
}"""


# --- react ---


def read_wish(*values: Any) -> CompareRequest:
    """What both pickers and the settings hold, in the order of `CompareTab.choices` and `Settings.all`."""
    system, temperature, max_tokens, seed, mode, blind = values[8:]
    warm = min(max(float(temperature or 0), 0.0), 2.0)
    known_seed = None if seed is None or seed < 0 else int(seed)
    return CompareRequest(
        (ModelChoice.read(*values[:4]), ModelChoice.read(*values[4:8])),
        str(system or ""),
        Sampling(temperature=warm, seed=known_seed if warm else known_seed or 0),
        max(1, int(max_tokens or USUAL_TOKENS)),
        "at once" if mode == "at once" else "in turn",
        bool(blind),
    )


def draw(tab: CompareTab, frame: CompareUpdate) -> dict[Any, Any]:
    """The updates that a frame means."""
    updates = what_is_new(
        (tab.duel, frame.duel),
        (tab.problem, frame.problem),
        (tab.differences, frame.differences),
        (tab.parting, frame.parting),
        (tab.control, frame.control),
        (tab.agreement, frame.agreement),
        (tab.tally, frame.tally),
    )
    for place, pane in zip(tab.panes, frame.panes, strict=True):
        updates |= what_is_new((place.head, pane.head), (place.live, pane.live), (place.note, pane.note))
        if pane.history is not None:
            updates[place.log] = shown(ChatSession(Conversation("", pane.history)), pane.growing)
    if frame.phase is not None:
        updates |= _draw_phase(tab, frame)
    return updates


def _draw_phase(tab: CompareTab, frame: CompareUpdate) -> dict[Any, Any]:
    busy = frame.phase != "rest"
    updates: dict[Any, Any] = {tab.send: gr.Button(visible=not busy), tab.stop: gr.Button(visible=busy)}
    duel = frame.duel
    if duel is None:
        return updates
    whole = not busy and not duel.is_hidden and all(side.result for side in duel.sides)
    updates |= {button: gr.Button(interactive=whole) for button in tab.after_answers}
    updates |= {button: gr.Button(visible=whole) for button in tab.next_steps}
    updates[tab.ballot_place] = gr.Column(visible=not busy and duel.may_vote)
    again = not busy and not duel.is_empty and not duel.blind
    for place in tab.panes:
        updates[place.regenerate] = gr.Button(interactive=again)
        updates[place.picker_place] = gr.Column(visible=not duel.blind)
    return updates


# --- wire ---


def wire_compare_tab(
    page: gr.Blocks, tab: CompareTab, service: CompareService, tabs: gr.Tabs, streaming: Streaming
) -> None:
    """Every event of the tab."""
    asked = [*tab.choices, *tab.settings.all]
    visitor = partial(visitor_of, runs=service.runs, via="compare")
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    outputs = [*tab.drawn, tab.message, tab.panes[0].picker.models_changed]

    def told(frames: Iterator[CompareUpdate]) -> Iterator[dict[Any, Any]]:
        for frame in frames:
            made = {tab.panes[0].picker.models_changed: change_stamp()} if frame.is_made else {}
            yield draw(tab, frame) | made

    def ask(request: gr.Request, text: str, duel: Comparison, *values: Any) -> Iterator[dict[Any, Any]]:
        for number, updates in enumerate(told(service.ask(visitor(request), duel, text, read_wish(*values)))):
            taken = number == 0 and tab.duel in updates
            yield updates | ({tab.message: "", tab.look_for: ""} if taken else {})

    def asking(prompt: ComparisonPrompt) -> Callable[..., Iterator[dict[Any, Any]]]:
        """An example begins a comparison of its own, with the system text that belongs to it."""

        def ask_it(request: gr.Request, duel: Comparison, *values: Any) -> Iterator[dict[Any, Any]]:
            wish = replace(read_wish(*values), system=prompt.system)
            yield {tab.settings.system: prompt.system, tab.look_for: look_for_line(prompt.look_for)}
            yield from told(service.ask(visitor(request), duel.cleared(), prompt.text, wish))

        return ask_it

    def regenerating(place: int) -> Callable[..., Iterator[dict[Any, Any]]]:
        def regenerate(request: gr.Request, duel: Comparison, *values: Any) -> Iterator[dict[Any, Any]]:
            yield from told(service.regenerate(visitor(request), duel, place, read_wish(*values)))

        return regenerate

    def twice(request: gr.Request, duel: Comparison) -> Iterator[dict[Any, Any]]:
        yield from told(service.lab.control(visitor(request), duel))

    def score(request: gr.Request, duel: Comparison) -> Iterator[dict[Any, Any]]:
        yield from told(service.lab.score(visitor(request), duel))

    def stop(request: gr.Request) -> None:
        service.stop(visitor(request))

    sent = [tab.send.click, tab.message.submit]
    streaming.wire(sent, ask, [tab.message, tab.duel, *asked], [*outputs, tab.look_for], tab.growing)
    for chip, prompt in tab.examples:
        shown_too = [tab.settings.system, tab.look_for]
        streaming.wire([chip.click], asking(prompt), [tab.duel, *asked], [*outputs, *shown_too], tab.growing)
    for place, pane in enumerate(tab.panes):
        streaming.wire([pane.regenerate.click], regenerating(place), [tab.duel, *asked], outputs, tab.growing)
    streaming.wire([tab.twice.click], twice, [tab.duel], outputs, [tab.control])
    streaming.wire([tab.score.click], score, [tab.duel], outputs, [tab.agreement])
    tab.stop.click(stop, **quiet)
    _wire_votes(tab, service, quiet)
    _wire_keeping(tab, service, asked, quiet)
    _wire_pickers(page, tab, service, tabs)


def _wire_votes(tab: CompareTab, service: CompareService, quiet: dict[str, Any]) -> None:
    def voting(word: str) -> Callable[..., dict[Any, Any]]:
        def vote(request: gr.Request, duel: Comparison) -> dict[Any, Any]:
            return draw(tab, service.vote(visitor_of(request, service.runs, "compare"), duel, word))

        return vote

    def blind(is_on: bool, duel: Comparison) -> dict[Any, Any]:
        hidden = {pane.picker_place: gr.Column(visible=not is_on) for pane in tab.panes}
        return (draw(tab, service.unhide(duel)) if not is_on and duel.blind else {}) | hidden

    def clear(duel: Comparison) -> dict[Any, Any]:
        places = {pane.picker_place: gr.Column(visible=not duel.blind) for pane in tab.panes}
        return draw(tab, service.clear(duel)) | places

    for button in tab.ballot:
        button.click(voting(str(button.value)), tab.duel, tab.drawn, **quiet)
    tab.settings.blind.input(blind, [tab.settings.blind, tab.duel], tab.drawn, **quiet)
    tab.clear.click(clear, tab.duel, tab.drawn, **quiet)


def _wire_keeping(tab: CompareTab, service: CompareService, asked: list[Any], quiet: dict[str, Any]) -> None:
    """What leaves the page: the comparison as a file, the votes, a link."""
    running: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}

    def saving(kind: str) -> Callable[..., Iterator[dict[Any, Any]]]:
        def save(request: gr.Request, duel: Comparison) -> Iterator[dict[Any, Any]]:
            try:
                for news in service.record(duel, kind):
                    if isinstance(news, str):
                        yield {tab.saved: news, tab.problem: ""}
                    else:
                        yield {tab.problem: load_progress(news, "Reading the model files for their checksums")}
            except PlaygroundError as error:
                yield {tab.saved: "", tab.problem: error_message(error, visitor_of(request, service.runs, "compare"))}

        return save

    def votes() -> dict[Any, Any]:
        try:
            return {tab.saved: service.votes.export_csv(), tab.problem: ""}
        except PlaygroundError as error:
            return {tab.saved: "", tab.problem: error_card(error)}

    def link(request: gr.Request, text: str, duel: Comparison, *values: Any) -> dict[Any, Any]:
        try:
            return {tab.link: gr.Textbox(query_of(read_wish(*values), text or duel.question), visible=True)}
        except PlaygroundError as error:
            problem = error_message(error, visitor_of(request, service.runs, "compare"))
            return {tab.link: gr.Textbox("", visible=False), tab.problem: problem}

    for button, kind, name, media in (
        (tab.save_markdown, "markdown", "comparison.md", "text/markdown"),
        (tab.save_json, "json", "comparison.json", "application/json"),
    ):
        button.click(saving(kind), tab.duel, [tab.saved, tab.problem], **running).then(
            None, tab.saved, None, js=save_file_js(name, media)
        )
    tab.export_votes.click(votes, None, [tab.saved, tab.problem], **quiet).then(
        None, tab.saved, None, js=save_file_js("votes.csv", "text/csv")
    )
    tab.copy_link.click(link, [tab.message, tab.duel, *asked], [tab.link, tab.problem], **quiet).then(
        None, tab.link, tab.link, js=_LINK_JS
    )


def _wire_pickers(page: gr.Blocks, tab: CompareTab, service: CompareService, tabs: gr.Tabs) -> None:
    """Both pickers filled when the page opens, by its link if it has one; and what is said beforehand kept true."""
    pickers = [pane.picker for pane in tab.panes]
    settings = tab.settings
    quiet: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}

    def opened(request: gr.Request) -> Iterator[dict[Any, Any]]:
        setup = service.setup.linked(dict(request.query_params))
        for refused in setup.refusals:
            log_refusal(refused, visitor_of(request, service.runs, "compare"))
        updates: dict[Any, Any] = {tab.tally: service.tally()}
        if setup.is_asked_for or setup.problems:
            updates |= {tabs: gr.Tabs(selected="compare"), tab.message: setup.prompt, settings.system: setup.system}
            updates |= {settings.mode: setup.mode} if setup.mode else {}
            updates |= {settings.temperature: setup.temperature} if setup.temperature is not None else {}
            updates |= {settings.seed: setup.seed} if setup.seed is not None else {}
            updates[tab.problem] = error_card(" ".join(setup.problems)) if setup.problems else ""
        yield updates
        shown: dict[Any, Any] = {}  # of both each time: for a tab that is not open yet, only the last update counts
        for place, choice in enumerate(service.setup.choices_to_open(setup)):
            for view in service.picker.views(choice):
                shown |= pickers[place].updates(view)
                yield dict(shown)

    shown_of_both = [*pickers[0].outputs, *pickers[1].outputs]
    linked = [tabs, tab.message, settings.system, settings.mode, settings.temperature, settings.seed]
    page.load(opened, None, [*shown_of_both, *linked, tab.problem, tab.tally], show_progress="hidden",
              api_visibility="private")  # fmt: skip
    for picker in pickers:
        wire_choices(picker, service.picker)
    gr.on(
        [pickers[0].line.change, pickers[1].line.change, settings.mode.input],
        lambda *values: service.setup.beforehand(read_wish(*values)),
        [*tab.choices, *settings.all],
        tab.beforehand,
        **quiet,
    )
