"""What a program sends to the API, where anything may come: checked by pydantic, or refused with a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from playground.chat.conversation import Conversation
from playground.chat.history import HistoryLimits, check_chat, checked_text
from playground.errors import RequestRefused
from playground.llama.params import AUTOMATIC, AUTOMATIC_CHOICE, KV_TYPES, MOST_CONTEXT, DeviceChoice, KvType
from playground.llama.sampling_extras import Sampling

LONGEST_REFERENCE: Final = 1000  # characters of a model's name or path
MOST_SLOTS: Final = 64
MOST_LAYERS: Final = 1024
_MOST_SEED: Final = (1 << 32) - 2  # with the highest number of 32 bits, llama.cpp draws a seed itself


def _check_reference(text: str) -> str:
    name = text.strip()
    if not name or len(name) > LONGEST_REFERENCE or not name.isprintable():
        raise ValueError("not a name")
    return name


def _without_point(value: object) -> object:
    """JSON knows one kind of number, so that 3 may come as 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _whole_number(least: int, most: int) -> Any:
    return Field(None, ge=least, le=most, description=f"a whole number from {least:,} to {most:,}")


_Whole = Annotated[int, BeforeValidator(_without_point)]


class ApiValues(BaseModel):
    """The parameters of all endpoints but the history, whose checks history.py has. None: the default holds.

    A description completes the sentence "… has to be" of a refusal.
    """

    model_config = ConfigDict(strict=True)

    model: Annotated[str, AfterValidator(_check_reference)] = Field(
        "", description='the name of a model, such as "starter" or "owner/repo:Q4_K_M"'
    )
    prompt: str = Field("", description="text")
    system: str = Field("", description="text")
    context: _Whole | None = _whole_number(1, MOST_CONTEXT)
    max_tokens: _Whole | None = _whole_number(1, MOST_CONTEXT)
    temperature: float | None = Field(None, ge=0, le=10, allow_inf_nan=False, description="a number from 0 to 10")
    seed: _Whole | None = _whole_number(0, _MOST_SEED)
    kv_type: KvType = Field("f16", description=f"one of {', '.join(KV_TYPES)}")
    slots: _Whole | None = _whole_number(1, MOST_SLOTS)
    device: Annotated[str, AfterValidator(_check_reference)] | None = Field(
        None, description='"auto", "cpu", or the name of a device of this computer'
    )
    gpu_layers: _Whole | None = _whole_number(0, MOST_LAYERS)
    cpu_moe: _Whole | None = _whole_number(0, MOST_LAYERS)

    @property
    def device_choice(self) -> DeviceChoice:
        return DeviceChoice(self.device or AUTOMATIC, self.gpu_layers, self.cpu_moe)


def read_values(**values: object) -> ApiValues:
    """Raises RequestRefused for the first value that is not possible."""
    try:
        return ApiValues.model_validate(values)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        description = ApiValues.model_fields[name].description
        raise RequestRefused(f"{name} has to be {description}.", "Send another value.") from None


@dataclass(frozen=True)
class Question:
    """A conversation that ends with the question, and how to answer it; None where the default holds."""

    conversation: Conversation
    sampling: Sampling
    context: int | None = None
    max_tokens: int | None = None
    device: DeviceChoice = AUTOMATIC_CHOICE

    @classmethod
    def read(cls, limits: HistoryLimits, *, history: object = None, **values: object) -> Question:
        """Raises RequestRefused for what is too long or not possible."""
        read = read_values(**values)
        before = Conversation.from_untrusted({"system": read.system, "messages": history or []}, limits)
        conversation = before.with_question(checked_text(read.prompt, "The prompt", limits))
        check_chat(conversation.system, conversation.messages, limits)
        sampling = Sampling(seed=read.seed)
        if read.temperature is not None:
            sampling = Sampling(temperature=read.temperature, seed=read.seed)
        return cls(conversation, sampling, read.context, read.max_tokens, read.device_choice)

    @property
    def is_repeatable(self) -> bool:
        """Whether the same question has to get the same answer again."""
        return self.sampling.temperature == 0 or self.sampling.seed is not None
