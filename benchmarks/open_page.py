"""One open page of the playground without a browser: sends what its JavaScript would send, and reads the answers.

Speaks Gradio's own protocol over HTTP, so that a machine on which two browsers are too many has room for many
visitors: a heartbeat for as long as the page is open, events that join the queue, one stream with the messages of all
of them, and events that follow one another. Components are found by their `elem_id`. Nothing is drawn, and no event is
started by a change of a value.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from gradio_client.utils import apply_diff

API: Final = "/gradio_api"
ANSWER_SECONDS: Final = 60.0  # for anything but a stream, on a busy machine
_OVER: Final = object()
_UNCHANGED: Final = {"__type__": "update"}


class Broken(Exception):
    """The server's answer is one that no page should get."""


@dataclass(frozen=True)
class PageLayout:
    """The configuration of every page: its components with their first values, and its events."""

    ids: dict[str, int]  # by elem_id
    values: dict[int, Any]
    events: dict[int, dict[str, Any]]

    @classmethod
    def read(cls, config: dict[str, Any]) -> PageLayout:
        parts = config["components"]
        return cls(
            {part["props"]["elem_id"]: part["id"] for part in parts if part["props"].get("elem_id")},
            {part["id"]: part["props"].get("value") for part in parts if part["type"] != "state"},
            {event["id"]: event for event in config["dependencies"]},
        )

    def triggered(self, trigger: str, part: int | None = None) -> list[dict[str, Any]]:
        """The events that this trigger of a component starts; of any component if none is named."""
        return [
            event
            for event in self.events.values()
            if any(name == trigger and part in (None, owner) for owner, name in event["targets"])
        ]

    def pressed(self, button: int) -> dict[str, Any]:
        """The event of a button that the server runs; others only change something in the browser."""
        (event,) = [one for one in self.triggered("click", button) if one["backend_fn"]]
        return event

    def after(self, event: int) -> list[dict[str, Any]]:
        return [one for one in self.events.values() if one["trigger_after"] == event]


@dataclass
class Request:
    """Something a visitor has begun, perhaps by pressing twice: how many updates came, and the last values.

    last_values: what each of its events has changed when it has ended, as JSON. has_reply: an update said that a reply
    has ended.
    """

    updates: int = 0
    has_reply: bool = False
    last_values: list[str] = field(default_factory=list)
    presses: int = 0
    _ended: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note_update(self, values: str) -> None:
        self.updates += 1
        self.has_reply |= "Reply ended: " in values
        self._changed.set()

    def note_values(self, values: str) -> None:
        self.last_values.append(values)
        self.has_reply |= "Reply ended: " in values
        self._changed.set()

    def note_end(self) -> None:
        self._ended += 1
        self._changed.set()

    @property
    def is_over(self) -> bool:
        return self._ended == self.presses

    async def wait_for(self, updates: int) -> None:
        """Until so many updates have come, or it is over."""
        while self.updates < updates and not self.is_over:
            self._changed.clear()
            await self._changed.wait()


class OpenPage:
    """A page that is open; see `opened`."""

    def __init__(self, client: httpx2.AsyncClient, layout: PageLayout, address: str) -> None:
        self.session = secrets.token_hex(6)
        self.values = dict(layout.values)
        self._client, self._layout = client, layout
        self._headers = {"X-Forwarded-For": address}
        self._messages: dict[str, asyncio.Queue[Any]] = {}  # of events under way
        self._early: dict[str, list[Any]] = {}  # messages that came before the answer that says whose they are
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stream: asyncio.Task[None] | None = None

    # --- what a person does ---

    def fill(self, elem_id: str, value: Any) -> None:
        self.values[self._layout.ids[elem_id]] = value

    def press(self, elem_id: str, again: Request | None = None) -> Request:
        """Press a button; its events run while the page is open. again: the request of an earlier press."""
        event = self._layout.pressed(self._layout.ids[elem_id])
        request = again or Request()
        request.presses += 1
        self._start(self._run_chain(event, request))
        return request

    async def press_and_wait(self, elem_id: str) -> None:
        event = self._layout.pressed(self._layout.ids[elem_id])
        await self._run(event, Request())

    # --- how the page works ---

    async def load(self) -> None:
        """Fetch the document, start the heartbeat, and run all events of a page that opens."""
        document = await self._client.get("/", headers=self._headers)
        if document.status_code != 200:
            raise Broken(f"the page itself: {document.status_code}")
        beats = asyncio.Event()
        self._start(self._beat(beats))
        await beats.wait()
        loads = [event for event in self._layout.triggered("load") if event["backend_fn"]]
        await asyncio.gather(*(self._run(event, Request()) for event in loads))

    async def close(self) -> None:
        """As a closed tab does: every connection ends at once, even in the middle of an answer."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self, beats: asyncio.Event) -> None:
        heartbeat = self._client.stream("GET", f"{API}/heartbeat/{self.session}", headers=self._headers, timeout=None)
        async with heartbeat as answer:
            async for _ in answer.aiter_raw():
                beats.set()

    async def _run_chain(self, event: dict[str, Any], request: Request) -> None:
        """An event and all that follow it."""
        try:
            await self._run(event, request)
            following = self._layout.after(event["id"])
            while following:
                event = following.pop(0)
                if event["backend_fn"]:
                    await self._run(event, request)
                following += self._layout.after(event["id"])
        except (Broken, httpx2.HTTPError) as error:
            request.note_values(f"broken: {error!r}")
        finally:
            request.note_end()

    async def _run(self, event: dict[str, Any], request: Request) -> None:
        data = [self.values.get(part) for part in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "trigger_id": None}
        if event["queue"]:
            changed = await self._queued(event, body, request)
        else:
            output = await self._answered(f"{API}/run/predict", body)
            changed = self._take(event, output.get("data") or [])
        request.note_values(json.dumps(list(changed.values()), ensure_ascii=False))

    async def _answered(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(path, json=body, headers=self._headers)
        if answer.status_code != 200:
            raise Broken(f"{answer.status_code} {answer.text[:300]}")
        return dict(answer.json())

    async def _queued(self, event: dict[str, Any], body: dict[str, Any], request: Request) -> dict[int, Any]:
        """What the event has changed when it has ended. Each message but the first says what changed since the last."""
        shown: list[Any] = []
        changed: dict[int, Any] = {}
        number = str((await self._answered(f"{API}/queue/join", body))["event_id"])
        mailbox = self._messages[number] = asyncio.Queue()
        for message in self._early.pop(number, ()):
            mailbox.put_nowait(message)
        try:
            if self._stream is None or self._stream.done():
                self._stream = self._start(self._listen())
            while (message := await mailbox.get()) is not _OVER:
                if message["msg"] in ("process_generating", "process_streaming"):
                    request.note_update(json.dumps(message.get("output")))
                    sent = message["output"].get("data") or []
                    shown = list(map(_with_changes, shown, sent)) if shown else sent
                    changed |= self._take(event, shown)
                elif message["msg"] == "process_completed":
                    if not message.get("success"):
                        raise Broken(f"event {body['fn_index']}: {json.dumps(message.get('output'))[:300]}")
                    return changed | self._take(event, message["output"].get("data") or [])
            raise Broken(f"event {body['fn_index']} was left without its end")
        finally:
            self._messages.pop(number, None)

    async def _listen(self) -> None:
        """The stream of this page's messages, opened again as long as an event waits for more."""
        failures = 0
        try:
            while self._messages and failures < 3:
                path = f"{API}/queue/data?session_hash={self.session}"
                async with self._client.stream("GET", path, headers=self._headers, timeout=None) as answer:
                    failures += answer.status_code != 200
                    async for message in _messages(answer):
                        if message["msg"] == "unexpected_error":
                            failures += 1
                        elif message["msg"] != "close_stream":
                            self._sort(message)
        finally:
            for mailbox in self._messages.values():
                mailbox.put_nowait(_OVER)

    def _sort(self, message: dict[str, Any]) -> None:
        event = message.get("event_id")
        if event in self._messages:
            self._messages[event].put_nowait(message)
        elif event:
            self._early.setdefault(event, []).append(message)

    def _take(self, event: dict[str, Any], data: list[Any]) -> dict[int, Any]:
        """Take over the page's new values. Returns what changed, by component."""
        changed = {part: sent for part, sent in zip(event["outputs"], data, strict=False) if sent != _UNCHANGED}
        for part, value in changed.items():
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" in value:
                    self.values[part] = value["value"]
            else:
                self.values[part] = value
        return changed

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _with_changes(shown: Any, changes: Any) -> Any:
    return apply_diff(shown, changes)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def opened(
    client: httpx2.AsyncClient, layout: PageLayout, address: str, kept: dict[str, Any] | None = None
) -> AsyncIterator[OpenPage]:
    """A loaded page; the end of the `with` closes the tab, even in the middle of an answer.

    client: has the playground's address as its base. address: the visitor's network address. kept: what the browser
    kept of the page before a reload, by elem_id.
    """
    page = OpenPage(client, layout, address)
    for elem_id, value in (kept or {}).items():
        page.fill(elem_id, value)
    try:
        await page.load()
        yield page
    finally:
        await page.close()


async def _messages(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            with suppress(ValueError):
                yield json.loads(line[5:])


def page_client(address: str) -> httpx2.AsyncClient:
    """Connections to a playground, as many as its visitors need, each used once.

    The server may close an idle connection just when it is used again: a browser then tries again, httpx fails.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx2.AsyncClient(base_url=address, timeout=ANSWER_SECONDS, limits=limits, trust_env=False, verify=False)


async def read_layout(client: httpx2.AsyncClient) -> PageLayout:
    return PageLayout.read((await client.get("/config")).json())


async def call(
    client: httpx2.AsyncClient, name: str, values: list[Any], address: str, leave_after: int | None = None
) -> str:
    """Call an endpoint as a program does, and return the whole answer; or leave after so many updates.

    Raises Broken if the stream ends without a last event.
    """
    headers = {"X-Forwarded-For": address}
    joined = await client.post(f"{API}/call/{name}", json={"data": values}, headers=headers)
    if joined.status_code != 200:
        raise Broken(f"{name}: {joined.status_code} {joined.text[:300]}")
    lines: list[str] = []
    path = f"{API}/call/{name}/{joined.json()['event_id']}"
    async with client.stream("GET", path, headers=headers, timeout=None) as answer:
        async for line in answer.aiter_lines():
            lines.append(line)
            if line in ("event: complete", "event: error"):
                leave_after = None
            if leave_after is not None and lines.count("event: generating") > leave_after:
                break
    if leave_after is None and not any(line in ("event: complete", "event: error") for line in lines):
        raise Broken(f"{name} was left without its end")
    return "\n".join(lines)
