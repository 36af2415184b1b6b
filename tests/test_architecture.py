"""The shape of the house: imports run downwards, never in a circle, and each outside thing has one door.

Reads the sources; imports nothing but in the last test, which does it in a process of its own.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "playground"
TESTS = PROJECT / "tests"

FLOORS = (  # from the ground up; rooms of one floor may use each other, but not in a circle
    ("errors", "events", "settings", "servers", "resources", "steps", "text_format", "limits", "gguf", "machine"),
    ("models", "llama"),
    ("fit",),
    ("engine",),
    ("chat",),
    ("quantize",),
    ("measure",),
    ("app",),
    ("web", "cli"),
    ("__main__",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
APART = {("cli", "web"), ("web", "cli")}  # two front ends over the same application layer

MOST_MODULES = 16  # in one folder
LONGEST_TEST_NAME = 80  # characters

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
    "mcp": ("playground/web/mcp.py", "playground/app/tool_servers/client.py"),
    "spaces": ("playground/engine/zerogpu/",),
    "huggingface_hub": ("playground/models/hub/", "playground/models/disk_scan.py"),
    **dict.fromkeys(NETWORK, ("playground/models/hub/", "playground/engine/remote/", "playground/machine/ports.py")),
}
MARKUP = re.compile(
    r"(?<!\?P)</?(?:a|article|aside|b|br|button|code|dd|details|div|dl|dt|fieldset|figcaption|figure|form|h[1-6]|header|i|img"
    r"|input|label|legend|li|nav|ol|option|p|path|rect|section|select|small|span|strong|style|summary|svg|table|tbody"
    r"|td|text|th|thead|tr|ul)(?:\s[^<>]*)?/?>"
)


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
    room = room_of(module)
    return [
        name
        for name in imports_of(source)
        if name in MODULES and (FLOOR_OF.get(room_of(name), 0) > FLOOR_OF[room] or (room, room_of(name)) in APART)
    ]


def trespasses(path: str, source: str) -> list[str]:
    """The imports of an outside thing in a file that is not its door."""
    return [
        name
        for name in imports_of(source)
        for thing, doors in DOORS.items()
        if f"{name}.".startswith(f"{thing}.") and not path.startswith(doors)
    ]


def texts_of(source: str) -> Iterator[str]:
    """The strings of a source but its docstrings; of an f-string its fixed parts."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def markup_in(source: str) -> list[str]:
    return [text for text in texts_of(source) if MARKUP.search(text)]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_module_says_first_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module starts with its docstring"


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(module) for module in MODULES if module.startswith("playground.")}
    assert rooms == set(FLOOR_OF), "a new room must be given a floor in this test"


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


def test_the_disk_scan_takes_only_places_from_the_hub_library() -> None:
    source = (PACKAGE / "models" / "disk_scan.py").read_text()
    assert {name for name in imports_of(source) if name.startswith("huggingface_hub")} == {"huggingface_hub.constants"}


def test_nothing_below_the_page_makes_markup() -> None:
    found = {
        str(path.relative_to(PROJECT)): markup_in(path.read_text())
        for path in PACKAGE.rglob("*.py")
        if room_of(name_of(path)) != "web"
    }
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_the_page_escapes_nothing_by_hand() -> None:
    by_hand = {
        str(path.relative_to(PROJECT))
        for path in (PACKAGE / "web").rglob("*.py")
        if {"html", "html.escape"} & set(imports_of(path.read_text())) or markup_in(path.read_text())
    }
    assert by_hand == set(), "markup comes from the templates in playground/assets/templates"


def test_no_folder_is_crowded() -> None:
    folders: dict[Path, int] = defaultdict(int)
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py":
            folders[path.parent] += 1
    assert {str(folder.relative_to(PROJECT)): n for folder, n in folders.items() if n > MOST_MODULES} == {}


def test_a_type_name_means_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(PROJECT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_test_names_are_short_sentences() -> None:
    names = [
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert [name for name in names if len(name) > LONGEST_TEST_NAME] == []


@pytest.mark.parametrize(
    ("module", "source", "seen"),
    [
        ("gguf.header", "from playground.engine.protocol import Token", ["playground.engine.protocol"]),
        ("gguf.header", "def later():\n    from playground.web import theme", ["playground.web.theme"]),
        ("gguf.header", "import playground.cli.plan as plan", ["playground.cli.plan"]),
        ("gguf.header", "from playground.errors import PlaygroundError", []),
        ("app.chat", "from playground.web.theme import launch_look", ["playground.web.theme"]),
        ("cli.chat", "from playground.web.theme import launch_look", ["playground.web.theme"]),
    ],
)
def test_this_guard_sees_an_upward_import(module: str, source: str, seen: list[str]) -> None:
    assert upward_imports(f"playground.{module}", source) == seen


@pytest.mark.parametrize(
    "source",
    ["import gradio as gr", "from gradio import Blocks", "import urllib.request", "from urllib import request"],
)
def test_this_guard_sees_a_trespass(source: str) -> None:
    assert len(trespasses("playground/chat/conversation.py", source)) == 1


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = '<p>Hello</p>'", 1),
        ("x = f'<b class=\"a\">{y}</b>'", 2),
        ("x = '<think>', '<|im_end|>', '<s>', 'a < b > c'", 0),
        ('"""Shows <b>bold</b>."""', 0),
    ],
)
def test_this_guard_sees_markup(source: str, count: int) -> None:
    assert len(markup_in(source)) == count


def test_nothing_but_the_page_imports_gradio() -> None:
    """Each child process would carry it: 3 seconds and 150 MB."""
    modules = sorted(module for module in MODULES if room_of(module) not in ("web", "__main__") and module != "app")
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'gradio' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *modules], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
