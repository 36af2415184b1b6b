"""Reads what a program sends to the API, where anything may come: each value possible, or refused with a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from playground.app.model_choice import MOST_CONTEXT
from playground.chat.conversation import Conversation
from playground.chat.history import HistoryLimits, check_chat, checked_text
from playground.engine.protocol import Sampling
from playground.errors import RequestRefused
from playground.llama.params import KV_TYPES, KvType

LONGEST_REFERENCE: Final = 1000  # characters of a model's name or path
MOST_SLOTS: Final = 64
MOST_TEMPERATURE: Final = 10.0
_MOST_SEED: Final = (1 << 32) - 2  # the highest number of 32 bits means "draw one" to llama.cpp


@dataclass(frozen=True)
class Question:
    """A conversation that ends with the question, and how it is to be answered; None where the usual holds."""

    conversation: Conversation
    sampling: Sampling
    context: int | None = None
    max_tokens: int | None = None

    @classmethod
    def read(
        cls,
        limits: HistoryLimits,
        prompt: object,
        system: object = "",
        history: object = None,
        context: object = None,
        max_tokens: object = None,
        temperature: object = None,
        seed: object = None,
    ) -> Question:
        """Raises RequestRefused for too much and for what has not the right form."""
        before = Conversation.from_untrusted({"system": text(system, "system"), "messages": history or []}, limits)
        conversation = before.with_question(checked_text(text(prompt, "prompt"), "The prompt", limits))
        check_chat(conversation.system, conversation.messages, limits)
        usual = Sampling()
        return cls(
            conversation,
            Sampling(
                temperature=usual.temperature if temperature is None else number(temperature, "temperature"),
                seed=None if seed is None else whole(seed, "seed", 0, _MOST_SEED),
            ),
            context_size(context),
            None if max_tokens is None else whole(max_tokens, "max_tokens", 1, MOST_CONTEXT),
        )

    @property
    def is_repeatable(self) -> bool:
        """Whether the same question has to get the same answer again."""
        return self.sampling.temperature == 0 or self.sampling.seed is not None


def reference(value: object) -> str:
    """What names a model."""
    name = text(value, "model").strip()
    if not name or len(name) > LONGEST_REFERENCE or not name.isprintable():
        raise RequestRefused("That names no model.", 'Name one, such as "starter" or "owner/repo:Q4_K_M".')
    return name


def text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RequestRefused(f"{name} has to be text.", "Send a string.")
    return value


def context_size(value: object) -> int | None:
    """In tokens; None where none was named."""
    return None if value is None else whole(value, "context", 1, MOST_CONTEXT)


def kv_type(value: object) -> KvType:
    if value not in KV_TYPES:
        raise RequestRefused(f"kv_type is none of {', '.join(KV_TYPES)}.", "Choose one of them.")
    return value


def whole(value: object, name: str, least: int, most: int) -> int:
    if isinstance(value, float) and value.is_integer():  # JSON knows one kind of number
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RequestRefused(f"{name} has to be a whole number from {least:,} to {most:,}.", "Choose another one.")
    return value


def number(value: object, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= cast(float, value) <= MOST_TEMPERATURE:
        raise RequestRefused(f"{name} has to be a number from 0 to {MOST_TEMPERATURE:g}.", "Choose another one.")
    return float(cast(float, value))
