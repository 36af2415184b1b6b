"""Generation speed with the page open and streaming in a real browser, against the engine alone, alternating.

Both figures are the engine's own (decode time only). What the page costs is the CPU time that Gradio, its updates and
the browser take from llama.cpp on the same machine.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.bench import STORY, ended, engine_on, median_of, on_device, report, run_main, starter, turn
from playground.engine.protocol import ReplyRequest
from playground.llama.params import ALL_LAYERS, ContextParameters, Placement
from playground.llama.sampling_extras import Sampling
from tests.support.playground_process import PlaygroundProcess

ROUNDS = 4
TOKENS = 256
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def find_browser() -> str:
    """The path of the Chromium that is installed."""
    return next(path for name in BROWSERS if (path := shutil.which(name)))


def speed_on_the_page(page: Page) -> float:
    page.get_by_role("textbox", name="Message").fill(STORY)
    page.keyboard.press("Enter")
    page.locator("#chat-live .gp-live-writes").wait_for(timeout=60_000)
    page.locator("#chat-live .gp-live-ended").wait_for(timeout=120_000)
    found = re.search(r"([\d.]+) tok/s", page.locator("#chat-live").inner_text())
    assert found
    page.locator("#chat-clear").click()
    page.locator("#chat-live .gp-live-rests").wait_for(timeout=60_000)
    return float(found[1])


def choose_where(page: Page, placement: Placement) -> None:
    """The same place as the engine's: the page would take as much of the GPU as fits."""
    where = page.locator("#chat-picker").get_by_role("button", name="Where it runs")
    if not where.is_visible():  # there is no GPU
        return
    where.click()
    choices = page.locator("#chat-where")
    if placement.is_cpu_only:
        choices.get_by_text("CPU only").click()
    elif placement.gpu_layers == ALL_LAYERS:
        choices.get_by_text("GPU: all layers").click()
    else:
        choices.get_by_text("Some layers on the GPU").click()
        page.get_by_label("Layers on the GPU", exact=True).fill(str(placement.gpu_layers))
    chosen = "On the CPU, as chosen" if placement.is_cpu_only else "layers on the GPU, as chosen"
    page.locator("#chat-memory").get_by_text(chosen).wait_for(timeout=60_000)


def main() -> None:
    context = on_device(starter(), ContextParameters(4096))
    variables = {"PLAYGROUND_MAX_REPLY_TOKENS": str(TOKENS)}
    with (
        tempfile.TemporaryDirectory() as home,
        PlaygroundProcess(Path(home), variables) as playground,
        engine_on(starter(), context) as engine,
        sync_playwright() as playwright,
    ):
        page = playwright.chromium.launch(executable_path=find_browser(), args=SWITCHES).new_page()
        page.goto(playground.address)
        page.get_by_role("tab", name="Chat", exact=True).click()
        page.locator("#chat-level input:checked").first.wait_for(state="attached", timeout=60_000)
        choose_where(page, context.placement)
        alone: list[float] = []
        shown: list[float] = []
        for number in range(ROUNDS):
            sampling = Sampling(temperature=0.3, seed=number)
            timings = ended(list(engine.start_reply(ReplyRequest(turn(STORY), sampling, max_tokens=TOKENS)))).timings
            assert timings.generation_speed
            alone.append(timings.generation_speed)
            shown.append(speed_on_the_page(page))
    ratio = statistics.median(page_speed / own for page_speed, own in zip(shown, alone, strict=True))
    rows = [("engine alone, tok/s", median_of(alone)), ("on the page, tok/s", median_of(shown))]
    report("The page's cost", rows, ratio, ">= 0.85")


if __name__ == "__main__":
    run_main(main)
