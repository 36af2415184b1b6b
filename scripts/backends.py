"""The backends of llama.cpp: which of them this computer can use, and what a build from source needs for it.

A backend is the part of llama.cpp that computes: `cpu`, or a GPU through `metal`, `cuda`, `rocm` or `vulkan`.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("cpu", "metal", "cuda", "rocm", "vulkan")
CMAKE_FLAGS = {
    "cuda": ("-DGGML_CUDA=ON",),
    "rocm": ("-DGGML_HIP=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
}
# Beside a C++ compiler: the program that each build calls, where it may lie, and how to get it.
TOOLS = {
    "cuda": ("nvcc", "/usr/local/cuda/bin", "install NVIDIA's CUDA toolkit"),
    "rocm": ("hipcc", "/opt/rocm/bin", "install AMD's ROCm with hipcc"),
    "vulkan": ("glslc", "/usr/bin", "sudo apt-get install glslc libvulkan-dev"),
}
# The folders of the index for CUDA, newest first, with the oldest compute capability of a GPU that each serves.
CUDA_FOLDERS = (
    ("cu132", (13, 2), (7, 5)),
    ("cu130", (13, 0), (7, 5)),
    ("cu125", (12, 5), (6, 0)),
    ("cu124", (12, 4), (6, 0)),
    ("cu123", (12, 3), (6, 0)),
    ("cu122", (12, 2), (6, 0)),
    ("cu121", (12, 1), (6, 0)),
    ("cu118", (11, 8), (6, 0)),
)
PCI_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
ASK_SECONDS = 20  # a driver that is broken can hang the program that asks it


@dataclass(frozen=True)
class Backend:
    """One backend, the reason for it as part of a sentence, and its folder in the index of prebuilt wheels."""

    name: str
    reason: str
    folder: str | None = None  # None: the index has none for this computer

    @property
    def cmake_flags(self) -> tuple[str, ...]:
        return CMAKE_FLAGS.get(self.name, ())

    @property
    def missing_tool(self) -> str | None:
        """What a build from source lacks here, beside a C++ compiler."""
        if self.name not in TOOLS:
            return None
        program, place, _ = TOOLS[self.name]
        return None if shutil.which(program) or Path(place, program).exists() else program

    @property
    def remedy(self) -> str:
        return TOOLS[self.name][2]


CPU = Backend("cpu", "no GPU that llama.cpp could use was found", "cpu")


def find_backends(asked: str) -> list[Backend]:
    """Those that can be tried here, best first: the one that was asked for, else what is here; the processor is last.

    asked: a name, or empty.
    """
    if asked == "cpu":
        return [Backend("cpu", "BACKEND=cpu was asked for", "cpu")]
    found = [backend for backend in (_metal(), _cuda(), _rocm(), _vulkan()) if backend]
    if asked:
        named = [backend for backend in found if backend.name == asked]
        if asked == "metal" and not named:
            return [Backend("cpu", "BACKEND=metal is for Macs", "cpu")]
        found = named or [Backend(asked, f"BACKEND={asked} was asked for", _folder_without_gpu(asked))]
    return [*found, Backend("cpu", "no GPU can be used", "cpu")] if found else [CPU]


def cuda_folder(driver: tuple[int, int], capability: tuple[int, int]) -> str | None:
    """The newest folder whose CUDA the driver has and that was made for GPUs like this one.

    driver: the CUDA version that the driver reports. capability: the GPU's compute capability.
    """
    for folder, version, oldest in CUDA_FOLDERS:
        if version <= driver and oldest <= capability and (folder != "cu118" or capability <= (8, 9)):
            return folder
    return None


def _metal() -> Backend | None:
    if sys.platform != "darwin":
        return None
    return Backend("metal", f"this is a Mac with {platform.machine()}", "metal" if _is_arm() else "cpu")


def _cuda() -> Backend | None:
    program = shutil.which("nvidia-smi") or _existing("/usr/lib/wsl/lib/nvidia-smi")
    if program is None:
        return None
    listed = _output([program, "--query-gpu=name,compute_cap", "--format=csv,noheader"])
    driver = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+)\.(\d+)", _output([program]))
    gpu = re.match(r"(.+), (\d+)\.(\d+)", listed)
    if gpu is None:
        return None
    folder = None
    if driver and sys.platform == "linux" and platform.machine() == "x86_64":
        folder = cuda_folder((int(driver[1]), int(driver[2])), (int(gpu[2]), int(gpu[3])))
    return Backend("cuda", f"a GPU was found: {gpu[1]}", folder)


def _rocm() -> Backend | None:
    if not Path("/dev/kfd").exists() or not (shutil.which("rocminfo") or Path("/opt/rocm").exists()):
        return None
    return Backend("rocm", "an AMD GPU with ROCm was found", "rocm72")


def _vulkan() -> Backend | None:
    """A GPU with a driver of its own: without a render node Vulkan would compute on the processor, slowly."""
    makers = []
    for node in sorted(Path("/sys/class/drm").glob("renderD*/device/vendor")):
        makers.append(PCI_VENDORS.get(node.read_text().strip()))
    maker = next(filter(None, makers), None)
    if maker is None or ctypes.util.find_library("vulkan") is None:
        return None
    return Backend("vulkan", f"a GPU by {maker} with Vulkan was found", "vulkan")


def _folder_without_gpu(name: str) -> str | None:
    """As in the build of an image for CUDA, whose environment names the version."""
    version = re.match(r"(\d+)\.(\d+)", os.environ.get("CUDA_VERSION", ""))
    if name == "cuda":
        return cuda_folder((int(version[1]), int(version[2])), (7, 5)) if version else None
    return {"rocm": "rocm72", "vulkan": "vulkan"}.get(name)


def _is_arm() -> bool:
    return platform.machine() in ("arm64", "aarch64")


def _existing(path: str) -> str | None:
    return path if Path(path).exists() else None


def _output(command: Sequence[str]) -> str:
    """What the command prints; nothing where it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
