"""The Compare tab at work: reads its components, draws updates into them, and wires every event."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import gradio as gr

from playground.app.compare.comparison import LETTERS, USUAL_TOKENS, CompareRequest, Comparison, growing_answers
from playground.app.compare.dial import read_dial
from playground.app.compare.link import LinkedSetup
from playground.app.compare.recorded import load_recorded_example
from playground.app.compare.service import CompareService
from playground.app.compare.updates import ComparedAnswers, CompareUpdate, PaneState
from playground.app.resumable import read_key
from playground.chat.prompts import ComparisonPrompt, find_comparison_prompt
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import Sampling
from playground.web.html.compare.panes import further_section, pane_markup, question_box
from playground.web.html.compare.result import result_section
from playground.web.html.compare.votes import NEXT_QUESTION, TAKE_BACK, ballot_sheet, tally_table
from playground.web.html.page import error_card, status_message
from playground.web.redraws import Redraws
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Streaming, Updates, Values, what_is_new
from playground.web.tabs.compare.dial import wire_dial
from playground.web.tabs.compare.layout import CompareTab
from playground.web.tabs.compare.saving import wire_saving
from playground.web.widgets import change_stamp, draft_js, keep_js, kept_js

_TEXTS: Final = "gguf-playground-comparison"  # the names of what the storage of the browser's tab holds
_GROWING: Final = "gguf-playground-comparison-growing"
_DRAFT: Final = "gguf-playground-comparison-draft"
_KEY: Final = "gguf-playground-comparison-key"
_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_TAKEN_AWAY_JS: Final = """() => requestAnimationFrame(() => requestAnimationFrame(
  () => document.querySelector('#compare').classList.remove('gp-clears', 'gp-undoes')))"""
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}

VisitorOf = Callable[[gr.Request], Visitor]


# --- react ---


def read_request(tab: CompareTab, values: Values) -> CompareRequest:
    """What the dial, both pickers and the settings hold; impossible values become the defaults.

    The dial has the levels while both sides are of one model: it shows a move before the pickers know of it.
    """
    settings = tab.settings
    temperature = min(max(float(values[settings.temperature] or 0), 0.0), 2.0)
    asked_seed = values[settings.seed]
    seed = None if asked_seed is None or asked_seed < 0 else int(asked_seed)
    left, right = (pane.picker.read_choice(values) for pane in tab.panes)
    levels = read_dial(values[tab.dial])
    if len(levels) == 2 and (left.model or right.model) == (right.model or left.model):
        chosen = values[tab.dial_model]
        model = left.model or right.model or (chosen if isinstance(chosen, str) else None)
        left, right = (
            replace(choice, model=model, level=level) for choice, level in ((left, levels["a"]), (right, levels["b"]))
        )
    return CompareRequest(
        choices=(left, right),
        system=str(values[settings.system] or ""),
        sampling=Sampling(temperature=temperature, seed=seed if temperature else seed or 0),
        max_tokens=max(1, int(values[settings.max_tokens] or USUAL_TOKENS)),
        mode="at once" if values[settings.mode] == "at once" else "in turn",
        blind=bool(values[settings.blind]),
        follows_up=bool(values[settings.follows_up]),
    )


def draw_update(tab: CompareTab, update: CompareUpdate) -> Updates:
    """The new values of the components that the update changes."""
    drawn = what_is_new((tab.comparison, update.comparison))
    if update.comparison is not None:
        drawn |= _draw_question(tab, update.comparison)
    if update.phase == "rest":
        drawn[tab.storage.growing] = ""
    elif any(state and state.growing for state in update.panes):
        first, second = (state.growing if state else None for state in update.panes)
        drawn[tab.storage.growing] = growing_answers(first, second)
    if update.problem is not None:
        drawn[tab.problem] = status_message(update.problem)
    names = tuple(state.name if state else "" for state in update.panes)
    for position, (pane, state) in enumerate(zip(tab.panes, update.panes, strict=True)):
        if state is not None:
            both = (names[0] or LETTERS[0], names[1] or LETTERS[1])
            drawn[pane.view] = gr.HTML(rows=pane_markup(state, position, both), value="")
    if update.further is not None:
        drawn[tab.further] = gr.HTML(rows=further_section(update.further))
    if update.result is not None:
        answers = update.answers if isinstance(update.answers, ComparedAnswers) else None
        drawn[tab.result] = result_section(update.result, answers)
    elif update.answers is not None:
        drawn[tab.result] = ""
    if update.tallies is not None:
        drawn[tab.votes.tally] = tally_table(update.tallies)
    if update.has_new_level:
        drawn[tab.panes[0].picker.models_changed] = change_stamp()
    if update.phase is not None:
        drawn |= _draw_phase(tab, update)
    return drawn


def _draw_question(tab: CompareTab, comparison: Comparison) -> Updates:
    """The question of a comparison, in the place of the recorded example."""
    prompt = find_comparison_prompt(comparison.question, comparison.panes[0].conversation.system)
    return {
        tab.storage.texts: comparison.to_stored_text(),
        tab.question: question_box(comparison.question, prompt, is_blind=comparison.is_hidden),
    }


def _draw_phase(tab: CompareTab, update: CompareUpdate) -> Updates:
    """Which buttons can be used now."""
    is_busy = update.phase != "rest"
    drawn: Updates = {tab.send: gr.Button(visible=not is_busy), tab.stop: gr.Button(visible=is_busy)}
    comparison = update.comparison
    if comparison is None:
        return drawn
    drawn[tab.tools.undo] = gr.Button(visible=not is_busy and comparison.replaced is not None)
    has_answers = not is_busy and comparison.results is not None
    for button in (tab.tools.save_markdown, tab.tools.save_json):
        drawn[button] = gr.Button(interactive=has_answers)
    may_vote, has_voted = comparison.may_vote, comparison.voted is not None
    drawn[tab.votes.column] = gr.Column(visible=not is_busy and (may_vote or has_voted))
    drawn[tab.votes.ballot] = gr.HTML(rows=ballot_sheet(comparison, update.reveal), value="")
    drawn[tab.votes.guess] = gr.Radio(value=None, visible=may_vote)
    return drawn


def draw_link(tab: CompareTab, tabs: gr.Tabs, setup: LinkedSetup, *, is_own: bool = False) -> Updates:
    """What a link sets on a new page, with a message for what of it is not here.

    is_own: it is the address that the page wrote itself, before a reload. What was open and typed comes back otherwise.
    """
    if not setup.has_choices and not setup.problems:
        return {}
    settings = tab.settings
    most = setup.max_tokens and min(setup.max_tokens, int(settings.max_tokens.maximum))
    wanted = (
        (settings.mode, setup.mode), (settings.temperature, setup.temperature), (settings.seed, setup.seed),
        (settings.max_tokens, most), (settings.blind, setup.blind), (settings.follows_up, setup.follows_up),
    )  # fmt: skip
    opened: Updates = {tab.message: setup.prompt} if setup.prompt and not is_own else {}
    if setup.opens_compare and not is_own:
        opened[tabs] = gr.Tabs(selected="compare")
    return {
        **opened,
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
    work = _PageWork(tab, service, visitor)
    _wire_storage(page, tab, service, streaming, visitor)
    _wire_work(tab, work, streaming)
    _wire_quick(tab, service, work)
    wire_saving(tab, service, visitor, partial(read_request, tab))
    wire_dial(page, tab, service, visitor, partial(read_request, tab), partial(draw_link, tab, tabs), tabs)


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
    page.load(None, None, tab.message, js=draft_js(_DRAFT, "compare-message"), **_PRIVATE)
    for part, name in {**parts, tab.message: _DRAFT}.items():
        part.change(None, part, None, js=keep_js(name), **_PRIVATE)


class _PageWork:
    """What runs models for a page, one thing at a time: what is new ends what is under way and takes its place."""

    def __init__(self, tab: CompareTab, service: CompareService, visitor: VisitorOf) -> None:
        self._tab, self._service, self._visitor = tab, service, visitor
        self._turns = Redraws()

    def ask(self, request: gr.Request, values: Values) -> Iterator[Updates]:
        tab, asked = self._tab, read_request(self._tab, values)
        updates = partial(self._service.ask_both, text=values[tab.message], request=asked)
        yield from self._run(request, values, values[tab.comparison], updates, {tab.message: ""})

    def ask_example(self, prompt: ComparisonPrompt, request: gr.Request, values: Values) -> Iterator[Updates]:
        """An example starts a new comparison, with the system prompt and the length that belong to it."""
        tab = self._tab
        asked = replace(read_request(tab, values), system=prompt.system, max_tokens=prompt.tokens, follows_up=False)
        updates = partial(self._service.ask_both, text=prompt.text, request=asked)
        yield from self._run(request, values, values[tab.comparison], updates, {tab.settings.system: prompt.system})

    def press(self, position: int, request: gr.Request, values: Values) -> Iterator[Updates]:
        """A button of a pane: its answer once more, or longer."""
        tab, asked = self._tab, read_request(self._tab, values)
        comparison: Comparison = values[tab.comparison]
        if comparison.request is not None:  # the settings may have changed since it was asked
            asked = replace(asked, system=comparison.request.system, max_tokens=comparison.request.max_tokens)
        is_longer = values[tab.panes[position].view] == "continue"
        work = self._service.continue_answer if is_longer else self._service.regenerate_answer
        yield from self._run(request, values, comparison, partial(work, position=position, request=asked), {})

    def move(self, request: gr.Request, values: Values) -> Iterator[Updates]:
        """A handle of the dial moved: the answers of the levels that are chosen now."""
        tab, asked = self._tab, read_request(self._tab, values)
        comparison: Comparison = values[tab.comparison]
        if comparison.is_empty:
            yield self._draw_preview(comparison, asked)
            return
        if comparison.request is not None:
            kept = comparison.request
            asked = replace(asked, system=kept.system, max_tokens=kept.max_tokens, sampling=kept.sampling)
        yield from self._run(request, values, comparison, partial(self._service.swap_levels, request=asked), {})

    def _draw_preview(self, comparison: Comparison, asked: CompareRequest) -> Updates:
        """What is known of the chosen pair before the first question, in the place of the recorded example."""
        tab, facts = self._tab, self._service.setup.pair_facts(comparison, asked)
        empty = [PaneState(name=name) for name in facts.names]
        views = {pane.view: gr.HTML(rows=pane_markup(empty[n], n)) for n, pane in enumerate(tab.panes)}
        return {tab.result: result_section(facts), tab.question: question_box(""), **views}

    def run_recorded(self, request: gr.Request, values: Values) -> Iterator[Updates]:
        """The question of the recorded example on this computer; the starter gets one that it can answer."""
        asked = read_request(self._tab, values)
        model = asked.choices[0].model or values[self._tab.dial_model]
        prompts = [prompt for _, prompt in self._tab.examples]
        recorded = next((one for one in prompts if one.text == load_recorded_example().question), prompts[0])
        prompt = prompts[0] if self._service.setup.is_starter(model) else recorded
        yield from self.ask_example(prompt, request, values)

    def ask_next_blind(self, request: gr.Request, values: Values) -> Iterator[Updates]:
        """After a vote: the next example, still blind."""
        comparison: Comparison = values[self._tab.comparison]
        prompts = [prompt for _, prompt in self._tab.examples]
        places = [place for place, prompt in enumerate(prompts) if prompt.text == comparison.question]
        prompt = prompts[(places[0] + 1) % len(prompts)] if places else prompts[0]
        yield from self.ask_example(prompt, request, {**values, self._tab.settings.blind: True})

    def use_ballot(self, request: gr.Request, values: Values) -> Iterator[Updates]:
        """A vote, the last vote taken back, or the next blind question."""
        votes, pressed = self._tab.votes, str(values[self._tab.votes.ballot] or "")
        yield {votes.ballot: gr.HTML(value="")}
        if pressed == NEXT_QUESTION:
            yield from self.ask_next_blind(request, values)
            return
        voting, guess = self._service.voting, str(values[votes.guess] or "")

        def vote(visitor: Visitor, comparison: Comparison, key: str) -> Generator[CompareUpdate, None, None]:
            if pressed == TAKE_BACK:
                yield voting.take_back_vote(visitor, comparison, key)
            else:
                yield voting.cast_vote(visitor, comparison, pressed, key, guess)

        yield from self._run(request, values, values[self._tab.comparison], vote, {})

    def stop(self, request: gr.Request) -> None:
        self._service.stop_comparison(self._visitor(request))

    def end(self, request: gr.Request) -> None:
        """What is under way ends, and draws nothing any more."""
        self._turns.begin_redraw(str(request.session_hash))
        self._service.stop_what_runs(self._visitor(request))

    def _run(
        self,
        request: gr.Request,
        values: Values,
        comparison: Comparison,
        updates: Callable[..., Generator[CompareUpdate, None, None]],
        with_first: Updates,
    ) -> Iterator[Updates]:
        """Updates of a work, then what is measured by itself; nothing any more once the page does something else.

        with_first: drawn with the first update, if the work was accepted.
        """
        tab, key = self._tab, str(values[self._tab.storage.key] or "")
        is_newest = self._turns.begin_redraw(str(request.session_hash))
        visitor = self._visitor(request)
        self._service.stop_what_runs(visitor)
        is_at_rest = False
        with closing(updates(visitor, comparison, key=key)) as running:
            for number, update in enumerate(running):
                if not is_newest():
                    break
                is_accepted = number == 0 and update.comparison is not None
                yield draw_update(tab, update) | (with_first if is_accepted else {})
                comparison = update.comparison or comparison
                is_at_rest = update.phase == "rest"
        if not is_at_rest or not is_newest():
            return
        with closing(self._service.measurements.measure_by_itself(visitor, comparison, key)) as measured:
            for update in measured:
                if not is_newest():
                    break
                if drawn := draw_update(tab, update):
                    yield drawn


def _wire_work(tab: CompareTab, work: _PageWork, streaming: Streaming) -> None:
    """What runs models; it goes on in a stream of updates until it ends or is stopped."""
    inputs = {tab.comparison, tab.storage.key, *tab.request_inputs}
    outputs = [*tab.drawn, tab.message, tab.settings.system]
    streaming.wire([tab.send.click, tab.message.submit], work.ask, {*inputs, tab.message}, outputs, tab.growing)
    for chip, prompt in tab.examples:
        streaming.wire([chip.click], partial(work.ask_example, prompt), inputs, outputs, tab.growing, newest_wins=True)
    for position, pane in enumerate(tab.panes):
        press = partial(work.press, position)
        streaming.wire([pane.view.input], press, {*inputs, pane.view}, outputs, tab.growing)
    streaming.wire([tab.dial.input], work.move, inputs, outputs, tab.growing, newest_wins=True)
    streaming.wire([tab.run_recorded.click], work.run_recorded, inputs, outputs, tab.growing)
    with_ballot = {*inputs, tab.votes.ballot, tab.votes.guess}
    streaming.wire([tab.votes.ballot.input], work.use_ballot, with_ballot, outputs, tab.growing, newest_wins=True)
    tab.stop.click(work.stop, **_QUICK)


def _wire_quick(tab: CompareTab, service: CompareService, work: _PageWork) -> None:
    """What takes no time: blind mode switched off, and a comparison cleared or brought back."""

    def switch_blind(request: gr.Request, is_on: bool, comparison: Comparison, key: str) -> Updates:
        if is_on or not comparison.blind:
            return {tab.problem: ""}
        if comparison.is_hidden and not comparison.may_vote:
            work.stop(request)  # what is being written ends, and then shows its names
            return {tab.problem: ""}
        return draw_update(tab, service.reveal_names(comparison, key or ""))

    def clear(request: gr.Request, comparison: Comparison, key: str) -> Updates:
        work.end(request)
        return draw_update(tab, service.clear_comparison(comparison, key or ""))

    def undo(comparison: Comparison, key: str) -> Updates:
        return draw_update(tab, service.undo_clear(comparison, key or ""))

    kept = [tab.comparison, tab.storage.key]
    tab.settings.blind.input(switch_blind, [tab.settings.blind, *kept], tab.drawn, **_QUICK)
    for button, work_of in ((tab.tools.clear, clear), (tab.tools.undo, undo)):
        button.click(work_of, kept, tab.drawn, **_QUICK).then(None, js=_TAKEN_AWAY_JS)
