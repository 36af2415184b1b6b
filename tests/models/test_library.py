"""What is on disk, found and named: real folders and real (tiny) GGUF files, and the real starter."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from playground.errors import BadModelFile, ModelNotFound
from playground.models.library import Library
from playground.models.model_file import ModelFile, readable_name
from playground.settings import load_settings
from tests.support.model_bytes import ARCHITECTURE, model, number_pair, text_pair


def write_model(path: Path, *, weights: int = 64, file_type: int | None = None, made_from: str | None = None) -> Path:
    """A sound GGUF file of one tensor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    if file_type is not None:
        writer.add_file_type(file_type)
    if made_from is not None:
        writer.add_string("gguf_playground.requantized_from", made_from)
    writer.add_tensor("output.weight", np.zeros(weights, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and a home without another one."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my models"


@pytest.fixture
def library(tmp_path: Path, folder: Path, hub_cache: Path) -> Library:
    return Library(load_settings(model_dirs=(folder, tmp_path / "not there"), data_dir=tmp_path / "data"))


def cached(cache: Path, repo: str, revision: str, name: str, *, weights: int = 64, main: bool = True) -> Path:
    """A file as huggingface_hub keeps it: a blob, and a link to it in a snapshot."""
    home = cache / f"models--{repo.replace('/', '--')}"
    blob = write_model(home / "blobs" / f"{revision}{name.replace('/', '')}", weights=weights)
    link = home / "snapshots" / revision / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    if main:
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / "main").write_text(revision)
    return link


def listed(library: Library) -> list[ModelFile]:
    return [file for file in library.files() if file.origin != "starter"]


# --- what is listed ---


def test_the_starter_comes_first_and_is_read_in_place(library: Library, starter: Path) -> None:
    first = library.files()[0]
    assert (first.path, first.origin, first.level) == (starter, "starter", "Q4_1")
    assert first.size == starter.stat().st_size


def test_files_come_from_the_hub_cache_the_folders_and_what_was_made_here(
    library: Library, folder: Path, hub_cache: Path
) -> None:
    mine = write_model(folder / "sub" / "Tiny-Q8_0.gguf")
    cached(hub_cache, "acme/Tiny-GGUF", "a" * 40, "Tiny-Q4_K_M.gguf")
    made = write_model(library.path_for_level("Tiny", "Q2_K"), made_from="Q8_0")
    assert {(file.origin, file.repo, file.level, file.requantized_from) for file in listed(library)} == {
        ("folder", None, "Q8_0", None),
        ("hub cache", "acme/Tiny-GGUF", "Q4_K_M", None),
        ("made here", None, "Q2_K", "Q8_0"),
    }
    assert {file.path for file in listed(library)} >= {mine, made}


def test_the_levels_of_a_model_stand_together_from_small_to_large(library: Library, folder: Path) -> None:
    write_model(folder / "Tiny-Q8_0.gguf", weights=512)
    write_model(folder / "tiny-q2_k.gguf", weights=64)
    write_model(folder / "Tiny-Q4_K_M.gguf", weights=256)
    write_model(folder / "Other-F16.gguf")
    models = library.models()
    assert [file.level for file in models["Tiny"]] == ["Q2_K", "Q4_K_M", "Q8_0"]
    assert [file.level for file in models["Other"]] == ["F16"]


def test_a_level_that_the_name_does_not_tell_comes_from_the_header(library: Library, folder: Path) -> None:
    write_model(folder / "told.gguf", file_type=7)
    write_model(folder / "untold.gguf")
    assert {file.base_name: file.level for file in listed(library)} == {"told": "Q8_0", "untold": "unknown"}


def test_shards_are_one_model_with_the_size_of_all(library: Library, folder: Path) -> None:
    shards = [write_model(folder / f"Big-Q4_0-0000{number}-of-00003.gguf") for number in (1, 2, 3)]
    (file,) = listed(library)
    assert file.path == shards[0] and file.shards == tuple(shards)
    assert file.size == sum(shard.stat().st_size for shard in shards)


def test_an_incomplete_set_of_shards_is_left_out_and_said(library: Library, folder: Path) -> None:
    write_model(folder / "Big-Q4_0-00001-of-00003.gguf")
    write_model(folder / "Big-Q4_0-00003-of-00003.gguf")
    files, left_out = library.scan_models()
    assert [file.origin for file in files] == ["starter"]
    assert [entry.reason for entry in left_out] == ["2 of the 3 parts of Big are here; a model needs all of them."]


@pytest.mark.parametrize("name", ["mmproj-Tiny-F16.gguf", "Tiny-imatrix.gguf"])
def test_what_is_no_model_to_chat_with_is_not_listed(library: Library, folder: Path, name: str) -> None:
    write_model(folder / name)
    assert listed(library) == []


def test_a_bad_file_is_left_out_and_the_others_stay(library: Library, folder: Path) -> None:
    write_model(folder / "Good-Q8_0.gguf")
    (folder / "Bad-Q8_0.gguf").write_bytes(b"GGUF\x03\x00\x00\x00 and then nothing of sense")
    (folder / "Empty-Q8_0.gguf").touch()
    files, left_out = library.scan_models()
    assert [file.base_name for file in files if file.origin == "folder"] == ["Good"]
    assert {entry.path.name for entry in left_out} == {"Bad-Q8_0.gguf", "Empty-Q8_0.gguf"}
    assert all(entry.reason for entry in left_out)


def test_a_broken_later_shard_leaves_its_model_out_and_no_other(library: Library, folder: Path) -> None:
    shards = [write_model(folder / f"Big-Q4_0-0000{number}-of-00002.gguf") for number in (1, 2)]
    shards[1].write_bytes(b"GGUF and then nothing")
    write_model(folder / "Good-Q8_0.gguf")
    files, left_out = library.scan_models()
    assert [file.base_name for file in files if file.origin == "folder"] == ["Good"]
    assert [entry.path for entry in left_out] == [shards[0]]


@pytest.mark.parametrize(
    ("general_type", "kind"),
    [("mmproj", "projector (mmproj)"), ("adapter", "LoRA adapter"), ("imatrix", "importance matrix")],
)
def test_a_file_whose_header_names_another_kind_is_left_out(
    library: Library, folder: Path, general_type: str, kind: str
) -> None:
    path = folder / "Model-Q8_0.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model([ARCHITECTURE, text_pair("general.type", general_type)]))
    files, left_out = library.scan_models()
    assert path not in [file.path for file in files]
    assert [entry.path for entry in left_out] == [path] and kind in left_out[0].reason
    with pytest.raises(BadModelFile, match="not a model to chat with"):
        library.find_file(str(path))


def test_an_embedding_model_under_a_chat_models_name_is_left_out_with_what_it_is_for(
    library: Library, folder: Path
) -> None:
    path = folder / "Nice-Chat-Q8_0.gguf"
    folder.mkdir()
    path.write_bytes(model([text_pair("general.architecture", "bert")]))
    write_model(folder / "my-adapter-model-Q8_0.gguf")  # a model by its header
    files, left_out = library.scan_models()
    assert [file.base_name for file in files if file.origin == "folder"] == ["my-adapter-model"]
    assert "an embedding model" in left_out[0].reason and "cannot write an answer" in left_out[0].reason
    blob = folder / "blob"
    path.rename(blob)
    with pytest.raises(BadModelFile, match="an embedding model"):
        library.find_file(str(blob))


def test_shards_without_their_numbers_are_recognised_by_their_headers(library: Library, folder: Path) -> None:
    folder.mkdir()
    own = [number_pair("split.no", 1), number_pair("split.count", 3), ARCHITECTURE]
    path = folder / "second part.gguf"
    path.write_bytes(model(own))
    write_model(folder / "Good-Q8_0.gguf")
    files, left_out = library.scan_models()
    assert [file.base_name for file in files if file.origin == "folder"] == ["Good"]
    assert "part 2 of 3" in left_out[0].reason and "-00002-of-00003.gguf" in left_out[0].reason
    with pytest.raises(BadModelFile, match="part 2 of 3"):
        library.find_file(str(path))


def test_a_dangling_link_and_a_folder_named_like_a_model_are_passed_over(library: Library, folder: Path) -> None:
    (folder / "Folder-Q8_0.gguf").mkdir(parents=True)
    (folder / "Gone-Q8_0.gguf").symlink_to(folder / "nowhere")
    assert listed(library) == []


def test_links_that_lead_in_a_circle_end(library: Library, folder: Path) -> None:
    write_model(folder / "deep" / "Tiny-Q8_0.gguf")
    (folder / "deep" / "back").symlink_to(folder)
    assert [file.base_name for file in listed(library)] == ["Tiny"]


def test_a_file_that_two_places_show_is_listed_once(library: Library, folder: Path, hub_cache: Path) -> None:
    link = cached(hub_cache, "acme/Tiny-GGUF", "a" * 40, "Tiny-Q4_K_M.gguf")
    folder.mkdir()
    (folder / "Tiny-Q4_K_M.gguf").symlink_to(link)
    assert [file.origin for file in listed(library)] == ["hub cache"]


def test_of_two_revisions_in_the_cache_main_is_shown(library: Library, hub_cache: Path) -> None:
    current = cached(hub_cache, "acme/Tiny-GGUF", "a" * 40, "Tiny-Q4_K_M.gguf")
    cached(hub_cache, "acme/Tiny-GGUF", "b" * 40, "Tiny-Q4_K_M.gguf", weights=128, main=False)
    only_old = cached(hub_cache, "acme/Tiny-GGUF", "b" * 40, "Tiny-Q8_0.gguf", main=False)
    assert {file.path for file in listed(library)} == {current, only_old}


def test_a_level_in_the_folder_of_a_repository_counts(library: Library, hub_cache: Path) -> None:
    for number in (1, 2):
        cached(hub_cache, "acme/Big-GGUF", "a" * 40, f"Q4_K_M/Big-0000{number}-of-00002.gguf")
    assert [(file.level, len(file.shards)) for file in listed(library)] == [("Q4_K_M", 2)]


def test_a_file_that_changes_is_read_again(library: Library, folder: Path) -> None:
    path = write_model(folder / "changing.gguf", file_type=7)
    assert listed(library)[0].level == "Q8_0"
    write_model(path, file_type=2, weights=128)
    assert listed(library)[0].level == "Q4_0"


def test_true_bits_per_weight_cover_all_shards(library: Library, folder: Path) -> None:
    write_model(folder / "Tiny-Q8_0.gguf", weights=64)
    assert library.whole_header(listed(library)[0]).bits_per_weight == 32


# --- models that share a name ---


def test_two_repositories_with_files_of_one_name_are_two_models(library: Library, hub_cache: Path) -> None:
    piano = cached(hub_cache, "alice/piano-teacher-GGUF", "a" * 40, "unsloth.Q4_K_M.gguf")
    chess = cached(hub_cache, "bob/chess-coach-GGUF", "b" * 40, "unsloth.Q4_K_M.gguf")
    more = cached(hub_cache, "bob/chess-coach-GGUF", "b" * 40, "unsloth.Q8_0.gguf")
    models = library.models()
    assert [file.path for file in models["unsloth (alice)"]] == [piano]
    assert {file.path for file in models["unsloth (bob)"]} == {chess, more}
    assert library.find_file("alice/piano-teacher-GGUF").path == piano
    assert library.find_file("unsloth (bob):Q8_0").path == more
    with pytest.raises(ModelNotFound, match=r"unsloth \(alice\), unsloth \(bob\)"):
        library.find_file("unsloth:Q4_K_M")


def test_one_owner_with_files_of_one_name_has_models_named_by_repository(library: Library, hub_cache: Path) -> None:
    for repo, level in (("acme/Tutor-GGUF", "Q4_K_M"), ("acme/Coach-GGUF", "Q8_0")):
        cached(hub_cache, repo, "a" * 40, f"model-{level}.gguf")
    names = {file.base_name for file in listed(library)}
    assert names == {"model (Tutor-GGUF)", "model (Coach-GGUF)"}


def test_one_file_name_in_two_folders_is_two_models_named_by_folder(library: Library, folder: Path) -> None:
    for name in ("piano", "chess"):
        write_model(folder / name / "model-Q4_K_M.gguf")
        write_model(folder / name / "Q8_0" / "model-Q8_0.gguf")
    models = library.models()
    assert [len(models[f"model ({name})"]) for name in ("piano", "chess")] == [2, 2]


def test_headers_of_different_models_tell_levels_in_two_folders_apart(library: Library, folder: Path) -> None:
    for name, level in (("Piano", "Q4_0"), ("Chess", "Q8_0")):
        path = folder / name / f"model-{level}.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(model([ARCHITECTURE, text_pair("general.name", name)]))
    assert {file.base_name for file in listed(library)} == {"model (Piano)", "model (Chess)"}


def test_a_model_that_has_the_starters_name_and_level_is_not_the_starter(
    library: Library, starter: Path, folder: Path
) -> None:
    write_model(folder / starter.name)
    assert {file.base_name for file in library.files()} == {
        "SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct (my models)",
    }  # fmt: skip


def test_a_level_made_of_one_of_two_models_of_one_name_joins_it(library: Library, hub_cache: Path) -> None:
    for owner in ("alice", "bob"):
        cached(hub_cache, f"{owner}/x-GGUF", "a" * 40, "unsloth.Q8_0.gguf")
    made = write_model(library.path_for_level("unsloth (bob)", "Q2_K"), made_from="Q8_0")
    assert made in [file.path for file in library.models()["unsloth (bob)"]]


# --- what a reference means ---


def test_starter_is_the_file_as_shipped_even_when_levels_were_made_of_it(library: Library, starter: Path) -> None:
    made = write_model(library.path_for_level("SmolLM2-135M-Instruct", "Q2_0"), made_from="Q4_1")
    assert library.find_file("starter").path == starter
    assert library.find_file("starter:q2_0").path == made
    assert [file.level for file in library.find_files("starter")] == ["Q2_0", "Q4_1"]


def test_a_level_that_does_not_exist_is_refused_with_those_that_do(library: Library) -> None:
    with pytest.raises(ModelNotFound, match=r"starter is not on this computer at the level Q8_0\. .* Q4_1"):
        library.find_file("starter:Q8_0")


def test_a_repository_without_a_level_means_q4_k_m_then_q8_0(library: Library, hub_cache: Path) -> None:
    repo, revision = "acme/Tiny-GGUF", "a" * 40
    cached(hub_cache, repo, revision, "Tiny-Q2_K.gguf")
    assert library.find_file("acme/tiny-gguf").level == "Q2_K"
    cached(hub_cache, repo, revision, "Tiny-F16.gguf")
    with pytest.raises(ModelNotFound, match=r"several levels: .*Q2_K, F16|several levels: .*F16, Q2_K"):
        library.find_file(repo)
    cached(hub_cache, repo, revision, "Tiny-Q8_0.gguf")
    assert library.find_file(repo).level == "Q8_0"
    cached(hub_cache, repo, revision, "Tiny-Q4_K_M.gguf")
    assert library.find_file(repo).level == "Q4_K_M"
    assert library.find_file(f"{repo}:q2_k").level == "Q2_K"


def test_every_listed_file_is_found_by_its_own_reference(library: Library, folder: Path, hub_cache: Path) -> None:
    write_model(folder / "Tiny-Q8_0.gguf")
    cached(hub_cache, "acme/Tiny-GGUF", "a" * 40, "Tiny-Q4_K_M.gguf")
    write_model(library.path_for_level("Tiny", "Q2_K"), made_from="Q8_0")
    files = library.files()
    assert [library.find_file(file.reference) for file in files] == files and len(files) == 4


def test_two_files_of_one_level_are_each_found_by_their_names(library: Library, hub_cache: Path) -> None:
    names = ("M.Q4_K_M.gguf", "M.i1-Q4_K_M.gguf", "sub/M_Q4.gguf")
    links = [cached(hub_cache, "acme/M-GGUF", "a" * 40, name) for name in names]
    files = listed(library)
    assert {file.path for file in files} == set(links)
    assert [library.find_file(file.reference) for file in files] == files
    assert [library.find_file(f"acme/M-GGUF:{name}").path for name in names] == links
    assert library.find_file("acme/M-GGUF:q4").path == links[2]
    assert library.find_file("acme/M-GGUF:M_Q4.gguf").path == links[2]
    with pytest.raises(ModelNotFound, match="may mean several files"):
        library.find_file("acme/M-GGUF:Q4_K_M")


def test_a_level_here_is_found_without_the_mark_of_its_publisher(library: Library, hub_cache: Path) -> None:
    link = cached(hub_cache, "acme/M-GGUF", "a" * 40, "M-UD-Q4_K_XL.gguf")
    assert library.find_file("acme/M-GGUF:Q4_K_XL").path == link


def test_a_path_outside_the_library_is_taken_too(library: Library, tmp_path: Path) -> None:
    path = write_model(tmp_path / "elsewhere" / "Tiny-Q4_0.gguf")
    assert (library.find_file(str(path)).level, library.find_file(str(path)).base_name) == ("Q4_0", "Tiny")


def test_a_path_may_have_no_ending(library: Library, tmp_path: Path) -> None:
    path = write_model(tmp_path / "blobs" / "sha256-0123", file_type=7)
    assert library.find_file(str(path)).level == "Q8_0"


def test_any_shard_means_the_whole_model(library: Library, tmp_path: Path) -> None:
    shards = [write_model(tmp_path / f"Big-Q4_0-0000{number}-of-00002.gguf") for number in (1, 2)]
    assert library.find_file(str(shards[1])).shards == tuple(shards)


def test_one_shard_without_the_others_is_refused_with_the_count(library: Library, tmp_path: Path) -> None:
    path = write_model(tmp_path / "Big-Q4_0-00001-of-00002.gguf")
    with pytest.raises(ModelNotFound, match="1 of the 2 parts"):
        library.find_file(str(path))


def test_a_folder_of_one_model_means_its_usual_level(library: Library, tmp_path: Path) -> None:
    for level in ("Q2_K", "Q4_K_M", "Q8_0"):
        write_model(tmp_path / "tiny" / f"Tiny-{level}.gguf")
    assert library.find_file(str(tmp_path / "tiny")).level == "Q4_K_M"
    write_model(tmp_path / "tiny" / "Other-Q4_K_M.gguf")
    with pytest.raises(ModelNotFound, match="several models"):
        library.find_file(str(tmp_path / "tiny"))


def test_a_projector_is_refused_as_such(library: Library, tmp_path: Path) -> None:
    path = write_model(tmp_path / "mmproj-Tiny-F16.gguf")
    with pytest.raises(ModelNotFound, match="projector"):
        library.find_file(str(path))


def test_a_path_to_something_else_is_a_bad_model_file(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a model at all, though long enough to look at.")
    with pytest.raises(BadModelFile):
        library.find_file(str(path))


@pytest.mark.parametrize("reference", ["/no/such/file.gguf", "acme/nothing:Q4_0", "nonsense", "", ":Q4_0"])
def test_what_is_not_here_is_refused_with_what_is(library: Library, reference: str) -> None:
    with pytest.raises(ModelNotFound, match="starter"):
        library.find_file(reference)


def test_a_made_level_never_leaves_the_data_folder(library: Library, tmp_path: Path) -> None:
    for name in ("../../evil", "a/b", "..", "Gemma 3 (beta)"):
        path = library.path_for_level(name, "Q4_0")
        assert (
            path.resolve().is_relative_to((tmp_path / "data" / "models").resolve())
            and path.parent.name == path.stem[:-5]
        )


def test_a_made_level_stands_with_its_model_whatever_that_is_called(library: Library, folder: Path) -> None:
    write_model(folder / "My Model (v2)-Q8_0.gguf")
    write_model(library.path_for_level("My Model (v2)", "Q2_K"), made_from="Q8_0")
    assert {file.level for file in library.models()["My Model (v2)"]} == {"Q8_0", "Q2_K"}


@pytest.mark.parametrize(
    ("base_name", "words"),
    [
        ("SmolLM2-135M-Instruct", "SmolLM2 135M Instruct"),
        ("gemma-3-4b-it", "Gemma 3 4B it"),
        ("Mixtral-8x7B-Instruct-v0.1", "Mixtral 8x7B Instruct v0.1"),
        ("qwen2.5-0.5b-instruct", "Qwen2.5 0.5B instruct"),
        ("model", "Model"),
    ],
)
def test_a_base_name_is_made_readable(base_name: str, words: str) -> None:
    assert readable_name(base_name) == words
