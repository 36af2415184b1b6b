"""llama-cpp-python's own OpenAI-compatible server in a process of its own, as a person would start it, on loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx2

from tests.support.ended_with_parent import ended_with_parent
from tests.support.playground_process import free_port

ALIAS = "smollm2-on-a-server"
KEY = "open-sesame"
START_SECONDS = 120


class ServerProcess:
    """`python -m llama_cpp.server` in a `with`, with the model loaded; its API is at `url` and wants `KEY`."""

    def __init__(self, model: Path, alias: str = ALIAS, context_size: int = 1024) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1"
        options = {
            "--model": str(model),
            "--model_alias": alias,
            "--host": "127.0.0.1",
            "--port": str(port),
            "--n_ctx": str(context_size),
            "--n_threads": "2",
            "--interrupt_requests": "False",  # else a second request ends the first one's reply
            "--api_key": KEY,
        }
        command = [sys.executable, "-m", "llama_cpp.server"]
        self.process = subprocess.Popen(
            ended_with_parent([*command, *(part for pair in options.items() for part in pair)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> ServerProcess:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                httpx2.get(f"{self.url}/models", timeout=5, trust_env=False)
                return self
            except httpx2.HTTPError:
                time.sleep(0.1)  # there is no sign to wait for but an answer
        self.__exit__()
        raise AssertionError("llama-cpp-python's server did not start: install the `test` extra")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
