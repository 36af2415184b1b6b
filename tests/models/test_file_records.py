"""What is remembered of model files outlives the playground: downloads, last loads and checksums."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.errors import PlaygroundError
from playground.models.file_records import FileChecksums, LastUsed, delete_file, may_delete_file, record_download
from playground.models.model_file import ModelFile


def test_the_last_load_is_known_after_a_restart_and_never_is_told_from_once(tmp_path: Path) -> None:
    times = iter([1000.0, 2000.4])
    used = LastUsed(tmp_path / "data" / "last-used.json", lambda: next(times))
    used.record_load(tmp_path / "a.gguf")
    used.record_load(tmp_path / "a.gguf")
    again = LastUsed(tmp_path / "data" / "last-used.json")
    assert again.last_load_time(tmp_path / "a.gguf") == 2000
    assert again.last_load_time(tmp_path / "b.gguf") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"/a.gguf": "yesterday"}', "\x00"])
def test_a_damaged_list_means_that_nothing_is_known_and_is_begun_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "last-used.json"
    file.write_text(content)
    used = LastUsed(file, lambda: 3000)
    assert used.last_load_time(Path("/a.gguf")) is None
    used.record_load(Path("/a.gguf"))
    assert used.last_load_time(Path("/a.gguf")) == 3000


def test_a_folder_that_cannot_be_written_stops_no_load(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    LastUsed(tmp_path / "data" / "last-used.json").record_load(tmp_path / "a.gguf")


# --- downloads ---


def cached(cache: Path, name: str = "Small-Q8_0.gguf", content: bytes = b"abc") -> ModelFile:
    """A file in a Hugging Face cache, as a link to its blob in two snapshots."""
    blob = cache / "models--owner--Small" / "blobs" / f"etag-of-{name}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    for commit in ("a" * 40, "b" * 40):
        path = blob.parent.parent / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(Path("../../blobs") / blob.name)
    return ModelFile(path, (path,), "Small", "Q8_0", len(content), "hub cache", "owner/Small")


def test_only_what_the_playground_downloaded_may_be_deleted_from_the_cache(tmp_path: Path) -> None:
    file, other = cached(tmp_path / "hub"), cached(tmp_path / "hub", "Small-Q4_0.gguf")
    record_download(tmp_path / "data", file.path)
    assert may_delete_file(file, tmp_path / "data") and not may_delete_file(other, tmp_path / "data")
    with pytest.raises(PlaygroundError, match="not put there by the playground"):
        delete_file(other, tmp_path / "data")
    delete_file(file, tmp_path / "data")
    left = {path.name for path in (tmp_path / "hub").rglob("*") if not path.is_dir()}
    assert left == {"Small-Q4_0.gguf", "etag-of-Small-Q4_0.gguf"}
    assert not may_delete_file(file, tmp_path / "data")


def test_a_content_that_repositories_share_stays_when_one_of_them_lets_it_go(tmp_path: Path) -> None:
    file = cached(tmp_path / "hub")
    blob = file.path.parent / file.path.readlink()
    shared = tmp_path / "hub" / "blobs" / "ab" / "shared"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    record_download(tmp_path / "data", file.path)
    delete_file(file, tmp_path / "data")
    assert shared.read_bytes() == b"abc" and not blob.is_symlink() and not file.path.is_symlink()


# --- checksums ---


def test_checksums_are_computed_once_and_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"abc")
    file = ModelFile(path, (path,), "a", "Q8_0", 3, "folder")
    checksums = FileChecksums(tmp_path / "memory" / "checksums.json")
    assert checksums.known_checksums(file) is None
    assert list(checksums.compute_checksums([file, file])) == [1.0]
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert FileChecksums(tmp_path / "memory" / "checksums.json").known_checksums(file) == (abc,)
    assert list(checksums.compute_checksums([file])) == []
    path.write_bytes(b"abcd")
    assert checksums.known_checksums(file) is None


def test_a_checksum_that_cannot_be_kept_is_known_until_the_playground_ends(tmp_path: Path) -> None:
    path, in_the_way = tmp_path / "a.gguf", tmp_path / "file"
    path.write_bytes(b"abc")
    in_the_way.touch()
    file = ModelFile(path, (path,), "a", "Q8_0", 3, "folder")
    checksums = FileChecksums(in_the_way / "checksums.json")
    assert list(checksums.compute_checksums([file])) == [1.0]
    assert checksums.known_checksums(file) is not None


def test_a_damaged_record_of_checksums_costs_time_only(tmp_path: Path) -> None:
    path, memory = tmp_path / "a.gguf", tmp_path / "checksums.json"
    path.write_bytes(b"abc")
    memory.write_text('{"half')
    file = ModelFile(path, (path,), "a", "Q8_0", 3, "folder")
    checksums = FileChecksums(memory)
    list(checksums.compute_checksums([file]))
    assert checksums.known_checksums(file)
