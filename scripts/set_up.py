"""Makes .venv and installs the playground into it: `set_up.py EXTRA...`, such as `set_up.py starter test`.

Standard library only, and readable by a Python 3.6, so that an old one is refused with a sentence. It looks before it
starts a long build, and does nothing when the same pyproject.toml is installed already.
"""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 10)
PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"


def main(extras: "list[str]") -> None:
    check_python()
    installed = what_is_installed()
    if installed.get("pyproject") == fingerprint() and set(extras) <= set(installed.get("extras", ())):
        return
    check_venv_module()
    if not has_llama_cpp():
        check_compilers()
    install(sorted(set(extras) | set(installed.get("extras", ()))))


def check_python() -> None:
    """Goes on in a newer Python where `python3` is too old and one is on the PATH."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in (13, 12, 11, 10):
        newer = shutil.which("python3." + str(minor))
        if newer:
            say(f"python3 is {platform.python_version()}; going on with {newer}.")
            os.execv(newer, [newer, *sys.argv])
    stop(
        f"The playground needs Python 3.10 or newer, and this is {platform.python_version()}.",
        "Install a newer one and name it, for example: make run PYTHON=python3.12",
    )


def check_venv_module() -> None:
    """Debian and Ubuntu ship `venv` without the part that it needs."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        stop(
            "This Python cannot make a virtual environment: its venv module is not complete.",
            "On Debian and Ubuntu: sudo apt-get install python3-venv",
        )


def check_compilers() -> None:
    """llama.cpp is built here; a name on the PATH is not enough, since macOS puts a stand-in there."""
    for language, variable, names in (("c++", "CXX", ("c++", "g++", "clang++")), ("c", "CC", ("cc", "gcc", "clang"))):
        candidates = [os.environ[variable].split()[0]] if os.environ.get(variable) else names
        if not any(compiles(name, language) for name in candidates):
            stop(
                "No working {} compiler was found ({}); llama.cpp is built with it.".format(
                    language.upper(), ", ".join(candidates)
                ),
                "On Debian and Ubuntu: sudo apt-get install g++   On macOS: xcode-select --install",
            )


def compiles(compiler: str, language: str) -> bool:
    """Whether the compiler finds its own headers."""
    source = b"#include <vector>\n" if language == "c++" else b"#include <stdio.h>\n"
    if shutil.which(compiler) is None:
        return False
    command = [compiler, "-x", language, "-fsyntax-only", "-"]
    return subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0


def install(extras: "list[str]") -> None:
    if not works([VENV_PYTHON, "-c", "import pip, sys; assert sys.version_info >= (3, 10)"]):
        say(f"Making the virtual environment .venv with Python {platform.python_version()} ...")
        run([sys.executable, "-m", "venv", "--clear", VENV])
    say("Installing the playground and what it needs into .venv ...")
    if not has_llama_cpp():
        say("llama.cpp is built for this computer on the way: about 5 minutes on 2 cores, and only this once.")
    run([VENV_PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "pip"])
    run([VENV_PYTHON, "-m", "pip", "install", "--editable", "{}[{}]".format(PROJECT, ",".join(extras))])
    STAMP.write_text(json.dumps({"pyproject": fingerprint(), "extras": extras}))
    say("Installed.")


def what_is_installed() -> "dict[str, Any]":
    """What the last complete installation wrote, if its Python still runs."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if works([VENV_PYTHON, "-c", ""]) else {}


def fingerprint() -> str:
    return hashlib.sha256((PROJECT / "pyproject.toml").read_bytes()).hexdigest()


def has_llama_cpp() -> bool:
    return works([VENV_PYTHON, "-c", "import importlib.util as i; assert i.find_spec('llama_cpp')"])


def works(command: "list[str | Path]") -> bool:
    try:
        return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(command: "list[str | Path]") -> None:
    code = subprocess.call([str(part) for part in command], cwd=str(PROJECT))
    if code != 0:
        stop(
            "The set-up stopped at: {}".format(" ".join(str(part) for part in command)),
            "What went wrong is in the lines above; the same command goes on from there.",
        )


def say(sentence: str) -> None:
    print("==> " + sentence, flush=True)


def stop(problem: str, remedy: str) -> None:
    sys.exit(f"==> {problem}\n    {remedy}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
