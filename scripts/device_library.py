"""Builds the devices that tests run models on: ggml's RPC backend, for the installed version of llama.cpp.

Two source files of llama-cpp-python's source package are compiled into `.venv/test-devices/`, in about half a minute,
and only once for a version; the installed llama.cpp stays as it is. Without a C++ compiler or the source package this
says so, and the tests on devices are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(sys.prefix) / "test-devices"
NEEDED = ("ggml/include/", "ggml/src/ggml-rpc/", "ggml/src/")  # of llama.cpp in the source package
DEFINITIONS = ("-DGGML_BUILD", "-DGGML_SHARED", "-DGGML_BACKEND_BUILD", "-DGGML_BACKEND_SHARED")


def main() -> None:
    installed = version("llama-cpp-python")
    target = library(installed)
    if target.exists():
        return
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        say("Tests on devices are skipped: there is no C++ compiler to build them with.")
        return
    say("Building the devices that tests run models on ...")
    with tempfile.TemporaryDirectory() as folder:
        source = unpacked_source(installed, Path(folder), lambda inside: inside.rpartition("/")[0] + "/" in NEEDED)
        if source is None or not compiled(compiler, source, target):
            say("Tests on devices are skipped: they could not be built.")


def library(installed: str) -> Path:
    return FOLDER / f"libggml-rpc-{installed}{'.dylib' if sys.platform == 'darwin' else '.so'}"


def unpacked_source(installed: str, folder: Path, is_needed: Callable[[str], bool]) -> Path | None:
    """llama.cpp's folder with the files that are needed; None if the source package cannot be had.

    is_needed: is asked for the path of each file within llama.cpp.
    """
    package = f"llama-cpp-python=={installed}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
    if subprocess.call([*command, "--dest", str(folder), package]) != 0:
        return None
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        wanted = [
            member
            for member in packed.getmembers()
            if member.isfile() and is_needed(member.name.partition("/vendor/llama.cpp/")[2])
        ]
        if hasattr(tarfile, "data_filter"):  # not in the first releases of Python 3.10 and 3.11
            packed.extraction_filter = tarfile.data_filter
        packed.extractall(folder, wanted)
    return next(folder.glob("*/vendor/llama.cpp"))


def compiled(compiler: str, source: Path, target: Path) -> bool:
    ggml, spec = source / "ggml", find_spec("llama_cpp")
    assert spec is not None and spec.submodule_search_locations
    libraries = Path(next(iter(spec.submodule_search_locations))) / "lib"
    FOLDER.mkdir(exist_ok=True)
    half_done = target.with_suffix(".part")
    command = [
        compiler, "-std=c++17", "-O2", "-fPIC", "-shared", *DEFINITIONS,
        *(f"-I{ggml / folder}" for folder in ("include", "src", "src/ggml-rpc")),
        *(str(ggml / "src" / "ggml-rpc" / name) for name in ("ggml-rpc.cpp", "transport.cpp")),
        "-o", str(half_done), f"-L{libraries}", "-lggml-base", f"-Wl,-rpath,{libraries}",
    ]  # fmt: skip
    if subprocess.call(command) != 0:
        return False
    half_done.rename(target)
    return True


def say(sentence: str) -> None:
    print("==> " + sentence, flush=True)


if __name__ == "__main__":
    main()
