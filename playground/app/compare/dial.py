"""The bit dial: the levels of one model that really differ, with what each takes and where it comes from.

A level that could be made here but would mostly fall back to larger types is left out, with one line on why: a file
named Q2_K of a model whose rows do not divide by 256 holds five bits per weight.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from playground.app.model_picker.choice import LevelRow
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.gguf.levels import find_level, nominal_bits
from playground.quantize.quantize import QuantizedSize

MOST_STOPS: Final = 8
_FALLBACKS: Final = 0.25  # a level is left out if more than this share of its tensors would get another type
_COVERED: Final[Mapping[str, str]] = {"Q4_0": "Q4_K_M", "IQ4_NL": "Q4_K_M"}  # levels that a better one stands for
_LEAST_USABLE_BITS: Final = 2.5  # below, llama.cpp's levels are for models that were trained for them
_REFERENCE: Final = "Q8_0"  # the only level above its source that stands on the dial: the reference for all below

Side = Literal["a", "b"]


@dataclass(frozen=True)
class DialStop:
    """One level. value: as the pickers know it; size in bytes.

    make_seconds: about how long it takes to make here; None for a file on this disk. made_from: the level that it was
    or would be made from, "" for a file as it was published. download: the reference by which a level that is not here
    can be downloaded, such as `owner/repo:Q8_0`; A and B cannot stand there yet.
    """

    value: str
    name: str
    size: int
    bits_per_weight: float | None
    summary: str
    make_seconds: float | None = None
    made_from: str = ""
    download: str = ""

    @property
    def is_here(self) -> bool:
        return self.make_seconds is None and not self.download


@dataclass(frozen=True)
class Dial:
    """The stops from large to small. left_out: why usual levels are not among them, in a sentence, or ""."""

    model: str = ""
    model_name: str = ""
    stops: tuple[DialStop, ...] = ()
    left_out: str = ""

    @property
    def usable_stops(self) -> tuple[DialStop, ...]:
        """Those that can answer here."""
        return tuple(stop for stop in self.stops if not stop.download)

    def find_stop(self, value: str | None) -> DialStop | None:
        return next((stop for stop in self.usable_stops if stop.value == value), None)

    def stop_below(self, value: str | None) -> DialStop | None:
        """The next stop with fewer bits; None for the last."""
        stops = self.usable_stops
        places = [place for place, stop in enumerate(stops) if stop.value == value]
        return stops[places[0] + 1] if places and places[0] + 1 < len(stops) else None


class DialService:
    """Makes the dial of each model on this disk."""

    def __init__(self, services: Services, picker: ModelPickerService) -> None:
        self._picker = picker
        self._library = services.library
        self._listings = services.listings if services.settings.allow_downloads else None
        self._jobs = services.quantization_jobs if services.settings.allow_quantize else None

    def dial_of(self, model: str | None) -> Dial:
        """The dial of a model; without stops for one that is not on this disk. Takes half a second the first time."""
        files = self._library.models().get(model or "", [])
        if model is None or not files:
            return Dial(model or "")
        rows = self._picker.level_rows(model)
        sizes = list(self._jobs.makeable_levels(model).values()) if self._jobs else []
        offered = levels_that_differ(sizes, [row.name for row in rows])
        origins = {file.level: file.requantized_from or "" for file in files}
        stops = [_stop_of_row(row, origins.get(row.name, "")) for row in rows]
        stops += [self._stop_of_size(size) for size in offered]
        left_out = {size.level for size in sizes if not _is_honest(size)}  # a published file of them is no better
        stops += [stop for stop in self._stops_to_download(model, stops, rows) if stop.name not in left_out]
        return Dial(model, files[0].display_name, _most_apart(stops), _left_out_sentence(sizes))

    def _stops_to_download(self, model: str, stops: Sequence[DialStop], here: Sequence[LevelRow]) -> list[DialStop]:
        """The other levels of the repositories from which the model's files came, as far as these were opened here."""
        measured = next((row for row in here if row.bits_per_weight), None)
        if self._listings is None or measured is None or measured.bits_per_weight is None:
            return []
        names = {stop.name for stop in stops}
        repos = sorted({file.repo for file in self._library.models().get(model, ()) if file.repo})
        found = {}
        for one in (one for repo in repos for one in self._listings.levels(repo, model)):
            known = find_level(one.level)
            if known and one.level not in names:
                bits = measured.bits_per_weight * one.size / measured.size  # of the same weights
                found[one.level] = DialStop(
                    one.reference, one.level, one.size, bits, known.summary, download=one.reference
                )
        return list(found.values())

    def _stop_of_size(self, size: QuantizedSize) -> DialStop:
        level = find_level(size.level)
        seconds = self._jobs.seconds_to_make(size) if self._jobs else 0.0
        summary = level.summary if level else ""
        origin = size.requantized_from or ""
        return DialStop(size.level, size.level, size.size, size.bits_per_weight, summary, seconds, origin)


def opening_pair(dial: Dial) -> tuple[str | None, str | None]:
    """The levels with which a page opens; four bits are one of them wherever the dial has them.

    A file of eight bits or more beside four bits shows that four are enough; where four bits are the best on this disk,
    they stand beside fewer, which are not. A model with no honest level in between opens on a Q8_0 beside four bits.
    """
    stops = dial.usable_stops
    if not stops:
        return None, None
    published = [stop for stop in stops if stop.is_here and not stop.made_from]
    four = sorted(
        (stop for stop in stops if 4 <= nominal_bits(stop.name) < 5.5),
        key=lambda stop: (stop not in published, stop.size),
    )
    high = next((stop for stop in published if nominal_bits(stop.name) >= 8), None)
    below = [stop for stop in stops if _LEAST_USABLE_BITS <= nominal_bits(stop.name) < 4]
    reference = dial.find_stop(_REFERENCE)
    if high and four:
        return high.value, four[0].value
    if four and four[0] in published and below:
        return four[0].value, below[-1].value
    made = [stop for stop in four if stop not in published]
    if reference and made:
        return reference.value, made[0].value
    return stops[0].value, stops[-1].value


def read_dial(text: object) -> dict[Side, str]:
    """The levels that a browser sent as A and B, such as `{"a": "Q8_0", "b": "Q4_0"}`; without what is no text."""
    sent = _read_object(text)
    sides: tuple[Side, ...] = ("a", "b")
    return {side: sent[side] for side in sides if isinstance(sent.get(side), str) and sent[side]}


def read_level(text: object) -> str | None:
    """The level that a browser sent from a dial with one handle, such as `{"level": "Q8_0"}`."""
    level = _read_object(text).get("level")
    return level if isinstance(level, str) and level else None


def read_download(text: object) -> str:
    """The reference of the level that was pressed to be downloaded, such as `owner/repo:Q8_0`; "" for none."""
    reference = _read_object(text).get("download")
    return reference if isinstance(reference, str) else ""


def _read_object(text: object) -> dict[str, Any]:
    try:
        sent = json.loads(text) if isinstance(text, str) and len(text) < 1000 else None
    except (ValueError, RecursionError):
        return {}
    return sent if isinstance(sent, dict) else {}


def levels_that_differ(sizes: Sequence[QuantizedSize], here: Iterable[str]) -> list[QuantizedSize]:
    """Of the levels that can be made, those that are worth it: each holds what its name says, and no better one stands
    for it. here: the levels on this disk."""
    honest = [size for size in sizes if _is_honest(size)]
    names = {*here, *(size.level for size in honest)}
    return [size for size in honest if _COVERED.get(size.level) not in names and _is_worth_making(size)]


def _is_honest(size: QuantizedSize) -> bool:
    """Whether most tensors get the type that the level is named after."""
    return len(size.fallbacks) <= _FALLBACKS * size.tensor_count


def _is_worth_making(size: QuantizedSize) -> bool:
    """Whether the level has fewer bits than the file that it would be made from, or is the usual reference."""
    source = size.requantized_from
    return source is None or size.level == _REFERENCE or nominal_bits(size.level) < nominal_bits(source)


def _stop_of_row(row: LevelRow, made_from: str) -> DialStop:
    return DialStop(row.value, row.value, row.size, row.bits_per_weight, row.summary, made_from=made_from)


def _most_apart(stops: Sequence[DialStop]) -> tuple[DialStop, ...]:
    """From large to small; of too many, those that could be made and are nearest in size to another are left out."""
    kept = sorted(stops, key=lambda stop: (-stop.size, stop.name))
    while len(kept) > MOST_STOPS:
        removable = [place for place, stop in enumerate(kept) if not stop.is_here and 0 < place < len(kept) - 1]
        if not removable:
            break
        nearest = min(removable, key=lambda place: kept[place - 1].size / kept[place + 1].size)
        del kept[nearest]
    return tuple(kept)


def _left_out_sentence(sizes: Sequence[QuantizedSize]) -> str:
    left_out = [size for size in sizes if not _is_honest(size)]
    if not left_out:
        return ""
    fallback = left_out[0].fallbacks[0]
    names = [size.level for size in left_out]
    smallest = min(size.bits_per_weight for size in left_out)
    rows = f"this model’s rows of {fallback.row_length} weights are not a multiple of {fallback.divisor}"
    if len(names) == 1:
        return f"{names[0]} is left out: {rows}, so it would average {smallest:.1f} bits."
    return f"{names[-1]} to {names[0]} are left out: {rows}, so even the smallest would average {smallest:.1f} bits."
