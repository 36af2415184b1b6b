"""Other programs' models are found where those programs keep them; the layouts are theirs, the files are built here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.models.file_records import may_delete_file
from playground.models.library import Library
from playground.models.other_apps import OtherAppModel, models_of_other_apps
from playground.settings import load_settings
from tests.support.gguf_bytes import small_model

DIGEST = "ab" * 32


def found(home: Path, environ: dict[str, str] | None = None, platform: str = "linux") -> list[OtherAppModel]:
    return [one for one in models_of_other_apps(home, environ or {}, platform) if home in one.model.shards[0].parents]


def put(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small_model() if content is None else content)
    return path


def ollama(
    folder: Path, model: str, tag: str, digest: str = f"sha256:{DIGEST}", host: str = "registry.ollama.ai/library"
) -> Path:
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'cd' * 32}", "size": 3},
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": 3},
    ]
    put(folder / "manifests" / host / model / tag, json.dumps({"layers": layers}).encode())
    return put(folder / "blobs" / f"sha256-{DIGEST}")


def test_lm_studios_models_are_found_in_its_folder_and_where_it_was_moved(tmp_path: Path) -> None:
    put(tmp_path / ".lmstudio" / "models" / "maker" / "Tiny-GGUF" / "Tiny-Q4_K_M.gguf")
    put(tmp_path / "elsewhere" / "maker" / "Other-GGUF" / "Other-Q8_0.gguf")
    put(tmp_path / ".lmstudio" / "settings.json", json.dumps({"downloadsFolder": str(tmp_path / "elsewhere")}).encode())
    names = {(one.model.name.base_name, one.model.name.level, one.program) for one in found(tmp_path)}
    assert names == {("Tiny", "Q4_K_M", "LM Studio"), ("Other", "Q8_0", "LM Studio")}


def test_lm_studios_own_folder_may_be_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "big disk" / "models" / "maker" / "Tiny-GGUF" / "Tiny-Q4_K_M.gguf")
    put(tmp_path / ".lmstudio-home-pointer", f"{tmp_path}/big disk\n".encode())
    (one,) = found(tmp_path)
    assert (one.model.name.base_name, one.program) == ("Tiny", "LM Studio")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_ollamas_blobs_go_by_the_names_of_their_manifests(tmp_path: Path, platform: str) -> None:
    blob = ollama(tmp_path / ".ollama" / "models", "llama3.2", "3b-instruct-q8_0")
    (one,) = found(tmp_path, platform=platform)
    assert (one.model.name.base_name, one.model.name.level) == ("llama3.2-3b-instruct", "Q8_0")
    assert one.model.shards == (blob,) and one.program == "Ollama"


def test_ollama_may_keep_its_models_elsewhere(tmp_path: Path) -> None:
    ollama(tmp_path / "big disk", "tiny", "latest")
    (one,) = found(tmp_path, {"OLLAMA_MODELS": str(tmp_path / "big disk")})
    assert (one.model.name.base_name, one.model.name.level) == ("tiny", None)


@pytest.mark.parametrize("place", ["hf.co", "hf.co/owner", "hf.co/a/b/c", "."])
def test_a_manifest_in_an_odd_place_is_a_model_without_a_repository(tmp_path: Path, place: str) -> None:
    ollama(tmp_path / ".ollama" / "models", "tiny", "latest", host=place)
    (one,) = found(tmp_path)
    assert one.repo is None or place == "hf.co/owner"


def test_what_ollama_took_from_the_hub_keeps_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / ".ollama" / "models"
    ollama(folder, "Tiny-GGUF", "Q4_K_M", host="hf.co/maker")
    (one,) = found(tmp_path)
    assert (one.model.name.base_name, one.model.name.level, one.repo) == ("Tiny", "Q4_K_M", "maker/Tiny-GGUF")


@pytest.mark.parametrize(
    "digest", ["sha256:../../../../secret", "sha256:short", "md5:" + DIGEST, "", f"sha256:{'zz' * 32}"]
)
def test_a_manifest_cannot_lead_out_of_ollamas_folder(tmp_path: Path, digest: str) -> None:
    ollama(tmp_path / ".ollama" / "models", "tiny", "latest", digest)
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("platform", "folder", "environ"),
    [
        ("linux", ".cache/llama.cpp", {}),
        ("darwin", "Library/Caches/llama.cpp", {}),
        ("linux", "mine", {"LLAMA_CACHE": "mine"}),
        ("linux", "xdg/llama.cpp", {"XDG_CACHE_HOME": "xdg"}),
    ],
)
def test_llama_cpps_cache_goes_by_the_hubs_names(
    tmp_path: Path, platform: str, folder: str, environ: dict[str, str]
) -> None:
    place = tmp_path / folder
    put(place / "maker_Tiny-GGUF_Tiny-Q4_0.gguf")
    put(place / "manifest=maker=Tiny-GGUF=latest.json", b"{}")
    (one,) = found(tmp_path, {name: str(tmp_path / value) for name, value in environ.items()}, platform)
    assert (one.model.name.base_name, one.model.name.level, one.repo) == ("Tiny", "Q4_0", "maker/Tiny-GGUF")


def test_llama_cpps_newer_cache_is_laid_out_as_the_hubs_and_its_newest_commit_counts(tmp_path: Path) -> None:
    repository = tmp_path / "mine" / "models--maker--Tiny-GGUF"
    for digit in ("a", "b"):
        put(repository / "blobs" / (digit * 64), small_model(ord(digit)))
        snapshot = repository / "snapshots" / (digit * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "Tiny-Q4_0.gguf").symlink_to(repository / "blobs" / (digit * 64))
    put(repository / "refs" / "main", b"b" * 40)
    (one,) = found(tmp_path, {"LLAMA_CACHE": str(tmp_path / "mine")})
    assert (one.model.name.base_name, one.repo, one.program) == ("Tiny", "maker/Tiny-GGUF", "llama.cpp")
    assert one.model.shards[0].resolve().name == "b" * 64


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"layers": 7}', b'{"layers": [7, {}]}', b"\xff\xfe"])
def test_a_broken_list_of_another_program_spoils_nothing(tmp_path: Path, content: bytes) -> None:
    for place in ("r/l/m/latest", "hf.co/latest", "latest"):
        put(tmp_path / ".ollama" / "models" / "manifests" / place, content)
    put(tmp_path / ".lmstudio" / "settings.json", content)
    assert found(tmp_path) == []


def test_the_library_shows_them_and_never_deletes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ollama(tmp_path / "models", "tiny", "latest")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    settings = load_settings(data_dir=tmp_path / "data", allow_local_files=True)
    (file,) = [one for one in Library(settings).files() if one.origin == "Ollama"]
    assert file.display_name == "Tiny" and not may_delete_file(file, settings.data_dir)
    assert Library(settings).find_file(file.reference) == file
    hosted = load_settings(data_dir=tmp_path / "data", allow_local_files=False)
    assert not [one for one in Library(hosted).files() if one.origin == "Ollama"]
