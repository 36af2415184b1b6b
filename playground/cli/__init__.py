"""The playground on the command line: `python -m playground COMMAND`.

One file per command; each has `add_to`, which describes its arguments, and `run`, which returns a Report. Every command
takes --json and then prints exactly one JSON object. Errors are one line on standard error, and the exit code is 1 for
what went wrong, 2 for misuse, 130 for Ctrl-C, 143 for SIGTERM. What a command needs is imported when it runs, so that
--help is instant.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from playground import __version__
from playground.cli import chat, compare, download, fidelity, levels, machine, plan, quantize, serve, speed
from playground.cli.output import Report, show
from playground.errors import PlaygroundError
from playground.machine.files import choose_temporary_folder
from playground.settings import load_settings

COMMANDS = (serve, machine, levels, plan, chat, compare, speed, fidelity, quantize, download)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; misuse and --help end in argparse's SystemExit."""
    parsed = build_parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without emoji shows "?" instead of failing
    choose_temporary_folder()
    try:
        with _ended_by_sigterm():
            report: Report = parsed.run(parsed, load_settings())
            show(report, as_json=parsed.json)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (PlaygroundError, OSError) as error:
        print("playground: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a command as an error does, so that every `with` on the way gives back what it holds.

    A thread other than the main one hears no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the tidying short
    raise SystemExit(128 + signal.SIGTERM)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="playground",
        description="Feel what quantization does to a language model.",
        epilog="MODEL is a path, owner/repo:LEVEL, starter, or starter:LEVEL for a level made here.",
    )
    parser.add_argument("--version", action="version", version=f"GGUF playground {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = command.add_to(commands)
        subparser.add_argument("--json", action="store_true", help="print one JSON object: bytes and seconds")
        subparser.set_defaults(run=command.run)
    return parser
