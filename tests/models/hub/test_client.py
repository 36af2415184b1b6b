"""Questions to the Hub: what it offers, what a header costs, and a sentence for each thing that goes wrong.

The real huggingface_hub talks to a stand-in on loopback; no test waits, since the waiting is handed in.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants

from playground.errors import BadModelFile, HubProblem, HubUnreachable
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource
from playground.models.hub.client import HubClient, RetryPolicy
from playground.models.hub.errors import HubRequest, describe_error
from playground.models.hub.headers import HubHeaders
from playground.models.hub.repository import HubLevel
from tests.support.gguf_bytes import Blob, small_model, split_model
from tests.support.hub_stand_in import HubStandIn

REPO = "owner/Small-GGUF"
PATH = "Small-Q4_0.gguf"


@pytest.fixture(autouse=True)
def _no_token_of_this_computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def server() -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def open_hub(server: HubStandIn, tmp_path: Path, waits: list[float]) -> Callable[..., HubClient]:
    retry = RetryPolicy(wait=lambda seconds, why: waits.append(seconds))

    def open_hub(endpoint: str = server.endpoint, token: str | None = None) -> HubClient:
        return HubClient(endpoint, token, tmp_path / "cache", retry)

    return open_hub


@pytest.fixture
def hub(open_hub: Callable[..., HubClient]) -> HubClient:
    return open_hub()


@pytest.fixture
def headers(hub: HubClient, tmp_path: Path) -> HubHeaders:
    return HubHeaders(hub, tmp_path / "headers")


@pytest.fixture
def level(server: HubStandIn, hub: HubClient) -> HubLevel:
    server.add(REPO, {PATH: small_model()})
    found = hub.fetch_repository(REPO).resolve_level()
    server.forget_requests()
    return found


# --- search and levels ---


def test_a_search_shows_downloads_likes_licence_and_gate(server: HubStandIn, hub: HubClient) -> None:
    server.add("owner/Small-GGUF", {PATH: small_model()}, downloads=5, likes=2, licence="mit")
    server.add("owner/Smaller-GGUF", {PATH: small_model()}, downloads=50, gated="manual", parameters=1000)
    server.add("owner/other", {"README.md": b"small"})
    found = hub.search_repositories(" small  gguf ")
    assert [row.id for row in found] == ["owner/Smaller-GGUF", "owner/Small-GGUF"]
    assert (found[1].downloads, found[1].likes, found[1].licence, found[1].gated) == (5, 2, "mit", False)
    assert found[0].gated and found[0].parameter_count == 1000


def test_opening_a_repository_takes_one_request(server: HubStandIn, hub: HubClient) -> None:
    files = {f"Small-{name}.gguf": small_model(seed) for seed, name in enumerate(("Q2_K", "Q4_K_M", "Q8_0"))}
    server.add(REPO, {**files, "README.md": b"#", "mmproj-Small-F16.gguf": small_model(9)}, gated="auto", likes=3)
    repository = hub.fetch_repository(REPO)
    assert sorted(level.level for level in repository.levels) == ["Q2_K", "Q4_K_M", "Q8_0"]
    assert all(level.size == len(small_model()) for level in repository.levels)
    assert repository.gated and repository.likes == 3 and "licence" in repository.note
    assert len(server.requests) == 1


@pytest.mark.parametrize("repo", ["../x", "a/b/c", "owner/re po", "owner", "owner/x--y", "a/b?c=d"])
def test_a_name_outside_the_hubs_rules_is_never_requested(server: HubStandIn, hub: HubClient, repo: str) -> None:
    with pytest.raises(HubProblem):
        hub.fetch_repository(repo)
    assert server.requests == []


@pytest.mark.parametrize("path", ["../x.gguf", "a\\x.gguf", "/x.gguf", "a//x.gguf", "x\udcff.gguf", "x\0.gguf"])
def test_a_file_with_an_impossible_name_is_refused(server: HubStandIn, hub: HubClient, path: str) -> None:
    server.add(REPO, {path: small_model()})
    with pytest.raises(HubProblem, match="impossible name"):
        hub.fetch_repository(REPO)


def test_storage_that_cannot_be_reached_is_named_and_not_the_hub(
    server: HubStandIn, hub: HubClient, headers: HubHeaders
) -> None:
    server.add(REPO, {"Small-Q8_0.gguf": small_model()})
    level = hub.fetch_repository(REPO).resolve_level()
    server.storage = "http://127.0.0.1:9"
    with pytest.raises(HubProblem, match=r"answered, but 127\.0\.0\.1:9, which sends its files, cannot be reached"):
        headers.read_header(level)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            httpx2.ReadTimeout,
            "No answer in time from cdn.example, which sends the files of the Hub at https://hub.example",
        ),
        (httpx2.ConnectTimeout, "No answer in time from cdn.example, which sends"),
        (
            httpx2.ReadError,
            "The connection to cdn.example, which sends the files of the Hub at https://hub.example broke",
        ),
        (httpx2.RemoteProtocolError, "The connection to cdn.example, which"),
        (httpx2.ConnectError, "answered, but cdn.example, which sends its files, cannot be reached"),
    ],
)
def test_whatever_fails_at_the_data_host_names_that_host(error: type[httpx2.RequestError], words: str) -> None:
    asked = HubRequest("https://hub.example", "owner/repo")
    there = httpx2.Request("GET", "https://cdn.example/x?signature=y")
    assert words in str(describe_error(error("x", request=there), asked))
    own = str(describe_error(error("x", request=httpx2.Request("GET", "https://hub.example/api")), asked))
    assert "cdn" not in own and "the Hub at https://hub.example" in own


@pytest.mark.parametrize(
    ("status", "words"), [(503, "has an internal problem (error 503)"), (404, "refused"), (403, "refused")]
)
def test_a_refusal_of_the_data_host_is_not_the_hubs(
    server: HubStandIn, hub: HubClient, level: HubLevel, status: int, words: str
) -> None:
    server.fail("/storage/", status, times=99)
    with pytest.raises(HubProblem) as refused:
        list(hub.stream_file(level.repo, level.commit, level.files[0], 0, level.size))
    assert str(refused.value).startswith(server.storage.removeprefix("http://")) and words in str(refused.value)
    assert "no repository" not in str(refused.value)


# --- headers ---


def test_the_starters_header_costs_less_than_a_twelfth_of_the_file(
    server: HubStandIn, hub: HubClient, headers: HubHeaders, starter: Path
) -> None:
    server.add(REPO, {"SmolLM2-Q4_1.gguf": starter})
    header = headers.read_header(hub.fetch_repository(REPO).resolve_level())
    assert header.whole == read_header(FileSource(starter))
    assert header.path.stat().st_size == starter.stat().st_size  # a stand-in of full size, for the dry run
    assert server.bytes_sent("/storage/") < 0.08 * starter.stat().st_size


def test_the_stand_in_takes_no_more_room_than_the_header(
    server: HubStandIn, hub: HubClient, headers: HubHeaders, starter: Path
) -> None:
    server.add(REPO, {"SmolLM2-Q4_1.gguf": starter})
    header = headers.read_header(hub.fetch_repository(REPO).resolve_level())
    assert header.path.stat().st_blocks * 512 < header.whole.byte_count + 64 * 1024


@pytest.mark.parametrize("tensors_in_first", [True, False], ids=["usual", "no tensor in the first"])
def test_the_header_of_shards_is_that_of_the_whole(
    server: HubStandIn, hub: HubClient, headers: HubHeaders, starter: Path, tensors_in_first: bool
) -> None:
    shards = split_model(starter, 3, tensors_in_first=tensors_in_first)
    server.add(REPO, {f"S-Q4_1-{i:05d}-of-00003.gguf": shard for i, shard in enumerate(shards, 1)})
    header = headers.read_header(hub.fetch_repository(REPO).resolve_level())
    whole = read_header(FileSource(starter))
    assert header.whole.parameter_count == whole.parameter_count
    assert header.whole.chat_template == whole.chat_template
    stand_ins = sorted(header.path.parent.iterdir())
    assert [path.stat().st_size for path in stand_ins] == [shard.size for shard in shards]
    assert server.bytes_sent("/storage/") < 0.08 * starter.stat().st_size


def test_a_repository_of_ten_levels_costs_one_header(server: HubStandIn, hub: HubClient, headers: HubHeaders) -> None:
    names = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"]
    server.add(REPO, {f"Small-{name}.gguf": small_model(seed) for seed, name in enumerate(names)})
    headers.read_header(hub.fetch_repository(REPO).resolve_level())
    assert len([request for request in server.requests if "/storage/" in request.path]) == 1


def test_a_header_is_read_once_and_then_had_from_disk(server: HubStandIn, headers: HubHeaders, level: HubLevel) -> None:
    first = headers.read_header(level)
    server.forget_requests()
    assert headers.read_header(level) == first
    assert server.requests == []


def test_a_header_kept_of_an_older_content_does_not_answer_for_a_new_one(
    server: HubStandIn, hub: HubClient, headers: HubHeaders, level: HubLevel
) -> None:
    headers.read_header(level)
    server.change(REPO, PATH, small_model(7, tensors=3))
    assert len(headers.read_header(hub.fetch_repository(REPO).resolve_level()).whole.tensors) == 3


def test_the_headers_that_were_not_used_for_long_are_forgotten(
    server: HubStandIn, hub: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.models.hub.headers.MOST_KEPT", 2)
    server.add(REPO, {f"Small-{name}.gguf": small_model(seed) for seed, name in enumerate(("Q2_K", "Q4_0", "Q8_0"))})
    headers = HubHeaders(hub, tmp_path / "headers")
    for level in hub.fetch_repository(REPO).levels:
        headers.read_header(level)
    assert len(list((tmp_path / "headers").iterdir())) == 2


def test_a_damaged_stand_in_is_read_anew(headers: HubHeaders, level: HubLevel) -> None:
    header = headers.read_header(level)
    header.path.write_bytes(b"GGUF" + bytes(100))
    assert headers.read_header(level) == header


def test_a_header_larger_than_the_cap_is_refused_before_it_is_fetched(
    server: HubStandIn, hub: HubClient, headers: HubHeaders
) -> None:
    length = 70 << 20  # one array of bytes, then one more key
    start = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (2).to_bytes(8, "little")
    key = (1).to_bytes(8, "little") + b"a" + (9).to_bytes(4, "little") + (0).to_bytes(4, "little")
    server.add(REPO, {PATH: Blob((start, key + length.to_bytes(8, "little"), bytes(length + 4096)))})
    with pytest.raises(BadModelFile, match=r"67\.1 MB"):
        headers.read_header(hub.fetch_repository(REPO).resolve_level())
    assert server.bytes_sent("/storage/") <= 4 << 20


def test_a_file_that_is_no_model_is_refused_with_a_sentence(
    server: HubStandIn, hub: HubClient, headers: HubHeaders
) -> None:
    server.add(REPO, {PATH: b"<!doctype html>" * 1000})
    with pytest.raises(BadModelFile, match="GGUF"):
        headers.read_header(hub.fetch_repository(REPO).resolve_level())


def test_a_file_shorter_than_its_header_says_is_refused(
    server: HubStandIn, hub: HubClient, headers: HubHeaders
) -> None:
    server.add(REPO, {PATH: small_model()[:-1000]})
    with pytest.raises(BadModelFile, match="cut off"):
        headers.read_header(hub.fetch_repository(REPO).resolve_level())


def test_a_file_of_another_size_than_was_told_has_changed(
    server: HubStandIn, headers: HubHeaders, level: HubLevel
) -> None:
    server.swap(REPO, PATH, small_model(tensors=3))
    with pytest.raises(HubProblem, match="changed"):
        headers.read_header(level)


def test_storage_never_sees_the_token(server: HubStandIn, open_hub: Callable[..., HubClient], tmp_path: Path) -> None:
    server.add(REPO, {PATH: small_model()})
    hub = open_hub(token="hf_secret")
    HubHeaders(hub, tmp_path / "h").read_header(hub.fetch_repository(REPO).resolve_level())
    seen = {"/storage/" in request.path: request.authorization for request in server.requests}
    assert seen == {False: "Bearer hf_secret", True: None}


# --- what goes wrong ---


def test_no_network_is_told_and_what_still_works(open_hub: Callable[..., HubClient], waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(
        HubUnreachable,
        match=r"No connection to the Hub at http://127\.0\.0\.1:\d+\. Models on this computer work offline\.",
    ):
        open_hub(f"http://127.0.0.1:{port}").search_repositories("x")
    assert waits == [1, 2]  # it was tried again


def test_offline_mode_is_told_and_nothing_is_asked(
    server: HubStandIn, hub: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE"):
        hub.search_repositories("x")
    assert hub.is_offline and server.requests == []


def test_a_gated_model_says_where_to_accept_its_licence(
    server: HubStandIn, hub: HubClient, headers: HubHeaders
) -> None:
    server.add(REPO, {PATH: small_model()}, gated="manual")
    with pytest.raises(HubProblem, match=f"{server.endpoint}/{REPO}.*HF_TOKEN"):
        headers.read_header(hub.fetch_repository(REPO).resolve_level())


def test_a_token_that_has_not_accepted_is_told_apart_from_none(
    server: HubStandIn, open_hub: Callable[..., HubClient], tmp_path: Path
) -> None:
    server.add(REPO, {PATH: small_model()}, gated="manual", readers=frozenset({"hf_good"}))
    stranger, friend = open_hub(token="hf_other"), open_hub(token="hf_good")
    with pytest.raises(HubProblem, match="this token's account has not"):
        HubHeaders(stranger, tmp_path / "h").read_header(stranger.fetch_repository(REPO).resolve_level())
    assert HubHeaders(friend, tmp_path / "h").read_header(friend.fetch_repository(REPO).resolve_level()).whole.tensors


def test_a_token_the_hub_does_not_know_is_told(server: HubStandIn, open_hub: Callable[..., HubClient]) -> None:
    server.add(REPO, {PATH: small_model()})
    server.fail("/api/models", 401, X_Error_Message="Invalid credentials in Authorization header")
    with pytest.raises(HubProblem, match="token"):
        open_hub(token="hf_old").fetch_repository(REPO)


@pytest.mark.parametrize("token", [None, "hf_some"], ids=["401 without a token", "404 with one"])
def test_a_repository_that_is_not_there_is_told(open_hub: Callable[..., HubClient], token: str | None) -> None:
    with pytest.raises(HubProblem, match=r"no repository owner/nothing.*spelling"):
        open_hub(token=token).fetch_repository("owner/nothing")


def test_a_file_that_is_gone_is_told(server: HubStandIn, hub: HubClient, headers: HubHeaders, level: HubLevel) -> None:
    del server.repos[REPO].files[PATH]
    with pytest.raises(HubProblem, match=f"no longer has a file {PATH}"):
        headers.read_header(level)


def test_a_version_that_is_gone_is_told(server: HubStandIn, headers: HubHeaders, level: HubLevel) -> None:
    server.change(REPO, PATH, small_model(5))
    with pytest.raises(HubProblem, match="no longer on the Hub"):
        headers.read_header(level)


def test_a_renamed_repository_is_found_and_its_new_name_told(
    server: HubStandIn, hub: HubClient, headers: HubHeaders
) -> None:
    server.add(REPO, {PATH: small_model()})
    server.rename(REPO, "owner/New-GGUF")
    repository = hub.fetch_repository(REPO)
    assert repository.note == f"{REPO} is now called owner/New-GGUF."
    assert headers.read_header(repository.resolve_level()).whole.tensors


def test_a_rate_limit_is_waited_for_as_told(server: HubStandIn, hub: HubClient, waits: list[float]) -> None:
    server.add(REPO, {PATH: small_model()})
    server.fail("/api/models", 429, Retry_After="7")
    server.fail("/api/models", 429, RateLimit='"api";r=0;t=11')
    assert hub.fetch_repository(REPO).levels
    assert waits == [7, 11]


def test_a_rate_limit_that_lasts_is_told_instead_of_waited_for(
    server: HubStandIn, hub: HubClient, waits: list[float]
) -> None:
    server.fail("/api/models", 429, Retry_After="290")
    with pytest.raises(HubProblem, match=r"too many requests.*5 minutes"):
        hub.search_repositories("x")
    assert waits == []


def test_trouble_of_the_hub_is_tried_again(server: HubStandIn, hub: HubClient, waits: list[float]) -> None:
    server.add(REPO, {PATH: small_model()})
    server.fail("/api/models", 503, times=2)
    assert hub.fetch_repository(REPO).levels
    assert waits == [1, 2]


def test_trouble_of_the_hub_that_lasts_is_told(server: HubStandIn, hub: HubClient) -> None:
    server.fail("/api/models", 500, times=99)
    with pytest.raises(HubProblem, match="error 500"):
        hub.search_repositories("x")
    assert len(server.requests) == 3


def test_an_answer_that_is_not_the_hubs_is_told(server: HubStandIn, hub: HubClient) -> None:
    server.fail("/api/models", 200)  # JSON, but not a list of models
    with pytest.raises(HubProblem, match="not as the Hub does"):
        hub.search_repositories("x")


UNUSABLE = r"answered, but not as the Hub does\. A proxy or a login page"
LOGIN = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Guest network</body></html>"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (LOGIN, "text/html; charset=utf-8"),
        (LOGIN, ""),
        (b"{}", "application/json"),
        (b"[]", "application/json"),
        (b'{"error": "log in"}', "application/json"),
        (b'["log in"]', "application/json"),
        (b"null", "application/json"),
        (b"", ""),
    ],
)
def test_a_login_page_in_place_of_an_answer_is_told_as_one(
    server: HubStandIn, hub: HubClient, body: bytes, kind: str
) -> None:
    server.answer_with("/api/", body, kind)
    with pytest.raises(HubProblem, match=UNUSABLE):
        hub.fetch_repository(REPO)
    if body != b"[]":  # no results
        with pytest.raises(HubProblem, match=UNUSABLE):
            hub.search_repositories("x")


@pytest.mark.parametrize("place", ["/resolve/", "/storage/"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [(LOGIN, "text/html"), (LOGIN, ""), (b"\n  <HTML>", "text/plain"), (b'{"login": 1}', "application/json")],
)
def test_a_login_page_in_place_of_a_file_is_told_as_one_of_the_host_that_sent_it(
    server: HubStandIn, hub: HubClient, level: HubLevel, place: str, body: bytes, kind: str
) -> None:
    server.answer_with(place, body, kind)
    with pytest.raises(HubProblem, match="A proxy or a login page may be in between") as refused:
        list(hub.stream_file(level.repo, level.commit, level.files[0], 0, level.size))
    host = (server.storage if place == "/storage/" else server.endpoint).removeprefix("http://")
    assert host in str(refused.value) and "changed" not in str(refused.value)


def test_a_body_that_is_cut_is_taken_up_where_it_broke_off(
    server: HubStandIn, hub: HubClient, level: HubLevel, waits: list[float]
) -> None:
    server.cut("/storage/", after=100_000)
    server.cut("/storage/", after=100_000)
    body = b"".join(hub.stream_file(level.repo, level.commit, level.files[0], 0, level.size))
    assert body == small_model()
    starts = [request.range for request in server.requests if "/storage/" in request.path]
    assert starts == [f"bytes={at}-{level.size - 1}" for at in (0, 100_000, 200_000)]


def test_a_byte_between_two_cuts_is_progress_and_goes_on(server: HubStandIn, hub: HubClient, level: HubLevel) -> None:
    server.cut("/storage/", after=1, times=20)
    assert len(b"".join(hub.stream_file(level.repo, level.commit, level.files[0], 0, 1000))) == 1000


def test_a_connection_that_breaks_without_a_byte_is_given_up(
    server: HubStandIn, hub: HubClient, level: HubLevel
) -> None:
    server.cut("/storage/", after=0, times=99)
    storage = server.storage.removeprefix("http://")
    with pytest.raises(HubProblem, match=rf"The connection to {storage}, which sends the files of .* broke off"):
        list(hub.stream_file(level.repo, level.commit, level.files[0], 0, level.size))
