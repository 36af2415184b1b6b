"""The queue of downloads: one at a time, seen by every visitor, outliving tabs and restarts.

State lives here, not in a page: whoever asks sees the same records. What is wanted is noted in a small journal, so that
a new start of the app goes on where the last one ended. How a level is brought is delivery.py's to know.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playground import events
from playground.errors import ModelNotFound, PlaygroundError
from playground.models.file_records import note_downloaded
from playground.models.hub.cache import free_bytes
from playground.models.hub.client import CancelToken, HubClient, TransferCancelled
from playground.models.hub.download_journal import DownloadJournal
from playground.models.hub.headers import HubHeaders
from playground.models.hub.repository import HubLevel
from playground.models.hub.transfer import Transfer
from playground.settings import Settings

State = Literal["queued", "preparing", "checking", "downloading", "waiting", "cancelled", "failed", "done"]
ENDED: Final = ("cancelled", "failed", "done")
SPEED_SECONDS: Final = 4.0  # speed is the mean over so long
FAREWELL_SECONDS: Final = 10.0  # for the download under way to end when the app does

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """One download as it stands, in bytes, bytes per second and seconds; None where a speed cannot be told."""

    id: str
    level: HubLevel
    state: State
    bytes_done: int  # on this disk, from earlier runs too
    bytes_total: int
    speed: float | None = None
    seconds_left: float | None = None
    note: str = ""  # why it waits, or what went wrong, as a sentence
    path: Path | None = None  # of the first shard, once done

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class DownloadQueue:
    """Brings levels one after the other, in a thread of its own; a `with` resource, to be used from any thread."""

    def __init__(
        self,
        settings: Settings,
        hub: HubClient,
        headers: HubHeaders,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[CancelToken, float], None] = CancelToken.wait,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._hub, self._headers, self._clock, self._pause, self._free = hub, headers, clock, pause, free
        self._data_dir = settings.data_dir
        self._journal = DownloadJournal(settings.data_dir)
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, _Job] = {}
        self._closed = False
        self._thread: threading.Thread | None = None
        with self._changed:
            self._take_up()

    @property
    def warning(self) -> str:
        """What a person should know of the queue: that another process has it, or that its journal was damaged."""
        with self._changed:
            return self._journal.warning

    def start_download(self, level: HubLevel) -> str:
        """Put a level at the end of the queue, unless it is under way already; the id of its download.

        Raises RequestRefused where another process has the downloads of this data folder.
        """
        with self._changed:
            if not (self._journal.is_ours or self._closed):  # the other may have ended since
                self._take_up()
            self._journal.check_is_ours()
            job = self._jobs.get(level.key)
            if job is None or job.state in ENDED:
                self._jobs.pop(level.key, None)
                self._add(level)
                self._note_and_tell()
                self._wake()
        return level.key

    def cancel_download(self, id: str) -> None:
        """End a download; what has arrived stays, and `resume` goes on from there."""
        with self._changed:
            self._find(id).cancel()
            self._note_and_tell()

    def resume_download(self, id: str) -> None:
        """Go on with a download that was cancelled or failed."""
        self.start_download(self._find(id).level)

    def forget_download(self, id: str) -> None:
        """Take an ended download off the list, with what had arrived of it. A finished model stays."""
        with self._changed:
            job = self._find(id)
            if job.state not in ENDED:
                raise PlaygroundError("This download is still running.", "Cancel it first.")
            del self._jobs[id]
            if job.state != "done":
                job.delivery.remove_partial_files()
            self._note_and_tell()

    def all_downloads(self) -> tuple[Download, ...]:
        """Every download of this run and every unfinished one of earlier runs, in the order of the queue."""
        with self._changed:
            return tuple(job.record() for job in self._jobs.values())

    def find_download(self, id: str) -> Download:
        with self._changed:
            return self._find(id).record()

    def wait_until(self, id: str, holds: Callable[[Download], bool], timeout_seconds: float | None = None) -> Download:
        """The record once `holds` says so of it, or as it stands when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: holds(self.find_download(id)), timeout_seconds)
            return self.find_download(id)

    def wait_for_end(self, id: str, timeout_seconds: float | None = None) -> Download:
        """The record once the download has ended, in whatever way."""
        return self.wait_until(id, lambda record: record.has_ended, timeout_seconds)

    def close(self) -> None:
        """Stop for now: what is wanted stays in the journal, for the next start.

        A disk that takes no more may hold a download up for ever, but not the end of the app.
        """
        with self._changed:
            self._closed = True
            thread = self._thread
            for job in self._jobs.values():
                job.delivery.stop.cancel()
        if thread is not None:
            thread.join(FAREWELL_SECONDS)
        if thread is None or not thread.is_alive():  # else it may still write
            with self._changed:
                self._journal.release_lock()

    def __enter__(self) -> DownloadQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_up(self) -> None:
        """Go on with what an earlier run left, unless another process is at it."""
        if not self._journal.acquire_lock():
            _LOG.warning("%s", self._journal.warning)
            return
        for level, wish, note in self._journal.read_entries():
            with suppress(PlaygroundError):  # an entry that nothing can be made of
                self._add(level).take_up(wish, note)
        if self._journal.set_aside:
            self._note_and_tell()  # what could be read of it is in the new one at once
        self._wake()

    def _find(self, id: str) -> _Job:
        try:
            return self._jobs[id]
        except KeyError:
            raise ModelNotFound(f"There is no download of {id}.", "Start it again.") from None

    def _add(self, level: HubLevel) -> _Job:
        job = _Job(level, _Meter(self._clock))

        def tell() -> None:
            with self._changed:
                job.meter.see(job.delivery.bytes_received)
                self._changed.notify_all()

        job.delivery = Transfer(self._hub, self._headers, level, tell, pause=self._pause, free=self._free)
        self._jobs[level.key] = job
        return job

    def _wake(self) -> None:
        if self._thread is None and not self._closed and any(job.state == "queued" for job in self._jobs.values()):
            self._thread = threading.Thread(target=self._work, name="downloads", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                job = next((job for job in self._jobs.values() if job.state == "queued"), None)
                if job is None or self._closed:
                    self._thread = None
                    return
                job.state = "running"
            job.run()
            if (path := job.record().path) is not None and job.delivery.bytes_received:
                note_downloaded(self._data_dir, path)
            record = job.record()
            state = "interrupted" if record.state == "cancelled" and job.wish == "wanted" else record.state
            events.download_ended(record.level.reference, state, job.delivery.bytes_received, record.note)
            with self._changed:
                self._note_and_tell()

    def _note_and_tell(self) -> None:
        unfinished = (job for job in self._jobs.values() if job.state != "done")
        self._journal.write_entries((job.level, job.wish, job.note) for job in unfinished)
        self._changed.notify_all()


class _Job:
    """A level in the queue: how far its delivery is, or how it ended."""

    delivery: Transfer

    def __init__(self, level: HubLevel, meter: _Meter) -> None:
        self.level, self.meter = level, meter
        self.state: Literal["queued", "running", "cancelled", "failed", "done"] = "queued"
        self.note = ""
        self._is_unwanted = False
        self._path: Path | None = None

    @property
    def wish(self) -> str:
        """What the journal says: what a person did not cancel, and the Hub did not refuse, is to go on."""
        return "cancelled" if self._is_unwanted else "failed" if self.state == "failed" else "wanted"

    def take_up(self, wish: str, note: str) -> None:
        """Stand as the journal says that the job stood."""
        self.note = note
        if wish == "cancelled":
            self.state, self._is_unwanted = "cancelled", True
        elif wish == "failed":
            self.state = "failed"

    def cancel(self) -> None:
        if self.state in ENDED:
            return
        self._is_unwanted = True
        if self.state == "queued":
            self.state = "cancelled"
        self.delivery.stop.cancel()  # the thread sees to the rest

    def run(self) -> None:
        """Bring the level; every way of ending becomes a state."""
        try:
            self._path = self.delivery.download_level()
            self.state = "done"
        except TransferCancelled:
            self.state = "cancelled"
        except PlaygroundError as error:
            self.state, self.note = "failed", str(error)
        except Exception as error:  # the queue goes on, whatever one download meets
            self.state, self.note = "failed", f"The download ended with an unexpected error ({error!r}). Report it."

    def record(self) -> Download:
        delivery, total = self.delivery, self.level.size
        done = total if self.state == "done" else delivery.bytes_done
        state: State = delivery.stage if self.state == "running" else self.state
        note = delivery.note if self.state == "running" else self.note
        speed = self.meter.speed(delivery.bytes_received) if state == "downloading" else None
        left = (total - done) / speed if speed else None
        return Download(self.level.key, self.level, state, done, total, speed, left, note, self._path)


class _Meter:
    """The speed of a growing count: its mean over the last seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, count: int) -> None:
        """Take note of the count, as often as one likes."""
        now = self._clock()
        if not self._seen or now - self._seen[-1][0] >= SPEED_SECONDS / 16:
            self._seen.append((now, count))
        self._forget_before(now - SPEED_SECONDS)

    def speed(self, count: int) -> float | None:
        """Bytes per second, given that there are `count` by now; None where nothing came in the last seconds."""
        now = self._clock()
        self._forget_before(now - SPEED_SECONDS)
        then, before = self._seen[0] if self._seen else (now, count)
        return (count - before) / (now - then) if now > then and count > before else None

    def _forget_before(self, moment: float) -> None:
        """Let go of what was seen before the moment, but for the last of it."""
        while len(self._seen) > 1 and self._seen[1][0] <= moment:
            self._seen.popleft()
