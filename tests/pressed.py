"""An open page as a program uses it: presses a button by its id, and hears all that its events then tell."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

PATIENCE_SECONDS = 60
_numbers = itertools.count(1)


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as answer:
        return str(answer.read().decode())


class OpenPage:
    """One visitor's page at an address; values are by the ids of the components that hold them."""

    def __init__(self, address: str) -> None:
        self._api = f"{address}/gradio_api"
        self._config = json.loads(fetch(f"{address}/config"))
        self._parts = {part["id"]: part["props"] for part in self._config["components"]}
        self._session = f"a-test-{next(_numbers)}"

    def press(self, button: str, values: Mapping[str, Any]) -> Iterator[str]:
        """Each message of the events behind a button, as it came; ends with the last event, or with the server."""
        number = self._number(button)
        events = self._config["dependencies"]
        (event,) = [one for one in events if [number, "click"] in [list(target) for target in one["targets"]]]
        while event:
            yield from self._run(event, values)
            event = next((one for one in events if one["trigger_after"] == event["id"] and one["backend_fn"]), None)

    def open(self, part: str) -> str:
        """Let a part be filled as the opening of the page, or of its tab, fills it; what else that tells, too."""
        number, opening = self._number(part), ("load", "select")
        for event in self._config["dependencies"]:
            if number in event["outputs"] and any(kind in opening for _, kind in event["targets"]):
                return "".join(self._run(event, {}))
        raise AssertionError(f"nothing fills {part} when it opens")

    def _number(self, part: str) -> int:
        (number,) = [number for number, props in self._parts.items() if props.get("elem_id") == part]
        return int(number)

    def _run(self, event: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
        props = [self._parts[number] for number in event["inputs"]]
        data = [values.get(str(one.get("elem_id")), one.get("value")) for one in props]
        body = {"data": data, "fn_index": event["id"], "session_hash": self._session, "trigger_id": None}
        question = urllib.request.Request(
            f"{self._api}/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(question, timeout=PATIENCE_SECONDS).close()
        address = f"{self._api}/queue/data?session_hash={self._session}"
        with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    yield line.decode()
                if b'"process_completed"' in line:
                    return
