"""Life, readiness and figures: over HTTP from the real playground, and when it is ready for visitors."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from playground.app.services import Services
from playground.limits.runs import Runs
from playground.settings import load_settings
from playground.web.server.health import TRY_AGAIN_SECONDS, Readiness
from playground.web.server.metrics import Metrics
from tests.support.playground_process import ROOT, PlaygroundProcess

POLL_SECONDS = 0.05  # there is no sign of readiness to wait for but the answer


def fetch(address: str, password: str = "") -> str:
    headers = {"Authorization": f"Bearer {password}"} if password else {}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
        return str(answer.read().decode())


def wait_until_ready(address: str) -> str:
    """What it says once it is; raises AssertionError for any other reason than that it is being tried out."""
    while True:
        try:
            return fetch(address)
        except urllib.error.HTTPError as refusal:
            code, found = refusal.code, json.load(refusal)
        assert code == 503 and found["ready"] is False and "being tried out" in found["reason"]
        threading.Event().wait(POLL_SECONDS)


@pytest.mark.process
def test_liveness_and_readiness_are_public_and_figures_need_the_password(tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, {"PLAYGROUND_METRICS": "true", "PLAYGROUND_PASSWORD": "open sesame"}) as process:
        api = f"{process.address}/gradio_api"
        assert json.loads(fetch(f"{api}/livez")) == {"alive": True}
        assert wait_until_ready(f"{api}/readyz") == fetch(f"{api}/healthz")
        assert json.loads(fetch(f"{api}/readyz")) == {"ready": True}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(f"{api}/metrics")
        assert 'playground_memory_bytes{kind="usable"} ' in fetch(f"{api}/metrics", "open sesame")


def test_the_page_on_hosting_lists_every_figure_with_its_kind(tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path)) as services:
        found = Metrics(services).text().decode()
    kinds = {tuple(line.split()[2:]) for line in found.splitlines() if line.startswith("# TYPE playground_")}
    lines = (ROOT / "docs" / "hosting.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| `playground_")]
    listed = {(name.strip(" `").partition("{")[0], kind.strip()) for name, kind in rows}
    assert listed == kinds and len(kinds) > 15


def test_speeds_that_were_disturbed_are_counted_apart(tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path)) as services:
        metrics = Metrics(services)
        for more in ({}, {}, {"disturbed": True}):
            metrics.count_event("reply", {"reason": "end of text", "tokens": 5, "tokens_per_second": 12.0, **more})
    found = metrics.text().decode()
    assert 'playground_generation_tokens_per_second_count{disturbed="no"} 2.0' in found
    assert 'playground_generation_tokens_per_second_count{disturbed="yes"} 1.0' in found


# --- readiness ---


class Trials:
    """What each trial of the engine finds, one after the other; the last one is found again and again."""

    def __init__(self, *found: str) -> None:
        self.found, self.count, self.now = list(found), 0, 0.0

    def __call__(self) -> str:
        self.count += 1
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


def tried(trials: Trials, runs: Runs | None = None) -> Readiness:
    readiness = Readiness(runs or Runs(), trials, lambda: trials.now)
    assert "being tried out" in readiness.reason
    readiness.wait_for_test()
    return readiness


def test_it_is_ready_once_the_engine_has_been_tried_out_and_never_tries_again() -> None:
    trials = Trials("")
    readiness = tried(trials)
    for trials.now in range(0, 1000, 100):
        assert readiness.reason == ""
    assert trials.count == 1


def test_where_no_model_can_run_it_is_not_ready_until_one_can() -> None:
    trials = Trials("No process can be started.", "")
    readiness = tried(trials)
    assert readiness.reason == "No process can be started."
    trials.now = TRY_AGAIN_SECONDS / 2
    assert readiness.reason == "No process can be started." and trials.count == 1
    trials.now = TRY_AGAIN_SECONDS
    readiness.reason  # noqa: B018 - who asks begins the next trial
    readiness.wait_for_test()
    assert readiness.reason == "" and trials.count == 2


def test_the_death_of_a_models_process_is_looked_into_and_a_bad_file_is_not() -> None:
    trials = Trials("", "Memory is short.")
    readiness = tried(trials)
    trials.now = 100
    for error in ("DoesNotFit", "BadModelFile"):
        readiness.note_event("model not loaded", {"error": error})
        assert readiness.reason == "" and trials.count == 1
    readiness.note_event("model died", {})
    assert readiness.reason == ""
    readiness.wait_for_test()
    assert readiness.reason == "Memory is short."


def test_it_is_not_ready_while_it_shuts_down() -> None:
    runs = Runs()
    readiness = tried(Trials(""), runs)
    runs.close()
    assert readiness.reason == "The playground is shutting down."
