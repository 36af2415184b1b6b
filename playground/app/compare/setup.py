"""The set-up of a comparison before it runs: the first choices, a link's set-up, contexts, and what to expect.

A browser or a link may ask for anything, so every model and level is looked up among those on offer, never used as a
path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, get_args
from urllib.parse import urlencode

from playground.app.compare.comparison import CompareRequest
from playground.app.compare.updates import CompareOutlook
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.app.services import Services
from playground.chat.compare import residency
from playground.chat.comparison import Mode, Pane
from playground.chat.history import HistoryLimits, checked_text
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError, RequestRefused
from playground.llama.params import AUTOMATIC_CHOICE, KV_TYPES, ContextParameters
from playground.models.model_file import ModelFile

FIRST_LEVELS: Final = ("Q8_0", "Q2_0")  # of the starter: sense and babble
SIDES: Final = ("left", "right")  # the pickers, in a link
LONGEST_LINK: Final = 16_000  # characters: browsers and proxies accept little more


# --- a set-up as the query of a link ---


@dataclass(frozen=True)
class LinkedSetup:
    """What a link asks for; None for what it does not mention.

    problems: what was ignored, in sentences; refusals: those of them that are due to a limit.
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
    fields["mode"] = request.mode
    fields["temperature"] = f"{request.sampling.temperature:g}"
    if request.sampling.seed is not None:
        fields["seed"] = str(request.sampling.seed)
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
    left, right = (_read_choice(side, query, offered, problems) for side in SIDES)
    mode = query.get("mode")
    temperature = _read_number(query.get("temperature", ""))
    seed = query.get("seed", "")
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
        mode=next((known for known in get_args(Mode) if known == mode), None),
        temperature=temperature if temperature is not None and 0 <= temperature <= 2 else None,
        seed=int(seed) if seed.isascii() and seed.isdigit() and len(seed) < 10 else None,
        problems=tuple(problems),
        refusals=tuple(refusals),
    )


def _read_choice(
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
    size, device = query.get(f"{side}_context"), query.get(f"{side}_device")
    return ModelChoice.read(model, level, size, kv_type if kv_type in KV_TYPES else "f16", device)


def _read_number(text: str) -> float | None:
    try:
        return float(text) if len(text) < 10 else None
    except ValueError:
        return None


# --- the set-up on this computer ---


class CompareSetup:
    """Serves all visitors, from the models on this disk and this computer's memory."""

    def __init__(self, services: Services, picker: ModelPickerService, limits: HistoryLimits) -> None:
        self._library = services.library
        self._planner = services.planner
        self._pool = services.pool
        self._picker = picker
        self._limits = limits
        self._may_make = services.settings.allow_quantize

    def first_choices(self) -> tuple[ModelChoice, ModelChoice]:
        """The choices of a new page: two levels of the starter that differ visibly, or of the first model.

        If levels cannot be made here: the largest and the smallest level of a model that has several.
        """
        models = self._library.models()
        if not models:
            return ModelChoice(), ModelChoice()
        if not self._may_make:
            base_name = max(models, key=lambda name: len(models[name]) > 1)
            return ModelChoice(base_name, models[base_name][-1].level), ModelChoice(
                base_name, models[base_name][0].level
            )
        starters = [name for name, files in models.items() if any(file.origin == "starter" for file in files)]
        base_name = next(iter([*starters, *models]))
        return ModelChoice(base_name, FIRST_LEVELS[0]), ModelChoice(base_name, FIRST_LEVELS[1])

    def read_link(self, query: Mapping[str, str]) -> LinkedSetup:
        """The set-up that the page's address asks for, with a problem for each model that is not on offer."""
        if not any(side in query for side in SIDES):
            return LinkedSetup()
        on_offer = {value for _, value in self._picker.model_names(wait=True)}
        named = {query.get(side, "").rpartition(":")[0] for side in SIDES} & on_offer
        offered = {model: self._levels_of(model) for model in named}
        return read_link_query(query, offered, self._limits)

    def _levels_of(self, model: str) -> frozenset[str]:
        """The levels of a model that are here or can be made."""
        views = self._picker.views(ModelChoice(model))
        return frozenset(row.value for view in views for row in (*view.levels, *view.makeable))

    def choices_to_open(self, setup: LinkedSetup) -> tuple[ModelChoice, ModelChoice]:
        """The choices in both pickers when the page opens."""
        first, second = self.first_choices()
        return setup.choices[0] or first, setup.choices[1] or second

    def complete_choice(self, choice: ModelChoice, side: int) -> ModelChoice:
        """The choice with a model and a level, in case the browser sent none because the picker was not filled yet."""
        if choice.model and choice.level:
            return choice
        first = self.first_choices()[side]
        return replace(choice, model=choice.model or first.model, level=choice.level or first.level)

    def outlook(self, request: CompareRequest) -> CompareOutlook:
        """What the choices mean for memory and speed, before anything runs."""
        mode = request.mode
        if any(self._picker.servers.has_model(choice.model) for choice in request.choices):
            return CompareOutlook(mode, has_server=True)
        to_make = [choice.level for choice in request.choices if choice.level and not self._is_here(choice)]
        if to_make:
            return CompareOutlook(mode, to_make=tuple(dict.fromkeys(to_make)))
        try:
            files = [self._picker.find_file(choice) for choice in request.choices]
            panes = [Pane(file, self.context(file, c)) for file, c in zip(files, request.choices, strict=True)]
            return CompareOutlook(mode, residency(self._pool, self._planner, panes))
        except PlaygroundError:
            return CompareOutlook(mode)

    def context(self, file: ModelFile | RemoteModel, choice: ModelChoice) -> ContextParameters | None:
        """The chosen context, at most what the model was trained for; None for a server's model."""
        if isinstance(file, RemoteModel):
            return None
        context = self._picker.context_parameters(choice)
        trained = self._planner.trained_context(file.path)
        return replace(context, context_size=min(context.context_size, trained))

    def _is_here(self, choice: ModelChoice) -> bool:
        try:
            return bool(self._picker.find_file(choice))
        except PlaygroundError:
            return False
