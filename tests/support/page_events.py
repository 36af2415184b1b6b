"""The page's buttons over HTTP: what a browser sends when one is pressed, and every message that it then gets."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final

PATIENCE_SECONDS: Final = 60
STARTER_CHOICE: Final = {  # in the tab Chat
    "chat-model": "SmolLM2-135M-Instruct",
    "chat-level": "Q4_1",
    "chat-context": "512",
    "chat-kv": "f16",
}
_numbers = itertools.count(1)


class PageEvents:
    """One open page of the playground at an address; `session` is the name by which the server knows it."""

    def __init__(self, address: str, session: str = "") -> None:
        self._address, self._session = address, session or f"a-test-{next(_numbers)}"
        with urllib.request.urlopen(f"{address}/config", timeout=PATIENCE_SECONDS) as answer:
            config = json.load(answer)
        self._parts = {part["id"]: part["props"] for part in config["components"]}
        self._events = config["dependencies"]

    def press(self, button: str, chosen: Mapping[str, object]) -> str:
        """All messages of the events behind a button, one event after the other, each until it has ended.

        chosen: values by elem_id; the other components have those with which the page opened.
        """
        return "".join(self.messages(button, chosen))

    def messages(self, button: str, chosen: Mapping[str, object]) -> Iterator[str]:
        """The same, message by message as they come."""
        for event in self._behind(button):
            yield from self._run(event, [self._value(part, chosen) for part in event["inputs"]])

    def open(self, part: str) -> str:
        """Fill a component as the opening of the page, or of its tab, does; returns all messages of that."""
        number = self._number(part)
        filling = [
            event
            for event in self._events
            if event["backend_fn"]
            and number in event["outputs"]
            and any(kind in ("load", "select") for _, kind in event["targets"])
        ]
        assert filling, f"nothing fills {part} when it opens"
        return "".join(
            message
            for event in filling
            for message in self._run(event, [self._value(each, {}) for each in event["inputs"]])
        )

    def _number(self, part: str) -> int:
        (number,) = [id for id, props in self._parts.items() if props.get("elem_id") == part]
        return int(number)

    def _behind(self, button: str) -> list[dict[str, Any]]:
        number = self._number(button)
        chain = [event for event in self._events if [number, "click"] in [list(t) for t in event["targets"]]]
        for event in chain:  # which grows by what each of them is followed by
            chain += [one for one in self._events if one["trigger_after"] == event["id"]]
        return [event for event in chain if event["backend_fn"]]

    def _value(self, part: int, chosen: Mapping[str, object]) -> object:
        props = self._parts[part]
        return chosen.get(props.get("elem_id"), props.get("value"))

    def _run(self, event: dict[str, Any], data: list[object]) -> Iterator[str]:
        body = {"data": data, "fn_index": event["id"], "session_hash": self._session, "trigger_id": None}
        ask = urllib.request.Request(
            f"{self._address}/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(ask, timeout=PATIENCE_SECONDS).close()
        messages = f"{self._address}/gradio_api/queue/data?session_hash={self._session}"
        with urllib.request.urlopen(messages, timeout=PATIENCE_SECONDS) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    yield line.decode()
                if b'"process_completed"' in line:
                    return
