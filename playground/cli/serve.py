"""`serve`: the page, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from playground.cli.arguments import port
from playground.cli.output import Report
from playground.machine.ports import check_port
from playground.settings import Settings

if TYPE_CHECKING:
    from playground.cli.arguments import Commands


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("serve", help="open the playground in the browser")
    parser.add_argument("--host", help="the address to listen on (default: PLAYGROUND_HOST, else this computer only)")
    parser.add_argument("--port", type=port, help="the port to listen on (default: PLAYGROUND_PORT, else 7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    """Serves the page with `arguments.serve_page`, which __main__.py hands over: the command line imports no web."""
    chosen = {"host": arguments.host, "port": arguments.port}
    settings = settings.model_copy(update={name: value for name, value in chosen.items() if value is not None})
    check_port(settings.host, settings.port)
    if not arguments.json:
        print("Starting the playground; Ctrl-C ends it.", flush=True)
    arguments.serve_page(settings, open_browser=not arguments.no_browser and has_desktop())
    return Report({"served": True}, "")


def has_desktop() -> bool:
    """Whether a browser window can open here: over SSH or in a container a text browser would take the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
