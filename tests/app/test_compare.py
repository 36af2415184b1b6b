"""The Compare tab's desk on the real starter model at two levels: what a person sees, frame by frame."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from playground import events
from playground.app.compare.comparison import BALLOT, CompareRequest, Comparison
from playground.app.compare.service import CompareService
from playground.app.compare.setup import query_of
from playground.app.compare.updates import CompareUpdate
from playground.app.loaded_models import LoadedModels
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.app.services import Services
from playground.engine.protocol import GREEDY
from playground.limits.limits import Limits
from playground.limits.runs import Runs, Visitor
from playground.quantize.quantize import quantize_file
from playground.settings import load_settings
from playground.web.tabs.compare import read_wish

ANNA, READER = Visitor("a"), Visitor("reader")
MODEL = "SmolLM2-135M-Instruct"
SHIPPED, COARSE = ModelChoice(MODEL, "Q4_1", 2048), ModelChoice(MODEL, "Q2_0", 2048)
BRIEFLY = CompareRequest((SHIPPED, COARSE), sampling=GREEDY, max_tokens=12)
SUM = "What is 2+2?"


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), updates_per_second=10)
    with Services(settings) as services:
        for _ in quantize_file(starter, "Q2_0", services.library.path_for_level(MODEL, "Q2_0"), threads=2):
            pass
        yield services


@pytest.fixture(scope="module")
def service(services: Services) -> CompareService:
    settings = services.settings
    picker = ModelPickerService(
        services.library,
        services.planner,
        services.pool.usable_bytes_for,
        settings.slots,
        services.quantization_jobs,
        services.runs,
    )
    return CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))


@pytest.fixture(scope="module")
def answered(service: CompareService) -> tuple[Comparison, list[CompareUpdate]]:
    """A comparison with its frames, for the tests that only read."""
    frames = list(service.ask(READER, Comparison(), SUM, BRIEFLY))
    return last_duel(frames), frames


def text_of(markup: str | None) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup or "")).strip()


def last_duel(frames: list[CompareUpdate]) -> Comparison:
    return [frame.duel for frame in frames if frame.duel][-1]


def all_text(frames: list[CompareUpdate]) -> str:
    parts = [
        part
        for frame in frames
        for pane in frame.panes
        for part in (pane.head, pane.live, pane.note, *(message.content for message in pane.history or ()))
    ]
    extra = [part for frame in frames for part in (frame.problem, frame.differences, frame.parting)]
    return text_of(" ".join(filter(None, [*parts, *extra])))


# --- a comparison ---


def test_both_answers_grow_and_end_with_their_speeds(answered: tuple[Comparison, list[CompareUpdate]]) -> None:
    _, frames = answered
    for place in (0, 1):
        growing = [pane.growing.content for frame in frames if (pane := frame.panes[place]).growing]
        assert all(later.startswith(earlier) for earlier, later in pairwise(growing))
        assert re.match(r"[\d.]+ tok/s · \d+ tokens", text_of(frames[-1].panes[place].live))
    assert frames[-1].phase == "rest"


def test_the_level_made_here_says_what_it_was_made_from(answered: tuple[Comparison, list[CompareUpdate]]) -> None:
    _, frames = answered
    assert "requantized from Q4_1: cannot be better than it" in text_of(frames[-1].panes[1].head)
    assert "requantized" not in text_of(frames[-1].panes[0].head)


def test_the_differences_and_the_parting_are_told(answered: tuple[Comparison, list[CompareUpdate]]) -> None:
    _, frames = answered
    table = frames[-1].differences or ""
    assert "Writing speed" in table and "Time to first token" in table
    smaller = re.search(r"Memory, planned.*?</tr>", table)
    assert smaller and re.search(r"gp-better.*less", smaller[0])
    assert "gave it" in text_of(frames[-1].parting)


def test_in_turn_and_at_once_give_the_same_texts(
    service: CompareService, answered: tuple[Comparison, list[CompareUpdate]]
) -> None:
    frames = list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, mode="at once")))
    texts = [side.conversation.messages for side in last_duel(frames).sides]
    assert texts == [side.conversation.messages for side in answered[0].sides]
    assert "shared the cores" in text_of(frames[-1].differences)


def test_each_side_keeps_its_own_history(
    service: CompareService, answered: tuple[Comparison, list[CompareUpdate]]
) -> None:
    duel = last_duel(list(service.ask(ANNA, answered[0], "And 3+3?", BRIEFLY)))
    histories = [side.conversation.messages for side in duel.sides]
    assert [len(history) for history in histories] == [4, 4]
    assert histories[0][1] != histories[1][1]


def test_one_side_answers_again_and_the_other_stays(
    service: CompareService, answered: tuple[Comparison, list[CompareUpdate]]
) -> None:
    frames = list(service.regenerate(ANNA, answered[0], 1, BRIEFLY))
    again = last_duel(frames)
    assert again.sides[0] == answered[0].sides[0]
    assert len(again.sides[1].conversation.messages) == 2
    assert frames[-1].differences


def test_a_stop_keeps_what_was_written_and_the_next_question_works(service: CompareService) -> None:
    frames = []
    for frame in service.ask(ANNA, Comparison(), "Write a long story about a fox.", replace(BRIEFLY, max_tokens=1500)):
        frames.append(frame)
        if frame.panes[0].growing and frame.panes[0].growing.content:
            service.stop(ANNA)
    assert frames[-1].phase == "rest"
    assert last_duel(frames).sides[0].conversation.messages[-1].content
    assert "stopped by you" in text_of(frames[-1].panes[0].live)
    assert last_duel(list(service.ask(ANNA, Comparison(), SUM, BRIEFLY))).sides[1].result


def test_a_level_that_is_not_here_is_made_first(service: CompareService, services: Services) -> None:
    wish = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, "Q4_0", 2048)))
    frames = list(service.ask(ANNA, Comparison(), SUM, wish))
    assert any("Making Q4_0 from Q4_1" in text_of(frame.panes[1].note) for frame in frames)
    assert any(frame.is_made for frame in frames)
    assert last_duel(frames).sides[1].result
    services.library.path_for_level(MODEL, "Q4_0").unlink()


def test_a_context_beyond_the_trained_one_is_cut_to_it(service: CompareService) -> None:
    huge = replace(SHIPPED, context_size=90_000_000)
    duel = last_duel(list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, choices=(huge, COARSE)))))
    assert duel.sides[0].context and duel.sides[0].context.context_size == 8192


@pytest.mark.parametrize("level", ["../../etc/passwd", "Q9"])
def test_a_side_that_is_not_on_offer_says_why_and_the_other_answers(service: CompareService, level: str) -> None:
    frames = list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, level)))))
    assert "Choose another one from the list." in text_of(frames[-1].panes[1].note)
    assert [bool(side.result) for side in last_duel(frames).sides] == [True, False]
    assert (frames[-1].phase, frames[-1].differences) == ("rest", "")


def test_a_busy_comparison_refuses_a_second_question(service: CompareService) -> None:
    running = service.ask(ANNA, Comparison(), SUM, BRIEFLY)
    next(running)
    (refusal,) = service.ask(ANNA, Comparison(), SUM, BRIEFLY)
    assert "still busy" in text_of(refusal.problem)
    running.close()  # type: ignore[attr-defined]


def test_an_empty_question_is_answered_with_what_to_do(service: CompareService) -> None:
    (frame,) = service.ask(ANNA, Comparison(), " ", BRIEFLY)
    assert "Write something first." in text_of(frame.problem)


# --- the control and the deeper view ---


def test_the_control_says_that_the_same_model_says_the_same(
    service: CompareService, answered: tuple[Comparison, list[CompareUpdate]]
) -> None:
    frames = list(service.lab.control(ANNA, answered[0]))
    assert "beside itself: the same text, token for token" in text_of(frames[-1].control)
    assert last_duel(frames).spread.is_measured
    assert "by the control below" in text_of(frames[-1].differences)


def test_the_answer_is_scored_token_by_token(
    service: CompareService, answered: tuple[Comparison, list[CompareUpdate]]
) -> None:
    duel, _ = answered
    heard: list[tuple[str, str]] = []
    with events.subscribed(lambda event, told: heard.append((event, told.get("outcome", "")))):
        frames = list(service.lab.score(ANNA, duel))
    assert ("scoring", "done") in heard
    card = frames[-1].agreement or ""
    assert card.count("data-top=") == len(duel.sides[0].result.tokens)  # type: ignore[union-attr]
    assert "KL divergence" in text_of(card)


def test_a_model_beside_itself_agrees_wholly(service: CompareService) -> None:
    duel = last_duel(list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, choices=(SHIPPED, SHIPPED)))))
    card = text_of(list(service.lab.score(ANNA, duel))[-1].agreement)
    assert "At 100% of the" in card and "KL divergence: 0 ." in card


# --- blind ---


def test_nothing_tells_which_is_which_before_the_vote(service: CompareService) -> None:
    frames = list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, blind=True)))
    said = all_text(frames)
    assert not re.search(r"Q4_1|Q2_0|tok/s|Loading|Making", said)
    assert not any(pane.growing for frame in frames for pane in frame.panes)
    assert last_duel(frames).may_vote


def test_a_vote_names_both_and_is_counted(service: CompareService) -> None:
    duel = last_duel(list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, blind=True))))
    shipped = 0 if duel.at(0).file and duel.at(0).file.level == "Q4_1" else 1  # type: ignore[union-attr]
    frame = service.vote(ANNA, duel, BALLOT[shipped])
    assert "was Q4_1" in text_of(frame.panes[shipped].head)
    assert "tok/s" in text_of(frame.panes[0].live)
    assert "Q4_1 preferred in 1 of 1 (100%, between 21% and 100%)" in text_of(frame.tally)
    assert frame.duel and not frame.duel.may_vote
    assert "nothing to vote on" in text_of(service.vote(ANNA, frame.duel, "Tie").problem)


def test_a_word_that_is_no_vote_is_refused(service: CompareService) -> None:
    duel = last_duel(list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, blind=True))))
    assert "That is no vote." in text_of(service.vote(ANNA, duel, "C better").problem)


def test_a_book_that_cannot_be_written_is_told_and_the_names_show(service: CompareService) -> None:
    duel = last_duel(list(service.ask(ANNA, Comparison(), SUM, replace(BRIEFLY, blind=True))))
    good = service.votes.path
    service.votes.path = good.parent / "models" / "votes" / "x"
    service.votes.path.parent.parent.mkdir(exist_ok=True)
    service.votes.path.parent.write_text("in the way")
    try:
        frame = service.vote(ANNA, duel, "Tie")
    finally:
        service.votes.path.parent.unlink()
        service.votes.path = good
    assert "Your vote could not be kept" in text_of(frame.problem)
    assert "was Q" in text_of(frame.panes[0].head)


# --- what leaves the page, and what comes with a link ---


@pytest.mark.parametrize("kind", ["markdown", "json"])
def test_a_saved_comparison_holds_both_answers_and_the_files_digests(
    service: CompareService, answered: tuple[Comparison, list[CompareUpdate]], kind: str
) -> None:
    text = str(list(service.record(answered[0], kind))[-1])
    for side in answered[0].sides:
        assert side.file and side.file.path.name in text
        assert side.conversation.messages[-1].content.strip().split("\n")[0] in text.replace("\\ufffd", "�")
    assert len(re.findall(r"\b[0-9a-f]{64}\b", text)) == 2
    if kind == "json":
        assert json.loads(text)["panes"][1]["requantized_from"] == "Q4_1"


def test_a_link_reopens_the_same_set_up(service: CompareService) -> None:
    from urllib.parse import parse_qsl

    wish = replace(BRIEFLY, mode="at once", system="Be brief.")
    setup = service.setup.linked(dict(parse_qsl(query_of(wish, "Why?"))))
    assert setup.choices == wish.choices
    assert (setup.prompt, setup.system, setup.mode, setup.temperature) == ("Why?", "Be brief.", "at once", 0)
    assert setup.problems == ()


def test_a_link_to_what_is_not_here_is_told_and_opens_the_usual(service: CompareService) -> None:
    setup = service.setup.linked(
        {"left": "../../etc/passwd:Q4_1", "right": f"{MODEL}:Q9", "mode": "never", "prompt": "Hi"}
    )
    assert len(setup.problems) == 2 and "not on this computer" in setup.problems[0]
    assert service.setup.choices_to_open(setup) == service.setup.first_choices()
    assert setup.mode is None and setup.prompt == "Hi"


def test_a_newcomer_sees_sense_beside_babble(service: CompareService) -> None:
    assert [choice.level for choice in service.setup.first_choices()] == ["Q8_0", "Q2_0"]


def test_what_will_happen_is_said_beforehand(service: CompareService) -> None:
    said = text_of(service.setup.beforehand(BRIEFLY))
    assert "each with all cores" in said and "Both models stay in memory." in said
    to_make = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, "Q6_K", 2048)), mode="at once")
    assert "share the cores" in text_of(service.setup.beforehand(to_make))
    assert "Q6_K will be made here first" in text_of(service.setup.beforehand(to_make))


def test_whatever_a_browser_sends_becomes_a_possible_wish() -> None:
    wish = read_wish("m", "Q4_1", "x", "q9", None, "", "9" * 12, None, None, 99, None, -1, "both", 1)
    assert wish.choices == (ModelChoice("m", "Q4_1"), ModelChoice(None, None, None))
    assert (wish.mode, wish.blind, wish.sampling.temperature, wish.sampling.seed) == ("in turn", True, 2.0, None)


# --- a page that is gone, a time that is over ---


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("ended_by", ["the page", "the time"])
def test_a_comparison_ends_with_its_page_or_its_time_and_gives_its_models_back(
    services: Services, ended_by: str
) -> None:
    clock = Clock()
    runs = Runs(Limits(reply_seconds=60), clock=clock)
    usable_bytes, slots = services.pool.usable_bytes_for, services.settings.slots
    picker = ModelPickerService(services.library, services.planner, usable_bytes, slots, runs=runs)
    service = CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))
    asked = service.ask(ANNA, Comparison(), "Write a long story about a fox.", replace(BRIEFLY, max_tokens=1500))
    next(frame for frame in asked if any(pane.growing and pane.growing.content for pane in frame.panes))
    if ended_by == "the page":
        runs.end_session(ANNA.session)
    else:
        clock.now += 120
    last = list(asked)[-1]
    assert last.phase == "rest" and last.duel and last.duel.at(0).conversation.messages[-1].content
    assert ("The comparison was stopped after 2 minutes" in text_of(last.problem)) is (ended_by == "the time")
    assert all(model.users == 0 for model in services.pool.loaded_models())
