"""What the page's address may ask of a comparison: anybody may write one, so anything may stand in it."""

from __future__ import annotations

import pytest

from playground.app.compare.link import LinkedSetup, read_link_query
from playground.app.model_picker.choice import ModelChoice
from playground.chat.history import HistoryLimits
from playground.settings import load_settings

OFFERED = {"Fox-1B": frozenset({"Q8_0", "Q4_0"})}
FINE = ModelChoice("Fox-1B", "Q8_0")


def opened(**query: str) -> LinkedSetup:
    return read_link_query({"left": "Fox-1B:Q8_0", **query}, OFFERED, HistoryLimits.of(load_settings()))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("left_context", "-5", "context of A"), ("left_context", "9" * 20, "context of A"),
        ("left_context", "1e9", "context of A"), ("left_kv", "q3_9", "KV cache of A"),
        ("left_device", "<script>alert(1)</script>", "device of A"), ("left_device", "layers:-4", "device of A"),
        ("left_thinking", "९९", "thinking of A"), ("mode", "both", "run"), ("temperature", "nan", "temperature"),
        ("temperature", "1e400", "temperature"), ("temperature", "-1", "temperature"), ("seed", "²", "seed"),
        ("seed", "-1", "seed"), ("seed", "1" * 40, "seed"), ("max_tokens", "-1", "longest reply"),
        ("max_tokens", "9" * 30, "longest reply"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named_and_leaves_the_rest_of_the_set_up_as_it_is(
    name: str, value: str, said: str
) -> None:
    problem = f"These settings of the link could not be read and have their usual values: {said}."
    assert opened(**{name: value}) == LinkedSetup((FINE, None), problems=(problem,))


@pytest.mark.parametrize(("name", "value"), [("third", "Fox-1B:Q4_0"), ("blind", "on"), ("follow_up", "no")])
def test_what_a_link_does_not_ask_for_changes_nothing(name: str, value: str) -> None:
    assert opened(**{name: value}) == LinkedSetup((FINE, None))


def test_a_model_without_a_level_is_told_apart_from_one_that_is_not_here() -> None:
    assert opened(right="Fox-1B").problems == ("The link names no level of Fox-1B: choose one on the dial.",)


@pytest.mark.parametrize(
    "wanted",
    ["Fox-1B:Q9", "Fox-2B", ":", "../../etc/passwd:Q8_0", "<img src=x>:Q8_0", "Fox-1B:\u202eQ8_0\n", "x" * 100_000],
)
def test_a_level_that_is_not_on_offer_is_named_in_one_short_line(wanted: str) -> None:
    setup = opened(right=wanted)
    assert setup.choices == (FINE, None)
    (problem,) = setup.problems
    assert problem.endswith("which is not on this computer and cannot be made here.")
    assert problem.isprintable() and len(problem) < 250
