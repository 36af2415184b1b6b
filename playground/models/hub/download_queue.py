"""The queue of downloads: one at a time, the same for all visitors, independent of tabs and restarts.

Unfinished downloads are kept in a journal on disk, and the next start of the app goes on with them.
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
from playground.machine.files import free_disk_bytes
from playground.models.file_records import record_download
from playground.models.hub.client import CancelToken, HubClient, TransferCancelled
from playground.models.hub.download_journal import DownloadJournal, JournalEntry
from playground.models.hub.headers import HubHeaders
from playground.models.hub.repository import HubLevel
from playground.models.hub.transfer import Transfer
from playground.settings import Settings

DownloadState = Literal["queued", "preparing", "checking", "downloading", "waiting", "cancelled", "failed", "done"]
ENDED: Final = ("cancelled", "failed", "done")
SPEED_SECONDS: Final = 4.0  # the speed is the mean over this time
CLOSE_SECONDS: Final = 10.0  # for the running download to end when the app does

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """One download as it is now. Sizes in bytes, speed in bytes per second; None while a speed is not known."""

    id: str
    level: HubLevel
    state: DownloadState
    bytes_done: int  # on this disk, from earlier runs as well
    bytes_total: int
    speed: float | None = None
    seconds_left: float | None = None
    note: str = ""  # why it waits, or why it failed
    path: Path | None = None  # of the first shard, when done

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class DownloadQueue:
    """Downloads levels one after the other in its own thread. A `with` resource; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        hub: HubClient,
        headers: HubHeaders,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[CancelToken, float], None] = CancelToken.wait,
        free: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        self._hub, self._headers, self._clock, self._pause, self._free = hub, headers, clock, pause, free
        self._data_dir = settings.data_dir
        self._journal = DownloadJournal(settings.data_dir)
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, _DownloadJob] = {}
        self._closed = False
        self._last_speed: float | None = None
        self._thread: threading.Thread | None = None
        with self._changed:
            self._restore_downloads()

    @property
    def warning(self) -> str:
        """What people should know: that another process owns the queue, or that its journal was damaged; else ""."""
        with self._changed:
            return self._journal.warning

    @property
    def last_speed(self) -> float | None:
        """Bytes per second of the download that runs, else of the last one, as in an earlier run; None before any."""
        return self._last_speed

    def start_download(self, level: HubLevel) -> str:
        """Put a level at the end of the queue, unless it is there already. Returns the id of its download.

        Raises RequestRefused if another process owns the downloads of this data folder.
        """
        with self._changed:
            if not (self._journal.is_ours or self._closed):  # the other process may have ended since
                self._restore_downloads()
            self._journal.check_is_ours()
            job = self._jobs.get(level.key)
            if job is None or job.state in ENDED:
                self._jobs.pop(level.key, None)
                self._add(level)
                self._save_and_notify()
                self._start_thread()
        return level.key

    def cancel_download(self, id: str) -> None:
        """Cancel a download; received bytes stay, and `resume_download` goes on from there."""
        with self._changed:
            self._find(id).cancel_transfer()
            self._save_and_notify()

    def resume_download(self, id: str) -> None:
        """Queue a cancelled or failed download again."""
        self.start_download(self._find(id).level)

    def forget_download(self, id: str) -> None:
        """Remove an ended download from the list, and what has arrived of an incomplete one. A complete model stays."""
        with self._changed:
            job = self._find(id)
            if job.state not in ENDED:
                raise PlaygroundError("This download is still running.", "Cancel it first.")
            del self._jobs[id]
            if job.state != "done":
                job.transfer.remove_partial_files()
            self._save_and_notify()

    def all_downloads(self) -> tuple[Download, ...]:
        """Every download of this run, and every unfinished one of earlier runs, in the order of the queue."""
        with self._changed:
            return tuple(job.record() for job in self._jobs.values())

    def find_download(self, id: str) -> Download:
        with self._changed:
            return self._find(id).record()

    def wait_until(
        self, id: str, condition: Callable[[Download], bool], timeout_seconds: float | None = None
    ) -> Download:
        """Wait until the download meets the condition, or the time is over. Returns it as it is then."""
        with self._changed:
            self._changed.wait_for(lambda: condition(self.find_download(id)), timeout_seconds)
            return self.find_download(id)

    def wait_for_end(self, id: str, timeout_seconds: float | None = None) -> Download:
        """Wait until the download is done, failed or cancelled, or the time is over."""
        return self.wait_until(id, lambda record: record.has_ended, timeout_seconds)

    def close(self) -> None:
        """Stop the running download; unfinished ones stay in the journal for the next start.

        A download that hangs, such as on a network disk, does not keep the app from ending.
        """
        with self._changed:
            self._closed = True
            thread = self._thread
            for job in self._jobs.values():
                job.transfer.cancel.cancel()
        if thread is not None:
            thread.join(CLOSE_SECONDS)
        if thread is None or not thread.is_alive():  # else it may still write the journal
            with self._changed:
                self._journal.release_lock()

    def __enter__(self) -> DownloadQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _restore_downloads(self) -> None:
        """Queue what an earlier run left unfinished, unless another process owns it."""
        if not self._journal.acquire_lock():
            _LOG.warning("%s", self._journal.warning)
            return
        self._last_speed = self._last_speed or self._journal.read_speed()
        for entry in self._journal.read_entries():
            with suppress(PlaygroundError):  # an entry with impossible names
                self._add(entry.level).restore_state(entry)
        if self._journal.damage_note:
            self._save_and_notify()  # write the new journal at once, with what could be read of the damaged one
        self._start_thread()

    def _find(self, id: str) -> _DownloadJob:
        try:
            return self._jobs[id]
        except KeyError:
            raise ModelNotFound(f"There is no download of {id}.", "Start it again.") from None

    def _add(self, level: HubLevel) -> _DownloadJob:
        def on_change() -> None:
            with self._changed:
                self._last_speed = job.meter.add_sample(job.transfer.bytes_received) or self._last_speed
                self._changed.notify_all()

        transfer = Transfer(self._hub, self._headers, level, on_change, pause=self._pause, free=self._free)
        job = _DownloadJob(level, transfer, _SpeedMeter(self._clock))
        self._jobs[level.key] = job
        return job

    def _start_thread(self) -> None:
        if self._thread is None and not self._closed and any(job.state == "queued" for job in self._jobs.values()):
            self._thread = threading.Thread(target=self._run_jobs, name="downloads", daemon=True)
            self._thread.start()

    def _run_jobs(self) -> None:
        while True:
            with self._changed:
                job = next((job for job in self._jobs.values() if job.state == "queued"), None)
                if job is None or self._closed:
                    self._thread = None
                    return
                job.state = "running"
            job.run_transfer()
            record = job.record()
            if record.path is not None and job.transfer.bytes_received:
                record_download(self._data_dir, record.path)
            interrupted = record.state == "cancelled" and not job.is_unwanted  # by the end of the app
            state = "interrupted" if interrupted else record.state
            events.download_ended(record.level.reference, state, job.transfer.bytes_received, record.note)
            with self._changed:
                if self._last_speed and job.transfer.bytes_received:
                    self._journal.write_speed(self._last_speed)
                self._save_and_notify()

    def _save_and_notify(self) -> None:
        self._journal.write_entries(job.journal_entry() for job in self._jobs.values() if job.state != "done")
        self._changed.notify_all()


class _DownloadJob:
    """A level in the queue, with its transfer and how that ended."""

    def __init__(self, level: HubLevel, transfer: Transfer, meter: _SpeedMeter) -> None:
        self.level, self.transfer, self.meter = level, transfer, meter
        self.state: Literal["queued", "running", "cancelled", "failed", "done"] = "queued"
        self.note = ""
        self.is_unwanted = False  # cancelled by a person
        self._path: Path | None = None

    def journal_entry(self) -> JournalEntry:
        """A restart goes on with what a person did not cancel and the Hub did not refuse."""
        state: Literal["wanted", "cancelled", "failed"] = "failed" if self.state == "failed" else "wanted"
        return JournalEntry(level=self.level, state="cancelled" if self.is_unwanted else state, note=self.note)

    def restore_state(self, entry: JournalEntry) -> None:
        self.note = entry.note
        self.is_unwanted = entry.state == "cancelled"
        self.state = "queued" if entry.state == "wanted" else entry.state

    def cancel_transfer(self) -> None:
        if self.state in ENDED:
            return
        self.is_unwanted = True
        if self.state == "queued":
            self.state = "cancelled"
        self.transfer.cancel.cancel()  # a running one ends in the queue's thread

    def run_transfer(self) -> None:
        """Download the level; every way of ending becomes a state."""
        try:
            self._path = self.transfer.download_level()
            self.state = "done"
        except TransferCancelled:
            self.state = "cancelled"
        except PlaygroundError as error:
            self.state, self.note = "failed", str(error)
        except Exception as error:  # the queue goes on with the next one
            self.state, self.note = "failed", f"The download ended with an unexpected error ({error!r}). Report it."

    def record(self) -> Download:
        transfer, total = self.transfer, self.level.size
        done = total if self.state == "done" else transfer.bytes_done
        state: DownloadState = transfer.stage if self.state == "running" else self.state
        note = transfer.note if self.state == "running" else self.note
        speed = self.meter.speed(transfer.bytes_received) if state == "downloading" else None
        left = (total - done) / speed if speed else None
        return Download(
            self.level.key,
            self.level,
            state,
            bytes_done=done,
            bytes_total=total,
            speed=speed,
            seconds_left=left,
            note=note,
            path=self._path,
        )


class _SpeedMeter:
    """The speed of a growing count: the mean over the last SPEED_SECONDS."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add_sample(self, count: int) -> float | None:
        """Note the count, and return the speed; may be called at any rate, and keeps 16 samples at most."""
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= SPEED_SECONDS / 16:
            self._samples.append((now, count))
        return self._speed_at(now, count)

    def speed(self, count: int) -> float | None:
        """Bytes per second, with `count` bytes by now; None if nothing arrived in the last seconds."""
        return self._speed_at(self._clock(), count)

    def _speed_at(self, now: float, count: int) -> float | None:
        self._drop_before(now - SPEED_SECONDS)
        then, before = self._samples[0] if self._samples else (now, count)
        return (count - before) / (now - then) if now > then and count > before else None

    def _drop_before(self, moment: float) -> None:
        """Drop the samples taken before the moment, except the last of them."""
        while len(self._samples) > 1 and self._samples[1][0] <= moment:
            self._samples.popleft()
