"""What Markdown draws differently in an answer whose tokens are marked."""

from __future__ import annotations

import pytest

from playground.web.html.compare.markdown_parts import MarkdownParts


def parts(text: str) -> list[tuple[str, str]]:
    whole = MarkdownParts(text).parts(0, len(text))
    return [(part.text, part.css_class.replace("gp-md-", "")) for part in whole]


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("a **b** c", [("a ", ""), ("**", "sign"), ("b", "bold"), ("**", "sign"), (" c", "")]),
        ("*i*", [("*", "sign"), ("i", "italic"), ("*", "sign")]),
        ("***b***", [("***", "sign"), ("b", "bold"), ("***", "sign")]),
        ("## Title\nText", [("## ", "sign"), ("Title", "heading"), ("\nText", "")]),
        ("* a\n- b", [("*", "bullet"), (" a\n", ""), ("-", "bullet"), (" b", "")]),
        ("`a**b**`", [("`", "sign"), ("a**b**", "code"), ("`", "sign")]),
        ("| a | b |\n", [("| a | b |", "table"), ("\n", "")]),
        ("```\n**no**\n```\n*yes*", [("```\n**no**\n```\n", ""), ("*", "sign"), ("yes", "italic"), ("*", "sign")]),
    ],
)
def test_what_markdown_draws_is_found(text: str, drawn: list[tuple[str, str]]) -> None:
    assert parts(text) == drawn


@pytest.mark.parametrize("text", ["2 * 3 * 4", "2*3*4", "__init__", "**open", "#tag", "-1 and -2", "a ** b", "` `` `"])
def test_what_is_no_markdown_stays_plain(text: str) -> None:
    assert parts(text) == [(text, "")]


@pytest.mark.parametrize("piece", ["**a ", "*a", "`a", "| ", "# ", "***a*"])
def test_of_a_long_line_of_signs_every_letter_stays(piece: str) -> None:
    text = piece * 20_000
    assert "".join(part.text for part in MarkdownParts(text).parts(0, len(text))) == text
