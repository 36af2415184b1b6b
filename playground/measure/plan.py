"""What a run measures: levels of one model, KV cache types, and kinds of measurement, as a list of items.

An item is the smallest piece that is kept: one kind of measurement, of one level with one KV cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final

from playground.errors import RequestRefused
from playground.llama.params import KV_TYPES, KvType
from playground.machine.cpus import read_processors
from playground.measure.answers.prompts import AnsweredPrompt, our_prompts, own_prompts
from playground.measure.profile import ProfilePlan
from playground.measure.results import ABILITIES, WHATS, What
from playground.measure.texts import MeasuredText, own_text, six_texts

KvPair = tuple[KvType, KvType]  # of keys and values
USUAL_KV: Final[KvPair] = ("f16", "f16")
MOST_ITEMS: Final = 2_000
CONTEXT_TOKENS: Final = 4096  # in which abilities and speed are measured
LEAST_DEPTH: Final = 1024
MOST_DEPTH: Final = 1 << 20
MOST_CHATS: Final = 64  # as many slots as a loaded model may have
# For estimates only: a token that is read takes this share of one that is written, by one core; with more cores reading
# becomes faster, and writing hardly. Where all are scored and compared, it is twice that. Of the starter on two cores.
_READING_SHARE_OF_A_CORE: Final = 0.42
_SCORING: Final = 2.0
_TOKENS_OF_A_REPLY: Final = 90
_ITEMS_OF_A_SUITE: Final[Mapping[What, int]] = {"instructions": 65, "tools": 43, "reasoning": 22}


@lru_cache(maxsize=1)
def reading_share() -> float:
    """Of the time of a written token, what one of a prompt takes on this computer."""
    return _READING_SHARE_OF_A_CORE / read_processors().usable


@dataclass(frozen=True)
class Item:
    """One kind of measurement of one level with one KV cache. part: the number of a prompt; 0 where it has no parts.

    level: also `id@server`, for a server's model.
    """

    level: str
    k_type: KvType
    v_type: KvType
    what: What
    part: int = 0

    @property
    def key(self) -> str:
        """`Q4_K_M q8_0/q4_0 fidelity`, `Q4_K_M f16/f16 answers 3`: its name in the store."""
        return f"{self.level} {self.k_type}/{self.v_type} {self.what}{f' {self.part}' if self.part else ''}"

    @property
    def name(self) -> str:
        """The same for people; the usual cache is not named."""
        kv = "" if (self.k_type, self.v_type) == USUAL_KV else f" (KV {self.k_type}/{self.v_type})"
        what = f"answer {self.part}" if self.part else self.what
        return f"{what} of {self.level}{kv}"


@dataclass(frozen=True)
class MeasurementPlan:
    """A run. model: base name. reference: the level that fidelity is measured against, "" where it is not measured.

    kv_types: pairs of keys and values. device: as DeviceChoice.read takes it. text_name, text: a person's own text, ""
    for the six texts. prompt_tokens, generated_tokens, repeats: of the speed tests. most_tasks: how many of each suite
    of abilities, None for all. most_reply_tokens: of each of their answers, None for the suite's own length.
    prompts_name, prompts: a person's own prompts, none for those of the playground. deepest, most_chats: of the profile
    of a speed: tokens of context, and chats at once. server_model: `id@server`, with which the levels' words are
    compared, and whose own speed and abilities are measured where those of the levels are.
    """

    model: str
    levels: tuple[str, ...]
    whats: tuple[What, ...]
    reference: str = ""
    kv_types: tuple[KvPair, ...] = (USUAL_KV,)
    device: str = "auto"
    text_name: str = ""
    text: str = ""
    prompt_tokens: int = 512
    generated_tokens: int = 128
    repeats: int = 3
    most_tasks: int | None = None
    most_reply_tokens: int | None = None
    prompts_name: str = ""
    prompts: tuple[str, ...] = ()
    deepest: int = 8192
    most_chats: int = 4
    server_model: str = ""

    def checked(self) -> MeasurementPlan:
        """The same plan, in the usual order. Raises RequestRefused for one that measures nothing, or far too much."""
        whats = tuple(what for what in WHATS if what in self.whats)
        if not self.levels or not whats:
            raise RequestRefused("There is nothing to measure.", "Choose at least one level and one measurement.")
        kv_types = tuple(dict.fromkeys(self.kv_types)) or (USUAL_KV,)
        if any(k not in KV_TYPES or v not in KV_TYPES for k, v in kv_types):
            raise RequestRefused("That is no type of a KV cache.", f"Choose among {', '.join(KV_TYPES)}.")
        plan = replace(self, levels=tuple(dict.fromkeys(self.levels)), whats=whats, kv_types=kv_types)
        if len(plan.items()) > MOST_ITEMS:
            raise RequestRefused(
                f"That is {len(plan.items()):,} measurements in one run; up to {MOST_ITEMS} are done.",
                "Choose fewer levels or KV cache types.",
            )
        if "fidelity" in whats and not plan.reference:
            raise RequestRefused("Fidelity needs a reference.", "Choose the level to measure against.")
        if not LEAST_DEPTH <= self.deepest <= MOST_DEPTH:
            raise RequestRefused(
                f"A context of {self.deepest:,} tokens is not measured.", f"Choose {LEAST_DEPTH:,} to {MOST_DEPTH:,}."
            )
        if not 1 <= self.most_chats <= MOST_CHATS:
            raise RequestRefused(f"{self.most_chats:,} chats at once are not measured.", f"Choose up to {MOST_CHATS}.")
        if "server" in whats and not plan.server_model:
            raise RequestRefused("There is no server’s model to compare with.", "Choose one, or leave that out.")
        plan.texts()
        return plan

    def items(self) -> list[Item]:
        """In the order in which they are measured: all of one level before the next, so that each is loaded once."""
        of_levels = [
            Item(level, k_type, v_type, what, part)
            for level in self.levels
            for k_type, v_type in self.kv_types
            for what in self.whats
            for part in (range(1, len(self.asked_prompts()) + 1) if what == "answers" else (0,))
        ]
        own = [what for what in self.whats if what == "speed" or what in ABILITIES] if "server" in self.whats else []
        return of_levels + [Item(self.server_model, *USUAL_KV, what) for what in own]

    def is_of_server(self, item: Item) -> bool:
        """Whether the item is of the server's model itself, which then stands in the place of a level."""
        return bool(self.server_model) and item.level == self.server_model

    def asked_prompts(self) -> tuple[AnsweredPrompt, ...]:
        """What every level answers."""
        return own_prompts(self.prompts) if self.prompts else our_prompts()

    def texts(self) -> tuple[MeasuredText, ...]:
        """What is read for fidelity. Raises RequestRefused for an own text that is empty or too long."""
        return own_text(self.text_name, self.text) if self.text_name or self.text else six_texts()

    def written_tokens(self, what: What) -> float:
        """About how many tokens an item writes; those that it reads count for what they cost beside them."""
        if what == "fidelity":
            return sum(len(each.text) for each in self.texts()) / 3.5 * reading_share() * _SCORING
        if what == "speed":
            return (self.repeats + 1) * (self.generated_tokens + self.prompt_tokens * reading_share())
        if what == "profile":
            profile = ProfilePlan(self.deepest, self.most_chats)
            return profile.written_tokens + profile.read_tokens * reading_share()
        if what == "answers":  # of one prompt
            return _TOKENS_OF_A_REPLY
        if what == "server":
            return len(self.asked_prompts()) * 2 * _TOKENS_OF_A_REPLY * reading_share() * _SCORING
        assert what in ABILITIES
        tasks = min(_ITEMS_OF_A_SUITE[what], self.most_tasks or 1000)
        return tasks * (_TOKENS_OF_A_REPLY + 300 * reading_share())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> MeasurementPlan:
        """What `to_json` gave, after a way through JSON."""
        lists = {name: tuple(record.get(name, ())) for name in ("levels", "whats", "prompts")}
        kv_types = tuple((pair[0], pair[1]) for pair in record["kv_types"])
        return cls(**{**record, **lists, "kv_types": kv_types})
