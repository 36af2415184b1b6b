"""ZeroGPU as the page has it: the decorated function, llama.cpp with CUDA, the visitors' time, the platform's queue.

llama.cpp with CUDA lies in a folder of its own, because the build that serves on the processor is made for processors:
the bindings' project publishes CUDA wheels without AVX2. The folder is filled while the page is open already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from playground.engine.zerogpu.gpu_function import GpuFunction, declare_gpu_function
from playground.engine.zerogpu.quota import Outlook, Quota
from playground.llama.devices import device_backends
from playground.llama.params import ALL_LAYERS, CPU_ONLY, Placement
from playground.text_format import one_line

PACKAGE: Final = "llama-cpp-python"
# What the wheels of the bindings' project for CUDA 12 leave to the system.
CUDA_PACKAGES: Final = ("nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12")
_FETCH_SECONDS: Final = 1800
_QUEUE_SECONDS: Final = 2.0  # how long the page waits for the length of the queue
_COMPLETE: Final = "complete"


class ZeroGpu:
    """One for all visitors. `close` ends a download that is under way.

    libraries_folder: with the package llama_cpp, built for CUDA, and whatever it needs. index: from which it is
    installed into that folder; "" where the owner has filled it.
    """

    def __init__(
        self,
        libraries_folder: Path,
        index: str,
        cores: int,
        function: GpuFunction | None = None,
        queue_length: Callable[[], int | None] | None = None,
    ) -> None:
        self.quota = Quota()
        self.cores = cores
        self.function = function or declare_gpu_function()
        self.problem = ""
        self._queue_length = queue_length or _queue_length
        self._folder = libraries_folder
        self._lock = threading.Lock()
        self._pip: subprocess.Popen[str] | None = None
        self._closed = False
        self._fetching: threading.Thread | None = None
        if not index:
            self._check_folder()
        elif not (libraries_folder / _COMPLETE).exists():
            self.problem = "llama.cpp with CUDA is still being fetched for ZeroGPU: try again in a few minutes."
            self._fetching = threading.Thread(target=self._fetch, args=(index,), daemon=True, name="llama.cpp for CUDA")
            self._fetching.start()

    @property
    def placement(self) -> Placement:
        """The whole model on the GPU, or on the processor if the build in the folder knows no GPU."""
        is_cuda = "cuda" in device_backends(self._folder / "llama_cpp" / "lib")
        return Placement(("CUDA0",), ALL_LAYERS) if is_cuda else CPU_ONLY

    @property
    def place(self) -> str:
        """Where a reply was written, as part of a sentence."""
        return "a GPU" if self.placement.devices else "a processor in the place of the GPU"

    @property
    def libraries(self) -> Mapping[str, str]:
        """For the environment of a model's process."""
        folders = [str(path) for path in sorted(self._folder.glob("nvidia/*/lib"))]
        found = os.pathsep.join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
        return {"PYTHONPATH": str(self._folder), **({"LD_LIBRARY_PATH": found} if found else {})}

    def outlook(self, person: str) -> Outlook:
        """What this visitor can expect now; the platform's queue only if it answers at once."""
        answers: list[int | None] = []
        asking = threading.Thread(target=lambda: answers.append(self._queue_length()), daemon=True, name="queue length")
        asking.start()
        asking.join(_QUEUE_SECONDS)
        return self.quota.outlook(person, answers[0] if answers else None)

    def wait_for_fetch(self, seconds: float) -> None:
        """Returns when llama.cpp is there, or cannot be had, or after this time."""
        if self._fetching:
            self._fetching.join(seconds)

    def close(self) -> None:
        with self._lock:
            self._closed, pip = True, self._pip
        if pip:
            pip.kill()

    def _check_folder(self) -> None:
        if not (self._folder / "llama_cpp" / "__init__.py").exists():
            self.problem = f"There is no llama.cpp for ZeroGPU in {self._folder}."

    def _fetch(self, index: str) -> None:
        """Install into a folder beside, so that a half installation is never used. On a thread of its own."""
        beside = self._folder.with_name(f"{self._folder.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        prebuilt = ["--only-binary", ":all:", "--index-url", index, f"{PACKAGE}=={version(PACKAGE)}"]
        try:
            fault = self._run_pip(beside, prebuilt) or self._run_pip(beside, ["--only-binary", ":all:", *CUDA_PACKAGES])
            if not fault:
                (beside / _COMPLETE).touch()
                shutil.rmtree(self._folder, ignore_errors=True)
                beside.rename(self._folder)
        except OSError as error:
            fault = str(error)
        self.problem = f"llama.cpp with CUDA could not be fetched for ZeroGPU: {fault}." if fault else ""

    def _run_pip(self, target: Path, packages: list[str]) -> str:
        """What went wrong, in pip's words; "" if nothing."""
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-deps",
            "--no-cache-dir", "--target", str(target), *packages,
        ]  # fmt: skip
        with self._lock:
            if self._closed:
                return "the page ends"
            self._pip = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, said = self._pip.communicate(timeout=_FETCH_SECONDS)
        except subprocess.TimeoutExpired:
            self._pip.kill()
            return "it took too long"
        lines = [line for line in said.splitlines() if line.strip()]
        return one_line(lines[-1] if lines else "pip failed", 200).rstrip(".") if self._pip.returncode else ""


def _queue_length() -> int | None:
    """How many requests wait in the platform's queue; None if it does not say."""
    try:
        from spaces.zero.client import api_client

        return int(api_client().get_queue_size())
    except Exception:  # the package and its service belong to the platform and change without notice
        return None
