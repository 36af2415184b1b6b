"""The real playground in a process of its own, as a person would start it, with nothing on its disk but the starter.

A `with` waits for the sentence that it prints once the page is open, and fails with its output if that does not come.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from playground.engine.local.client import WORKER
from tests.support.ended_with_parent import ended_with_parent

OPEN = re.compile(r"The playground is open at (\S+)")
START_SECONDS = 90  # Gradio alone takes 3 s to import, and many times that where all cores are busy
NOWHERE = "http://127.0.0.1:9"  # the discard port: requests to the Hub fail at once
ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PlaygroundProcess:
    """`python -m playground serve` in a `with`; `address` is where its page is.

    home: an empty folder for its data and the Hub's cache. variables: of its environment, such as HF_ENDPOINT with the
    address of the Hub stand-in and HF_HUB_OFFLINE "0"; without these the Hub cannot be reached. command, folder: what
    to run instead, and where. within: a command that runs the whole, such as a place from `narrow_places`.
    """

    def __init__(
        self,
        home: Path,
        variables: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] | None = None,
        folder: Path = ROOT,
        within: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.port = free_port()
        self._lines: list[str] = []
        self._open_or_ended = threading.Event()
        self.address = ""
        usual = [sys.executable, "-m", "playground", "serve", "--port", str(self.port), "--no-browser"]
        self.process = subprocess.Popen(
            ended_with_parent([*within, *(command or usual)]),
            cwd=folder,
            env={**environment(home), "PLAYGROUND_PORT": str(self.port), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """All that it has printed so far, errors included."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    def ports(self) -> set[int]:
        """Where it listens."""
        connections = psutil.Process(self.pid).net_connections("inet")
        return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}

    def models(self) -> list[psutil.Process]:
        """The processes of the models that are loaded or on their way in."""
        return [child for child in psutil.Process(self.pid).children() if WORKER in child.cmdline()]

    def wait_until_open(self) -> str:
        """The page's address; raises AssertionError with the output if it does not open."""
        self._open_or_ended.wait(START_SECONDS)
        assert self.address, f"The playground did not open; it printed:\n{self.output}"
        return self.address

    def end(self) -> int:
        """Ends it as a service manager would, and returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"SIGTERM did not end the playground; it printed:\n{self.output}") from None
        finally:
            self._reader.join(5)

    def __enter__(self) -> PlaygroundProcess:
        try:
            self.wait_until_open()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.append(line)
            found = OPEN.search(line)
            if found:
                self.address = found[1].rstrip("/")
                self._open_or_ended.set()
        self._open_or_ended.set()


def environment(home: Path) -> dict[str, str]:
    """This process's environment without the settings of the person who runs the tests."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PLAYGROUND_", "HF_", "HUGGINGFACE_", "GRADIO_", "SPACE_")) and name != "MEMORY"
    }
    return own | {
        "HOME": str(home),
        "PLAYGROUND_DATA_DIR": str(home / "data"),
        "HF_HOME": str(home / "hub"),
        "HF_ENDPOINT": NOWHERE,
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
