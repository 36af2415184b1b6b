"""From choosing a repository to its verdicts on the page, in a real browser, beyond what the network itself takes.

The Hub is the tests' stand-in on loopback. What the network takes is measured by asking the stand-in the very same
questions again, one after the other, with nothing done with the answers; on loopback that is little, so the figure is
the playground's own time: the header read, llama.cpp opened on its stand-in, every level judged, the largest context
found, the page drawn. Each round opens a repository that was never opened before. Two vocabularies: the starter's
49,152 tokens, and 151,936 as Qwen has them, because reading the vocabulary is most of the work.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import gguf
import httpx2
import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.bench import median_of, report, run_main, starter
from tests.e2e.visitor import CHROMIUM_FLAGS
from tests.support.gguf_bytes import Blob, Slice
from tests.support.hub_stand_in import HubStandIn, Request
from tests.support.playground_process import PlaygroundProcess

TARGET_SECONDS = 1.5
ROUNDS = 5
LEVELS = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16")
READ = "Q4_K_M"  # the level whose header is read when nothing else is asked for
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LARGE_VOCABULARY = 151_936

# From the click until the page shows the repository with a verdict for every level and the memory of the chosen one.
OPEN_JS = """async name => {
  const button = [...document.querySelectorAll('#models-results button')]
    .find(one => one.getAttribute('aria-label') === `Open ${name}`);
  const done = () => {
    const rows = [...document.querySelectorAll('#models-level label')];
    return document.querySelector('#models-repository').innerText.includes(name)
      && document.querySelector('#models-memory [role=img]') && rows.length
      && rows.every(row => /Fits|Tight|Won.t fit/.test(row.innerText));
  };
  const start = performance.now();
  button.click();
  while (!done()) {
    if (performance.now() - start > 60000) throw new Error('no verdicts after a minute');
    await new Promise(next => setTimeout(next, 5));
  }
  return (performance.now() - start) / 1000;
}"""


def model_with_a_large_vocabulary(folder: Path) -> Path:
    """A small model that llama.cpp opens, one layer of it, whose header is as large as a Qwen's."""
    path = folder / "large.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    tokens = [f"tok{number:x}" for number in range(LARGE_VOCABULARY)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges([f"{one} {two}" for one, two in pairwise(tokens)])
    numbers = {
        "block_count": 1, "context_length": 40_960, "embedding_length": 64, "feed_forward_length": 128,
        "attention.head_count": 4, "attention.head_count_kv": 4,
    }  # fmt: skip
    for key, number in numbers.items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (LARGE_VOCABULARY, 64), "output_norm": (64,)}
    shapes |= {f"blk.0.attn_{part}": (64, 64) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.attn_norm": (64,), "blk.0.ffn_norm": (64,)}
    shapes |= {"blk.0.ffn_gate": (128, 64), "blk.0.ffn_up": (128, 64), "blk.0.ffn_down": (64, 128)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_repository(hub: HubStandIn, name: str, model: Path, number: int) -> None:
    """Ten levels, with a content of its own for the one that is read, so that no header of an earlier round answers."""
    files = {f"Bench-{level}.gguf": Blob.of(f"{name} {level}".encode()) for level in LEVELS}
    files[f"Bench-{READ}.gguf"] = Blob((Slice(model, 0, model.stat().st_size), name.encode()))
    hub.add(name, files, downloads=100 - number)
    _ = [blob.sha256 for blob in files.values()]  # the stand-in's own work, done beforehand


def network_seconds(hub: HubStandIn, requests: list[Request]) -> float:
    """How long the same questions take when nothing is done with the answers."""
    with httpx2.Client(trust_env=False) as client:
        started = time.perf_counter()
        for request in requests:
            place = hub.storage if request.path.startswith("/storage/") else hub.endpoint
            headers = {"Range": request.range} if request.range else {}
            client.request(request.method, place + request.path, params=request.query, headers=headers)
        return time.perf_counter() - started


def seconds_of_a_round(page: Page, hub: HubStandIn, name: str) -> tuple[float, float]:
    """(from the click to the verdicts, of them the network's)."""
    search = page.locator("#models-search :is(input, textarea)")
    search.fill("")
    search.press_sequentially("bench")
    page.get_by_role("button", name=f"Open {name}").wait_for(timeout=60_000)
    hub.forget_requests()
    shown: float = page.evaluate(OPEN_JS, name)
    return shown, network_seconds(hub, hub.requests)


def main() -> None:
    browser_path = next(path for name in BROWSERS if (path := shutil.which(name)))
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder, HubStandIn() as hub:
        models = {"49,152 tokens": starter(), "151,936 tokens": model_with_a_large_vocabulary(Path(folder))}
        names = {}
        for place, (vocabulary, model) in enumerate(models.items()):
            names[vocabulary] = [f"test/Bench-{place}-{number}-GGUF" for number in range(ROUNDS)]
            for number, name in enumerate(names[vocabulary]):
                add_repository(hub, name, model, number)
        home = Path(folder) / "home"
        home.mkdir()
        with (
            PlaygroundProcess(home, {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}) as app,
            sync_playwright() as play,
        ):
            browser = play.chromium.launch(executable_path=browser_path, args=CHROMIUM_FLAGS)
            page = browser.new_page()
            page.goto(app.address)
            page.get_by_role("tab", name="Models").click()
            for vocabulary in models:
                times = [seconds_of_a_round(page, hub, name) for name in names[vocabulary]]
                own = [shown - network for shown, network in times]
                worst = max(worst, statistics.median(own))
                rows += [
                    (f"{vocabulary}: to the verdicts, seconds", median_of([shown for shown, _ in times])),
                    (f"{vocabulary}: of them the network's", f"median {statistics.median(n for _, n in times):.3f}"),
                    (f"{vocabulary}: beyond it, seconds", median_of(own)),
                ]
            browser.close()
    report("From choosing a repository to its verdicts", rows, worst / TARGET_SECONDS, "at most 1")


if __name__ == "__main__":
    run_main(main)
