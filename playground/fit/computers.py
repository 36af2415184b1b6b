"""Computers that people have, with and without a GPU, and what a model can get of their memory.

Nobody can ask a computer that is not here, so each kind has an assumption, which is said wherever it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from playground.fit.budget import USUAL_MARGIN, Budget, DeviceBudget, GpuMargin
from playground.fit.table import COMPUTERS_GB, SYSTEM_KEEPS_BYTES, usable_of
from playground.llama.made_up_devices import made_up_name
from playground.text_format import GIBIBYTE, GIGABYTE, gigabytes

ComputerKind = Literal["mac", "gpu", "pc", "phone"]
MEMORY_GB: Final[dict[ComputerKind, tuple[int, ...]]] = {  # as sold: powers of 1024
    "mac": (8, 16, 24, 32, 64, 128),
    "gpu": (16, 32, 64),
    "pc": COMPUTERS_GB,
    "phone": (8, 12, 16),
}
GPU_GB: Final = (8, 12, 16, 24, 32)

GPU_KEEPS_BYTES: Final = GIGABYTE  # of a graphics card: the screen, a browser's windows, the driver and llama.cpp's own
PHONE_SHARE: Final = 1 / 2  # of a phone's memory, for one app; systems differ and do not say how much

# What macOS lets a GPU have (recommendedMaxWorkingSetSize), as llama.cpp printed it: 10,922 MiB of 16 GB and 21,845 of
# 32, 49,152 of 64 GB. A newer macOS gives more: 12,123 of 16 GB, 53,082 of 64. The smaller figures count.
_MAC_SHARE: Final = 2 / 3
_LARGE_MAC_SHARE: Final = 3 / 4
_LARGE_MAC_GB: Final = 36


@dataclass(frozen=True)
class Computer:
    """memory_gb, gpu_gb: as sold, in powers of 1024; the GPU's counts for the kind "gpu" alone."""

    kind: ComputerKind
    memory_gb: float
    gpu_gb: float = 0

    @property
    def name(self) -> str:
        """`Mac with 16 GB`, `PC with a GPU of 12 GB and 32 GB of RAM`."""
        memory = f"{self.memory_gb:g} GB"
        names = {"mac": f"Mac with {memory}", "phone": f"Phone with {memory}", "pc": f"PC with {memory}"}
        return names.get(self.kind, f"PC with a GPU of {self.gpu_gb:g} GB and {memory} of RAM")

    @property
    def has_gpu(self) -> bool:
        return self.kind in ("mac", "gpu")

    @property
    def assumption(self) -> str:
        """A sentence that says what its budget is based on."""
        system = f"the system and a browser take {_round_gigabytes(SYSTEM_KEEPS_BYTES)}"
        if self.kind == "mac":
            return f"macOS lets the GPU use {gigabytes(self._gpu_usable)} of the memory; {system} of all."
        if self.kind == "gpu":
            return f"Screen, driver and llama.cpp take {_round_gigabytes(GPU_KEEPS_BYTES)} of the GPU; {system} of RAM."
        if self.kind == "phone":
            return "A phone lets one app use about half of its memory, and the CPU runs the model."
        return f"It is assumed that {system} and nothing else large is open."

    def budget(self, margin: GpuMargin = USUAL_MARGIN) -> Budget:
        """With a made-up GPU, for which llama.cpp's dry run plans."""
        memory = round(self.memory_gb * GIBIBYTE)
        if self.kind == "phone":
            return Budget(round(memory * PHONE_SHARE))
        if not self.has_gpu:
            return Budget(usable_of(memory))
        total = memory if self.kind == "mac" else round(self.gpu_gb * GIBIBYTE)
        gpu = DeviceBudget(
            made_up_name(), "the GPU", self._gpu_usable, unified=self.kind == "mac", margin=margin.of(total)
        )
        return Budget(usable_of(memory), (gpu,))

    @property
    def _gpu_usable(self) -> int:
        if self.kind == "mac":
            share = _LARGE_MAC_SHARE if self.memory_gb >= _LARGE_MAC_GB else _MAC_SHARE
            return round(self.memory_gb * GIBIBYTE * share)
        return max(0, round(self.gpu_gb * GIBIBYTE) - GPU_KEEPS_BYTES)


def _round_gigabytes(byte_count: int) -> str:
    """An assumption, which has no digits after the point: `3 GB`."""
    return f"{byte_count / GIGABYTE:g} GB"
