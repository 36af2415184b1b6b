"""The components of the Compare tab and where they stand. tabs/compare.py draws into them and wires them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.compare.comparison import BALLOT, LETTERS, USUAL_TOKENS, Comparison
from playground.app.compare.updates import CompareOutlook, PaneState
from playground.app.model_picker import ModelPickerService
from playground.chat.comparison import Mode
from playground.chat.markdown_escape import LATEX_DELIMITERS
from playground.chat.prompts import ComparisonKind, ComparisonPrompt
from playground.web.html.compare import outlook_line, pane_head, pane_line
from playground.web.html.page import empty_state, paragraph
from playground.web.model_picker import PickerComponents, build_model_picker
from playground.web.widgets import javascript

GROUPS: Final = ("left", "right")  # the panes of the page: their pickers, and the names of their elements
KIND_TITLES: Final[dict[ComparisonKind, str]] = {
    "instructions": "Following instructions",
    "tools": "Tool calls",
    "arithmetic": "Step-by-step arithmetic",
    "facts": "Facts",
    "long context": "Long texts",
    "code": "Code",
}
MODES: Final[list[tuple[str, Mode]]] = [("One after the other", "in turn"), ("At the same time", "at once")]


@dataclass(frozen=True)
class PaneComponents:
    """One pane, by where it is shown: the first is A."""

    picker: PickerComponents
    picker_column: gr.Column
    head: gr.HTML
    log: gr.Chatbot
    live: gr.HTML
    note: gr.HTML
    regenerate: gr.Button


@dataclass(frozen=True)
class CompareSettings:
    """What both panes share."""

    system: gr.Textbox
    temperature: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number
    mode: gr.Radio
    blind: gr.Checkbox


@dataclass(frozen=True)
class CompareStorage:
    """Hidden parts through which texts go to the storage of the browser's tab and back.

    texts: of both conversations. growing: the answers that are being written. key: finds these on the server.
    """

    texts: gr.Textbox
    growing: gr.Textbox
    key: gr.Textbox


@dataclass(frozen=True)
class CompareTab:
    """The tab's components."""

    comparison: gr.State
    panes: tuple[PaneComponents, PaneComponents]
    settings: CompareSettings
    outlook: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    problem: gr.HTML
    examples: list[tuple[gr.Button, ComparisonPrompt]]
    look_for: gr.HTML
    ballot_column: gr.Column
    ballot: list[gr.Button]
    differences: gr.HTML
    first_difference: gr.HTML
    measure_noise: gr.Button
    noise: gr.HTML
    measure_agreement: gr.Button
    agreement: gr.HTML
    tally: gr.HTML
    export_votes: gr.Button
    undo: gr.Button
    clear: gr.Button
    save_markdown: gr.Button
    save_json: gr.Button
    copy_link: gr.Button
    link: gr.Textbox
    saved: gr.Textbox
    storage: CompareStorage

    @property
    def request_inputs(self) -> set[Any]:
        """What `read_request` reads."""
        settings = self.settings
        return {
            *self.panes[0].picker.inputs, *self.panes[1].picker.inputs, settings.system, settings.temperature,
            settings.max_tokens, settings.seed, settings.mode, settings.blind,
        }  # fmt: skip

    @property
    def drawn(self) -> list[Any]:
        """What `draw_update` may change."""
        return [
            self.comparison, *self.growing, *(pane.regenerate for pane in self.panes),
            *(pane.picker_column for pane in self.panes), self.problem, self.differences, self.first_difference,
            self.noise, self.agreement, self.tally, self.send, self.stop, self.undo, self.ballot_column,
            self.measure_noise, self.measure_agreement, self.save_markdown, self.save_json, self.storage.texts,
        ]  # fmt: skip

    @property
    def growing(self) -> list[Any]:
        """What changes several times a second while levels are made, models load or answers are written."""
        parts = [part for pane in self.panes for part in (pane.head, pane.log, pane.live, pane.note)]
        return [*parts, self.panes[0].picker.models_changed, self.storage.growing]


def build_compare_tab(
    service: ModelPickerService,
    examples: Sequence[ComparisonPrompt],
    usual_mode: Mode,
    most_tokens: int = 4096,
    tab_seconds: float | None = None,
) -> CompareTab:
    """Two panes side by side, on a phone one below the other; under them the question and the results."""
    with gr.Column(elem_classes="gp-compare"):
        comparison = gr.State(Comparison(), time_to_live=tab_seconds)
        with gr.Row(elem_classes="gp-panes"):
            left, right = (_lay_out_pane(service, position) for position in (0, 1))
        with gr.Column(visible=False, elem_classes="gp-ballot", elem_id="compare-ballot") as ballot_column:
            gr.HTML(paragraph("Which answer is better?", "gp-ballot-question"), apply_default_css=False)
            with gr.Row(elem_classes="gp-ballot-row"):
                ballot = [gr.Button(word, elem_id=f"compare-vote-{n}") for n, word in enumerate(BALLOT, 1)]
        problem = _html("problem")
        with gr.Row(elem_classes="gp-input"):
            message = gr.Textbox(
                label="One question for both", show_label=False, placeholder="One question for both", lines=1,
                max_lines=8, container=False, elem_id="compare-message",
            )  # fmt: skip
            send = gr.Button("Ask both", variant="primary", elem_id="compare-send", scale=0)
            stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", scale=0, visible=False)
        with gr.Row(elem_classes="gp-tools"):
            undo = _button("Undo", "undo", visible=False)
            clear = _button("Clear", "clear")
            save_markdown = _button("Save as Markdown", "save-markdown", interactive=False)
            save_json = _button("Save as JSON", "save-json", interactive=False)
            copy_link = _button("Copy link", "copy-link")
        link = gr.Textbox(
            visible=False, label="Link to this set-up", interactive=False, elem_id="compare-link", max_lines=1
        )
        with gr.Row(elem_classes="gp-how"):
            mode = gr.Radio(MODES, value=usual_mode, label="Run", elem_id="compare-mode")
            blind = gr.Checkbox(label="Blind", info="Hides which is which until you vote.", elem_id="compare-blind")
        outlook = _html("beforehand", outlook_line(CompareOutlook(usual_mode)))
        chips = _lay_out_examples(examples)
        settings = _lay_out_settings(most_tokens, mode, blind)
        look_for = _html("look-for")
        differences = _html("differences")
        measure_noise = _button("Measure the noise (run A twice)", "twice", visible=False, elem_classes="gp-next")
        noise = _html("control")
        first_difference = _html("parting")
        measure_agreement = _button(
            "Word by word: would B have said the same?", "score", visible=False, elem_classes="gp-next"
        )
        agreement = _html("agreement", js_on_load=javascript("token_panel.js"))
        with gr.Accordion("Blind votes", open=False, elem_id="compare-votes", elem_classes="gp-more"):
            tally = _html("tally")
            export_votes = _button("Save the votes as CSV", "export-votes")
        saved, texts, growing, key = (
            gr.Textbox(visible="hidden", elem_classes="gp-never", elem_id=f"compare-{name}")
            for name in ("saved", "kept", "growing", "key")
        )
    return CompareTab(
        comparison=comparison, panes=(left, right), settings=settings, outlook=outlook, message=message, send=send,
        stop=stop, problem=problem, examples=chips, look_for=look_for, ballot_column=ballot_column, ballot=ballot,
        differences=differences, first_difference=first_difference, measure_noise=measure_noise, noise=noise,
        measure_agreement=measure_agreement, agreement=agreement, tally=tally, export_votes=export_votes, undo=undo,
        clear=clear,
        save_markdown=save_markdown, save_json=save_json, copy_link=copy_link, link=link, saved=saved,
        storage=CompareStorage(texts, growing, key),
    )  # fmt: skip


def _lay_out_pane(service: ModelPickerService, position: int) -> PaneComponents:
    group, letter = GROUPS[position], LETTERS[position]
    with gr.Column(elem_classes="gp-pane", elem_id=f"compare-pane-{letter.lower()}"):
        head = _html(f"head-{group}", pane_head(PaneState(name=""), position))
        with gr.Column(elem_classes="gp-pane-picker") as picker_column:
            picker = build_model_picker(service, group)
        log = gr.Chatbot(
            label=f"Answers of {letter}", show_label=False, elem_id=f"compare-log-{group}",
            elem_classes=["gp-log", "gp-pane-log"], layout="bubble",
            placeholder=empty_state("", "Pick a question below or type your own."), buttons=["copy"],
            latex_delimiters=LATEX_DELIMITERS, feedback_options=None, group_consecutive_messages=False,
            allow_tags=False,
        )  # fmt: skip
        live = _html(f"live-{group}", pane_line(PaneState(name="")))
        note = _html(f"note-{group}")
        with gr.Row(elem_classes="gp-tools"):
            regenerate = _button(f"Regenerate {letter}", f"regenerate-{group}", interactive=False)
    return PaneComponents(
        picker=picker, picker_column=picker_column, head=head, log=log, live=live, note=note, regenerate=regenerate
    )


def _lay_out_examples(prompts: Sequence[ComparisonPrompt]) -> list[tuple[gr.Button, ComparisonPrompt]]:
    """A row for each kind of ability that quantization harms."""
    chips: list[tuple[gr.Button, ComparisonPrompt]] = []
    with gr.Column(elem_classes="gp-examples", elem_id="compare-examples"):
        for kind in dict.fromkeys(prompt.kind for prompt in prompts):
            with gr.Row(elem_classes="gp-example-row"):
                gr.HTML(paragraph(KIND_TITLES[kind], "gp-example-title"), apply_default_css=False)
                for prompt in prompts:
                    if prompt.kind == kind:
                        chips.append((_button(prompt.title, f"example-{len(chips) + 1}"), prompt))
    return chips


def _lay_out_settings(most_tokens: int, mode: gr.Radio, blind: gr.Checkbox) -> CompareSettings:
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
        )  # fmt: skip


def _html(name: str, value: str = "", **more: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=f"compare-{name}", **more)


def _button(label: str, name: str, **more: Any) -> gr.Button:
    return gr.Button(label, size="sm", elem_id=f"compare-{name}", **more)
