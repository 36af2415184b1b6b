"""The left side of the Measure tab: what is measured of which levels, as a plan, and what that will take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr

from playground.app.measure.service import MeasureService
from playground.errors import PlaygroundError, RequestRefused
from playground.llama.params import KV_TYPES, DeviceChoice, KvType
from playground.measure.answers.prompts import prompt_lines
from playground.measure.plan import USUAL_KV, KvPair, MeasurementPlan
from playground.measure.results import WHATS, What
from playground.measure.texts import MOST_CHARACTERS
from playground.web.html.measure.results import estimate, level_choices
from playground.web.html.models import part_title
from playground.web.html.page import paragraph
from playground.web.server.uploads import is_upload
from playground.web.streaming import Updates, Values
from playground.web.tabs.measure.choice import MeasureChoice, levels_of, read_choice, words_in
from playground.web.widgets import markup_place

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


@dataclass(frozen=True)
class PlanPart:
    """The boxes that make a plan."""

    model: gr.Dropdown
    levels: gr.CheckboxGroup
    whats: gr.CheckboxGroup
    reference: gr.Dropdown
    others: gr.Dropdown  # more models; hidden where there is one
    other_levels: gr.CheckboxGroup  # of them; hidden where none is chosen
    server_model: gr.Dropdown  # hidden where no server is known
    where: gr.Radio  # hidden where there is no GPU
    kv_types: gr.Dropdown
    deepest: gr.Dropdown
    chats: gr.Dropdown
    text: gr.File
    prompts: gr.File
    estimate: gr.HTML

    @property
    def choice(self) -> list[Any]:
        """What `draw_plan` may change."""
        of_models = [self.model, self.levels, self.others, self.other_levels, self.reference, self.server_model]
        return [*of_models, self.whats, self.where, self.estimate]

    @property
    def boxes(self) -> list[Any]:
        """Those in which a person chooses, but for the models and the files."""
        chosen = [self.levels, self.other_levels, self.whats, self.reference, self.server_model, self.kv_types]
        return [*chosen, self.deepest, self.chats, self.where]

    @property
    def inputs(self) -> set[Any]:
        """What `read_plan` reads."""
        return {self.model, self.others, *self.boxes, self.text, self.prompts}


def build_plan_part() -> PlanPart:
    gr.HTML(part_title("What a level costs"), apply_default_css=False)
    model = gr.Dropdown([], label="Model", interactive=True, elem_id="measure-model")
    levels = gr.CheckboxGroup([], label="Levels", interactive=True, elem_id="measure-levels")
    others = gr.Dropdown(
        [], multiselect=True, label="More models", visible=False, interactive=True, elem_id="measure-others",
        info="The same is measured of each, in a run and against a reference of its own.",
    )  # fmt: skip
    other_levels = gr.CheckboxGroup(
        [], label="Levels of these models", visible=False, interactive=True, elem_id="measure-other-levels"
    )
    whats = gr.CheckboxGroup(
        _WHAT_CHOICES, value=["fidelity", "speed"], label="Measure", interactive=True, elem_id="measure-what"
    )
    with gr.Accordion("More settings", open=False, elem_classes="gp-more"):
        reference = gr.Dropdown(
            [], label="Reference", info="The level that the others are compared with.", interactive=True,
            elem_id="measure-reference",
        )  # fmt: skip
        server_model = gr.Dropdown(
            [], label="Server’s model", visible=False, interactive=True, elem_id="measure-server-model",
            info="It answers prompts, and each level says where it would have written another word. Its own "
            "speed and abilities are measured where those of the levels are. It sends only its twenty most likely "
            "tokens, so the KL divergence from it is a lower bound.",
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
    return PlanPart(
        model=model, levels=levels, whats=whats, reference=reference, others=others, other_levels=other_levels,
        server_model=server_model, where=where, kv_types=kv_types, deepest=deepest, chats=chats, text=text,
        prompts=prompts, estimate=told,
    )  # fmt: skip


def read_plan(part: PlanPart, values: Values) -> MeasurementPlan:
    """The plan of what is chosen. Raises RequestRefused for a file that is no text, and for an impossible plan."""
    name, text = _read_text(values[part.text])
    prompts_name, prompts = _read_text(values[part.prompts])
    whats: tuple[What, ...] = tuple(what for what in WHATS if what in words_in(values[part.whats]))
    return MeasurementPlan(
        model=str(values[part.model] or ""),
        levels=tuple(words_in(values[part.levels])),
        whats=whats,
        reference=str(values[part.reference] or "") if "fidelity" in whats else "",
        kv_types=tuple(map(_kv_pair, words_in(values[part.kv_types]))) or (USUAL_KV,),
        device=DeviceChoice.read(values[part.where]).text,
        text_name=name,
        text=text,
        prompts_name=prompts_name,
        prompts=prompt_lines(prompts) if prompts_name else (),
        server_model=str(values[part.server_model] or "") if "server" in whats else "",
        deepest=int(values[part.deepest] or 8192),
        most_chats=int(values[part.chats] or 4),
    )


def read_plans(part: PlanPart, service: MeasureService, values: Values) -> list[MeasurementPlan]:
    """The plan of the chosen model, and the same for each of the others. Raises as `read_plan` does."""
    plan = read_plan(part, values)
    others = [name for name in words_in(values[part.others]) if name != plan.model]
    return [plan, *(service.same_for(plan, name, levels_of(name, values[part.other_levels])) for name in others)]


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


def choice_of(part: PlanPart, service: MeasureService, values: Values, *, other_model: bool = False) -> MeasureChoice:
    """What can be chosen, and what stays chosen. other_model: the model was chosen just now, so no level of it yet."""
    return read_choice(
        service, values[part.model], None if other_model else values[part.levels], values[part.server_model],
        values[part.others], values[part.other_levels],
    )  # fmt: skip


def draw_plan(part: PlanPart, service: MeasureService, values: Values, choice: MeasureChoice) -> Updates:
    """The boxes with what can be chosen now, and what the chosen run will take."""
    kept = values.get(part.reference)
    will_be = {
        **values, part.model: choice.model, part.levels: choice.chosen,
        part.reference: kept if kept in choice.here else choice.reference,
        part.server_model: choice.server_model, part.others: choice.chosen_others,
        part.other_levels: choice.chosen_other_levels,
    }  # fmt: skip
    return {**_draw_choice(part, choice, values, will_be), **draw_estimate(part, service, will_be)}


def _draw_choice(part: PlanPart, choice: MeasureChoice, sent: Values, will_be: Values) -> Updates:
    """What can be chosen. Only what becomes something else is written, so that a late drawing undoes no click."""

    def becomes(box: Any) -> dict[str, Any]:
        return {} if sent.get(box) == will_be[box] else {"value": will_be[box]}

    has_others, has_servers = bool(choice.others), bool(choice.server_models)
    return {
        part.model: gr.Dropdown(choices=choice.models, **becomes(part.model)),
        part.levels: gr.CheckboxGroup(choices=level_choices(choice.levels), **becomes(part.levels)),
        part.reference: gr.Dropdown(choices=choice.here, **becomes(part.reference)),
        part.whats: gr.CheckboxGroup(choices=[*_WHAT_CHOICES, *([_SERVER_CHOICE] if choice.server_models else [])]),
        part.others: gr.Dropdown(choices=choice.others, visible=has_others, **becomes(part.others)),
        part.other_levels: gr.CheckboxGroup(
            choices=choice.other_levels, visible=bool(choice.other_levels), **becomes(part.other_levels)
        ),
        part.server_model: gr.Dropdown(choices=choice.server_models, visible=has_servers, **becomes(part.server_model)),
        part.where: gr.Radio(choices=choice.places, visible=True) if choice.places else gr.Radio(visible=False),
    }


def draw_estimate(part: PlanPart, service: MeasureService, values: Values) -> Updates:
    """What the chosen run will take, or why it cannot be done."""
    if not values[part.model]:
        return {part.estimate: paragraph("There is no model to measure yet: get one in the Models part.")}
    try:
        return {part.estimate: estimate(service.estimate_runs(read_plans(part, service, values)))}
    except PlaygroundError as error:
        return {part.estimate: paragraph(str(error))}
