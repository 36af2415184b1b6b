"""The request filter over HTTP, as strangers, other web pages and proxies meet it."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import gradio as gr
import pytest
from gradio.events import api
from gradio_client import Client
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message

from playground.settings import load_settings
from playground.web.server import request_filter
from playground.web.server.request_filter import MAX_BODY_BYTES, RequestFilter, response_headers
from tests.support.playground_process import PlaygroundProcess

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    home = tmp_path_factory.mktemp("home")
    (home / "secret.txt").write_text("nobody reads this")
    with PlaygroundProcess(home, {"PLAYGROUND_PASSWORD": PASSWORD}) as process:
        yield process


def ask(
    address: str, path: str, *, host: str | None = None, body: bytes | None = None, cookie: str = ""
) -> tuple[int, str]:
    """(status, text) of the answer to exactly this path, which no library tidies up."""
    place = urlsplit(address)
    line = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
    headers = {"Host": host or place.netloc, "Content-Type": "application/json", "Cookie": cookie}
    line.request("POST" if body is not None else "GET", path, body, headers)
    answer = line.getresponse()
    text = answer.read().decode("utf-8", "replace")
    line.close()
    return answer.status, text


# --- addresses ---


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={secret}",
        "/gradio_api/file=../../../../../../{secret}",
        "/gradio_api/file=%2e%2e%2f%2e%2e{secret}",
        "/gradio_api/file/{secret}",
        "/gradio_api/file=http://127.0.0.1:9/x",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/proxy=https://example.org/x",
        "/gradio_api/custom_component/1/client/component/..%2f..%2f..{secret}",
        "/gradio_api/stream/a/b/1/playlist.m3u8",
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/dev/reload",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/monitoring",
        "/monitoring/summary",
        "/svelte/..%2f..%2f{secret}",
        "/static/..%2f..%2f..%2f{secret}",
        "/assets/../../../..{secret}",
    ],
)
def test_no_address_of_gradios_reads_a_file_or_fetches_anything(running: PlaygroundProcess, path: str) -> None:
    cookie = signed_in(running.address)
    status, text = ask(running.address, path.format(secret=running.home / "secret.txt"), cookie=cookie)
    assert status in (401, 403, 404), text
    assert "nobody reads this" not in text


def test_a_file_at_another_address_is_refused_before_gradio_fetches_it(
    running: PlaygroundProcess,
) -> None:
    file = {"path": "https://example.org/x", "meta": {"_type": "gradio.FileData"}}
    cookie = signed_in(running.address)
    for hidden in (file, [{"deeper": [file]}], ["\ud800", file]):
        body = json.dumps({"data": [hidden], "fn_index": 0, "session_hash": "s"}).encode()
        status, text = ask(running.address, "/gradio_api/queue/join", body=body, cookie=cookie)
        assert (status, json.loads(text)["detail"]) == (400, "A file has to be uploaded here.")


def test_a_body_without_end_or_nested_without_end_is_refused(running: PlaygroundProcess) -> None:
    status, _ = ask(running.address, "/gradio_api/queue/join", body=b"[" * 200_000)
    assert status in (400, 422)
    status, _ = ask(running.address, "/login", body=b"x" * (MAX_BODY_BYTES + 1))
    assert status == 413


def test_a_web_page_whose_name_means_this_computer_gets_nothing(running: PlaygroundProcess) -> None:
    status, text = ask(running.address, "/", host="evil.example")
    assert status == 421 and "PLAYGROUND_PROXIES" in text
    assert ask(running.address, "/", host="localhost")[0] == 200


@pytest.mark.parametrize("own", [{"host": "0.0.0.0"}, {"proxies": 1}, {"on_space": True}])
def test_a_page_that_others_reach_answers_to_any_name(own: dict[str, object]) -> None:
    server = RequestFilter(PlainTextResponse("the page"), load_settings(**own))
    assert TestClient(server, base_url="http://playground.example").get("/").text == "the page"


# --- headers for the browser ---


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ("v2/ask", b"{}", "No value provided for required argument: prompt"),
        ("v2/ask", b'{"prompt": "x", "bogus": 1}', "Parameter `bogus` is not a valid key-word argument"),
        ("v2/ask", b'{"data": ["x"]}', "Parameter `data`"),
        ("v2/ask", b"[1]", "not a JSON object"),
        ("v2/ask", b"prompt=x", "not JSON"),
        ("v2/ask", b"", "not JSON"),
        *(
            (form, body, found)
            for form in ("ask", "ask/", "../run/ask", "../run/ask/")
            for body, found in (
                (b"{}", "no list `data`"),
                (b'{"prompt": "x"}', "no list `data`"),
                (b'{"data": {"prompt": "x"}}', "no list `data`"),
                (b"null", "not a JSON object"),
                (b"", "not JSON"),
                (b'{"data": []}', "`data` has 0 values, and ask takes 2 (prompt, seed)"),
                (b'{"data": ["x"]}', "`data` has 1 values, and ask takes 2"),
                (b'{"data": ["x", 1, 2]}', "`data` has 3 values, and ask takes 2"),
            )
        ),
    ],
)
def test_a_call_with_wrong_values_gets_one_sentence(endpoints: TestClient, path: str, body: bytes, found: str) -> None:
    address = f"/gradio_api/call/{path}".replace("call/../", "")
    answer = endpoints.post(address, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and found in answer.json()["detail"] and "docs/api.md" in answer.json()["detail"]


@pytest.mark.parametrize("form", ["call/v2/nothing", "call/nothing", "call/hidden", "call/v2/hidden"])
def test_a_call_of_an_endpoint_that_is_none_names_those_there_are(endpoints: TestClient, form: str) -> None:
    answer = endpoints.post(f"/gradio_api/{form}", json={"data": []})
    assert answer.status_code == 404 and answer.json()["detail"].endswith("There are: ask.")


def test_a_call_with_right_values_is_served_in_each_form(endpoints: TestClient) -> None:
    for form, body in (("v2/ask", {"prompt": "x"}), ("ask", {"data": ["x", 1]})):
        assert endpoints.post(f"/gradio_api/call/{form}", json=body).json()["event_id"]
    assert endpoints.post("/gradio_api/run/ask", json={"data": ["x", 1]}).json()["data"] == ["x1"]


def test_a_value_that_an_endpoint_refuses_is_the_callers_fault(endpoints: TestClient) -> None:
    answer = endpoints.post("/gradio_api/run/ask", json={"data": ["x", -1]})
    assert (answer.status_code, answer.json()["error"]) == (422, "seed has to be a whole number.")


@pytest.fixture(scope="module")
def endpoints() -> TestClient:
    """A page with one endpoint, and one event that is no endpoint, behind the filter as web/app.py puts it in."""

    def ask(prompt: str, seed: int = 1) -> str:
        if seed < 0:
            raise gr.Error("seed has to be a whole number.", print_exception=False)
        return f"{prompt}{seed}"

    with gr.Blocks() as page:
        api(ask, api_name="ask")
        box = gr.Textbox()
        box.change(lambda text: text, box, box, api_name="hidden", api_visibility="private")
    middleware = [Middleware(RequestFilter, settings=load_settings())]
    app = gr.routes.App.create_app(page, app_kwargs={"middleware": middleware})
    return TestClient(app, base_url="http://127.0.0.1")


def test_every_answer_forbids_parts_from_elsewhere_and_tells_nobody_where_a_link_was(
    running: PlaygroundProcess,
) -> None:
    with urllib.request.urlopen(running.address, timeout=30) as answer:
        policy = answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for kind in ("default-src", "script-src", "img-src", "connect-src", "font-src", "media-src", "form-action"):
        assert "http" not in rules[kind] and "*" not in rules[kind]
    assert rules["frame-src"] == rules["object-src"] == "'none'"
    assert rules["frame-ancestors"] == "'self'"


def test_a_space_may_be_shown_inside_the_hubs_own_page() -> None:
    assert "frame-ancestors" not in response_headers(load_settings(on_space=True))["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "form"), [("/v1/chat/completions", "error"), ("/v1/messages", "error"), ("/gradio_api/call/x", "detail")]
)
def test_a_body_that_does_not_arrive_is_given_up_in_the_words_of_its_interface(
    monkeypatch: pytest.MonkeyPatch, path: str, form: str
) -> None:
    monkeypatch.setattr(request_filter, "BODY_SECONDS", 0.01)
    sent: list[Message] = []

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError("it sleeps for ever")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [(b"host", b"127.0.0.1")]}
    anyio.run(RequestFilter(PlainTextResponse("never"), load_settings()), scope, receive, send)
    assert sent[0]["status"] == 408 and "did not arrive within" in str(json.loads(sent[1]["body"])[form])


# --- the password ---


def signed_in(address: str, password: str = PASSWORD) -> str:
    """The cookie that a browser would have after the form."""
    form = f"username=me&password={password.replace(' ', '+')}".encode()
    request = urllib.request.Request(f"{address}/login", form)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return "; ".join(one.split(";")[0] for one in answer.headers.get_all("set-cookie"))


def test_without_the_password_nothing_is_shown_and_nothing_runs(running: PlaygroundProcess) -> None:
    status, page = ask(running.address, "/")
    assert status == 200 and "SmolLM2" not in page
    event = json.dumps({"data": [], "fn_index": 0, "session_hash": "s"}).encode()
    for path, body in (
        ("/config", None),
        ("/gradio_api/info", None),
        ("/gradio_api/queue/join", event),
        ("/gradio_api/run/predict", event),
        ("/gradio_api/call/chat", event),
        ("/gradio_api/upload", b""),
        ("/gradio_api/queue/data?session_hash=s", None),
    ):
        assert ask(running.address, path, body=body)[0] == 401, path


def test_only_the_right_password_opens_the_page_to_browsers_and_programs(
    running: PlaygroundProcess,
) -> None:
    for wrong in ("", "correct horse", PASSWORD + " "):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            signed_in(running.address, wrong)
        assert refusal.value.code in (400, 422)
    assert "SmolLM2" in ask(running.address, "/config", cookie=signed_in(running.address))[1]
    assert Client(running.address, auth=("any name", PASSWORD), verbose=False).view_api(return_format="dict")


def test_the_filter_asks_for_the_password_where_gradio_does_not(
    running: PlaygroundProcess,
) -> None:
    for path in ("/gradio_api/mcp/", "/gradio_api/mcp/sse", "/gradio_api/metrics", "/metrics"):
        for given in (None, "Bearer wrong", f"Basic {PASSWORD}"):
            headers = {"Authorization": given} if given else {}
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(urllib.request.Request(running.address + path, headers=headers), timeout=30)
            assert refusal.value.code == 401
        asked = urllib.request.Request(running.address + path, headers={"Authorization": f"Bearer {PASSWORD}"})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(asked, timeout=30)
        assert refusal.value.code == 404  # both are switched off here


def test_the_password_is_never_printed(running: PlaygroundProcess) -> None:
    signed_in(running.address)
    assert PASSWORD not in running.output
    assert PASSWORD not in repr(load_settings(password=PASSWORD))
    _, config = ask(running.address, "/config", cookie=signed_in(running.address))
    assert PASSWORD not in config
