"""The playground as a package: a wheel that is installed into an empty environment runs outside of the source tree."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.playground_process import ROOT, PlaygroundProcess, environment
from tests.support.space_process import project_table, pushed_files

pytestmark = pytest.mark.process

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a registry, by the setuptools of the test extra, from what git keeps of the project."""
    source = pushed_files(tmp_path_factory.mktemp("source"))
    target = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*PIP, "wheel", *offline, "--quiet", "--wheel-dir", target, source], check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gguf-playground` in an environment that has the wheel alone, and sees what it needs where the tests see it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    # Folders that are named in a .pth file are searched last, and their own .pth files, such as that of an editable
    # installation, are not read.
    needed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(paths["purelib"]) / "needed.pth").write_text("\n".join(needed))
    installing = ("install", "--no-deps", "--no-index", "--ignore-installed", "--quiet", wheel)
    subprocess.run([*PIP, "--python", folder / "bin" / "python", *installing], check=True)
    return folder / "bin" / "gguf-playground"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An empty folder, from which no source can be imported by chance."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def test_the_wheel_has_the_package_with_its_assets_and_nothing_else(wheel: Path) -> None:
    files = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    assert {path.parts[0] for path in files} == {
        "playground",
        f"gguf_playground-{project_table()['version']}.dist-info",
    }
    package = {path.relative_to(ROOT) for path in (ROOT / "playground").rglob("*") if path.is_file()}
    expected = {path for path in package if "__pycache__" not in path.parts}
    assert {path for path in files if path.parts[0] == "playground"} == expected
    assert Path("playground/py.typed") in files and Path("playground/assets/theme.css") in files


def test_the_installed_command_describes_the_machine_and_the_levels(
    command: Path, elsewhere: Path, starter: Path
) -> None:
    def answer(*arguments: str) -> dict[str, object]:
        ran = subprocess.run(
            [command, *arguments, "--json"], cwd=elsewhere, env=environment(elsewhere), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return dict(json.loads(ran.stdout))

    machine = answer("machine")
    assert isinstance(machine["memory_usable"], int) and machine["memory_usable"] > 0
    levels = answer("levels", "starter")["levels"]
    assert isinstance(levels, list) and levels[0]["level"] == "Q4_1" and levels[0]["files"] == [str(starter)]


def test_the_installed_command_alone_serves_the_page_with_its_style(
    command: Path, elsewhere: Path, starter: Path
) -> None:
    no_window = {"BROWSER": "true"}  # the command that stands for a browser
    with PlaygroundProcess(elsewhere, no_window, command=(str(command),), folder=elsewhere) as process:
        where = subprocess.run(
            [command.parent / "python", "-c", "import playground; print(playground.__file__)"], cwd=elsewhere,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert Path(where.stdout.strip()).is_relative_to(command.parent.parent)
        with urllib.request.urlopen(process.address, timeout=30) as page:
            assert "GGUF playground" in page.read().decode()
        with urllib.request.urlopen(f"{process.address}/config", timeout=30) as answer:
            config = json.load(answer)
        assert (ROOT / "playground" / "assets" / "theme.css").read_text() in config["css"]
        drawn = [part["props"].get("value") for part in config["components"]]
        assert any("SmolLM2" in str(value) for value in drawn)
        assert process.end() == 0
