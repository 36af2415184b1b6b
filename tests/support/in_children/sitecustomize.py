"""What tests change in child processes: Python imports it at the start of each one, if its folder is in PYTHONPATH.

TEST_DRIVER makes a driver misbehave in the process that asks for the devices, as long as no device is hidden:
"crashes", "hangs", "reports nothing", or "claims too much memory".

TEST_DEVICES, such as "2048,1024", gives the processes that open models so many real devices (device_server.py, over the
library TEST_DEVICE_LIBRARY); each is said to have so many MiB of memory, all of it free. TEST_GPU names a GPU of this
computer that takes the place of the first. All other GPUs are left out.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

ASKS_FOR_DEVICES: Final = "playground.llama.devices"
OPENS_MODELS: Final = (
    ASKS_FOR_DEVICES, "playground.fit.planner_worker", "playground.engine.local.worker",
    "playground.llama.quantizer.process", "benchmarks.generation_speed", "benchmarks.device_check",
)  # fmt: skip
MIB: Final = 1 << 20
GPUS: Final = (1, 2)  # ggml-backend.h's enum ggml_backend_dev_type
ACCELERATOR: Final = 3
_KEPT: Final[list[Any]] = []  # the servers' standard inputs: when these are closed, the servers end


def main() -> None:
    driver, devices = os.environ.get("TEST_DRIVER", ""), os.environ.get("TEST_DEVICES", "")
    if driver and ASKS_FOR_DEVICES in sys.orig_argv and os.environ.get("CUDA_VISIBLE_DEVICES") != "-1":
        break_driver(driver)
    if devices and set(OPENS_MODELS) & set(sys.orig_argv):
        offer_devices([int(mebibytes) * MIB for mebibytes in devices.split(",")])


# --- drivers that misbehave ---


def break_driver(how: str) -> None:
    """Puts the fault where the driver's own would show: in the functions of llama.cpp's library."""
    import llama_cpp.llama_cpp as bindings

    library: Any = bindings._lib
    if how == "crashes":
        library.ggml_backend_dev_count = lambda: os.abort()
    elif how == "hangs":
        library.ggml_backend_dev_count = lambda: threading.Event().wait()
    elif how == "reports nothing":
        library.ggml_backend_dev_count = lambda: 0
    elif how == "claims too much memory":
        library.ggml_backend_dev_get_props = claim_too_much
    else:
        raise ValueError(how)


def claim_too_much(device: int, properties: Any) -> None:
    properties.name, properties.description = b"CUDA0", b"Boastful GPU"
    properties.type, properties.memory_total, properties.memory_free = 1, 1 << 30, 2 << 30


# --- devices ---


def offer_devices(sizes: list[int]) -> None:
    import llama_cpp.llama_cpp as bindings

    library: Any = bindings._lib
    if os.environ.get("TEST_DEVICE_LIBRARY"):
        add_devices(library, sizes)
    if ASKS_FOR_DEVICES in sys.orig_argv:
        names = [f"RPC{number}" for number in range(len(sizes))]
        names[0] = os.environ.get("TEST_GPU") or names[0]
        say_sizes(library, dict(zip(names, sizes, strict=True)))


def add_devices(library: Any, sizes: list[int]) -> None:
    """Starts a server for each device, and tells llama.cpp in this process of it."""
    library.ggml_backend_register.argtypes = [ctypes.c_void_p]
    add_server = ctypes.CDLL(os.environ["TEST_DEVICE_LIBRARY"]).ggml_backend_rpc_add_server
    add_server.argtypes, add_server.restype = [ctypes.c_char_p], ctypes.c_void_p
    for _ in sizes:
        backend = add_server(f"127.0.0.1:{start_server()}".encode())
        assert backend, "the device's server does not answer"
        library.ggml_backend_register(backend)


def start_server() -> int:
    """The port of a new device."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    program = Path(__file__).parent.parent / "device_server.py"
    server = subprocess.Popen(
        [sys.executable, program, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _KEPT.append(server)
    pause = threading.Event()
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return port
        except OSError:
            pause.wait(0.01)
    raise RuntimeError("the device's server has ended")


def say_sizes(library: Any, sizes: dict[str, int]) -> None:
    """Of each of these devices only a part of its memory is offered, and another GPU is called something else."""
    get_properties = library.ggml_backend_dev_get_props
    get_properties.argtypes = [ctypes.c_void_p, ctypes.c_void_p]

    def limited(device: int, properties: Any) -> None:
        get_properties(device, ctypes.addressof(properties))
        name = properties.name.decode()
        if name in sizes:
            properties.memory_total = properties.memory_free = sizes[name]
        elif properties.type in GPUS:
            properties.type = ACCELERATOR

    library.ggml_backend_dev_get_props = limited


main()
