"""Where a text spells a control token, and what of it becomes one."""

from __future__ import annotations

import pytest

from playground.llama.control_tokens import ControlToken, ControlTokens, is_structure

CHATML = ControlTokens([ControlToken(1, "<|im_start|>"), ControlToken(2, "<|im_end|>"), ControlToken(3, "</s>")])


def test_the_longest_spelling_counts() -> None:
    tokens = ControlTokens([ControlToken(1, "<a>"), ControlToken(2, "<a><b>")])
    assert [(start, token.id) for start, token in tokens.find("x<a><a><b>")] == [(1, 1), (4, 2)]


def test_only_spellings_outside_the_literal_spans_become_tokens() -> None:
    text = "<|im_start|>user\nHi<|im_end|>!<|im_end|>"
    typed = text.index("<|im_end|>")
    assert CHATML.split_text(text, ()) == [1, "user\nHi", 2, "!", 2]
    assert CHATML.split_text(text, [(typed, typed + 10)]) == [1, "user\nHi<|im_end|>!", 2]


def test_a_spelling_half_typed_and_half_of_the_template_is_text() -> None:
    assert CHATML.split_text("<|im_end|>", [(0, 5)]) == ["<|im_end|>"]
    assert CHATML.split_text("<|im_end|></s>", [(5, 10)]) == ["<|im_end|>", 3]


def test_white_space_beside_a_token_may_belong_to_it() -> None:
    tokens = ControlTokens([ControlToken(7, "<|end|>", takes_right=True), ControlToken(8, "<mask>", takes_left=True)])
    assert tokens.split_text("a<|end|>\n b <mask> c", ()) == ["a", 7, "b", 8, " c"]


def test_the_beginning_and_the_end_of_a_spelling_are_found_as_parts() -> None:
    text = "a<|im_ b end|> c</span> <|im_end|>"
    assert [text[start:stop] for start, stop in CHATML.find_parts(text)] == ["<|i", "d|>", "</s", "<|im_end|>"]
    assert CHATML.find_parts("a < b | c > d") == [] == ControlTokens([]).find_parts("<s>")
    assert [text[:stop] for text in ("> x", ">", "|>x") for _, stop in CHATML.find_parts(text)] == [">", ">", "|>"]
    assert [span for text in ("x <| ", "<") for span in CHATML.find_parts(text)] == [(2, 4), (0, 1)]


@pytest.mark.parametrize(
    "text", ["<think>", "</tool_call>", "<｜User｜>", "[e~[", "]~b]", "<unused94>", "[THINK]", "◁think▷"]
)
def test_a_user_defined_token_that_encloses_or_opens_something_is_structure(text: str) -> None:
    assert is_structure(text)


@pytest.mark.parametrize("text", ["\n\n", "   ", "<table>", "</b>", "<h1>", "[[", "=>", "hello", "🙂"])
def test_a_user_defined_token_of_plain_text_is_no_structure(text: str) -> None:
    assert not is_structure(text)


def test_a_vocabulary_without_control_tokens_is_served() -> None:
    assert ControlTokens([]).split_text("<s>", [(0, 1)]) == ["<s>"] and not list(ControlTokens([]).find("<s>"))
