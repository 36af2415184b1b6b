"""Every event of the page called as a stranger's program may call it: with anything at all, by number, in any order.

Not one button is pressed here. The events are read from the page's own configuration, so one that is added later is
called too. A payload may be refused; it may not end the page, reach a line of code that did not expect it, or bring
back anything of this computer.
"""

from __future__ import annotations

import itertools
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.playground_process import PlaygroundProcess

pytestmark = pytest.mark.process

PATIENCE_SECONDS: Final = 5  # for one event: who asks for a whole reply is left behind, as a closed tab would be
AT_ONCE: Final = 12
SECRET: Final = "the-secret-of-this-computer"
TOKEN: Final = "hf_AccessTokenThatNobodyMaySee"
NAMES: Final = ("SmolLM2-135M-Instruct", "Q4_1", "512", "q8_0")  # so that some go further than the first check

HOSTILE: Final[tuple[Any, ...]] = (
    None,
    -1,
    1e308,
    10**400,
    float("nan"),
    float("-inf"),
    True,
    "",
    "0",
    "x" * 300_000,
    "\ud800 half a character",
    "\x00\x1b[31m\u202e",
    "../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:9/latest/meta-data",
    "https://example.org/a/b/blob/main/x.gguf",
    "owner/../../etc:Q4_K_M",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "'; DROP TABLE votes; --",
    "<script>alert(1)</script>",
    "{{ ''.__class__.__mro__ }}",
    "delete 0123456789abcdef",
    "cancel ../../x",
    "resume owner/name/x.gguf",
    "open file:///etc/passwd",
    "SmolLM2-135M-Instruct\nQ4_1\n99999999\nf16",
    [],
    [[[[]]]],
    ["a", 1, None],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"messages": [{"role": "system", "content": {"path": "/etc/passwd"}}], "system": 7},
    json.dumps({"messages": [{"role": ["user"], "content": 10**30}]}),
    json.dumps({"messages": [{"role": "assistant", "content": "x", "thinking": {"a": "\ud800"}}] * 300}),
    "[" * 50_000,
    *NAMES,
)
TEXTS: Final = tuple(value for value in HOSTILE if isinstance(value, str))
NUMBERS: Final = (float("nan"), float("inf"), -1e300, 2**63, 10**30, -0.5, 1, None)
CHECKS_ITSELF: Final = ("dropdown", "radio", "slider", "checkbox")  # components of which Gradio checks the value


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    home = tmp_path_factory.mktemp("home")
    (home / "secret.txt").write_text(SECRET)
    (home / "secret.gguf").write_text(SECRET)
    with PlaygroundProcess(home, {"HF_TOKEN": TOKEN, "PLAYGROUND_REMOTE_KEY_NOBODY": TOKEN}) as process:
        yield process


@pytest.fixture(scope="module")
def config(running: PlaygroundProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{running.address}/config", timeout=30) as answer:
        return dict(json.load(answer))


def call(address: str, event: int, data: list[Any], session: str) -> str:
    """All that the page says to an event, until that has ended or takes longer than a stranger is patient."""
    body = json.dumps({"data": data, "fn_index": event, "session_hash": session, "trigger_id": None})
    ask = urllib.request.Request(
        f"{address}/gradio_api/queue/join", body.encode(), {"Content-Type": "application/json"}
    )
    heard: list[str] = []
    try:
        with urllib.request.urlopen(ask, timeout=60) as answer:
            assert answer.status == 200
        stream = urllib.request.urlopen(
            f"{address}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE_SECONDS
        )
        with stream:
            for line in stream:
                heard.append(line.decode())
                if "process_completed" in heard[-1] or "close_stream" in heard[-1]:
                    break
    except urllib.error.HTTPError as refusal:
        if refusal.code >= 500:
            raise
    except OSError:  # it still works, or its own stream broke
        pass
    return "".join(heard)


def anything(number: int, event: dict[str, Any], config: dict[str, Any]) -> list[Any]:
    """Values of any type at all."""
    values = itertools.islice(itertools.cycle(HOSTILE), 11 * number + event["id"], None)
    return list(itertools.islice(values, len(event["inputs"])))


def nothing(number: int, event: dict[str, Any], config: dict[str, Any]) -> list[Any]:
    """No value at all, which is what an empty box of text or numbers may send."""
    return [None] * len(event["inputs"])


def plausible(number: int, event: dict[str, Any], config: dict[str, Any]) -> list[Any]:
    """Values that Gradio lets through, so that the page's own code meets them."""
    parts = {part["id"]: part for part in config["components"]}
    data = []
    for place, part in enumerate(parts[one] for one in event["inputs"]):
        turn, props = 7 * number + event["id"] + place, part["props"]
        if part["type"] in CHECKS_ITSELF:
            choices = [value for _, value in props.get("choices") or []]
            ends = [props.get("minimum"), props.get("maximum"), props.get("value")]
            data.append((choices or ends)[turn % len(choices or ends)])
        else:
            values = NUMBERS if part["type"] == "number" else TEXTS
            data.append(values[turn % len(values)])
    return data


STOLEN: Final = ("{secret}", "/etc/passwd", "file://{secret}", "/tmp/gradio/../..{secret}", "http://127.0.0.1:9/x")


def test_an_event_that_takes_an_upload_takes_no_other_file_and_deletes_none(
    running: PlaygroundProcess, config: dict[str, Any]
) -> None:
    secret = running.home / "secret.gguf"
    takes_files = {part["id"] for part in config["components"] if part["type"] in ("file", "uploadbutton")}
    events = [event for event in config["dependencies"] if event["backend_fn"] and takes_files & {*event["inputs"]}]
    assert len(events) >= 2
    for event, place in itertools.product(events, STOLEN):
        path = place.format(secret=secret)
        for file in (path, {"path": path}, {"path": path, "meta": {"_type": "gradio.FileData"}}):
            for value in (file, [file]):
                data = [value if one in takes_files else None for one in event["inputs"]]
                assert SECRET not in call(running.address, event["id"], data, "thief")
    assert secret.read_text() == SECRET
    assert Path("/etc/passwd").exists()


IN_EACH = (
    "playground/web/server/error_page.py",
    "playground/web/server/first_view.py",
    "playground/web/server/request_filter.py",
    "playground/web/server/sessions.py",
)  # every request goes through them


def surprises(output: str) -> list[str]:
    """Where the page's own code met what it did not expect, and what that was."""
    own = r'File "[^"]*/(playground/[^"]+)", line (\d+)'
    found = set()
    for trace in re.split(r"^Traceback ", output, flags=re.MULTILINE)[1:]:
        places = [place for place in re.findall(own, trace) if place[0] not in IN_EACH]
        if places:
            found.add(f"{places[-1]}: {trace.strip().splitlines()[-1][:200]}")
    return sorted(found)


@pytest.mark.parametrize(
    ("payload", "number"), [(nothing, 0), (anything, 0), (anything, 1), (plausible, 0), (plausible, 1)]
)
def test_no_payload_to_any_event_ends_the_page_or_brings_back_a_secret(
    running: PlaygroundProcess, config: dict[str, Any], payload: Any, number: int
) -> None:
    printed = len(running.output)
    events = [event for event in config["dependencies"] if event["backend_fn"]]

    def attack(event: dict[str, Any]) -> str:
        name = f"stranger-{payload.__name__}-{number}-{event['id']}"
        return call(running.address, event["id"], payload(number, event, config), name)

    with ThreadPoolExecutor(AT_ONCE) as strangers:
        heard = list(strangers.map(attack, events))
    assert sum(map(bool, heard)) > 0.9 * len(events)
    said = "".join(heard) + running.output[printed:]
    for secret in (SECRET, TOKEN, "root:x:0:0"):
        assert secret not in said
    assert "\n".join(surprises(running.output[printed:])) == ""
    with urllib.request.urlopen(running.address, timeout=30) as answer:
        assert answer.status == 200
