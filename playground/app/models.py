"""What happens in the Models tab: the models on this disk, levels made of them, and downloads.

What the settings forbid is refused here, no matter what a browser sends.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playground.app.first_models import FirstModels
from playground.app.hub.service import HubService
from playground.app.messages import CLEAR, Notice, StatusMessage, log_refusal
from playground.app.model_picker.makeable_levels import MakeableLevels, QuantizationUpdate, quantization_updates
from playground.app.services import Services
from playground.errors import BadModelFile, HubUnreachable, ModelNotFound, PlaygroundError, RequestRefused
from playground.gguf.levels import MAKEABLE_LEVELS, USUAL_LEVELS
from playground.limits.visitor import Visitor
from playground.machine.files import free_disk_bytes
from playground.measure.forecast import Forecast, SpeedForecaster
from playground.models.disk_scan import LeftOut
from playground.models.file_records import LastUsed, delete_file, may_delete_file
from playground.models.hub.download_queue import Download
from playground.models.hub.errors import offline_mode
from playground.models.hub.repository import HubLevel
from playground.models.library import Library
from playground.models.model_file import ModelFile
from playground.quantize.quantize import QuantizedSize, level_note
from playground.settings import Settings

_A_SETTING: Final = "It is a setting of this playground."


@dataclass(frozen=True)
class InstalledModelRow:
    """One model at one level on this disk. bits_per_weight: None if its header cannot be read.

    key: names the row without the folders of this computer. last_used: in seconds since 1970, None if never.
    speed: what it wrote at here, or its forecast; None where that is not known.
    """

    key: str
    file: ModelFile
    bits_per_weight: float | None
    note: str
    may_be_deleted: bool
    last_used: int | None
    speed: Forecast | None = None


@dataclass(frozen=True)
class InstalledModelsView:
    """Everything on this disk. free: bytes left on the disk of the models made here."""

    rows: tuple[InstalledModelRow, ...]
    left_out: tuple[LeftOut, ...]
    free: int


@dataclass(frozen=True)
class MakeableView:
    """The levels that can be made of a model, from large to small, and the chosen one.

    sources: (name to read, base name) of every model that levels can be made of.
    """

    sources: tuple[tuple[str, str], ...] = ()
    base_name: str | None = None
    sizes: tuple[QuantizedSize, ...] = ()
    chosen: QuantizedSize | None = None


class InstalledModels:
    """The models on this disk, for every visitor."""

    def __init__(self, settings: Settings, library: Library, last_used: LastUsed, forecaster: SpeedForecaster) -> None:
        self._settings = settings
        self._forecaster = forecaster
        self._library = library
        self._last_used = last_used

    def view(self) -> InstalledModelsView:
        files, left_out = self._library.scan_models()
        in_order = sorted(files, key=lambda file: (file.origin == "starter", file.base_name.lower(), -file.size))
        return InstalledModelsView(
            tuple(map(self._row, in_order)), tuple(left_out), free_disk_bytes(self._settings.data_dir)
        )

    def find_row(self, key: object) -> InstalledModelRow:
        """The row of that key; raises ModelNotFound if it is gone."""
        for row in self.view().rows:
            if row.key == key:
                return row
        raise ModelNotFound("That model is no longer on this computer.", "Choose another one from the list.")

    def delete_model(self, key: object) -> ModelFile:
        """Delete a model that the playground put there. Raises PlaygroundError if it must not or cannot be deleted."""
        row = self.find_row(key)
        if not self._settings.allow_delete:
            raise RequestRefused("Deleting models is turned off here.", _A_SETTING, setting="allow_delete")
        delete_file(row.file, self._settings.data_dir)
        return row.file

    def add_file(self, path: str) -> ModelFile:
        """List the model at a path until the playground ends. Raises PlaygroundError if there is none."""
        self._check_local_files("Opening files by path")
        if not path.strip() or "\0" in path:
            raise ModelNotFound("The path is empty.", "Type the path of a GGUF file on this computer.")
        return self._library.add_file(Path(path.strip().strip("'\"")))

    def keep_uploads(self, uploaded: Sequence[str]) -> list[ModelFile]:
        """Keep model files that were dropped onto the page; all parts of a model must come together.

        Raises PlaygroundError if one is no model, or is here already; then nothing is kept.
        """
        self._check_local_files("Uploading files")
        paths = [Path(path) for path in uploaded]
        if not paths:
            raise PlaygroundError("No file arrived.", "Drop it again.")
        kept: list[Path] = []
        try:
            for path in paths:
                self._library.header(path)  # raises if it is no model
                kept.append(self._kept(path))
            files = [file for file in self._library.files() if set(file.shards) & set(kept)]
            if not files:
                raise BadModelFile(f"{paths[0].name} is only part of a model.", "Drop all of its parts together.")
        except (PlaygroundError, OSError) as error:
            for place in (*paths, *kept):
                place.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise PlaygroundError(
                    f"The file cannot be kept: {error.strerror}.", "Free some space on the disk."
                ) from error
            raise
        return files

    def _check_local_files(self, what: str) -> None:
        if not self._settings.allow_local_files:
            problem, remedy = f"{what} is turned off here.", "Find the model on the Hub instead."
            raise RequestRefused(problem, remedy, setting="allow_local_files")

    def _kept(self, path: Path) -> Path:
        """The uploaded file, moved (not copied) into the folder of dropped ones."""
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
        speed = self._forecaster.forecast_file(file.path)
        last_used = self._last_used.last_load_time(file.path)
        return InstalledModelRow(key, file, bits, note, removable, last_used, speed)


class ModelsService:
    """Serves every visitor; downloads and models are everybody's."""

    def __init__(self, services: Services) -> None:
        self.settings = services.settings
        self.runs = services.runs
        self.installed_models = InstalledModels(
            services.settings, services.library, services.last_used, services.forecaster
        )
        self.hub = HubService(services)
        self.first_models = FirstModels(services)
        self._services = services

    # --- levels made here ---

    def makeable_view(self, model: object = None, level: object = None) -> MakeableView:
        """What can be made of a model; an impossible model or level becomes the usual one."""
        if not self.settings.allow_quantize:
            return MakeableView()
        sources = tuple(self._sources())
        names = [base_name for _, base_name in sources]
        base_name = next((name for name in names if name == model), next(iter(names), None))
        if base_name is None:
            return MakeableView()
        sizes = self._services.quantization_jobs.makeable_levels(base_name, MAKEABLE_LEVELS)
        chosen = next((sizes[name] for name in (level, *USUAL_LEVELS, *sizes) if name in list(sizes)), None)
        return MakeableView(sources, base_name, tuple(sizes.values()), chosen)

    def make_level(
        self, base_name: str, level: str, stopped: Callable[[], bool] = lambda: False, visitor: Visitor | None = None
    ) -> Iterator[QuantizationUpdate]:
        """Make a level; updates with its progress, and at the end whether it was made, stopped or refused."""
        quantization_jobs = self._services.quantization_jobs if self.settings.allow_quantize else None
        making = MakeableLevels(quantization_jobs, self.runs).make_level(base_name, level, stopped, visitor)
        yield from quantization_updates(level, making, visitor)

    def _sources(self) -> Iterator[tuple[str, str]]:
        for base_name, files in self._services.library.models().items():
            try:
                source = self._services.quantization_jobs.source_file(base_name)
            except PlaygroundError:
                continue
            yield f"{files[0].display_name} {source.level}", base_name

    # --- the first model ---

    def download_first_model(self, id: object, visitor: Visitor | None = None) -> tuple[StatusMessage, str]:
        """Download a model of the catalogue at the level that is offered first, or one near it if the repository does
        not have that. Returns what to say and the id of the download, "" if there is none.
        """
        try:
            row = self.first_models.find_row(str(id))
            if here := self._file_of(row.model.repo, row.level):
                return CLEAR, f"{here.repo}/{here.path_in_repo}"
            repository = self._services.hub.fetch_repository(row.model.repo or "")
            try:
                level = repository.resolve_level(row.level)
            except ModelNotFound:
                level = repository.resolve_level()
            self._queue_download(level, visitor)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            return error, ""
        return Notice(
            f"Downloading {row.model.display_name} {level.level}. Chat opens with it when it is here."
        ), level.key

    def _file_of(self, repo: str | None, level: str) -> ModelFile | None:
        """A file of the repository on this disk, at the level if there is one; the Hub need not be asked for it."""
        files = [file for file in self._services.library.files() if file.repo == repo]
        return next((file for file in files if file.level == level), next(iter(files), None)) if repo else None

    def downloaded_file(self, id: str) -> Path | None:
        """The first file of a download that is done, or was before; None while it is not on this disk."""
        done = next((one.path for one in self.downloads() if one.id == id and one.path), None)
        if done:
            return done
        files = self._services.library.files()
        return next((file.path for file in files if file.repo and f"{file.repo}/{file.path_in_repo}" == id), None)

    # --- downloads ---

    def downloads(self) -> tuple[Download, ...]:
        return self._services.downloads.all_downloads()

    def start_download(self, repo: str, key: str, visitor: Visitor | None = None) -> StatusMessage:
        """Queue a level of an open repository."""
        try:
            self._check_downloads()
            level = self.hub.find_level(repo, key)
            if self.hub.is_installed(level):
                return Notice(f"{level.base_name} {level.level} is already on this computer.", "good")
            self._queue_download(level, visitor)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            return error
        return Notice(f"Downloading {level.base_name} {level.level}. It continues if you leave this page.")

    def _queue_download(self, level: HubLevel, visitor: Visitor | None) -> None:
        self._check_downloads()
        if visitor:
            self.runs.add_download(visitor, level.key, self._unfinished())
        self._services.downloads.start_download(level)

    def change_download(self, action: str, visitor: Visitor | None = None) -> StatusMessage:
        """Do what a row's button asks: `cancel ID`, `resume ID` or `forget ID`."""
        word, _, id = action.partition(" ")
        queue = self._services.downloads
        actions = {"cancel": queue.cancel_download, "resume": queue.resume_download, "forget": queue.forget_download}
        try:
            self._check_downloads()
            if word in actions:
                if visitor:
                    self._check_share(word, id, visitor)
                actions[word](id)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            return error
        return CLEAR

    @property
    def downloads_warning(self) -> Notice:
        """That the list of downloads was damaged."""
        return Notice(self._services.downloads.warning, "warning")

    @property
    def why_unreachable(self) -> HubUnreachable | None:
        """Why the Hub is not asked, where that is known before anybody wants it to be."""
        return offline_mode() if self._services.hub.is_offline else None

    def repository_url(self, repo: str) -> str:
        """The address of the repository's page on the Hub."""
        return self._services.hub.repository_page(repo)

    def _check_share(self, word: str, id: str, visitor: Visitor) -> None:
        """On a Space nobody ends another's download; resuming one takes a share of one's own."""
        if word == "resume":
            self.runs.add_download(visitor, id, self._unfinished())
        elif self.settings.on_space:
            self.runs.check_download_owner(visitor, id)

    def _unfinished(self) -> list[str]:
        return [record.id for record in self.downloads() if not record.has_ended]

    def _check_downloads(self) -> None:
        if not self.settings.allow_downloads:
            raise RequestRefused("Downloads are turned off here.", _A_SETTING, setting="allow_downloads")
