"""The scripts and styles of the page, packed once, where Gradio packs each of them anew for each visitor.

A page that opens asks for some 75 of them. Their names change with what is in them, so that a browser may keep them.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from playground.web.gradio_scripts import SCRIPTS, lighter_scripts

_PACKED_KINDS: Final = {".js": "text/javascript", ".css": "text/css"}  # some systems take .js for plain text
_KEPT_FOR_A_DAY: Final = {"cache-control": "max-age=86400"}
_KEPT_FOR_AN_HOUR: Final = {"cache-control": "max-age=3600"}  # under a name of Gradio's, with what is changed here


@dataclass(frozen=True)
class PageScript:
    """One file, whole and as gzip packs it."""

    media_type: str
    headers: dict[str, str]
    body: bytes
    packed: bytes

    def response_to(self, request: Request) -> Response:
        headers = {**self.headers, "vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(self.body, media_type=self.media_type, headers=headers)
        return Response(self.packed, media_type=self.media_type, headers=headers | {"content-encoding": "gzip"})


def page_scripts_route() -> Route:
    """All files of the folder with Gradio's scripts; in place of some, those that have less to do in the browser."""
    lighter = lighter_scripts()
    names = frozenset(file.name for file in SCRIPTS.iterdir())

    @lru_cache(maxsize=len(names))
    def read(name: str) -> PageScript:
        body, headers = (SCRIPTS / name).read_bytes(), _KEPT_FOR_A_DAY
        if text := lighter.get(name):
            body, headers = text.encode(), _KEPT_FOR_AN_HOUR
        return PageScript(_PACKED_KINDS[Path(name).suffix], headers, body, gzip.compress(body, mtime=0))

    async def respond(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in names:
            return Response("Not found", 404)
        if Path(name).suffix not in _PACKED_KINDS:
            return FileResponse(SCRIPTS / name, headers=_KEPT_FOR_A_DAY)
        return read(name).response_to(request)

    return Route("/assets/{name}", respond)
