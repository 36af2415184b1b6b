"""The Compare tab laid out: which components there are, and where. What they do is compare_tab.py's to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.compare.comparison import BALLOT, USUAL_TOKENS, Comparison
from playground.app.model_picker import ModelPickerService
from playground.chat.comparison import Mode
from playground.chat.prompts import ComparisonKind, ComparisonPrompt
from playground.web.html.compare import beforehand_line, plain_line
from playground.web.html.page import empty_state
from playground.web.model_picker import PickerComponents, build_model_picker

GROUPS: Final = ("left", "right")
KIND_TITLES: Final[dict[ComparisonKind, str]] = {
    "instructions": "Following instructions",
    "tools": "Tool calls",
    "arithmetic": "Arithmetic in steps",
    "facts": "Facts",
    "long context": "Long texts",
    "code": "Code",
}
MODES: Final[list[tuple[str, Mode]]] = [("In turn", "in turn"), ("At once", "at once")]


@dataclass(frozen=True)
class PanePlace:
    """One pane: its picker, what it says, and how it goes."""

    picker: PickerComponents
    picker_place: gr.Column
    head: gr.HTML
    log: gr.Chatbot
    live: gr.HTML
    note: gr.HTML
    regenerate: gr.Button

    @property
    def drawn(self) -> list[Any]:
        return [self.head, self.log, self.live, self.note, self.regenerate, self.picker_place]


@dataclass(frozen=True)
class CompareSettings:
    """What both sides share; the order of `all` is that of `wish`."""

    system: gr.Textbox
    temperature: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number
    mode: gr.Radio
    blind: gr.Checkbox

    @property
    def all(self) -> list[Any]:
        return [self.system, self.temperature, self.max_tokens, self.seed, self.mode, self.blind]


@dataclass(frozen=True)
class CompareTab:
    """The components that the rest of the app, and its tests, touch."""

    panes: tuple[PanePlace, PanePlace]
    settings: CompareSettings
    beforehand: gr.HTML
    duel: gr.State
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    problem: gr.HTML
    examples: list[tuple[gr.Button, ComparisonPrompt]]
    look_for: gr.HTML
    ballot_place: gr.Column
    ballot: list[gr.Button]
    differences: gr.HTML
    parting: gr.HTML
    twice: gr.Button
    control: gr.HTML
    score: gr.Button
    agreement: gr.HTML
    tally: gr.HTML
    export_votes: gr.Button
    clear: gr.Button
    save_markdown: gr.Button
    save_json: gr.Button
    copy_link: gr.Button
    link: gr.Textbox
    saved: gr.Textbox

    @property
    def choices(self) -> list[Any]:
        return [*self.panes[0].picker.choice, *self.panes[1].picker.choice]

    @property
    def drawn(self) -> list[Any]:
        return [
            self.duel, *self.panes[0].drawn, *self.panes[1].drawn, self.problem, self.differences, self.parting,
            self.control, self.agreement, self.tally, self.send, self.stop, self.ballot_place,
            *self.next_steps, *self.after_answers,
        ]  # fmt: skip

    @property
    def growing(self) -> list[Any]:
        """What changes many times a second while levels are made, models load or answers are written."""
        places = [part for pane in self.panes for part in (pane.head, pane.log, pane.live, pane.note)]
        return [*places, self.panes[0].picker.models_changed]

    @property
    def next_steps(self) -> list[gr.Button]:
        """What can be asked about two answers; not shown before."""
        return [self.twice, self.score]

    @property
    def after_answers(self) -> list[gr.Button]:
        """What can only be used once both have answered and nothing is hidden."""
        return [self.save_markdown, self.save_json]


def build_compare_tab(
    service: ModelPickerService,
    examples: Sequence[ComparisonPrompt],
    usual_mode: Mode,
    most_tokens: int = 4096,
    tab_seconds: float | None = None,
) -> CompareTab:
    """Two panes beside each other, on a phone one below the other; the question and what came of it under them."""
    with gr.Column(elem_classes="gp-compare"):
        duel = gr.State(Comparison(), time_to_live=tab_seconds)
        with gr.Row(elem_classes="gp-panes"):
            left, right = (_lay_out_pane(service, group, place) for place, group in enumerate(GROUPS))
        with gr.Column(visible=False, elem_classes="gp-ballot", elem_id="compare-ballot") as ballot_place:
            gr.HTML('<p class="gp-ballot-question">Which answer is better?</p>', apply_default_css=False)
            with gr.Row(elem_classes="gp-ballot-row"):
                ballot = [gr.Button(word, elem_id=f"compare-vote-{n}") for n, word in enumerate(BALLOT, 1)]
        problem = _html("", "compare-problem")
        with gr.Row(elem_classes="gp-input"):
            message = gr.Textbox(
                label="One question for both", show_label=False, placeholder="One question for both", lines=1,
                max_lines=8, container=False, elem_id="compare-message",
            )  # fmt: skip
            send = gr.Button("Ask both", variant="primary", elem_id="compare-send", scale=0)
            stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", scale=0, visible=False)
        with gr.Row(elem_classes="gp-tools"):
            clear = _tool("Clear", "clear")
            save_markdown = _tool("Save as Markdown", "save-markdown", interactive=False)
            save_json = _tool("Save as JSON", "save-json", interactive=False)
            copy_link = _tool("Copy link", "copy-link")
        link = gr.Textbox(
            visible=False, label="Link to this set-up", interactive=False, elem_id="compare-link", max_lines=1
        )
        with gr.Row(elem_classes="gp-how"):
            mode = gr.Radio(MODES, value=usual_mode, label="The two answer", elem_id="compare-mode")
            blind = gr.Checkbox(
                label="Blind", info="Names hidden, sides shuffled, until you vote.", elem_id="compare-blind"
            )
        beforehand = _html(beforehand_line(usual_mode, None), "compare-beforehand")
        chips = _lay_out_examples(examples)
        settings = _lay_out_settings(most_tokens, mode, blind)
        look_for = _html("", "compare-look-for")
        differences = _html("", "compare-differences")
        twice = _tool("Run the same model twice", "twice", visible=False, elem_classes="gp-next")
        control = _html("", "compare-control")
        parting = _html("", "compare-parting")
        score = _tool("How much does B disagree with A’s answer?", "score", visible=False, elem_classes="gp-next")
        agreement = _html("", "compare-agreement", js_on_load=TOKENS_JS)
        with gr.Accordion("Votes so far", open=False, elem_id="compare-votes", elem_classes="gp-more"):
            tally = _html("", "compare-tally")
            export_votes = _tool("Save the votes as CSV", "export-votes")
        saved = gr.Textbox(visible="hidden", elem_id="compare-saved")
    return CompareTab(
        (left, right), settings, beforehand, duel, message, send, stop, problem, chips, look_for, ballot_place, ballot,
        differences, parting, twice, control, score, agreement, tally, export_votes, clear, save_markdown, save_json,
        copy_link, link, saved,
    )  # fmt: skip


# One token is in the tab order, the arrows go from token to token; what has the focus or the mouse fills the panel.
TOKENS_JS: Final = """
const row = (item, side) => {
  const line = document.createElement('li');
  const word = document.createElement('b');
  word.textContent = item[0];
  const bar = document.createElement('span');
  bar.className = 'gp-share-track';
  const fill = document.createElement('span');
  fill.className = 'gp-share-' + side;
  fill.style.width = (100 * item[1]).toFixed(1) + '%';
  bar.append(fill);
  const share = document.createElement('span');
  share.textContent = item[2];
  line.append(word, bar, share);
  return line;
};
const show = token => {
  const panel = element.querySelector('.gp-top-five');
  if (!panel) return;
  const facts = JSON.parse(token.dataset.top);
  panel.querySelector('.gp-top-word').textContent = facts.said;
  for (const side of ['a', 'b'])
    panel.querySelector('.gp-top-' + side).replaceChildren(...facts[side].map(item => row(item, side)));
  element.querySelectorAll('.gp-token[aria-current]').forEach(other => other.removeAttribute('aria-current'));
  token.setAttribute('aria-current', 'true');
};
const tokenOf = event => event.target.closest?.('.gp-token');
element.addEventListener('mouseover', event => { const token = tokenOf(event); if (token) show(token); });
element.addEventListener('click', event => { const token = tokenOf(event); if (token) token.focus(); });
element.addEventListener('focusin', event => {
  const token = tokenOf(event);
  if (!token) return;
  element.querySelectorAll('.gp-token[tabindex="0"]').forEach(other => other.setAttribute('tabindex', '-1'));
  token.setAttribute('tabindex', '0');
  show(token);
});
element.addEventListener('keydown', event => {
  const token = tokenOf(event);
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10};
  if (!token || !(event.key in steps || event.key === 'Home' || event.key === 'End')) return;
  const all = [...element.querySelectorAll('.gp-token')];
  const place = all.indexOf(token) + (steps[event.key] || 0);
  const goal = event.key === 'Home' ? 0 : event.key === 'End' ? all.length - 1 : place;
  all[Math.min(Math.max(goal, 0), all.length - 1)].focus();
  event.preventDefault();
});
"""


def _html(value: str, elem_id: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id, **more)


def _tool(label: str, name: str, **more: Any) -> gr.Button:
    return gr.Button(label, size="sm", elem_id=f"compare-{name}", **more)


def _lay_out_pane(service: ModelPickerService, group: str, place: int) -> PanePlace:
    letter = "AB"[place]
    with gr.Column(elem_classes="gp-pane", elem_id=f"compare-pane-{letter.lower()}"):
        head = _html(
            f'<div class="gp-pane-head"><span class="gp-letter">{letter}</span></div>', f"compare-head-{group}"
        )
        with gr.Column(elem_classes="gp-pane-picker") as picker_place:
            picker = build_model_picker(service, group)
        log = gr.Chatbot(
            label=f"Answers of {letter}", show_label=False, elem_id=f"compare-log-{group}",
            elem_classes=["gp-log", "gp-pane-log"], layout="bubble",
            placeholder=empty_state("", "Ask below, or take one of the questions there."), buttons=["copy"],
            latex_delimiters=[], feedback_options=None, group_consecutive_messages=False, allow_tags=False,
        )  # fmt: skip
        live = _html(plain_line("The speed will show here", "rests"), f"compare-live-{group}")
        note = _html("", f"compare-note-{group}")
        with gr.Row(elem_classes="gp-tools"):
            regenerate = gr.Button(
                f"Regenerate {letter}", size="sm", interactive=False, elem_id=f"compare-regenerate-{group}"
            )
    return PanePlace(picker, picker_place, head, log, live, note, regenerate)


def _lay_out_examples(prompts: Sequence[ComparisonPrompt]) -> list[tuple[gr.Button, ComparisonPrompt]]:
    """A row for each kind of ability that quantization harms."""
    chips: list[tuple[gr.Button, ComparisonPrompt]] = []
    with gr.Column(elem_classes="gp-examples", elem_id="compare-examples"):
        for kind in dict.fromkeys(prompt.kind for prompt in prompts):
            with gr.Row(elem_classes="gp-example-row"):
                gr.HTML(f'<p class="gp-example-title">{KIND_TITLES[kind]}</p>', apply_default_css=False)
                for prompt in prompts:
                    if prompt.kind == kind:
                        name = f"compare-example-{len(chips) + 1}"
                        chips.append((gr.Button(prompt.title, size="sm", elem_id=name), prompt))
    return chips


def _lay_out_settings(most_tokens: int, mode: gr.Radio, blind: gr.Checkbox) -> CompareSettings:
    with gr.Accordion("How both answer", open=False, elem_id="compare-settings", elem_classes="gp-more"):
        return CompareSettings(
            system=gr.Textbox(
                label="System text", info="What both are told before the chat begins.", lines=3, max_lines=8,
                elem_id="compare-system",
            ),
            temperature=gr.Slider(
                0, 2, value=0, step=0.05, label="Temperature",
                info="0 takes the likeliest word, so that what differs is the level and not the dice.",
                elem_id="compare-temperature",
            ),
            max_tokens=gr.Slider(
                16, most_tokens, value=min(USUAL_TOKENS, most_tokens), step=16, label="Longest reply",
                info="In tokens.", elem_id="compare-max-tokens",
            ),
            seed=gr.Number(
                label="Seed", info="The same dice for both; -1 throws new ones for each question.", value=-1,
                precision=0, minimum=-1, maximum=2**32 - 2, elem_id="compare-seed",
            ),
            mode=mode,
            blind=blind,
        )  # fmt: skip
