"""The Dockerfile's steps, run one by one in a plain folder: a package or a file that the image lacks is found soon.

pip gets every package from wheels that are packed again from what is installed here, and llama.cpp comes from a
loopback index, so no registry is asked. Packages of the system cannot be installed into a folder: those of the
Dockerfile are compared with what the libraries in the image want. `make docker-check` does all of it in real roots.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.set_up import read_packages
from tests.support.dockerfile import copy_into, health_check, only, stages, variables
from tests.support.playground_process import PlaygroundProcess
from tests.support.shared_libraries import needed_libraries
from tests.support.wheel_index import pack_again, wheel_index

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="the image is one of Linux"),
]

QUESTION = {"prompt": "What is 2+2?", "model": "starter", "max_tokens": 4, "temperature": 0}
# Of the base image: glibc's own, and what python:slim has beside it (scripts/docker_check.py).
OF_THE_BASE = (
    "libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "ld-linux-x86-64", "ld-linux-aarch64",
    "libz", "libexpat", "libffi", "liblzma", "libbz2", "libssl", "libcrypto", "libsqlite3", "libuuid",
)  # fmt: skip
PACKAGE_OF = {"libgomp": "libgomp1", "libstdc++": "libstdc++6", "libgcc_s": "libstdc++6"}  # which brings libgcc-s1


def needed_distributions(requirements: list[str]) -> set[str]:
    """What pip will install for these, by the metadata of what is installed here."""
    found: set[tuple[str, str]] = set()
    waiting = [("", Requirement(text)) for text in requirements]
    while waiting:
        extra, one = waiting.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        for inner in ("", *one.extras):
            key = (canonicalize_name(one.name), inner)
            if key in found:
                continue
            found.add(key)
            try:
                own = requires(one.name) or []
            except PackageNotFoundError:
                continue  # pip says so, if it is wanted
            waiting += [(inner, Requirement(text)) for text in own]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels with all that the image may install, and nothing that only the tests need."""
    folder = tmp_path_factory.mktemp("wheels")
    packages = read_packages()
    (_, *extras) = only("RUN", stages()["build"]).split()[1:]
    wanted = [one for extra in ("", *extras) for one in packages[extra]]
    for name in needed_distributions([*wanted, "setuptools"]):
        try:
            pack_again(name, folder)
        except PackageNotFoundError:
            continue
    return folder


@pytest.fixture(scope="module")
def image(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /playground of the image, after the steps of both stages; the second one keeps .venv of the first."""
    root = tmp_path_factory.mktemp("image")
    tree = root / only("WORKDIR", stages()["build"]).lstrip("/")
    tree.mkdir()
    build = stages()["build"]
    copy_into(tree, build)
    (llama_cpp,) = wheels.glob("llama_cpp_python-*")
    with wheel_index() as index:
        index.offer("cpu", llama_cpp)
        llama_cpp.unlink()  # or pip would find it without the index
        arguments = {"BACKEND": "cpu", "BUILD": "prebuilt", "CMAKE_ARGS": ""}
        environment = {
            **clean_environment(root),
            **{name: arguments.get(name, value) for name, value in variables(build).items()},
            "WHEEL_INDEX": index.address,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_COMPILE": "1",
            "CC": "none",
            "CXX": "none",
        }
        _, *command = only("RUN", build).split()
        done = subprocess.run(
            [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for left in tree.iterdir():  # the image has them only where it copies them itself
        if left.name != ".venv":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    copy_into(tree, stages()[""])
    return tree


def clean_environment(root: Path) -> dict[str, str]:
    """Nothing of the person who runs the tests."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(root), "LANG": "C.UTF-8"}


def test_the_image_is_healthy_answers_a_question_and_ends(image: Path) -> None:
    stage = stages()[""]
    data = image.parent / only("VOLUME", stage).lstrip("/")
    own = {name: value.replace("/data", str(data)) for name, value in variables(stage).items()}
    python, *command = json.loads(only("CMD", stage))
    features = {"PLAYGROUND_MCP": "true", "PLAYGROUND_METRICS": "true"}  # whose packages the image has
    others = {"PLAYGROUND_HOST": "127.0.0.1", "PYTHONPATH": "", **features}
    with PlaygroundProcess(
        image.parent, own | others, command=[str(image / python), *command], folder=image
    ) as process:
        check = health_check(stage, process.port, str(image / python))
        assert subprocess.run(check, capture_output=True, check=False, timeout=60).returncode == 0
        assert '"finish_reason": "length limit"' in answer(process.address)
        with urllib.request.urlopen(f"{process.address}/gradio_api/metrics", timeout=30) as figures:
            assert b"playground_replies_total" in figures.read()
        process.end()
    assert subprocess.run(check, capture_output=True, check=False, timeout=60).returncode != 0


def answer(address: str) -> str:
    """The last event of a question to the endpoint `chat`."""
    body = json.dumps(QUESTION).encode()
    request = urllib.request.Request(
        f"{address}/gradio_api/call/v2/chat", body, {"Content-Type": "application/json"}
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as begun:
        event = json.load(begun)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/chat/{event}", timeout=120) as stream:
        return str(stream.read().decode().strip().splitlines()[-1])


def test_every_library_of_the_system_that_the_image_wants_is_installed_there(image: Path) -> None:
    packages = stages()["run-cpu"][1][1]
    libraries = [path for path in (image / ".venv").rglob("*.so*") if path.is_file()]
    brought = {path.name.split(".")[0] for path in libraries}
    missing = {
        f"{path.name} wants {name}"
        for path in libraries
        for name in needed_libraries(path)
        if (stem := name.split(".")[0]) not in brought
        and stem not in OF_THE_BASE
        and not (stem in PACKAGE_OF and f" {PACKAGE_OF[stem]} " in packages)
    }
    assert libraries and not missing
