"""Making texts that could be gigantic: each function sees what will come out and pays the Budget beforehand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from playground.chat.template.budget import Budget, Refusal

MOST_WIDTH: Final = 1000  # of a padded field, in characters

_WIDTH_METHODS: Final = frozenset({"center", "ljust", "rjust", "zfill"})
# CPython searches backwards, and strips, in the product of both lengths: only short arguments are quick.
_SLOW_METHODS: Final = frozenset({"strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition"})
_LONGEST_SLOW_ARGUMENT: Final = 256


def call_text_method(
    budget: Budget, text: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """A bound method of `text`, after a look at its arguments; the caller pays for the result of the harmless ones."""
    name = getattr(method, "__name__", "")
    budget.step(1 + len(text) // 1000)
    if name in _WIDTH_METHODS:
        check_width(str(args[0]) if args and isinstance(args[0], int) else "")
    if name in _SLOW_METHODS:
        check_search(name, *args, *kwargs.values())
    if name == "join" and len(args) == 1:
        return joined(budget, text, args[0])
    if name == "replace" and not kwargs:
        return replaced(budget, text, *args)
    return method(*args, **kwargs)


def joined(budget: Budget, separator: str, parts: Iterable[Any]) -> str:
    """The parts as one text; unlike str.join it takes what is no text, as Jinja does."""
    pieces: list[Any] = []
    for part in budget.counted(parts):
        budget.text(budget.printed(part) + len(separator))
        pieces.append(part)
    budget.text(sum(len(piece) for piece in pieces if isinstance(piece, str)) + len(separator) * len(pieces))
    return separator.join(piece if isinstance(piece, str) else str(piece) for piece in pieces)


def replaced(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    budget.text(len(text) + times * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def percent_format(budget: Budget, text: str, values: Any) -> str:
    """`'%s %s' % (…)`: the widths and the size of the values are looked at first."""
    fields = re.findall(r"%(?:\([^)]*\))?([^a-zA-Z%]*)", text)
    for field in fields:
        if "*" in field:
            raise Refusal("pads a text to a width that it calculates")
        check_width(field)
    budget.text(len(text) + len(fields) * (budget.printed(values) + MOST_WIDTH))
    return str(text % values)


def check_width(form: str) -> None:
    """Refuses a format, such as `>20` or `%05d`, with a number above MOST_WIDTH."""
    if any(len(width) > 9 or int(width) > MOST_WIDTH for width in re.findall(r"\d+", form)):
        raise Refusal(f"pads a text to more than {MOST_WIDTH} characters")


def check_search(name: str, *arguments: Any) -> None:
    """Refuses what `strip` and the searches from the right could not do in bounded time."""
    longest = max((len(argument) for argument in arguments if isinstance(argument, str)), default=0)
    if longest > _LONGEST_SLOW_ARGUMENT:
        raise Refusal(f"searches with `{name}` for a text of {longest} characters")
