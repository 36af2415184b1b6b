"""Answers stand by prompt and level; a blind vote on them hides the names and counts with the votes of Compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.compare.updates import VoteTallies
from playground.app.measure.answers import AnswerGrids
from playground.errors import RequestRefused
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.measure.answers.export import grid_as_json, grid_as_markdown
from playground.measure.answers.grid import answer_grid, ballot_papers, equal_answers
from playground.measure.answers.prompts import MOST_PROMPTS, our_prompts, prompt_lines, prompts_digest
from playground.measure.export import read_export
from playground.measure.plan import MeasurementPlan
from playground.measure.results import Measurement, result_rows
from playground.measure.store import MeasurementStore
from playground.measure.votes import BALLOT_WORDS, Contestant, Pair, VoteStore
from playground.web.html.measure.answers import answers_grid, common_words, voting_sheet

ANSWERS = {"Q8_0": ("Cold.", "Paris."), "Q4_0": ("Cold.", "Paris is."), "Q2_0": ("<b>Hot</b>", "Rome.")}
ANNA = Visitor("anna")


def answered(level: str, number: int, text: str, **changes: object) -> Measurement:
    """The answer of a level to one of two prompts; more bits make a larger file."""
    found = Measurement(
        what="answers", model="Fox-1B", level=level, file=f"Fox-1B-{level}.gguf", size=int(level[1]) << 30,
        bits_per_weight=4.5, digest=level * 8, k_type="f16", v_type="f16", device="CPU", layers=None, threads=2,
        settings={}, text="two.txt", text_digest="t", reference="", reference_digest="", versions={"playground": "1"},
        measured_at="2026-11-30T12:00:00+00:00", seconds=1.5, figures={"tokens": 3, "tokens_per_second": 20.0},
        details=[{"task": number, "prompt": f"Question {number}?", "answer": text, "finish_reason": "end of text"}],
    )  # fmt: skip
    return replace(found, **changes)  # type: ignore[arg-type]


def all_answers() -> list[Measurement]:
    return [answered(level, number, text) for level, texts in ANSWERS.items() for number, text in enumerate(texts, 1)]


@pytest.fixture
def grids(tmp_path: Path) -> AnswerGrids:
    votes = VoteStore(tmp_path / "votes.sqlite")
    return AnswerGrids(MeasurementStore(tmp_path / "measured.sqlite"), votes, Runs(), all_answers)


def test_each_level_is_a_column_and_the_newest_answer_counts() -> None:
    newer = answered("Q2_0", 2, "Paris!", measured_at="2026-12-01T12:00:00+00:00")
    grid = answer_grid([*all_answers(), newer], "Fox-1B")
    assert grid and [column.name for column in grid.columns] == ["Q8_0", "Q4_0", "Q2_0"]
    assert grid.prompts == {1: "Question 1?", 2: "Question 2?"}
    found = [answer.text if (answer := grid.answer(column, 2)) else None for column in grid.columns]
    assert found == ["Paris.", "Paris is.", "Paris!"]
    assert result_rows(all_answers()) == [] and answer_grid([], "Fox-1B") is None


def test_another_set_of_prompts_and_an_older_file_are_left_out() -> None:
    other_set = answered("Q8_0", 1, "Old.", text_digest="other", measured_at="2026-11-01T12:00:00+00:00")
    old_file = answered("Q2_0", 1, "Old.", digest="before")
    grid = answer_grid([other_set, old_file, *all_answers()], "Fox-1B")
    assert grid and "Old." not in [answer.text for answer in grid.answers.values()] and len(grid.answers) == 6


def test_only_different_answers_are_voted_on_and_a_vote_goes_on_where_it_was(grids: AnswerGrids) -> None:
    sheet = grids.sheet("Fox-1B", ANNA)
    assert (sheet.voted, sheet.total, sheet.equal) == (0, 5, 1)
    while sheet.paper:
        names = {column.name for column in sheet.paper.pair}
        markup = str(voting_sheet(sheet, grids.tallies(sheet.grid)))
        assert not any(f">{name}<" in markup for name in names) and "<b>Hot" not in markup
        larger = max((0, 1), key=lambda place: sheet.paper.pair[place].size if sheet.paper else 0)
        sheet = grids.cast_vote("Fox-1B", ANNA, BALLOT_WORDS[larger], sheet.voted)
        assert grids.cast_vote("Fox-1B", ANNA, BALLOT_WORDS[0], sheet.voted - 1).voted == sheet.voted, "a second press"
    assert sheet.voted == 5
    tallies = grids.tallies(sheet.grid)
    assert isinstance(tallies, VoteTallies) and sum(tally.count for tally in tallies.tallies) == 5
    assert all(tally.first == tally.count for tally in tallies.tallies), "the level with more bits always won"
    pair = Pair(Contestant("Fox-1B", "Q8_0"), Contestant("Fox-1B", "Q2_0"))
    assert next(tally for tally in tallies.tallies if tally.pair == pair).first == 2
    assert "All pairs are voted on" in voting_sheet(sheet, tallies)


def test_the_last_vote_of_a_sheet_can_be_taken_back_and_then_the_one_before_it(grids: AnswerGrids) -> None:
    first = grids.sheet("Fox-1B", ANNA)
    second = grids.cast_vote("Fox-1B", ANNA, "A better", 0)
    grids.cast_vote("Fox-1B", ANNA, "Both bad", 1)
    back = grids.take_back_vote("Fox-1B", ANNA, 2)
    assert (back.voted, back.paper) == (1, second.paper)
    assert grids.take_back_vote("Fox-1B", ANNA, 2).voted == 1, "a second press"
    tallies = grids.tallies(back.grid)
    assert isinstance(tallies, VoteTallies)
    assert [(tally.decided, tally.both_bad) for tally in tallies.tallies] == [(1, 0)]
    assert "Take the last vote back" in voting_sheet(back, tallies)
    back = grids.take_back_vote("Fox-1B", ANNA, 1)
    assert (back.voted, back.paper) == (0, first.paper) and grids.take_back_vote("Fox-1B", ANNA, 0).voted == 0
    assert "Take the last vote back" not in voting_sheet(back, tallies)


def test_the_sides_of_the_papers_are_mixed_but_fixed() -> None:
    grid = answer_grid([answered(f"Q{bits}_0", n, f"{bits} {n}") for bits in (8, 4) for n in range(1, 30)], "Fox-1B")
    assert grid
    papers = ballot_papers(grid, "anna")
    assert papers == ballot_papers(grid, "anna") and len(papers) == 29 and equal_answers(grid) == 0
    assert {paper.pair[0].name for paper in papers} == {"Q8_0", "Q4_0"}
    assert [paper.prompt for paper in papers] != sorted(paper.prompt for paper in papers)


def test_a_single_level_is_nothing_to_vote_on(tmp_path: Path) -> None:
    store, votes = MeasurementStore(tmp_path / "measured.sqlite"), VoteStore(tmp_path / "votes.sqlite")
    grids = AnswerGrids(store, votes, Runs(), lambda: [answered("Q8_0", 1, "Cold.")])
    with pytest.raises(RequestRefused, match="nothing to vote on"):
        grids.sheet("Fox-1B", ANNA)


def test_the_grid_is_saved_as_one_file_that_can_be_read_back(grids: AnswerGrids) -> None:
    sheet = grids.sheet("Fox-1B", ANNA)
    grids.cast_vote("Fox-1B", ANNA, "Tie", 0)
    record = json.loads(grids.export("Fox-1B", "JSON"))
    read = read_export(json.dumps(record).encode(), "theirs")
    assert [each.details for each in read] == [each.details for each in sheet.grid.measurements]
    (vote,) = record["votes"]
    assert vote["ties"] == 1 and vote["interval"] == [0, 1]
    text = grids.export("Fox-1B", "Markdown")
    assert text.count("**Q8_0**") == 2 and "> <b>Hot</b>" in text and "ties 1" in text
    assert grid_as_json(sheet.grid, ())["votes"] == [] and "## Blind votes" not in grid_as_markdown(sheet.grid, ())


def test_the_grid_marks_where_an_answer_leaves_the_first(grids: AnswerGrids) -> None:
    grid = grids.grid("Fox-1B")
    assert grid
    markup = str(answers_grid(grid, grids.tallies(grid)))
    assert "the same as Q8_0" in markup and "<mark>Paris</mark> is." in markup
    assert "&lt;b&gt;Hot" in markup and "<b>Hot" not in markup


def test_the_speed_of_an_answer_says_when_the_computer_was_disturbed() -> None:
    figures = {"tokens": 3, "tokens_per_second": 20.0, "disturbed": True}
    grid = answer_grid([answered("Q8_0", 1, "Cold.", figures=figures), answered("Q4_0", 1, "Warm.")], "Fox-1B")
    assert grid
    for text in (str(answers_grid(grid, VoteTallies((), None, ""))), grid_as_markdown(grid, ())):
        assert text.count("20.0 tok/s (disturbed)") == 1 and text.count("20.0 tok/s") == 2


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [("It is red.", "It is blue.", "It is "), ("It is", "It isn't", "It "), ("A b", "A b c", "A b"), ("x", "y", "")],
)
def test_what_two_answers_share_ends_with_a_word(one: str, other: str, common: str) -> None:
    assert common_words(one, other) == common


def test_own_prompts_are_the_lines_of_a_file() -> None:
    assert prompt_lines("What is red?\n\n  And blue? \n") == ("What is red?", "And blue?")
    for text, problem in (("\n \n", "no prompt"), ("a\n" * (MOST_PROMPTS + 1), "101 prompts"), ("a" * 5000, "5,000")):
        with pytest.raises(RequestRefused, match=problem):
            prompt_lines(text)


def test_a_plan_has_an_item_for_each_prompt_of_each_level() -> None:
    plan = MeasurementPlan("Fox-1B", ("Q8_0", "Q4_0"), ("answers",), prompts_name="two.txt", prompts=("A?", "B?"))
    keys = [item.key for item in plan.items()]
    assert keys[0] == "Q8_0 f16/f16 answers 1" and len(set(keys)) == 4
    assert MeasurementPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    ours = replace(plan, prompts=())
    assert len(ours.items()) == 2 * len(our_prompts())
    assert prompts_digest(plan.asked_prompts()) != prompts_digest(ours.asked_prompts())
