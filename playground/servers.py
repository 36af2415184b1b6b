"""Which OpenAI-compatible servers the playground may ask besides its own engine: a name, an address and a key for each.

Reads and checks what a person wrote; asks no server. A key is kept as a secret, so that no print, log or saved state
shows it, and never stands beside an address: it has a variable of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from playground.errors import PlaygroundError

KEY_VARIABLE: Final = "PLAYGROUND_REMOTE_KEY_"  # and the server's name
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_LONGEST_ADDRESS: Final = 500
_LONGEST_KEY: Final = 1000
MOST_ADDRESSES: Final = 32
_BALANCER: Final = "Put a load balancer in front, and name its address."
_FORM: Final = "Write name=address pairs with spaces between, such as workshop=http://192.168.1.20:8000/v1."


@dataclass(frozen=True)
class RemoteServer:
    """A server by the name that people read; `url` ends before `/chat/completions`, usually in `/v1`.

    others: more addresses where the same models run, for replies that would wait at the first.
    """

    name: str
    url: str
    key: SecretStr | None = None
    others: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url, *self.others)

    @property
    def key_variable(self) -> str:
        """Where its key belongs: PLAYGROUND_REMOTE_KEY_WORKSHOP for "workshop"."""
        return KEY_VARIABLE + re.sub(r"[^A-Za-z0-9]", "_", self.name).upper()


def read_server(name: str, address: str, key: str = "") -> RemoteServer:
    """A server as a person names it; raises PlaygroundError with what is wrong, never with the key or a password in it.

    An address without a path gets the usual `/v1`; several, with `|` between, are one server of many workers.
    """
    name, key = name.strip(), key.strip()
    if not _NAME.fullmatch(name):
        raise PlaygroundError(
            f"{name[:60]!r} is no name for a server.", "Use up to 40 letters, digits, points, dashes and underscores."
        )
    if len(key) > _LONGEST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise PlaygroundError(f"The key for {name} is no key that can be sent.", "Copy it again, without line breaks.")
    first, *others = dict.fromkeys(_checked_address(name, one.strip().rstrip("/")) for one in address.split("|"))
    if len(others) >= MOST_ADDRESSES:
        raise PlaygroundError(f"{name} has {len(others) + 1} addresses; up to {MOST_ADDRESSES} are taken.", _BALANCER)
    return RemoteServer(name, first, SecretStr(key) if key else None, tuple(others))


def read_servers(text: str, environ: Mapping[str, str]) -> tuple[RemoteServer, ...]:
    """The servers of PLAYGROUND_REMOTES, such as `workshop=http://192.168.1.20:8000/v1 attic=https://attic.example/v1`.

    Raises PlaygroundError.
    """
    servers: dict[str, RemoteServer] = {}
    for pair in re.split(r"[\s,]+", text.strip()) if text.strip() else ():
        name, sign, address = pair.partition("=")
        if not sign or "://" in name:
            raise PlaygroundError("PLAYGROUND_REMOTES has an address without a name.", _FORM)
        server = read_server(name, address)
        if name.lower() in servers:
            raise PlaygroundError(f"PLAYGROUND_REMOTES names two servers {name}.", "Give each its own name.")
        servers[name.lower()] = read_server(name, address, environ.get(server.key_variable, ""))
    return tuple(servers.values())


def _checked_address(name: str, address: str) -> str:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises for what is no port
        whole = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        whole = False
    if not whole or len(address) > _LONGEST_ADDRESS or not address.isascii() or not address.isprintable():
        raise PlaygroundError(
            f"The address of {name} is no web address.", "Write it in full, such as http://192.168.1.20:8000/v1."
        )
    if "@" in parts.netloc:
        raise PlaygroundError(
            f"The address of {name} holds a user name or a password, which would be shown with it.",
            f"Leave them out; a key goes into {RemoteServer(name, '').key_variable}.",
        )
    if parts.query or parts.fragment:
        raise PlaygroundError(
            f"The address of {name} has something after its path.", "End it before the question mark, usually in /v1."
        )
    return address if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"
