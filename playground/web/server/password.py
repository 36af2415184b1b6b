"""The one password of a page, if its settings have one: checked for Gradio's sign-in form, and as a bearer token.

Gradio asks for a user name as well; any name is accepted. Neither is ever written to the log.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
from pydantic import SecretStr

from playground import events
from playground.settings import Settings

WRONG_GUESS_SECONDS: Final = 1.0  # until a wrong password is answered
SIGN_IN_MESSAGE: Final = "This playground asks for its password. Any user name works."
MAX_PASSWORD_CHARACTERS: Final = 1000


def password_check(settings: Settings) -> Callable[[str, str], Awaitable[bool]] | None:
    """What Gradio calls with a name and a password; None if the page is open to everybody."""
    password = _bytes_of(settings.password)
    if not password:
        return None

    async def is_right(name: str, given: str) -> bool:
        if hmac.compare_digest(given[:MAX_PASSWORD_CHARACTERS].encode("utf-8", "surrogatepass"), password):
            return True
        events.refused("", "login", "password", "Not the password of this playground.")
        await anyio.sleep(WRONG_GUESS_SECONDS)
        return False

    return is_right


def is_bearer(headers: Mapping[str, str], password: SecretStr) -> bool:
    """Whether the request brings the password as its bearer token, or needs none."""
    wanted = _bytes_of(password)
    given = headers.get("authorization", "").encode("latin-1")  # as Starlette has decoded it
    return not wanted or hmac.compare_digest(given, b"Bearer " + wanted)


def _bytes_of(password: SecretStr) -> bytes:
    return password.get_secret_value().encode()
