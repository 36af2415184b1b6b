"""Markdown made safe to show, in the cases where text and code could be taken for each other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from playground.chat.markdown_escape import escape_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a < b and c > d", "a < b and c > d"),
        ("<b>x</b>", r"\<b>x\</b>"),
        ("<!-- x --> <?x ?>", r"\<!-- x --> \<?x ?>"),
        ("![x](http://far/x.png)", r"\![x](http://far/x.png)"),
        ("`<b>` <b>", r"`<b>` \<b>"),
        ("``a ` <b>`` <b>", r"``a ` <b>`` \<b>"),
        (r"\<b>", r"\<b>"),
        (r"\\<b>", r"\\\<b>"),
        (r"\`<b>`", r"\`\<b>`"),
        ("`<b>", r"`\<b>"),
        ("`a\n<b>`", "`a\n\\<b>`"),
        ("| ` | <b> | ` |", r"| ` | \<b> | ` |"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n\\<b>"),
        ("~~~\n<b>\n```\n<b>\n~~~\n<b>", "~~~\n<b>\n```\n<b>\n~~~\n\\<b>"),
        ("```\n<b> still written", "```\n<b> still written"),
        ("1. Do:\n   ```html\n   <b>\n   ```\n   <b>", "1. Do:\n   ```html\n   <b>\n   ```\n   \\<b>"),
        ("text\n    ```\n    <b>", "text\n    ```\n    \\<b>"),
        ("  ```\n<b>", "  ```\n\\<b>"),
        ("``` a`b\n<b>", "``` a`b\n\\<b>"),
    ],
)
def test_text_is_escaped_and_code_is_not(text: str, shown: str) -> None:
    assert escape_markdown(text) == shown


@given(st.text(st.sampled_from(list("`~<b>![]()|\\\n -1.>&#x\t")), max_size=60))
def test_no_markdown_makes_a_tag_or_a_picture(text: str) -> None:
    """Read by another implementation of Markdown than the page's."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(escape_markdown(text))
    assert "<img" not in html
    tags = set(re.findall(r"</?([A-Za-z0-9]+)", html))
    assert "b" not in tags, html
