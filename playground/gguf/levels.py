"""The table of quantization levels: how many bits a weight takes, in which order, in plain words.

Knows levels by name and by llama.cpp's number, nothing of files. Bits per weight are nominal, those of a large model:
what a given file really takes is header.py's to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Level:
    """One quantization level: llama.cpp's LLAMA_FTYPE number, nominal bits per weight, one sentence for anyone."""

    name: str
    file_type: int | None
    bits_per_weight: float
    summary: str


LEVELS: Final[tuple[Level, ...]] = (
    Level("Q4_K_M", 15, 4.89, "x"),
    Level("Q4_1", 3, 5.0, "x"),
)

_BY_FILE_TYPE: Final = {level.file_type: level for level in LEVELS if level.file_type is not None}


def level_of_file_type(number: int) -> Level | None:
    """The level that a header's general.file_type stands for; None for a number that llama.cpp does not know."""
    return _BY_FILE_TYPE.get(number)
