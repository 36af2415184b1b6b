"""The Measure tab: what every level of a model costs, measured here in the background and shown in one picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr

from playground.app.measure.service import MeasureService, ResultsView
from playground.app.messages import log_refusal
from playground.errors import PlaygroundError, RequestRefused
from playground.measure.export import export_csv, export_json, export_markdown
from playground.measure.results import ABILITIES, ResultRow, imports_of
from playground.text_format import counted
from playground.web.html.measure.picture import picture
from playground.web.html.measure.profile import speed_profile
from playground.web.html.measure.results import answers, runs, table
from playground.web.html.page import error_card, notice, paragraph
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import is_upload
from playground.web.streaming import Updates, Values
from playground.web.tabs.measure.answers import AnswersPart, build_answers_part, draw_answers, wire_answers_part
from playground.web.tabs.measure.plan import PlanPart, build_plan_part, choice_of, draw_estimate, draw_plan, read_plans
from playground.web.widgets import button_rows, hidden_text, markup_place, save_file_js

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 5.0  # between two looks at the runs
_FORMS: Final = (
    ("CSV", "measurements.csv", "text/csv"),
    ("JSON", "measurements.json", "application/json"),
    ("Markdown", "measurements.md", "text/markdown"),
)


@dataclass(frozen=True)
class MeasureTab:
    """The tab's components. drawn, drawn_runs: what the page shows already, so that a look without news
    draws nothing, and what is unfolded stays so."""

    tab: gr.Tab
    plan: PlanPart
    start: gr.Button
    message: gr.HTML
    runs: gr.HTML
    picture: gr.HTML
    table: gr.HTML
    profile: gr.HTML
    answers: gr.HTML
    grid: AnswersPart
    saving: gr.Row  # shown where there is something to save
    exports: tuple[gr.Button, ...]
    drop: gr.File
    saved: gr.Textbox
    timer: gr.Timer
    drawn: gr.State
    drawn_runs: gr.State

    @property
    def run_list(self) -> list[Any]:
        """What `draw_runs` may change."""
        return [self.runs, self.timer, self.drawn_runs]

    @property
    def results(self) -> list[Any]:
        return [self.picture, self.table, self.profile, self.saving, self.drawn]


# --- lay out ---


def build_measure_tab(tab: gr.Tab, service: MeasureService) -> MeasureTab:
    """Inside the tab that is open: what to measure on the left, what came of it on the right; one column on a phone."""
    is_local = not service.settings.on_space
    with gr.Row(elem_classes="gp-measure"):
        with gr.Column(elem_classes="gp-measure-side gp-picker"):
            plan = build_plan_part()
            start = gr.Button("Measure", variant="primary", elem_id="measure-start")
            message = markup_place("measure-said")
            rows = button_rows("", "measure-runs")
        with gr.Column(elem_classes="gp-measure-main"):
            drawing = markup_place("measure-picture", paragraph("Reading the measurements …"))
            figures = button_rows("", "measure-table")
            given = markup_place("measure-answers")
            profile = markup_place("measure-profile")
            with gr.Row(visible=False, elem_classes="gp-measure-buttons") as saving:
                exports = tuple(
                    gr.Button(f"Save as {form}", size="sm", scale=0, elem_id=f"measure-save-{form.lower()}")
                    for form, _, _ in _FORMS
                )
            grid = build_answers_part()
            drop = gr.File(
                label="Add somebody else’s JSON export", file_types=[".json"], height=112, visible=is_local,
                elem_id="measure-import",
            )  # fmt: skip
    saved = hidden_text("measure-saved")
    return MeasureTab(
        tab=tab, plan=plan, start=start, message=message, runs=rows, picture=drawing, table=figures, profile=profile,
        answers=given, grid=grid, saving=saving, exports=exports, drop=drop, saved=saved, timer=gr.Timer(_IDLE_SECONDS),
        drawn=gr.State(""), drawn_runs=gr.State(""),
    )  # fmt: skip


# --- react ---


def rows_of(view: ResultsView, model: object) -> list[ResultRow]:
    """The rows of a model, also those that were imported."""
    return [row for row in view.rows if row.key.model == model]


def draw_results(tab: MeasureTab, service: MeasureService, model: object, drawn: object = None) -> Updates:
    """Picture and table of a model; {} where the page shows them already."""
    view = service.results()
    rows = rows_of(view, model)
    stamp = f"{model} {[(row.key, [each.measured_at for each in row.by_what.values()]) for row in rows]}"
    if stamp == drawn and not view.problem:
        return {}
    top = error_card(view.problem) if view.problem else notice(view.notice, "warning") if view.notice else ""
    return {
        tab.picture: top + picture(rows, view.usable),
        tab.table: gr.HTML(value="", rows=table(rows)),
        tab.profile: speed_profile(rows),
        tab.saving: gr.Row(visible=bool(rows)),
        tab.drawn: stamp,
    }


def draw_runs(tab: MeasureTab, service: MeasureService, drawn: object = None) -> Updates:
    """The runs as they stand, and how soon to look again; {} where the page shows that already."""
    views = service.run_views()
    markup = str(runs(views))
    if markup == drawn:
        return {}
    is_busy = any(view.position is not None for view in views)
    return {
        tab.runs: gr.HTML(value="", rows=markup),
        tab.drawn_runs: markup,
        tab.timer: gr.Timer(_BUSY_SECONDS if is_busy else _IDLE_SECONDS),
    }


# --- wire ---


def wire_measure_tab(page: gr.Blocks, tab: MeasureTab, service: MeasureService) -> None:
    """Every event of the tab."""

    part = tab.plan

    def open_tab(values: Values) -> Updates:
        choice = choice_of(part, service, values)
        return {
            **draw_plan(part, service, values, choice),
            **draw_runs(tab, service),
            **draw_results(tab, service, choice.model),
            **draw_answers(tab.grid, service.answers, choice.model),
        }

    def choose_model(values: Values) -> Updates:
        if str(values[tab.drawn]).startswith(f"{values[part.model]} ["):
            return {tab.message: gr.skip()}  # a box of choices reports also when a person only leaves it
        choice = choice_of(part, service, values, other_model=True)
        return {
            **draw_plan(part, service, {**values, part.reference: None}, choice),
            **draw_results(tab, service, choice.model),
            **draw_answers(tab.grid, service.answers, choice.model),
            tab.answers: "",
            tab.message: "",
        }

    def choose_others(values: Values) -> Updates:
        return draw_plan(part, service, values, choice_of(part, service, values))

    def choose(values: Values) -> Updates:
        return draw_estimate(part, service, values)

    def start(request: gr.Request, values: Values) -> Updates:
        visitor = visitor_of(request, service.runs, "measure")
        try:
            for plan in read_plans(part, service, values):
                service.start_run(plan, visitor)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            return {tab.message: error_card(error), **draw_runs(tab, service)}
        said = notice("It runs in the background: you can leave this page, and find it here again.", "good")
        return {tab.message: said, **draw_runs(tab, service)}

    def change(request: gr.Request, action: str) -> Updates:
        visitor = visitor_of(request, service.runs, "measure")
        try:
            service.change_run(str(action), visitor)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            return {tab.message: error_card(error), **draw_runs(tab, service)}
        return {tab.message: "", **draw_runs(tab, service)}

    def watch(values: Values) -> Updates:
        news = draw_runs(tab, service, values[tab.drawn_runs])
        news |= draw_results(tab, service, values[part.model], values[tab.drawn])
        if not values[tab.grid.is_blind]:  # nothing changes under a voter
            news |= draw_answers(tab.grid, service.answers, values[part.model], values[tab.grid.drawn])
        return news or {tab.drawn: gr.skip()}

    def press_in_table(request: gr.Request, values: Values) -> Updates:
        rows = rows_of(service.results(), values[part.model])
        word, _, number = str(values[tab.table]).partition(" ")
        if word == "remove":
            return take_away(request, values[part.model], imports_of(rows), number)
        place = int(number) if word == "answers" and number.isdecimal() and len(number) < 6 else len(rows)
        if place >= len(rows):
            return {tab.answers: ""}
        measured = [row for row in rows if any(what in row.by_what for what in ABILITIES)]
        reference = next((row for row in measured if row.is_reference), measured[0] if measured else None)
        return {tab.answers: answers(rows[place], reference), tab.table: gr.HTML(value="")}

    def take_away(request: gr.Request, model: object, imports: list[str], number: str) -> Updates:
        try:
            for name in imports[int(number) :][:1] if number.isdecimal() and len(number) < 6 else ():
                service.remove_import(name)
        except PlaygroundError as error:
            log_refusal(error, visitor_of(request, service.runs, "measure"))
            return {tab.message: error_card(error), tab.table: gr.HTML(value="")}
        laid = {**draw_results(tab, service, model), **draw_answers(tab.grid, service.answers, model)}
        return {tab.answers: "", tab.message: "", **laid}

    def lay_beside(request: gr.Request, path: object, model: object) -> Updates:
        try:
            if not path or not is_upload(str(path)):
                raise RequestRefused("There is no file to import.", "Choose a JSON export of the Measure tab.")
            file = Path(str(path))
            count = service.import_file(file.stem, file.read_bytes())
        except (PlaygroundError, OSError, ValueError) as error:  # ValueError: no path at all
            shown = error if isinstance(error, PlaygroundError) else RequestRefused("The file cannot be read.")
            log_refusal(shown, visitor_of(request, service.runs, "measure"))
            return {tab.message: error_card(shown), tab.drop: None}
        said = notice(f"{counted(count, 'measurement')} of somebody else now stand beside yours.", "good")
        laid = {**draw_results(tab, service, model), **draw_answers(tab.grid, service.answers, model)}
        return {tab.message: said, tab.drop: None, **laid}

    opened = [*part.choice, *tab.run_list, *tab.results, *tab.grid.all]
    tab.tab.select(open_tab, part.inputs, opened, **_QUIET)
    part.model.input(
        choose_model, {*part.inputs, tab.drawn},
        [*part.choice, *tab.results, *tab.grid.all, tab.answers, tab.message],
        trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    part.others.input(choose_others, part.inputs, part.choice, trigger_mode="always_last", **_QUIET)
    gr.on(
        [*(box.input for box in part.boxes), part.text.change, part.prompts.change], choose, part.inputs,
        part.estimate, trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    tab.start.click(start, part.inputs, [tab.message, *tab.run_list], **_QUIET)
    tab.runs.input(change, tab.runs, [tab.message, *tab.run_list], **_QUIET)
    seen: set[Any] = {part.model, tab.drawn, tab.drawn_runs, tab.grid.is_blind, tab.grid.drawn}
    tab.timer.tick(watch, seen, [*tab.run_list, *tab.results, *tab.grid.all], **_QUIET)
    pressed = [tab.answers, tab.message, *tab.results, *tab.grid.all]
    tab.table.input(press_in_table, {part.model, tab.table}, pressed, **_QUIET)
    laid_beside = [tab.message, tab.drop, *tab.results, *tab.grid.all]
    tab.drop.upload(lay_beside, [tab.drop, part.model], laid_beside, **_QUIET)
    wire_answers_part(tab.grid, part.model, service.answers, service.runs)
    for button, (form, name, media_type) in zip(tab.exports, _FORMS, strict=True):
        save = button.click(_exported_as(form, service), part.model, tab.saved, queue=False, **_QUIET)
        save.then(None, tab.saved, None, js=save_file_js(name, media_type))


def _exported_as(form: str, service: MeasureService) -> Any:
    """What a model's rows are as a file of this form."""

    def export(model: object) -> str:
        rows = rows_of(service.results(), model)
        if form == "JSON":
            return json.dumps(export_json(rows), indent=1)
        return export_csv(rows) if form == "CSV" else export_markdown(rows)

    return export
