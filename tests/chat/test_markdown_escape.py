"""Markdown made safe to show, in the cases where text and code could be taken for each other."""

from __future__ import annotations

import re
import time
from pathlib import Path

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from playground.chat.markdown_escape import escape_markdown

HIGHLIGHTED = {
    *("bash", "c", "cpp", "css", "go", "java", "javascript", "json", "latex", "markup", "markup-templating", "php"),
    *("python", "rust", "sql", "typescript", "yaml"),
}


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
        ("- ```html\n  <b>\n  ```\n<b>", "- ```html\n  <b>\n  ```\n\\<b>"),
        ("> ```html\n> <b>\n> ```\n<b>", "> ```html\n> <b>\n> ```\n\\<b>"),
        ("text\n2. ```html\n   <b>", "text\n2. ```html\n   \\<b>"),
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


@given(st.text(st.sampled_from(list("`~<b>![]()\\\\\n -1.>$*あ「」")), max_size=60))
def test_neither_a_formula_nor_bold_text_makes_a_tag(text: str) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(escape_markdown(text))
    assert "<img" not in html
    assert "b" not in re.findall(r"</?([A-Za-z0-9]+)", html), html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("```cpp\nint x;\n```", "```c\nint x;\n```"),
        ("~~~ cpp title=x\nint x;", "~~~ c title=x\nint x;"),
        ("- ```cpp\n  x\n  ```\n\n  ```cpp\n  y\n  ```", "- ```c\n  x\n  ```\n\n  ```c\n  y\n  ```"),
        ("> ```cpp\n> x\n> ```", "> ```c\n> x\n> ```"),
        ("> - ```cpp\n>   x", "> - ```c\n>   x"),
        ("```` md\n```cpp\nx\n```\n````", "```` md\n```cpp\nx\n```\n````"),
        ("```__proto__\nx\n```", "```text\nx\n```"),
        ("```\\_\\_proto\\_\\_\nx\n```", "```text\nx\n```"),
        ("```toString\nx", "```text\nx"),
        ("```mermaid\ngraph LR\n```", "```text\ngraph LR\n```"),
        ("```python\nx\n```", "```python\nx\n```"),
        ("```zig\nx\n```", "```zig\nx\n```"),
    ],
)
def test_a_fence_names_no_language_that_the_highlighter_fails_at(text: str, shown: str) -> None:
    assert escape_markdown(text) == shown


def test_every_language_that_gradio_loads_is_one_that_was_tried() -> None:
    """A later Gradio with others must be tried in a browser first: tests/e2e/test_messages.py."""
    parts = Path(gr.__file__).parent / "templates/frontend/assets"
    loaded = {path.stem[len("prism-") : -len("-12345678")] for path in parts.glob("prism-*-*.js")}
    assert loaded <= HIGHLIGHTED


BEGIN, END, DISPLAY, DISPLAY_END = "\\(\u2063", "\u2063\\)", "\\[\u2063", "\u2063\\]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"so \(a^2\), and", f"so {BEGIN}a^2{END}, and"),
        ("\\[\n    x = 1 \\\\[2pt]\n\\]", f"{DISPLAY}\n    x = 1 \\\\[2pt]\n{DISPLAY_END}"),
        (r"$$\int x\,dx$$", rf"{DISPLAY}\int x\,dx{DISPLAY_END}"),
        ("\\begin{align*}\na&=b\n\\end{align*}", f"{DISPLAY}\\begin{{align*}}\na&=b\n\\end{{align*}}{DISPLAY_END}"),
        (r"\(a<b\)", rf"{BEGIN}a\lt b{END}"),
        ("costs $4 and $15", "costs $4 and $15"),
        ("US$4, US$ 5 and $$", "US$4, US$ 5 and $$"),
        ("a $$ sign\n\nand a $$ sign", "a $$ sign\n\nand a $$ sign"),
        (r"`\(a\)` and \\(a\\)", r"`\(a\)` and \\(a\\)"),
        ("```bash\nkill $$; echo $$\n```", "```bash\nkill $$; echo $$\n```"),
        ("    kill $$; echo $$", "    kill $$; echo $$"),
        (r"still \( written", r"still \\( written"),
    ],
)
def test_formulas_are_marked_and_money_and_code_are_not(text: str, shown: str) -> None:
    assert escape_markdown(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "これは**「重要」**です",
        "**重要。**次の文",
        "이것은 **'강조'**입니다",
        "値は**50%**に",
        "这是*《书名》*的",
        "他说：**“你好！”**然后",
        "***「両方」***と",
    ],
)
def test_bold_text_beside_east_asian_punctuation_shows_no_stars(text: str) -> None:
    assert "*" not in MarkdownIt("commonmark", {"html": True}).render(escape_markdown(text))


@pytest.mark.parametrize("text", ["2 * 3 * 4", "f(*args)**2(x)", "a**(b)**c", "一 * 二 * 三"])
def test_other_stars_stay_as_they_are(text: str) -> None:
    assert escape_markdown(text) == text


@pytest.mark.parametrize("text", ["\\(a", "$$", "\\", "あ*", "> ", "`` ` ", "\\begin{align}", "1. ```cpp\n", "**「"])
def test_a_long_reply_of_odd_signs_takes_no_long_time(text: str) -> None:
    began = time.process_time()
    escape_markdown(text * (60_000 // len(text)))
    assert time.process_time() - began < 2
