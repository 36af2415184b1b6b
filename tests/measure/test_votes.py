"""The vote database: what is counted, what an interval says, and what happens to a damaged file."""

from __future__ import annotations

import csv
import io
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import PlaygroundError, RequestRefused
from playground.measure.votes import Contestant, Pair, Preference, Vote, VoteStore, wilson_interval

MODEL = "SmolLM2-135M-Instruct"
FINE, COARSE = Contestant(MODEL, "Q8_0"), Contestant(MODEL, "Q2_0")
PAIR = Pair.in_order(FINE, COARSE)


@pytest.fixture
def book(tmp_path: Path) -> VoteStore:
    return VoteStore(tmp_path / "results" / "votes.sqlite")


def vote(preference: Preference, pair: Pair = PAIR) -> Vote:
    return Vote(pair, preference, "second")


def test_a_pair_is_the_same_whichever_side_it_was_shown_on() -> None:
    assert Pair.in_order(COARSE, FINE) == PAIR
    assert PAIR.first == FINE


def test_votes_are_counted_by_pair(book: VoteStore) -> None:
    other = Pair.in_order(FINE, Contestant(MODEL, "Q4_1"))
    preferences: list[Preference] = ["first", "first", "second", "tie", "both bad"]
    for preference in preferences:
        book.add_vote(vote(preference))
    book.add_vote(vote("second", other))
    tally = book.tally(PAIR)
    assert (tally.first, tally.second, tally.ties, tally.both_bad, tally.count) == (2, 1, 1, 1, 5)
    assert [(tally.pair, tally.count) for tally in book.tallies()] == [(PAIR, 5), (other, 1)]


def test_a_vote_that_is_taken_back_does_not_count_and_the_others_do(book: VoteStore) -> None:
    book.add_vote(vote("first"))
    book.add_vote(vote("second"))
    book.remove_vote(vote("second"))
    book.remove_vote(vote("second"))  # as after damage of the file: it is gone already
    tally = book.tally(PAIR)
    assert (tally.first, tally.second) == (1, 0)


def test_votes_are_still_there_after_the_playground_was_closed(book: VoteStore) -> None:
    book.add_vote(vote("tie"))
    assert VoteStore(book.path).tally(PAIR).ties == 1


def test_a_pair_without_votes_has_no_share_and_could_be_anything(book: VoteStore) -> None:
    tally = book.tally(PAIR)
    assert (tally.count, tally.share, tally.interval) == (0, None, (0.0, 1.0))
    assert not book.path.exists()  # to look makes no file


# Published values: Wilson's interval without correction, as R's prop.test(correct = FALSE) prints it.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(7, 9, 0.4526, 0.9368), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_the_interval_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_the_interval_holds_the_share_and_stays_a_share(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_ties_do_not_move_the_share(book: VoteStore) -> None:
    for preference in ("first", "second", "tie", "tie", "both bad"):
        book.add_vote(vote(preference))
    assert book.tally(PAIR).share == 0.5


def test_the_export_has_a_line_for_each_vote(book: VoteStore) -> None:
    book.add_vote(vote("first"))
    book.add_vote(vote("both bad"))
    rows = list(csv.DictReader(io.StringIO(book.export_csv())))
    assert [row["preference"] for row in rows] == ["first", "both bad"]
    assert (rows[0]["first_level"], rows[0]["second_level"], rows[0]["shown_as_a"]) == ("Q8_0", "Q2_0", "second")
    assert rows[0]["voted_at"].endswith("+00:00")


def test_an_export_without_votes_has_the_names_of_the_columns(book: VoteStore) -> None:
    assert book.export_csv().startswith("voted_at,first_model,")


def test_a_model_named_like_a_formula_stays_text_in_a_spreadsheet(book: VoteStore) -> None:
    book.add_vote(vote("tie", Pair.in_order(Contestant("=cmd|' /C calc'!A0", "Q8_0"), COARSE)))
    assert "'=cmd" in book.export_csv()


def test_many_visitors_vote_at_once_and_none_is_lost(book: VoteStore) -> None:
    visitors = [
        threading.Thread(target=lambda: [book.add_vote(vote("first")) for _ in range(5)])  # type: ignore[func-returns-value]
        for _ in range(6)
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert book.tally(PAIR).first == 30


@pytest.mark.parametrize("content", [b"this is no database at all, but long enough to be one" * 40, b"\x00" * 5000])
def test_a_damaged_file_is_moved_aside_whole_and_a_new_book_begun(book: VoteStore, content: bytes) -> None:
    book.path.parent.mkdir()
    book.path.write_bytes(content)
    book.repair_file()
    (kept,) = book.path.parent.glob("*.damaged-*")
    assert kept.read_bytes() == content
    assert "damaged" in book.set_aside and kept.name in book.set_aside
    assert book.tallies() == []
    book.add_vote(vote("tie"))
    assert book.tally(PAIR).count == 1


def test_a_file_that_is_damaged_while_the_playground_runs_is_told_and_moved_aside(book: VoteStore) -> None:
    book.path.parent.mkdir()
    book.path.write_bytes(b"damaged" * 1000)
    with pytest.raises(PlaygroundError, match=r"could not be kept\. The vote database was damaged .* Try again"):
        book.add_vote(vote("tie"))
    book.add_vote(vote("tie"))
    assert book.tally(PAIR).count == 1


def test_damage_in_the_middle_of_a_book_is_found_at_the_start(book: VoteStore) -> None:
    for _ in range(200):
        book.add_vote(vote("first"))
    whole = bytearray(book.path.read_bytes())
    whole[4096:8192] = b"\xff" * 4096
    book.path.write_bytes(whole)
    book.repair_file()
    (kept,) = book.path.parent.glob("*.damaged-*")
    assert kept.read_bytes() == bytes(whole)
    assert book.tallies() == []


def test_a_folder_in_the_place_of_the_book_is_moved_aside(book: VoteStore) -> None:
    (book.path / "inside").mkdir(parents=True)
    book.repair_file()
    (kept,) = book.path.parent.glob("*.damaged-*")
    assert (kept / "inside").is_dir() and kept.name in book.set_aside
    book.add_vote(vote("tie"))
    assert book.tally(PAIR).count == 1


def test_an_empty_file_as_a_full_disk_leaves_it_is_a_book_without_votes(book: VoteStore) -> None:
    book.path.parent.mkdir()
    book.path.touch()
    book.repair_file()
    assert book.tallies() == [] and book.set_aside == ""
    book.add_vote(vote("tie"))
    assert book.tally(PAIR).count == 1


def test_a_sound_book_stays_where_it_is(book: VoteStore) -> None:
    book.add_vote(vote("tie"))
    book.repair_file()
    assert book.set_aside == "" and book.tally(PAIR).count == 1


def test_a_database_of_something_else_is_told(book: VoteStore) -> None:
    book.path.parent.mkdir()
    with sqlite3.connect(book.path) as database:
        database.execute("CREATE TABLE votes (something TEXT)")
    database.close()
    with pytest.raises(PlaygroundError, match="could not be kept"):
        book.add_vote(vote("tie"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlaygroundError, match="Your vote could not be kept"):
        VoteStore(tmp_path / "file" / "votes.sqlite").add_vote(vote("tie"))


def test_a_vote_that_is_none_is_not_kept(book: VoteStore) -> None:
    with pytest.raises(RequestRefused, match="Choose A, B, tie or both bad"):
        book.add_vote(vote("third"))  # type: ignore[arg-type]
    assert book.tallies() == []


def test_a_full_book_takes_no_more_votes_and_says_so(tmp_path: Path) -> None:
    book = VoteStore(tmp_path / "votes.sqlite", most=2)
    book.add_vote(vote("tie"))
    book.add_vote(vote("first"))
    with pytest.raises(RequestRefused, match=r"the vote database is full \(2\)"):
        book.add_vote(vote("tie"))
    assert book.tally(PAIR).count == 2
