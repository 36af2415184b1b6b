"""What a model picker offers, as rows, and what a person has picked from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from playground.chat.template.thinking import AS_IT_LIKES, ThinkingChoice
from playground.llama.params import AUTOMATIC_CHOICE, KV_TYPES, MOST_CONTEXT, DeviceChoice, KvType
from playground.quantize.quantize import mxfp4_note

if TYPE_CHECKING:
    from playground.fit.verdict import Verdict
    from playground.gguf.header import GgufHeader
    from playground.measure.forecast import Forecast


@dataclass(frozen=True)
class LevelRow:
    """One level that can be picked. value: what the browser sends back for this row; size in bytes."""

    value: str
    name: str  # "Q4_K_M"
    size: int
    bits_per_weight: float | None  # measured: from the sizes in the tensor table
    summary: str  # one plain sentence
    verdict: Verdict | None  # None until it is known
    recommended: bool = False
    notes: tuple[str, ...] = ()
    forecast: Forecast | None = None  # None where it is not known
    is_elsewhere: bool = False  # on a server, whose file size and memory are unknown here


def experts_note(level: str, header: GgufHeader) -> str | None:
    """That experts stay MXFP4 at this level, in a sentence; None where there are none, and at MXFP4 itself.

    header: of the file, or of another level of the model.
    """
    return mxfp4_note(level) if header.keeps_mxfp4 else None


@dataclass(frozen=True)
class ContextStep:
    """One context size that can be picked, in tokens."""

    tokens: int
    fits: bool | None  # None until it is known
    is_largest: bool = False  # the largest size that fits


@dataclass(frozen=True)
class ModelChoice:
    """What a person has picked, None where the playground should choose. level: the value of a LevelRow."""

    model: str | None = None
    level: str | None = None
    context_size: int | None = None
    kv_type: KvType = "f16"
    device: DeviceChoice = AUTOMATIC_CHOICE
    thinking: ThinkingChoice = AS_IT_LIKES

    def with_settings_of(self, other: ModelChoice) -> ModelChoice:
        """The same model, run with what is not usual in the other choice."""
        usual = ModelChoice()
        return replace(
            self,
            context_size=other.context_size or self.context_size,
            kv_type=self.kv_type if other.kv_type == usual.kv_type else other.kv_type,
            device=self.device if other.device == usual.device else other.device,
            thinking=self.thinking if other.thinking == usual.thinking else other.thinking,
        )

    @classmethod
    def read(
        cls,
        model: object,
        level: object,
        context_size: object,
        kv_type: object,
        device: object = None,
        thinking: object = None,
    ) -> ModelChoice:
        """The choice from values that a browser sent; an impossible value becomes the default."""
        text = str(context_size or "")
        size = int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 9 else None
        return cls(
            model=model if isinstance(model, str) else None,
            level=level if isinstance(level, str) and level else None,
            context_size=size if size and size <= MOST_CONTEXT else None,
            kv_type=kv_type if kv_type in KV_TYPES else "f16",
            device=DeviceChoice.read(device),
            thinking=ThinkingChoice.read(thinking),
        )
