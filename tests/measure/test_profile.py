"""What the profile of a speed says: how much slower a long context is, which threads are best, what limits it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from playground.measure.export import export_csv, export_markdown
from playground.measure.profile import (
    ProfilePlan,
    limit_share,
    profile_rows,
    profile_sentences,
    replies_by_depth,
)
from playground.measure.results import result_rows
from playground.web.html.measure.profile import speed_profile
from tests.measure.test_measurement_store import measured


def speed_test(rate: float, *, depth: int = 0, concurrent: int = 1, threads: int = 2, **others: Any) -> dict[str, Any]:
    return {
        "test": "tg64", "kind": "reply", "depth": depth, "concurrent": concurrent, "threads": threads,
        "tokens_per_second": rate, "deviation": 0.5, "disturbed": False, **others,
    }  # fmt: skip


def figures(*tests: dict[str, Any], **others: Any) -> dict[str, Any]:
    """A model that reads 1 GB for each token, of a memory that gives 25 GB/s."""
    return {
        "tests": list(tests), "used_threads": 2, "read_bytes": 1e9, "kv_bytes": 1e5, "memory_bandwidth": 25e9,
        "throttled_seconds": None, **others,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("deepest", "depths"), [(512, (0, 128)), (4096, (0, 1024, 3712)), (32768, (0, 1024, 4096, 32384))]
)
def test_depths_go_from_nothing_to_the_largest_context(deepest: int, depths: tuple[int, ...]) -> None:
    found = ProfilePlan(deepest).depths
    assert found[0] == 0 and found[-1] == deepest - 384 and list(found) == sorted(set(found))
    assert deepest > 4096 or found == depths


def test_chats_are_doubled_up_to_the_most() -> None:
    assert [ProfilePlan(chats=most).chat_counts for most in (1, 2, 6, 8)] == [(), (2,), (2, 4, 6), (2, 4, 8)]


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ([speed_test(20), speed_test(15, depth=16000)], "After 16,000 tokens of context a reply is written 25% slower"),
        ([speed_test(20), speed_test(19.5, depth=16000)], "as fast as at the beginning"),
        ([speed_test(20), speed_test(50, concurrent=4)], "4 chats at once get 50.0 tok/s in all, 2.5 times one chat"),
        (
            [speed_test(20), speed_test(11, threads=1), speed_test(8, threads=4)],
            "2 threads are right: 4 are too many, and 60% slower",
        ),
        ([speed_test(20), speed_test(11, threads=1), speed_test(30, threads=4)], "4 threads are 50% faster than the 2"),
        (
            [speed_test(20)],
            "With the 25.0 GB/s that this memory gives, that takes 80% of its time, most of it: the bandwidth",
        ),
        ([speed_test(5)], "that takes 20% of its time; arithmetic and the rest take more"),
        ([speed_test(20), speed_test(12)], "At the end the same test was 40% slower than in the beginning"),
    ],
)
def test_a_sentence_says_what_the_figures_mean(tests: list[dict[str, Any]], said: str) -> None:
    assert said in " ".join(profile_sentences(figures(*tests)))


def test_a_quota_that_stopped_the_process_is_named() -> None:
    assert "stopped it for 3.2 s" in " ".join(profile_sentences(figures(speed_test(20), throttled_seconds=3.2)))


def test_the_cache_that_a_token_reads_counts_towards_the_limit() -> None:
    deep = profile_rows(figures(speed_test(20, depth=10_000)))[0]
    assert limit_share(figures(), deep) == pytest.approx(20 * (1e9 + 1e9) / 25e9)
    assert limit_share(figures(memory_bandwidth=None), deep) is None


@pytest.mark.parametrize(
    "tests",
    [
        None,
        "x",
        [None, 3],
        [{"kind": "reply"}],
        [speed_test(float("nan"))],
        [speed_test(-1)],
        [speed_test(5, depth=-3)],
    ],
)
def test_figures_of_a_strangers_file_cannot_break_it(tests: Any) -> None:
    strange = {"tests": tests, "used_threads": "many", "memory_bandwidth": [], "read_bytes": True}
    assert profile_rows(strange) == [] == profile_sentences(strange)
    assert speed_profile(result_rows([measured("Q8_0", 1, 0, "profile", **strange)])) == ""


def test_the_profile_is_drawn_with_every_figure_as_text() -> None:
    tests = [speed_test(20), speed_test(15, depth=4000), speed_test(50, concurrent=4)]
    rows = result_rows([measured("Q8_0", 1, 0, "profile", **figures(*tests)), measured("Q4_0", 0.5, 0)])
    markup = str(speed_profile(rows))
    assert "Q8_0: 20.0 tok/s after 0 tokens, 15.0 tok/s after 4,000 tokens" in markup and "Q4_0" not in markup
    assert "50.0 tok/s (4)" in markup and "<td>80%</td>" in markup
    assert ">writes a reply after 4,000 tokens</td><td>2</td><td>15.0 ± 0.5 tok/s</td>" in markup
    assert ">writes a reply, 4 chats at once</td>" in markup
    assert len(replies_by_depth(profile_rows(figures(*tests)), 2)) == 2


def test_csv_and_markdown_have_every_test_of_a_profile() -> None:
    tests = [speed_test(20), speed_test(15, depth=4000, disturbed=True), speed_test(50, concurrent=4)]
    threads = [speed_test(12, threads=1), speed_test(19)]
    rows = result_rows(
        [
            measured("Q8_0", 1, 0, "profile", **figures(*tests, *threads)),
            measured("Q4_0", 0.5, 0, "profile", **figures(speed_test(30))),
        ]
    )
    first, second = csv.DictReader(io.StringIO(export_csv(rows)))
    assert (first["reply_after_0_2_threads"], second["reply_after_0_2_threads"]) == ("20.0", "30.0")
    assert (first["reply_4_chats_2_threads"], first["reply_after_0_1_threads"]) == ("50.0", "12.0")
    assert (first["reply_after_4000_2_threads_deviation"], first["reply_after_4000_2_threads_disturbed"]) == (
        "0.5",
        "yes",
    )
    assert second["reply_4_chats_2_threads"] == "" and first["memory_bandwidth"] == "25000000000.0"
    text = export_markdown(rows)
    assert "| Speed in tok/s | Threads | Q8_0 | Q4_0 |" in text
    assert "| writes a reply after 4,000 tokens | 2 | 15.0 ± 0.5 (disturbed) | \N{EN DASH} |" in text
    assert "- Q8_0: After 4,000 tokens of context a reply is written 25% slower" in text
