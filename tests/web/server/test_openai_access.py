"""For whom /v1 is: for this computer alone, and elsewhere for programs with the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from playground.app.programs.service import ProgramService
from playground.app.services import Services
from playground.settings import load_settings
from playground.web.server.openai import routes
from playground.web.server.openai.routes import openai_routes

KEY, PASSWORD = {"authorization": "Bearer key"}, {"authorization": "Bearer word"}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        yield services


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, KEY, 200),  # a program that insists on a key
        ({"api": False}, {}, 404),
        ({"api_key": "key"}, {}, 401),
        ({"api_key": "key"}, KEY, 200),
        ({"api_key": "key"}, {"x-api-key": "key"}, 200),
        ({"api_key": "key"}, {"authorization": "Bearer other"}, 401),
        ({"password": "word"}, {}, 401),
        ({"password": "word"}, PASSWORD, 200),
        ({"host": "0.0.0.0"}, {}, 404),
        ({"host": "0.0.0.0", "password": "word"}, PASSWORD, 404),
        ({"host": "0.0.0.0", "api_key": "key"}, KEY, 200),
        ({"host": "0.0.0.0", "api_key": "key"}, {}, 401),
        ({"proxies": 1}, {}, 404),
        ({"on_space": True}, {}, 404),
    ],
)
def test_the_interface_is_open_here_and_needs_a_key_elsewhere(
    services: Services,
    settings: dict[str, Any],
    headers: dict[str, str],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(routes, "WRONG_GUESS_SECONDS", 0.0)
    chosen = load_settings(data_dir=tmp_path, **settings)
    app = Starlette(routes=openai_routes(ProgramService(services), chosen))
    answer = TestClient(app).get("/v1/models", headers=headers)
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status != 200)
