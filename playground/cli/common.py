"""The kinds of argument that several commands take; argparse turns a ValueError here into misuse."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


LARGEST_CONTEXT: Final = 1 << 24  # tokens; beyond every model, and llama.cpp's own bookkeeping takes 1 GB for it


def tokens(text: str) -> int:
    """A number of tokens, up to the largest context; `32k` and `32K` are 32,768."""
    thousands = text[-1:] in "kK" and len(text) > 1
    return _between(1, int(text[:-1]) * 1024 if thousands else int(text), LARGEST_CONTEXT)


def slots(text: str) -> int:
    """Chats at once, as many as llama.cpp has sequences."""
    return _between(1, int(text), 64)


def repeats(text: str) -> int:
    return _between(1, int(text), 1000)


def port(text: str) -> int:
    return _between(0, int(text), 65535)


def seed(text: str) -> int:
    """What llama.cpp takes: 32 bits, of which the highest number means "draw one"."""
    return _between(0, int(text), (1 << 32) - 2)


def temperature(text: str) -> float:
    """0 for greedy, up to 10."""
    number = float(text)
    if not 0 <= number <= 10:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (always the likeliest token) and 10")
    return number


def _between(least: int, number: int, most: int) -> int:
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
    return number
