"""The page on hosting: what it tells people to set is there to be set, and does what it is said to do."""

from __future__ import annotations

import re

import pytest

from playground.models.hub.names import repository_filter
from playground.settings import Settings, load_settings
from tests.support.playground_process import ROOT

PAGE = (ROOT / "docs" / "hosting.md").read_text()


def block(language: str, holding: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [one for one in blocks if holding in one]
    return str(found)


def test_every_variable_that_is_named_is_a_setting() -> None:
    named = set(re.findall(r"PLAYGROUND_([A-Z_]*[A-Z])\b(?!_)", PAGE)) - {"MAX"}
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_the_server_settings_open_the_page_to_a_proxy_and_close_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for line in block("sh", "PLAYGROUND_PROXIES").splitlines():
        name, value = line.split("=", 1)  # as a service manager reads it
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.proxies == 1 and settings.password.get_secret_value() == "a long sentence of your own"
    assert not (settings.allow_delete or settings.allow_local_files or settings.allow_load_anyway)
    assert repository_filter(settings.allowed_repos)("our-team/Model-GGUF")
    assert not repository_filter(settings.allowed_repos)("stranger/Model-GGUF")


def test_the_proxy_hands_on_what_the_playground_asks_of_it() -> None:
    proxy = block("nginx", "proxy_pass")
    assert f"127.0.0.1:{Settings.model_fields['port'].default}" in proxy
    for line in ("proxy_buffering off", "X-Forwarded-For $remote_addr", "X-Forwarded-Proto $scheme"):
        assert line in proxy


def test_what_it_points_at_is_there() -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    assert (ROOT / "requirements.txt").exists() and (ROOT / "Dockerfile").exists()
