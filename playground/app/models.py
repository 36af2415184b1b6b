"""What happens in the Models tab: what is here, levels made, repositories opened, downloads queued and watched.

Joins the installed, the Hub's desk, the maker and the queue of downloads, each of which knows its own trade. Knows no
component; what the settings forbid is refused here, whatever a browser sends.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playground.app.hub import HubService
from playground.app.makeable_levels import MakeableLevels, QuantizationUpdate, quantization_updates
from playground.app.refusals import error_message
from playground.app.services import Services
from playground.errors import BadModelFile, ModelNotFound, PlaygroundError, RequestRefused
from playground.gguf.levels import MAKEABLE_LEVELS
from playground.limits.runs import Visitor
from playground.machine.files import free_disk_bytes
from playground.models.disk_scan import LeftOut
from playground.models.file_records import LastUsed, delete_file, may_delete_file
from playground.models.hub.download_queue import Download
from playground.models.library import Library, ModelFile
from playground.quantize.quantize import QuantizedSize, level_note
from playground.settings import Settings
from playground.text_format import bits, gibibytes
from playground.web.html.page import notice

OTHER_PROGRAMS: Final = ("LM Studio", "Ollama", "llama.cpp")


@dataclass(frozen=True)
class InstalledModelRow:
    """One model at one level on this disk; `bits_per_weight` is the true one, None where its header cannot be read."""

    key: str
    file: ModelFile
    bits_per_weight: float | None
    note: str
    may_be_deleted: bool
    last_used: int | None  # seconds since 1970

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        place = f"found in {self.file.origin}" if self.file.origin in OTHER_PROGRAMS else self.file.origin
        if not self.file.repo:
            return place
        return f"from {self.file.repo}" + (f", {place}" if self.file.origin in OTHER_PROGRAMS else "")


@dataclass(frozen=True)
class InstalledModelsView:
    """Everything on this disk. `free` is what the disk of the models made here has left, in bytes."""

    rows: tuple[InstalledModelRow, ...]
    left_out: tuple[LeftOut, ...]
    free: int


class InstalledModels:
    """Answers for every visitor; what the settings forbid is refused here, whatever a browser sends."""

    def __init__(self, settings: Settings, library: Library, last_used: LastUsed) -> None:
        self._settings = settings
        self._library = library
        self._last_used = last_used

    def view(self) -> InstalledModelsView:
        files, left_out = self._library.scan_models()
        in_order = sorted(files, key=lambda file: (file.origin != "starter", file.base_name.lower(), -file.size))
        return InstalledModelsView(
            tuple(map(self._row, in_order)), tuple(left_out), free_disk_bytes(self._settings.data_dir)
        )

    def find_row(self, key: object) -> InstalledModelRow:
        """The row of that key; raises ModelNotFound where it is gone."""
        for row in self.view().rows:
            if row.key == key:
                return row
        raise ModelNotFound("That model is no longer on this computer.", "Choose another one from the list.")

    def delete_model(self, key: object) -> ModelFile:
        """Delete a model that the playground put there; raises PlaygroundError where it must not or cannot."""
        row = self.find_row(key)
        if not self._settings.allow_delete:
            raise RequestRefused(
                "Models cannot be deleted here.", "Whoever runs this playground decided so.", setting="allow_delete"
            )
        delete_file(row.file, self._settings.data_dir)
        return row.file

    def add_file(self, path: str) -> ModelFile:
        """Show the model at a path among the others for this run; raises PlaygroundError where it is none."""
        if not self._settings.allow_local_files:
            raise RequestRefused(
                "Files of this computer cannot be opened by path here.",
                "Find it on the Hub instead.",
                setting="allow_local_files",
            )
        if not path.strip() or "\0" in path:
            raise ModelNotFound("No path was typed.", "Type the path of a GGUF file on this computer.")
        return self._library.add_file(Path(path.strip().strip("'\"")))

    def keep_uploads(self, uploaded: Sequence[str]) -> list[ModelFile]:
        """Keep model files that were dropped onto the page; all parts of a model come together.

        Raises PlaygroundError for what is no model, or is here already; then nothing is kept.
        """
        if not self._settings.allow_local_files:
            raise RequestRefused(
                "Files cannot be dropped here.", "Find the model on the Hub instead.", setting="allow_local_files"
            )
        paths = [Path(path) for path in uploaded]
        if not paths:
            raise PlaygroundError("No file arrived.", "Drop it once more.")
        kept: list[Path] = []
        try:
            for path in paths:
                self._library.header(path)  # raises for what is no model
                kept.append(self._kept(path))
            files = [file for file in self._library.files() if set(file.shards) & set(kept)]
            if not files:
                raise BadModelFile(f"{paths[0].name} is only part of a model.", "Drop all of its parts together.")
        except (PlaygroundError, OSError) as error:
            for place in (*paths, *kept):
                place.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise PlaygroundError(
                    f"The file cannot be kept: {error.strerror}.", "Make room on the disk."
                ) from error
            raise
        return files

    def _kept(self, path: Path) -> Path:
        """The uploaded file moved, not copied, into the folder of dropped ones."""
        name = path.name if path.suffix.lower() == ".gguf" else f"{path.name}.gguf"
        place = self._library.dropped_folder / name
        if place.exists():
            raise PlaygroundError(f"A file {name} was dropped here before.", "Delete that one first.")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
        return place

    def _row(self, file: ModelFile) -> InstalledModelRow:
        try:
            bits = self._library.whole_header(file).bits_per_weight
        except (PlaygroundError, OSError):
            bits = None
        note = level_note(file.level, file.requantized_from, bits) or ""
        removable = self._settings.allow_delete and may_delete_file(file, self._settings.data_dir)
        key = hashlib.sha256(os.fsencode(file.path)).hexdigest()[:16]
        return InstalledModelRow(key, file, bits, note, removable, self._last_used.last_load_time(file.path))


_OFFLINE: Final = "The Hub is not asked: offline mode is on (HF_HUB_OFFLINE). All that is on this disk works."


class ModelsService:
    """Serves every visitor; downloads and models are everybody's."""

    def __init__(self, services: Services) -> None:
        self.settings = services.settings
        self.runs = services.runs
        self.installed_models = InstalledModels(services.settings, services.library, services.last_used)
        self.hub = HubService(services)
        self._services = services

    # --- levels made here ---

    def quantization_sources(self) -> list[tuple[str, str]]:
        """(what people read, base name) of every model that levels can be made of."""
        models = []
        for base_name, files in self._services.library.models().items():
            try:
                source = self._services.quantization_jobs.source_file(base_name)
            except PlaygroundError:
                continue
            models.append((f"{files[0].display_name}, from {source.level}", base_name))
        return models

    def makeable_levels(self, base_name: str) -> dict[str, QuantizedSize]:
        """Every level that can be made of a model, with its exact size, from large to small."""
        return (
            self._services.quantization_jobs.makeable_levels(base_name, MAKEABLE_LEVELS)
            if self.settings.allow_quantize
            else {}
        )

    def make_level(
        self, base_name: str, level: str, stopped: Callable[[], bool] = lambda: False, visitor: Visitor | None = None
    ) -> Iterator[QuantizationUpdate]:
        """Make a level, with progress; a sentence where that was stopped or cannot be."""
        quantization_jobs = self._services.quantization_jobs if self.settings.allow_quantize else None
        yield from quantization_updates(
            level, MakeableLevels(quantization_jobs, self.runs).make_level(base_name, level, stopped, visitor), visitor
        )

    # --- downloads ---

    def downloads(self) -> tuple[Download, ...]:
        return self._services.downloads.all_downloads()

    def is_downloading(self) -> bool:
        return any(not record.has_ended for record in self.downloads())

    def start_download(self, repo: str, key: str, visitor: Visitor | None = None) -> str:
        """Queue a level of an open repository; what to say of it, as markup."""
        try:
            self._refuse_downloads()
            level = self.hub.find_level(repo, key)
            if self.hub.is_installed(level):
                return notice(f"{level.base_name} {level.level} is on this computer already.", "good")
            if visitor:
                self.runs.add_download(visitor, level.key, self._unfinished())
            self._services.downloads.start_download(level)
        except PlaygroundError as error:
            return error_message(error, visitor)
        return notice(
            f"{level.base_name} {level.level} is on its way: see Downloads. It goes on if you leave this page."
        )

    def change_download(self, action: str, visitor: Visitor | None = None) -> str:
        """`cancel ID`, `resume ID` or `forget ID`, as a row's button asks; an error as markup, "" where all is well."""
        word, _, id = action.partition(" ")
        queue = self._services.downloads
        doing = {"cancel": queue.cancel_download, "resume": queue.resume_download, "forget": queue.forget_download}
        try:
            self._refuse_downloads()
            if word in doing:
                if visitor:
                    self._check_share(word, id, visitor)
                doing[word](id)
        except PlaygroundError as error:
            return error_message(error, visitor)
        return ""

    def _check_share(self, word: str, id: str, visitor: Visitor) -> None:
        """Among strangers nobody ends another's download; to go on with one takes a share of one's own."""
        if word == "resume":
            self.runs.add_download(visitor, id, self._unfinished())
        elif self.settings.on_space:
            self.runs.check_download_owner(visitor, id)

    def _unfinished(self) -> list[str]:
        return [record.id for record in self.downloads() if not record.has_ended]

    def repository_url(self, repo: str) -> str:
        return self._services.hub.repository_page(repo)

    @property
    def away(self) -> str:
        """What to say where the Hub is not to be asked, or the downloads are not as they should be; "" otherwise."""
        said = self._services.downloads.warning
        queue = notice(said, "warning") if said else ""
        if not self._services.hub.is_offline:
            return queue
        return f"{queue}{notice(_OFFLINE)}"

    def _refuse_downloads(self) -> None:
        if not self.settings.allow_downloads:
            raise RequestRefused(
                "Nothing is downloaded here.", "Whoever runs this playground decided so.", setting="allow_downloads"
            )


def size_line(size: QuantizedSize) -> str:
    """`62 MiB · 3.6 bits. Made from the Q4_1 file …`: what the file will be, to the byte, before it is made."""
    return " ".join(
        filter(None, (f"{gibibytes(size.size)} ({size.size:,} bytes) · {bits(size.bits_per_weight)}.", size.note))
    )
