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


def test_a_machine_without_a_compiler_hears_what_to_install(checkout: Path, tmp_path: Path) -> None:
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


# --- the browser for the tests ---


FAKE_APT_GET = """#!/bin/sh
echo "$@" >> "$0.log"
printf '#!/bin/sh\\necho Chromium 1\\n' > "${0%/*}/chromium" && chmod +x "${0%/*}/chromium"
"""


@pytest.fixture
def bin_without_browser(tmp_path: Path) -> Path:
    """A folder of commands with an apt-get that installs a Chromium, and no other browser."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, content in (("apt-get", FAKE_APT_GET), ("sudo", '#!/bin/sh\nshift; exec "$@"\n')):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    for name in ("sh", "env", "chmod"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def run_tests(bin_folder: Path, **environ: str) -> str:
    """What scripts/run_tests.py prints before pytest begins, which is only asked for its version."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PLAYGROUND_TEST") and name != "CI"}
    command = [sys.executable, str(PROJECT / "scripts" / "run_tests.py"), "--version"]
    environment = {**own, "PATH": str(bin_folder), "INSTALL": "", **environ}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


@pytest.mark.skipif(sys.platform == "darwin", reason="its browsers are found without a PATH")
def test_the_tests_install_no_system_package_unless_asked(bin_without_browser: Path) -> None:
    printed = run_tests(bin_without_browser)
    assert "Browser tests are skipped" in printed and "make test INSTALL=1" in printed
    assert not (bin_without_browser / "apt-get.log").exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="its browsers are found without a PATH")
@pytest.mark.parametrize("asked", [{"INSTALL": "1"}, {"CI": "true"}])
def test_what_is_installed_when_asked_is_said_first(bin_without_browser: Path, asked: dict[str, str]) -> None:
    said, uses, *_ = run_tests(bin_without_browser, **asked).splitlines()
    assert "Installing the system packages chromium" in said and "apt-get" in said
    assert uses == f"==> Browser tests use {bin_without_browser / 'chromium'}"
    assert "install -y" in (bin_without_browser / "apt-get.log").read_text()
