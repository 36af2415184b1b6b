"""The project as a Hugging Face Space has it: the files that are pushed, the Space's variables, and no more memory.

The limit on memory is a real one where this system allows a group of processes to be made (as root, with cgroups);
elsewhere it is only a variable, as on a Space.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from playground.quantize.quantize import quantize_file
from tests.support.playground_process import ROOT, PlaygroundProcess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

MEMORY_BYTES = 1 << 30
SPACE = "somebody/gguf-playground"
VARIABLES = {  # as Spaces set them
    "SYSTEM": "spaces",
    "SPACE_ID": SPACE,
    "SPACE_AUTHOR_NAME": "somebody",
    "SPACE_REPO_NAME": "gguf-playground",
    "SPACE_HOST": "somebody-gguf-playground.hf.space",
    "SPACE_TITLE": "GGUF playground",
    "ACCELERATOR": "none",
    "CPU_CORES": "2",
    "MEMORY": "1Gi",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_NUM_PORTS": "1",
    "GRADIO_ALLOW_FLAGGING": "never",
    "GRADIO_THEME": "huggingface",
    "GRADIO_SSR_MODE": "true",
    "PYTHONUNBUFFERED": "1",
}
PRELOADED = "ggml-org/gemma-3-1b-it-GGUF"
_GROUPS = Path("/sys/fs/cgroup")
_numbers = itertools.count()


def pyproject() -> dict[str, Any]:
    """The tables of pyproject.toml."""
    tables: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return tables


def project_table() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    table: dict[str, Any] = pyproject()["project"]
    return table


def pushed_files(folder: Path) -> Path:
    """A copy of what git keeps of this project; skips the test where git does not know it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("git does not know this copy of the project")
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.exists():  # else it was removed, and the removal is not committed yet
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


def preload(home: Path, starter: Path) -> None:
    """What preload_from_hub leaves in the home folder; the starter at two levels stands in for the model."""
    snapshot = home / ".cache/huggingface/hub" / f"models--{PRELOADED.replace('/', '--')}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    shutil.copy(starter, snapshot / "gemma-3-1b-it-Q4_K_M.gguf")
    for _ in quantize_file(starter, "Q8_0", snapshot / "gemma-3-1b-it-Q8_0.gguf", 2):
        pass


@contextmanager
def group_of_processes(most_bytes: int) -> Iterator[Path | None]:
    """A cgroup that may have so much memory; None where none can be made here."""
    version_2 = (_GROUPS / "cgroup.controllers").exists()
    name = f"playground-space-{os.getpid()}-{next(_numbers)}"  # of its own: what others used would count
    group = _GROUPS / (name if version_2 else f"memory/{name}")
    try:
        group.mkdir(exist_ok=True)
        (group / ("memory.max" if version_2 else "memory.limit_in_bytes")).write_text(str(most_bytes))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


@contextmanager
def space_process(
    folder: Path, starter: Path, more_variables: Mapping[str, str] | None = None
) -> Iterator[PlaygroundProcess]:
    """`python app.py` in a Space that was built from this project, in an empty folder.

    With PLAYGROUND_SPACE_PYTHON by another Python, as `make space-check` wants it.
    """
    home = folder / "home"
    home.mkdir()
    app = pushed_files(folder / "home" / "app")
    preload(home, starter)
    with group_of_processes(MEMORY_BYTES) as group:
        command = [os.environ.get("PLAYGROUND_SPACE_PYTHON", sys.executable), "app.py"]
        if group:
            command = ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh", *command]
        variables = {**VARIABLES, "PYTHONPATH": str(app), **(more_variables or {})}
        with PlaygroundProcess(home, variables, command=command, folder=app) as process:
            yield process
