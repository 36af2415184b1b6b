"""What programs are answered, with the real starter: the same facts as on the command line, under the page's limits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from playground.app.api import ApiService
from playground.app.hub.service import HubService
from playground.app.services import Services
from playground.errors import ModelNotFound, PlaygroundError, RequestRefused
from playground.limits.visitor import Visitor
from playground.models.hub.client import HubClient
from playground.settings import load_settings
from playground.web.api import offer_api

PROGRAM = Visitor("program", "203.0.113.9")


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    home = tmp_path_factory.mktemp("home")
    folder = home / "private"
    folder.mkdir()
    shutil.copy(starter, folder / "Twin-Q4_1.gguf")
    settings = load_settings(
        data_dir=home / "data", model_dirs=(folder,), allow_local_files=False, allowed_repos=("good/*",),
        max_replies_per_visitor=1, max_reply_tokens=300, slots=2, remotes="gone=http://127.0.0.1:9/v1",
    )  # fmt: skip
    with Services(settings) as services:
        yield services


@pytest.fixture
def service(services: Services) -> ApiService:
    return ApiService(services, HubService(services))


def test_a_closed_stream_gives_back_its_share_and_the_model(service: ApiService, services: Services) -> None:
    stream = service.chat(PROGRAM, "starter", prompt="Tell me a long story.", context=512)
    assert any(record["state"] == "writing" for record in stream)
    assert services.runs.count_runs() == {"reply": 1}
    stream.close()  # type: ignore[attr-defined]
    assert not services.runs.count_runs()
    assert [model.users for model in services.pool.loaded_models()] == [0]


def test_a_program_has_the_share_of_one_visitor(service: ApiService) -> None:
    stream = service.chat(PROGRAM, "starter", prompt="Tell me a long story.", context=512)
    next(stream)
    for refused in (
        service.chat(PROGRAM, "starter", prompt="Me, too?"),
        service.compare(PROGRAM, ("starter", "starter"), False, prompt="Me, too?"),
    ):
        with pytest.raises(RequestRefused, match="You have 1 reply under way"):
            next(refused)
    stream.close()  # type: ignore[attr-defined]


def test_a_program_that_leaves_is_stopped(service: ApiService, services: Services) -> None:
    stream = service.chat(PROGRAM, "starter", prompt="Tell me a long story.", context=512)
    assert any(record["state"] == "writing" for record in stream)
    services.runs.end_session(PROGRAM.session)
    with pytest.raises(PlaygroundError, match="stopped"):
        list(stream)
    assert not services.runs.count_runs()


def test_a_reply_longer_than_allowed_is_refused_before_anything_begins(service: ApiService) -> None:
    for stream in (
        service.chat(PROGRAM, "starter", prompt="x", max_tokens=301),
        service.compare(PROGRAM, ("starter", "starter"), False, prompt="x", max_tokens=301),
    ):
        with pytest.raises(RequestRefused, match="up to 300 tokens here; 301"):
            next(stream)


def test_where_files_by_path_are_off_a_path_is_a_name_that_nothing_has(service: ApiService, starter: Path) -> None:
    """And whether there is such a file, nobody learns."""
    for path in (str(starter), "/etc/passwd", "/nothing/there", "~root/x", "../../etc/passwd", "x" * 900):
        refusals = (
            lambda path=path: service.levels(path),
            lambda path=path: service.plan(path, None, "f16", None),
            lambda path=path: next(service.chat(PROGRAM, path, prompt="x")),
            lambda path=path: next(service.compare(PROGRAM, ("starter", path), False, prompt="x")),
        )
        for refused in refusals:
            with pytest.raises(PlaygroundError, match=r"There is no model|is not allowed here|names no"):
                refused()


def test_no_answer_and_no_refusal_names_a_folder_of_this_computer(service: ApiService, services: Services) -> None:
    (record,) = service.levels("Twin")["levels"]
    assert (record["reference"], record["files"]) == ("Twin:Q4_1", ["Twin-Q4_1.gguf"])
    with pytest.raises(ModelNotFound, match="Twin:Q4_1") as refusal:
        service.levels("nothing")
    assert "/" not in str(refusal.value)


def test_a_repository_that_is_not_allowed_is_refused_without_asking_for_it(
    service: ApiService, services: Services
) -> None:
    services.hub = HubClient("http://127.0.0.1:9", allowed=services.hub._allowed)
    for asked in (
        lambda: service.levels("bad/Model-GGUF"),
        lambda: service.plan("bad/Model-GGUF:Q4_0", None, "f16", None),
    ):
        with pytest.raises(PlaygroundError, match="not allowed here"):
            asked()


def test_a_context_is_never_larger_than_the_model_knows(service: ApiService) -> None:
    *_, last = service.chat(PROGRAM, "starter", prompt="Hi", context=1_000_000, max_tokens=1)
    assert last["context_size"] == 8192


def test_a_pane_that_fails_says_why_beside_the_other_ones_answer(service: ApiService) -> None:
    *_, last = service.compare(PROGRAM, ("tiny@gone", "starter"), False, prompt="Hi", max_tokens=3)
    failed, answered = last["panes"]
    assert (failed["state"], answered["state"]) == ("failed", "done")  # type: ignore[typeddict-item]
    assert "gone" in failed["error"] and answered["text"]
    assert last["first_difference"] is None


def test_a_comparison_without_any_answer_is_an_error(service: ApiService, services: Services) -> None:
    with pytest.raises(PlaygroundError, match="gone"):
        list(service.compare(PROGRAM, ("tiny@gone", "large@gone"), False, prompt="Hi"))
    assert not services.runs.count_runs()


def test_every_call_of_a_program_tells_that_its_session_is_over_answered_or_refused(service: ApiService) -> None:
    def request(session: str) -> gr.Request:
        return gr.Request(session_hash=session, client=None, headers={})

    over: list[str] = []
    with gr.Blocks(analytics_enabled=False) as page:
        offer_api(service, over.append)
    endpoints: dict[str, Any] = {str(event.api_name): event.fn for event in page.fns.values()}
    endpoints["machine"](request("answered"))
    with pytest.raises(gr.Error):
        endpoints["plan"]("no model of this name", request("refused"))
    stream = endpoints["chat"]("Tell me a long story.", request("left"), "starter", "", None, 512)
    next(stream)
    stream.close()
    assert over == ["answered", "refused", "left"]
