"""Downloads against a Hub on loopback: whole or not at all, with progress, through every kind of interruption.

Nothing sleeps: the server stands still where a test tells it to, and the tests wait for records.
"""

from __future__ import annotations

import itertools
import json
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from playground.errors import ModelNotFound, PlaygroundError
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource
from playground.models.hub.cache import RepoCache
from playground.models.hub.client import CancelToken, HubClient
from playground.models.hub.download_queue import Download, DownloadQueue, _SpeedMeter
from playground.models.hub.headers import HubHeaders
from playground.models.hub.repository import HubLevel
from playground.settings import load_settings
from tests.support.gguf_bytes import Blob, small_model, split_model
from tests.support.hub_stand_in import HubStandIn

REPO = "owner/Small-GGUF"
PATH = "Small-Q4_0.gguf"
SIZE = len(small_model())
SOON = 20.0  # seconds; a test that needs them has failed


@pytest.fixture(autouse=True)
def _no_token_of_this_computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def server() -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        server.add(REPO, {PATH: small_model(), "Small-Q8_0.gguf": small_model(8)})
        yield server


@pytest.fixture
def hub(server: HubStandIn, tmp_path: Path) -> HubClient:
    return HubClient(server.endpoint, cache_dir=tmp_path / "cache")


@pytest.fixture
def level(server: HubStandIn, hub: HubClient) -> HubLevel:
    return hub.fetch_repository(REPO).resolve_level("Q4_0")


@pytest.fixture
def open_downloads(hub: HubClient, tmp_path: Path) -> Iterator[Callable[..., DownloadQueue]]:
    opened: list[DownloadQueue] = []

    def open_downloads(**how: Any) -> DownloadQueue:
        settings = load_settings(data_dir=tmp_path / "data")
        how = {"pause": lambda stop, seconds: stop.raise_if_cancelled(), **how}
        opened.append(DownloadQueue(settings, hub, HubHeaders(hub, settings.data_dir / "headers"), **how))
        return opened[-1]

    yield open_downloads
    for downloads in opened:
        downloads.close()


@pytest.fixture
def downloads(open_downloads: Callable[..., DownloadQueue]) -> DownloadQueue:
    return open_downloads()


def visible_files(hub: HubClient) -> list[str]:
    return sorted(path.name for path in hub.cache_dir.glob("models--*/snapshots/*/**/*.gguf"))


def failed(downloads: DownloadQueue, level: HubLevel) -> str:
    """The sentence with which a download ends that must fail."""
    record = downloads.wait_for_end(downloads.start_download(level), SOON)
    assert record.state == "failed", record
    return record.note


# --- what a download is for ---


def test_a_downloaded_model_is_where_huggingface_hub_looks_for_it(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    record = downloads.wait_for_end(downloads.start_download(level), SOON)
    assert record.state == "done" and record.path is not None
    assert record.path.read_bytes() == small_model()
    assert try_to_load_from_cache(REPO, PATH, cache_dir=hub.cache_dir) == str(record.path)
    server.forget_requests()
    assert hf_hub_download(REPO, PATH, cache_dir=hub.cache_dir, endpoint=server.endpoint) == str(record.path)
    assert server.bytes_sent() == 0


def test_what_huggingface_hub_downloaded_is_not_downloaded_again(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    hf_hub_download(REPO, PATH, cache_dir=hub.cache_dir, endpoint=server.endpoint)
    server.forget_requests()
    assert downloads.wait_for_end(downloads.start_download(level), SOON).state == "done"
    assert server.requests == []


def test_the_real_starter_arrives_in_shards_as_it_is(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, starter: Path
) -> None:
    shards = split_model(starter, 3)
    server.add("owner/Split", {f"Q4_1/S-Q4_1-{i:05d}-of-00003.gguf": shard for i, shard in enumerate(shards, 1)})
    record = downloads.wait_for_end(downloads.start_download(hub.fetch_repository("owner/Split").resolve_level()), SOON)
    assert record.path is not None and record.path.name == "S-Q4_1-00001-of-00003.gguf"
    assert record.bytes_done == record.bytes_total == sum(shard.size for shard in shards)
    assert len(visible_files(hub)) == 3
    assert read_header(FileSource(record.path)).trained_context == read_header(FileSource(starter)).trained_context


def test_no_shard_is_visible_before_all_are_there(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, tmp_path: Path
) -> None:
    (whole := tmp_path / "whole.gguf").write_bytes(small_model(tensors=6))
    shards = split_model(whole, 3)
    server.add("owner/Split", {f"S-Q8_0-{i:05d}-of-00003.gguf": shard for i, shard in enumerate(shards, 1)})
    level = hub.fetch_repository("owner/Split").resolve_level()
    HubHeaders(hub, tmp_path / "data" / "headers").read_header(level)
    hold = server.hold("/storage/.*00003-of", after=1000)
    id = downloads.start_download(level)
    assert hold.reached.wait(SOON)
    assert visible_files(hub) == []
    hold.release.set()
    assert downloads.wait_for_end(id, SOON).state == "done"
    assert len(visible_files(hub)) == 3


def test_a_small_model_that_is_kept_in_git_is_checked_by_gits_own_sum(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue
) -> None:
    server.add("owner/Tiny", {PATH: small_model(3)}, in_git=frozenset({PATH}))
    level = hub.fetch_repository("owner/Tiny").resolve_level()
    assert len(level.files[0].etag) == 40
    assert downloads.wait_for_end(downloads.start_download(level), SOON).state == "done"


# --- progress ---


def held_midway(server: HubStandIn, downloads: DownloadQueue, level: HubLevel, after: int = 200_000) -> tuple[str, Any]:
    """A download that stands still with `after` bytes arrived; its header was read before."""
    downloads._headers.read_header(level)
    hold = server.hold("/storage/", after)
    id = downloads.start_download(level)
    downloads.wait_until(id, lambda record: record.bytes_done >= after or record.has_ended, SOON)
    return id, hold


def test_progress_tells_every_byte_that_has_arrived(
    server: HubStandIn, downloads: DownloadQueue, level: HubLevel
) -> None:
    id, hold = held_midway(server, downloads, level)
    record = downloads.find_download(id)
    assert (record.state, record.bytes_done, record.bytes_total) == ("downloading", 200_000, SIZE)
    hold.release.set()
    assert downloads.wait_for_end(id, SOON).bytes_done == SIZE


def test_speed_is_the_mean_of_the_last_seconds_and_none_when_nothing_comes() -> None:
    now = 0.0
    meter = _SpeedMeter(lambda: now)
    for second in range(20):
        now = float(second)
        meter.add_sample(second * 1000 if second < 10 else 10_000 + (second - 10) * 5000)
    assert meter.speed(55_000) == 5000
    now = 59.0
    assert meter.speed(55_000) is None


def test_time_left_follows_from_the_speed(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    ticks = iter(range(1_000_000))
    downloads = open_downloads(clock=lambda: float(next(ticks)))
    id, _ = held_midway(server, downloads, level)
    record = downloads.find_download(id)
    assert record.speed is not None and record.seconds_left is not None
    assert record.seconds_left * record.speed == pytest.approx(SIZE - 200_000)


def test_every_visitor_sees_the_same_downloads(server: HubStandIn, downloads: DownloadQueue, level: HubLevel) -> None:
    id, hold = held_midway(server, downloads, level)
    assert downloads.start_download(level) == id  # another visitor asks for the same
    assert [record.id for record in downloads.all_downloads()] == [id]
    hold.release.set()
    downloads.wait_for_end(id, SOON)
    assert server.bytes_sent("/storage/") < 2 * SIZE + 1000  # header and body, once


# --- the queue ---


def test_a_second_download_waits_for_its_turn(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    other = hub.fetch_repository(REPO).resolve_level("Q8_0")
    first, hold = held_midway(server, downloads, level)
    second = downloads.start_download(other)
    assert [record.state for record in downloads.all_downloads()] == ["downloading", "queued"]
    hold.release.set()
    assert downloads.wait_for_end(second, SOON).state == "done"
    assert downloads.find_download(first).state == "done"


def test_a_queued_download_that_is_cancelled_never_starts(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    other = hub.fetch_repository(REPO).resolve_level("Q8_0")
    first, hold = held_midway(server, downloads, level)
    second = downloads.start_download(other)
    downloads.cancel_download(second)
    hold.release.set()
    downloads.wait_for_end(first, SOON)
    assert downloads.find_download(second).state == "cancelled"
    assert server.bytes_sent("/storage/.*Q8_0") == 0


def test_a_failed_download_does_not_hold_up_the_next(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    server.add("owner/Gated", {PATH: small_model()}, gated="manual")
    first = downloads.start_download(hub.fetch_repository("owner/Gated").resolve_level())
    second = downloads.start_download(level)
    assert downloads.wait_for_end(second, SOON).state == "done"
    assert "accepted its licence" in downloads.find_download(first).note


# --- cancel, resume, restart ---


def test_cancelling_ends_a_download_even_while_no_bytes_come(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    id, hold = held_midway(server, downloads, level)
    downloads.cancel_download(id)
    record = downloads.wait_for_end(id, 5.0)  # less than the time after which a silent connection is given up
    assert record.state == "cancelled" and not hold.release.is_set()
    assert record.bytes_done == 200_000 and visible_files(hub) == []


def test_a_cancelled_download_goes_on_where_it_ended(
    server: HubStandIn, downloads: DownloadQueue, level: HubLevel
) -> None:
    id, _ = held_midway(server, downloads, level)
    downloads.cancel_download(id)
    downloads.wait_for_end(id, SOON)
    server.forget_requests()
    downloads.resume_download(id)
    record = downloads.wait_for_end(id, SOON)
    assert record.state == "done" and record.path is not None and record.path.read_bytes() == small_model()
    assert server.bytes_sent("/storage/") == SIZE - 200_000


def test_a_restart_goes_on_with_what_was_under_way(
    server: HubStandIn, hub: HubClient, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    other = hub.fetch_repository(REPO).resolve_level("Q8_0")
    before = open_downloads()
    id, _ = held_midway(server, before, level)
    second = before.start_download(other)
    before.close()
    server.forget_requests()
    after = open_downloads()
    assert after.wait_for_end(id, SOON).state == "done" and after.wait_for_end(second, SOON).state == "done"
    assert server.bytes_sent("/storage/.*Q4_0") == SIZE - 200_000


def test_a_cancelled_download_stays_so_after_a_restart(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    before = open_downloads()
    id, _ = held_midway(server, before, level)
    before.cancel_download(id)
    before.close()
    server.forget_requests()
    after = open_downloads()
    assert after.find_download(id).state == "cancelled" and after.find_download(id).bytes_done == 200_000
    assert server.requests == []
    after.resume_download(id)
    assert after.wait_for_end(id, SOON).state == "done"


def test_the_speed_of_the_last_download_is_known_after_a_restart(
    tmp_path: Path, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    seconds = itertools.count()
    first = open_downloads(clock=lambda: float(next(seconds)))
    assert first.last_speed is None
    first.wait_for_end(first.start_download(level), SOON)
    first.close()
    assert first.last_speed and open_downloads().last_speed == pytest.approx(first.last_speed, abs=1)


@pytest.mark.parametrize("damaged", ["", "[]", "-5", "true", "1e300", '"fast"'])
def test_a_damaged_speed_counts_as_unknown(
    tmp_path: Path, open_downloads: Callable[..., DownloadQueue], damaged: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "download-speed.json").write_text(damaged)
    assert open_downloads().last_speed is None


def test_a_finished_download_is_not_on_the_list_after_a_restart(
    open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    before = open_downloads()
    before.wait_for_end(before.start_download(level), SOON)
    before.close()
    assert open_downloads().all_downloads() == ()


NO_FILES = {"repo": "owner/Mine", "commit": "0", "base_name": "Mine", "level": "Q8_0", "files": []}
DAMAGED = ["", "{", "[1]", [{"level": {}}], [{"level": 5, "state": "x"}], [{"level": NO_FILES, "state": "wanted"}]]


@pytest.mark.parametrize("content", [each if isinstance(each, str) else json.dumps(each) for each in DAMAGED])
def test_a_damaged_journal_is_no_reason_not_to_start(
    open_downloads: Callable[..., DownloadQueue], tmp_path: Path, content: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "downloads.json").write_text(content)
    assert open_downloads().all_downloads() == ()


def test_a_damaged_journal_is_kept_aside_and_told(
    open_downloads: Callable[..., DownloadQueue], level: HubLevel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "downloads.json").write_text('[{"level": {"repo": "owner/Mine')
    downloads = open_downloads()
    assert downloads.wait_for_end(downloads.start_download(level), SOON).state == "done"
    (kept,) = (tmp_path / "data").glob("downloads.json.damaged-*")
    assert kept.read_text() == '[{"level": {"repo": "owner/Mine'
    assert kept.name in downloads.warning and kept.name in caplog.text


def test_what_can_be_read_of_a_damaged_journal_goes_on(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel, tmp_path: Path
) -> None:
    before = open_downloads()
    id, hold = held_midway(server, before, level)
    before.close()
    hold.release.set()
    journal = tmp_path / "data" / "downloads.json"
    journal.write_text(json.dumps([{"level": 5}, *json.loads(journal.read_text())]))
    after = open_downloads()
    assert after.wait_for_end(id, SOON).state == "done"
    assert "damaged" in after.warning


def test_a_second_playground_on_one_data_folder_leaves_the_downloads_to_the_first(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel, tmp_path: Path
) -> None:
    first = open_downloads()
    id, hold = held_midway(server, first, level)
    written = (tmp_path / "data" / "downloads.json").read_bytes()
    second = open_downloads()
    assert second.all_downloads() == () and "Another running playground" in second.warning and first.warning == ""
    with pytest.raises(PlaygroundError, match="Another running playground"):
        second.start_download(level)
    second.close()
    assert (tmp_path / "data" / "downloads.json").read_bytes() == written
    hold.release.set()
    assert first.wait_for_end(id, SOON).state == "done"


def test_the_second_playground_takes_the_downloads_over_once_the_first_has_ended(
    server: HubStandIn, hub: HubClient, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    first, second = open_downloads(), open_downloads()
    id, hold = held_midway(server, first, level)
    first.close()
    hold.release.set()
    other = second.start_download(hub.fetch_repository(REPO).resolve_level("Q8_0"))
    assert second.wait_for_end(id, SOON).state == "done" and second.wait_for_end(other, SOON).state == "done"
    assert second.warning == ""


def test_a_download_that_hangs_does_not_hold_up_the_end_and_keeps_its_journal(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.models.hub.download_queue.CLOSE_SECONDS", 0.01)
    hangs, goes_on = threading.Event(), threading.Event()

    def free(path: Path) -> int:
        hangs.set()
        return SIZE * 2 if goes_on.wait(SOON) else 0

    hanging = open_downloads(free=free)
    hanging.start_download(level)
    assert hangs.wait(SOON)
    hanging.close()
    assert not goes_on.is_set()
    assert "Another running playground" in open_downloads().warning
    goes_on.set()


def test_forgetting_a_cancelled_download_gives_its_room_back(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    id, _ = held_midway(server, downloads, level)
    with pytest.raises(PlaygroundError, match="running"):
        downloads.forget_download(id)
    downloads.cancel_download(id)
    downloads.wait_for_end(id, SOON)
    downloads.forget_download(id)
    assert downloads.all_downloads() == () and not RepoCache(hub.cache_dir, REPO).partial_path(level.files[0]).exists()
    with pytest.raises(ModelNotFound):
        downloads.find_download(id)


# --- what goes wrong ---


def test_a_connection_cut_in_the_middle_is_taken_up_by_a_range(
    server: HubStandIn, downloads: DownloadQueue, level: HubLevel
) -> None:
    downloads._headers.read_header(level)
    server.forget_requests()
    server.cut("/storage/", after=100_000, times=2)
    record = downloads.wait_for_end(downloads.start_download(level), SOON)
    assert record.state == "done" and record.path is not None and record.path.read_bytes() == small_model()
    ranges = [request.range for request in server.requests if "/storage/" in request.path]
    assert ranges == [f"bytes={at}-{SIZE - 1}" for at in (0, 100_000, 200_000)]


def test_a_lost_connection_ends_the_download_and_loses_nothing(
    server: HubStandIn, downloads: DownloadQueue, level: HubLevel
) -> None:
    downloads._headers.read_header(level)
    server.cut("/storage/", after=300_000)
    server.cut("/storage/", after=0, times=99)
    id = downloads.start_download(level)
    record = downloads.wait_for_end(id, SOON)
    assert record.state == "failed" and "broke off" in record.note
    assert record.bytes_done == 300_000


def test_a_rate_limit_is_told_and_waited_for(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    waits: list[float] = []
    downloads = open_downloads(pause=lambda stop, seconds: waits.append(seconds))
    server.fail("/resolve/", 429, Retry_After="30")
    assert downloads.wait_for_end(downloads.start_download(level), SOON).state == "done"
    assert waits == [30]


def test_waiting_for_the_hub_is_told_and_can_be_cancelled(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    downloads = open_downloads(pause=CancelToken.wait)
    server.fail("/resolve/", 429, times=99, Retry_After="300")
    id = downloads.start_download(level)
    record = downloads.wait_until(id, lambda record: record.state == "waiting", SOON)
    assert record.note == "The Hub asks to wait. Going on in 300 s."
    downloads.cancel_download(id)
    assert downloads.wait_for_end(id, SOON).state == "cancelled"


def test_too_little_room_on_the_disk_is_told_before_anything_is_fetched(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    note = failed(open_downloads(free=lambda folder: SIZE - 1), level)
    assert "1 byte too much" in note and "Free some space" in note
    assert server.bytes_sent("/storage/") <= 4 << 20  # the header at most


def test_what_is_already_there_needs_no_room(
    server: HubStandIn, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    before = open_downloads()
    id, _ = held_midway(server, before, level)
    before.cancel_download(id)
    before.close()
    after = open_downloads(free=lambda folder: SIZE - 200_000)
    after.resume_download(id)
    assert after.wait_for_end(id, SOON).state == "done"


def test_a_disk_that_fills_up_is_told_and_what_arrived_stays(downloads: DownloadQueue, level: HubLevel) -> None:
    downloads._headers.read_header(level)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, usual[1]))  # no file may grow beyond, as on a full disk
    try:
        note = failed(downloads, level)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert "The disk is full" in note and "Free some space" in note
    downloads.resume_download(level.key)
    record = downloads.wait_for_end(level.key, SOON)
    assert record.state == "done" and record.path is not None and record.path.read_bytes() == small_model()


def test_a_folder_that_cannot_be_written_is_told(hub: HubClient, downloads: DownloadQueue, level: HubLevel) -> None:
    hub.cache_dir.mkdir(parents=True)
    (hub.cache_dir / "models--owner--Small-GGUF").write_text("a file where a folder should be")
    assert "could not be written" in failed(downloads, level)


def test_a_file_that_changed_upstream_is_told_and_not_fetched(
    server: HubStandIn, downloads: DownloadQueue, level: HubLevel
) -> None:
    server.change(REPO, PATH, small_model(99))
    assert f"{PATH} has changed on the Hub" in failed(downloads, level)
    assert server.bytes_sent("/storage/") == 0


def test_a_change_to_another_file_of_the_repository_is_no_reason_to_stop(
    server: HubStandIn, downloads: DownloadQueue, level: HubLevel
) -> None:
    server.change(REPO, "README.md", b"# new")
    assert downloads.wait_for_end(downloads.start_download(level), SOON).state == "done"


def test_content_that_is_not_what_the_hub_says_is_thrown_away(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    content = small_model()
    server.swap(REPO, PATH, content[:-1] + bytes([content[-1] ^ 1]))  # same header, same size, one bit
    assert "checksum" in failed(downloads, level)
    assert visible_files(hub) == [] and downloads.all_downloads()[0].bytes_done == 0


def test_a_file_whose_header_is_not_the_planned_one_is_told(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, level: HubLevel
) -> None:
    planned = downloads._headers.read_header(level).path
    planned.write_bytes(small_model(name="Other"))  # as if a plan had been made of something else
    assert "its header differs" in failed(downloads, level)
    assert visible_files(hub) == []
    downloads.resume_download(level.key)  # planned anew, nothing fetched twice
    server.forget_requests()
    assert downloads.wait_for_end(level.key, SOON).state == "done"


def test_a_renamed_repository_is_followed(server: HubStandIn, downloads: DownloadQueue, level: HubLevel) -> None:
    server.rename(REPO, "owner/New-GGUF")
    assert downloads.wait_for_end(downloads.start_download(level), SOON).state == "done"


def test_another_program_at_the_same_file_is_waited_for(
    hub: HubClient, open_downloads: Callable[..., DownloadQueue], level: HubLevel
) -> None:
    path = RepoCache(hub.cache_dir, REPO).lock_path(level.files[0])
    path.parent.mkdir(parents=True)
    other = FileLock(path, thread_local=False)
    other.acquire()
    seen: list[Download] = []

    def pause(stop: CancelToken, seconds: float) -> None:
        seen.extend(queue.all_downloads())
        other.release()

    queue = open_downloads(pause=pause)
    assert queue.wait_for_end(queue.start_download(level), SOON).state == "done"
    assert seen[0].state == "waiting" and "Another program" in seen[0].note


def test_a_level_with_a_shard_of_another_model_is_refused(
    server: HubStandIn, hub: HubClient, downloads: DownloadQueue, tmp_path: Path
) -> None:
    (one := tmp_path / "one.gguf").write_bytes(small_model(tensors=4))
    shards: list[Blob] = split_model(one, 2)
    server.add("owner/Mixed", {"S-Q8_0-00001-of-00002.gguf": shards[0], "S-Q8_0-00002-of-00002.gguf": shards[0]})
    assert "not that file" in failed(downloads, hub.fetch_repository("owner/Mixed").resolve_level())
