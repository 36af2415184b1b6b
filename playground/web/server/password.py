"""The one password of a page, where whoever runs it has set one, and the places of this computer it never serves.

Gradio asks for a name beside it, and any name will do. Neither is ever written anywhere.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from playground import events
from playground.settings import Settings
from playground.web.server.uploads import UPLOADS

WRONG_GUESS_SECONDS: Final = 1.0  # until a wrong password is answered
PASSWORD_WANTED: Final = "This playground asks for its password. Any name will do."
LONGEST_PASSWORD: Final = 1000  # characters


def password_check(settings: Settings) -> Callable[[str, str], Awaitable[bool]] | None:
    """What Gradio asks with a name and a password; None where the page is open to everybody."""
    wanted = settings.password.get_secret_value().encode()
    if not wanted:
        return None

    async def is_right(name: str, password: str) -> bool:
        given = password[:LONGEST_PASSWORD].encode("utf-8", "surrogatepass")
        if hmac.compare_digest(given, wanted):
            return True
        events.refused("", "login", "password", "Not the password of this playground.")
        await anyio.sleep(WRONG_GUESS_SECONDS)
        return False

    return is_right


def private_places(settings: Settings) -> list[str]:
    """Places that are not served even where Gradio would: everything of the playground's and of the person's own.

    Of the data folder all but the uploads, which Gradio would else not take from its own hands.
    """
    rooms = {settings.data_dir / name for name in ("models", "dropped", "headers", "scores")}
    with suppress(OSError):
        rooms |= set(settings.data_dir.iterdir())
    rooms.discard(settings.data_dir / UPLOADS)
    return [str(place) for place in (*sorted(rooms), Path.home() / ".cache", *settings.model_dirs)]
