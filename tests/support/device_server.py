"""A device for tests: ggml's own RPC server on loopback, on which the CPU computes as if it were a GPU.

`python device_server.py PORT` serves one process, until its standard input ends. TEST_DEVICE_LIBRARY names ggml's RPC
backend (scripts/device_library.py); nothing but the standard library is imported, so that it starts at once.
TEST_DEVICE_ROOM: so many MiB can be allocated on it, whatever it is said to have.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_CPU: Final = 0  # ggml-backend.h's enum ggml_backend_dev_type


def main(port: int) -> None:
    threading.Thread(target=_end_with_input, daemon=True).start()
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.submodule_search_locations
    (folder,) = spec.submodule_search_locations
    ggml = ctypes.CDLL(str(next(path for path in Path(folder, "lib").iterdir() if path.stem == "libggml")))
    rpc = ctypes.CDLL(os.environ["TEST_DEVICE_LIBRARY"])
    ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    cpu = (ctypes.c_void_p * 1)(ggml.ggml_backend_dev_by_type(_CPU))
    rpc.ggml_backend_rpc_start_server.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p,
    ]  # fmt: skip
    if room := os.environ.get("TEST_DEVICE_ROOM"):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = mapped + (int(room) << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    rpc.ggml_backend_rpc_start_server(f"127.0.0.1:{port}".encode(), None, 1, 1, cpu)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
