"""What opening the page costs: processor time of browser and server, files and bytes, and the browser's time at rest.

The peer is a Gradio page with one box and one button, or another checkout of the playground (`page_opening FOLDER`).
Both are opened in turns in one browser, each time by a visitor who has kept nothing of it. Processor time is counted
over all processes of a side, so that a busy machine changes it far less than a clock.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from playwright.sync_api import Browser, sync_playwright

from benchmarks.bench import report, run_main
from benchmarks.page_speed import SWITCHES, find_browser
from tests.support.playground_process import PlaygroundProcess

ROUNDS: Final = 5
SETTLING_SECONDS: Final = 3.0  # from the word that the page is open to the end of its first events
REST_SECONDS: Final = 3.0  # of a page that nobody touches
IS_OPEN: Final = (
    "document.querySelector('gradio-app button')"
    " && (gradio_config.title !== 'GGUF playground' || window.chatIsOpen && window.compareIsOpen)"
)
BARE_PAGE: Final = """
import os, threading, gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    box = gr.Textbox()
    gr.Button().click(lambda text: text, box, box)
port = int(os.environ["PLAYGROUND_PORT"])
address = page.launch(server_port=port, prevent_thread_lock=True, quiet=True, enable_monitoring=False)[1]
print("The playground is open at", address, flush=True)
threading.Event().wait()
"""


@dataclass(frozen=True)
class Opening:
    """Processor time in seconds; bytes as they came over the network; at_rest: the browser's share of a core."""

    browser: float
    server: float
    files: int
    size: int
    at_rest: float

    @property
    def processor(self) -> float:
        return self.browser + self.server


def processor_seconds(pid: int) -> float:
    """Of a process and all that it started, of those that still run."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def open_once(browser: Browser, browser_pid: int, server: PlaygroundProcess) -> Opening:
    """One visit, in a browser context of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    sizes: list[int] = []
    protocol = context.new_cdp_session(page)
    protocol.send("Network.enable")
    protocol.on("Network.loadingFinished", lambda loaded: sizes.append(int(loaded["encodedDataLength"])))
    browser_before, server_before = processor_seconds(browser_pid), processor_seconds(server.pid)
    page.goto(server.address)
    page.wait_for_function(IS_OPEN, polling=100, timeout=60_000)
    page.wait_for_timeout(1000 * SETTLING_SECONDS)
    browser_after, server_after = processor_seconds(browser_pid), processor_seconds(server.pid)
    files, size = len(sizes), sum(sizes)
    time.sleep(REST_SECONDS)
    at_rest = (processor_seconds(browser_pid) - browser_after) / REST_SECONDS
    context.close()
    return Opening(browser_after - browser_before, server_after - server_before, files, size, at_rest)


def rows_of(name: str, openings: list[Opening]) -> list[tuple[str, str]]:
    def median(figure: Callable[[Opening], float]) -> float:
        return statistics.median(map(figure, openings))

    processor = f"{median(lambda one: one.browser):.2f} and {median(lambda one: one.server):.2f} s"
    return [
        (f"{name}: processor time of browser and server", processor),
        (f"{name}: files", f"{median(lambda one: one.files):.0f}, {median(lambda one: one.size) / 1000:,.0f} kB"),
        (f"{name}: the browser at rest", f"{median(lambda one: one.at_rest):.3f} of a core"),
    ]


def main() -> None:
    other = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with ExitStack() as stack:
        homes = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        page = stack.enter_context(PlaygroundProcess(homes[0]))
        peer = stack.enter_context(
            PlaygroundProcess(homes[1], folder=other)
            if other
            else PlaygroundProcess(homes[1], command=[sys.executable, "-c", BARE_PAGE])
        )
        pages = {"the page": page, "the other checkout" if other else "a bare Gradio page": peer}
        playwright = stack.enter_context(sync_playwright())
        children = {child.pid for child in psutil.Process().children(recursive=True)}
        browser = playwright.chromium.launch(executable_path=find_browser(), args=SWITCHES)
        started = [child for child in psutil.Process().children(recursive=True) if child.pid not in children]
        browser_pid = min(started, key=lambda child: child.create_time()).pid
        openings: dict[str, list[Opening]] = {name: [] for name in pages}
        for number in range(ROUNDS + 1):
            for name, server in pages.items():
                opening = open_once(browser, browser_pid, server)
                if number:  # the first visit warms both up
                    openings[name].append(opening)
        browser.close()
    ours, theirs = openings.values()
    ratio = statistics.median(one.processor / each.processor for one, each in zip(ours, theirs, strict=True))
    report(
        "Opening the page", [row for name, those in openings.items() for row in rows_of(name, those)], ratio, "<= 2.2"
    )


if __name__ == "__main__":
    run_main(main)
