"""How a reply is kept within a form, with the real llama.cpp and its grammars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.errors import PlaygroundError
from playground.llama.json_grammar import grammar_of_schema
from playground.llama.model import BatchRow, LlamaModel
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import Sampling, SamplingExtras

pytestmark = pytest.mark.llama
PROMPT = "<|im_start|>user\nDescribe a cat.<|im_end|>\n<|im_start|>assistant\n"
CAT = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}, "kind": {"enum": ["cat"]}},
    "required": ["name", "age", "kind"],
}


@pytest.fixture(scope="module")
def model(starter: Path) -> Iterator[LlamaModel]:
    with LlamaModel(starter, ContextParameters(512)) as model:
        model.set_threads(1)
        yield model


def written(model: LlamaModel, extras: SamplingExtras, temperature: float = 0.0, most: int = 60) -> str:
    """What the model writes to PROMPT, until its end."""
    model.forget_all()
    tokens = model.tokenize(PROMPT)
    sampler = model.new_sampler(Sampling(temperature, seed=7), tokens, extras)
    rows = [BatchRow(token, place, 0, place == len(tokens) - 1) for place, token in enumerate(tokens)]
    text = b""
    try:
        for place in range(len(tokens), len(tokens) + most):
            model.decode(rows)
            token = model.sample(len(rows) - 1, sampler)
            if model.is_end_token(token):
                return text.decode()
            text += model.token_to_piece(token)
            rows = [BatchRow(token, place, 0, True)]
    finally:
        sampler.close()
    return text.decode()


def test_a_reply_matches_its_json_schema_at_any_temperature(model: LlamaModel) -> None:
    for temperature in (0.0, 1.5):
        cat = json.loads(written(model, SamplingExtras(json_schema=json.dumps(CAT)), temperature))
        assert set(cat) == {"name", "age", "kind"} and cat["kind"] == "cat" and isinstance(cat["age"], int)


def test_a_grammar_may_begin_after_a_mark(model: LlamaModel) -> None:
    free = written(model, SamplingExtras(), most=12)
    form = written(model, SamplingExtras(grammar='root ::= " yes" | " no"', free_until=free[:12]), most=60)
    assert form.startswith(free[:12]) and form.endswith((" yes", " no")) and len(form) < len(free)


def test_a_bias_forbids_a_token(model: LlamaModel) -> None:
    (first, *_) = model.tokenize(written(model, SamplingExtras(), most=1), plain=True)
    assert written(model, SamplingExtras(logit_bias=((first, -100.0),)), most=1) != written(
        model, SamplingExtras(), most=1
    )


@pytest.mark.parametrize(
    ("extras", "sentence"),
    [
        (SamplingExtras(grammar="root ::= nothing"), "cannot read the grammar"),
        (SamplingExtras(grammar="this is none"), "cannot read the grammar"),
        (SamplingExtras(grammar='root ::= root "a" | "b"'), "cannot read the grammar"),
        (SamplingExtras(json_schema='{"type": "hiccup"}'), "cannot be made into a grammar"),
        (SamplingExtras(json_schema='{"properties": [1]}'), "a part of it has the wrong type"),
        (SamplingExtras(json_schema='{"$defs": {"a": {"$ref": "#/$defs/b"}}, "$ref": "#/$defs/a"}'), "is not in it"),
        (SamplingExtras(json_schema="[1]"), "cannot be made into a grammar"),
        (SamplingExtras(json_schema='{"$ref": "https://example.com/schema"}'), "cannot be made into a grammar"),
        (SamplingExtras(json_schema='{"type": "string", "pattern": "^(?=a)b$"}'), "cannot be made into a grammar"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused(model: LlamaModel, extras: SamplingExtras, sentence: str) -> None:
    with pytest.raises(PlaygroundError, match=sentence):
        model.new_sampler(Sampling(seed=7), [], extras)


def test_counts_that_no_reply_reaches_and_words_about_a_schema_are_no_hindrance() -> None:
    many = {"type": "string", "maxLength": 10**12, "pattern": "a{1000000000}"}
    grammar = grammar_of_schema(
        json.dumps({"properties": {"text": many, "any": {"title": "Any"}, "list": {"items": {}, "minItems": 10**12}}})
    )
    assert len(grammar) < 4000


def test_a_grammar_without_a_way_on_is_an_error_and_no_crash(model: LlamaModel) -> None:
    with pytest.raises(PlaygroundError, match="allows no text here"):
        written(model, SamplingExtras(grammar='root ::= "a" [^\\x00-\\U0010FFFF]'))
