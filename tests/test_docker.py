"""The Dockerfile, as far as it can be judged without Docker: what it copies, what it runs and how that is watched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from playground.settings import Settings, load_settings
from scripts.backends import CUDA_FOLDERS
from tests.support.playground_process import ROOT, PlaygroundProcess
from tests.support.space_process import project_table

Step = tuple[str, str]  # instruction, the rest


def steps() -> list[Step]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


def stages() -> dict[str, list[Step]]:
    """The steps of each stage by its name; "" is the last one, which is the image."""
    found: dict[str, list[Step]] = {}
    for word, rest in steps():
        if word == "FROM":
            found[rest.partition(" AS ")[2]] = []
        if found:
            found[list(found)[-1]].append((word, rest))
    return found


def copied(stage: list[Step]) -> list[tuple[list[str], str]]:
    """(sources, target) of what comes from this folder."""
    rests = [rest.split() for word, rest in stage if word == "COPY" and not rest.startswith("--from")]
    return [(rest[:-1], rest[-1]) for rest in rests]


def variables(stage: list[Step]) -> dict[str, str]:
    pairs = [pair for word, rest in stage if word == "ENV" for pair in rest.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def only(word: str, stage: list[Step]) -> str:
    (rest,) = [rest for one, rest in stage if one == word]
    return rest


def ignored(name: str) -> bool:
    """As .dockerignore says; the last line that matches decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        if any(fnmatch(part, pattern) for part in (name, *Path(name).parts)):
            verdict = not line.startswith("!")
    return verdict


def test_everything_that_is_copied_is_there_and_goes_to_docker() -> None:
    for sources, _ in copied(steps()):
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source


@pytest.mark.parametrize("name", [".venv", ".git", "tests", "docs/front-dark.png", "playground/__pycache__", "a.gguf"])
def test_what_the_image_does_not_need_stays_here(name: str) -> None:
    assert ignored(name)


def test_it_is_installed_by_the_command_that_make_uses() -> None:
    (command,) = [rest for word, rest in stages()["build"] if word == "RUN"]
    _, script, *extras = command.split()
    assert f"{script} starter" in (ROOT / "Makefile").read_text()
    known = project_table()["optional-dependencies"]
    assert set(extras) <= set(known)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_each_backend_is_built_and_run_on_images_of_the_same_system(backend: str) -> None:
    bases = [rest.partition(" AS ")[0] for word, rest in steps() if word == "FROM" and rest.endswith(f"-{backend}")]
    assert len(bases) == 2 and len({re.sub("devel|runtime", "", base) for base in bases}) == 1
    assert {"build", ""} <= stages().keys()
    defaults = dict(rest.partition("=")[::2] for word, rest in steps() if word == "ARG" and "=" in rest)
    assert defaults["BACKEND"] == "cpu" and re.fullmatch(r"3\.1[0-4]", defaults["PYTHON"])
    assert f"cu{''.join(defaults['CUDA'].split('.')[:2])}" in {folder for folder, _, _ in CUDA_FOLDERS}


@pytest.mark.process
def test_what_is_copied_for_the_installation_is_enough_to_begin_it(tmp_path: Path) -> None:
    """It stops at the compiler, which is left out here, after all its parts were imported and the index was asked."""
    tree = copy_of(stages()["build"], tmp_path)
    (command,) = [rest for word, rest in stages()["build"] if word == "RUN"]
    nowhere = {"PATH": str(tmp_path / "nothing"), "CC": "none", "CXX": "none", "WHEEL_INDEX": "http://127.0.0.1:1"}
    own = {**variables(stages()["build"]), "BACKEND": "cpu", "BUILD": "prebuilt", "CMAKE_ARGS": "", **nowhere}
    run = [sys.executable, *command.split()[1:]]
    done = subprocess.run(run, cwd=tree, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "No working C++ compiler" in done.stderr, done.stderr


def test_it_runs_without_rights_and_keeps_its_data_on_a_volume() -> None:
    stage = stages()[""]
    assert only("USER", stage) not in ("root", "0")
    words = [word for word, _ in stage]
    assert words.index("USER") < words.index("CMD") and words.index("USER") > words.index("RUN")
    volume = only("VOLUME", stage)
    kept = variables(stage)
    assert kept["HF_HOME"].startswith(f"{volume}/") and kept["PLAYGROUND_DATA_DIR"].startswith(f"{volume}/")


def test_every_variable_of_the_playground_is_one_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stages()[""]
    own = {name: value for name, value in variables(stage).items() if name.startswith("PLAYGROUND_")}
    assert {name.removeprefix("PLAYGROUND_").lower() for name in own} <= set(Settings.model_fields)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert str(settings.port) == only("EXPOSE", stage)
    assert (settings.host, settings.allow_local_files, settings.may_add_remotes) == ("0.0.0.0", False, False)


@pytest.mark.process
def test_what_is_copied_is_enough_to_run_and_the_health_check_tells_whether_it_does(
    starter: Path, tmp_path: Path
) -> None:
    stage = stages()[""]
    tree = copy_of(stage, tmp_path)
    own = {name: value.replace("/data", str(tmp_path / "data")) for name, value in variables(stage).items()}
    python, *command = json.loads(only("CMD", stage))
    assert python == ".venv/bin/python"
    with PlaygroundProcess(
        tmp_path, {**own, "PLAYGROUND_PASSWORD": "a secret"}, command=[sys.executable, *command], folder=tree
    ) as process:
        check = health_check(stage, process.port)
        assert subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0
        process.end()
    assert subprocess.run(check, capture_output=True, check=False, timeout=30).returncode != 0


def copy_of(stage: list[Step], folder: Path) -> Path:
    """A folder with what the stage copies from the project."""
    tree = folder / "playground"
    tree.mkdir()
    for sources, target in copied(stage):
        for source in sources:
            place = tree / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                if target.endswith("/") and target != "./":
                    place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    return tree


def health_check(stage: list[Step], port: int) -> list[str]:
    _, _, command = only("HEALTHCHECK", stage).partition("CMD ")
    python, *rest = json.loads(command)
    assert python == ".venv/bin/python"
    return [sys.executable, *(part.replace("7860", str(port)) for part in rest)]
