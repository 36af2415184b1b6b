"""Says which devices llama.cpp can run a model on: the CPU, and the GPUs that its build and the drivers know.

A driver that is broken, hangs or lies must not harm the page, so a child process asks. If that child fails, a sentence
says so, every process that starts later hides the devices from llama.cpp, and the CPU serves.

A process takes some of a GPU's memory by asking, and a model's process takes as much: free memory is without that.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from playground.llama.log import abort_message
from playground.machine.child_process import ChildProcess, describe_exit, open_child_pipes
from playground.machine.memory import read_memory
from playground.text_format import counted

DeviceKind = Literal["CPU", "GPU", "integrated GPU", "accelerator"]

ANSWER_SECONDS: Final = 60.0  # a driver's first start on a busy machine takes some seconds
END_SECONDS: Final = 10.0
FRESH_SECONDS: Final = 2.0  # free memory read so recently counts as now's
_MODULE: Final = "playground.llama.devices"
_KINDS: Final[tuple[DeviceKind, ...]] = ("CPU", "GPU", "integrated GPU", "accelerator")  # ggml-backend.h's numbers
_MOST_DEVICES: Final = 64
_MOST_MEMORY: Final = 1 << 48  # bytes; a driver that reports more is not believed
_LONGEST_NAME: Final = 120
_METAL: Final = "MTL"
_HIDING: Final = {  # what makes the backends of llama.cpp's build find no device
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "-1",
    "MUSA_VISIBLE_DEVICES": "-1",
    "GGML_METAL_DEVICES": "0",
    "GGML_DISABLE_VULKAN": "1",
}


@dataclass(frozen=True)
class Device:
    """One device as llama.cpp and its driver describe it; memory in bytes.

    name: llama.cpp's own, such as "CUDA0", which `--device` takes. unified: its memory is the computer's own.
    hardware_id: the same for two names of one device, as with CUDA and Vulkan; "" if the backend does not tell.
    memory_total: of Metal and other unified memory what the driver allows the device to use.
    """

    name: str
    description: str
    backend: str
    kind: DeviceKind
    memory_total: int
    memory_free: int
    unified: bool
    hardware_id: str = ""

    @property
    def is_gpu(self) -> bool:
        return self.kind in ("GPU", "integrated GPU")


@dataclass(frozen=True)
class Devices:
    """All devices, the CPU among them. problem: a sentence if a GPU is not used because its driver failed."""

    all: tuple[Device, ...]
    problem: str = ""

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs that a model runs on, by llama.cpp's rule: integrated ones only if there are no others."""
        found = [device for device in self.all if device.is_gpu]
        return tuple([device for device in found if device.kind == "GPU"] or found[:1])

    def find(self, name: str) -> Device | None:
        return next((device for device in self.all if device.name.lower() == name.lower()), None)


class DeviceReader:
    """Keeps what is known of the devices; a `with` resource. Starts to read at once, in a thread of its own.

    answer_seconds: how long a driver may take.
    """

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()  # one reading at a time
        self._child_lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._closed = False
        self._known = Devices(())
        self._read_at = 0.0
        self._first = threading.Thread(target=self._read, daemon=True, name="devices")
        self._first.start()

    def __enter__(self) -> DeviceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def known(self) -> Devices:
        """The last answer, without waiting; none while the first one is awaited."""
        return self._known

    def current(self) -> Devices:
        """The devices with their free memory now, which takes half a second where there is a GPU. Never raises."""
        self._first.join()
        with self._lock:
            if self._known.gpus and time.monotonic() - self._read_at > FRESH_SECONDS:
                self._read()
            return replace(self._known, all=tuple(_with_own_memory(device) for device in self._known.all))

    def expire(self) -> None:
        """Something took or gave back a GPU's memory: the next answer is read again."""
        self._read_at = -FRESH_SECONDS

    def close(self) -> None:
        with self._child_lock:
            self._closed = True
            if self._child:
                self._child.kill()
        self._first.join()

    def _read(self) -> None:
        devices, problem = self._ask_child(self._answer_seconds)
        if problem and not devices:
            os.environ.update(_HIDING)  # for the children of this process, of which each would meet the same driver
            devices, _ = self._ask_child(ANSWER_SECONDS)
        self._known = Devices(tuple(devices), problem)
        self._read_at = time.monotonic()

    def _ask_child(self, seconds: float) -> tuple[list[Device], str]:
        """The devices, and what went wrong."""
        with self._child_lock:
            if self._closed:
                return [], ""
            child = self._child = ChildProcess(_MODULE)
        with child:
            try:
                return read_answer(child.read_line(seconds))
            except TimeoutError:
                waited = counted(round(seconds), "second")
                return [], f"The driver of the GPU did not answer within {waited}, so models run on the CPU."
            except (EOFError, ValueError):
                ended = describe_exit(child.wait_for_exit(END_SECONDS))  # its pipe closes a moment before it ends
                words = abort_message("\n".join(child.last_words()))
                reason = f": {words}" if words else ""
                return [], f"The process that asked for the GPU {ended}{reason}. Models run on the CPU."


def read_devices() -> Devices:
    """The devices now. Never raises."""
    with DeviceReader() as reader:
        return reader.current()


def read_answer(answer: bytes) -> tuple[list[Device], str]:
    """The devices of the child's line, and a sentence about those that cannot be right; these are left out."""
    from pydantic import TypeAdapter, ValidationError  # here, because the child imports this module

    try:
        answered = TypeAdapter(list[Device]).validate_json(answer, strict=True)
    except ValidationError:
        return [], "The GPU's driver gave an answer that cannot be read, so models run on the CPU."
    if not answered:
        return [], "llama.cpp found no device, not even the CPU."
    devices = [_printable(device) for device in answered[:_MOST_DEVICES]]
    lies = {device.name: lie for device in devices if device.is_gpu and (lie := _lie_of(device))}
    sentences = [f"{device.description} is not used: {lies[device.name]}." for device in devices if device.name in lies]
    return list(_each_once(device for device in devices if device.name not in lies)), " ".join(sentences)


def _lie_of(device: Device) -> str:
    if device.memory_total <= 0:
        return "its driver reports no memory"
    if device.memory_total > _MOST_MEMORY or not 0 <= device.memory_free <= device.memory_total:
        return f"its driver reports {device.memory_free:,} free of {device.memory_total:,} bytes"
    return ""


def _each_once(devices: Iterable[Device]) -> Iterator[Device]:
    """llama.cpp takes the first of two names of one device, so only that one is listed."""
    seen: set[str] = set()
    for device in devices:
        keys = {key for key in (device.name, device.hardware_id) if key}
        if not keys & seen:
            yield device
        seen |= keys


def _with_own_memory(device: Device) -> Device:
    if device.kind != "CPU":
        return device
    memory = read_memory()
    return replace(device, memory_total=memory.total, memory_free=memory.usable)


def _at_least_none(free: int) -> int:
    """Free bytes; 0 for a number below zero that C has made a large one of: Vulkan's for a GPU that is overfull."""
    return 0 if free >= 1 << 63 else free


def _printable(device: Device) -> Device:
    """A driver's texts as one short line each, and its free memory as a number that can be."""

    def line(text: str) -> str:
        printed = "".join(letter if letter.isprintable() else " " for letter in text)
        return " ".join(printed.split())[:_LONGEST_NAME]

    return replace(
        device, memory_free=_at_least_none(device.memory_free),
        name=line(device.name), description=line(device.description) or line(device.name),
        backend=line(device.backend), hardware_id=line(device.hardware_id),
    )  # fmt: skip


# --- the build ---


def ggml_function(name: str, arguments: list[Any], result: Any) -> Any:
    """A function of ggml-backend.h, which the bindings load with llama.cpp but do not wrap."""
    import llama_cpp.llama_cpp as bindings

    function = getattr(bindings._lib, f"ggml_{name}")
    function.argtypes, function.restype = arguments, result
    return function


def device_backends(folder: Path | None = None) -> tuple[str, ...]:
    """The backends for devices in llama.cpp's build, such as ("cuda",), without loading a driver; () for the CPU alone.

    folder: of llama.cpp's shared libraries, one for each backend.
    """
    if folder is None:
        import llama_cpp.llama_cpp as bindings

        folder = Path(bindings._base_path)
    names = {path.name.split(".")[0].removeprefix("lib") for path in folder.glob("*ggml-*")}
    found = {name.removeprefix("ggml-") for name in names}
    return tuple(sorted(name for name in found if not name.startswith(("base", "cpu", "blas", "amx", "rpc"))))


def free_memory(name: str) -> int:
    """Free bytes of a device, as its driver says now; in a process that uses it. 0 if it is not there."""
    device = find_device(name)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if device:
        pointer = ctypes.POINTER(ctypes.c_size_t)
        ggml_function("backend_dev_memory", [ctypes.c_void_p, pointer, pointer], None)(device, free, total)
    return _at_least_none(free.value)


def find_device(name: str) -> int | None:
    """llama.cpp's pointer to the device of that name; None if it is not there."""
    found: int | None = ggml_function("backend_dev_by_name", [ctypes.c_char_p], ctypes.c_void_p)(name.encode())
    return found


def backend_name(name: str) -> str:
    """llama.cpp's name of the backend that drives a device, such as CUDA; "" if the device is not there."""
    device = find_device(name)
    return _backend_of(device) if device else ""


def _backend_of(device: int) -> str:
    backend = ggml_function("backend_dev_backend_reg", [ctypes.c_void_p], ctypes.c_void_p)(device)
    return _text(ggml_function("backend_reg_name", [ctypes.c_void_p], ctypes.c_char_p)(backend))


# --- the child's side ---


def main() -> None:
    """`python -m playground.llama.devices`: one line, a JSON list of the devices."""
    _, answers = open_child_pipes(for_driver=bool(device_backends()))
    answers.write(json.dumps([asdict(device) for device in _devices_of_llama_cpp()]).encode() + b"\n")


class DeviceProperties(ctypes.Structure):
    """struct ggml_backend_dev_props of ggml-backend.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 16),  # five in this version
    ]


def _devices_of_llama_cpp() -> Iterator[Device]:
    count = ggml_function("backend_dev_count", [], ctypes.c_size_t)
    get = ggml_function("backend_dev_get", [ctypes.c_size_t], ctypes.c_void_p)
    get_properties = ggml_function("backend_dev_get_props", [ctypes.c_void_p, ctypes.POINTER(DeviceProperties)], None)
    for index in range(count()):
        device, properties = get(index), DeviceProperties()
        get_properties(device, properties)
        kind: DeviceKind = _KINDS[properties.type] if 0 <= properties.type < len(_KINDS) else "accelerator"
        backend = _backend_of(device)
        is_apple = backend == _METAL and platform.machine() == "arm64"
        yield Device(
            name=_text(properties.name),
            description=_text(properties.description),
            backend=backend,
            kind=kind,
            memory_total=properties.memory_total,
            memory_free=properties.memory_free,
            unified=is_apple or kind in ("CPU", "integrated GPU"),
            hardware_id=_text(properties.device_id),
        )


def _text(words: bytes | None) -> str:
    return (words or b"").decode("utf-8", "replace")


if __name__ == "__main__":
    main()
