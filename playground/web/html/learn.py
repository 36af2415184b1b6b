"""The Learn tab's markup: the sections of assets/learn.toml, each with a picture and the tab where it can be tried.

A picture is an SVG file in assets/pictures/. It is put into the page as it is, so its classes take the page's colours,
in dark mode too. The picture of sizes is a template, because its numbers come from the catalogue.
"""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from playground.models.catalog import load_catalog
from playground.resources import asset, read_toml
from playground.web.html.templates import render

TABS: Final = ("chat", "compare", "fit", "models")  # that a section may lead to
_EXAMPLE: Final = "gemma4-12b"
_SIZES_OF: Final = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")


def lesson_page() -> Markup:
    """The whole tab."""
    lesson = read_toml("learn.toml")
    sections = [
        {**section, "picture": picture(section["picture"])} if "picture" in section else section
        for section in lesson["section"]
    ]
    return render("learn.html#lesson", lead=lesson["lead"], sections=sections)


def picture(name: str) -> Markup:
    """The picture of that name as inline SVG."""
    if name == "sizes":
        return _sizes_of_the_example()
    return Markup(asset(f"pictures/{name}.svg").read_text(encoding="utf-8"))


def _sizes_of_the_example() -> Markup:
    """Bars of the sizes at the usual levels, in GB as files are sold."""
    model = next(model for model in load_catalog() if model.id == _EXAMPLE)
    sizes = [(level, model.weight_bytes[level] / 1e9) for level in _SIZES_OF]
    return render("learn.html#sizes", name=model.display_name, sizes=sizes)
