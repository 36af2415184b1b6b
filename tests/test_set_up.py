"""The set-up looks before it builds: each missing thing is one clear sentence, and nothing is done twice."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.requirements import requirements

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh copy of what the set-up reads, without .venv."""
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def set_up(checkout: Path, *extras: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "scripts" / "set_up.py"), *extras]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ})


def pretend_installed(checkout: Path, extras: list[str]) -> None:
    """What a complete installation leaves behind."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    pyproject = hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()
    (checkout / ".venv" / "installed.json").write_text(json.dumps({"pyproject": pyproject, "extras": extras}))


def test_a_machine_without_a_compiler_is_told_what_to_install(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = set_up(checkout, "starter", PATH=str(tmp_path / "nothing"), CXX="", CC="")
    assert done.returncode == 1
    assert "No working C++ compiler" in done.stderr and "apt-get install g++" in done.stderr
    assert not (checkout / ".venv").exists(), "it looks before it makes anything"


def test_a_compiler_that_cannot_compile_is_none(checkout: Path, tmp_path: Path) -> None:
    """As on a Mac without the command line tools, where `c++` only asks for them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "c++").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "c++").chmod(0o755)
    done = set_up(checkout, "starter", PATH=str(tmp_path / "bin"), CXX="", CC="")
    assert done.returncode == 1 and "No working C++ compiler" in done.stderr


def test_a_second_run_does_nothing_and_says_nothing(checkout: Path) -> None:
    pretend_installed(checkout, ["starter", "test"])
    done = set_up(checkout, "starter")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("change", ["pyproject", "extras", "python"])
def test_what_has_changed_is_installed_anew(checkout: Path, tmp_path: Path, change: str) -> None:
    """The pretended .venv has no llama.cpp; so, without a compiler, it stops at once, which shows that it began."""
    pretend_installed(checkout, ["starter"])
    if change == "pyproject":
        (checkout / "pyproject.toml").write_text("# changed")
    if change == "python":
        (checkout / ".venv" / "bin" / "python").unlink()
    extras = ["starter", "test"] if change == "extras" else ["starter"]
    done = set_up(checkout, *extras, PATH=str(tmp_path / "nothing"), CXX="", CC="")
    assert done.returncode == 1 and "compiler" in done.stderr


def test_an_old_python_can_read_the_set_up_far_enough_to_be_refused() -> None:
    ast.parse((PROJECT / "scripts" / "set_up.py").read_text(), feature_version=(3, 6))


def test_requirements_txt_is_what_its_script_writes() -> None:
    assert (PROJECT / "requirements.txt").read_text() == requirements((PROJECT / "pyproject.toml").read_text())
