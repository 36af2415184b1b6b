"""The Dockerfile, as far as it can be judged without Docker: what it copies, what it runs and how that is watched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from playground.settings import Settings, load_settings
from tests.support.playground_process import ROOT, PlaygroundProcess
from tests.support.space_process import project_table

Step = tuple[str, str]  # instruction, the rest


def steps() -> list[Step]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


def stages() -> list[list[Step]]:
    found: list[list[Step]] = [[]]
    for step in steps():
        if step[0] == "FROM":
            found.append([])
        found[-1].append(step)
    return found[1:]


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


@pytest.mark.parametrize("name", [".venv", ".git", "tests", "docs/chat.png", "playground/__pycache__", "a.gguf"])
def test_what_the_image_does_not_need_stays_here(name: str) -> None:
    assert ignored(name)


def test_it_is_installed_by_the_command_that_make_uses() -> None:
    build, _ = stages()
    (command,) = [rest for word, rest in build if word == "RUN" and "set_up" in rest]
    _, script, *extras = command.split()
    assert f"{script} starter" in (ROOT / "Makefile").read_text()
    known = project_table()["optional-dependencies"]
    assert set(extras) <= set(known)


def test_both_stages_have_the_same_python_which_the_project_supports() -> None:
    assert {re.sub(r" AS .*", "", rest) for word, rest in steps() if word == "FROM"} == {"python:${PYTHON}-slim"}
    python = next(rest.removeprefix("PYTHON=") for word, rest in steps() if word == "ARG" and "PYTHON" in rest)
    assert re.fullmatch(r"3\.1[0-4]", python)


def test_it_runs_without_rights_and_keeps_its_data_on_a_volume() -> None:
    _, stage = stages()
    assert only("USER", stage) not in ("root", "0")
    words = [word for word, _ in stage]
    assert words.index("USER") < words.index("CMD") and words.index("USER") > words.index("RUN")
    volume = only("VOLUME", stage)
    kept = variables(stage)
    assert kept["HF_HOME"].startswith(f"{volume}/") and kept["PLAYGROUND_DATA_DIR"].startswith(f"{volume}/")


def test_every_variable_of_the_playground_is_one_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stage = stages()
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
    _, stage = stages()
    tree = tmp_path / "playground"
    tree.mkdir()
    for sources, target in copied(stage):
        for source in sources:
            place = tree / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
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


def health_check(stage: list[Step], port: int) -> list[str]:
    _, _, command = only("HEALTHCHECK", stage).partition("CMD ")
    python, *rest = json.loads(command)
    assert python == ".venv/bin/python"
    return [sys.executable, *(part.replace("7860", str(port)) for part in rest)]
