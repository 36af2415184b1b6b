"""What stands on this disk, as the Models tab shows it: every model file, what may be deleted, how much room is left.

Asks the library; knows no component. A row is named by a key that tells nothing of this computer's folders.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError, RequestRefused
from playground.models.disk_scan import LeftOut
from playground.models.file_records import delete, may_delete
from playground.models.hub.cache import free_bytes
from playground.models.library import Library, ModelFile
from playground.models.usage import LastUsed
from playground.quantize.quantize import made_note
from playground.settings import Settings

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
        files, left_out = self._library.survey()
        in_order = sorted(files, key=lambda file: (file.origin != "starter", file.base_name.lower(), -file.size))
        return InstalledModelsView(
            tuple(map(self._row, in_order)), tuple(left_out), free_bytes(self._settings.data_dir)
        )

    def row(self, key: object) -> InstalledModelRow:
        """The row of that key; raises ModelNotFound where it is gone."""
        for row in self.view().rows:
            if row.key == key:
                return row
        raise ModelNotFound("That model is no longer on this computer.", "Choose another one from the list.")

    def delete(self, key: object) -> ModelFile:
        """Delete a model that the playground put there; raises PlaygroundError where it must not or cannot."""
        row = self.row(key)
        if not self._settings.allow_delete:
            raise RequestRefused(
                "Models cannot be deleted here.", "Whoever runs this playground decided so.", setting="allow_delete"
            )
        delete(row.file, self._settings.data_dir)
        return row.file

    def add(self, path: str) -> ModelFile:
        """Show the model at a path among the others for this run; raises PlaygroundError where it is none."""
        if not self._settings.allow_local_files:
            raise RequestRefused(
                "Files of this computer cannot be opened by path here.",
                "Find it on the Hub instead.",
                setting="allow_local_files",
            )
        if not path.strip() or "\0" in path:
            raise ModelNotFound("No path was typed.", "Type the path of a GGUF file on this computer.")
        return self._library.add(Path(path.strip().strip("'\"")))

    def drop(self, uploaded: Sequence[str]) -> list[ModelFile]:
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
        note = made_note(file.level, file.requantized_from, bits) or ""
        removable = self._settings.allow_delete and may_delete(file, self._settings.data_dir)
        key = hashlib.sha256(str(file.path).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return InstalledModelRow(key, file, bits, note, removable, self._last_used.of(file.path))
