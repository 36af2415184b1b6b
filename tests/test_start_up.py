"""The real playground started where something is amiss: told in one sentence, and used all the same."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from gradio_client import Client
from narrow_places import full_disk, read_only
from playground_process import NOWHERE, ROOT, PlaygroundProcess, environment
from pressed import OpenPage, fetch

from playground.lab.results import Contestant, Pair, Vote, VoteBook

STARTER: Final = "SmolLM2-135M-Instruct"
Q2_K: Final = {"models-make-model": STARTER, "models-make-level": "Q2_K"}
VOTE: Final = Vote(Pair.of(Contestant("Tiny", "Q8_0"), Contestant("Tiny", "Q2_K")), "first", "second")


def use(process: PlaygroundProcess) -> None:
    """The page opens, and the starter answers."""
    assert "GGUF playground" in fetch(process.address)
    asked = {"prompt": "What is 2+2?", "model": "starter", "temperature": 0, "context": 512, "max_tokens": 16}
    reply = Client(process.address, verbose=False).predict(**asked, api_name="/chat")
    assert "4" in reply["text"]


def lines(process: PlaygroundProcess, word: str) -> list[str]:
    """What it printed about something; fails where there is a traceback among all that it printed."""
    assert "Traceback" not in process.output, process.output
    return [line for line in process.output.splitlines() if word in line]


# --- a damaged database ---


def filled_with_anything(path: Path) -> None:
    path.write_bytes(random.Random(4).randbytes(20_000))


def cut_off(path: Path) -> None:
    """As a full disk or a copy that broke off leaves it."""
    book = VoteBook(path)
    for _ in range(500):
        book.add(VOTE)
    path.write_bytes(path.read_bytes()[:9000])


def a_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("damage", [filled_with_anything, cut_off, a_folder])
def test_damaged_votes_are_moved_aside_told_and_new_ones_kept(
    starter: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    votes = tmp_path / "data" / "votes.sqlite"
    votes.parent.mkdir()
    damage(votes)
    with PlaygroundProcess(tmp_path) as process:
        use(process)
        (told,) = lines(process, "book of votes")
        (kept,) = votes.parent.glob("votes.sqlite.damaged-*")
        assert "was damaged" in told and kept.name in told and "a new one was begun" in told
        assert "The book of votes was damaged" in OpenPage(process.address).open("compare-tally")
    VoteBook(votes).add(VOTE)
    assert VoteBook(votes).tally(VOTE.pair).count == 1


# --- a full disk ---


def test_on_a_full_disk_the_page_works_and_says_what_cannot_be_kept(starter: Path, tmp_path: Path) -> None:
    with PlaygroundProcess(tmp_path, within=full_disk()) as process:
        use(process)
        data, hub = lines(process, "cannot be kept")
        assert "No space left" in data and "Votes" in data and "PLAYGROUND_DATA_DIR" in data
        assert "No space left" in hub and "Downloads" in hub and "HF_HOME" in hub
        page = OpenPage(process.address)
        page.open("models-make-model")
        *_, last = page.press("models-make", Q2_K)
        assert "MiB are free on this disk" in last and "Free some space" in last


# --- disks that are read-only ---


def test_where_nothing_may_be_written_the_page_works_and_says_what_cannot_be_kept(
    starter: Path, tmp_path: Path
) -> None:
    """As in a container that is started read-only; a damaged book of votes cannot even be moved aside."""
    (tmp_path / "data").mkdir()
    filled_with_anything(tmp_path / "data" / "votes.sqlite")
    with PlaygroundProcess(tmp_path, within=read_only()) as process:
        use(process)
        data, hub = lines(process, "cannot be kept")
        assert "Read-only file system" in data and "Read-only file system" in hub
        (votes,) = lines(process, "votes.sqlite")
        assert "is damaged" in votes and "cannot be moved aside" in votes and "Move the file away" in votes
        page = OpenPage(process.address)
        page.open("models-make-model")
        *_, last = page.press("models-make", Q2_K)
        assert "cannot be written to: Read-only file system" in last


# --- a port that is taken ---


@pytest.mark.parametrize("command", [["-m", "playground", "serve", "--no-browser"], ["app.py"]])
def test_a_port_that_is_taken_is_one_sentence_with_what_to_do(tmp_path: Path, command: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT, env=environment(tmp_path) | {"PLAYGROUND_PORT": port},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    (told,) = ended.stderr.splitlines()
    assert f"The port {port} on 127.0.0.1 is in use" in told and "--port" in told
    assert ended.stdout == ""


# --- no network ---


PROXIES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


@pytest.mark.parametrize(
    "network",
    [{"HF_ENDPOINT": NOWHERE}, {"HF_ENDPOINT": "http://hub.invalid", **dict.fromkeys(PROXIES, NOWHERE)}],
    ids=["nothing answers", "the proxy does not answer"],
)
def test_without_a_network_the_hub_is_missing_and_nothing_else(
    starter: Path, tmp_path: Path, network: dict[str, str]
) -> None:
    with PlaygroundProcess(tmp_path, HF_HUB_OFFLINE="0", **network) as process:
        use(process)
        *_, last = OpenPage(process.address).press("models-find", {"models-search": "small llama"})
        assert f"The Hub at {network['HF_ENDPOINT']} cannot be reached" in last
        assert "Check the network connection" in last
        assert not lines(process, "Hub")
