"""Finds models that LM Studio, Ollama and llama.cpp have downloaded on this computer.

Looks only into the folders that these programs document, reads names and small JSON files, and changes nothing. Folders
that do not exist or cannot be read are skipped.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from playground.gguf.filenames import FileName, parse_file_name
from playground.models.disk_scan import WholeModel, cached_repositories, gguf_paths, whole_models
from playground.text_format import replace_surrogates

Program = Literal["LM Studio", "Ollama", "llama.cpp"]

_MOST_LIST_BYTES: Final = 1 << 20  # of a settings file or a manifest; theirs have some hundred
_HUB_HOSTS: Final = ("hf.co", "huggingface.co")  # registries whose models are the Hub's repositories
_OLLAMA_MODEL: Final = "application/vnd.ollama.image.model"


@dataclass(frozen=True)
class OtherAppModel:
    """A model of another program. repo: its repository on the Hub, if that program keeps the name."""

    model: WholeModel
    program: Program
    repo: str | None = None


def models_of_other_apps(
    home: Path | None = None, environ: Mapping[str, str] | None = None, platform: str = sys.platform
) -> Iterator[OtherAppModel]:
    """Every model of the other programs. home, environ, platform: by default those of this process."""
    home = home or Path.home()
    environ = os.environ if environ is None else environ
    for folder in _existing(_lm_studio_folders(home)):
        models, _ = whole_models(folder, gguf_paths(folder))
        yield from (OtherAppModel(model, "LM Studio") for model in models)
    for folder in _existing(_ollama_folders(home, environ, platform)):
        yield from _ollama_models(folder)
    for folder in _existing([_llama_cpp_folder(home, environ, platform)]):
        yield from _llama_cpp_models(folder)


def _existing(folders: list[Path]) -> list[Path]:
    return [folder for folder in dict.fromkeys(folders) if os.access(folder, os.R_OK) and folder.is_dir()]


# --- LM Studio: publisher/repository/file.gguf in one folder, which its settings can move ---


def _lm_studio_folders(home: Path) -> list[Path]:
    """`models` in its own folder, which ~/.lmstudio-home-pointer names, and where its settings say it was moved to."""
    own_folders = [home / ".lmstudio", home / ".cache" / "lm-studio"]
    if named := _read_text(home / ".lmstudio-home-pointer").strip():
        own_folders.insert(0, Path(named))
    folders = []
    for own in own_folders:
        moved = _read_list(own / "settings.json").get("downloadsFolder")
        folders += [Path(moved)] if isinstance(moved, str) and moved else []
        folders.append(own / "models")
    return folders


# --- Ollama: blobs named by their SHA-256, and manifests that say which of them are a model ---


def _ollama_folders(home: Path, environ: Mapping[str, str], platform: str) -> list[Path]:
    if named := environ.get("OLLAMA_MODELS"):
        return [Path(named)]
    folders = [home / ".ollama" / "models"]
    return folders if platform == "darwin" else [*folders, Path("/usr/share/ollama/.ollama/models")]


def _ollama_models(folder: Path) -> Iterator[OtherAppModel]:
    """Such as manifests/registry.ollama.ai/library/llama3.2/3b, whose model layer is blobs/sha256-…"""
    manifests = folder / "manifests"
    for directory, folders, names in os.walk(manifests):
        folders.sort()
        for tag in sorted(names):
            layers = _read_list(Path(directory, tag)).get("layers")
            for layer in layers if isinstance(layers, list) else []:
                blob = _ollama_blob(folder, layer)
                if blob is not None:
                    host, *owner = Path(directory).relative_to(manifests).parts or ("",)
                    repo = "/".join(owner) if host in _HUB_HOSTS and len(owner) == 2 else None
                    yield OtherAppModel(WholeModel(_ollama_name(Path(directory).name, tag), (blob,)), "Ollama", repo)


def _ollama_blob(folder: Path, layer: Any) -> Path | None:
    if not isinstance(layer, dict) or layer.get("mediaType") != _OLLAMA_MODEL:
        return None
    kind, _, digits = str(layer.get("digest")).partition(":")
    if kind != "sha256" or len(digits) != 64 or not all(digit in "0123456789abcdef" for digit in digits):
        return None
    blob = folder / "blobs" / f"sha256-{digits}"
    return blob if blob.is_file() else None


def _ollama_name(model: str, tag: str) -> FileName:
    """`llama3.2` and `3b-instruct-q8_0` -> llama3.2-3b-instruct at Q8_0; the header tells what the tag does not."""
    model = re.sub("-gguf$", "", model, flags=re.IGNORECASE)  # as repositories of the Hub are called
    spelled = replace_surrogates(model if tag == "latest" else f"{model}-{tag}")
    return parse_file_name(f"{spelled}.gguf") or FileName(spelled, None, 1, 1, "model")


# --- llama.cpp: formerly one flat folder, now in the layout of the Hub's cache ---


def _llama_cpp_folder(home: Path, environ: Mapping[str, str], platform: str) -> Path:
    if named := environ.get("LLAMA_CACHE"):
        return Path(named)
    if platform == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"


def _llama_cpp_models(folder: Path) -> Iterator[OtherAppModel]:
    """Flat files are called owner_repository_file.gguf; lists manifest=owner=repository=tag.json tell these apart.

    Beside them, models--owner--repository/snapshots/commit/file.gguf: the newest commit counts.
    """
    repos = {}
    for path in sorted(folder.glob("manifest=*=*=*.json")):
        _, owner, repository, _ = path.name.split("=", 3)
        repos[f"{owner}_{repository}_"] = f"{owner}/{repository}"
    models, _ = whole_models(folder, (path for path in sorted(folder.glob("*.gguf")) if path.is_file()))
    for model in models:
        prefix = next((prefix for prefix in repos if model.shards[0].name.startswith(prefix)), "")
        name = replace(model.name, base_name=model.name.base_name.removeprefix(prefix))
        yield OtherAppModel(replace(model, name=name), "llama.cpp", repos.get(prefix))
    for repo, snapshots in cached_repositories(folder):
        for snapshot in snapshots[:1]:
            models, _ = whole_models(snapshot, gguf_paths(snapshot), repo.rpartition("/")[2])
            yield from (OtherAppModel(model, "llama.cpp", repo) for model in models)


def _read_list(path: Path) -> dict[str, Any]:
    """A small JSON object of another program; empty if it cannot be read."""
    try:
        found = json.loads(_read_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_text(path: Path) -> str:
    """A small text file of another program; "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_LIST_BYTES + 1)
        return raw.decode("utf-8") if len(raw) <= _MOST_LIST_BYTES else ""
    except (OSError, ValueError):
        return ""
