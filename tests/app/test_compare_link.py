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
    ("name", "value"),
    [
        ("left_context", "-5"), ("left_context", "99999999999999999999"), ("left_context", "1e9"), ("left_kv", "q3_9"),
        ("left_device", "<script>alert(1)</script>"), ("left_device", "layers:-4"), ("left_thinking", "९९"),
        ("mode", "both"), ("temperature", "nan"), ("temperature", "1e400"), ("temperature", "-1"), ("seed", "²"),
        ("seed", "-1"), ("seed", "1" * 40), ("third", "Fox-1B:Q4_0"), ("blind", "on"),
        ("follow_up", "no"), ("max_tokens", "-1"), ("max_tokens", "9" * 30),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_leaves_the_rest_of_the_set_up_as_it_is(name: str, value: str) -> None:
    assert opened(**{name: value}) == LinkedSetup((FINE, None))


@pytest.mark.parametrize(
    "wanted",
    ["Fox-1B:Q9", "Fox-1B", ":", "../../etc/passwd:Q8_0", "<img src=x>:Q8_0", "Fox-1B:\u202eQ8_0\n", "x" * 100_000],
)
def test_a_level_that_is_not_on_offer_is_named_in_one_short_line(wanted: str) -> None:
    setup = opened(right=wanted)
    assert setup.choices == (FINE, None)
    (problem,) = setup.problems
    assert problem.endswith("which is not on this computer and cannot be made here.")
    assert problem.isprintable() and len(problem) < 250
