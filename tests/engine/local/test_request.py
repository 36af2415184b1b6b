"""Bytes of tokens become whole characters, and never a piece of a stop string."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.engine.local.request import TextStream


def test_a_character_spread_over_tokens_appears_once_it_is_whole() -> None:
    stream = TextStream()
    assert [stream.add_bytes(bytes([byte])) for byte in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]


@pytest.mark.parametrize("character", "🙂é日👩‍👩‍👧")
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_character_that_the_end_of_the_reply_cut_is_left_out(character: str, kept: int) -> None:
    stream = TextStream()
    if kept < len(character.encode()):
        assert stream.add_bytes(b"ab" + character.encode()[:kept]) == "ab"
        assert stream.finish_text() == ""


def test_bytes_within_a_text_that_are_no_character_are_shown_as_a_replacement() -> None:
    stream = TextStream()
    assert stream.add_bytes("a🙂".encode()[:-1] + b"b") + stream.finish_text() == "a�b"


def test_a_stop_string_across_tokens_ends_the_text_before_it() -> None:
    stream = TextStream(["<|end|>"])
    assert stream.add_bytes(b"fine <|e") == "fine "
    assert stream.add_bytes(b"nd|> and more") == ""
    assert stream.stopped_by
    assert stream.finish_text() == ""


def test_what_only_looked_like_a_stop_string_is_given_back() -> None:
    stream = TextStream(["<|end|>"])
    assert stream.add_bytes(b"a <|e") + stream.add_bytes(b"lse") == "a <|else"
    assert stream.add_bytes(b" <|") + stream.finish_text() == " <|"


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(1, 7), min_size=1, max_size=60))
def test_any_cutting_into_tokens_gives_the_same_text(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    stream, reported, place = TextStream(["STOP"]), "", 0
    for cut in cycle(cuts):
        if place >= len(data):
            break
        reported += stream.add_bytes(data[place : place + cut])
        place += cut
    reported += stream.finish_text()
    assert reported == data.decode().split("STOP")[0]


def test_a_character_that_was_cut_is_whole_when_the_reply_goes_on() -> None:
    stream, later = TextStream(), TextStream()
    data = "ä!".encode()
    assert stream.add_bytes(data[:1]) + stream.finish_text() == ""
    later.go_on_after(data[:1])
    assert later.add_bytes(data[1:]) == "ä!"
