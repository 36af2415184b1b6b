"""The recorded example that the page shows before anything has run here: two levels of a larger model on one question.

scripts/record_example.py writes it, with the model, the machine and the date, which stand beside it on the page.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from playground.app.compare.answer_tokens import AnswerToken
from playground.app.compare.comparison import POSITIONS, Comparison
from playground.app.compare.result import ResultFacts
from playground.app.compare.updates import PaneState, marked_states
from playground.chat.answer_checks import check_answer
from playground.chat.prompts import find_comparison_prompt
from playground.chat.template.message import Message
from playground.measure.fidelity import Fidelity
from playground.resources import asset

FILE = "recorded_example.json"


@dataclass(frozen=True)
class RecordedExample:
    """model, machine and date: for people. look_for: what a good answer has in it."""

    model: str
    machine: str
    date: str
    question: str
    look_for: str
    panes: tuple[PaneState, PaneState]
    facts: ResultFacts


@cache
def load_recorded_example() -> RecordedExample:
    """The example that comes with the package."""
    found = json.loads(asset(FILE).read_text(encoding="utf-8"))
    prompt = find_comparison_prompt(found["question"])
    first, second = (_pane(pane, prompt.checks if prompt else ()) for pane in found["panes"])
    facts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found["facts"].items()
    }
    return RecordedExample(
        found["model"],
        found["machine"],
        found["date"],
        found["question"],
        prompt.look_for if prompt else "",
        (first, second),
        ResultFacts(**facts),
    )


def recorded_json(
    comparison: Comparison, facts: ResultFacts, fidelity: Fidelity, *, model: str, machine: str, date: str
) -> str:
    """What `load_recorded_example` reads, of a comparison in which both have answered."""
    states = marked_states(comparison, fidelity)
    panes = [
        {
            "level": state.name,
            "bits_per_weight": state.bits_per_weight,
            "made_from": state.requantized_from,
            "text": state.answer.content if state.answer else "",
            "tokens": [_token_json(token) for token in state.tokens],
        }
        for state in states
    ]
    written = {
        "model": model,
        "machine": machine,
        "date": date,
        "question": comparison.question,
        "panes": panes,
        "facts": asdict(replace(facts, names=(states[0].name, states[1].name))),
    }
    assert len(panes) == len(POSITIONS)
    return json.dumps(written, ensure_ascii=False, separators=(",", ":")) + "\n"


def _token_json(token: AnswerToken) -> dict[str, Any]:
    """With probabilities of four digits, and without what has its default value."""
    rounded = replace(
        token,
        in_a=None if token.in_a is None else round(token.in_a, 4),
        in_b=None if token.in_b is None else round(token.in_b, 4),
        top_a=tuple((text, round(share, 4)) for text, share in token.top_a),
        top_b=tuple((text, round(share, 4)) for text, share in token.top_b),
    )
    usual = asdict(AnswerToken(""))
    return {name: value for name, value in asdict(rounded).items() if name == "text" or value != usual[name]}


def _pane(found: dict[str, Any], checks: Any) -> PaneState:
    tops = ("top_a", "top_b")
    tokens = tuple(
        AnswerToken(**token | {name: tuple((text, share) for text, share in token.get(name, ())) for name in tops})
        for token in found["tokens"]
    )
    return PaneState(
        name=found["level"],
        bits_per_weight=found["bits_per_weight"],
        requantized_from=found["made_from"],
        history=(Message("assistant", found["text"]),),
        tokens=tokens,
        checks=check_answer(found["text"], checks),
    )
