"""What Gradio itself keeps of an open page on the server, and its end: session state and uploaded files.

Left alone, Gradio keeps the state of a closed page for an hour and its configuration until thousands of others have
come. A page that only lost its connection reloads when it is back, and then begins a session of its own.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import gradio as gr
from gradio.utils import get_upload_folder

from playground.machine.heap import give_back_free_pages

FORGOTTEN_AFTER_SECONDS: Final = 10.0  # from the closing of a page; what it still had under way has ended by then
MOST_PAGES: Final = 2000  # open at once; beyond that the one that was still for longest loses what it had here
UPLOADS: Final = "uploads"  # in the data folder
_LEFT_BEHIND_SECONDS: Final = 86_400  # an upload so old was left by a run that ended badly
UPLOADS_KEPT: Final = (60, 600)  # looked for so often, removed when so old (seconds): what no event took up


class Closed:
    """Pages that were closed, and programs that have their answer: each is forgotten some seconds later.

    What a page had under way may end only after its closing, and until then Gradio begins to keep things of it anew: it
    has to have been still for half as long. One thread sees to all, and ends when there is nothing left to forget: then
    the memory that so many visits have left in pieces goes back to the system.
    """

    def __init__(self, page: gr.Blocks, seconds: float = FORGOTTEN_AFTER_SECONDS) -> None:
        self._page, self._seconds = page, seconds
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._watcher: threading.Thread | None = None

    def add(self, tab: str) -> None:
        with self._lock:
            self._due[tab] = time.monotonic() + self._seconds
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="closed pages")
                self._watcher.start()

    def _watch(self) -> None:
        while True:
            time.sleep(self._seconds / 10)
            now = time.monotonic()
            with self._lock:
                due = [tab for tab, moment in self._due.items() if moment <= now]
            for tab in due:
                forgotten = forget(self._page, tab, self._seconds / 2)
                with self._lock:
                    if forgotten:
                        self._due.pop(tab, None)
                    else:
                        self._due[tab] = now + self._seconds / 2
            with self._lock:
                if not self._due:
                    self._watcher = None
                    break
        give_back_free_pages()


def forget(page: gr.Blocks, tab: str, unused_seconds: float = 0.0) -> bool:
    """Drop all that Gradio keeps of this page, if it was not used for so long; False if it was, or still is."""
    sessions, queue = page.state_holder, page._queue
    last_used = sessions.time_last_used.get(tab)
    if last_used and (datetime.now() - last_used).total_seconds() < unused_seconds:
        return False
    if any(event.session_hash == tab for event in tuple(queue.event_ids_to_events.values())):
        return False
    with sessions.lock:
        sessions.session_data.pop(tab, None)
        sessions.time_last_used.pop(tab, None)
    queue.pending_event_ids_session.pop(tab, None)
    queue.pending_messages_per_session.pop(tab, None)
    return True


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
