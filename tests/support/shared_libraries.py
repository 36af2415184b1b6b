"""Which shared libraries a file wants of its system, read from the ELF file itself."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

_DYNAMIC, _LOAD = 2, 1  # types of program headers
_NEEDED, _STRINGS, _END = 1, 5, 0  # tags of the dynamic section
_HEADER: Final = struct.Struct("<QQIHHHHHH")  # phoff … shstrndx, from byte 32 of a 64-bit file
_PROGRAM: Final = struct.Struct("<IIQQQQQQ")


def needed_libraries(path: Path) -> list[str]:
    """`["libgomp.so.1", "libc.so.6"]`; [] for what is no 64-bit ELF file, as on macOS."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    start, _, _, _, size, count, *_ = _HEADER.unpack_from(data, 32)
    headers = [_PROGRAM.unpack_from(data, start + size * number) for number in range(count)]
    loads = [(address, offset) for kind, _, offset, address, *_ in headers if kind == _LOAD]
    dynamic = next((offset for kind, _, offset, *_ in headers if kind == _DYNAMIC), None)
    if dynamic is None:
        return []
    entries: list[tuple[int, int]] = []
    for tag, value in struct.iter_unpack("<qQ", data[dynamic : dynamic + (len(data) - dynamic) // 16 * 16]):
        if tag == _END:
            break
        entries.append((tag, value))
    strings = next(value for tag, value in entries if tag == _STRINGS)
    base = max((address, offset) for address, offset in loads if address <= strings)
    table = strings - base[0] + base[1]
    names = (data[table + value : data.index(b"\0", table + value)] for tag, value in entries if tag == _NEEDED)
    return [name.decode() for name in names]
