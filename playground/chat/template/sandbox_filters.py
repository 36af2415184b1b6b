"""The filters and tests that chat templates use, each with a cost that is known beforehand.

Knows nothing of what calls them. Jinja's others (wordwrap, urlize, random, attr …) belong to web pages, and some of
them cannot be bounded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from jinja2 import Environment
from jinja2 import filters as jinja_filters
from jinja2 import tests as jinja_tests
from jinja2.filters import make_attrgetter
from jinja2.utils import pass_environment

from playground.chat.template.budget import BUDGET, Refusal, refuse_number
from playground.chat.template.paid_text import check_search, check_width, joined, percent_format, replaced

_MOST_JSON_INDENT: Final = 16
_LONGEST_NUMBER: Final = 1000  # characters


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face's renderer writes it: not escaped for web pages, letters of any alphabet as they are."""
    budget = BUDGET.get()
    width = indent if isinstance(indent, int) else len(indent or "")
    between = sum(len(separator) for separator in separators) if separators else 4
    if width > _MOST_JSON_INDENT or between > _MOST_JSON_INDENT:
        raise Refusal(f"indents JSON by more than {_MOST_JSON_INDENT} characters")
    size = budget.size(value)
    budget.text(size.characters + size.items * (between + size.depth * max(width, 0)))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=bool(sort_keys))


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return joined(BUDGET.get(), str(d), value)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    budget = BUDGET.get()
    if isinstance(width, int):
        check_width(str(width))
    budget.text(len(text) + (1 + len(text.splitlines())) * (width if isinstance(width, int) else len(width)))
    return jinja_filters.do_indent(text, width, first, blank)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replaced(BUDGET.get(), _string(text), str(old), str(new), -1 if count is None else count)


def _trim(text: Any, chars: str | None = None) -> str:
    check_search("trim", chars)
    return jinja_filters.do_trim(_string(text), chars)


def _string(value: Any) -> str:
    BUDGET.get().printed(value)
    return value if isinstance(value, str) else str(value)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > 15:  # the digits of a float
        refuse_number()
    return jinja_filters.do_round(value, precision, method)  # type: ignore[arg-type]


def _int(value: Any, default: int = 0, base: int = 10) -> int:
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        refuse_number()
    return jinja_filters.do_int(value, default, base)


@pass_environment
def _sum(environment: Environment, items: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    """Numbers only: adding up lists copies them again and again."""
    if attribute is not None:
        items = map(make_attrgetter(environment, attribute), items)
    total = start
    for item in items:
        if not (isinstance(item, int | float) and isinstance(total, int | float)):
            raise Refusal("adds up things that are not numbers")
        total = total + item
    return total


def _format(text: Any, *args: Any, **kwargs: Any) -> str:
    return percent_format(BUDGET.get(), _string(text), kwargs or args)


def _prepaid(function: Callable[..., Any], copies: int = 1) -> Callable[..., Any]:
    """A filter that compares or copies all it is given, texts included, up to `copies` times."""
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def prepaid(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        if isinstance(given[place], Iterator):
            given[place] = list(given[place])
        for _ in range(copies):
            BUDGET.get().printed(given[place])
        return function(*given, **kwargs)

    return prepaid


def _jinjas(names: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in names.split():
        yield name, jinja_filters.FILTERS[name]


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    **dict(_jinjas("abs count d default first float items last length list map reject rejectattr reverse safe select")),
    **dict(_jinjas("selectattr")),
    **{name: _prepaid(function) for name, function in _jinjas("dictsort max min sort unique")},
    # Upper case and title case may lengthen a text threefold, escaping fivefold.
    **{name: _prepaid(function, 3) for name, function in _jinjas("capitalize lower title upper")},
    **{name: _prepaid(function, 5) for name, function in _jinjas("e escape")},
    "format": _format,
    "indent": _indent,
    "int": _int,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "string": _string,
    "sum": _sum,
    "tojson": to_json,
    "trim": _trim,
}

TESTS: Final[dict[str, Any]] = {
    name: test for name, test in jinja_tests.TESTS.items() if name not in ("filter", "test")
}
