"""Servers from a variable: what is accepted, what is refused and how, and that keys stay secret."""

from __future__ import annotations

import pytest

from playground.errors import PlaygroundError
from playground.servers import read_server, read_servers
from playground.settings import load_settings

KEY = "sk-very-secret"


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("workshop=http://192.168.1.20:8000", ["http://192.168.1.20:8000/v1"]),
        ("workshop=http://192.168.1.20:8000/v1/", ["http://192.168.1.20:8000/v1"]),
        ("workshop=https://example.org/serve/openai", ["https://example.org/serve/openai"]),
        ("a=http://one b=http://two,c=http://three\nd=http://[::1]:9", [
            "http://one/v1", "http://two/v1", "http://three/v1", "http://[::1]:9/v1",
        ]),
        ("", []),
    ],
)  # fmt: skip
def test_servers_are_named_with_their_addresses(text: str, urls: list[str]) -> None:
    assert [server.url for server in read_servers(text, {})] == urls


def test_several_addresses_are_one_server_of_many_workers() -> None:
    (server,) = read_servers("hall=http://one:8001|http://two:8002/v1", {})
    assert server.urls == ("http://one:8001/v1", "http://two:8002/v1")
    (once,) = read_servers("hall=http://one:8001|http://one:8001/v1/", {})
    assert once.urls == ("http://one:8001/v1",)


def test_each_server_has_the_key_of_its_own_variable() -> None:
    keys = {"PLAYGROUND_REMOTE_KEY_WORK_SHOP": KEY, "PLAYGROUND_REMOTE_KEY_ATTIC": ""}
    shop, attic = read_servers("work-shop=http://one attic=http://two", keys)
    assert shop.key and shop.key.get_secret_value() == KEY
    assert attic.key is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://192.168.1.20:8000", "has an address without a name"),
        ("workshop", "has an address without a name"),
        ("=http://one", "cannot be the name of a server"),
        ("wörkshop=http://one", "cannot be the name of a server"),
        ("a=http://one a=http://two", "has two servers named a"),
        ("a=ftp://one", "The address of a is not a web address"),
        ("a=http://", "The address of a is not a web address"),
        ("a=http://one:port", "The address of a is not a web address"),
        ("a=one:8000", "The address of a is not a web address"),
        ("a=http://one/v1?x=1", "has something after its path"),
        ("a=" + "|".join(f"http://one:{port}" for port in range(1, 41)), "up to 32 are allowed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(text: str, problem: str) -> None:
    with pytest.raises(PlaygroundError) as caught:
        read_servers(text, {})
    assert problem in str(caught.value)
    assert caught.value.remedy


def test_a_password_in_an_address_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_REMOTES", f"a=http://me:{KEY}@one/v1")
    with pytest.raises(PlaygroundError) as caught:
        load_settings()
    assert "PLAYGROUND_REMOTE_KEY_A" in str(caught.value) and KEY not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated() -> None:
    with pytest.raises(PlaygroundError) as caught:
        read_server("a", "http://one", f"{KEY}\r\nX-Other: 1")
    assert KEY not in str(caught.value)


def test_settings_never_show_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_REMOTES", "a=http://one")
    monkeypatch.setenv("PLAYGROUND_REMOTE_KEY_A", KEY)
    settings = load_settings()
    assert settings.remotes[0].key is not None
    shown = f"{settings!r} {settings.model_dump()} {settings.model_dump_json()} {settings.remotes!r}"
    assert KEY not in shown


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [
        ({}, True),
        ({"host": "0.0.0.0"}, False),
        ({"on_space": True}, False),
        ({"host": "0.0.0.0", "allow_remotes": True}, True),
        ({"allow_remotes": False}, False),
    ],
)
def test_servers_can_be_added_only_where_nobody_else_opens_the_page(choice: dict[str, object], allowed: bool) -> None:
    assert load_settings(**choice).may_add_remotes is allowed
