"""What a browser makes of messages: nothing of them is lost, altered or hidden, whatever is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from playground.engine.timings import Timings
from tests.chat.test_markdown_escape import HIGHLIGHTED
from tests.e2e.visitor import Visitor, without_dice

LANGUAGES = sorted(
    {
        *HIGHLIGHTED,
        *("c++", "C++", "cs", "csharp", "cuda", "dockerfile", "html", "ini", "jsx", "mermaid", "svg", "xml", "zig"),
        *("extend", "insertBefore", "DFS", "constructor", "__proto__", "toString", "hasOwnProperty", "valueOf", "日本"),
    }
)
ENDED = {"finish_reason": "end of text", "timings": Timings(0.0, 9, 0, 90.0, 0.1, 9, 12.3, 1.0, 2).to_json()}
CODE = '#include <vector>\nint sum(int a, int b) { return a + b; }  // "$$x$$"\n<?php echo 1; ?>\n'


def show_chat(
    visit: Visitor, messages: Sequence[tuple[str, str]], thinking: str = "", width: int = 1280, height: int = 900
) -> Page:
    """The page with this chat, which it kept in a visit before; the last message must be a word of its own.

    Each answer has ended, so that its figures stand below it.
    """
    turns = [{"role": role, "content": content, **(ENDED if role == "assistant" else {})} for role, content in messages]
    if thinking:
        turns[-1]["thinking"] = thinking
    page = visit(width, height, kept={"gguf-playground-chat": json.dumps({"system": "", "messages": turns})})
    expect(page.get_by_test_id("bot").last).to_contain_text(messages[-1][1])
    return page


def test_code_in_any_language_is_shown(visit: Visitor) -> None:
    asked = [("user", "All?")] + [("assistant", f"In `{name}`:\n\n```{name}\n{CODE}```") for name in LANGUAGES]
    page = show_chat(visit, [*asked, ("user", "And?"), ("assistant", "done")], "Thought:\n\n```cpp\nint thought;\n```")
    for number, name in enumerate(LANGUAGES):
        message = page.get_by_test_id("bot").nth(number)
        expect(message).to_contain_text("<?php echo 1; ?>")
        assert message.inner_text().startswith(f"In {name}:") and CODE.strip() in message.inner_text(), name
    page.get_by_role("log").get_by_text("Thoughts").click()
    expect(page.get_by_role("log")).to_contain_text("int thought;")


@pytest.mark.parametrize(
    "typed",
    [
        "def f(x):\n    return x\n# a comment\nC:\\new\\_folder __init__",
        "\tfirst\n\n\n1. one\n> two\n*three*  four   five",
        "```\nfence\n```\n<b>tag</b> &amp; `code` $$x$$ \\(y\\)",
    ],
)
def test_what_a_person_typed_is_shown_as_typed(visit: Visitor, typed: str) -> None:
    page = show_chat(visit, [("user", typed), ("assistant", "done")])
    question = page.get_by_test_id("user")
    assert question.inner_text().strip("\n") == typed
    assert question.locator("h1, li, em, strong, b, .katex, blockquote").count() == 0


def test_formulas_are_drawn_and_money_is_not(visit: Visitor) -> None:
    formulas = "So \\( a^2 \\), \\[ x = \\frac{1}{2} \\]\n\n$$\\int x\\,dx$$\n\nIt costs $4 and $15. `$$x$$`"
    page = show_chat(visit, [("user", "?"), ("assistant", formulas), ("user", "?"), ("assistant", "done")])
    expect(page.get_by_test_id("bot").first.locator(".katex")).to_have_count(3)
    expect(page.get_by_test_id("bot").first).to_contain_text("It costs $4 and $15. $$x$$")


def test_text_runs_in_the_direction_of_its_first_strong_letter(visit: Visitor) -> None:
    answer = "שלום עולם!\n\nEnglish follows.\n\n- עברית\n\nこれは**「重要」**です"
    page = show_chat(visit, [("user", "مرحبا"), ("assistant", answer), ("user", "?"), ("assistant", "done")])
    paragraphs = page.get_by_test_id("bot").first.locator("p")
    expect(paragraphs.nth(0)).to_have_css("direction", "rtl")
    expect(paragraphs.nth(1)).to_have_css("direction", "ltr")
    expect(page.get_by_test_id("bot").first.locator("li")).to_have_css("direction", "rtl")
    expect(page.get_by_test_id("user").first.locator("pre")).to_have_css("direction", "rtl")
    expect(page.get_by_test_id("bot").first.locator("strong")).to_have_text("「重要」")
    box = page.get_by_role("textbox", name="Your message")
    box.fill("שלום")
    expect(box).to_have_css("direction", "rtl")
    box.fill("Hello")
    expect(box).to_have_css("direction", "ltr")


def test_wide_parts_scroll_within_themselves_on_a_phone(visit: Visitor) -> None:
    row = "|" + " an entry of some words |" * 9
    table = "\n".join([row, "|" + "---|" * 9, row, row])
    answer = f"{table}\n\nRun `{'a-very-long-command --with=options ' * 6}` now.\n\n\\[ {'x + y + ' * 40} z \\]"
    page = show_chat(
        visit, [("user", "x" * 300), ("assistant", answer), ("user", "?"), ("assistant", "done")], width=390, height=844
    )
    expect(page.get_by_test_id("bot").first.locator(".katex-display")).to_be_visible()
    for part in ("table", "p > code", ".katex-display"):
        sizes = (
            page.get_by_test_id("bot")
            .first.locator(part)
            .evaluate("part => [part.scrollWidth, part.clientWidth, part.getBoundingClientRect().right, innerWidth]")
        )
        assert sizes[0] > sizes[1] and sizes[2] <= sizes[3], part
    cell = page.get_by_test_id("bot").first.locator("td").first.bounding_box()
    assert cell and cell["height"] < 150
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_all_of_a_chat_is_printed(visit: Visitor) -> None:
    answer = "\n\n".join(f"Line {number}" for number in range(120))
    page = show_chat(visit, [("user", "?"), ("assistant", answer), ("user", "?"), ("assistant", "done")])
    page.emulate_media(media="print")
    cut = page.get_by_test_id("bot").first.evaluate(
        """message => {
          const cut = [];
          for (let part = message; part && part !== document.body; part = part.parentElement)
            if (part.scrollHeight > part.clientHeight + 1 && getComputedStyle(part).overflowY !== 'visible')
              cut.push(part.className);
          return cut;
        }"""
    )
    assert cut == []
    expect(page.locator("#chat-send")).to_be_hidden()
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    assert pages >= 4


def test_after_send_the_focus_is_in_the_message_box(visit: Visitor) -> None:
    page = visit()
    box = page.get_by_role("textbox", name="Your message")
    box.fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#chat-stop")).to_be_visible()
    expect(box).to_be_focused()
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-send")).to_be_visible()
    expect(box).to_be_focused()


def show_two_turns(visit: Visitor) -> Page:
    return show_chat(visit, [("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("assistant", "done")])


def test_a_cleared_chat_comes_back_with_undo(visit: Visitor) -> None:
    page = show_two_turns(visit)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_test_id("user")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_test_id("user")).to_have_text(["One?", "Two?"])
    expect(page.get_by_role("button", name="Undo")).to_be_hidden()


@pytest.mark.parametrize("way", ["Escape", "Cancel"])
def test_an_edit_can_be_left_and_the_draft_is_still_there(visit: Visitor, way: str) -> None:
    page = show_two_turns(visit)
    box = page.get_by_role("textbox", name="Your message")
    box.fill("Three?")
    page.get_by_role("button", name="Edit last").click()
    expect(box).to_have_value("Two?")
    expect(box).to_be_focused()
    if way == "Escape":
        box.press("Escape")
    else:
        page.locator("#chat-cancel-edit").click()
    expect(box).to_have_value("Three?")
    expect(page.locator("#chat-cancel-edit")).to_be_hidden()
    expect(page.get_by_test_id("user")).to_have_text(["One?", "Two?"])


def test_an_earlier_message_can_be_changed_at_its_pencil(visit: Visitor) -> None:
    page = show_two_turns(visit)
    box = page.get_by_role("textbox", name="Your message")
    page.locator("#chat-log .message-buttons").first.get_by_role("button").last.click()
    expect(box).to_have_value("One?")
    expect(page.locator("#chat-problem")).to_contain_text("You are changing an earlier message.")
    box.fill("Zero?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_test_id("user")).to_have_text(["Zero?"])
    page.locator("#chat-stop").click()


def test_a_chat_saved_by_the_page_is_opened_again(visit: Visitor) -> None:
    page = show_two_turns(visit)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as JSON").click()
    page.get_by_role("button", name="Clear").click()
    for path, said in (
        (Path(__file__), "chat.json cannot be opened: it is not JSON."),
        (saved.value.path(), "chat.json is open: 4 messages."),
    ):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open a chat").click()
        chooser.value.set_files({"name": "chat.json", "mimeType": "application/json", "buffer": path.read_bytes()})
        expect(page.locator("#chat-problem")).to_contain_text(said)
    expect(page.get_by_test_id("user")).to_have_text(["One?", "Two?"])


def test_messages_keep_their_order_when_the_page_is_hidden_and_shown(visit: Visitor) -> None:
    """In a hidden page a timer may take a second; Gradio has the messages of a visible page in timers."""
    page = visit()
    page.context.add_init_script(
        """
        let looks = 0;
        Object.defineProperty(document, 'visibilityState', {get: () => looks++ % 2 ? 'hidden' : 'visible'});
        const startTimer = window.setTimeout;
        window.setTimeout = (work, delay, ...values) => startTimer(work, values[0]?.msg ? 1000 : delay, ...values);
        """
    )
    visit.reload(page)
    expect(page.locator("#chat-memory .gp-memory-head b")).to_be_attached()
    for size in ("8K", "2K", "8K"):
        page.locator("#chat-context label", has_text=size).click()
        expect(page.locator("#chat-fold")).to_contain_text(size)
    without_dice(page)
    page.get_by_role("spinbutton", name="Longest reply").fill("32")
    page.get_by_role("spinbutton", name="Longest reply").press("Tab")
    page.get_by_label("Your message").fill("Count to twenty.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text=re.compile("Reply ended"))).to_be_attached()
    shown = page.get_by_test_id("bot").inner_text()
    visit.reload(page)
    expect(page.get_by_test_id("bot")).to_have_text(shown.strip())


@pytest.mark.parametrize("is_secure", [True, False], ids=["clipboard", "plain HTTP"])
def test_the_copy_buttons_copy_what_was_written(visit: Visitor, is_secure: bool) -> None:
    typed = "\tif a < b && c:\n    say('<b>&amp;</b> \\\\(x\\\\) 日本🙂')"
    written = (
        "Use `<b>` or <b>bold</b>, ![x](y), $$a^2$$ and は**「x」**と 🙂:\n\n```cpp\nint x;\n```\n<!--written:QQ==:1-->"
    )
    messages = [("user", typed), ("assistant", written), ("user", "And?"), ("assistant", "done")]
    page = show_chat(visit, messages, "Is <i> a tag?")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not is_secure:
        page.evaluate("() => { window.reader = navigator.clipboard; delete Navigator.prototype.clipboard; }")
    copied = "(window.reader ?? navigator.clipboard).readText()"
    buttons = page.get_by_role("log").get_by_role("button", name=re.compile("Cop(y|ied) message"))
    for number, (_, expected) in enumerate(messages):  # an answer without its thoughts
        buttons.nth(number).click()
        page.wait_for_function(f"async text => (await {copied}) === text", arg=expected)
