"""What the Measure tab shows of the answers to tasks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from playground.measure.results import Measurement, What, result_rows
from playground.web.html.measure.picture import figures_in_words, picture
from playground.web.html.measure.results import answers, table


def measured(what: What, **found: Any) -> Measurement:
    return Measurement(
        what=what, model="Fox-1B", file="fox.gguf", bits_per_weight=4.5, digest="d", k_type="f16",
        v_type="f16", device="CPU", layers=None, threads=2, text="our prompts", text_digest="",
        reference_digest="", versions={}, measured_at="2026-11-30T12:00:00+00:00", seconds=1.0,
        **{"level": "Q4_0", "reference": "", "figures": {}, "size": 1, "settings": {}, **found},
    )  # fmt: skip


def shown_task(task: dict[str, Any]) -> str:
    """The markup of one failed task of the tool calls."""
    details = [{"task": 1, "passed": False, "prompt": "Which day?", **task}]
    found = measured("tools", figures={"passed": 0, "items": 1}, details=details)
    return str(answers(result_rows([found])[0], None))


@pytest.mark.parametrize(
    ("place", "marked"),
    [(2, "{&#34;<mark>b</mark>&#34;"), (4, "{&#34;b&#34;<mark>the end</mark>"), (None, "{&#34;b&#34;</pre>")],
)
def test_a_broken_call_is_shown_with_its_first_wrong_letter(place: int | None, marked: str) -> None:
    assert f"<pre>{marked}" in shown_task({"broken": {"text": '{"b"', "reason": "not JSON", "place": place}})


@pytest.mark.parametrize("broken", ["text", {"text": 7, "place": -3}, {"place": "2"}, [], {"text": "<b>", "place": 1}])
def test_a_broken_call_of_a_strangers_file_is_only_text(broken: object) -> None:
    shown = shown_task({"broken": broken})
    assert "Which day?" in shown and "<b>" not in shown


def test_instructions_have_their_strict_and_their_loose_score() -> None:
    figures = {"passed": 38, "items": 65, "interval_low": 0.46, "interval_high": 0.7, "passed_loosely": 44}
    rows = result_rows([measured("instructions", figures=figures)])
    assert "38 of 65 (46% to 70%), loosely 44" in str(table(rows))
    assert "38 of 65 (46% to 70%), loosely 44" in str(answers(rows[0], None))


def test_tasks_that_passed_as_before_are_folded_away() -> None:
    def suite(level: str, *passed: bool) -> Measurement:
        tasks = [{"task": number, "passed": each, "prompt": f"Task {number}"} for number, each in enumerate(passed, 1)]
        return measured("tools", level=level, figures={"passed": sum(passed), "items": 3}, details=tasks)

    reference, row = result_rows([suite("Q8_0", True, False, True), suite("Q4_0", True, True, False)])
    open_ones, _, folded = str(answers(row, reference)).partition("1 more task passed")
    assert "Task 3" in open_ones and "Task 2 <b>flipped</b>" in open_ones
    assert "Task 1" in folded and "Task 1" not in open_ones


def test_a_divergence_that_is_exactly_nothing_is_a_plain_0() -> None:
    figures = {"kl_divergence": 0.0, "kl_median": 0.0, "kl_99": 8.22, "kl_99_error": 0.274, "kl_maximum": 0.0001234}
    shown = str(table(result_rows([measured("fidelity", figures=figures)])))
    assert shown.count("<td>0</td>") == 2 and "<td>8.22 ± 0.27</td><td>0.000123</td>" in shown


def test_a_point_shows_its_figures_to_the_pointer_and_the_keyboard() -> None:
    figures = {"kl_divergence": 0.0123, "top_token_agreement": 0.94}
    (row,) = result_rows([measured("fidelity", size=400_000_000, figures=figures)])
    shown = re.findall(r'class="gp-point-said"[^>]*>(.*?)</text>', str(picture([row], 8_000_000_000)))
    beside, on_a_phone = (re.findall("<tspan[^>]*>(.*?)</tspan>", each) for each in shown)
    assert "".join(beside) == "".join(on_a_phone) == figures_in_words(row)
    assert "400 MB" in beside[0] and "94.0%" in beside[0]
    assert len(on_a_phone) == 2 and all(len(line) < 54 for line in on_a_phone)


@pytest.mark.parametrize("divergence", [-1e-9, 0, 1e-300, 1e17])
@pytest.mark.parametrize("size", [0, 10**17])
def test_figures_that_hardly_can_be_are_drawn_all_the_same(divergence: float, size: int) -> None:
    (row,) = result_rows([measured("fidelity", size=size, figures={"kl_divergence": divergence})])
    drawn = str(picture([row], 8_000_000_000))
    assert drawn.count("<circle") == drawn.count("<svg") == 2 and str(table([row])).count("<tbody>") == 1


def test_an_import_can_be_removed_by_its_name() -> None:
    shown = str(table(result_rows([measured("speed"), measured("speed", source="a friend")])))
    assert shown.count('data-value="remove 0"') == 1 and 'aria-label="Remove a friend"' in shown
    assert "Remove" not in str(table(result_rows([measured("speed")])))


def test_a_level_beside_a_servers_model_says_in_how_many_places_it_differs() -> None:
    compared = measured(
        "server", reference="fox<7b>@box", figures={"same_words": 0.874, "same_words_error": 0.011, "tokens": 900}
    )
    rows = result_rows([compared, measured("speed", level="Q2_0", figures={"tg_tokens_per_second": 9.0})])
    shown = str(table(rows))
    assert "another word than fox&lt;7b&gt;@box in 13 of 100 places of its answers" in shown
    assert "87.4% ± 1.1%" in shown and shown.count("Same as the server") == 1
    assert "The server’s words: fox&lt;7b&gt;@box on our prompts." in shown
    assert "Same as the server" not in str(table(rows[:1]))


@pytest.mark.parametrize(
    ("least", "shown"),
    [(0.0000021, "at least 0.00000210 ± 0.00000030"), (1e-12, "at least 0"), (0.8, "at least 0.800")],
)
def test_a_small_lower_bound_keeps_its_digits(least: float, shown: str) -> None:
    found = measured("server", reference="fox@box", figures={"kl_at_least": least, "kl_at_least_error": 3e-7})
    assert f"<td>{shown}" in str(table(result_rows([found])))


def test_a_divergence_from_a_shortened_reference_is_called_a_lower_bound() -> None:
    found = measured(
        "fidelity", figures={"kl_divergence": 0.0123}, settings={"precision_of_the_reference": "top"},
    )  # fmt: skip
    rows = result_rows([found])
    assert "<td>at least 0.0123</td>" in str(table(rows)) and "at least 0.0123" in figures_in_words(rows[0])
    assert "512 most likely tokens" in str(table(rows))
