"""What a computer can give to a model: its own memory, and the memory of each GPU.

Unified memory is one memory for both: a GPU's part of it counts against the GPU's limit and against the computer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from playground.llama.devices import Device, Devices


@dataclass(frozen=True)
class GpuMargin:
    """What Automatic leaves free of a GPU's memory: so many bytes or such a share of it, whichever is less."""

    most_bytes: int = 1 << 30
    share: float = 0.05

    def of(self, memory_total: int) -> int:
        return min(self.most_bytes, round(self.share * memory_total))


USUAL_MARGIN: Final = GpuMargin()


@dataclass(frozen=True)
class DeviceBudget:
    """Bytes that a model can have of one GPU's memory.

    margin: bytes that Automatic leaves free, since the system's windows and other programs use the same memory.
    """

    name: str
    description: str
    usable: int
    unified: bool
    margin: int = 0

    @classmethod
    def of(cls, device: Device, margin: GpuMargin = USUAL_MARGIN) -> DeviceBudget:
        margin_bytes = margin.of(device.memory_total)
        return cls(device.name, device.description, device.memory_free, device.unified, margin_bytes)


@dataclass(frozen=True)
class Budget:
    """usable: bytes of the computer's own memory. devices: of the GPUs that a model can run on."""

    usable: int
    devices: tuple[DeviceBudget, ...] = ()

    @classmethod
    def of(cls, usable: int, devices: Devices, margin: GpuMargin = USUAL_MARGIN) -> Budget:
        return cls(usable, tuple(DeviceBudget.of(device, margin) for device in devices.gpus))

    def find(self, name: str) -> DeviceBudget | None:
        return next((device for device in self.devices if device.name == name), None)

    def with_freed(self, freed: Iterable[tuple[str, int]]) -> Budget:
        """More of some devices: (name, bytes) of what other models would give back; less for negative numbers."""
        more: dict[str, int] = {}
        for name, size in freed:
            more[name] = more.get(name, 0) + size
        devices = tuple(replace(device, usable=device.usable + more.get(device.name, 0)) for device in self.devices)
        return replace(self, devices=devices)

    @property
    def with_margins(self) -> Budget:
        """The same with every GPU's margin taken off."""
        devices = tuple(replace(device, usable=max(0, device.usable - device.margin)) for device in self.devices)
        return replace(self, devices=devices)


NO_MEMORY: Final = Budget(0)
