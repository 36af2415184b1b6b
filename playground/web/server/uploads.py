"""What comes up from a browser: where its files lie on this computer, and their end.

Gradio writes each upload down before any event hears of it, and keeps it until nothing asked for it for a time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gradio.utils import get_upload_folder

UPLOADS: Final = "uploads"  # in the data folder
UPLOADS_KEPT: Final = (60, 600)  # looked for so often, removed when so old (seconds): what no event took up
_LEFT_BEHIND_SECONDS: Final = 86_400  # an upload so old was left by a run that ended badly


@contextmanager
def uploads_in(folder: Path) -> Iterator[None]:
    """Let uploads come to lie in this folder, on the disk where model files stay: these are then moved, not copied.

    Gradio's own place may be in memory. Where GRADIO_TEMP_DIR names one, that is kept.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        yield
        return
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        for left in folder.glob("*"):
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    except OSError:  # it is tried again at the next start
        pass
    try:
        yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]


def discard_upload(path: str | Path) -> None:
    """Remove an uploaded file that was read; of a file that is no upload nothing is touched."""
    file = Path(path).resolve()
    if is_upload(file):
        with suppress(OSError):
            file.unlink()
            file.parent.rmdir()


def is_upload(path: str | Path) -> bool:
    """Whether the file came with an upload, and lies nowhere else, through links either."""
    return Path(get_upload_folder()).resolve() in Path(path).resolve().parents
