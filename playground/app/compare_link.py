"""A comparison as the query of a link: which two models, which question, how; written here, and read with distrust.

Whatever a link says is looked up before it is used: a model or level that is not on offer becomes a sentence, never a
path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, get_args
from urllib.parse import urlencode

from playground.app.compare_state import CompareRequest
from playground.app.model_choice import ModelChoice
from playground.chat.compare import Mode
from playground.chat.history import HistoryLimits, checked_text
from playground.errors import RequestRefused
from playground.llama.params import KV_TYPES

SIDES: Final = ("left", "right")
LONGEST_LINK: Final = 16_000  # characters of a text in it: browsers and proxies take little more


@dataclass(frozen=True)
class LinkedSetup:
    """What a link asks for; choices and mode None where it says nothing of them.

    problems: what was not taken, in sentences; refusals: those among them that a limit decided.
    """

    choices: tuple[ModelChoice | None, ModelChoice | None] = (None, None)
    prompt: str = ""
    system: str = ""
    mode: Mode | None = None
    temperature: float | None = None
    seed: int | None = None
    problems: tuple[str, ...] = ()
    refusals: tuple[RequestRefused, ...] = ()

    @property
    def is_asked_for(self) -> bool:
        return any(self.choices)


def query_of(wish: CompareRequest, prompt: str) -> str:
    """The query that reopens this set-up, such as `left=SmolLM2-135M-Instruct%3AQ8_0&left_context=4096&…`."""
    fields: dict[str, str] = {}
    for side, choice in zip(SIDES, wish.choices, strict=True):
        if choice.model and choice.level:
            fields[side] = f"{choice.model}:{choice.level}"
        if choice.context_size:
            fields[f"{side}_context"] = str(choice.context_size)
        if choice.kv_type != "f16":
            fields[f"{side}_kv"] = choice.kv_type
    fields["mode"] = wish.mode
    fields["temperature"] = f"{wish.sampling.temperature:g}"
    if wish.sampling.seed is not None:
        fields["seed"] = str(wish.sampling.seed)
    if wish.system.strip():
        fields["system"] = wish.system.strip()
    if prompt.strip():
        fields["prompt"] = prompt.strip()
    if sum(map(len, fields.values())) > LONGEST_LINK:
        raise RequestRefused("This set-up is too long for a link.", "Shorten the question, or save it as a file.")
    return urlencode(fields)


def read_query(query: Mapping[str, str], offered: Mapping[str, frozenset[str]], limits: HistoryLimits) -> LinkedSetup:
    """The set-up that a query asks for. offered: the levels that can be chosen, by model."""
    problems: list[str] = []
    refusals: list[RequestRefused] = []
    choices = tuple(_choice(side, query, offered, problems) for side in SIDES)
    setup = LinkedSetup((choices[0], choices[1]))
    mode = query.get("mode")
    temperature = _number(query.get("temperature", ""))
    seed = query.get("seed", "")
    texts = {}
    for name in ("prompt", "system"):
        try:
            texts[name] = checked_text(query.get(name, "")[: LONGEST_LINK + 1], f"The {name} of the link", limits)
        except RequestRefused as error:
            refusals.append(error)
            problems.append(str(error))
    return replace(
        setup,
        prompt=texts.get("prompt", ""),
        system=texts.get("system", ""),
        mode=next((known for known in get_args(Mode) if known == mode), None),
        temperature=temperature if temperature is not None and 0 <= temperature <= 2 else None,
        seed=int(seed) if seed.isascii() and seed.isdigit() and len(seed) < 10 else None,
        problems=tuple(problems),
        refusals=tuple(refusals),
    )


def _choice(
    side: str, query: Mapping[str, str], offered: Mapping[str, frozenset[str]], problems: list[str]
) -> ModelChoice | None:
    named = query.get(side, "")
    if not named:
        return None
    model, _, level = named.rpartition(":")
    if level not in offered.get(model, frozenset()):
        problems.append(f"The link asks for {named[:120]}, which is not on this computer and cannot be made here.")
        return None
    kv_type = query.get(f"{side}_kv")
    return ModelChoice.read(model, level, query.get(f"{side}_context"), kv_type if kv_type in KV_TYPES else "f16")


def _number(text: str) -> float | None:
    try:
        return float(text) if len(text) < 10 else None
    except ValueError:
        return None
