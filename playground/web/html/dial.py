"""Draws the bit dial: a bar for each level of a model, with true bits per weight, size, and where it comes from."""

from __future__ import annotations

import json
from typing import Final

from markupsafe import Markup

from playground.app.compare.dial import Dial, DialStop
from playground.text_format import about, bits, gigabytes, in_gibibytes, share_of_16_bits
from playground.web.html.templates import render

_BAR_PIXELS: Final = 40  # of the largest level
_LEAST_PIXELS: Final = 3
_SLIM_PIXELS: Final = 18


def dial_rows(dial: Dial) -> Markup:
    """The dial's markup; dial.js puts the handles of A and B on it."""
    if not dial.stops:
        text = "Reading the levels of this model …" if not dial.model else "This model has no levels to compare here."
        return render("dial.html#no_dial", text=text)
    largest = max(stop.size for stop in dial.stops)
    return render(
        "dial.html#dial",
        stops=[_drawn(stop, largest) for stop in dial.stops],
        left_out=dial.left_out,
        group=f"Levels of {dial.model_name}, from many bits to few",
    )


def no_dial(text: str) -> Markup:
    """The dial's place with a sentence, such as that two different models are compared."""
    return render("dial.html#no_dial", text=text)


def dial_value(first: str | None, second: str | None) -> str:
    """The levels of A and B as dial.js keeps them."""
    return json.dumps({"a": first or "", "b": second or ""})


def slim_dial_rows(dial: Dial) -> Markup:
    """A dial with one handle above a chat. A model with one level has nothing to choose from."""
    usable = dial.usable_stops
    if len(usable) < 2:
        waiting = "Reading the levels of this model …" if not dial.model else "This model has one level here."
        return render("dial.html#no_dial", text=waiting)
    largest = max(stop.size for stop in usable)
    stops = [_drawn(stop, largest, _SLIM_PIXELS) for stop in usable]
    return render("dial.html#dial", stops=stops, left_out="", group=f"Levels of {dial.model_name}")


def level_value(level: str | None) -> str:
    """The level of a dial with one handle, as dial.js keeps it."""
    return json.dumps({"level": level or ""})


def _drawn(stop: DialStop, largest: int, bar_pixels: int = _BAR_PIXELS) -> dict[str, object]:
    if stop.download:
        mark, where = "↓ download", "can be downloaded: opens it in Models"
    elif stop.is_here:
        mark, where = "✓ on disk", "on this disk"
    else:
        mark, where = f"+ {about(stop.make_seconds).removeprefix('about ')}", f"made here in {about(stop.make_seconds)}"
    size = gigabytes(stop.size)
    share = share_of_16_bits(stop.bits_per_weight)
    origin = f"Made from {stop.made_from}, so it cannot be better." if stop.made_from else ""
    summary = (stop.summary, f"{size} ({in_gibibytes(stop.size)}), {where}.", share, origin)
    return {
        "value": stop.value,
        "download": stop.download,
        "name": stop.name,
        "bits": bits(stop.bits_per_weight),
        "size": size,
        "mark": mark,
        "is_here": stop.is_here,
        "height": max(_LEAST_PIXELS, round(bar_pixels * stop.size / largest)),
        "text": f"{stop.name}, {bits(stop.bits_per_weight)} per weight, {size}, {where}",
        "summary": " ".join(filter(None, summary)),
    }
