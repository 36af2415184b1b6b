"""The set-up of a comparison in the page's address: what a link asks for.

Anybody may write a link, so every model and level is looked up among those on offer, never used as a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import urlencode

from playground.app.compare.comparison import LETTERS, USUAL_TOKENS, CompareRequest
from playground.app.model_picker.choice import ModelChoice
from playground.chat.comparison import Mode
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.saved_chat import SHORTEST_REPLY
from playground.errors import RequestRefused
from playground.llama.log import printable
from playground.llama.params import AUTOMATIC_CHOICE

SIDES: Final = ("left", "right")  # the pickers, in a link
YES: Final = "yes"  # of what is switched on
_SETTING_NAMES: Final = {
    "context": "context", "kv": "KV cache", "device": "device", "thinking": "thinking", "mode": "run",
    "temperature": "temperature", "seed": "seed", "max_tokens": "longest reply",
}  # fmt: skip
LONGEST_LINK: Final = 16_000  # characters: browsers and proxies accept little more


@dataclass(frozen=True)
class LinkedSetup:
    """What a link asks for; None for what it does not mention.

    problems: what was ignored, in sentences; refusals: those of them that are due to a limit. opens_compare: False
    where it was copied while Chat was at work.
    """

    choices: tuple[ModelChoice | None, ModelChoice | None] = (None, None)
    prompt: str = ""
    system: str = ""
    mode: Mode | None = None
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    blind: bool | None = None
    follows_up: bool | None = None
    problems: tuple[str, ...] = ()
    refusals: tuple[RequestRefused, ...] = ()
    opens_compare: bool = True

    @property
    def has_choices(self) -> bool:
        return any(self.choices)


def link_query(request: CompareRequest, prompt: str) -> str:
    """The query that opens this set-up again, such as `left=SmolLM2-135M-Instruct%3AQ8_0&left_context=4096&…`."""
    fields: dict[str, str] = {}
    for side, choice in zip(SIDES, request.choices, strict=True):
        if choice.model and choice.level:
            fields[side] = f"{choice.model}:{choice.level}"
        if choice.context_size:
            fields[f"{side}_context"] = str(choice.context_size)
        if choice.kv_type != "f16":
            fields[f"{side}_kv"] = choice.kv_type
        if choice.device != AUTOMATIC_CHOICE:
            fields[f"{side}_device"] = choice.device.text
        if choice.thinking.text:
            fields[f"{side}_thinking"] = choice.thinking.text
    fields["mode"] = request.mode
    fields["temperature"] = f"{request.sampling.temperature:g}"
    if request.sampling.seed is not None:
        fields["seed"] = str(request.sampling.seed)
    if request.max_tokens != USUAL_TOKENS:
        fields["max_tokens"] = str(request.max_tokens)
    fields |= {name: YES for name, is_on in (("blind", request.blind), ("follow_up", request.follows_up)) if is_on}
    if request.system.strip():
        fields["system"] = request.system.strip()
    if prompt.strip():
        fields["prompt"] = prompt.strip()
    if sum(map(len, fields.values())) > LONGEST_LINK:
        raise RequestRefused("This set-up is too long for a link.", "Shorten the question, or save the comparison.")
    return urlencode(fields)


def read_link_query(
    query: Mapping[str, str], offered: Mapping[str, frozenset[str]], limits: HistoryLimits
) -> LinkedSetup:
    """The set-up in the query of a link. offered: the levels that can be chosen, by model."""
    problems: list[str] = []
    refusals: list[RequestRefused] = []
    unread: list[str] = []
    left, right = (_read_choice(side, query, offered, problems, unread) for side in SIDES)
    temperature = _read_number(query.get("temperature", ""))
    seed, most = query.get("seed", ""), query.get("max_tokens", "")
    settings: dict[str, Any] = {
        "mode": next((known for known in get_args(Mode) if known == query.get("mode")), None),
        "temperature": temperature if temperature is not None and 0 <= temperature <= 2 else None,
        "seed": int(seed) if _is_number(seed) else None,
        "max_tokens": max(SHORTEST_REPLY, int(most)) if _is_number(most) else None,
    }
    unread += [_SETTING_NAMES[name] for name, value in settings.items() if query.get(name) and value is None]
    if unread:
        problems.append(
            f"These settings of the link could not be read and have their usual values: {', '.join(unread)}."
        )
    texts = {}
    for name in ("prompt", "system"):
        try:
            texts[name] = checked_text(query.get(name, "")[: LONGEST_LINK + 1], f"The {name} of the link", limits)
        except RequestRefused as error:
            refusals.append(error)
            problems.append(str(error))
    return LinkedSetup(
        choices=(left, right),
        prompt=texts.get("prompt", ""),
        system=texts.get("system", ""),
        **settings,
        blind=True if query.get("blind") == YES else None,
        follows_up=True if query.get("follow_up") == YES else None,
        problems=tuple(problems),
        refusals=tuple(refusals),
        opens_compare=query.get("tab") != "chat",
    )


def _read_choice(
    side: str,
    query: Mapping[str, str],
    offered: Mapping[str, frozenset[str]],
    problems: list[str],
    unread: list[str],
) -> ModelChoice | None:
    """What stands in one pane. problems: get what is wrong with the model; unread: impossible settings."""
    named = query.get(side, "")
    if not named:
        return None
    if named in offered:
        problems.append(f"The link names no level of {printable(named[:120])}: choose one on the dial.")
        return None
    model, _, level = named.rpartition(":")
    if level not in offered.get(model, frozenset()):
        problems.append(
            f"The link asks for {printable(named[:120])}, which is not on this computer and cannot be made here."
        )
        return None
    given = {name: query.get(f"{side}_{name}", "") for name in ("context", "kv", "device", "thinking")}
    choice = ModelChoice.read(model, level, given["context"], given["kv"], given["device"], given["thinking"])
    read = {
        "context": str(choice.context_size),
        "kv": choice.kv_type,
        "device": choice.device.text,
        "thinking": choice.thinking.text,
    }
    letter = LETTERS[SIDES.index(side)]
    unread += [f"{_SETTING_NAMES[name]} of {letter}" for name, text in given.items() if text and text != read[name]]
    return choice


def _is_number(text: str) -> bool:
    """Whether it is a whole number of a usual size."""
    return text.isascii() and text.isdigit() and len(text) < 10


def _read_number(text: str) -> float | None:
    try:
        return float(text) if len(text) < 10 else None
    except ValueError:
        return None
