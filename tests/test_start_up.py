"""The real playground started where something is wrong: each problem is said in one sentence, and it works anyway."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from gradio_client import Client

from playground.measure.votes import Contestant, Pair, Vote, VoteStore
from tests.support.narrow_places import full_disk, read_only
from tests.support.page_events import STARTER_CHOICE, PageEvents
from tests.support.playground_process import NOWHERE, ROOT, PlaygroundProcess, environment

pytestmark = pytest.mark.process

VOTE: Final = Vote(Pair.in_order(Contestant("Tiny", "Q8_0"), Contestant("Tiny", "Q2_K")), "first", "second")
LEVEL: Final = {"models-make-model": STARTER_CHOICE["chat-model"], "models-make-level": "Q8_0"}
PROXIES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def use(process: PlaygroundProcess) -> None:
    """The page opens, and the starter answers."""
    with urllib.request.urlopen(process.address, timeout=60) as page:
        assert "GGUF playground" in page.read().decode()
    asked: dict[str, Any] = {
        "prompt": "What is 2+2?",
        "model": "starter",
        "temperature": 0,
        "context": 512,
        "max_tokens": 16,
    }
    reply = Client(process.address, verbose=False).predict(**asked, api_name="/chat")
    assert "4" in reply["text"]


def warnings(process: PlaygroundProcess) -> list[str]:
    """The warnings in its log; and nothing else went wrong."""
    assert "Traceback" not in process.output, process.output
    return [line for line in process.output.splitlines() if " warning " in line or " error " in line]


# --- damaged votes, and no network ---


@dataclass(frozen=True)
class BrokenPlace:
    process: PlaygroundProcess
    votes: Path
    searched: str  # all messages of a search on the Hub


@pytest.fixture(scope="module")
def broken(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokenPlace]:
    """Its votes are cut off, as by a copy that broke off, and nothing answers at the address of its proxy."""
    home = tmp_path_factory.mktemp("home")
    votes = home / "data" / "votes.sqlite"
    book = VoteStore(votes)
    for _ in range(200):
        book.add_vote(VOTE)
    votes.write_bytes(votes.read_bytes()[:9000])
    network = {"HF_ENDPOINT": "http://hub.invalid", **dict.fromkeys(PROXIES, NOWHERE)}
    with PlaygroundProcess(home, {"HF_HUB_OFFLINE": "0", **network}) as process, ThreadPoolExecutor() as meanwhile:
        search = meanwhile.submit(messages_of_a_search, process)
        use(process)
        yield BrokenPlace(process, votes, search.result())


def messages_of_a_search(process: PlaygroundProcess) -> str:
    return PageEvents(process.address).press("models-find", {"models-search": "small llama"})


def test_damaged_votes_are_moved_aside_with_a_warning_and_new_ones_are_kept(broken: BrokenPlace) -> None:
    (said,) = warnings(broken.process)
    (kept,) = broken.votes.parent.glob("votes.sqlite.damaged-*")
    assert "The vote database was damaged" in said and kept.name in said and "a new one was started" in said
    assert "The vote database was damaged" in PageEvents(broken.process.address).open("compare-tally")
    VoteStore(broken.votes).add_vote(VOTE)
    assert VoteStore(broken.votes).tally(VOTE.pair).count == 1


def test_behind_a_dead_proxy_only_the_hub_is_missing_and_its_search_says_so(broken: BrokenPlace) -> None:
    assert "No connection to the Hub at http://hub.invalid." in broken.searched
    assert "Models on this computer work offline." in broken.searched
    assert not [line for line in warnings(broken.process) if "Hub" in line]


# --- disks that take nothing ---


def messages_of_making_a_level(process: PlaygroundProcess) -> str:
    page = PageEvents(process.address)
    page.open("models-make-model")
    return page.press("models-make", LEVEL)


def test_on_a_full_disk_the_page_works_and_says_what_cannot_be_kept(starter: Path, tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, within=full_disk()) as process:
        use(process)
        data, hub = warnings(process)
        assert "Votes" in data and "No space left" in data and "Make room" in data and "PLAYGROUND_DATA_DIR" in data
        assert "Downloads" in hub and "No space left" in hub and "HF_HOME" in hub
        said = messages_of_making_a_level(process)
        assert "MB are free on this disk" in said and "Free some space" in said


def test_where_nothing_can_be_written_the_page_works_and_says_what_cannot_be_kept(
    starter: Path, tmp_path: Path
) -> None:
    """As in a container with read-only disks and no network; damaged votes cannot even be moved aside."""
    (tmp_path / "data" / "votes.sqlite").mkdir(parents=True)
    place, network = read_only(), {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": NOWHERE}
    with PlaygroundProcess(tmp_path, network, within=place) as process, ThreadPoolExecutor() as meanwhile:
        search = meanwhile.submit(messages_of_a_search, process)
        use(process)
        data, hub, votes = warnings(process)
        assert "Read-only file system" in data and "Read-only file system" in hub
        assert "is damaged" in votes and "cannot be moved aside" in votes and "Move the file away" in votes
        tally = PageEvents(process.address).open("compare-tally")
        making = messages_of_making_a_level(process)
        assert "cannot be moved aside" in tally and "cannot be written to: Read-only file system" in making
        assert str(tmp_path) not in tally + making, "visitors may be strangers: they learn of no folder"
        assert f"No connection to the Hub at {NOWHERE}" in search.result()
        assert "folder for uploads takes no file (Read-only file system)" in answer_to_an_upload(process)
        assert "Traceback" not in process.output


def answer_to_an_upload(process: PlaygroundProcess) -> str:
    part = 'Content-Disposition: form-data; name="files"; filename="notes.md"\r\n\r\nBe brief.'
    request = urllib.request.Request(
        f"{process.address}/gradio_api/upload",
        f"--x\r\n{part}\r\n--x--\r\n".encode(),
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=60)
    return refusal.value.read().decode()


# --- a port that is taken ---


@pytest.mark.parametrize(
    "command", [["-m", "playground", "serve", "--no-browser"], ["app.py"]], ids=["the command", "the Space's file"]
)
def test_a_port_that_is_taken_is_one_sentence_with_what_to_do(tmp_path: Path, command: list[str]) -> None:
    """Without --port it is PLAYGROUND_PORT's, and no other is looked for: an address that people know stays theirs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment(tmp_path) | {"PLAYGROUND_PORT": port},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    (said,) = ended.stderr.splitlines()
    assert f"The port {port} on 127.0.0.1 is in use by another program" in said
    assert "Choose another one with --port or PLAYGROUND_PORT" in said
    assert ended.returncode == 1 and ended.stdout == ""
