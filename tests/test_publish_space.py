"""A Space in one command: made, filled with what git keeps, set up; and each refusal of the Hub as a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_spaces import Space
from tests.support.hub_stand_in import HubStandIn
from tests.support.playground_process import ROOT, environment

NAME = "somebody/gguf-playground"


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as stand_in:
        yield stand_in


def publish(hub: HubStandIn, home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    own = {**environment(home), "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_writer", **environ}
    command = [sys.executable, str(ROOT / "scripts" / "publish_space.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=own, check=False)


@pytest.fixture
def kept() -> dict[str, bytes]:
    """What git keeps here; skips where git does not know this copy."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("git does not know this copy of the project")
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    return {name: (ROOT / name).read_bytes() for name in names}


def test_a_new_space_has_all_that_git_keeps_on_zero_gpu(
    hub: HubStandIn, tmp_path: Path, kept: dict[str, bytes]
) -> None:
    done = publish(
        hub, tmp_path, NAME, "--variable", "PLAYGROUND_ALLOWED_REPOS=catalogue a/*", "--secret", "PLAYGROUND_PASSWORD",
        PLAYGROUND_PASSWORD="a long sentence",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{hub.endpoint}/spaces/{NAME}\n"), done.stderr
    space = hub.spaces_api.spaces[NAME]
    assert (space.hardware, space.private, space.commits) == ("zero-a10g", False, 1)
    assert space.variables == {"PLAYGROUND_ALLOWED_REPOS": "catalogue a/*"}
    assert space.secrets == {"PLAYGROUND_PASSWORD": "a long sentence"}
    assert space.files == {**kept, ".gitattributes": space.files[".gitattributes"]}


def test_an_update_removes_what_is_gone_and_keeps_the_hardware(
    hub: HubStandIn, tmp_path: Path, kept: dict[str, bytes]
) -> None:
    there = hub.spaces_api.spaces[NAME] = Space(NAME, "cpu-upgrade", private=True)
    there.files |= {"old.py": b"gone", "app.py": b"older"}
    assert publish(hub, tmp_path, NAME).returncode == 0
    assert "old.py" not in there.files and there.files["app.py"] == kept["app.py"] and ".gitattributes" in there.files
    assert (there.hardware, there.private) == ("cpu-upgrade", True)
    assert publish(hub, tmp_path, NAME, "--hardware", "t4-small").returncode == 0
    assert there.hardware == "t4-small"


def test_a_free_account_that_asks_for_cpu_basic_hears_what_it_can_have(hub: HubStandIn, tmp_path: Path) -> None:
    done = publish(hub, tmp_path, NAME, "--hardware", "cpu-basic")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 2
    assert "402" in done.stderr and "--hardware zero-a10g" in done.stderr
    assert hub.spaces_api.spaces == {}


@pytest.mark.parametrize(
    ("environ", "arguments", "sentence"),
    [
        ({"HF_TOKEN": "hf_reader"}, [], "hf auth login"),
        ({"HF_TOKEN": ""}, [], "hf auth login"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, [], "cannot be reached"),
        ({}, ["--secret", "PLAYGROUND_PASSWORD"], "has no value"),
    ],
)
def test_what_cannot_be_published_is_said_in_two_lines(
    hub: HubStandIn, tmp_path: Path, environ: dict[str, str], arguments: list[str], sentence: str
) -> None:
    done = publish(hub, tmp_path, NAME, *arguments, **environ)
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr


def test_hardware_that_there_is_not_is_misuse(hub: HubStandIn, tmp_path: Path) -> None:
    done = publish(hub, tmp_path, NAME, "--hardware", "quantum")
    assert done.returncode == 2 and "cpu-upgrade" in done.stderr and os.linesep in done.stderr
