"""What a comparison means, in words: only what its figures say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.compare.comparison import Comparison, PaneSession
from playground.app.compare.recorded import load_recorded_example
from playground.app.compare.result import NotCompared, ResultFacts, next_step, result_sentence, result_tiles
from playground.app.compare.updates import VoteTallies
from playground.app.compare.voting import reveal_sentence
from playground.models.model_file import ModelFile

MIB = 1 << 20
SAME = ResultFacts(("Q8_0", "Q4_0"), (138 * MIB, 87 * MIB), (299 * MIB, 249 * MIB), 4096, is_same=True)
OTHER = replace(SAME, is_same=False)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (SAME, "Same answer, with a 37% smaller file."),
        (replace(SAME, file_bytes=(None, 9)), "Same answer, word for word."),
        (replace(OTHER, checks=1, passed=(1, 1)), "Both get it right, Q4_0 with a 37% smaller file."),
        (replace(OTHER, checks=1, passed=(1, 0)), "Q8_0 gets it right. Q4_0 does not, with a 37% smaller file."),
        (replace(OTHER, checks=3, passed=(2, 1)), "Q8_0 gets 2 of 3 right, Q4_0 gets 1, with a 37% smaller file."),
        (
            replace(OTHER, checks=1, passed=(0, 1)),
            "Q4_0 gets it right and Q8_0 does not: with few questions, luck decides.",
        ),
        (replace(OTHER, common_tokens=4), "The answers are the same for 4 tokens, then they differ."),
        (replace(OTHER, common_tokens=0), "The answers differ from the first word on."),
        (ResultFacts(), ""),
    ],
)  # fmt: skip
def test_the_sentence_says_what_came_out(facts: ResultFacts, sentence: str) -> None:
    assert result_sentence(facts) == sentence


def test_the_next_step_goes_down_until_it_breaks_and_back_when_it_has() -> None:
    assert next_step(replace(SAME, can_go_lower=True)) == "Move B to fewer bits until it breaks."
    assert next_step(SAME) == "Try a harder question."
    assert "one step back" in next_step(replace(OTHER, checks=1, passed=(1, 0)))
    assert next_step(ResultFacts()) == ""


@pytest.mark.parametrize(
    ("speeds", "why", "headline"),
    [
        ((31.0, 145.0), "", "4.7× as fast"),
        ((145.0, 31.0), "", "4.7× slower"),
        ((100.0, 112.0), "", "+12%"),
        ((100.0, 112.0), "noise", "no clear difference"),
        ((100.0, 900.0), "busy", "no clear difference"),
        ((100.0, 900.0), "short", "too short to tell"),
        ((None, 900.0), "noise", "–"),
    ],
)
def test_no_speed_is_praised_without_reason(
    speeds: tuple[float | None, float | None], why: NotCompared, headline: str
) -> None:
    tile = result_tiles(replace(OTHER, speeds=speeds, tokens=(40, 7), not_compared=why))[2]
    assert tile.headline == headline
    assert tile.is_quiet == (bool(why) and speeds[0] is not None)


def test_sizes_and_agreement_have_their_figures() -> None:
    file, memory, _, agreement = result_tiles(replace(OTHER, agreement=0.714, kl_divergence=0.0))
    assert (file.headline, file.detail) == ("−37%", "145 MB → 91.2 MB")
    assert memory.title == "Memory with 4K context" and memory.headline == "−17%"
    assert (agreement.headline, agreement.detail) == ("71% of A’s words", "KL divergence 0")
    assert result_tiles(ResultFacts())[3].headline == "–"


def test_the_recorded_example_names_its_model_its_machine_and_its_day() -> None:
    example = load_recorded_example()
    assert example.model.startswith("Qwen2.5 Coder 1.5B") and "cores" in example.machine and "20" in example.date
    assert [pane.name for pane in example.panes] == ["Q4_K_M", "Q2_K"]
    assert example.panes[1].requantized_from == "Q4_K_M"
    passed = tuple(sum(check.passed for check in pane.checks) for pane in example.panes)
    assert passed == example.facts.passed and len(example.panes[0].checks) == example.facts.checks


@pytest.mark.parametrize(("model", "which"), [("fox", "Q8_0, the larger one."), ("owl", "Fox Q8_0, the larger file.")])
def test_of_two_models_the_larger_is_called_a_file(model: str, which: str) -> None:
    """It may be the one with fewer bits per weight."""
    files = [ModelFile(Path(f"{name}.gguf"), (Path("m"),), name, level, size, "hub cache") for name, level, size in (
        ("fox", "Q8_0", 9), (model, "Q4_0", 5),
    )]  # fmt: skip
    first, second = (PaneSession(file=file) for file in files)
    sentence = reveal_sentence(Comparison((first, second)), "A better", VoteTallies((), None, ""))
    assert sentence == f"You preferred A: {which}"
