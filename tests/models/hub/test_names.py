"""What people type and paste, and what of it may be asked of the Hub."""

from __future__ import annotations

import pytest

from playground.errors import HubProblem
from playground.models.hub.names import HubReference, check_file_path, looks_like_reference, parse_reference

MINE = "http://localhost:9000"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("owner/repo", HubReference("owner/repo")),
        ("  owner/repo  ", HubReference("owner/repo")),
        ("bartowski/Llama-3.2-1B-Instruct-GGUF", HubReference("bartowski/Llama-3.2-1B-Instruct-GGUF")),
        ("owner/repo:Q4_K_M", HubReference("owner/repo", "Q4_K_M")),
        ("owner/repo:UD-Q4_K_XL", HubReference("owner/repo", "UD-Q4_K_XL")),
        ("owner/repo:M V2_Q4.gguf", HubReference("owner/repo", path="M V2_Q4.gguf")),
        ("owner/repo:Q8_0/M-00001-of-00002.gguf", HubReference("owner/repo", path="Q8_0/M-00001-of-00002.gguf")),
        ("hf.co/owner/repo:M_V2_Q4.gguf", HubReference("owner/repo", path="M_V2_Q4.gguf")),
        ("hf.co/owner/repo:Q8_0", HubReference("owner/repo", "Q8_0")),
        ("https://huggingface.co/owner/repo", HubReference("owner/repo")),
        ("https://huggingface.co/owner/repo/", HubReference("owner/repo")),
        ("https://huggingface.co/owner/repo/tree/main", HubReference("owner/repo")),
        ("https://huggingface.co/owner/repo/tree/main/Q4", HubReference("owner/repo")),
        ("https://huggingface.co/owner/repo/blob/main/M-Q4_0.gguf", HubReference("owner/repo", path="M-Q4_0.gguf")),
        (
            "https://huggingface.co/owner/repo/resolve/main/Q4%20K/M.gguf?download=true",
            HubReference("owner/repo", path="Q4 K/M.gguf"),
        ),
        (
            "https://huggingface.co/owner/repo?show_file_info=M-Q4_0.gguf",
            HubReference("owner/repo", path="M-Q4_0.gguf"),
        ),
        (f"{MINE}/owner/repo", HubReference("owner/repo")),
    ],
)
def test_a_model_is_named_in_many_ways(typed: str, meant: HubReference) -> None:
    assert parse_reference(typed, MINE) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "repo",
        "a/b/c",
        "../../etc/passwd",
        "owner/..",
        "owner/repo--x",
        "owner/repo.git",
        "owner/-repo",
        "owner/" + "x" * 97,
        "owner/repo?x=1",
        "owner/repo#top",
        "owner/repo:",
        "owner/repo:Q4 K",
        "owner/repo:../x",
        "owner/repo:../x.gguf",
        "ówner/repo",
        "owner/re\npo",
        "https://example.com/owner/repo",
        "https://huggingface.co.example.com/owner/repo",
        "https://huggingface.co@example.com/owner/repo",
        "ftp://huggingface.co/owner/repo",
        "https://huggingface.co/datasets/owner/repo",
        "https://huggingface.co/owner",
        "https://huggingface.co/owner/repo/discussions/1",
        "https://huggingface.co/owner/repo/blob/other/M.gguf",
        "https://huggingface.co/owner/repo/blob/main/../M.gguf",
        "https://[bad/owner/repo",
        "x/y" * 1000,
    ],
)
def test_what_is_no_name_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(HubProblem) as refusal:
        parse_reference(typed, MINE)
    assert refusal.value.problem and refusal.value.remedy and len(str(refusal.value)) < 400


@pytest.mark.parametrize("path", ["", "/etc/x.gguf", "a/../x.gguf", "a//x.gguf", "..\\x.gguf", "x\0.gguf", "./x.gguf"])
def test_a_file_name_that_would_leave_the_repository_is_refused(path: str) -> None:
    with pytest.raises(HubProblem):
        check_file_path(path)


@pytest.mark.parametrize(
    ("typed", "names_one"),
    [("llama 3.2", False), ("qwen", False), ("owner/repo", True), ("https://x/y z", True), ("1/2 of a word", False)],
)
def test_words_are_searched_for_and_names_are_opened(typed: str, names_one: bool) -> None:
    assert looks_like_reference(typed) is names_one
