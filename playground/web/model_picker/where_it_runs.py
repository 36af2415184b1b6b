"""The part of the model picker that says where a model runs: Automatic, GPU, CPU only, or so many layers on the GPU.

With several GPUs one of them can be chosen, and of a mixture of experts the number of layers whose experts stay in RAM.
Where there is no GPU, nothing of it is shown. On a ZeroGPU Space the choice is its processor or the GPU it is lent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.model_picker.view import PickerView
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.limits.visitor import Visitor
from playground.llama.params import ALL_LAYERS, AUTOMATIC, CPU, ZEROGPU, DeviceChoice
from playground.web.html.page import paragraph
from playground.web.html.picker import gpu_rows
from playground.web.streaming import Updates, Values
from playground.web.widgets import radio_rows

MOST_LAYERS: Final = 1024
_USUAL_LAYERS: Final = 8
_CHOICES: Final = [
    ("Automatic: as much on the GPU as fits", "auto"),
    ("GPU: all layers", "gpu"),
    ("CPU only", "cpu"),
    ("Some layers on the GPU", "layers"),
]
_ON_ZEROGPU: Final = [("This Space's processor", "auto"), ("ZeroGPU: a GPU, lent for each reply", "zerogpu")]
_FASTER: Final = "A GPU writes faster; what does not fit into its memory runs on the CPU."
_NOT_SEEN: Final = (
    "A GPU writes faster; the processor takes over where none is free. Not seen on the real platform yet."
)
_EXPERTS: Final = "Most weights of this model are experts; a token reads few of them. Empty: as few as needed."


@dataclass(frozen=True)
class WhereItRuns:
    """The components. `choice` are those whose values `read_choice` reads."""

    box: gr.Accordion  # hidden where there is no GPU
    where: gr.Radio
    gpu: gr.HTML  # rows of the GPUs, where there are several; its value is "auto" or the name of one
    gpu_layers: gr.Number
    experts: gr.Number  # layers whose experts stay in RAM; hidden for models without experts
    zerogpu: gr.HTML | None  # what the visitor can expect of ZeroGPU; None where it is not offered

    @property
    def choice(self) -> list[Any]:
        return [self.where, self.gpu, self.gpu_layers, self.experts]

    def read_choice(self, values: Values) -> str:
        """What the browser sent, as the text of a DeviceChoice."""
        where = values[self.where]
        if where in (ZEROGPU, CPU):
            return str(where)
        layers = None
        if where == "gpu":
            layers = ALL_LAYERS
        elif where == "layers":
            layers = _whole(values[self.gpu_layers])
        gpu = values[self.gpu]
        name = gpu if isinstance(gpu, str) and DeviceChoice.can_read(gpu) else AUTOMATIC
        return DeviceChoice(name, layers, _whole(values[self.experts])).text

    def updates(self, view: PickerView, *, is_new: bool = False) -> Updates:
        """What a view of the picker changes. is_new: the choice too, because the page has made it for the visitor."""
        choice, gpus = view.choice.device, view.budget.devices
        named = choice.gpu or AUTOMATIC
        gpu: dict[str, Any] = {"rows": "" if choice.is_cpu else gpu_rows(gpus, named, f"{self.gpu.elem_id}-choice")}
        experts: dict[str, Any] = {}
        if view.has_experts is not None:
            experts["visible"] = view.has_experts and not choice.is_cpu
        written: Updates = {}
        if is_new:
            gpu["value"], experts["value"] = named, choice.experts_in_ram
            where, layers = _where_and_layers(choice)
            written = {self.where: where, self.gpu_layers: gr.Number(value=layers, visible=where == "layers")}
        box = gr.Accordion(visible=bool(gpus) or self.zerogpu is not None)
        return {self.box: box, self.gpu: gr.HTML(**gpu), self.experts: gr.Number(**experts), **written}


# --- lay out ---


def build_where_it_runs(group: str, *, on_zerogpu: bool) -> WhereItRuns:
    with gr.Accordion("Where it runs", open=False, visible=on_zerogpu, elem_classes="gp-more") as box:
        where = gr.Radio(
            _ON_ZEROGPU if on_zerogpu else _CHOICES,
            value="auto",
            label="Where it runs",
            info=_NOT_SEEN if on_zerogpu else _FASTER,
            elem_id=f"{group}-where",
        )
        zerogpu = gr.HTML("", apply_default_css=False, elem_id=f"{group}-zerogpu") if on_zerogpu else None
        gpu_layers = gr.Number(
            value=_USUAL_LAYERS, minimum=0, maximum=MOST_LAYERS, precision=0, label="Layers on the GPU", visible=False,
            elem_id=f"{group}-gpu-layers",
        )  # fmt: skip
        gpu = radio_rows("", f"{group}-gpu", AUTOMATIC)
        experts = gr.Number(
            value=None, minimum=0, maximum=MOST_LAYERS, precision=0, label="Layers whose experts stay in RAM",
            info=_EXPERTS, placeholder="Automatic", visible=False, elem_id=f"{group}-experts",
        )  # fmt: skip
    return WhereItRuns(box, where, gpu, gpu_layers, experts, zerogpu)


# --- react ---


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= MOST_LAYERS else None


def _where_and_layers(choice: DeviceChoice) -> tuple[str, int]:
    """The values of the radio buttons and of the number of layers for a choice."""
    if choice.is_zerogpu:
        return "zerogpu", 0
    if choice.is_cpu:
        return "cpu", 0
    if choice.gpu_layers is None:
        return "auto", _USUAL_LAYERS
    return ("gpu", _USUAL_LAYERS) if choice.gpu_layers == ALL_LAYERS else ("layers", choice.gpu_layers)


# --- wire ---


def wire_where_it_runs(parts: WhereItRuns, zerogpu: ZeroGpu | None, visitor: Callable[..., Visitor]) -> None:
    """The number of layers shows as soon as it is asked for; what is left of ZeroGPU, as soon as it is chosen."""
    parts.where.input(
        None, parts.where, parts.gpu_layers, js="where => ({__type__: 'update', visible: where === 'layers'})"
    )
    if parts.zerogpu is None or zerogpu is None:
        return
    offered = zerogpu

    def look(request: gr.Request, chosen: str) -> str:
        if chosen != ZEROGPU:
            return ""
        return paragraph(offered.problem or offered.outlook(visitor(request).person).sentence)

    parts.where.input(look, parts.where, parts.zerogpu, show_progress="hidden", api_visibility="private")
