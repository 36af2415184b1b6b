"""What can be chosen in the Measure tab, and the plans of what is chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from playground.app.measure.service import LevelChoice, MeasureService, usual_reference
from playground.errors import RequestRefused
from playground.measure.plan import MeasurementPlan
from playground.web.tabs.measure.choice import MeasureChoice, levels_of, read_choice
from playground.web.tabs.measure.plan import build_plan_part, choice_of, draw_plan

LEVELS = {"fox": ("Q8_0", "Q4_0"), "owl": ("Q6_K", "Q4_K_M"), "elk@home": ("Q5_K_M",)}


class _Service(MeasureService):
    """Three models: of each the levels above are on the disk, and Q2_0 can be made."""

    def __init__(self) -> None:
        """Nothing of a real service is used."""

    def models(self) -> list[tuple[str, str]]:
        return [(name.title(), name) for name in LEVELS]

    def levels(self, model: str) -> list[LevelChoice]:
        here = [LevelChoice(level, 400_000_000, True) for level in LEVELS[model]]
        return [*here, LevelChoice("Q2_0", 100_000_000, False)]

    def results(self) -> Any:
        return SimpleNamespace(rows=())

    def places(self) -> list[tuple[str, str]]:
        return []

    def server_models(self) -> list[tuple[str, str]]:
        return []

    def estimate_runs(self, plans: Any) -> Any:
        raise RequestRefused("Nothing is estimated here.")


def choice(**chosen: Any) -> MeasureChoice:
    return read_choice(_Service(), "fox", **chosen)


def test_each_of_several_models_has_levels_of_its_own_to_choose() -> None:
    assert (choice().other_levels, choice().chosen_other_levels) == ([], [])
    first = choice(others=["owl", "elk@home"])
    assert ("Owl · Q6_K · 400 MB", "Q6_K@owl") in first.other_levels
    assert ("Owl · Q2_0 · 100 MB · is made first", "Q2_0@owl") in first.other_levels
    assert first.chosen_other_levels == ["Q6_K@owl", "Q4_K_M@owl", "Q5_K_M@elk@home"]
    kept = choice(others=["owl", "elk@home"], other_levels=["Q2_0@owl", "Q9@owl", 3])
    assert kept.chosen_other_levels == ["Q2_0@owl", "Q5_K_M@elk@home"]


def test_another_model_is_measured_with_its_chosen_levels_against_its_largest() -> None:
    plan = MeasurementPlan("fox", ("Q8_0",), ("fidelity", "speed"), reference="Q8_0", deepest=4096)
    other = _Service().same_for(plan, "owl", levels_of("owl", ["Q2_0@owl", "Q8_0@fox", "Q4_K_M@owl"]))
    assert other == MeasurementPlan("owl", ("Q2_0", "Q4_K_M"), ("fidelity", "speed"), reference="Q6_K", deepest=4096)
    with pytest.raises(RequestRefused, match="No level of owl is chosen"):
        _Service().same_for(plan, "owl", [])


def test_a_late_drawing_writes_no_box_that_may_have_been_clicked_meanwhile() -> None:
    with gr.Blocks():
        part = build_plan_part()
    sent: dict[Any, Any] = dict.fromkeys(part.inputs)
    sent |= {part.model: "fox", part.levels: ["Q4_0"], part.reference: "Q4_0", part.others: [], part.other_levels: []}
    drawn = draw_plan(part, _Service(), sent, choice_of(part, _Service(), sent))
    for box in (part.model, part.levels, part.reference, part.others, part.other_levels):
        assert "value" not in drawn[box].constructor_args
    opened = draw_plan(part, _Service(), {**sent, part.levels: None, part.reference: None}, choice())
    assert (opened[part.levels].value, opened[part.reference].value) == (["Q8_0", "Q4_0"], "Q8_0")


def test_a_level_that_was_made_of_another_is_not_what_the_others_are_compared_with() -> None:
    made, original = LevelChoice("Q8_0", 8, True), LevelChoice("Q4_K_M", 5, True, True)
    missing = LevelChoice("F16", 9, False)
    assert usual_reference([made, original, missing]) == "Q4_K_M"
    assert usual_reference([made]) == "Q8_0" and usual_reference([missing]) == ""
