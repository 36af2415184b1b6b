"""What whoever starts the playground should know of the place it runs in: one line in the log for each matter.

Nothing here keeps it from starting: what cannot be kept is told again, on the page, to who wants to keep it.
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


def tell_what_is_amiss(services: Services) -> None:
    """A warning for each folder that takes nothing: what will not work, why, and what to do."""
    for fails, folder, variable in _folders(services):
        error = why_not_writable(folder)
        if error:
            to_do = write_remedy(error, "Allow writing there")
            why = error.strerror or error
            _LOG.warning("%s in %s: %s. %s, or set %s to another folder.", fails, folder, why, to_do, variable)


@contextmanager
def asked_directly(host: str) -> Iterator[None]:
    """This process asks itself, and this computer, past any proxy: Gradio does so at its start, and would fail."""
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


def _folders(services: Services) -> Iterator[tuple[str, Path, str]]:
    """What cannot be kept, in which folder, and the variable that names another one."""
    settings = services.settings
    yield "Votes, made levels and headers of models on the Hub cannot be kept", settings.data_dir, "PLAYGROUND_DATA_DIR"
    if settings.allow_downloads:
        yield "Downloads cannot be kept", services.hub.cache_dir, "HF_HOME"
    yield "Temporary files cannot be kept", Path(tempfile.gettempdir()), "TMPDIR"
