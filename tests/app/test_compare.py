"""The Compare service on the real starter model at two levels: what each update says, and what it must not say."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from playground import events
from playground.app.compare.comparison import BALLOT, CompareRequest, Comparison, PaneSession, growing_answers
from playground.app.compare.dial import opening_pair, read_download
from playground.app.compare.further_answers import FurtherAnswers
from playground.app.compare.link import link_query
from playground.app.compare.service import CompareService
from playground.app.compare.updates import (
    ComparedAnswers,
    CompareOutlook,
    CompareUpdate,
    PaneState,
    VoteTallies,
)
from playground.app.loaded_models import LoadedModels
from playground.app.messages import CLEAR, StatusMessage, WorkProgress
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.conversation import Conversation
from playground.chat.first_difference import FirstDifference
from playground.chat.template.message import Message
from playground.engine.protocol import Finished, Token
from playground.errors import PlaygroundError
from playground.limits.limits import Limits
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.models.hub.repository import HubFile, HubLevel, HubModel, Repository
from playground.models.model_file import ModelFile
from playground.quantize.quantize import quantize_file
from playground.settings import load_settings
from playground.web.html.dial import dial_rows, slim_dial_rows

ANNA, READER, BACK = Visitor("a"), Visitor("reader"), Visitor("a, after the reload")
KEY = "0123456789abcdef" * 2
MODEL = "SmolLM2-135M-Instruct"
SHIPPED, COARSE = ModelChoice(MODEL, "Q4_1", 2048), ModelChoice(MODEL, "Q2_0", 2048)
BRIEFLY = CompareRequest((SHIPPED, COARSE), sampling=GREEDY, max_tokens=12)
SUM = "What is 2+2?"
STORY = "Write a long story about a fox."

Answered = tuple[Comparison, list[CompareUpdate]]


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
        services.pool.budget_for,
        settings.slots,
        services.quantization_jobs,
        services.runs,
    )
    return CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))


@pytest.fixture(scope="module")
def answered(service: CompareService) -> Answered:
    """A comparison with its updates, for the tests that only read."""
    updates = list(service.ask_both(READER, Comparison(), SUM, BRIEFLY))
    return last_comparison(updates), updates


def last_comparison(updates: Iterable[CompareUpdate]) -> Comparison:
    return [update.comparison for update in updates if update.comparison][-1]


def asked(service: CompareService, request: CompareRequest = BRIEFLY) -> Comparison:
    return last_comparison(service.ask_both(ANNA, Comparison(), SUM, request))


def pane(update: CompareUpdate, position: int) -> PaneState:
    state = update.panes[position]
    assert state is not None
    return state


def growing(update: CompareUpdate, position: int) -> str:
    state = update.panes[position]
    return state.growing.content if state and state.growing else ""


def sentence(message: StatusMessage | None) -> str:
    if isinstance(message, PlaygroundError):
        return str(message)
    return (message.stage if isinstance(message, WorkProgress) else message.text) if message else ""


def answers(update: CompareUpdate) -> ComparedAnswers:
    assert isinstance(update.answers, ComparedAnswers)
    return update.answers


def further(update: CompareUpdate) -> FurtherAnswers:
    assert update.further is not None
    return update.further


# --- a comparison ---


def test_both_answers_grow_and_end_with_their_speeds(answered: Answered) -> None:
    _, updates = answered
    for position in (0, 1):
        texts = [text for update in updates if (text := growing(update, position))]
        assert texts and all(later.startswith(earlier) for earlier, later in pairwise(texts))
        end = pane(updates[-1], position).activity
        assert isinstance(end, Finished) and (end.timings.generation_speed or 0) > 0
    assert updates[-1].phase == "rest"
    busy = [state.is_busy for update in updates for state in update.panes if state]
    assert busy[-2:] == [False, False] and all(busy[:-2]), "no pane is asked more before both have ended"


def test_a_pane_shows_which_level_its_model_was_made_from(answered: Answered) -> None:
    _, updates = answered
    assert (pane(updates[-1], 0).name, pane(updates[-1], 0).requantized_from) == ("Q4_1", None)
    assert (pane(updates[-1], 1).name, pane(updates[-1], 1).requantized_from) == ("Q2_0", "Q4_1")


def test_the_table_and_the_first_difference_come_at_the_end(answered: Answered) -> None:
    _, updates = answered
    compared = answers(updates[-1])
    planned = next(row for row in compared.table if row.figure == "memory_planned")
    assert planned.better == 1
    assert isinstance(compared.first_difference, FirstDifference)
    assert compared.names == ("Q4_1", "Q2_0") and compared.shared is None


def test_in_turn_and_at_once_give_the_same_texts(service: CompareService, answered: Answered) -> None:
    updates = list(service.ask_both(ANNA, Comparison(), SUM, replace(BRIEFLY, mode="at once")))
    texts = [pane.conversation.messages for pane in last_comparison(updates).panes]
    assert texts == [pane.conversation.messages for pane in answered[0].panes]
    assert answers(updates[-1]).shared == "cores"


def test_each_pane_keeps_its_own_history(service: CompareService, answered: Answered) -> None:
    comparison = last_comparison(service.ask_both(ANNA, answered[0], "And 3+3?", BRIEFLY))
    histories = [pane.conversation.messages for pane in comparison.panes]
    assert [len(history) for history in histories] == [4, 4]
    assert histories[0][1] != histories[1][1]


def test_an_answer_that_goes_on_is_the_unbroken_one(service: CompareService) -> None:
    short, long = (replace(BRIEFLY, max_tokens=tokens) for tokens in (8, 16))
    cut = last_comparison(service.ask_both(ANNA, Comparison(), STORY, short))
    unbroken = last_comparison(service.ask_both(ANNA, Comparison(), STORY, long))
    updates = list(service.continue_answer(ANNA, cut, 0, short))
    result, whole = last_comparison(updates).panes[0].result, unbroken.panes[0].result
    assert result and whole and result.reply.content == whole.reply.content
    assert [token.id for token in result.tokens] == [token.id for token in whole.tokens]
    assert result.finished.timings.generated_tokens == 16
    begun = cut.panes[0].conversation.messages[-1].content
    assert all(growing(update, 0).startswith(begun) for update in updates if growing(update, 0))


def test_one_pane_answers_again_and_the_other_stays(service: CompareService, answered: Answered) -> None:
    updates = list(service.regenerate_answer(ANNA, answered[0], 1, BRIEFLY))
    again = last_comparison(updates)
    assert again.panes[0] == answered[0].panes[0]
    assert len(again.panes[1].conversation.messages) == 2
    assert answers(updates[-1])
    assert all(update.panes[0] is None for update in updates[:-1])


def test_a_stop_keeps_what_was_written_and_the_next_question_works(service: CompareService) -> None:
    updates = []
    for update in service.ask_both(ANNA, Comparison(), STORY, replace(BRIEFLY, max_tokens=1500)):
        updates.append(update)
        if growing(update, 0):
            service.stop_comparison(ANNA)
    assert updates[-1].phase == "rest"
    assert last_comparison(updates).panes[0].conversation.messages[-1].content
    first, second = pane(updates[-1], 0), pane(updates[-1], 1)
    assert first.stopped_by == "person" and isinstance(first.activity, Token)
    assert second.stopped_by is None and second.activity is None  # it had not begun
    assert asked(service).panes[1].result


def test_a_level_that_is_not_here_is_made_first(service: CompareService, services: Services) -> None:
    request = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, "Q4_0", 2048)))
    updates = list(service.ask_both(ANNA, Comparison(), SUM, request))
    notes = {sentence(state.note) for update in updates if (state := update.panes[1])}
    assert "Making Q4_0 from the Q4_1 file" in notes
    assert any(update.has_new_level for update in updates)
    assert last_comparison(updates).panes[1].result
    services.library.path_for_level(MODEL, "Q4_0").unlink()


def test_a_context_beyond_the_trained_one_is_cut_to_it(service: CompareService) -> None:
    huge = replace(SHIPPED, context_size=90_000_000)
    context = asked(service, replace(BRIEFLY, choices=(huge, COARSE))).panes[0].context
    assert context and context.context_size == 8192


@pytest.mark.parametrize("level", ["../../etc/passwd", "Q9"])
def test_a_model_that_is_not_on_offer_says_so_and_the_other_answers(service: CompareService, level: str) -> None:
    request = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, level)))
    updates = list(service.ask_both(ANNA, Comparison(), SUM, request))
    assert "Choose another one from the list." in sentence(pane(updates[-1], 1).note)
    assert [bool(pane.result) for pane in last_comparison(updates).panes] == [True, False]
    assert (updates[-1].phase, updates[-1].answers) == ("rest", CLEAR)


def test_a_busy_comparison_refuses_a_second_question(service: CompareService) -> None:
    running = service.ask_both(ANNA, Comparison(), SUM, BRIEFLY)
    assert isinstance(running, Generator)
    next(running)
    (refused,) = service.ask_both(ANNA, Comparison(), SUM, BRIEFLY)
    assert "still busy" in sentence(refused.problem)
    running.close()


def test_an_empty_question_says_what_to_do(service: CompareService) -> None:
    (update,) = service.ask_both(ANNA, Comparison(), " ", BRIEFLY)
    assert "Type something first." in sentence(update.problem)


# --- noise and agreement ---


def test_b_reads_a_s_answer_by_itself_and_the_result_says_how_far_it_agrees(
    service: CompareService, answered: Answered
) -> None:
    comparison, _ = answered
    logged: list[tuple[str, str]] = []
    with events.subscribed(lambda event, facts: logged.append((event, facts.get("outcome", "")))):
        updates = list(service.measurements.measure_by_itself(READER, comparison))
    assert ("scoring", "done") in logged
    facts = [update.result for update in updates if update.result][-1]
    assert facts.agreement is not None and facts.agreement < 1 and (facts.kl_divergence or 0) > 0
    states = [update.panes for update in updates if update.panes[0]][-1]
    assert states[0] and all(token.is_scored and token.top_b for token in states[0].tokens)
    assert all(update.comparison is None for update in updates)  # it never writes over what the visitor does
    again = [update.result for update in service.measurements.measure_by_itself(READER, comparison) if update.result]
    assert again == []  # it is known


def test_the_marks_stay_when_b_answers_anew(service: CompareService) -> None:
    scored = Visitor("scored")
    asked_once = last_comparison(list(service.ask_both(scored, Comparison(), SUM, BRIEFLY)))
    assert list(service.measurements.measure_by_itself(scored, asked_once))
    last = list(service.regenerate_answer(scored, asked_once, 1, BRIEFLY))[-1]
    assert all(token.is_scored for token in pane(last, 0).tokens)


def test_a_model_agrees_wholly_with_itself(service: CompareService) -> None:
    comparison = asked(service, replace(BRIEFLY, choices=(SHIPPED, SHIPPED)))
    facts = [one.result for one in service.measurements.measure_by_itself(ANNA, comparison) if one.result][-1]
    assert (facts.agreement, facts.kl_divergence, facts.is_same) == (1, 0, True)


def test_what_goes_on_by_itself_ends_for_the_next_question(service: CompareService, answered: Answered) -> None:
    measuring = service.measurements.measure_by_itself(Visitor("b"), answered[0])
    next(update for update in measuring if update == CompareUpdate())
    service.stop_what_runs(Visitor("b"))
    (last,) = [update for update in measuring if update != CompareUpdate()]
    assert last.result and last.result.agreement_note == "not measured this time"


# --- the dial ---


def test_the_dial_has_only_levels_that_differ_and_says_why(service: CompareService) -> None:
    dial = service.dials.dial_of(MODEL)
    assert [stop.name for stop in dial.stops] == ["Q8_0", "Q4_1", "IQ4_NL", "Q4_0", "Q2_0"]
    assert [stop.is_here for stop in dial.stops] == [False, True, False, False, True]
    assert dial.left_out.startswith("Q2_K to Q6_K are left out: this model’s rows of 576 weights")
    assert service.dials.dial_of("../../etc/passwd").stops == ()


def test_the_dial_has_other_levels_of_a_repository_that_was_opened_here(
    service: CompareService, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = opening_pair(service.dials.dial_of(MODEL))
    levels = tuple(
        HubLevel("o/r", "main", MODEL, level, (HubFile(f"{level}.gguf", size, "e"),))
        for level, size in (("F16", 270_000_000), ("Q4_1", 98_000_000), ("Q8_0", 145_000_000))
    )
    services.listings.remember(Repository("o/r", "main", (HubModel(MODEL, levels),)))
    models = {MODEL: [replace(file, repo="o/r") for file in services.library.models()[MODEL]]}
    monkeypatch.setattr(services.library, "models", lambda: models)
    dial = service.dials.dial_of(MODEL)
    first = dial.stops[0]
    assert [stop.download for stop in dial.stops] == ["o/r:F16", "", "", "", "", ""] and not first.is_here
    assert first.bits_per_weight and 15 < first.bits_per_weight < 17
    assert dial.find_stop(first.value) is None and opening_pair(dial) == before
    assert read_download('{"a": "Q8_0", "download": "o/r:F16"}') == "o/r:F16" and read_download("[]") == ""
    assert 'data-download="o/r:F16"' in dial_rows(dial) and "o/r:F16" not in slim_dial_rows(dial)


def test_a_level_that_answered_before_comes_back_at_once(service: CompareService, answered: Answered) -> None:
    comparison, shipped = answered[0], CompareRequest((SHIPPED, SHIPPED), max_tokens=12)
    moved = list(service.swap_levels(READER, comparison, shipped))
    assert [bool(update.panes[1]) for update in moved] == [True]  # A's own answer was kept; nothing ran
    assert answers(moved[0]).names == ("Q4_1 (A)", "Q4_1 (B)")
    assert [one.name for one in further(moved[0]).answers] == ["Q2_0"]  # what B said before stays in sight
    assert further(moved[0]).answers[0].text == comparison.panes[1].conversation.messages[-1].content
    back = list(service.swap_levels(READER, last_comparison(moved), BRIEFLY))
    assert len(back) == 1 and last_comparison(back).panes[1].result == comparison.panes[1].result
    assert further(back[0]).answers == ()


def test_a_move_of_b_asks_the_new_level_and_leaves_a_as_it_is(service: CompareService, services: Services) -> None:
    mover = Visitor("mover")  # whose page has no answers of other tests
    comparison = last_comparison(service.ask_both(mover, Comparison(), SUM, BRIEFLY))
    request = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, "Q4_0", 2048)))
    updates = list(service.swap_levels(mover, comparison, request))
    assert all(update.panes[0] is None for update in updates[1:-1])
    beside = [update.further for update in updates if update.further]
    assert [[one.name for one in further.answers] for further in beside] == [["Q2_0"]] * 2
    assert [further.is_busy for further in beside] == [True, False]
    stop = beside[-1].next_stop
    assert stop and stop.name == "IQ4_NL"  # nothing below Q4_0 is left
    swapped = last_comparison(updates)
    assert swapped.panes[0].result == comparison.panes[0].result and swapped.names == ("Q4_1", "Q4_0")
    assert swapped.panes[1].result
    services.library.path_for_level(MODEL, "Q4_0").unlink(missing_ok=True)
    assert list(service.swap_levels(mover, Comparison(), request)) == []  # nothing was asked yet


def test_a_question_before_the_pickers_are_filled_has_all_figures(
    service: CompareService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.setup, "first_choices", lambda model: (SHIPPED, COARSE))
    unfilled = replace(BRIEFLY, choices=(ModelChoice(), ModelChoice()))
    updates = list(service.ask_both(Visitor("early"), Comparison(), SUM, unfilled))
    facts, request = updates[-1].result, last_comparison(updates).request
    assert facts and facts.names == ("Q4_1", "Q2_0") and all(facts.file_bytes) and all(facts.memory_bytes)
    assert request and [choice.level for choice in request.choices] == ["Q4_1", "Q2_0"]


# --- blind ---


def test_no_update_says_which_is_which_before_the_vote(service: CompareService) -> None:
    updates = list(service.ask_both(ANNA, Comparison(), SUM, replace(BRIEFLY, blind=True)))
    for update in updates:
        for state in update.panes:
            if state:
                assert (state.name, state.requantized_from) == ("", None)
                assert (state.growing, state.activity, state.note) == (None, None, CLEAR)
        assert update.answers in (None, CLEAR)
    assert last_comparison(updates).may_vote


def test_a_stopped_blind_comparison_shows_the_names(service: CompareService) -> None:
    updates = []
    for update in service.ask_both(ANNA, Comparison(), STORY, replace(BRIEFLY, blind=True, max_tokens=1500)):
        updates.append(update)
        service.stop_comparison(ANNA)
    comparison = last_comparison(updates)
    assert not comparison.is_hidden and not comparison.may_vote
    assert comparison.shown_order == (0, 1)


def test_a_model_that_fails_in_a_blind_comparison_says_so_in_its_own_pane(service: CompareService) -> None:
    request = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, "Q9")), blind=True)
    last = list(service.ask_both(ANNA, Comparison(), SUM, request))[-1]
    assert pane(last, 0).name == "Q4_1" and pane(last, 0).note == CLEAR
    assert "Choose another one from the list." in sentence(pane(last, 1).note)


def test_a_vote_names_both_and_is_counted_until_it_is_taken_back(service: CompareService) -> None:
    comparison = asked(service, replace(BRIEFLY, blind=True))
    file = comparison.pane_at(0).file
    shipped = 0 if file and file.level == "Q4_1" else 1
    sizes = [one.size if isinstance(one := comparison.pane_at(side).file, ModelFile) else 0 for side in (0, 1)]
    smaller = "AB"[sizes.index(min(sizes))]
    update = service.voting.cast_vote(ANNA, comparison, BALLOT[shipped], guess=smaller)
    assert f"Your guess was right: {smaller} has fewer bits. 1 of 1 right so far." in update.reveal
    assert update.comparison and update.comparison.cleared().guesses == (1, 1)
    assert pane(update, shipped).was_hidden and pane(update, shipped).name == "Q4_1"
    assert isinstance(pane(update, 0).activity, Finished)
    assert isinstance(update.tallies, VoteTallies)
    tally = next(tally for tally in update.tallies.tallies if tally.pair == update.tallies.current)
    assert (tally.first, tally.second) == (1, 0)
    assert update.comparison and not update.comparison.may_vote
    assert "nothing to vote on" in sentence(service.voting.cast_vote(ANNA, update.comparison, "Tie").problem)

    back = service.voting.take_back_vote(ANNA, update.comparison)
    assert back.comparison and back.comparison.may_vote and back.comparison.guesses == (0, 0)
    assert pane(back, shipped).name == "" and "does not count" in sentence(back.problem)
    assert service.votes.tally(tally.pair).count == 0
    again = service.voting.take_back_vote(ANNA, back.comparison)
    assert "There is no vote to take back." in sentence(again.problem)


def test_a_word_that_is_no_vote_is_refused(service: CompareService) -> None:
    comparison = asked(service, replace(BRIEFLY, blind=True))
    assert "That is not a vote." in sentence(service.voting.cast_vote(ANNA, comparison, "C better").problem)


def test_the_names_show_even_if_the_vote_cannot_be_kept(service: CompareService) -> None:
    comparison = asked(service, replace(BRIEFLY, blind=True))
    good = service.votes.path
    service.votes.path = good.parent / "models" / "votes" / "x"
    service.votes.path.parent.parent.mkdir(exist_ok=True)
    service.votes.path.parent.write_text("in the way")
    try:
        update = service.voting.cast_vote(ANNA, comparison, "Tie")
    finally:
        service.votes.path.parent.unlink()
        service.votes.path = good
    assert "Your vote could not be kept" in sentence(update.problem)
    assert pane(update, 0).name.startswith("Q")


# --- what leaves the page, and what comes with a link ---


@pytest.mark.parametrize("form", ["markdown", "json"])
def test_a_saved_comparison_holds_both_answers_and_the_files_digests(
    service: CompareService, answered: Answered, form: str
) -> None:
    text = str(list(service.save_comparison(answered[0], "json" if form == "json" else "markdown"))[-1])
    for session in answered[0].panes:
        assert isinstance(session.file, ModelFile) and session.file.path.name in text
        assert session.conversation.messages[-1].content.strip().split("\n")[0] in text.replace("\\ufffd", "�")
    assert len(re.findall(r"\b[0-9a-f]{64}\b", text)) == 2
    if form == "json":
        assert json.loads(text)["panes"][1]["requantized_from"] == "Q4_1"


def test_a_link_opens_the_same_set_up_again(service: CompareService) -> None:
    request = replace(BRIEFLY, mode="at once", system="Be brief.", max_tokens=512, blind=True)
    setup = service.setup.read_link(dict(parse_qsl(link_query(request, "Why?"))))
    assert setup.choices == request.choices
    assert (setup.prompt, setup.system, setup.mode, setup.temperature) == ("Why?", "Be brief.", "at once", 0)
    assert (setup.max_tokens, setup.blind, setup.follows_up, setup.problems) == (512, True, True, ())


def test_a_link_to_what_is_not_here_says_so_and_opens_the_usual(service: CompareService) -> None:
    setup = service.setup.read_link(
        {"left": "../../etc/passwd:Q4_1", "right": f"{MODEL}:Q9", "mode": "never", "prompt": "Hi"}
    )
    assert len(setup.problems) == 3 and "not on this computer" in setup.problems[0]
    assert setup.problems[2].endswith("have their usual values: run.")
    assert service.setup.choices_to_open(setup) == service.setup.first_choices()
    assert setup.mode is None and setup.prompt == "Hi"


def test_a_newcomer_sees_eight_bits_beside_four(service: CompareService) -> None:
    assert [choice.level for choice in service.setup.first_choices()] == ["Q8_0", "Q4_0"]


def test_the_outlook_knows_memory_and_levels_to_be_made(service: CompareService) -> None:
    assert service.setup.outlook(BRIEFLY) == CompareOutlook("in turn", "together")
    to_make = replace(BRIEFLY, choices=(SHIPPED, ModelChoice(MODEL, "Q6_K", 2048)), mode="at once")
    assert service.setup.outlook(to_make) == CompareOutlook("at once", to_make=("Q6_K",))


# --- a page that is gone, a time that is over ---


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("ended_by", ["the page", "the time"])
def test_a_comparison_ends_with_its_page_or_its_time_and_frees_its_models(services: Services, ended_by: str) -> None:
    clock = Clock()
    runs = Runs(Limits(reply_seconds=60), clock=clock)
    usable_bytes, slots = services.pool.budget_for, services.settings.slots
    picker = ModelPickerService(services.library, services.planner, usable_bytes, slots, runs=runs)
    service = CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))
    updates = service.ask_both(ANNA, Comparison(), STORY, replace(BRIEFLY, max_tokens=1500))
    next(update for update in updates if growing(update, 0))
    if ended_by == "the page":
        runs.end_session(ANNA.session)
    else:
        clock.now += 120
    last = list(updates)[-1]
    assert last.phase == "rest" and last.comparison and last.comparison.pane_at(0).conversation.messages[-1].content
    assert ("The comparison was stopped after 2 minutes" in sentence(last.problem)) is (ended_by == "the time")
    assert all(model.users == 0 for model in services.pool.loaded_models())


# --- a page that is reloaded ---


def test_a_comparison_goes_on_when_its_page_was_reloaded(services: Services, service: CompareService) -> None:
    chat = service.ask_both(ANNA, Comparison(), STORY, replace(BRIEFLY, max_tokens=400), KEY)
    before = next(text for update in chat if (text := growing(update, 0)))
    chat.close()
    services.runs.end_session(ANNA.session)
    back = service.restore_comparison(BACK, "", key=KEY)
    assert growing(next(back), 0).startswith(before)
    service.stop_comparison(BACK)
    last = list(back)[-1]
    assert last.phase == "rest" and pane(last, 0).stopped_by == "person"
    assert [pane.question for pane in [last_comparison([last])]] == [STORY]


def test_the_texts_of_a_comparison_come_back_when_the_server_has_forgotten_it(service: CompareService) -> None:
    chat = Conversation().with_question(SUM)
    texts = Comparison((PaneSession(chat.with_reply(Message("assistant", "4"))), PaneSession(chat))).to_stored_text()
    growth = growing_answers(None, Message("assistant", "It is", "Hm."))
    (update,) = service.restore_comparison(BACK, texts, growth, KEY[::-1])
    assert [[m.content for m in pane(update, position).history] for position in (0, 1)] == [[SUM, "4"], [SUM, "It is"]]
    assert "without their figures" in sentence(update.problem)


@pytest.mark.parametrize("kept", ["", "{", "7", '{"panes": 7}', '{"panes": [[], [], []]}', '{"panes": [[7], []]}'])
def test_texts_that_are_no_comparison_bring_nothing_back(service: CompareService, kept: str) -> None:
    assert list(service.restore_comparison(BACK, kept, "x", "y")) == []


def test_a_cleared_comparison_does_not_come_back(service: CompareService) -> None:
    updates = list(service.ask_both(ANNA, Comparison(), SUM, BRIEFLY, KEY))
    assert list(service.restore_comparison(BACK, "", key=KEY))[-1].comparison == last_comparison(updates)
    service.clear_comparison(last_comparison(updates), KEY)
    assert list(service.restore_comparison(BACK, "", key=KEY)) == []


def test_a_cleared_comparison_can_be_brought_back_until_the_next_question(service: CompareService) -> None:
    answered = last_comparison(list(service.ask_both(ANNA, Comparison(), SUM, BRIEFLY)))
    emptied = service.clear_comparison(answered).comparison
    assert emptied and emptied.is_empty
    again = service.undo_clear(emptied)
    assert again.comparison == answered and again.answers
    assert [pane(again, position).history[0].content for position in (0, 1)] == [SUM, SUM]
    asked_anew = last_comparison(list(service.ask_both(ANNA, emptied, SUM, BRIEFLY)))
    assert asked_anew.replaced is None
