"""The part of the Measure tab with the answers of all levels to the same prompts: to read, or to vote on blind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import gradio as gr

from playground.app.measure.answers import AnswerGrids
from playground.app.messages import log_refusal
from playground.errors import PlaygroundError
from playground.limits.runs import Runs
from playground.measure.votes import BALLOT_WORDS
from playground.web.html.measure.answers import answers_grid, voting_sheet
from playground.web.html.page import error_card
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Updates, Values
from playground.web.widgets import hidden_text, key_rows, markup_place, save_file_js

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_FORMS: Final[tuple[tuple[Literal["Markdown", "JSON"], str, str], ...]] = (
    ("Markdown", "answers.md", "text/markdown"),
    ("JSON", "answers.json", "application/json"),
)


@dataclass(frozen=True)
class AnswersPart:
    """shown: the grid or the sheet. is_blind: which of the two. drawn: what the page shows already."""

    shown: gr.HTML
    message: gr.HTML
    saving: gr.Row
    saves: tuple[gr.Button, ...]
    saved: gr.Textbox
    is_blind: gr.State
    drawn: gr.State

    @property
    def all(self) -> list[Any]:
        """What `draw_answers` may change."""
        return [self.shown, self.saving, self.is_blind, self.drawn]


def build_answers_part() -> AnswersPart:
    shown = key_rows("measure-grid")
    message = markup_place("measure-grid-said")
    with gr.Row(visible=False, elem_classes="gp-measure-buttons") as saving:
        saves = tuple(
            gr.Button(f"Answers as {form}", size="sm", scale=0, elem_id=f"measure-grid-save-{form.lower()}")
            for form, _, _ in _FORMS
        )
    saved = hidden_text("measure-grid-saved")
    return AnswersPart(shown, message, saving, saves, saved, gr.State(False), gr.State(""))


def draw_answers(part: AnswersPart, grids: AnswerGrids, model: object, drawn: object = None) -> Updates:
    """The grid of a model; {} where the page shows it already. The table above reports an unreadable store."""
    try:
        grid = grids.grid(str(model or ""))
    except PlaygroundError:
        return {}
    stamp = f"{model} {grid.digest} {[each.measured_at for each in grid.measurements]}" if grid else f"{model}"
    if stamp == drawn:
        return {}
    markup = answers_grid(grid, grids.tallies(grid)) if grid else ""
    return {
        part.shown: gr.HTML(value="", rows=markup),
        part.saving: gr.Row(visible=grid is not None),
        part.is_blind: False,
        part.drawn: stamp,
    }


def wire_answers_part(part: AnswersPart, model: gr.Dropdown, grids: AnswerGrids, runs: Runs) -> None:
    """Voting and saving; the tab draws the grid when it opens, and when answers arrive."""

    def act(request: gr.Request, values: Values) -> Updates:
        """`blind`, `read`, `vote 2 17`: the second word of the ballot, after 17 votes, or `back 18`: the last of 18."""
        word, *numbers = str(values[part.shown]).split(" ")
        name = str(values[model] or "")
        if word == "read":
            return {**draw_answers(part, grids, name), part.message: ""}
        visitor = visitor_of(request, runs, "measure")
        try:
            if word == "back" and len(numbers) == 1 and numbers[0].isdecimal() and len(numbers[0]) < 8:
                sheet = grids.take_back_vote(name, visitor, int(numbers[0]))
            elif word == "vote" and len(numbers) == 2 and all(each.isdecimal() and len(each) < 8 for each in numbers):
                choice = int(numbers[0])
                chosen = BALLOT_WORDS[choice - 1] if 0 < choice <= len(BALLOT_WORDS) else ""
                sheet = grids.cast_vote(name, visitor, chosen, int(numbers[1]))
            else:
                sheet = grids.sheet(name, visitor)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            return {part.shown: gr.HTML(value=""), part.message: error_card(error)}
        markup = voting_sheet(sheet, grids.tallies(sheet.grid))
        return {
            part.shown: gr.HTML(value="", rows=markup), part.saving: gr.Row(visible=False), part.is_blind: True,
            part.message: "",
        }  # fmt: skip

    # A key that is pressed while the vote before it is still under way counts, too; a vote names the pair it is on.
    part.shown.input(act, {part.shown, model}, [*part.all, part.message], trigger_mode="multiple", **_QUIET)
    for button, (form, name, media_type) in zip(part.saves, _FORMS, strict=True):
        save = button.click(_exported_as(form, part, grids), model, [part.saved, part.message], queue=False, **_QUIET)
        save.success(None, part.saved, None, js=save_file_js(name, media_type))


def _exported_as(form: Literal["Markdown", "JSON"], part: AnswersPart, grids: AnswerGrids) -> Callable[[Any], Updates]:
    def export(model: object) -> Updates:
        try:
            return {part.saved: grids.export(str(model or ""), form), part.message: ""}
        except PlaygroundError as error:
            return {part.saved: "", part.message: error_card(error)}

    return export
