"""The decorated function in the hands of the real package `spaces`, against a stand-in of ZeroGPU's service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.playground_process import ROOT


@pytest.fixture(scope="module")
def replies(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    written = tmp_path_factory.mktemp("replies") / "replies.jsonl"
    command = [sys.executable, "-m", "tests.support.zerogpu_replies", str(written)]
    environment = {**os.environ, "STARTER": str(starter)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]


def test_a_reply_is_written_in_a_call_and_the_gpu_given_back(replies: list[dict[str, Any]]) -> None:
    first = replies[0]
    assert "4" in first["text"] and first["on_gpu"] and first["finished"]
    assert [path for path in first["asked"] if path != "/queue-size"] == ["/schedule", "/allow", "/release"]


def test_a_wait_in_the_platforms_queue_is_said_and_waited_out(replies: list[dict[str, Any]]) -> None:
    second = replies[1]
    assert "2 requests in its queue" in second["remarks"][0]
    assert second["text"] == replies[0]["text"] and second["on_gpu"]


def test_the_platform_is_asked_for_the_seconds_that_the_page_names(replies: list[dict[str, Any]]) -> None:
    for reply in replies[:2]:  # the second on a GPU for which the package asks for more than its function does
        assert f"asked for {reply['seconds']} s of a GPU" in reply["remarks"][0]


def test_a_stopped_reply_ends_its_call(replies: list[dict[str, Any]]) -> None:
    assert replies[2]["finished"] is None and replies[2]["asked"][-1] == "/release"


def test_when_the_quota_is_gone_the_processor_writes(replies: list[dict[str, Any]]) -> None:
    refused, known = replies[3:]
    for reply in (refused, known):
        assert reply["text"] == replies[0]["text"] and not reply["on_gpu"] and reply["finished"]
    assert "7s left" in refused["remarks"][-1] and "/schedule" in refused["asked"]
    assert "7 s are left" in known["remarks"][-1] and "/schedule" not in known["asked"]
