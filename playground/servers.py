"""The OpenAI-compatible servers that the playground may use beside its own engine: name, address and key of each.

Only parses and checks; sends no request. A key is a SecretStr, so that no print, log or saved state shows it. It has an
environment variable of its own and is never part of an address.
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
_MAX_ADDRESS_LENGTH: Final = 500
_MAX_KEY_LENGTH: Final = 1000
MAX_ADDRESSES: Final = 32
_BALANCER: Final = "Put a load balancer in front, and use its address."
_FORM: Final = "Write name=address pairs with spaces between, such as workshop=http://192.168.1.20:8000/v1."


@dataclass(frozen=True)
class RemoteServer:
    """One server. url: everything before `/chat/completions`, usually ends in `/v1`.

    other_urls: more addresses that serve the same models, for replies that would have to wait at the first.
    """

    name: str
    url: str
    key: SecretStr | None = None
    other_urls: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url, *self.other_urls)

    @property
    def key_variable(self) -> str:
        """The environment variable for its key: PLAYGROUND_REMOTE_KEY_WORKSHOP for "workshop"."""
        return KEY_VARIABLE + re.sub(r"[^A-Za-z0-9]", "_", self.name).upper()


def read_server(name: str, address: str, key: str = "") -> RemoteServer:
    """A server from what a person typed. Raises PlaygroundError, whose text never contains the key or a password.

    address: several, separated by `|`, are one server with many workers. Without a path it gets the usual `/v1`.
    """
    name, key = name.strip(), key.strip()
    if not _NAME.fullmatch(name):
        raise PlaygroundError(
            f"{name[:60]!r} cannot be the name of a server.",
            "Use up to 40 letters, digits, dots, dashes and underscores.",
        )
    if len(key) > _MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()) or " " in key:
        raise PlaygroundError(
            f"The API key for {name} contains characters that cannot be sent.", "Copy it again, without line breaks."
        )
    first, *others = dict.fromkeys(_checked_address(name, one.strip().rstrip("/")) for one in address.split("|"))
    if len(others) >= MAX_ADDRESSES:
        raise PlaygroundError(f"{name} has {len(others) + 1} addresses; up to {MAX_ADDRESSES} are allowed.", _BALANCER)
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
            raise PlaygroundError(f"PLAYGROUND_REMOTES has two servers named {name}.", "Give each its own name.")
        servers[name.lower()] = read_server(name, address, environ.get(server.key_variable, ""))
    return tuple(servers.values())


def _checked_address(name: str, address: str) -> str:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises ValueError for anything but a port
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_complete = False
    if not is_complete or len(address) > _MAX_ADDRESS_LENGTH or not address.isascii() or not address.isprintable():
        raise PlaygroundError(
            f"The address of {name} is not a web address.", "Write it in full, such as http://192.168.1.20:8000/v1."
        )
    if "@" in parts.netloc:
        raise PlaygroundError(
            f"The address of {name} contains a user name or a password, which the page would show.",
            f"Leave them out. A key belongs in {RemoteServer(name, '').key_variable}.",
        )
    if parts.query or parts.fragment:
        raise PlaygroundError(
            f"The address of {name} has something after its path.", "End it before the question mark, usually in /v1."
        )
    return address if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"
