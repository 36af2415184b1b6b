"""A growing answer is drawn at each update while it is short, and less often when it is long."""

from __future__ import annotations

import pytest

from playground.app.drawing_pace import LONG, VERY_LONG, DrawingPace

TIMES = [0.0, 0.2, 0.399, 0.6, 0.801, 1.0, 1.2, 1.4, 1.599]  # when updates come


@pytest.mark.parametrize(
    ("characters", "drawn"),
    [
        (0, TIMES),
        (LONG, TIMES),
        (LONG + 1, [0.0, 0.399, 0.801, 1.2, 1.599]),
        (VERY_LONG + 1, [0.0, 0.6, 1.2]),
        (100 * VERY_LONG, [0.0, 0.6, 1.2]),
    ],
)
def test_the_longer_an_answer_the_fewer_of_its_updates_are_drawn(characters: int, drawn: list[float]) -> None:
    clock = iter(TIMES)
    pace = DrawingPace(0.2, lambda: next(clock))
    assert [moment for moment in TIMES if pace.is_due(characters)] == drawn
