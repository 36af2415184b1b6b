"""Makes up a GPU for dry runs, so that llama.cpp itself plans a model for a computer that is not here.

In a dry run nothing is computed, so a device needs no more than answers: its name, that its memory is its own, and that
it can compute what a CPU can. Those are given here through ggml's own interface for backends; the rest is borrowed from
the CPU's. Compute buffers are then those of a backend that asks for no memory beside its tensors; a real one may ask
for somewhat more.

The structs follow ggml-backend-impl.h, whose version the CPU's registry tells: with another version nothing is made up.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from playground.llama.devices import DeviceProperties, ggml_function

API_VERSION: Final = 2  # GGML_BACKEND_API_VERSION
_PREFIX: Final = "MadeUp"
_GPU: Final = 1  # ggml-backend.h's number
_MEMORY: Final = 1 << 48  # bytes, as the device tells llama.cpp, which is not asked whether a model fits

_Pointer = ctypes.c_void_p
_Size = ctypes.POINTER(ctypes.c_size_t)


class _BufferType(ctypes.Structure):
    _fields_ = [
        ("get_name", _Pointer),
        ("alloc_buffer", _Pointer),
        ("get_alignment", _Pointer),
        ("get_max_size", _Pointer),
        ("get_alloc_size", _Pointer),
        ("is_host", _Pointer),
        ("device", _Pointer),
        ("context", _Pointer),
    ]


class _DeviceStruct(ctypes.Structure):
    _fields_ = [
        ("get_name", _Pointer),
        ("get_description", _Pointer),
        ("get_memory", _Pointer),
        ("get_type", _Pointer),
        ("get_props", _Pointer),
        ("init_backend", _Pointer),
        ("get_buffer_type", _Pointer),
        ("get_host_buffer_type", _Pointer),
        ("buffer_from_host_ptr", _Pointer),
        ("supports_op", _Pointer),
        ("supports_buft", _Pointer),
        ("offload_op", _Pointer),
        ("event_new", _Pointer),
        ("event_free", _Pointer),
        ("event_synchronize", _Pointer),
        ("reg", _Pointer),
        ("context", _Pointer),
    ]


class _Registry(ctypes.Structure):
    _fields_ = [
        ("api_version", ctypes.c_int),
        ("get_name", _Pointer),
        ("get_device_count", _Pointer),
        ("get_device", _Pointer),
        ("get_proc_address", _Pointer),
        ("context", _Pointer),
    ]


class _Backend(ctypes.Structure):
    _fields_ = [
        ("guid", _Pointer),
        ("get_name", _Pointer),
        ("others", _Pointer * 15),
        ("device", _Pointer),
        ("context", _Pointer),
    ]


_kept_alive: Final[list[Any]] = []  # llama.cpp knows the addresses until the process ends


def made_up_name(number: int = 0) -> str:
    """The name of a made-up GPU: "MadeUp0"."""
    return f"{_PREFIX}{number}"


def is_made_up(name: str) -> bool:
    return name.startswith(_PREFIX)


def make_up_device(name: str) -> int | None:
    """llama.cpp's pointer to a new device of that name, in this process; None if this build has other structs.

    Only for dry runs: a model that were really loaded on it would lie in the computer's memory.
    """
    by_name = ggml_function("backend_dev_by_name", [ctypes.c_char_p], _Pointer)
    cpu_pointer = by_name(b"CPU")
    if not cpu_pointer:
        return None
    cpu = _DeviceStruct.from_address(cpu_pointer)
    if _Registry.from_address(cpu.reg).api_version != API_VERSION:
        return None
    _register(name.encode(), cpu_pointer, cpu)
    found: int | None = by_name(name.encode())
    return found


def _register(name: bytes, cpu_pointer: int, cpu: _DeviceStruct) -> None:
    cpu_memory = ggml_function("backend_cpu_buffer_type", [], _Pointer)()
    buffers = _BufferType.from_buffer_copy(_BufferType.from_address(cpu_memory))
    device = _DeviceStruct.from_buffer_copy(cpu)
    registry = _Registry.from_buffer_copy(_Registry.from_address(cpu.reg))
    text, guid = ctypes.create_string_buffer(name), ctypes.create_string_buffer(16)
    _kept_alive.extend((buffers, device, registry, text, guid))
    name_of = _callback(_Pointer, [_Pointer], lambda _: ctypes.addressof(text))
    address = ctypes.addressof(device)
    init_cpu = ctypes.CFUNCTYPE(_Pointer, _Pointer, _Pointer)(cpu.init_backend)

    def tell_memory(_: int, free: Any, total: Any) -> None:
        free[0] = total[0] = _MEMORY

    def write_properties(_: int, properties: Any) -> None:
        properties[0].name = properties[0].description = name
        properties[0].type, properties[0].memory_free, properties[0].memory_total = _GPU, _MEMORY, _MEMORY

    def init_backend(_: int, parameters: int) -> int:
        pointer: int = init_cpu(cpu_pointer, parameters)
        backend = _Backend.from_address(pointer)
        backend.guid, backend.get_name, backend.device = ctypes.addressof(guid), name_of, address
        return pointer

    buffers.get_name, buffers.is_host, buffers.device = name_of, None, address
    device.get_name = device.get_description = name_of
    device.get_memory = _callback(None, [_Pointer, _Size, _Size], tell_memory)
    device.get_type = _callback(ctypes.c_int, [_Pointer], lambda _: _GPU)
    device.get_props = _callback(None, [_Pointer, ctypes.POINTER(DeviceProperties)], write_properties)
    device.init_backend = _callback(_Pointer, [_Pointer, _Pointer], init_backend)
    device.get_buffer_type = _callback(_Pointer, [_Pointer], lambda _: ctypes.addressof(buffers))
    device.buffer_from_host_ptr = None
    device.supports_buft = _callback(
        ctypes.c_bool, [_Pointer, _Pointer], lambda _, other: other == ctypes.addressof(buffers)
    )
    device.reg = ctypes.addressof(registry)
    registry.get_name = name_of
    registry.get_device_count = _callback(ctypes.c_size_t, [_Pointer], lambda _: 1)
    registry.get_device = _callback(_Pointer, [_Pointer, ctypes.c_size_t], lambda *_: address)
    registry.get_proc_address = _callback(_Pointer, [_Pointer, ctypes.c_char_p], lambda *_: None)
    ggml_function("backend_register", [_Pointer], None)(ctypes.addressof(registry))


def _callback(result: Any, arguments: list[Any], answer: Any) -> int | None:
    function = ctypes.CFUNCTYPE(result, *arguments)(answer)
    _kept_alive.append(function)
    return ctypes.cast(function, _Pointer).value
