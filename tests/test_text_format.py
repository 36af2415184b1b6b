"""Sizes, durations and counts as people read them."""

from __future__ import annotations

import pytest

from playground.text_format import (
    counted,
    gigabytes,
    gigabytes_apart,
    in_gibibytes,
    pages,
    parameters,
    percent,
    seconds,
    short_tokens,
    speed,
    speed_with_deviation,
    spelled_duration,
)

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("byte_count", "words"),
    [
        (None, "–"),
        (0, "0 MB"),
        (98_421_856, "98.4 MB"),
        (999_600_000, "1.00 GB"),
        (4_920_739_232, "4.92 GB"),
        (25_200_000_000, "25.2 GB"),
        (2_000 * 10**9, "2,000 GB"),
        (62_200, "62.2 kB"),
        (512, "512 bytes"),
    ],
)
def test_a_size_reads_in_the_unit_that_suits_it(byte_count: int | None, words: str) -> None:
    assert gigabytes(byte_count) == words


def test_a_size_that_is_something_never_reads_as_nothing() -> None:
    assert gigabytes(1) == "1 byte"


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "token", "1 token"),
        (4096, "token", "4,096 tokens"),
        (2, "reply", "2 replies"),
        (2, "day", "2 days"),
        (None, "token", "– tokens"),
    ],
)
def test_a_noun_goes_with_its_number(number: int | None, noun: str, words: str) -> None:
    assert counted(number, noun) == words


@pytest.mark.parametrize("difference", [1, 1000, MIB, 40 * MIB, GIB])
@pytest.mark.parametrize("size", [3, 97 * MIB, 1023 * MIB, 5 * GIB, 120 * GIB])
def test_two_sizes_that_differ_never_read_the_same(size: int, difference: int) -> None:
    first, second = gigabytes_apart(size, size + difference)
    assert first != second


def test_the_hint_beside_a_size_has_it_in_binary_units() -> None:
    assert [in_gibibytes(size) for size in (4_920_739_232, 98_421_856, None)] == ["4.58 GiB", "93.9 MiB", "–"]


def test_two_near_sizes_are_told_in_one_unit() -> None:
    first, second = gigabytes_apart(990 * MIB, 1100 * MIB)
    assert first.split()[1] == second.split()[1]


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (None, "–"),
        (0.342, "0.34 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3840, "1 h 04 min"),
    ],
)
def test_a_duration_reads_as_people_say_it(duration: float | None, words: str) -> None:
    assert seconds(duration) == words


@pytest.mark.parametrize(
    ("rate", "words"), [(None, "– tok/s"), (0.42, "0.42 tok/s"), (12.34, "12.3 tok/s"), (113.4, "113 tok/s")]
)
def test_a_speed_has_the_digits_it_deserves(rate: float | None, words: str) -> None:
    assert speed(rate) == words


def test_a_deviation_has_the_digits_of_its_speed() -> None:
    assert speed_with_deviation(12.34, 0.456) == "12.3 ± 0.5 tok/s"
    assert speed_with_deviation(1234.0, 5.6, disturbed=True) == "1,234 ± 6 tok/s (disturbed)"
    assert speed_with_deviation(400.0, 0.4) == "400 ± 0.4 tok/s" and speed_with_deviation(400.0, 0.0) == "400 ± 0 tok/s"
    assert speed_with_deviation(12.34, None) == "12.3 tok/s" and speed_with_deviation(None, 1.0) == speed(None)


def test_a_share_is_never_rounded_to_nothing_or_all() -> None:
    assert [percent(share) for share in (0, 0.002, 0.43, 0.998, 1)] == ["0%", "under 1%", "43%", "over 99%", "100%"]


def test_a_models_size_reads_as_the_field_writes_it() -> None:
    counts = (134_515_008, 7_240_000_000, 32_000_000_000, 671_000_000_000, 999_900_000, 0, None)
    assert [parameters(count) for count in counts] == ["135M", "7.2B", "32.0B", "671B", "1.0B", "", ""]


def test_a_context_is_short_only_when_that_is_exact() -> None:
    assert [short_tokens(tokens) for tokens in (4096, 262144, 1 << 24, 42_240, 512)] == [
        "4K",
        "256K",
        "16M",
        "42,240",
        "512",
    ]


def test_what_a_context_holds_is_told_in_pages() -> None:
    assert pages(4096) == "about 3,100 words of English text, 8 pages of a book"


@pytest.mark.parametrize(
    ("duration", "words"), [(30, "30 seconds"), (60, "1 minute"), (90, "90 seconds"), (7200, "2 hours")]
)
def test_a_limit_is_spelled_out_as_people_say_it(duration: float, words: str) -> None:
    assert spelled_duration(duration) == words
