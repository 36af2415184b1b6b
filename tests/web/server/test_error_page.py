"""What a browser shows that opens an address which is refused, or where nothing is."""

from __future__ import annotations

import gzip
import json

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from playground.web.server.error_page import ErrorPages

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
REASON = "This page is for <this> computer alone."


async def refuse(request: Request) -> Response:
    return JSONResponse({"detail": REASON}, 421, {"x-frame-options": "SAMEORIGIN"})


async def refuse_packed(request: Request) -> Response:
    body = gzip.compress(json.dumps({"detail": REASON}).encode())
    return Response(body, 421, {"content-encoding": "gzip"}, "application/json")


async def answer_oddly(request: Request) -> Response:
    return JSONResponse(["no detail"], 500)


async def answer(request: Request) -> Response:
    return PlainTextResponse("the page")


async def as_json(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "Not Found"}, 404)


@pytest.fixture
def client() -> TestClient:
    routes = [Route("/", answer), Route("/refused", refuse), Route("/odd", answer_oddly)]
    routes.append(Route("/packed", refuse_packed))
    return TestClient(ErrorPages(Starlette(routes=routes, exception_handlers={HTTPException: as_json})))


def test_a_person_at_an_unknown_address_reads_a_sentence_and_finds_the_way_back(client: TestClient) -> None:
    shown = client.get("/nowhere", headers=BROWSER)
    assert shown.status_code == 404 and shown.headers["content-type"].startswith("text/html")
    assert "There is no page at this address." in shown.text and '<a href="/">Open the playground</a>' in shown.text


def test_a_refusal_is_shown_with_its_reason_and_under_the_same_headers(client: TestClient) -> None:
    shown = client.get("/refused", headers=BROWSER)
    assert shown.status_code == 421 and shown.headers["x-frame-options"] == "SAMEORIGIN"
    assert "This page is for &lt;this&gt; computer alone." in shown.text
    assert "This address cannot be opened." in client.get("/odd", headers=BROWSER).text


def test_programs_get_the_json_and_what_is_there_is_as_it_was(client: TestClient) -> None:
    assert client.get("/refused").json() == {"detail": REASON}
    assert client.get("/", headers=BROWSER).text == "the page"


def test_an_error_that_was_packed_on_the_way_can_still_be_read(client: TestClient) -> None:
    assert client.get("/packed", headers=BROWSER).json() == {"detail": REASON}


def test_behind_a_proxy_the_way_back_leads_to_where_the_page_is() -> None:
    app = ErrorPages(Starlette(exception_handlers={HTTPException: as_json}))
    assert 'href="/lab/"' in TestClient(app, root_path="/lab").get("/nowhere", headers=BROWSER).text
