"""Uploads over HTTP as they arrive: what may come in, what is ended early, and what is left of them afterwards."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.types import Message

from playground.web.gradio_private import upload_folder
from playground.web.server.uploads import RECENT_SECONDS, RejectedRequest, UploadQuota, discard_upload
from tests.support.gguf_bytes import small_model
from tests.support.playground_process import PlaygroundProcess

BOUNDARY = "a-line-between-parts"
MIB = 1 << 20
MODEL = small_model()
UNLIKELY_BYTES = 1 << 60


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    with PlaygroundProcess(tmp_path_factory.mktemp("home"), {"PLAYGROUND_MAX_DROPPED_BYTES": str(4 * MIB)}) as process:
        yield process


def head_of(name: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'
    return f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()


def connection_for(running: PlaygroundProcess, length: int) -> http.client.HTTPConnection:
    """A connection on which an upload of so many bytes has been announced."""
    connection = http.client.HTTPConnection(urlsplit(running.address).netloc, timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    return connection


def upload(running: PlaygroundProcess, *files: tuple[str, bytes]) -> tuple[int, str]:
    """(status, text) of the answer to these files in one request."""
    body = b"".join(head_of(name) + content + b"\r\n" for name, content in files) + f"--{BOUNDARY}--\r\n".encode()
    connection = connection_for(running, len(body))
    connection.send(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def uploads_left(running: PlaygroundProcess) -> list[Path]:
    return [path for path in (running.home / "data" / "uploads").rglob("*") if path.is_file()]


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until, "it did not happen within half a minute"
        time.sleep(0.02)  # the server tells nobody what it does with its disk


@pytest.fixture
def nothing_left(running: PlaygroundProcess) -> Iterator[None]:
    """Checks at the end that the test has left no file in the folder for uploads."""
    before = set(uploads_left(running))
    yield
    assert set(uploads_left(running)) == before


# --- while they arrive ---


def test_a_model_arrives_on_the_disk_of_the_models_and_is_kept(running: PlaygroundProcess) -> None:
    export = b"{" * 2_100_000  # of measurements, with all answers
    status, text = upload(running, ("Tiny-Q4_0.gguf", MODEL), ("notes.md", b"Be brief."), ("measured.json", export))
    places = [Path(place) for place in json.loads(text)]
    assert status == 200 and [place.read_bytes() for place in places] == [MODEL, b"Be brief.", export]
    assert all((running.home / "data" / "uploads") in place.parents for place in places)


@pytest.mark.usefixtures("nothing_left")
def test_what_does_not_begin_as_a_model_is_ended_at_its_first_bytes(running: PlaygroundProcess) -> None:
    connection = connection_for(running, UNLIKELY_BYTES.bit_length() * MIB)
    connection.send(head_of("Fake-Q4_0.gguf") + b"<html>" + bytes(1000))  # and no more: the rest never comes
    answer = connection.getresponse()
    assert answer.status == 415 and "Fake-Q4_0.gguf is not a GGUF model" in answer.read().decode()


@pytest.mark.usefixtures("nothing_left")
def test_instructions_keep_their_own_bound_beside_models_of_gigabytes(running: PlaygroundProcess) -> None:
    status, text = upload(running, ("long.md", b"x" * 2_100_000))
    assert status == 413 and text == "long.md is too large: a text or a chat may have 2.00 MB here."
    assert upload(running, ("Tiny-Q4_0.gguf", MODEL), ("long.txt", b"x" * 2_100_000))[0] == 413


@pytest.mark.usefixtures("nothing_left")
def test_a_model_beyond_the_bound_of_the_settings_is_ended(running: PlaygroundProcess) -> None:
    status, text = upload(running, ("Large-Q8_0.gguf", b"GGUF" + bytes(4 * MIB)))
    assert status == 413 and text == "Large-Q8_0.gguf has more than 4.19 MB. Open it by its path instead."


@pytest.mark.usefixtures("nothing_left")
def test_a_file_for_which_the_disk_has_no_room_is_refused_before_a_byte_of_it_comes(running: PlaygroundProcess) -> None:
    answer = connection_for(running, UNLIKELY_BYTES).getresponse()
    text = answer.read().decode()
    assert answer.status == 507 and "has room for" in text and "open it by its path" in text


@pytest.mark.usefixtures("nothing_left")
def test_an_upload_that_breaks_off_leaves_nothing_behind(running: PlaygroundProcess) -> None:
    before = set(uploads_left(running))
    connection = connection_for(running, 3 * MIB)
    connection.send(head_of("Half-Q4_0.gguf") + MODEL)
    wait_until(lambda: set(uploads_left(running)) != before)
    connection.close()
    wait_until(lambda: set(uploads_left(running)) == before)


@pytest.mark.usefixtures("nothing_left")
def test_a_body_that_is_no_upload_is_refused_in_gradios_words(running: PlaygroundProcess) -> None:
    connection = connection_for(running, 10)
    connection.send(b"0123456789")
    assert connection.getresponse().status == 400


# --- on the disk ---


@pytest.fixture
def uploaded() -> Iterator[Path]:
    folder = upload_folder() / "of-a-test"
    folder.mkdir(parents=True)
    (folder / "skill.md").write_text("Be kind.")
    yield folder / "skill.md"
    shutil.rmtree(folder, ignore_errors=True)


def test_an_upload_that_was_read_leaves_neither_file_nor_folder(uploaded: Path) -> None:
    discard_upload(uploaded)
    assert not uploaded.parent.exists()
    discard_upload(uploaded)  # twice does no harm


def test_a_file_that_is_no_upload_stays(tmp_path: Path, uploaded: Path) -> None:
    mine = tmp_path / "mine.md"
    mine.write_text("Mine.")
    discard_upload(mine)
    link = uploaded.parent / "link.md"
    link.symlink_to(mine)
    discard_upload(link)
    assert mine.exists()


# --- all visitors together ---


def test_uploads_of_all_visitors_together_have_a_bound() -> None:
    seconds = 0.0
    quota = UploadQuota(100, clock=lambda: seconds)

    def sent(size: int) -> str:
        async def upload() -> str:
            async def receive() -> Message:
                return {"type": "http.request", "body": b"x" * size}

            return str((await quota.counted(receive)())["type"])

        return asyncio.run(upload())

    assert [sent(60), sent(39), sent(2)] == ["http.request", "http.request", "http.disconnect"]
    with pytest.raises(RejectedRequest, match="uploaded"):
        sent(1)
    seconds = RECENT_SECONDS + 1
    assert sent(60) == "http.request"
