"""Who counts as one person, what each may have under way, and what happens to the runs of a closed page.

The tests set the clock.
"""

from __future__ import annotations

import pytest

from playground.errors import RequestRefused
from playground.limits.limits import Limits
from playground.limits.run import GRACE_SECONDS, Work
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor, address_of
from playground.settings import load_settings

ANNA, BEN = Visitor("a", "198.51.100.1"), Visitor("b", "198.51.100.2")
STRICT = Limits(
    replies=3, replies_each=2, lab_runs=2, lab_runs_each=1, downloads=2, downloads_each=1, results_each_an_hour=2,
    reply_tokens=100, reply_seconds=60, wait_seconds=30, lab_seconds=90,
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(clock: Clock) -> Runs:
    return Runs(STRICT, clock=clock)


def tab_of(visitor: Visitor, number: int) -> Visitor:
    return Visitor(f"{visitor.session}{number}", visitor.address)


def try_out(runs: Runs, visitor: Visitor, work: Work, place: str = "chat", about: object = None) -> None:
    with runs.start_run(visitor, work, place, about):
        pass


def refused(runs: Runs, visitor: Visitor, work: Work, place: str = "chat", about: object = None, *, words: str) -> bool:
    with pytest.raises(RequestRefused) as refusal:
        try_out(runs, visitor, work, place, about)
    return words in str(refusal.value)


# --- one person, several pages ---


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "on_space", "address"),
    [
        ("198.51.100.7", "", 0, False, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", 0, False, "198.51.100.7"),  # no proxy is configured
        ("10.0.0.2", "203.0.113.9", 1, False, "203.0.113.9"),
        ("10.0.0.2", "1.2.3.4, 203.0.113.9", 1, False, "203.0.113.9"),  # the left entry is made up
        ("10.0.0.2", "203.0.113.9, 10.0.0.3", 2, False, "203.0.113.9"),
        ("198.51.100.7", "", 1, False, "198.51.100.7"),  # came past the proxy
        ("10.0.0.2", "9.9.9.9, 8.8.8.8, 10.1.2.3", 0, True, "8.8.8.8"),
        ("10.0.0.2", "10.1.2.3", 0, True, ""),
        ("10.0.0.2", "", 0, True, ""),
        ("127.0.0.1", "203.0.113.9", 0, False, ""),
        ("::1", "", 0, False, ""),
        ("::ffff:198.51.100.7", "", 0, False, "198.51.100.7"),
        ("2001:db8:1:2:aaaa::1", "", 0, False, "2001:db8:1:2::/64"),
        ("", "[2001:db8:1:2::5]:4711", 1, False, "2001:db8:1:2::/64"),
        ("", "203.0.113.9:4711", 1, False, "203.0.113.9"),
        ("", "<script>", 1, False, ""),
        (None, "", 0, False, ""),
    ],
)
def test_the_address_is_the_one_nobody_can_make_up(
    peer: str | None, forwarded: str, proxies: int, on_space: bool, address: str
) -> None:
    assert address_of(peer, forwarded, proxies=proxies, on_space=on_space) == address


def test_pages_at_one_address_share_one_share(runs: Runs) -> None:
    with runs.start_run(tab_of(ANNA, 1), "reply"), runs.start_run(tab_of(ANNA, 2), "comparison"):
        assert refused(runs, tab_of(ANNA, 3), "reply", words="You have 2 replies under way")
        try_out(runs, BEN, "reply")


def test_pages_without_an_address_count_alone(runs: Runs) -> None:
    with runs.start_run(Visitor("1"), "reply"), runs.start_run(Visitor("2"), "reply"):
        try_out(runs, Visitor("3"), "reply")


# --- shares ---


def test_a_page_does_one_thing_at_a_time_in_each_place(runs: Runs) -> None:
    with runs.start_run(ANNA, "reply", "chat"):
        assert refused(runs, ANNA, "load", "chat", words="This chat is still busy.")
        try_out(runs, ANNA, "comparison", "comparison")


def test_a_full_playground_says_so(runs: Runs) -> None:
    one, two, three, four = (Visitor(session) for session in "1234")
    with runs.start_run(one, "reply"), runs.start_run(two, "load"), runs.start_run(three, "reply"):
        assert refused(runs, four, "reply", words="full: 3 replies are being written or wait. Try again")


def test_lab_runs_have_a_share_of_their_own(runs: Runs) -> None:
    with runs.start_run(ANNA, "making", "left"):
        try_out(runs, ANNA, "reply")
        assert refused(runs, ANNA, "scoring", "comparison", words="You have 1 measurement or quantization under way")


def test_visitors_who_wait_for_the_same_level_are_one_lab_run(runs: Runs) -> None:
    one, two, three, four = (Visitor(session) for session in "1234")
    q2_0 = [runs.start_run(visitor, "making", about="Q2_0") for visitor in (one, two)]
    with q2_0[0], q2_0[1], runs.start_run(three, "control"):
        try_out(runs, four, "making", about="Q2_0")
        assert refused(runs, four, "making", about="Q8_0", words="full: 2 measurements or quantizations are under way")


def test_a_run_that_failed_counts_no_more(runs: Runs) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), runs.start_run(ANNA, "reply"):
            raise ZeroDivisionError
    assert not runs.count_runs()


def test_a_reply_longer_than_allowed_is_refused_with_the_figure(runs: Runs) -> None:
    runs.check_reply_length(100)
    with pytest.raises(RequestRefused, match=r"up to 100 tokens here; 5,000 were asked for\. Choose a shorter one"):
        runs.check_reply_length(5000)


def test_downloads_are_shared_until_they_end(runs: Runs) -> None:
    runs.add_download(ANNA, "one", [])
    runs.add_download(ANNA, "one", ["one"])  # it is under way already
    with pytest.raises(RequestRefused, match="You have 1 download under way"):
        runs.add_download(ANNA, "two", ["one"])
    runs.add_download(BEN, "two", ["one"])
    with pytest.raises(RequestRefused, match="2 downloads are waiting or under way"):
        runs.add_download(Visitor("c"), "three", ["one", "two"])
    runs.add_download(ANNA, "three", ["two"])


def test_a_download_can_be_ended_only_by_its_visitor(runs: Runs) -> None:
    runs.add_download(ANNA, "one", [])
    runs.check_download_owner(tab_of(ANNA, 2), "one")
    with pytest.raises(RequestRefused, match="Another visitor started this download"):
        runs.check_download_owner(BEN, "one")
    runs.check_download_owner(BEN, "of an earlier start")


def test_results_of_an_hour_ago_count_no_more(runs: Runs, clock: Clock) -> None:
    runs.add_result(ANNA)
    runs.add_result(ANNA)
    with pytest.raises(RequestRefused, match="2 votes and results within an hour"):
        runs.add_result(ANNA)
    runs.add_result(BEN)
    clock.now += 3601
    runs.add_result(ANNA)


# --- stops and times ---


def test_a_stop_reaches_only_its_own_place_and_page(runs: Runs) -> None:
    with runs.start_run(ANNA, "reply", "chat") as reply, runs.start_run(ANNA, "comparison", "comparison") as other:
        runs.stop_run(Visitor("b", ANNA.address), "chat")
        assert not reply.is_stopped()
        runs.stop_run(ANNA, "chat")
        assert reply.is_stopped() and reply.interruption is None
        assert not other.is_stopped()


def test_a_closed_page_ends_everything_it_had_under_way(runs: Runs) -> None:
    with runs.start_run(ANNA, "reply", "chat") as one, runs.start_run(ANNA, "making", "left") as other:
        runs.end_session("a")
        assert one.is_stopped() and other.is_stopped()


def test_waiting_has_a_time_limit_and_a_sentence(runs: Runs, clock: Clock) -> None:
    with runs.start_run(ANNA, "reply") as run:
        clock.now += 29
        assert not run.is_stopped()
        clock.now += 1
        assert run.is_stopped()
        assert "Nothing became free within 30 seconds" in str(run.interruption)


def test_the_time_limit_of_a_reply_begins_after_its_waiting(runs: Runs, clock: Clock) -> None:
    with runs.start_run(ANNA, "reply") as run:
        clock.now += 29
        run.begin_work()
        clock.now += 59
        run.begin_work()  # called again with every update
        assert not run.is_stopped()
        clock.now += 1
        assert "stopped after 1 minute, the longest" in str(run.interruption)


def test_a_lab_run_has_its_own_time_limit(runs: Runs, clock: Clock) -> None:
    with runs.start_run(ANNA, "making") as run:
        clock.now += 89
        assert not run.is_stopped()
        clock.now += 1
        assert "This was stopped after 90 seconds" in str(run.interruption)


# --- abandoned runs ---


def test_what_an_abandoned_run_holds_is_released_last_first(runs: Runs, clock: Clock) -> None:
    released: list[str] = []
    abandoned = runs.start_run(ANNA, "reply")
    run = abandoned.__enter__()
    run.release_if_abandoned(lambda: released.append("lease"))
    run.release_if_abandoned(lambda: released.append("reply"))
    runs.end_session("a")
    runs.release_abandoned_runs()
    assert not released  # it may still end by itself
    clock.now += GRACE_SECONDS
    runs.release_abandoned_runs()
    assert released == ["reply", "lease"]
    with runs.start_run(ANNA, "reply"):
        abandoned.__exit__(None, None, None)  # late, and without effect on the next
        assert runs.count_runs()["reply"] == 1


def test_a_run_past_its_time_limit_is_released_too(runs: Runs, clock: Clock) -> None:
    released: list[str] = []
    abandoned = runs.start_run(ANNA, "reply")
    abandoned.__enter__().release_if_abandoned(lambda: released.append("lease"))
    clock.now += 30 + GRACE_SECONDS
    runs.release_abandoned_runs()
    assert released == ["lease"]
    assert not runs.count_runs()


def test_after_closing_all_runs_stop_and_none_starts(runs: Runs) -> None:
    with runs.start_run(ANNA, "reply") as run:
        runs.close()
        assert run.is_stopped()
    with pytest.raises(RequestRefused, match="shutting down"), runs.start_run(ANNA, "reply"):
        pass


# --- settings ---


def test_a_space_is_stricter_than_ones_own_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    here = Limits.from_settings(load_settings())
    monkeypatch.setenv("SPACE_ID", "someone/playground")
    there = Limits.from_settings(load_settings())
    assert all(getattr(there, name) < getattr(here, name) for name in vars(here))


@pytest.mark.parametrize(("slots", "wanted", "given"), [(4, 3, 3), (4, 99, 3), (2, 3, 1), (1, 2, 2)])
def test_one_visitor_cannot_hold_all_slots(slots: int, wanted: int, given: int) -> None:
    assert Limits.from_settings(load_settings(slots=slots, max_replies_per_visitor=wanted)).replies_each == given
