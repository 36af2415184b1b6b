"""The worked example of docs/scaling.md: two of llama-cpp-python's servers behind one page, as in deploy/."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from playground.app.services import Services
from playground.engine.protocol import Finished, Token
from playground.engine.remote.engine import RemoteEngine
from playground.engine.remote.protocol import RemoteRequest
from playground.llama.sampling_extras import GREEDY
from playground.settings import Settings, load_settings
from tests.support.playground_process import free_port

pytestmark = pytest.mark.process

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
START_SECONDS = 120
QUESTION = [{"role": "user", "content": "Tell me a long story about a fox."}]


@dataclass
class Hall:
    """The workers and the settings of the page before them."""

    workers: list[subprocess.Popen[bytes]]
    settings: Settings


@pytest.fixture(scope="module")
def hall(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """Everything as in deploy/ but for what differs from computer to computer: the model's place and the ports."""
    folder = tmp_path_factory.mktemp("hall")
    ports = {8001: free_port(), 8002: free_port()}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        workers = []
        for port in ports.values():
            config = json.loads((DEPLOY / "worker.json").read_text())
            config["port"] = port
            config["models"][0]["model"] = str(starter)
            path = folder / f"worker-{port}.json"
            path.write_text(json.dumps(config))
            command = [sys.executable, "-m", "llama_cpp.server", "--config_file", str(path)]
            worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            workers.append(worker)
            stack.callback(worker.wait, 20)
            stack.callback(worker.terminate)
        for name, value in _variables(DEPLOY / "page.env").items():
            for given, chosen in ports.items():
                value = value.replace(f":{given}/", f":{chosen}/")
            environment.setenv(name, value)
        settings = load_settings(data_dir=folder / "data")
        _wait_for(settings.remotes[0].urls, workers)
        yield Hall(workers, settings)


def _variables(path: Path) -> dict[str, str]:
    """As a shell reads them."""
    script = 'set -a; . "$0"; env -0'
    printed = subprocess.run(["sh", "-c", script, str(path)], env={}, capture_output=True, check=True, text=True).stdout
    pairs = (entry.partition("=") for entry in printed.split("\0") if entry.startswith("PLAYGROUND_"))
    return {name: value for name, _, value in pairs}


def _wait_for(urls: tuple[str, ...], workers: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + START_SECONDS
    for url in urls:
        while True:
            assert time.monotonic() < until and all(worker.poll() is None for worker in workers), (
                "a worker did not start"
            )
            try:
                httpx2.get(f"{url}/models", timeout=5, trust_env=False)
                break
            except httpx2.HTTPError:
                time.sleep(0.1)  # there is no sign to wait for but an answer


def engine_of(services: Services) -> RemoteEngine:
    services.remotes.list_servers()
    assert services.remotes.wait_for_lists(30)
    (model,) = services.remotes.list_models()
    opening = services.remotes.lease_model(model)
    next(opening)
    with pytest.raises(StopIteration) as end:
        next(opening)
    engine: RemoteEngine = end.value.value.engine
    return engine


def test_the_example_has_one_server_of_two_workers_and_lets_no_visitor_add_another(hall: Hall) -> None:
    (server,) = hall.settings.remotes
    assert (server.name, len(server.urls), server.key) == ("hall", 2, None)
    assert not hall.settings.may_add_remotes


def test_two_visitors_are_served_at_once_by_workers_that_serve_one_each(hall: Hall) -> None:
    with Services(hall.settings) as services:
        engine = engine_of(services)
        assert engine.model.id == "smollm2-135m-q4_1"
        with (
            engine.start_reply(RemoteRequest(QUESTION, GREEDY, 600)) as one,
            engine.start_reply(RemoteRequest(QUESTION, GREEDY, 600)) as other,
        ):
            assert isinstance(next(one), Token)
            assert isinstance(next(other), Token)
            assert one.is_open and other.is_open


def test_a_worker_that_dies_takes_no_more_than_its_own_reply(hall: Hall) -> None:
    """The last of this file: it leaves one worker."""
    with Services(hall.settings) as services:
        engine = engine_of(services)
        hall.workers[0].kill()
        hall.workers[0].wait()
        for _ in range(2):
            *_, last = engine.start_reply(RemoteRequest(QUESTION, GREEDY, 4))
            assert isinstance(last, Finished)
