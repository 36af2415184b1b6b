"""The playground on the command line: `python -m playground COMMAND`; without a command, the page.

One file per command. Each has `add_to`, which describes its arguments, and `run`, which returns a Report. Every command
takes --json and then prints exactly one JSON object. An error is one line on standard error. The exit code is 1 for an
error, 2 for misuse, 130 for Ctrl-C, 143 for SIGTERM. What a command needs is imported when it runs: --help is instant.
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
from typing import Protocol

from playground import __version__
from playground.cli import (
    abilities,
    chat,
    compare,
    download,
    fidelity,
    levels,
    machine,
    measure,
    plan,
    quantize,
    serve,
    speed,
)
from playground.cli.output import Report, print_report
from playground.errors import PlaygroundError
from playground.machine.files import choose_temporary_folder
from playground.settings import Settings, load_settings

COMMANDS = (serve, machine, levels, plan, chat, compare, speed, fidelity, abilities, measure, quantize, download)


class ServePage(Protocol):
    def __call__(self, settings: Settings, *, open_browser: bool) -> None: ...


def run_command(arguments: Sequence[str] | None, serve_page: ServePage) -> int:
    """Runs one command and returns its exit code. Misuse and --help end in argparse's SystemExit.

    arguments: None for those of this process. serve_page: what the command `serve` does, until it is interrupted.
    """
    given = _with_command(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser().parse_args(given, argparse.Namespace(serve_page=serve_page))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without emoji shows "?" instead of failing
    choose_temporary_folder()
    try:
        with _ended_by_sigterm():
            report: Report = parsed.run(parsed, load_settings())
            print_report(report, as_json=parsed.json)
            sys.stdout.flush()
            if report.error:
                raise report.error
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (PlaygroundError, OSError) as error:
        print("playground: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def _with_command(arguments: Sequence[str]) -> Sequence[str]:
    """Without a command, as in `gguf-playground` or `gguf-playground --port 8000`, the page is served."""
    of_the_program = ("-h", "--help", "--version")
    if arguments and (not arguments[0].startswith("-") or arguments[0] in of_the_program):
        return arguments
    return ["serve", *arguments]


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a command as an error does, so that every `with` on the way gives back what it holds.

    Only the main thread can receive signals; in another one nothing changes.
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
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise SystemExit(128 + signal.SIGTERM)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="playground",
        description="Feel what quantization does to a language model. Without a command, the page opens.",
        epilog="MODEL is a path, owner/repo:LEVEL, starter, or starter:LEVEL for a level made here.",
    )
    parser.add_argument("--version", action="version", version=f"GGUF playground {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = command.add_to(commands)
        subparser.add_argument("--json", action="store_true", help="print one JSON object: bytes and seconds")
        subparser.set_defaults(run=command.run)
    return parser
