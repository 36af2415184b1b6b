"""The Dockerfile, as far as it can be judged without Docker: what it copies, what it runs and how that is watched."""

from __future__ import annotations

import re

import pytest

from playground.settings import Settings, load_settings
from scripts.backends import CUDA_FOLDERS
from tests.support.dockerfile import copied, ignored, only, stages, steps, variables
from tests.support.playground_process import ROOT
from tests.support.space_process import project_table


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
