"""Life, readiness and figures over HTTP, from the real playground."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from playground.app.services import Services
from playground.settings import load_settings
from playground.web.server.metrics import Metrics
from tests.support.playground_process import ROOT, PlaygroundProcess

pytestmark = pytest.mark.process

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
            code, told = refusal.code, json.load(refusal)
        assert code == 503 and told["ready"] is False and "being tried out" in told["reason"]
        threading.Event().wait(POLL_SECONDS)


def test_life_and_readiness_are_told_to_everybody_and_figures_only_with_the_password(tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, PLAYGROUND_METRICS="true", PLAYGROUND_PASSWORD="open sesame") as process:
        api = f"{process.address}/gradio_api"
        assert fetch(f"{api}/livez") == '{"alive": true}'
        assert wait_until_ready(f"{api}/readyz") == fetch(f"{api}/healthz") == '{"ready": true}'
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(f"{api}/metrics")
        assert 'playground_memory_bytes{kind="usable"} ' in fetch(f"{api}/metrics", "open sesame")


def test_none_of_them_is_there_unless_asked_for(tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path) as process:
        for name in ("livez", "readyz", "healthz", "metrics"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(f"{process.address}/gradio_api/{name}")


def test_the_page_on_hosting_lists_every_figure_with_its_kind(tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path)) as services:
        told = Metrics(services).text().decode()
    kinds = {tuple(line.split()[2:]) for line in told.splitlines() if line.startswith("# TYPE playground_")}
    lines = (ROOT / "docs" / "hosting.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| `playground_")]
    listed = {(name.strip(" `").partition("{")[0], kind.strip()) for name, kind in rows}
    assert listed == kinds and len(kinds) > 15
