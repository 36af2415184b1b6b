"""What the visitors of the soak do, drawn at random, and how each of their requests ended.

A visitor comes back again and again, to a new page or a reloaded one, and does a few things there that a person could
do. What the playground holds meanwhile is counted in census.py.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import httpx2

from benchmarks.open_page import Broken, OpenPage, PageLayout, Request, call, opened

PATIENCE_SECONDS: Final = 180.0  # for one request: longer than the playground's own limits can add up to
MOST_MESSAGE_CHARACTERS: Final = 2000  # as the soak's playground is set; what is longer is refused

Ending = Literal["answered", "refused", "cancelled", "left", "lost"]
Way = Literal["to the end", "stop", "leave"]
Tab = Literal["chat", "compare"]
LEVELS: Final = ("Q4_1", "Q8_0")  # the starter's, and one that is made of it

_ERROR: Final = re.compile(r'gp-error\\" role=\\"alert\\"><p><strong>(.*?)</strong>')
_LIVE: Final = re.compile(r"gp-live gp-live-(.*?)</div>")
_QUESTIONS: Final = (
    "What is 2+2?",
    "Why is the sky blue? Answer in one sentence.",
    "Tell me a long story about a fox who learns to read.",
    "Give me three tips for a good night's sleep, and say of each why it helps.",
    "x" * (MOST_MESSAGE_CHARACTERS + 1),
)
_WEIGHTS: Final = (4, 4, 6, 4, 1)


@dataclass(frozen=True)
class Outcome:
    """How one request ended. words: the refusal, or what is known of a lost one."""

    what: str
    ending: Ending
    words: str = ""


class Visitor:
    """One person with a browser at an address of their own.

    rng: decides everything that they do. note: called with every request that has ended. pause_seconds: about how long
    they think between two things.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        layout: PageLayout,
        number: int,
        rng: random.Random,
        note: Callable[[Outcome], None],
        pause_seconds: float = 0.0,
    ) -> None:
        self._client, self._layout = client, layout
        self._address = f"203.0.113.{number + 1}"  # TEST-NET-3: nobody's
        self._rng, self._note, self._pause_seconds = rng, note, pause_seconds

    async def visit(self, more: Callable[[], bool]) -> None:
        """Come and go for as long as there is more to do."""
        kept: dict[str, str] = {}
        rng = self._rng
        while more():
            try:
                async with opened(self._client, self._layout, self._address, kept) as page:
                    self._note(Outcome("open", "answered"))
                    while more() and await self._do_something(page):
                        await asyncio.sleep(self._pause_seconds * rng.uniform(0.5, 1.5))
                    chat = page.values.get(self._layout.ids["chat-kept"])
                kept = {"chat-kept": chat} if chat and rng.random() < 0.5 else {}  # reloaded, or a new visit
            except (Broken, httpx2.HTTPError) as error:
                self._note(Outcome("open", "lost", repr(error)))

    async def compare_once(self) -> None:
        """Ask both levels one short question; the level that is not on the disk yet is made."""
        async with opened(self._client, self._layout, self._address) as page:
            self._choose(page, "compare", LEVELS)
            page.fill("compare-message", _QUESTIONS[0])
            await self._wait_for_end("compare, the first", page.press("compare-send"), "to the end")

    async def _do_something(self, page: OpenPage) -> bool:
        """False when the page is closed after it."""
        draw = self._rng.random()
        way: Way = self._rng.choices(("to the end", "stop", "leave"), (5, 3, 3))[0]
        if draw < 0.6:
            return await self._ask(page, "chat", way)
        if draw < 0.8:
            return await self._ask(page, "compare", way)
        if draw < 0.95:
            await self._call(way)
            return True
        return False

    async def _ask(self, page: OpenPage, tab: Tab, way: Way) -> bool:
        rng = self._rng
        page.fill(f"{tab}-message", rng.choices(_QUESTIONS, _WEIGHTS)[0])
        self._choose(page, tab, rng.choices(LEVELS, k=2))
        request = page.press(f"{tab}-send")
        if rng.random() < 0.1:  # an impatient finger
            page.press(f"{tab}-send", request)
        if way != "to the end":
            await _within_patience(request.wait_for(rng.randint(0, 12)))
        if way == "leave" and not request.is_over:
            self._note(Outcome(f"{tab}, tab closed", "left"))
            return False
        if way == "stop":
            await page.press_and_wait(f"{tab}-stop")
        await self._wait_for_end(f"{tab}, {way}", request, way)
        return True

    def _choose(self, page: OpenPage, tab: Tab, levels: Sequence[str]) -> None:
        pickers = ("chat",) if tab == "chat" else ("left", "right")
        for picker, level in zip(pickers, levels, strict=False):
            page.fill(f"{picker}-level", level)
            page.fill(f"{picker}-context", self._rng.choice(("2048", "4096")))
        if tab == "compare":
            page.fill("compare-dial", json.dumps({"a": levels[0], "b": levels[1]}))
        page.fill("chat-longest-reply" if tab == "chat" else "compare-max-tokens", self._rng.choice((32, 64, 128)))

    async def _wait_for_end(self, what: str, request: Request, way: Way) -> None:
        if not await _within_patience(request.wait_for(10**9)):
            self._note(Outcome(what, "lost", f"no end after {PATIENCE_SECONDS:.0f} s; {request.last_values[-1:]}"))
            return
        self._note(_outcome_of(what, request, way))

    async def _call(self, way: Way) -> None:
        """A program asks something, and may go away before it has its answer."""
        name = self._rng.choice(("machine", "plan", "levels", "chat"))
        values = {"machine": [], "chat": ["What is 2+2?", "starter", "", None, 2048, 48, None, None]}.get(
            name, ["starter"] if name == "levels" else ["starter", 4096, "f16", 4]
        )
        if name == "levels":
            values.append(4096)
        leave_after = self._rng.randint(0, 4) if way == "leave" else None
        try:
            asked = call(self._client, name, values, self._address, leave_after)
            answer = await asyncio.wait_for(asked, PATIENCE_SECONDS)
        except (Broken, httpx2.HTTPError, asyncio.TimeoutError) as error:
            self._note(Outcome(f"program: {name}", "lost", repr(error)))
            return
        ending: Ending = "answered" if "event: complete" in answer else "refused"
        if "event: complete" not in answer and "event: error" not in answer:
            ending = "left"
        if ending == "refused" and '"error": null' in answer:  # an error without a sentence is no answer
            ending = "lost"
        self._note(Outcome(f"program: {name}", ending, "" if ending in ("answered", "left") else answer[-300:]))


def _outcome_of(what: str, request: Request, way: Way) -> Outcome:
    values = "".join(request.last_values)
    problem = _ERROR.search(values)
    if "broken: " in values:
        return Outcome(what, "lost", values[values.index("broken: ") :][:300])
    if request.has_reply:
        return Outcome(what, "answered")
    if problem:
        return Outcome(what, "refused", problem[1])
    if way == "stop":
        return Outcome(what, "cancelled")  # even if there was nothing to cancel yet
    return Outcome(what, "lost", " | ".join(_LIVE.findall(values)) or values[-300:])


async def _within_patience(waiting: object) -> bool:
    assert asyncio.iscoroutine(waiting)
    try:
        await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    except asyncio.TimeoutError:
        return False
    return True
