"""SIGTERM while the real playground works: it ends soon, its children with it, and the next start goes on.

What is under way is held where it stands: the Hub's stand-in stops sending, and a child that llama.cpp works in is
halted. So a test ends the very work that it names, whatever the speed of the computer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from playground.engine.local.client import WORKER
from tests.support.gguf_bytes import Blob
from tests.support.hub_stand_in import HubStandIn
from tests.support.page_events import STARTER_CHOICE, PageEvents
from tests.support.playground_process import PlaygroundProcess

pytestmark = pytest.mark.process

SOON_SECONDS: Final = 60  # for what another process does in a moment
REPO: Final = "owner/Copy-GGUF"
QUANTIZER: Final = "playground.llama.quantizer.process"
LEVEL: Final = {  # which takes a second or two
    "models-make-model": STARTER_CHOICE["chat-model"],
    "models-make-level": "Q2_K",
}
DOWNLOAD: Final = {"models-search": f"{REPO}:Q4_1", "models-level": f"{REPO}/Copy-Q4_1.gguf"}
HELD_AFTER_BYTES: Final = 20_000_000  # of the download
HALTED_AT_BIRTH: Final = f"""
import os, signal, sys
if {WORKER!r} in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGSTOP)
"""  # as Python's `sitecustomize`: a load that never gets on


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + SOON_SECONDS
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)  # there is no sign to wait for: another process does it


def halt(process: PlaygroundProcess, module: str) -> psutil.Process:
    """The child that runs a module, halted; it can still be killed."""
    (child,) = [child for child in psutil.Process(process.pid).children() if module in child.cmdline()]
    child.suspend()
    return child


class Pressed:
    """A button that was pressed: the messages of its events from then on."""

    def __init__(self, page: PageEvents, button: str, values: Mapping[str, Any]) -> None:
        self._messages: list[str] = []
        self._thread = threading.Thread(target=self._press, args=(page, button, values), daemon=True)
        self._thread.start()

    def _press(self, page: PageEvents, button: str, values: Mapping[str, Any]) -> None:
        self._messages.extend(page.messages(button, values))

    @property
    def messages(self) -> str:
        return "".join(self._messages)

    def ended(self) -> str:
        """All its messages, once nothing more can come."""
        self._thread.join(SOON_SECONDS)
        return self.messages


def end(process: PlaygroundProcess, then: Callable[[], None] = lambda: None) -> None:
    """SIGTERM: it leaves in good order, and with it every process that it had started. then: as soon as it heard."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.process.terminate()
    until(lambda: "Ending the playground." in process.output)
    then()
    assert process.end() == 0
    assert "Traceback" not in process.output
    assert not psutil.wait_procs(children, SOON_SECONDS)[1]


def test_what_is_under_way_is_ended_in_good_order_and_the_next_start_goes_on(starter: Path, tmp_path: Path) -> None:
    """A load, the making of a level and a download; then, after the next start, a reading by both and a reply."""
    with HubStandIn() as hub:
        hub.add(REPO, {"Copy-Q4_1.gguf": Blob.of(starter)})
        (tmp_path / "tmp").mkdir()
        network = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "TMPDIR": str(tmp_path / "tmp")}
        holds = [hub.hold("/storage/", after) for after in (HELD_AFTER_BYTES, 0, 0, 0)]  # it asks again after a while
        (tmp_path / "sitecustomize.py").write_text(HALTED_AT_BIRTH)
        with PlaygroundProcess(tmp_path, {"PYTHONPATH": str(tmp_path), **network}) as process:
            end_while_it_loads_makes_and_downloads(process)
            assert holds[0].reached.is_set()
        hub_cache, made = tmp_path / "hub", tmp_path / "data" / "models"
        assert not list(hub_cache.rglob("*.gguf")), "no half model under its name"
        (half,) = hub_cache.rglob("*.incomplete")
        arrived = half.stat().st_size
        assert HELD_AFTER_BYTES <= arrived < starter.stat().st_size
        assert not made.exists(), "nothing is left of a level that was not made"

        for hold in holds:
            hold.release.set()
        hub.forget_requests()
        with PlaygroundProcess(tmp_path, network) as process:
            PageEvents(process.address).open("models-downloads")
            until(lambda: list(hub_cache.rglob("Copy-Q4_1.gguf")))
            (asked,) = [request for request in hub.requests if request.path.startswith("/storage/")]
            assert asked.range is not None and asked.range.startswith(f"bytes={arrived}-")
            end_while_a_program_chats(process)
    assert not list(tmp_path.rglob("*.making"))


def end_while_it_loads_makes_and_downloads(process: PlaygroundProcess) -> None:
    page = PageEvents(process.address)
    page.press("models-find", DOWNLOAD)
    page.press("models-download", DOWNLOAD)
    page.open("models-make-model")
    making = Pressed(page, "models-make", LEVEL)
    until(lambda: list(process.home.rglob("*.making")))
    halt(process, QUANTIZER)
    loading = Pressed(PageEvents(process.address), "chat-load", STARTER_CHOICE)
    until(lambda: [model for model in process.models() if model.status() == psutil.STATUS_STOPPED])
    end(process)
    for said in (making.ended(), loading.ended()):
        assert "The playground is shutting down." in said and "Start this again" in said, said[-2000:]


def end_while_a_program_chats(process: PlaygroundProcess) -> None:
    chat = Client(process.address, verbose=False).submit(prompt="Write a long story.", context=512, api_name="/chat")
    until(lambda: any("writing" in str(said) for said in chat.outputs()))
    worker = halt(process, WORKER)  # so that the reply is still under way
    end(process, then=worker.resume)
    with pytest.raises(AppError, match=r"The playground is shutting down\."):
        chat.result(SOON_SECONDS)
