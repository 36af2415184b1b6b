"""What the Measure tab shows of the answers to tasks."""

from __future__ import annotations

from typing import Any

import pytest

from playground.measure.results import Measurement, result_rows
from playground.web.html.measure.results import answers


def shown_task(task: dict[str, Any]) -> str:
    """The markup of one failed task of the tool calls."""
    found = Measurement(
        what="tools", model="Fox-1B", level="Q4_0", file="fox.gguf", size=1, bits_per_weight=4.5, digest="d",
        k_type="f16", v_type="f16", device="CPU", layers=None, threads=2, settings={}, text="", text_digest="",
        reference="", reference_digest="", versions={}, measured_at="2026-11-30T12:00:00+00:00", seconds=1.0,
        figures={"passed": 0, "items": 1}, details=[{"task": 1, "passed": False, "prompt": "Which day?", **task}],
    )  # fmt: skip
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
