"""What the model picker shows of a choice, and what of a wanted choice was replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from playground.app.model_picker.choice import ContextStep, LevelRow, ModelChoice
from playground.chat.template.thinking import ThinkingChoice
from playground.fit.budget import NO_MEMORY, Budget
from playground.fit.plan import MemoryPlan
from playground.fit.verdict import Verdict
from playground.quantize.quantize import QuantizedSize
from playground.text_format import count, one_line

_LONGEST_NAME: Final = 100  # characters of a name in a sentence


@dataclass(frozen=True)
class PickerView:
    """Everything that the picker shows.

    problem: a sentence to show where there is no plan. makeable: levels that can be made here from the level
    `made_from`; to_make: the chosen level, where it has to be made first. budget: what a load could use.
    thinking: what the model can be asked for, empty if its template knows nothing of thoughts.
    where: a sentence that says where it will run and why; "" where there is no GPU. has_experts: whether the model is a
    mixture of experts, None until it is known.
    """

    choice: ModelChoice
    models: tuple[tuple[str, str], ...]  # (name to show, value)
    model_name: str = ""
    levels: tuple[LevelRow, ...] = ()
    level_name: str = ""
    steps: tuple[ContextStep, ...] = ()
    budget: Budget = NO_MEMORY
    where: str = ""
    has_experts: bool | None = None
    plan: MemoryPlan | None = None
    verdict: Verdict | None = None
    problem: str = ""
    makeable: tuple[LevelRow, ...] = ()
    made_from: str = ""
    to_make: QuantizedSize | None = None
    thinking: tuple[ThinkingChoice, ...] = ()

    @property
    def usable(self) -> int:
        """Bytes of the computer's own memory that a load could use."""
        return self.budget.usable


def what_replaced(wanted: ModelChoice, view: PickerView, wanted_by: Literal["chat", "link"] = "chat") -> str:
    """What of a wanted choice is not available, and what is chosen instead, in a sentence; "" if all of it is."""
    got, is_link = view.choice, wanted_by == "link"
    if wanted.model is not None and wanted.model != got.model:
        model = one_line(wanted.model, _LONGEST_NAME)
        instead = f"; {view.model_name} {view.level_name} is chosen instead" if got.model else ""
        return f"{model}, the model of this {wanted_by}, is not on this computer{instead}."
    if wanted.level is not None and wanted.level != got.level:
        level = one_line(wanted.level, _LONGEST_NAME)
        where = "and cannot be made here" if is_link else "any more"
        return f"{level}, the level of this {wanted_by}, is not here {where}; {view.level_name} is chosen instead."
    if wanted.context_size and got.context_size and wanted.context_size != got.context_size:
        asked = "This link asks for" if is_link else "This chat had"
        return (
            f"{asked} a context of {count(wanted.context_size)} tokens, more than {view.model_name} takes; "
            f"{count(got.context_size)} are chosen instead."
        )
    ran_on = "This link asks for" if is_link else "This chat ran on"
    on_gpu = (wanted.device.gpu_layers or 0) != 0 or wanted.device.gpu is not None
    if view.plan and view.plan.context.placement.is_cpu_only and on_gpu and not view.budget.devices:
        return f"{ran_on} a GPU, and there is none here; the CPU is chosen instead."
    if wanted.device.gpu and not got.device.gpu:
        name = one_line(wanted.device.gpu, _LONGEST_NAME)
        return f"{ran_on} {name}, which is not a GPU of this computer; Automatic is chosen instead."
    return ""
