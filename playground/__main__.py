"""`python -m playground` and `gguf-playground`: the command line, and the page for its command `serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from playground.cli import run_command
from playground.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Misuse and --help end in argparse's SystemExit."""
    return run_command(arguments, _serve_page)


def _serve_page(settings: Settings, *, open_browser: bool) -> None:
    from playground.web.app import launch  # not before it is needed: Gradio takes seconds to import

    launch(settings, open_browser=open_browser)


if __name__ == "__main__":
    sys.exit(main())
