"""Readiness and figures over HTTP, from the real playground."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playground_process import PlaygroundProcess


def fetch(address: str, password: str = "") -> str:
    headers = {"Authorization": f"Bearer {password}"} if password else {}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
        return str(answer.read().decode())


def test_readiness_and_figures_are_told_where_asked_for_and_figures_only_with_the_password(tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, PLAYGROUND_METRICS="true", PLAYGROUND_PASSWORD="open sesame") as process:
        assert fetch(f"{process.address}/gradio_api/healthz") == '{"ready": true}'
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(f"{process.address}/gradio_api/metrics")
        assert 'playground_memory_bytes{kind="usable"} ' in fetch(
            f"{process.address}/gradio_api/metrics", "open sesame"
        )


def test_neither_is_there_unless_asked_for(tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path) as process:
        for name in ("healthz", "metrics"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(f"{process.address}/gradio_api/{name}")
