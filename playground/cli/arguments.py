"""The kinds of argument that several commands take; argparse turns a ValueError here into misuse."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def tokens(text: str) -> int:
    """A number of tokens or of anything else that starts at 1; `32k` and `32K` are 32,768."""
    thousands = text[-1:] in "kK" and len(text) > 1
    number = int(text[:-1]) * 1024 if thousands else int(text)
    if not 1 <= number <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return number


def temperature(text: str) -> float:
    """0 for greedy, up to 10."""
    number = float(text)
    if not 0 <= number <= 10:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (always the likeliest token) and 10")
    return number


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (0 to 65535)")
    return number


def seed(text: str) -> int:
    """What llama.cpp takes: 32 bits, of which the highest number means "draw one"."""
    number = int(text)
    if not 0 <= number < (1 << 32) - 1:
        raise argparse.ArgumentTypeError(f"{text} is not a seed (0 to 4294967294)")
    return number
