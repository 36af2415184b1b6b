"""Renders the autoescaped Jinja templates in playground/assets/templates/.

A function in web/html/ takes records, works out what is shown, and hands plain values to a template. Only markup that
came out of `render` is passed on unescaped; text of a file, a model or a visitor never is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from playground import text_format
from playground.resources import asset


def with_hint(byte_count: int | None, text: str = "") -> Markup:
    """A size in GB, with the same in GiB as its hint. text: the size as it shall show, if not as usual."""
    hint = text_format.in_gibibytes(byte_count)
    return render("size.html#size", text=text or text_format.gigabytes(byte_count), hint=hint)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(asset("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "about": text_format.about,
        "bits": text_format.bits,
        "count": text_format.count,
        "counted": text_format.counted,
        "day": text_format.day,
        "gigabytes": text_format.gigabytes,
        "gigabytes_with_hint": with_hint,
        "in_gibibytes": text_format.in_gibibytes,
        "percent": text_format.percent,
        "seconds": text_format.seconds,
        "short_tokens": text_format.short_tokens,
        "speed": text_format.speed,
        "speed_range": text_format.speed_range,
    }
    return environment


def render(template: str, **values: Any) -> Markup:
    """The markup of a template, such as "page.html#notice": the macro `notice` of page.html, called with the values.

    Without "#" the whole template is rendered. Raises jinja2.UndefinedError for a value that the template misses.
    """
    return Markup(_renderer(template)(**values))


@cache
def _renderer(template: str) -> Callable[..., str]:
    """The macro, or the whole template. A macro uses nothing but its values, so it can serve every thread."""
    name, _, macro = template.partition("#")
    loaded = _environment().get_template(name)
    return getattr(loaded.module, macro) if macro else loaded.render
