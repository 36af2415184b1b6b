"""What Gradio keeps of a page on the server, and that nothing of it outlives the page."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import gradio as gr
import pytest
from gradio.routes import App
from gradio.utils import get_upload_folder

from playground.ui.sessions import Closed, discard_upload, forget

WAIT_SECONDS = 10


@pytest.fixture
def page() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as page:
        gr.State("a chat")
    App.create_app(page)
    return page


@pytest.fixture
def uploaded() -> Iterator[Path]:
    folder = Path(get_upload_folder()) / "of-a-test"
    folder.mkdir(parents=True)
    (folder / "skill.md").write_text("Be kind.")
    yield folder / "skill.md"
    shutil.rmtree(folder, ignore_errors=True)


def test_a_page_that_is_gone_is_forgotten_and_others_are_not(page: gr.Blocks) -> None:
    assert page.state_holder["gone"] and page.state_holder["stays"]
    forget(page, "gone")
    assert "gone" not in page.state_holder and "stays" in page.state_holder
    forget(page, "never seen")


def test_a_page_that_turns_out_to_be_in_use_is_kept(page: gr.Blocks) -> None:
    assert page.state_holder["used"]
    forget(page, "used", unused_seconds=60)
    assert "used" in page.state_holder


def test_a_closed_page_that_was_still_in_use_when_its_time_came_is_forgotten_later(page: gr.Blocks) -> None:
    class Watched(OrderedDict[str, object]):
        def pop(self, *which: object) -> object:  # type: ignore[override]
            forgotten.set()
            return super().pop(*which)  # type: ignore[call-overload]

    forgotten = threading.Event()
    page.state_holder.session_data = Watched()  # type: ignore[assignment]
    assert page.state_holder["closed"]
    page.state_holder.time_last_used["closed"] = datetime.now() + timedelta(seconds=0.2)
    Closed(page, 0.05).add("closed")
    assert forgotten.wait(WAIT_SECONDS) and "closed" not in page.state_holder


def test_the_queue_keeps_nothing_of_a_page_that_is_forgotten(page: gr.Blocks) -> None:
    page._queue.pending_event_ids_session["gone"] = {"an event"}
    page._queue.pending_messages_per_session["gone"] = asyncio.Queue()
    forget(page, "gone")
    assert "gone" not in page._queue.pending_event_ids_session
    assert "gone" not in page._queue.pending_messages_per_session


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
