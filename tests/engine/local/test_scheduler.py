"""The scheduler alone, with a decoder that says the alphabet: who is served when, and what is evaluated."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeVar

import pytest

from playground.engine.local.eta import REMEMBERED, EtaEstimator
from playground.engine.local.prompt_pieces import CPU_PIECES, GPU_PIECES
from playground.engine.local.scheduler import Scheduler
from playground.engine.protocol import Failed, Finished, Generate, Prefilled, Queued, ReplyRequest, Token
from playground.llama.sampling_extras import GREEDY, SamplingExtras, ThinkingLimit
from tests.support.scripted_decoder import ScriptedDecoder

E = TypeVar("E")


class SchedulerBench:
    """A scheduler with its decoder, and the events of each request."""

    def __init__(self, **decoder_options: Any) -> None:
        self.decoder = ScriptedDecoder(**decoder_options)
        self.events: defaultdict[int, list[Any]] = defaultdict(list)
        self.order: list[Any] = []
        self.scheduler = Scheduler(self.decoder, self.hear, self.decoder.clock)

    def hear(self, event: Any) -> None:
        self.events[event.request].append(event)
        self.order.append(event)

    def ask(self, number: int, prompt: str, **options: Any) -> None:
        self.scheduler.add_request(Generate(number, ReplyRequest(prompt, GREEDY, **options)))

    def run(self, steps: int = 10_000) -> None:
        while self.scheduler.is_busy and steps:
            self.scheduler.run_step()
            steps -= 1
        assert steps or not self.scheduler.is_busy

    def text(self, number: int) -> str:
        return "".join(event.text for event in self.events[number] if isinstance(event, Token | Finished))

    def end(self, number: int) -> Any:
        (end,) = [event for event in self.events[number] if isinstance(event, Finished)]
        return end

    def of_kind(self, number: int, kind: type[E]) -> list[E]:
        return [event for event in self.events[number] if isinstance(event, kind)]


def test_a_reply_runs_to_the_end_of_the_text() -> None:
    bench = SchedulerBench()
    bench.ask(1, "w")
    bench.run()
    assert bench.text(1) == "xyz"
    assert bench.end(1).reason == "end of text"


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"max_tokens": 2}, "bc", "length limit"),
        ({"stop": ("de",)}, "bc", "stop string"),
        ({"max_tokens": 1}, "b", "length limit"),
    ],
)
def test_a_reply_says_why_it_ended(options: Any, text: str, reason: str) -> None:
    bench = SchedulerBench()
    bench.ask(1, "a", **options)
    bench.run()
    assert (bench.text(1), bench.end(1).reason) == (text, reason)


def test_thoughts_end_at_their_limit_with_the_mark_that_closes_them() -> None:
    bench = SchedulerBench()
    bench.ask(1, "a", max_tokens=12, extras=SamplingExtras(thinking=ThinkingLimit(3, "b", "#")))
    bench.run()
    assert bench.text(1).startswith("bcde\n#\n\n")


@pytest.mark.parametrize("limit", [ThinkingLimit(9, "b", "f"), ThinkingLimit(3, "x", "#")])
def test_thoughts_within_their_limit_are_left_alone(limit: ThinkingLimit) -> None:
    bench = SchedulerBench()
    bench.ask(1, "a", max_tokens=12, extras=SamplingExtras(thinking=limit))
    bench.run()
    assert bench.text(1) == "bcdefghijklm"


def test_a_limit_of_thoughts_counts_what_was_written_before() -> None:
    bench = SchedulerBench()
    written = tuple(map(ord, "bcd"))
    bench.ask(1, "a", max_tokens=6, written=written, extras=SamplingExtras(thinking=ThinkingLimit(3, "b", "#")))
    bench.run()
    assert bench.text(1).startswith("e\n#\n\n")


def test_a_full_context_ends_the_reply_and_loses_nothing() -> None:
    bench = SchedulerBench(context_size=8, batch_size=8)
    bench.ask(1, "abcde")
    bench.run()
    assert (bench.text(1), bench.end(1).reason) == ("fgh", "context full")


def test_a_prompt_that_cannot_fit_is_refused_with_both_figures() -> None:
    bench = SchedulerBench(context_size=8)
    bench.ask(1, "a" * 8)
    (failed,) = bench.events[1]
    assert isinstance(failed, Failed)
    assert failed.problem.count("8") == 2
    assert not bench.scheduler.is_busy


def test_two_requests_share_each_batch() -> None:
    bench = SchedulerBench()
    bench.ask(1, "a", max_tokens=5)
    bench.ask(2, "m", max_tokens=5)
    bench.run()
    assert (bench.text(1), bench.text(2)) == ("bcdef", "nopqr")
    assert [{sequence for sequence, _, _ in batch} for batch in bench.decoder.batches] == [{0, 1}] * 5


def test_requests_beyond_the_slots_wait_and_hear_their_place() -> None:
    bench = SchedulerBench(slots=1)
    for number in (1, 2, 3):
        bench.ask(number, "w")
    bench.run()
    assert [event.position for event in bench.of_kind(2, Queued)] == [1]
    assert [event.position for event in bench.of_kind(3, Queued)] == [2, 1]
    ends = [event.request for event in bench.order if isinstance(event, Finished)]
    assert ends == [1, 2, 3]


def test_who_waits_hears_for_how_long_as_soon_as_a_reply_has_been_measured() -> None:
    bench = SchedulerBench(slots=1)
    for number in (1, 2, 3):
        bench.ask(number, "w")
    bench.run()
    unknown, known = bench.of_kind(3, Queued)
    assert unknown.wait_seconds is None
    assert known.wait_seconds == pytest.approx(bench.end(1).timings.total_seconds)
    assert known.wait_seconds == pytest.approx(
        bench.end(3).timings.queued_seconds - bench.end(2).timings.queued_seconds
    )


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    bench = SchedulerBench(slots=3, context_size=32)
    bench.ask(1, "a", max_tokens=10)
    bench.ask(2, "a" * 20, max_tokens=12)  # needs the whole context
    bench.ask(3, "x", max_tokens=1)
    bench.run()
    ends = [event.request for event in bench.order if isinstance(event, Finished)]
    assert ends == [1, 2, 3]


def test_a_second_turn_evaluates_only_the_new_tokens() -> None:
    bench = SchedulerBench()
    bench.ask(1, "abc", max_tokens=3)
    bench.run()
    bench.decoder.batches.clear()
    bench.ask(2, "abcdef" + "pq", max_tokens=1)
    bench.run()
    assert bench.end(2).timings.cached_tokens == 5  # the last sampled token was never evaluated
    assert [row[1:] for batch in bench.decoder.batches for row in batch] == [
        (5, ord("f")),
        (6, ord("p")),
        (7, ord("q")),
    ]
    assert bench.of_kind(2, Prefilled)[-1] == Prefilled(2, 8, 8, 5)


def test_the_same_prompt_again_evaluates_its_last_token_only() -> None:
    bench = SchedulerBench()
    for number in (1, 2):
        bench.ask(number, "abc", max_tokens=2)
        bench.run()
    assert bench.end(2).timings.cached_tokens == 2
    assert bench.text(1) == bench.text(2)


def test_a_cache_that_cannot_forget_a_suffix_is_evaluated_anew() -> None:
    bench = SchedulerBench(can_forget_suffix=False)
    bench.ask(1, "abc", max_tokens=3)
    bench.run()
    bench.ask(2, "abX", max_tokens=2)
    bench.run()
    assert bench.end(2).timings.cached_tokens == 0
    assert bench.text(2) == "YZ"


def test_another_chats_cache_is_spared_while_an_empty_slot_is_left() -> None:
    bench = SchedulerBench(slots=2)
    bench.ask(1, "abcdefgh", max_tokens=2)
    bench.run()
    bench.ask(2, "aXXXX", max_tokens=2)
    bench.run()
    bench.ask(3, "abcdefgh", max_tokens=2)
    bench.run()
    assert bench.end(3).timings.cached_tokens == 7


def test_a_reply_asked_for_again_takes_the_place_of_the_first_try() -> None:
    bench = SchedulerBench(slots=2)
    for number in (1, 2):
        bench.ask(number, "abc", max_tokens=8)
        bench.run()
    assert sorted(len(cells) for cells in bench.decoder.cells.values()) == [10]


def test_a_chat_begun_anew_takes_its_own_place_and_no_other_chats() -> None:
    bench = SchedulerBench(slots=3)
    bench.ask(1, "abcdefgh", max_tokens=2, chat="Ann")
    bench.run()
    bench.ask(2, "abcXYZ", max_tokens=2, chat="Ben")
    bench.run()
    bench.ask(3, "mno", max_tokens=2, chat="Ann")
    bench.run()
    assert sorted(bytes(cells) for cells in bench.decoder.cells.values()) == [b"abcXYZ[", b"mnop"]


def test_a_chat_that_is_over_gives_up_its_sequence_at_once_or_when_its_reply_ends() -> None:
    bench = SchedulerBench(slots=2)
    bench.ask(1, "abc", max_tokens=2, chat="Ann")
    bench.run()
    bench.ask(2, "mno", max_tokens=3, chat="Ben")
    bench.scheduler.run_step()
    for chat in ("Ann", "Ben", "nobody"):
        bench.scheduler.forget_chat(chat)
    assert sorted(map(len, bench.decoder.cells.values())) == [0, 3]
    bench.run()
    assert bench.text(2) == "pqr" and not any(bench.decoder.cells.values())


def test_the_oldest_idle_sequence_makes_room_first() -> None:
    bench = SchedulerBench(slots=3, context_size=32)
    bench.ask(1, "a" * 10, max_tokens=1)
    bench.run()
    bench.ask(2, "m" * 10, max_tokens=1)
    bench.run()
    bench.ask(3, "t" * 15, max_tokens=2)
    bench.run()
    kept = sorted(len(cells) for cells in bench.decoder.cells.values())
    assert kept == [0, 10, 16]
    bench.ask(4, "m" * 10, max_tokens=1)
    bench.run()
    assert bench.end(4).timings.cached_tokens == 9


def test_a_cancelled_reply_frees_its_sequence_within_the_step() -> None:
    bench = SchedulerBench(slots=1)
    bench.ask(1, "a")
    bench.ask(2, "w")
    for _ in range(3):
        bench.scheduler.run_step()
    bench.scheduler.cancel_request(1)
    assert bench.end(1).reason == "cancelled"
    bench.run()
    assert bench.text(2) == "xyz"


def test_a_reply_cancelled_while_it_reads_its_prompt_keeps_what_was_read() -> None:
    bench = SchedulerBench(slots=1, context_size=256, batch_size=64)
    bench.ask(1, "a" * 150, max_tokens=1)
    bench.scheduler.run_step()
    bench.scheduler.cancel_request(1)
    read = len(bench.decoder.cells[0])
    assert 0 < read < 150
    bench.ask(2, "a" * 150, max_tokens=1)
    bench.run()
    assert bench.end(2).timings.cached_tokens == read


def test_a_waiting_request_can_be_cancelled() -> None:
    bench = SchedulerBench(slots=1)
    bench.ask(1, "w")
    bench.ask(2, "w")
    bench.ask(3, "w")
    bench.scheduler.run_step()
    bench.scheduler.cancel_request(2)
    bench.run()
    assert bench.end(2).reason == "cancelled"
    assert bench.text(3) == "xyz"


def test_an_aborted_step_is_done_again_without_losing_text() -> None:
    bench = SchedulerBench()
    bench.ask(1, "a", max_tokens=5)
    bench.scheduler.run_step()
    bench.decoder.abort_next = True
    bench.run()
    assert bench.text(1) == "bcdef"


def test_a_reproducible_request_decodes_alone_in_fixed_chunks_on_an_empty_cache() -> None:
    bench = SchedulerBench(slots=2, context_size=1024, batch_size=512)
    prompt = "a" * (2 * CPU_PIECES.fixed + 10)
    bench.ask(1, prompt, max_tokens=2)
    bench.run()
    bench.decoder.batches.clear()
    bench.ask(2, "w")
    bench.ask(3, prompt, max_tokens=2, reproducible=True)
    bench.ask(4, "w")
    bench.run()
    mine = [batch for batch in bench.decoder.batches if any(token == ord("a") for _, _, token in batch)]
    assert [len(batch) for batch in mine] == [CPU_PIECES.fixed, CPU_PIECES.fixed, 10]
    assert all(len({sequence for sequence, _, _ in batch}) == 1 for batch in mine)
    assert bench.end(3).timings.cached_tokens == 0
    assert [event.request for event in bench.order if isinstance(event, Finished)][1:] == [2, 3, 4]


def test_on_a_gpu_the_fixed_pieces_are_those_that_it_computes_at_once() -> None:
    bench = SchedulerBench(slots=1, context_size=4096, batch_size=2048, is_on_cpu=False)
    bench.ask(1, "a" * 1100, max_tokens=1, reproducible=True)
    bench.run()
    assert [len(batch) for batch in bench.decoder.batches] == [GPU_PIECES.fixed, GPU_PIECES.fixed, 76]


def test_on_a_gpu_a_prompt_is_read_in_few_pieces_of_what_it_computes_at_once() -> None:
    bench = SchedulerBench(slots=1, context_size=8192, batch_size=2048, seconds_per_token=0.0001, is_on_cpu=False)
    bench.ask(1, "a" * 64, max_tokens=1)  # tells the speed
    bench.run()
    bench.ask(2, "m" * 600, max_tokens=1)
    bench.ask(3, "t" * 2500, max_tokens=1)
    bench.run()
    assert [len(batch) for batch in bench.decoder.batches] == [64, 600, 1536, 964]


def test_a_slow_gpu_reads_no_longer_in_one_step_than_others_should_wait() -> None:
    bench = SchedulerBench(context_size=8192, batch_size=2048, seconds_per_token=0.005, is_on_cpu=False)
    bench.ask(1, "a", max_tokens=100)
    bench.ask(2, "m" * 3000, max_tokens=1)
    bench.run()
    assert max(len(batch) for batch in bench.decoder.batches[:20]) <= 105


def test_a_reproducible_request_waits_for_all_cores_and_pauses_while_it_has_fewer() -> None:
    bench = SchedulerBench(slots=2)
    bench.scheduler.set_threads(1, all_cores=False)
    bench.ask(1, "w")
    bench.ask(2, "a", max_tokens=4, reproducible=True)
    while bench.scheduler.can_step:
        bench.scheduler.run_step()
    assert bench.text(1) == "xyz" and bench.events[2] and bench.text(2) == ""
    bench.scheduler.set_threads(2, all_cores=True)
    bench.scheduler.run_step()
    bench.scheduler.set_threads(0, all_cores=False)
    assert not bench.scheduler.can_step
    bench.scheduler.set_threads(1, all_cores=False)
    assert not bench.scheduler.can_step
    bench.scheduler.set_threads(2, all_cores=True)
    bench.run()
    assert bench.text(2) == "bcde"


def test_a_piece_of_a_prompt_takes_half_a_second_while_others_write() -> None:
    bench = SchedulerBench(context_size=8192, batch_size=512, seconds_per_token=0.005)
    bench.ask(1, "a", max_tokens=100)
    bench.scheduler.run_step()
    bench.ask(2, "a" * 3000, max_tokens=1)
    bench.run()
    sizes = [len(batch) for batch in bench.decoder.batches[1:21]]
    assert 64 <= sizes[0] < 70
    assert max(sizes) <= 105
    assert sizes[-1] >= 95


def test_a_prompt_that_is_alone_is_read_in_larger_pieces_until_another_request_comes() -> None:
    """Nobody waits for a token meanwhile; one who comes then waits for two seconds at most."""
    bench = SchedulerBench(context_size=8192, batch_size=512, seconds_per_token=0.005)
    bench.ask(1, "a" * 3000, max_tokens=1)
    for _ in range(4):
        bench.scheduler.run_step()
    bench.ask(2, "m" * 300, max_tokens=1)
    bench.run()
    sizes = [len(batch) for batch in bench.decoder.batches]
    assert sizes[0] < 70 and all(320 <= size <= 430 for size in sizes[1:4])
    assert all(size <= 105 for size in sizes[4:7])


def test_how_far_a_prompt_is_read_is_told_while_half_a_second_or_more_is_left() -> None:
    """Telling it wakes the page's process, which takes a core from the next piece."""
    bench = SchedulerBench(slots=1, context_size=4096, batch_size=256, seconds_per_token=0.002)
    bench.ask(1, "a" * 200, max_tokens=1)
    bench.ask(2, "m" * 1000, max_tokens=1)
    bench.ask(3, "t" * 400, max_tokens=1)
    bench.run()
    left = [event.total - event.done for number in (2, 3) for event in bench.of_kind(number, Prefilled)]
    assert left.count(0) == 2 and len(left) > 3
    assert all(tokens * 0.002 >= 0.5 for tokens in left if tokens)


def test_an_ordinary_prompt_is_read_in_few_nearly_equal_pieces() -> None:
    """165 tokens in 64, 64 and 37 would be slower: a CPU reads many rows at once faster."""
    bench = SchedulerBench(context_size=2048, batch_size=256, seconds_per_token=0.001)
    for number, (letter, length) in enumerate([("a", 165), ("b", 165), ("m", 425), ("n", 510), ("t", 600)]):
        bench.ask(number, letter * length, max_tokens=1)
        bench.run()
    assert [len(batch) for batch in bench.decoder.batches] == [83, 82, 165, 192, 233, 255, 255, 192, 192, 216]


def test_two_prompts_are_read_side_by_side_while_a_third_generates() -> None:
    bench = SchedulerBench(slots=3, context_size=512, batch_size=64)
    bench.ask(1, "a", max_tokens=20)
    bench.scheduler.run_step()
    bench.ask(2, "m" * 100, max_tokens=1)
    bench.ask(3, "t" * 100, max_tokens=1)
    bench.scheduler.run_step()
    last = [sequence for sequence, _, _ in bench.decoder.batches[-1]]
    assert last.count(0) == 1
    assert abs(last.count(1) - last.count(2)) <= 1
    assert last.count(1) > 20


def test_alternatives_come_with_their_probabilities_when_asked() -> None:
    bench = SchedulerBench()
    bench.ask(1, "a", max_tokens=1, alternatives=2)
    bench.run()
    (token,) = bench.of_kind(1, Token)
    assert token.logprob == pytest.approx(-0.1)
    assert [choice.text for choice in token.top] == ["b", chr(0)]


def test_speeds_count_decode_time_only_and_queueing_is_told_apart() -> None:
    bench = SchedulerBench(slots=1, seconds_per_token=0.01)
    bench.ask(1, "aaaaaaaaaa", max_tokens=6)
    bench.ask(2, "a", max_tokens=6)
    bench.run()
    first, second = bench.end(1).timings, bench.end(2).timings
    assert first.prompt_speed == pytest.approx(100)
    assert first.generation_speed == pytest.approx(100)
    assert first.time_to_first_token == pytest.approx(0.1)
    assert second.queued_seconds == pytest.approx(first.total_seconds)
    assert second.total_seconds == pytest.approx(second.queued_seconds + 0.06)


def test_requests_are_served_in_order_whether_or_not_they_decode_alone() -> None:
    bench = SchedulerBench(slots=4)
    for number in range(1, 7):
        bench.ask(number, "w", max_tokens=5, reproducible=number in (2, 5))
    bench.run()
    ends = [event.request for event in bench.order if isinstance(event, Finished)]
    assert ends == [1, 2, 3, 4, 5, 6]
    beside = [{sequence for sequence, _, _ in batch} for batch in bench.decoder.batches]
    assert max(map(len, beside)) == 2  # the chats between them shared their steps


# --- the estimate of a wait ---


def estimator(*seconds: float) -> EtaEstimator:
    made = EtaEstimator()
    for each in seconds:
        made.add_reply(each)
    return made


def test_before_any_reply_has_ended_nothing_is_estimated() -> None:
    assert EtaEstimator().estimate_waits([1.0], [False, False]) == [None, None]


def test_the_next_begins_when_the_oldest_of_the_running_should_end() -> None:
    assert estimator(8.0, 12.0).estimate_waits([7.0, 2.0], [False, False, False]) == pytest.approx([3.0, 8.0, 13.0])


def test_a_reply_that_is_overdue_is_not_expected_to_have_ended_already() -> None:
    (wait,) = estimator(10.0).estimate_waits([60.0], [False])
    assert wait == pytest.approx(1.0)


def test_who_wants_to_be_alone_waits_for_all_and_all_wait_for_it() -> None:
    assert estimator(10.0).estimate_waits([9.0, 1.0], [True, False, False]) == pytest.approx([9.0, 19.0, 19.0])


def test_only_recent_replies_count() -> None:
    assert estimator(1000.0, *[2.0] * REMEMBERED).mean_seconds == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("threads", "cpu_per_second", "share"), [(2, 2.0, 1.0), (2, 1.0, 0.5), (4, 3.0, 0.75), (1, 9.0, 1.0)]
)
def test_timings_say_how_much_of_their_time_the_cores_were_there(
    threads: int, cpu_per_second: float, share: float
) -> None:
    decoder = ScriptedDecoder(seconds_per_token=0.1)
    events: list[Any] = []
    scheduler = Scheduler(decoder, events.append, decoder.clock, lambda: decoder.now * cpu_per_second)
    scheduler.set_threads(threads)
    scheduler.add_request(Generate(1, ReplyRequest("abc", GREEDY, max_tokens=8)))
    while scheduler.is_busy:
        scheduler.run_step()
    timings = events[-1].timings
    assert timings.core_share == pytest.approx(share)
    assert timings.disturbed is (share < 0.9)
    assert timings.to_json()["disturbed"] is (share < 0.9)
    last = [event for event in events if isinstance(event, Token)][-1]
    assert last.disturbed is (share < 0.9)


def test_too_short_a_reply_or_a_gpu_has_no_share_of_the_cores() -> None:
    decoder = ScriptedDecoder(seconds_per_token=0.001)
    events: list[Any] = []
    scheduler = Scheduler(decoder, events.append, decoder.clock, lambda: 0.0)
    scheduler.set_threads(2)
    scheduler.add_request(Generate(1, ReplyRequest("abc", GREEDY, max_tokens=8)))
    while scheduler.is_busy:
        scheduler.run_step()
    assert (events[-1].timings.core_share, events[-1].timings.disturbed) == (None, False)
    bench = SchedulerBench(seconds_per_token=0.1)  # without a clock of CPU time
    bench.ask(1, "abc", max_tokens=8)
    bench.run()
    assert bench.end(1).timings.core_share is None


def test_a_disturbed_generation_shows_after_a_long_quiet_prompt() -> None:
    decoder = ScriptedDecoder(context_size=400, batch_size=32, seconds_per_token=0.01)
    events: list[Any] = []
    used = 0.0

    def cpu_clock() -> float:
        nonlocal used
        rows = sum(len(batch) for batch in decoder.batches)
        used = 0.01 * (min(rows, 300) + 0.5 * max(0, rows - 300))
        return used

    scheduler = Scheduler(decoder, events.append, decoder.clock, cpu_clock)
    scheduler.set_threads(1)
    scheduler.add_request(Generate(1, ReplyRequest("a" * 300, GREEDY, max_tokens=24)))
    while scheduler.is_busy:
        scheduler.run_step()
    assert events[-1].timings.core_share == pytest.approx(0.5)


@pytest.mark.parametrize(("reads_each_step", "share"), [(0, 0.3), (1, None)])
def test_waiting_for_the_disk_is_no_sign_of_other_work(reads_each_step: int, share: float | None) -> None:
    decoder = ScriptedDecoder(seconds_per_token=0.1)
    events: list[Any] = []
    scheduler = Scheduler(
        decoder,
        events.append,
        decoder.clock,
        lambda: 0.3 * decoder.clock(),
        lambda: reads_each_step * len(decoder.batches),
    )
    scheduler.set_threads(1)
    scheduler.add_request(Generate(1, ReplyRequest("abc", GREEDY, max_tokens=8)))
    while scheduler.is_busy:
        scheduler.run_step()
    timings = events[-1].timings
    assert timings.core_share == (None if share is None else pytest.approx(share))
    assert timings.disturbed is (share is not None)
