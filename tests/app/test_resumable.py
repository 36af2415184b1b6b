"""Replies that go on without their page: found by their key alone, ended in time, within the limits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from playground.app.resumable import ABSENCE_SECONDS, KEPT_SECONDS, MOST_ENDED_EACH, ResumableReplies
from playground.errors import RequestRefused
from playground.limits.limits import Limits
from playground.limits.run import Run
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor

BEFORE, AFTER = Visitor("before the reload", "203.0.113.9"), Visitor("after the reload", "203.0.113.9")
KEY, OTHER_KEY = "0" * 32, "1" * 32
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Text:
    """An update: the reply so far."""

    text: str

    def after(self, earlier: Text) -> Text:
        return self

    @property
    def size(self) -> int:
        return len(self.text)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Writer:
    """A reply that writes the words which the test gives it, until one is empty or its run is stopped."""

    def __init__(self, runs: Runs, visitor: Visitor = BEFORE) -> None:
        self._runs, self._visitor = runs, visitor
        self._words: queue.Queue[str] = queue.Queue()
        self.ended = threading.Event()
        self.stopped_by = ""

    def write(self, word: str) -> None:
        self._words.put(word)

    def work(self, has_begun: Callable[[Run], None] | None) -> Iterator[Text]:
        absence_seconds = ABSENCE_SECONDS if has_begun else 0.0
        try:
            with self._runs.start_run(self._visitor, "reply", absence_seconds=absence_seconds) as run:
                if has_begun:
                    has_begun(run)
                yield from self._reply(run)
        finally:
            self.ended.set()

    def _reply(self, run: Run) -> Iterator[Text]:
        text = ""
        while not run.is_stopped():
            try:
                word = self._words.get(timeout=0.01)
            except queue.Empty:
                continue
            if not word:
                return
            text += word
            yield Text(text)
        self.stopped_by = run.stopped_by
        yield Text(f"{text} (stopped)")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(clock: Clock) -> Iterator[Runs]:
    with Runs(Limits(replies_each=2), clock=clock) as runs:
        yield runs


@pytest.fixture
def replies(clock: Clock) -> ResumableReplies[Text]:
    return ResumableReplies(clock=clock)


@pytest.fixture
def writer(runs: Runs, replies: ResumableReplies[Text]) -> Writer:
    """A reply of one word, whose page was closed then."""
    writer = Writer(runs)
    reading = replies.start(KEY, BEFORE, writer.work)
    writer.write("One ")
    assert next(reading) == Text("One ")
    reading.close()  # type: ignore[attr-defined]
    runs.end_session(BEFORE.session)
    return writer


def test_a_reply_goes_on_without_its_page_and_is_there_when_it_is_back(
    replies: ResumableReplies[Text], writer: Writer
) -> None:
    reading = replies.resume(KEY, AFTER)
    assert next(reading) == Text("One ")
    writer.write("two ")
    assert next(reading) == Text("One two ")
    writer.write("")
    assert list(reading) == []


def test_a_reply_that_ended_meanwhile_is_there_whole(
    clock: Clock, replies: ResumableReplies[Text], writer: Writer
) -> None:
    writer.write("two.")
    writer.write("")
    assert writer.ended.wait(PATIENCE_SECONDS)
    clock.now += KEPT_SECONDS - 1
    assert list(replies.resume(KEY, AFTER))[-1] == Text("One two.")
    clock.now += 2
    assert replies.find(KEY) == (None, False)


def test_nobody_finds_a_reply_without_its_key(replies: ResumableReplies[Text], writer: Writer) -> None:
    for key in (OTHER_KEY, "", "*", KEY.upper() + " "):
        assert replies.find(key) == (None, False)
        assert list(replies.resume(key, AFTER)) == []
    assert replies.find(KEY) == (Text("One "), True)


def test_a_reply_ends_when_its_page_stays_away(clock: Clock, runs: Runs, writer: Writer) -> None:
    clock.now += ABSENCE_SECONDS - 0.1
    assert runs.count_runs()["reply"] == 1
    clock.now += 0.2
    assert writer.ended.wait(PATIENCE_SECONDS)
    assert (writer.stopped_by, runs.count_runs()["reply"]) == ("absence", 0)


def test_a_page_that_was_back_in_time_may_stay(clock: Clock, replies: ResumableReplies[Text], writer: Writer) -> None:
    reading = replies.resume(KEY, AFTER)
    next(reading)
    clock.now += 10 * ABSENCE_SECONDS
    writer.write("two")
    assert next(reading) == Text("One two")


def test_the_page_that_is_back_can_stop_its_reply(runs: Runs, replies: ResumableReplies[Text], writer: Writer) -> None:
    reading = replies.resume(KEY, AFTER)
    next(reading)
    runs.stop_run(BEFORE, "chat")
    runs.stop_run(AFTER, "chat")
    assert list(reading)[-1] == Text("One  (stopped)")
    assert writer.stopped_by == "person"


def test_a_reply_without_its_page_counts_towards_the_limit(runs: Runs, writer: Writer) -> None:
    third = Visitor("a third page", BEFORE.address)
    with runs.start_run(third, "reply", "chat"), pytest.raises(RequestRefused, match="2 replies under way"):
        runs.start_run(third, "reply", "elsewhere").__enter__()
    assert not writer.ended.is_set()


@pytest.mark.parametrize("key", ["", "guess", "0" * 31, "g" * 32, "0" * 64])
def test_without_a_random_key_a_reply_ends_with_its_reader(
    runs: Runs, replies: ResumableReplies[Text], key: str
) -> None:
    writer = Writer(runs)
    reading = replies.start(key, BEFORE, writer.work)
    writer.write("One ")
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert writer.ended.is_set() and replies.find(key) == (None, False)


def test_only_the_newest_replies_of_a_visitor_are_kept(runs: Runs, replies: ResumableReplies[Text]) -> None:
    keys = [f"{number:032x}" for number in range(MOST_ENDED_EACH + 2)]
    for key in keys:
        writer = Writer(runs)
        writer.write(key)
        writer.write("")
        assert list(replies.start(key, BEFORE, writer.work)) == [Text(key)]
    assert [replies.find(key)[0] is not None for key in keys] == [False, False] + [True] * MOST_ENDED_EACH


def test_a_refused_reply_takes_nothing_from_the_one_under_way(
    runs: Runs, replies: ResumableReplies[Text], writer: Writer
) -> None:
    with pytest.raises(RequestRefused, match="still busy"):
        list(replies.start(KEY, BEFORE, Writer(runs).work))
    assert replies.find(KEY) == (Text("One "), True)
