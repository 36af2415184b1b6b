"""The app as a whole, over HTTP and as a process: what it serves, whom it tells what, and how it ends."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.settings import load_settings
from playground.web.app import serving
from playground.web.gradio_scripts import SCRIPTS, lighter_scripts
from playground.web.page import build_page
from playground.web.server.first_view import FirstView
from playground.web.server.sessions import Sessions
from playground.web.streaming import Streaming
from tests.support.gguf_bytes import small_model
from tests.support.page_events import STARTER_CHOICE, PageEvents
from tests.support.playground_process import PlaygroundProcess

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    with PlaygroundProcess(tmp_path_factory.mktemp("home")) as process:
        yield process


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode())


# --- what it serves ---


def test_the_page_asks_nothing_of_the_internet(running: PlaygroundProcess) -> None:
    page = fetch(running.address)
    assert "GGUF playground" in page
    assert "fonts.googleapis.com" not in page and "google-analytics" not in page


def test_the_browser_gets_the_lighter_scripts(running: PlaygroundProcess) -> None:
    scripts = lighter_scripts()
    assert scripts == {name: fetch(f"{running.address}/assets/{name}") for name in scripts}


def test_a_script_is_gradios_and_comes_packed_to_a_browser_that_unpacks_it(running: PlaygroundProcess) -> None:
    file = next(file for file in sorted(SCRIPTS.glob("*.js")) if file.name not in lighter_scripts())
    address = f"{running.address}/assets/{file.name}"
    with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept-Encoding": "br, gzip"})) as answer:
        packed = answer.read()
    assert (answer.headers["content-encoding"], answer.headers["cache-control"]) == ("gzip", "max-age=86400")
    assert gzip.decompress(packed).decode() == fetch(address) == file.read_text("utf-8")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Findex.html", "..%2f..%2f..%2f__init__.py"])
def test_no_other_file_is_served_as_a_script(running: PlaygroundProcess, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        fetch(f"{running.address}/assets/{name}")
    assert 400 <= refusal.value.code < 500


def test_the_pages_file_comes_packed_to_a_browser_that_unpacks_it(running: PlaygroundProcess) -> None:
    asked = urllib.request.Request(running.address, headers={"Accept-Encoding": "gzip, br"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        packed = answer.read()
    assert answer.headers["content-encoding"] == "gzip"
    assert "GGUF playground" in gzip.decompress(packed).decode() and len(packed) < len(fetch(running.address)) / 5


def test_a_shared_link_shows_a_title_a_sentence_and_a_picture(running: PlaygroundProcess) -> None:
    page = fetch(running.address)
    tags = dict(re.findall(r'<meta (?:property|name)="((?:og|twitter):[^"]*)" content="([^"]*)"', page))
    assert "<title>GGUF playground</title>" in page and "needs JavaScript" in page
    assert page.count("og:title") == 1 and "raw.githubusercontent" not in page
    assert tags["og:title"] == "GGUF playground" and "quantization" in tags["og:description"]
    assert tags["og:image"].startswith(f"{running.address}/")
    with urllib.request.urlopen(tags["og:image"], timeout=30) as answer:
        assert answer.headers["content-type"] == "image/png"
        width, height = struct.unpack(">II", answer.read()[16:24])
    assert (str(width), str(height)) == (tags["og:image:width"], tags["og:image:height"])


def test_the_page_reports_to_nobody_and_is_shared_with_nobody(running: PlaygroundProcess) -> None:
    config = json.loads(fetch(f"{running.address}/config"))
    assert config["analytics_enabled"] is False
    assert not config.get("share_url")
    assert config["is_space"] is False if "is_space" in config else True


def test_a_file_of_this_computer_cannot_be_fetched(running: PlaygroundProcess) -> None:
    for path in ("/etc/passwd", str(Path(__file__).resolve()), str(running.home / "data")):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            fetch(f"{running.address}/gradio_api/file={path}")
        assert refusal.value.code in (403, 404)


def test_figures_and_probes_are_not_there_unless_asked_for(running: PlaygroundProcess) -> None:
    for name in ("livez", "readyz", "healthz", "metrics"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"{running.address}/gradio_api/{name}")


# --- how it starts ---


def test_a_taken_port_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(PlaygroundError, match=rf"The port {port} .* is taken or not allowed\. .*--port"),
            serving(load_settings(port=port, data_dir=tmp_path)),
        ):
            pass


def test_the_file_of_the_page_shows_what_is_here_when_it_is_asked_for(tmp_path: Path) -> None:
    view, folder = FirstView(), tmp_path / "folder"
    folder.mkdir()
    with Services(load_settings(data_dir=tmp_path / "data", model_dirs=(folder,))) as services:
        page = build_page(services, Streaming(), Sessions(), first_view=view)
        assert page.title == "GGUF playground"
        box = next(part for part in page.config["components"] if part["props"].get("elem_id") == "compare-model")
        assert ("Fox 1B", "Fox-1B") not in box["props"]["choices"]
        (folder / "Fox-1B-Q4_0.gguf").write_bytes(small_model())
        view.redraw()
        assert ("Fox 1B", "Fox-1B") in box["props"]["choices"]


# --- how it ends; in good order: tests/test_shut_down.py ---


def test_a_killed_playground_leaves_no_model_behind(starter: Path, tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path / "home") as process:
        PageEvents(process.address).press("chat-load", STARTER_CHOICE)
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        process.process.kill()
        _, alive = psutil.wait_procs(started, timeout=20)
        assert not alive
