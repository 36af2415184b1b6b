"""The components of the Compare tab and where they stand. tab.py draws into them and wires them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.compare.comparison import LETTERS, USUAL_TOKENS, Comparison
from playground.app.compare.dial import Dial
from playground.app.compare.further_answers import NOT_ASKED
from playground.app.compare.recorded import RecordedExample, load_recorded_example
from playground.app.compare.updates import CompareOutlook
from playground.app.model_picker.service import ModelPickerService
from playground.chat.comparison import Mode
from playground.chat.prompts import ComparisonPrompt, find_comparison_prompt
from playground.web.html.compare.figures import outlook_line
from playground.web.html.compare.panes import (
    further_section,
    headline,
    pane_markup,
    pane_switch,
    question_box,
    recorded_line,
)
from playground.web.html.compare.result import result_section
from playground.web.html.dial import dial_rows, dial_value
from playground.web.model_picker.picker import PickerComponents, build_model_picker
from playground.web.widgets import ROWS, build_dial, hidden_text, javascript, key_rows

_UNFOLD_JS: Final = """() => {
  const isOpen = document.querySelector('#compare-setup').classList.toggle('gp-open');
  document.querySelector('#compare-two-models').setAttribute('aria-expanded', isOpen);
}"""
GROUPS: Final = ("left", "right")  # the panes of the page: their pickers, and the names of their elements
MODES: Final[list[tuple[str, Mode]]] = [("One after the other", "in turn"), ("At the same time", "at once")]


@dataclass(frozen=True)
class PaneComponents:
    """One pane, by where it is shown: the first is A. view: the answer with all about it, and its buttons."""

    picker: PickerComponents
    view: gr.HTML


@dataclass(frozen=True)
class CompareSettings:
    """What both panes share."""

    system: gr.Textbox
    temperature: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number
    mode: gr.Radio
    blind: gr.Checkbox
    follows_up: gr.Checkbox

    @property
    def linked(self) -> list[Any]:
        """What the page's address has, in the order in which address.js takes it."""
        return [
            self.mode, self.temperature, self.seed, self.system, self.max_tokens, self.blind, self.follows_up
        ]  # fmt: skip


@dataclass(frozen=True)
class CompareVotes:
    """A blind vote, and those until now. column: all that shows while one can vote, and what comes next after it."""

    column: gr.Column
    ballot: gr.HTML  # the four words, and after a vote what comes next
    guess: gr.Radio  # which side has fewer bits
    tally: gr.HTML
    export: gr.Button


@dataclass(frozen=True)
class CompareTools:
    """The quiet buttons below the box for a question. link: shown once it was copied."""

    undo: gr.Button
    clear: gr.Button
    save_markdown: gr.Button
    save_json: gr.Button
    copy_link: gr.Button
    link: gr.Textbox


@dataclass(frozen=True)
class CompareStorage:
    """Hidden parts through which texts go to the storage of the browser's tab and back.

    texts: of both conversations. growing: the answers that are being written. key: finds these on the server.
    own_address: "own" where the page's address is the one that this browser tab wrote itself.
    """

    texts: gr.Textbox
    growing: gr.Textbox
    key: gr.Textbox
    own_address: gr.Textbox


@dataclass(frozen=True)
class CompareTab:
    """The tab's components."""

    comparison: gr.State
    title: gr.HTML
    dial_model: gr.Dropdown
    dial: gr.HTML
    recorded: gr.HTML
    run_recorded: gr.Button
    question: gr.HTML
    panes: tuple[PaneComponents, PaneComponents]
    further: gr.HTML  # beside them on a wide screen: what other levels answered
    settings: CompareSettings
    outlook: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    problem: gr.HTML
    examples: list[tuple[gr.Button, ComparisonPrompt]]
    votes: CompareVotes
    result: gr.HTML
    tools: CompareTools
    saved: gr.Textbox
    storage: CompareStorage

    @property
    def request_inputs(self) -> set[Any]:
        """What `read_request` reads."""
        settings = self.settings
        return {
            *self.panes[0].picker.inputs, *self.panes[1].picker.inputs, settings.system, settings.temperature,
            settings.max_tokens, settings.seed, settings.mode, settings.blind, settings.follows_up, self.dial,
            self.dial_model,
        }  # fmt: skip

    @property
    def drawn(self) -> list[Any]:
        """What `draw_update` may change."""
        votes, tools = self.votes, self.tools
        return [
            self.comparison, *self.growing, self.problem, self.question, self.further, self.result,
            votes.tally, self.send, self.stop, tools.undo, votes.column, votes.ballot, votes.guess,
            tools.save_markdown, tools.save_json, self.dial, self.storage.texts,
        ]  # fmt: skip

    @property
    def growing(self) -> list[Any]:
        """What changes several times a second while levels are made, models load or answers are written."""
        views = [pane.view for pane in self.panes]
        return [*views, self.panes[0].picker.models_changed, self.storage.growing]


def build_compare_tab(
    service: ModelPickerService,
    examples: Sequence[ComparisonPrompt],
    usual_mode: Mode,
    most_tokens: int = 4096,
    tab_seconds: float | None = None,
) -> CompareTab:
    """The dial, a row of questions, two panes that grow with their text, the result, and the box for a question.

    What is needed seldom stands below: two different models, sampling, saving, votes.
    """
    example = load_recorded_example()
    with gr.Column(elem_classes="gp-compare", elem_id="compare"):
        comparison = gr.State(Comparison(), time_to_live=tab_seconds)
        title = _html("title", headline())
        dial_model, dial, pickers = _lay_out_models(service)
        with gr.Row(elem_classes="gp-ask"):
            chips = _lay_out_examples(examples)
            blind = gr.Checkbox(label="Blind: hide which is which, then vote", elem_id="compare-blind")
        asked = find_comparison_prompt(example.question, "")
        question = _html("question", question_box(example.question, asked), js_on_load=javascript("chips.js"))
        _html("switch", pane_switch(), js_on_load=javascript("pane_switch.js"))
        with gr.Row(elem_classes="gp-panes", elem_id="compare-panes"):
            left, right = (_lay_out_pane(pickers[position], example, position) for position in (0, 1))
            further = _html(
                "further", html_template=ROWS, js_on_load=javascript("further.js"), rows=further_section(NOT_ASKED),
                elem_classes="gp-further-place",
            )  # fmt: skip
        with gr.Row(elem_classes="gp-recorded-row"):
            recorded = _html("recorded", recorded_line(example.model, example.machine, example.date))
            run_recorded = _button("Run it on this computer", "run-recorded", variant="primary")
        column, ballot, guess = _lay_out_ballot()
        problem = _html("problem")
        result = _html("result", result_section(example.facts), js_on_load=javascript("result.js"))
        with gr.Row(elem_classes="gp-input", elem_id="compare-input"):
            message = gr.Textbox(
                label="One question for both", show_label=False, placeholder="Ask both your own question …", lines=1,
                max_lines=8, container=False, elem_id="compare-message",
            )  # fmt: skip
            send = gr.Button("Ask both", variant="primary", elem_id="compare-send", scale=0)
            stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", scale=0, visible=False)
    with gr.Column(elem_classes="gp-compare gp-compare-more"):
        tools = _lay_out_tools()
        with gr.Row(elem_classes="gp-how"):
            mode = gr.Radio(MODES, value=usual_mode, label="Run", elem_id="compare-mode")
            follows_up = gr.Checkbox(
                label="Follow up", info="A question goes on from those before it.", elem_id="compare-follows-up"
            )
        outlook = _html("beforehand", outlook_line(CompareOutlook(usual_mode)))
        settings = _lay_out_settings(most_tokens, mode, blind, follows_up)
        with gr.Accordion("Blind votes", open=False, elem_id="compare-votes", elem_classes="gp-more"):
            tally = _html("tally")
            export = _button("Save the votes as CSV", "export-votes")
        saved, *kept = (hidden_text(f"compare-{name}") for name in ("saved", "kept", "growing", "key", "own-address"))
    return CompareTab(
        comparison=comparison, title=title, dial_model=dial_model, dial=dial, recorded=recorded,
        run_recorded=run_recorded, question=question, panes=(left, right), further=further, settings=settings,
        outlook=outlook, message=message, send=send, stop=stop, problem=problem, examples=chips,
        votes=CompareVotes(column, ballot, guess, tally, export), result=result, tools=tools, saved=saved,
        storage=CompareStorage(*kept),
    )  # fmt: skip


def _lay_out_models(service: ModelPickerService) -> tuple[gr.Dropdown, gr.HTML, list[PickerComponents]]:
    """One model and the dial of its levels; folded below it, a picker for each side."""
    with gr.Row(elem_classes="gp-dial", elem_id="compare-dial-row"):
        with gr.Column(elem_classes="gp-dial-model"):
            dial_model = gr.Dropdown(
                service.model_names(), label="Model", filterable=True, interactive=True,
                elem_id="compare-model",
            )  # fmt: skip
            two_models = _button("Other models or settings …", "two-models", elem_classes="gp-link")
        dial = build_dial(dial_value(None, None), dial_rows(Dial()), "compare-dial", "gp-dial-place")
    with gr.Row(elem_classes="gp-setup", elem_id="compare-setup"):
        pickers = [build_model_picker(service, group) for group in GROUPS]
    two_models.click(None, js=_UNFOLD_JS)
    return dial_model, dial, pickers


def _lay_out_pane(picker: PickerComponents, example: RecordedExample, position: int) -> PaneComponents:
    """With the recorded answer, until something has run here."""
    rows = pane_markup(example.panes[position], position, example.facts.names, is_recorded=True)
    view = gr.HTML(
        "", html_template=ROWS, js_on_load=javascript("pane.js"), apply_default_css=False, rows=rows,
        elem_id=f"compare-pane-{LETTERS[position].lower()}", elem_classes="gp-pane-place",
    )  # fmt: skip
    return PaneComponents(picker=picker, view=view)


def _lay_out_examples(prompts: Sequence[ComparisonPrompt]) -> list[tuple[gr.Button, ComparisonPrompt]]:
    """One row of questions, by what quantization harms."""
    with gr.Row(elem_classes="gp-chips", elem_id="compare-examples"):
        return [(_button(prompt.title, f"example-{number}"), prompt) for number, prompt in enumerate(prompts, 1)]


def _lay_out_ballot() -> tuple[gr.Column, gr.HTML, gr.Radio]:
    """The column that shows while one can vote, with the ballot and the guess."""
    with gr.Column(visible=False, elem_classes="gp-ballot", elem_id="compare-ballot") as column:
        guess = gr.Radio(
            list(LETTERS), label="A guess, if you like: which one has fewer bits?", elem_id="compare-guess"
        )
        ballot = key_rows("compare-ballot-sheet", "ballot.js")
    return column, ballot, guess


def _lay_out_tools() -> CompareTools:
    with gr.Row(elem_classes="gp-tools"):
        undo = _button("Undo", "undo", visible=False)
        clear = _button("Clear", "clear")
        save_markdown = _button("Save as Markdown", "save-markdown", interactive=False)
        save_json = _button("Save as JSON", "save-json", interactive=False)
        copy_link = _button("Copy link", "copy-link")
    link = gr.Textbox(
        visible=False, label="Link to this set-up", interactive=False, elem_id="compare-link", max_lines=1
    )
    return CompareTools(undo, clear, save_markdown, save_json, copy_link, link)


def _lay_out_settings(most_tokens: int, mode: gr.Radio, blind: gr.Checkbox, follows_up: gr.Checkbox) -> CompareSettings:
    with gr.Accordion("Sampling settings", open=False, elem_id="compare-settings", elem_classes="gp-more"):
        return CompareSettings(
            system=gr.Textbox(
                label="System prompt", info="Instructions that both models get before the chat.", lines=3, max_lines=8,
                elem_id="compare-system",
            ),
            temperature=gr.Slider(
                0, 2, value=0, step=0.05, label="Temperature", elem_id="compare-temperature",
                info="0 always takes the likeliest token, so that only the models make the answers differ.",
            ),
            max_tokens=gr.Slider(
                16, most_tokens, value=min(USUAL_TOKENS, most_tokens), step=16, label="Longest reply",
                info="In tokens.", elem_id="compare-max-tokens",
            ),
            seed=gr.Number(
                label="Seed", info="Same seed, same random choices for both. −1: new for each question.", value=-1,
                precision=0, minimum=-1, maximum=2**32 - 2, elem_id="compare-seed",
            ),
            mode=mode,
            blind=blind,
            follows_up=follows_up,
        )  # fmt: skip


def _html(name: str, value: str = "", **more: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=f"compare-{name}", **more)


def _button(label: str, name: str, **more: Any) -> gr.Button:
    return gr.Button(label, size="sm", elem_id=f"compare-{name}", **more)
