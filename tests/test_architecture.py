"""The shape of the house: imports run downwards, never in a circle, and each outside thing has one door.

Reads the sources; imports nothing but in the last test, which does it in a process of its own.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "playground"

FLOORS = (  # from the ground up; rooms of one floor may use each other, but not in a circle
    ("errors", "events", "settings", "servers", "resources", "text_format", "limits", "gguf", "machine"),
    ("models", "llama"),
    ("fit",),
    ("engine",),
    ("chat",),
    ("quantize",),
    ("measure",),
    ("app", "web"),  # the next commits take the page's markup out of app
    ("cli", "__main__"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

NETWORK = (
    "aiohttp",
    "ftplib",
    "http.client",
    "httpx",
    "httpx2",
    "requests",
    "socket",
    "urllib.request",
    "urllib3",
    "websockets",
)
DOORS = {  # outside thing -> the rooms or files that may import it
    "llama_cpp": ("playground/llama/",),
    "psutil": ("playground/machine/",),
    "gradio": ("playground/web/", "app.py"),
    "mcp": ("playground/web/mcp.py",),
    "huggingface_hub": ("playground/models/hub/", "playground/models/disk_scan.py"),
    **dict.fromkeys(NETWORK, ("playground/models/hub/", "playground/engine/remote/", "playground/machine/ports.py")),
}


def sources() -> list[Path]:
    return [*sorted(PACKAGE.rglob("*.py")), PROJECT / "app.py"]


def name_of(path: Path) -> str:
    """playground/gguf/header.py -> playground.gguf.header"""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in sources()}


def imports_of(source: str) -> Iterator[str]:
    """Everything a source imports, lazily or for its types alone too, such as `playground.gguf.header` or `psutil`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are written in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner in MODULES or not node.module.startswith("playground")
                yield inner if is_module else node.module


def room_of(module: str) -> str:
    return f"{module}.".split(".")[1]


def upward_imports(module: str, source: str) -> list[str]:
    floor = FLOOR_OF[room_of(module)]
    return [name for name in imports_of(source) if name in MODULES and FLOOR_OF.get(room_of(name), 0) > floor]


def trespasses(path: str, source: str) -> list[str]:
    """The imports of an outside thing in a file that is not its door."""
    return [
        name
        for name in imports_of(source)
        for thing, doors in DOORS.items()
        if f"{name}.".startswith(f"{thing}.") and not path.startswith(doors)
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_module_says_first_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module starts with its docstring"


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(module) for module in MODULES if module.startswith("playground.")}
    assert rooms <= set(FLOOR_OF), "a new room must be given a floor in this test"


def test_imports_never_run_upwards() -> None:
    found = {
        name_of(path): upward_imports(name_of(path), path.read_text())
        for path in sources()
        if name_of(path).startswith("playground.")
    }
    assert {module: names for module, names in found.items() if names} == {}


def test_files_never_import_each_other_in_a_circle() -> None:
    graph = {
        name_of(path): {name for name in imports_of(path.read_text()) if name in MODULES and name != name_of(path)}
        for path in sources()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


def test_each_outside_thing_has_one_door() -> None:
    found = {
        str(path.relative_to(PROJECT)): trespasses(path.relative_to(PROJECT).as_posix(), path.read_text())
        for path in sources()
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_the_disk_scan_takes_nothing_but_places_from_the_hub_library() -> None:
    source = (PACKAGE / "models" / "disk_scan.py").read_text()
    assert {name for name in imports_of(source) if name.startswith("huggingface_hub")} == {"huggingface_hub.constants"}


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("from playground.engine.protocol import Token", ["playground.engine.protocol"]),
        ("def later():\n    from playground.web import theme", ["playground.web.theme"]),
        ("import playground.cli.plan as plan", ["playground.cli.plan"]),
        ("from playground.errors import PlaygroundError", []),
    ],
)
def test_this_guard_sees_an_upward_import(source: str, seen: list[str]) -> None:
    assert upward_imports("playground.gguf.header", source) == seen


@pytest.mark.parametrize(
    "source",
    ["import gradio as gr", "from gradio import Blocks", "import urllib.request", "from urllib import request"],
)
def test_this_guard_sees_a_trespass(source: str) -> None:
    assert len(trespasses("playground/chat/conversation.py", source)) == 1


def test_nothing_but_the_page_imports_gradio() -> None:
    """Each child process would carry it: 3 seconds and 150 MB."""
    modules = sorted(
        module for module in MODULES if room_of(module) not in ("web", "app", "__main__") and module != "app"
    )
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'gradio' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *modules], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
