"""What the page's file shows before the page has asked anything: drawn anew whenever a browser asks for the file.

Gradio writes the values of components into the file as they were when the server started, such as the free memory.
It packs its scripts for the way to the browser, but not this file, which is the first that a browser waits for: 820 kB
of the page's parts and events, 90 kB when packed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.errors import PlaygroundError
from playground.web.gradio_private import set_first_properties

_PACKING: Final = 5  # of 1 to 9: takes 6 ms for the file; 9 takes twice as long for 5 % less

Properties = Mapping[Any, Mapping[str, Any]]  # of components, by component


class FirstView:
    """Empty until `follow` names the page."""

    def __init__(self) -> None:
        self._redraw: Callable[[], None] = lambda: None

    def follow(self, page: gr.Blocks, draw: Callable[[], Properties]) -> None:
        """draw: what some components show now; quick, since a browser waits for it."""
        self._redraw = lambda: set_first_properties(page, draw())

    def redraw(self) -> None:
        """What cannot be drawn stays as it was."""
        with suppress(PlaygroundError, OSError):
            self._redraw()


class FirstViewMiddleware:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, view: FirstView) -> None:
        self._app, self._view = app, view
        self._packed = GZipMiddleware(app, compresslevel=_PACKING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/":
            await run_in_threadpool(self._view.redraw)
            await self._packed(scope, receive, send)
        else:
            await self._app(scope, receive, send)
