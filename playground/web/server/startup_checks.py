"""What the operator should know about the place where the playground starts: a line in the log for each problem.

Nothing here prevents a start. What cannot be kept is said again on the page, when somebody wants to keep it.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playground.app.services import Services
from playground.machine.files import why_not_writable, write_remedy

_LOG: Final = logging.getLogger(__name__)
_THIS_COMPUTER: Final = ("localhost", "127.0.0.1", "::1")


def log_startup_problems(services: Services) -> None:
    """A warning for each folder that cannot be written to, and for a setting that is ignored, with the reason."""
    for fails, folder, variable in _folders(services):
        error = why_not_writable(folder)
        if error:
            _LOG.warning(
                "%s in %s: %s. %s, or set %s to another folder.",
                fails, folder, error.strerror or error, write_remedy(error, "Allow writing there"), variable,
            )  # fmt: skip
    settings = services.settings
    if settings.mcp_servers and not settings.offered_mcp_servers:
        _LOG.warning(
            "PLAYGROUND_MCP_SERVERS is ignored: others can reach this page, and MCP servers act with your rights. They "
            "are offered where the page is for this computer alone."
        )


def _folders(services: Services) -> Iterator[tuple[str, Path, str]]:
    """(what cannot be kept, in which folder, the variable that names another one)"""
    settings = services.settings
    yield "Votes, made levels and headers of models on the Hub cannot be kept", settings.data_dir, "PLAYGROUND_DATA_DIR"
    if settings.allow_downloads:
        yield "Downloads cannot be kept", services.hub.cache_dir, "HF_HOME"
    yield "Temporary files cannot be kept", Path(tempfile.gettempdir()), "TMPDIR"


@contextmanager
def no_proxy_to(host: str) -> Iterator[None]:
    """During the `with`, requests to this computer and to the host use no proxy.

    Gradio asks its own server at the start, which a proxy would not find.
    """
    before = os.environ.get("no_proxy")
    others = before if before is not None else os.environ.get("NO_PROXY", "")
    os.environ["no_proxy"] = ",".join(dict.fromkeys(filter(None, (*others.split(","), *_THIS_COMPUTER, host))))
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
