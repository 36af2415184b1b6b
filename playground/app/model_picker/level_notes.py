"""What people should know of the levels on this disk beyond their names: sentences, the same on every front end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playground.app.model_picker.choice import experts_note
from playground.errors import PlaygroundError
from playground.gguf.header import GgufHeader
from playground.gguf.tensors import TensorType
from playground.llama.cpu_kernels import kernel_of, speed_note
from playground.measure.forecast import SpeedForecaster
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.quantize.quantize import level_note
from playground.text_format import speed as speed_text

CLEARLY_SLOWER: Final = 0.9  # of another level's speed; the two may have been measured on different days


@dataclass(frozen=True)
class LevelSpeed:
    """What decides whether a level is slower than a larger one. measured: tokens per second on this processor."""

    level: str
    bits_per_weight: float
    main_type: TensorType
    measured: float | None = None


def speed_notes(levels: Sequence[LevelSpeed]) -> list[str | None]:
    """For each level of one model: that it is slower than one with more bits; None where fewer bits are faster, too.

    What was measured on this computer decides; where it was not, whether llama.cpp has a fast kernel.
    """
    return [_speed_note(level, levels) for level in levels]


def _speed_note(level: LevelSpeed, levels: Sequence[LevelSpeed]) -> str | None:
    larger = [(one.measured, one) for one in levels if one.measured and one.bits_per_weight > level.bits_per_weight]
    if level.measured and larger:
        speed, faster = max(larger, key=lambda pair: pair[0])
        if level.measured < CLEARLY_SLOWER * speed:
            return (
                f"Slower here than {faster.level}, which has more bits: {speed_text(level.measured)} and "
                f"{speed_text(speed)}, measured on this computer."
            )
        if any(kernel_of(one.main_type) == "repacked" for _, one in larger):
            return None  # as fast as a level that has a fast kernel
    return speed_note(level.main_type)


def notes_of_files(
    files: Iterable[ModelFile], library: Library, forecaster: SpeedForecaster | None
) -> dict[Path, tuple[str, ...]]:
    """The sentences on each file, by its path; files of one model are compared with each other."""
    headers = {file: header for file in files if (header := _header(library, file))}
    notes: dict[Path, tuple[str, ...]] = {}
    for base_name in dict.fromkeys(file.base_name for file in headers):
        of_model = [file for file in headers if file.base_name == base_name]
        levels = [_level_speed(file, headers[file], forecaster) for file in of_model]
        for file, slower in zip(of_model, speed_notes(levels), strict=True):
            header = headers[file]
            origin = level_note(file.level, file.requantized_from, header.bits_per_weight)
            notes[file.path] = tuple(filter(None, (origin, experts_note(file.level, header), slower)))
    return notes


def _level_speed(file: ModelFile, header: GgufHeader, forecaster: SpeedForecaster | None) -> LevelSpeed:
    measured = forecaster.measured_speed(file.path) if forecaster else None
    return LevelSpeed(file.level, header.bits_per_weight, header.main_type, measured)


def _header(library: Library, file: ModelFile) -> GgufHeader | None:
    try:
        return library.whole_header(file)
    except (PlaygroundError, OSError):  # it changed since it was listed
        return None
