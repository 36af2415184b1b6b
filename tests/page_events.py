"""The page's buttons over HTTP: what a browser sends when one is pressed, and how long it then listens."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

STARTER_CHOICE: Final = {  # in the tab Chat
    "chat-model": "SmolLM2-135M-Instruct",
    "chat-level": "Q4_1",
    "chat-context": "512",
    "chat-kv": "f16",
}


class PageEvents:
    """One open page of the playground at an address; `session` is the name by which the server knows it."""

    def __init__(self, address: str, session: str = "a-test") -> None:
        self._address, self._session = address, session
        with urllib.request.urlopen(f"{address}/config", timeout=30) as answer:
            config = json.load(answer)
        self._parts = {part["id"]: part["props"] for part in config["components"]}
        self._events = config["dependencies"]

    def press(self, button: str, chosen: Mapping[str, object]) -> None:
        """Every event behind a button, one after the other, each until its last word.

        chosen: values by elem_id; the other components have those with which the page opened.
        """
        for event in self._behind(button):
            self._run(event, [self._value(part, chosen) for part in event["inputs"]])

    def _behind(self, button: str) -> list[dict[str, Any]]:
        (number,) = [id for id, props in self._parts.items() if props.get("elem_id") == button]
        chain = [event for event in self._events if [number, "click"] in [list(t) for t in event["targets"]]]
        while after := [one for one in self._events if one["trigger_after"] == chain[-1]["id"]]:
            chain += after
        return [event for event in chain if event["backend_fn"]]

    def _value(self, part: int, chosen: Mapping[str, object]) -> object:
        props = self._parts[part]
        return chosen.get(props.get("elem_id"), props.get("value"))

    def _run(self, event: dict[str, Any], data: list[object]) -> None:
        body = {"data": data, "fn_index": event["id"], "session_hash": self._session, "trigger_id": None}
        ask = urllib.request.Request(
            f"{self._address}/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(ask, timeout=30).close()
        told = f"{self._address}/gradio_api/queue/data?session_hash={self._session}"
        with urllib.request.urlopen(told, timeout=60) as stream:
            for line in stream:
                if b"process_completed" in line:
                    return
