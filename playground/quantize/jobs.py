"""Quantization jobs: which levels can be made of the models on this disk, and making them.

Visitors who ask for the same level share one job, and it is stopped only when the last of them leaves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from playground import events
from playground.errors import ModelNotFound, PlaygroundError
from playground.gguf.levels import USUAL_LEVELS
from playground.llama.params import CPU_ONLY, Placement
from playground.machine.cpus import read_processors
from playground.models.library import Library
from playground.models.model_file import ModelFile, most_original
from playground.quantize.quantize import (
    HEARTBEAT_SECONDS,
    QuantizationProgress,
    QuantizedFile,
    QuantizedSize,
    estimate_levels,
    quantize_file,
)

_Version = tuple[Path, int, int]  # of a source file: path, size, time of change

# Weights that one core quantizes in a second, until a job here has shown it: 135M weights into Q8_0, Q4_0 or Q2_0 took
# 1.2 to 1.9 s on two busy cores of 2026. An importance matrix takes far longer, because the model has to read a text.
USUAL_WEIGHTS_PER_CORE_SECOND: Final = 40e6
IMATRIX_FACTOR: Final = 20


class QuantizationJobs:
    """Makes levels of the library's models into the library. Thread-safe; close it at the end.

    place: where a model runs while its importance matrix is measured.
    """

    def __init__(
        self, library: Library, threads: int | None = None, place: Callable[[Path], Placement] = lambda path: CPU_ONLY
    ) -> None:
        self._library = library
        self._place = place
        self._threads = threads or read_processors().usable
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # one child process at a time works out sizes
        self._sizes: dict[tuple[_Version, str], QuantizedSize | PlaygroundError] = {}
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._weights_per_second = USUAL_WEIGHTS_PER_CORE_SECOND * self._threads

    def seconds_to_make(self, size: QuantizedSize) -> float:
        """About how long this level would take to make, at the pace of the last one that was made here."""
        weights = size.weight_bytes * 8 / size.bits_per_weight
        return weights / self._weights_per_second * (IMATRIX_FACTOR if size.uses_imatrix else 1)

    def source_file(self, base_name: str) -> ModelFile:
        """The file that levels of a model are made from: the largest of those that were not made here.

        Raises ModelNotFound if there is none.
        """
        files = [file for file in self._files(base_name) if file.origin != "made here"]
        if not files:
            raise ModelNotFound(
                f"There is no file of {base_name} on this computer to make levels from.",
                "Download one, or choose another model.",
            )
        return most_original(files)

    def makeable_levels(self, base_name: str, levels: Sequence[str] = USUAL_LEVELS) -> dict[str, QuantizedSize]:
        """The levels that are not on this disk yet and can be made, from large to small, with exact sizes.

        Asks llama.cpp once for each source file and level (0.03 s for the starter). Empty for a model that is not here
        or whose files cannot be read.
        """
        try:
            source = self.source_file(base_name)
            sizes = self._sizes_of(source.path, levels)
        except (PlaygroundError, OSError):
            return {}
        here = {file.level.upper() for file in self._files(base_name)}
        offered = [size for size in sizes if isinstance(size, QuantizedSize) and size.level not in here]
        return {size.level: size for size in sorted(offered, key=lambda size: size.size, reverse=True)}

    def weight_bytes(self, source: Path, levels: Sequence[str]) -> dict[str, int]:
        """What the weights of these levels take, in bytes; without those that llama.cpp cannot make of the model.

        source: any file of the model, or a stand-in for one. Tensors that are MXFP4 stay so, as publishers leave them.
        Empty where the file cannot be read.
        """
        try:
            sizes = self._sizes_of(source, levels)
        except (PlaygroundError, OSError):
            return {}
        return {size.level: size.weight_bytes for size in sizes if isinstance(size, QuantizedSize)}

    def level_size(self, source: Path, level: str) -> QuantizedSize:
        """The size of `level` made from a file; raises as `estimate_level` does."""
        (size,) = self._sizes_of(source, (level.upper(),))
        if isinstance(size, PlaygroundError):
            raise type(size)(size.problem, size.remedy)
        return size

    def make_level(self, base_name: str, level: str) -> Generator[QuantizationProgress | QuantizedFile, None, None]:
        """Make a level of a model into the library. Yields progress, then the QuantizedFile; at once if it is there.

        Joins the job if the level is being made already. Closing the iterator leaves it; when the last one leaves, the
        job is stopped and its file deleted. Raises ModelNotFound, BadModelFile, or PlaygroundError as `quantize_file`.
        """
        job = self._join_job(base_name, level.upper())
        if isinstance(job, QuantizedFile):
            yield job
            return
        try:
            yield from job.follow_events()
        finally:
            self._leave_job(job)

    def close(self) -> None:
        """Stop all jobs."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.stop_job()

    def _files(self, base_name: str) -> list[ModelFile]:
        return [file for file in self._library.files() if file.base_name.lower() == base_name.lower()]

    def _sizes_of(self, source: Path, levels: Sequence[str]) -> list[QuantizedSize | PlaygroundError]:
        """The size of each level, or why it cannot be made, in the given order."""
        try:
            status = source.stat()
        except OSError as error:
            raise ModelNotFound(f"There is no file {source.name} any more.", "Choose another one.") from error
        version = (source, status.st_size, status.st_mtime_ns)
        with self._asking:
            unknown = [level for level in levels if (version, level) not in self._sizes]
            if unknown:
                found = estimate_levels(source, unknown)
                self._sizes |= {(version, level): found[level] for level in unknown}
            return [self._sizes[version, level] for level in levels]

    def _join_job(self, base_name: str, level: str) -> _Job | QuantizedFile:
        """Join the job that makes this level, or start one; the file itself if it is here already."""
        key = (base_name.lower(), level)
        with self._lock:
            if key in self._jobs:
                self._jobs[key].followers += 1
                return self._jobs[key]
            made = next((file for file in self._files(base_name) if file.level.upper() == level), None)
            source = self.source_file(base_name)
            if made is not None:
                return QuantizedFile(made.path, made.size, self.level_size(source.path, level))
            target = self._library.path_for_level(source.base_name, level)
            job = self._jobs[key] = _Job(source, level, target, self._threads, self._place, self._learn_pace)
            return job

    def _learn_pace(self, made: QuantizedFile, seconds: float) -> None:
        """A level was made: the next one will take about as long for each weight."""
        planned = made.planned
        if not planned.uses_imatrix and seconds > 0:
            self._weights_per_second = planned.weight_bytes * 8 / planned.bits_per_weight / seconds

    def _leave_job(self, job: _Job) -> None:
        with self._lock:
            job.followers -= 1
            if job.followers == 0:
                self._jobs = {key: other for key, other in self._jobs.items() if other is not job}
                job.stop_job()  # within the lock, so that the next job finds no half-made file


class _Job:
    """Makes one level in its own thread. followers: how many wait for it, guarded by the lock of QuantizationJobs.

    when_made: called with the file and the seconds that it took.
    """

    def __init__(
        self,
        source: ModelFile,
        level: str,
        target: Path,
        threads: int,
        place: Callable[[Path], Placement],
        when_made: Callable[[QuantizedFile, float], None],
    ) -> None:
        self.followers = 1
        self._when_made = when_made
        self._model, self._level, self._since = source.base_name, level, time.monotonic()
        self._work = quantize_file(source.path, level, target, threads, lambda: place(source.path))
        self._latest: QuantizationProgress | QuantizedFile | Exception = QuantizationProgress(0.0, "", 0, 0)
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run_job, name=f"making {target.name}", daemon=True)
        self._thread.start()

    def follow_events(self) -> Iterator[QuantizationProgress | QuantizedFile]:
        """Each new event, and the latest again while there is none. Raises the error that the job ended with."""
        seen: QuantizationProgress | QuantizedFile | Exception | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not seen, HEARTBEAT_SECONDS)  # noqa: B023 used at once
                seen = self._latest
            if isinstance(seen, PlaygroundError):
                raise type(seen)(seen.problem, seen.remedy)  # a new one: several threads may raise it
            if isinstance(seen, Exception):
                raise seen
            yield seen
            if isinstance(seen, QuantizedFile):
                return

    def stop_job(self) -> None:
        """Stop the work. When this returns, its child process has ended and its incomplete file is deleted."""
        self._stopped.set()
        self._thread.join()

    def _run_job(self) -> None:
        try:
            with closing(self._work):
                for event in self._work:
                    if isinstance(event, QuantizedFile):
                        seconds = time.monotonic() - self._since
                        events.level_made(self._model, self._level, event.size, seconds)
                        self._when_made(event, seconds)
                    self._publish(event)
                    if self._stopped.is_set() and not isinstance(event, QuantizedFile):
                        self._publish(PlaygroundError("Making this level was stopped.", "Start it again."))
                        return
        except Exception as error:
            events.level_not_made(self._model, self._level, str(error))
            self._publish(error)

    def _publish(self, event: QuantizationProgress | QuantizedFile | Exception) -> None:
        with self._changed:
            self._latest = event
            self._changed.notify_all()
