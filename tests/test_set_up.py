"""The set-up looks before it builds: each missing thing is one clear sentence, and nothing is done twice."""

from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import site
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts.install_llama import without_amx
from scripts.requirements import requirements
from scripts.set_up import WITHOUT_NEEDS, by_name, read_packages
from tests.support.space_process import project_table, pyproject
from tests.support.wheel_index import WheelIndex, pack_again, wheel_index

PROJECT = Path(__file__).resolve().parent.parent
CLOSED = "http://127.0.0.1:1"  # nobody listens there


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh copy of what the set-up reads, without .venv."""
    return copy_of_the_project(tmp_path / "checkout")


def copy_of_the_project(folder: Path) -> Path:
    shutil.copytree(PROJECT / "scripts", folder / "scripts")
    (folder / "playground").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "playground/__init__.py"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


def set_up(checkout: Path, *extras: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "scripts" / "set_up.py"), *extras]
    own = {name: value for name, value in os.environ.items() if name not in ("BUILD", "BACKEND", "CMAKE_ARGS")}
    environment = {**own, "WHEEL_INDEX": CLOSED, **environ}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def pretend_installed(checkout: Path, extras: list[str]) -> None:
    """What a complete installation leaves behind."""
    venv.create(checkout / ".venv", symlinks=True)  # without pip, so that nothing can be installed by mistake
    code = "import json, scripts.set_up as s; print(json.dumps([s.fingerprint(), s.read_packages()]))"
    asked = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    fingerprint, packages = json.loads(asked.stdout)
    stamp = {"fingerprint": fingerprint, "packages": packages, "extras": extras,
             "llama_cpp": {"way": "prebuilt", "backend": "cpu"}}  # fmt: skip
    (checkout / ".venv" / "installed.json").write_text(json.dumps(stamp))


def test_a_machine_without_a_compiler_hears_what_to_install(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = set_up(checkout, "starter", PATH=str(tmp_path / "nothing"), CXX="", CC="")
    assert done.returncode == 1
    assert "No working C++ compiler" in done.stderr and "apt-get install g++" in done.stderr
    assert "Installing" not in done.stdout, "it looks before it installs anything"


def test_a_compiler_that_cannot_compile_is_none(checkout: Path, tmp_path: Path) -> None:
    """As on a Mac without the command line tools, where `c++` only asks for them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "c++").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "c++").chmod(0o755)
    done = set_up(checkout, "starter", PATH=str(tmp_path / "bin"), CXX="", CC="")
    assert done.returncode == 1 and "No working C++ compiler" in done.stderr


@pytest.mark.parametrize("extra", ["--list", "starer", "", "checkers"])
def test_an_unknown_extra_is_named_beside_those_that_exist(checkout: Path, extra: str) -> None:
    done = set_up(checkout, "starter", extra)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"no extra named {extra!r}" in done.stderr and "mcp, metrics, starter, test" in done.stderr


def test_help_says_how_the_set_up_is_called(checkout: Path) -> None:
    done = set_up(checkout, "--help")
    assert done.returncode == 0 and "set_up.py starter test" in done.stdout


def test_an_extra_that_was_removed_since_the_last_set_up_is_no_mistake(checkout: Path, tmp_path: Path) -> None:
    pretend_installed(checkout, ["starter", "gone"])
    (tmp_path / "nothing").mkdir()
    done = set_up(checkout, "test", PATH=str(tmp_path / "nothing"), CXX="", CC="")
    assert "KeyError" not in done.stderr, done.stderr


@pytest.mark.parametrize("change", ["nothing", "code", "the linter's options"])
def test_a_set_up_that_has_nothing_to_do_does_nothing_and_says_nothing(checkout: Path, change: str) -> None:
    pretend_installed(checkout, ["starter", "test"])
    if change == "code":
        (checkout / "playground" / "__init__.py").write_text("changed = True")
    if change == "the linter's options":
        pyproject = checkout / "pyproject.toml"
        pyproject.write_text(pyproject.read_text().replace("line-length = 120", "line-length = 100"))
    done = set_up(checkout, "starter")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("change", ["pin", "extras", "python", "way"])
def test_what_has_changed_is_installed_anew(checkout: Path, tmp_path: Path, change: str) -> None:
    """The pretended .venv has no llama.cpp; so, without a compiler, it stops at once, which shows that it began."""
    pretend_installed(checkout, ["starter"])
    pyproject = checkout / "pyproject.toml"
    if change == "pin":
        pyproject.write_text(pyproject.read_text().replace("llama-cpp-python==", "llama-cpp-python==9."))
    if change == "python":
        (checkout / ".venv" / "bin" / "python").unlink()
    extras = ["starter", "test"] if change == "extras" else ["starter"]
    asked = {"BUILD": "source"} if change == "way" else {}
    done = set_up(checkout, *extras, PATH=str(tmp_path / "nothing"), CXX="", CC="", **asked)
    assert done.returncode == 1 and "compiler" in done.stderr
    if change == "pin":
        was = next(one for one in read_packages()[""] if one.startswith("llama-cpp-python")).removeprefix(
            "llama-cpp-python"
        )
        assert f"llama-cpp-python {was} → {was.replace('==', '==9.')}" in done.stdout, "it says first what will change"


def test_the_packages_are_read_as_a_reader_of_toml_reads_them() -> None:
    table = project_table()
    groups = pyproject()["dependency-groups"]
    assert read_packages() == {"": table["dependencies"], **table["optional-dependencies"], **groups}
    assert groups.keys() == set(WITHOUT_NEEDS.values()) and all("==" in one for each in groups.values() for one in each)
    assert by_name({"": ["gradio>=6.31,<7", "uvicorn[standard]"]}) == {"gradio": ">=6.31,<7", "uvicorn": "any"}


def test_a_backend_that_there_is_not_is_refused_in_a_sentence(checkout: Path) -> None:
    done = set_up(checkout, "starter", BACKEND="gpu")
    assert done.returncode == 1 and "BACKEND=gpu is not a backend" in done.stderr and "Traceback" not in done.stderr


def test_an_old_python_can_read_the_set_up_far_enough_to_be_refused() -> None:
    ast.parse((PROJECT / "scripts" / "set_up.py").read_text(), feature_version=(3, 6))


def test_requirements_txt_is_what_its_script_writes() -> None:
    assert (PROJECT / "requirements.txt").read_text() == requirements((PROJECT / "pyproject.toml").read_text())


@pytest.mark.skipif(platform.machine() != "x86_64" or shutil.which("c++") is None, reason="builds for x86-64 only")
def test_a_build_on_a_processor_with_amx_uses_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processors = tmp_path / "cpuinfo"
    processors.write_text("flags\t\t: avx512f\n")
    assert without_amx(processors) == {}
    processors.write_text("flags\t\t: avx512f amx_bf16 amx_tile amx_int8\n")
    monkeypatch.setenv("CXXFLAGS", "-g")
    variables = without_amx(processors)
    if not variables:
        pytest.skip("this compiler knows no AMX, and so uses none")
    assert variables["CXXFLAGS"].startswith("-g ") and not variables["CFLAGS"].startswith(" ")
    command = ["c++", "-march=sapphirerapids", *variables["CXXFLAGS"].split(), "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "__AVX512F__" in macros and "AMX" not in macros


# --- whole installations: with a real wheel on a loopback index, and without a registry ---

SOURCE_PACKAGE = {  # in place of llama.cpp's own: its build takes the wheel that is ready
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "built"\nbackend-path = ["."]\n',
    "PKG-INFO": "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: {version}\n",
    "built.py": """
import shutil

def build_wheel(target, config_settings=None, metadata_directory=None):
    return shutil.copy({wheel!r}, target).rpartition("/")[2]
""",
}


@pytest.fixture(scope="module")
def real_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_again("llama-cpp-python", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installable(real_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose .venv sees all packages but llama.cpp, and beside it, in `registry`, what pip may ask for."""
    folder = tmp_path_factory.mktemp("installable")
    checkout = copy_of_the_project(folder / "checkout")
    venv.create(checkout / ".venv", symlinks=True, with_pip=True)
    visible = folder / "visible"
    visible.mkdir()
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith(("llama_cpp", "gguf_playground", "__editable__")) and entry.suffix != ".pth":
            (visible / entry.name).symlink_to(entry)
    (purelib,) = (checkout / ".venv" / "lib").glob("python*/site-packages")
    (purelib / "visible.pth").write_text(str(visible))
    registry = folder / "registry"
    registry.mkdir()
    pack_again("setuptools", registry)
    name = f"llama_cpp_python-{version('llama-cpp-python')}"
    (folder / name).mkdir()
    for file, content in SOURCE_PACKAGE.items():
        (folder / name / file).write_text(content.format(version=name[17:], wheel=str(real_wheel)))
    with tarfile.open(registry / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(folder / name, name)
    return folder


@pytest.fixture
def ready(installable: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of it, and the environment in which pip asks nobody else."""
    shutil.copytree(installable / "checkout", tmp_path / "checkout", symlinks=True)
    (tmp_path / "cc").write_text("#!/bin/sh\n")  # the source package above needs no more of a compiler
    (tmp_path / "cc").chmod(0o755)
    return tmp_path / "checkout", {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(installable / "registry"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(tmp_path / "cache"),
        "BACKEND": "cpu",
        "CC": str(tmp_path / "cc"),
        "CXX": str(tmp_path / "cc"),
    }


@pytest.fixture
def index() -> Iterator[WheelIndex]:
    with wheel_index() as opened:
        yield opened


def stamp(checkout: Path) -> dict[str, str]:
    way: dict[str, str] = json.loads((checkout / ".venv" / "installed.json").read_text())["llama_cpp"]
    return way


def runs(checkout: Path) -> bool:
    """Whether this .venv has a llama.cpp of its own that works."""
    code = "import llama_cpp; llama_cpp.llama_backend_init(); print(llama_cpp.__file__)"
    done = subprocess.run(
        [checkout / ".venv" / "bin" / "python", "-c", code], capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and str(checkout) in done.stdout


@pytest.mark.process
def test_a_prebuilt_llama_cpp_is_installed_without_a_compiler(
    ready: tuple[Path, dict[str, str]], real_wheel: Path, index: WheelIndex
) -> None:
    checkout, environment = ready
    index.offer("cpu", real_wheel)
    environment |= {"CC": "none", "CXX": "none", "WHEEL_INDEX": index.address}
    done = set_up(checkout, "starter", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (way,) = [line for line in done.stdout.splitlines() if "llama.cpp" in line]
    assert "prebuilt" in way and "BACKEND=cpu was asked for" in way and "make run BUILD=source" in way
    assert stamp(checkout)["way"] == "prebuilt" and runs(checkout)
    asked = len(index.asked)
    assert set_up(checkout, "starter", **environment).stdout == "" and len(index.asked) == asked
    environment |= {"BUILD": "source"}
    assert "No working C++ compiler" in set_up(checkout, "starter", **environment).stderr
    assert runs(checkout), "what is here stays until something else can take its place"


@pytest.mark.process
@pytest.mark.parametrize("fault", ["no wheel", "a login in place of the wheel", "a wheel for another processor"])
def test_a_build_follows_where_no_wheel_is_listed_arrives_or_runs(
    ready: tuple[Path, dict[str, str]], real_wheel: Path, index: WheelIndex, fault: str, tmp_path: Path
) -> None:
    checkout, environment = ready
    if fault == "no wheel":
        index.list_wheels("cpu", real_wheel.name.replace(version("llama-cpp-python"), "0.0.1"))
    if fault == "a login in place of the wheel":
        index.list_wheels("cpu", real_wheel.name)
        index.pages[f"/files/{real_wheel.name}"] = b"<html>Please log in</html>"
    if fault == "a wheel for another processor":
        index.offer("cpu", pack_again("llama-cpp-python", tmp_path, with_an_illegal_instruction))
    done = set_up(checkout, "starter", **environment, WHEEL_INDEX=index.address)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    (way,) = [line for line in said if "built from source" in line]
    reasons = {
        "no wheel": f"has no {version('llama-cpp-python')} for cpu",
        "a login in place of the wheel": "login",
        "a wheel for another processor": "ends with SIGILL",
    }
    assert reasons[fault] in way and "a prebuilt one would" in way
    assert stamp(checkout)["way"] == "source" and runs(checkout)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="a Mac has Metal")
def test_a_gpu_for_which_nothing_works_leaves_the_processor_and_is_said(
    ready: tuple[Path, dict[str, str]], real_wheel: Path, index: WheelIndex, tmp_path: Path
) -> None:
    """The index has a wheel for the processor alone; a build for the GPU, if its tools are here, sees no GPU."""
    checkout, environment = ready
    index.offer("cpu", real_wheel)
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\n[ $# -gt 0 ] && echo 'NVIDIA RTX 4070, 8.9' || echo 'CUDA Version: 12.5'\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = set_up(checkout, "starter", **{**environment, "BACKEND": "", "WHEEL_INDEX": index.address, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    (unused,) = [line for line in done.stdout.splitlines() if "The GPU stays unused" in line]
    assert "answered 404" in unused and ("nvcc" in unused or "sees no GPU" in unused)
    assert stamp(checkout)["backend"] == "cpu" and runs(checkout)


def with_an_illegal_instruction(path: str, content: bytes) -> bytes:
    """The package ends as one does that was compiled for a newer processor."""
    return b"import os, signal\nos.kill(os.getpid(), signal.SIGILL)" if path == "llama_cpp/__init__.py" else content


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
