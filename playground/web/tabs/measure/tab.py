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
from playground.llama.params import KV_TYPES, DeviceChoice, KvType
from playground.measure.answers.prompts import prompt_lines
from playground.measure.export import export_csv, export_json, export_markdown
from playground.measure.plan import USUAL_KV, KvPair, MeasurementPlan
from playground.measure.results import ABILITIES, WHATS, ResultRow, What, imports_of
from playground.measure.texts import MOST_CHARACTERS
from playground.text_format import counted
from playground.web.html.measure.profile import speed_profile
from playground.web.html.measure.results import answers, estimate, level_choices, picture, runs, table
from playground.web.html.models import part_title
from playground.web.html.page import error_card, notice, paragraph
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import is_upload
from playground.web.streaming import Updates, Values
from playground.web.tabs.measure.answers import AnswersPart, build_answers_part, draw_answers, wire_answers_part
from playground.web.tabs.measure.choice import MeasureChoice, read_choice, words_in
from playground.web.widgets import button_rows, markup_place, save_file_js

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 5.0  # between two looks at the runs
_WHAT_CHOICES: Final[list[tuple[str, What]]] = [
    ("Fidelity: how close to the original", "fidelity"),
    ("Speed and memory", "speed"),
    ("How the speed holds: long contexts, chats, threads", "profile"),
    ("Instructions followed (65 tasks)", "instructions"),
    ("Tool calls (43 tasks)", "tools"),
    ("Sums and long texts (22 tasks)", "reasoning"),
    ("Answers to the same prompts, side by side", "answers"),
]
_DEPTHS: Final = [(f"{tokens:,} tokens", tokens) for tokens in (4096, 8192, 16384, 32768, 65536, 131072)]
_CHATS: Final = [1, 2, 4, 8, 16, 32]
_SERVER_CHOICE: Final[tuple[str, What]] = ("A server’s model beside them", "server")
_KV_CHOICES: Final[list[tuple[str, str]]] = [
    (k if k == v else f"K {k}, V {v}", f"{k}/{v}") for k in KV_TYPES for v in KV_TYPES
]
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
    model: gr.Dropdown
    levels: gr.CheckboxGroup
    whats: gr.CheckboxGroup
    reference: gr.Dropdown
    others: gr.Dropdown  # more models; hidden where there is one
    server_model: gr.Dropdown  # hidden where no server is known
    where: gr.Radio  # hidden where there is no GPU
    kv_types: gr.Dropdown
    deepest: gr.Dropdown
    chats: gr.Dropdown
    text: gr.File
    prompts: gr.File
    estimate: gr.HTML
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
    def choice(self) -> list[Any]:
        return [self.model, self.levels, self.whats, self.others, self.reference, self.server_model, self.where]

    @property
    def plan_inputs(self) -> set[Any]:
        chosen = {self.model, self.levels, self.whats, self.reference, self.kv_types, self.where}
        return {*chosen, self.others, self.deepest, self.chats, self.server_model, self.text, self.prompts}

    @property
    def results(self) -> list[Any]:
        return [self.picture, self.table, self.profile, self.saving, self.drawn]


# --- lay out ---


def build_measure_tab(tab: gr.Tab, service: MeasureService) -> MeasureTab:
    """Inside the tab that is open: what to measure on the left, what came of it on the right; one column on a phone."""
    is_local = not service.settings.on_space
    with gr.Row(elem_classes="gp-measure"):
        with gr.Column(elem_classes="gp-measure-side gp-picker"):
            gr.HTML(part_title("What a level costs"), apply_default_css=False)
            model = gr.Dropdown([], label="Model", interactive=True, elem_id="measure-model")
            levels = gr.CheckboxGroup([], label="Levels", interactive=True, elem_id="measure-levels")
            whats = gr.CheckboxGroup(
                _WHAT_CHOICES, value=["fidelity", "speed"], label="Measure", interactive=True, elem_id="measure-what"
            )
            with gr.Accordion("More settings", open=False, elem_classes="gp-more"):
                reference = gr.Dropdown(
                    [], label="Reference", info="The level that the others are compared with.", interactive=True,
                    elem_id="measure-reference",
                )  # fmt: skip
                others = gr.Dropdown(
                    [], multiselect=True, label="More models", visible=False, interactive=True,
                    info="Each is measured with its levels on this disk, in a run of its own.",
                    elem_id="measure-others",
                )  # fmt: skip
                server_model = gr.Dropdown(
                    [], label="Server’s model", visible=False, interactive=True, elem_id="measure-server-model",
                    info="It answers prompts, and each level says where it would have written another word. Its own "
                    "speed and abilities are measured where those of the levels are. A server sends no probabilities "
                    "of a whole vocabulary, so there is no KL divergence.",
                )  # fmt: skip
                kv_types = gr.Dropdown(
                    _KV_CHOICES, value=["f16/f16"], multiselect=True, label="KV cache", interactive=True,
                    info="Each type is measured for itself; the reference always reads with f16.",
                    elem_id="measure-kv",
                )  # fmt: skip
                deepest = gr.Dropdown(
                    _DEPTHS, value=8192, label="Longest context", interactive=True, elem_id="measure-deepest",
                    info="For how the speed holds; never longer than what the model was trained for.",
                )  # fmt: skip
                chats = gr.Dropdown(
                    _CHATS, value=4, label="Chats at once", interactive=True, elem_id="measure-chats",
                    info="For how the speed holds: up to so many at the same time.",
                )  # fmt: skip
                where = gr.Radio(
                    [("Automatic", "auto")], value="auto", label="Where it runs", visible=False, interactive=True,
                    elem_id="measure-where",
                )  # fmt: skip
                text = gr.File(
                    label="A text of your own, in place of our six",
                    file_types=[".txt", ".md"],
                    height=112,
                    elem_id="measure-text",
                )
                prompts = gr.File(
                    label="Prompts of your own, one in each line", file_types=[".txt", ".md"], height=112,
                    elem_id="measure-prompts",
                )  # fmt: skip
            told = markup_place("measure-estimate")
            start = gr.Button("Measure", variant="primary", elem_id="measure-start")
            message = markup_place("measure-said")
            rows = button_rows("", "measure-runs")
        with gr.Column(elem_classes="gp-measure-main"):
            drawing = markup_place("measure-picture", paragraph("Reading the measurements …"))
            figures = button_rows("", "measure-table")
            profile = markup_place("measure-profile")
            with gr.Row(visible=False, elem_classes="gp-measure-buttons") as saving:
                exports = tuple(
                    gr.Button(f"Save as {form}", size="sm", scale=0, elem_id=f"measure-save-{form.lower()}")
                    for form, _, _ in _FORMS
                )
            given = markup_place("measure-answers")
            grid = build_answers_part()
            drop = gr.File(
                label="Add somebody else’s JSON export", file_types=[".json"], height=112, visible=is_local,
                elem_id="measure-import",
            )  # fmt: skip
    saved = gr.Textbox(visible="hidden", elem_classes="gp-never", elem_id="measure-saved")
    return MeasureTab(
        tab=tab, model=model, levels=levels, whats=whats, reference=reference, kv_types=kv_types,
        others=others, deepest=deepest, chats=chats, server_model=server_model, where=where, text=text,
        prompts=prompts, estimate=told, start=start, message=message, runs=rows, picture=drawing, table=figures,
        profile=profile, answers=given, grid=grid, saving=saving, exports=exports, drop=drop, saved=saved,
        timer=gr.Timer(_IDLE_SECONDS), drawn=gr.State(""), drawn_runs=gr.State(""),
    )  # fmt: skip


# --- react ---


def read_plan(tab: MeasureTab, values: Values) -> MeasurementPlan:
    """The plan of what is chosen. Raises RequestRefused for a file that is no text, and for an impossible plan."""
    name, text = _read_text(values[tab.text])
    prompts_name, prompts = _read_text(values[tab.prompts])
    whats: tuple[What, ...] = tuple(what for what in WHATS if what in words_in(values[tab.whats]))
    return MeasurementPlan(
        model=str(values[tab.model] or ""),
        levels=tuple(words_in(values[tab.levels])),
        whats=whats,
        reference=str(values[tab.reference] or "") if "fidelity" in whats else "",
        kv_types=tuple(map(_kv_pair, words_in(values[tab.kv_types]))) or (USUAL_KV,),
        device=DeviceChoice.read(values[tab.where]).text,
        text_name=name,
        text=text,
        prompts_name=prompts_name,
        prompts=prompt_lines(prompts) if prompts_name else (),
        server_model=str(values[tab.server_model] or "") if "server" in whats else "",
        deepest=int(values[tab.deepest] or 8192),
        most_chats=int(values[tab.chats] or 4),
    )


def read_plans(tab: MeasureTab, service: MeasureService, values: Values) -> list[MeasurementPlan]:
    """The plan of the chosen model, and the same for each of the others. Raises as `read_plan` does."""
    plan = read_plan(tab, values)
    others = [name for name in words_in(values[tab.others]) if name != plan.model]
    return [plan, *(service.same_for(plan, name) for name in others)]


def _kv_pair(text: str) -> KvPair:
    k, _, v = text.partition("/")
    known: dict[str, KvType] = {name: name for name in KV_TYPES}
    if k not in known or v not in known:
        raise RequestRefused("That is no type of a KV cache.", f"Choose among {', '.join(KV_TYPES)}.")
    return known[k], known[v]


def _read_text(path: object) -> tuple[str, str]:
    """The name and the text of an uploaded file; two empty texts for none."""
    if not path:
        return "", ""
    file = Path(str(path))
    try:
        if not is_upload(file):
            raise RequestRefused("This file was not uploaded here.", "Choose it again.")
        data = file.read_bytes()[: 4 * MOST_CHARACTERS + 1]
        return file.name, data.decode("utf-8")
    except OSError as error:
        raise RequestRefused("The file is not here any more.", "Choose it again.") from error
    except ValueError as error:
        raise RequestRefused(f"{file.name[:80]} is not a text in UTF-8.", "Save it as UTF-8 first.") from error


def _with_choice(tab: MeasureTab, values: Values, choice: MeasureChoice) -> Values:
    """The inputs of a plan as they will be once the choice is drawn."""
    return {
        **values, tab.model: choice.model, tab.levels: choice.chosen, tab.reference: choice.reference,
        tab.server_model: choice.server_model, tab.others: choice.chosen_others,
    }  # fmt: skip


def draw_choice(tab: MeasureTab, choice: MeasureChoice) -> Updates:
    return {
        tab.model: gr.Dropdown(choices=choice.models, value=choice.model),
        tab.levels: gr.CheckboxGroup(choices=level_choices(choice.levels), value=choice.chosen),
        tab.reference: gr.Dropdown(choices=choice.here, value=choice.reference),
        tab.whats: gr.CheckboxGroup(choices=[*_WHAT_CHOICES, *([_SERVER_CHOICE] if choice.server_models else [])]),
        tab.others: gr.Dropdown(choices=choice.others, value=choice.chosen_others, visible=bool(choice.others)),
        tab.server_model: gr.Dropdown(
            choices=choice.server_models, value=choice.server_model, visible=bool(choice.server_models)
        ),
        tab.where: gr.Radio(choices=choice.places, visible=True) if choice.places else gr.Radio(visible=False),
    }


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


def draw_estimate(tab: MeasureTab, service: MeasureService, values: Values) -> Updates:
    """What the chosen run will take, or why it cannot be done."""
    if not values[tab.model]:
        return {tab.estimate: paragraph("There is no model to measure yet: get one in the Models tab.")}
    try:
        return {tab.estimate: estimate(service.estimate_runs(read_plans(tab, service, values)))}
    except PlaygroundError as error:
        return {tab.estimate: paragraph(str(error))}


# --- wire ---


def wire_measure_tab(page: gr.Blocks, tab: MeasureTab, service: MeasureService) -> None:
    """Every event of the tab."""

    def open_tab(values: Values) -> Updates:
        choice = read_choice(
            service, values[tab.model], values[tab.levels], values[tab.server_model], values[tab.others]
        )
        told = draw_estimate(tab, service, _with_choice(tab, values, choice))
        return {
            **draw_choice(tab, choice),
            **told,
            **draw_runs(tab, service),
            **draw_results(tab, service, choice.model),
            **draw_answers(tab.grid, service.answers, choice.model),
        }

    def choose_model(values: Values) -> Updates:
        if str(values[tab.drawn]).startswith(f"{values[tab.model]} ["):
            return {tab.message: gr.skip()}  # a box of choices reports also when a person only leaves it
        choice = read_choice(service, values[tab.model], None, values[tab.server_model], values[tab.others])
        told = draw_estimate(tab, service, _with_choice(tab, values, choice))
        drawn = {
            **told, **draw_results(tab, service, choice.model), **draw_answers(tab.grid, service.answers, choice.model)
        }  # fmt: skip
        return {**draw_choice(tab, choice), **drawn, tab.answers: "", tab.message: ""}

    def choose(values: Values) -> Updates:
        return draw_estimate(tab, service, values)

    def start(request: gr.Request, values: Values) -> Updates:
        visitor = visitor_of(request, service.runs, "measure")
        try:
            for plan in read_plans(tab, service, values):
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
        news |= draw_results(tab, service, values[tab.model], values[tab.drawn])
        if not values[tab.grid.is_blind]:  # nothing changes under a voter
            news |= draw_answers(tab.grid, service.answers, values[tab.model], values[tab.grid.drawn])
        return news or {tab.drawn: gr.skip()}

    def press_in_table(request: gr.Request, values: Values) -> Updates:
        rows = rows_of(service.results(), values[tab.model])
        word, _, number = str(values[tab.table]).partition(" ")
        if word == "remove":
            return take_away(request, values[tab.model], imports_of(rows), number)
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

    opened = [*tab.choice, tab.estimate, *tab.run_list, *tab.results, *tab.grid.all]
    plan = tab.plan_inputs
    tab.tab.select(open_tab, plan, opened, **_QUIET)
    tab.model.input(
        choose_model, {*plan, tab.drawn},
        [*tab.choice, tab.estimate, *tab.results, *tab.grid.all, tab.answers, tab.message],
        trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    boxes = (tab.levels, tab.whats, tab.reference, tab.others, tab.server_model, tab.kv_types, tab.deepest, tab.chats)
    chosen = [box.input for box in (*boxes, tab.where)]
    gr.on(
        [*chosen, tab.text.change, tab.prompts.change], choose, plan, tab.estimate, trigger_mode="always_last",
        **_QUIET,
    )  # fmt: skip
    tab.start.click(start, plan, [tab.message, *tab.run_list], **_QUIET)
    tab.runs.input(change, tab.runs, [tab.message, *tab.run_list], **_QUIET)
    seen: set[Any] = {tab.model, tab.drawn, tab.drawn_runs, tab.grid.is_blind, tab.grid.drawn}
    tab.timer.tick(watch, seen, [*tab.run_list, *tab.results, *tab.grid.all], **_QUIET)
    pressed = [tab.answers, tab.message, *tab.results, *tab.grid.all]
    tab.table.input(press_in_table, {tab.model, tab.table}, pressed, **_QUIET)
    laid_beside = [tab.message, tab.drop, *tab.results, *tab.grid.all]
    tab.drop.upload(lay_beside, [tab.drop, tab.model], laid_beside, **_QUIET)
    wire_answers_part(tab.grid, tab.model, service.answers, service.runs)
    for button, (form, name, media_type) in zip(tab.exports, _FORMS, strict=True):
        save = button.click(_exported_as(form, service), tab.model, tab.saved, queue=False, **_QUIET)
        save.then(None, tab.saved, None, js=save_file_js(name, media_type))


def _exported_as(form: str, service: MeasureService) -> Any:
    """What a model's rows are as a file of this form."""

    def export(model: object) -> str:
        rows = rows_of(service.results(), model)
        if form == "JSON":
            return json.dumps(export_json(rows), indent=1)
        return export_csv(rows) if form == "CSV" else export_markdown(rows)

    return export
