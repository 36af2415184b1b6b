"""Levels on demand: what could be made of the models on this disk, and the making, shared by all who ask for the same.

How a level is made is quantize.py's to say, where it belongs the library's; nothing here knows of pages. The one idea:
a run belongs to everyone who waits for it, and it is stopped only when the last of them leaves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from playground import events
from playground.errors import ModelNotFound, PlaygroundError
from playground.gguf.levels import USUAL_LEVELS
from playground.machine.cpus import read_processors
from playground.models.library import Library, ModelFile
from playground.quantize.quantize import (
    HEARTBEAT_SECONDS,
    QuantizationProgress,
    QuantizedFile,
    QuantizedSize,
    estimate_levels,
    quantize_file,
)

_Version = tuple[Path, int, int]  # a source as it was when it was asked about: path, size, time of change


class QuantizationJobs:
    """Makes levels of the library's models into the library; safe to share between visitors. Close it at the end."""

    def __init__(self, library: Library, threads: int | None = None) -> None:
        self._library = library
        self._threads = threads or read_processors().usable
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # one child at a time works out sizes; who comes second finds them done
        self._sizes: dict[tuple[_Version, str], QuantizedSize | PlaygroundError] = {}
        self._runs: dict[tuple[str, str], _Run] = {}

    def source_file(self, base_name: str) -> ModelFile:
        """The file that levels of a model are made from: of those that came from elsewhere, the one with most bits.

        Raises ModelNotFound where there is none.
        """
        files = [file for file in self._files(base_name) if file.origin != "made here"]
        if not files:
            raise ModelNotFound(
                f"There is no file of {base_name} on this computer to make levels from.",
                "Download one, or choose another model.",
            )
        return max(files, key=lambda file: (file.requantized_from is None, file.size))

    def makeable_levels(self, base_name: str, levels: Sequence[str] = USUAL_LEVELS) -> dict[str, QuantizedSize]:
        """The levels that are not on this disk yet and can be made, from large to small, to the byte.

        Asks llama.cpp once per source file and level (0.03 s for the starter). A model that is not here, or whose
        files cannot be read, can be made into nothing: the answer is empty.
        """
        try:
            source = self.source_file(base_name)
            sizes = self._known(source.path, levels)
        except (PlaygroundError, OSError):
            return {}
        here = {file.level.upper() for file in self._files(base_name)}
        offered = [size for size in sizes if isinstance(size, QuantizedSize) and size.level not in here]
        return {size.level: size for size in sorted(offered, key=lambda size: size.size, reverse=True)}

    def level_size(self, source: Path, level: str) -> QuantizedSize:
        """What `level` made from a file would be; raises as `estimate` does."""
        (size,) = self._known(source, (level.upper(),))
        if isinstance(size, PlaygroundError):
            raise type(size)(size.problem, size.remedy)
        return size

    def make_level(self, base_name: str, level: str) -> Generator[QuantizationProgress | QuantizedFile, None, None]:
        """Make a level of a model into the library: yields progress, then the QuantizedFile; at once if it is there.

        Who asks for what is being made already joins that run. Closing the iterator leaves it; the last to leave stops
        it, and nothing of it stays. Raises ModelNotFound, BadModelFile, or PlaygroundError as `quantize` does.
        """
        run = self._joined(base_name, level.upper())
        if isinstance(run, QuantizedFile):
            yield run
            return
        try:
            yield from run.followed()
        finally:
            self._leave(run)

    def close(self) -> None:
        """Stop whatever is being made."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.stop()

    def _files(self, base_name: str) -> list[ModelFile]:
        return [file for file in self._library.files() if file.base_name.lower() == base_name.lower()]

    def _known(self, source: Path, levels: Sequence[str]) -> list[QuantizedSize | PlaygroundError]:
        """Each level's size, or why it cannot be made, in the order asked for."""
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

    def _joined(self, base_name: str, level: str) -> _Run | QuantizedFile:
        """The run that makes this level, joined, or a new one; what it would make, if that is here already."""
        key = (base_name.lower(), level)
        with self._lock:
            if key in self._runs:
                self._runs[key].askers += 1
                return self._runs[key]
            made = next((file for file in self._files(base_name) if file.level.upper() == level), None)
            source = self.source_file(base_name)
            if made is not None:
                return QuantizedFile(made.path, made.size, self.level_size(source.path, level))
            run = self._runs[key] = _Run(
                source, level, self._library.path_for_level(source.base_name, level), self._threads
            )
            return run

    def _leave(self, run: _Run) -> None:
        with self._lock:
            run.askers -= 1
            is_last = run.askers == 0
            if is_last:
                self._runs = {key: other for key, other in self._runs.items() if other is not run}
                run.stop()  # waits: who asks next finds nothing of it


class _Run:
    """One making in a thread of its own, and how many wait for it (guarded by the maker's lock)."""

    def __init__(self, source: ModelFile, level: str, target: Path, threads: int) -> None:
        self.askers = 1
        self._model, self._level, self._since = source.base_name, level, time.monotonic()
        self._work = quantize_file(source.path, level, target, threads)
        self._latest: QuantizationProgress | QuantizedFile | Exception = QuantizationProgress(0.0, "", 0, 0)
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._make, name=f"making {target.name}", daemon=True)
        self._thread.start()

    def followed(self) -> Iterator[QuantizationProgress | QuantizedFile]:
        """What is new of the run, and the latest again while nothing is; raises what the run ended with."""
        seen: QuantizationProgress | QuantizedFile | Exception | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not seen, HEARTBEAT_SECONDS)  # noqa: B023 used at once
                seen = self._latest
            if isinstance(seen, PlaygroundError):
                raise type(seen)(seen.problem, seen.remedy)  # anew: several threads may raise it
            if isinstance(seen, Exception):
                raise seen
            yield seen
            if isinstance(seen, QuantizedFile):
                return

    def stop(self) -> None:
        """End the work, whose child is gone and whose half file removed when this returns."""
        self._stopped.set()
        self._thread.join()

    def _make(self) -> None:
        try:
            with closing(self._work):
                for event in self._work:
                    if isinstance(event, QuantizedFile):
                        events.level_made(self._model, self._level, event.size, time.monotonic() - self._since)
                    self._tell(event)
                    if self._stopped.is_set() and not isinstance(event, QuantizedFile):
                        self._tell(PlaygroundError("The making of this level was stopped.", "Start it again."))
                        return
        except Exception as error:
            events.level_not_made(self._model, self._level, str(error))
            self._tell(error)

    def _tell(self, news: QuantizationProgress | QuantizedFile | Exception) -> None:
        with self._changed:
            self._latest = news
            self._changed.notify_all()
