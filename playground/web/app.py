"""The page served: `serving` until the end of a `with`, `launch` until a signal.

page.py lays it out and wires it; how the server treats requests is in server/.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from playground import __version__, events
from playground.app.programs.service import ProgramService
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.machine.malloc import limit_malloc_arenas
from playground.settings import Settings
from playground.web.gradio_private import (
    no_server_yet,
    open_no_second_port,
    wait_for_a_slow_start,
)
from playground.web.mcp import check_mcp, prepare_tools
from playground.web.page import build_page
from playground.web.server.error_page import ErrorPages
from playground.web.server.first_view import FirstView, FirstViewMiddleware
from playground.web.server.health import check_metrics, health_routes
from playground.web.server.openai.routes import openai_routes
from playground.web.server.page_file import page_file_routes
from playground.web.server.password import SIGN_IN_MESSAGE, password_check
from playground.web.server.request_filter import RequestFilter, private_paths
from playground.web.server.sessions import MAX_SESSIONS, SessionMiddleware, Sessions, end_pending_work
from playground.web.server.startup_checks import log_startup_problems, no_proxy_to
from playground.web.server.uploads import UPLOADS, uploads_in
from playground.web.streaming import Streaming
from playground.web.theme import launch_look

MAX_TEXT_UPLOAD: Final = "2mb"  # of a file with instructions, where no model file may be dropped
LAST_MESSAGES_SECONDS: Final = 5.0  # for what is under way to end by itself when the playground ends


@contextmanager
def serving(settings: Settings, *, open_browser: bool = False) -> Iterator[str]:
    """Serve the page, and yield its address; the end of the `with` ends it and the process of every model.

    Raises PlaygroundError if the port is taken, no temporary folder can be made, or a package for a setting is missing.
    """
    check_mcp(settings)
    check_metrics(settings.metrics)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks its own server at the start
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a refused upload is answered, and logged, here
    limit_malloc_arenas()
    open_no_second_port()
    wait_for_a_slow_start()
    with ExitStack() as stack:
        if settings.allow_local_files:
            stack.enter_context(uploads_in(settings.data_dir / UPLOADS))
        stack.enter_context(no_proxy_to(settings.host))
        services = stack.enter_context(Services(settings))
        log_startup_problems(services)
        streaming, sessions, programs = Streaming(), Sessions(), ProgramService(services)
        first_view = FirstView()
        try:
            with no_server_yet():
                page = build_page(services, streaming, sessions, programs, first_view)
        except OSError as error:  # Gradio makes a folder for itself
            raise PlaygroundError(
                f"The page cannot be built: {error}.", "Set TMPDIR to a folder that can be written to."
            ) from error
        routes = [*page_file_routes(), *openai_routes(programs, settings)]
        if settings.metrics:
            routes += stack.enter_context(health_routes(services))
        watchers = [Middleware(SessionMiddleware, sessions), Middleware(FirstViewMiddleware, first_view)]
        address = _launch_page(page, settings, watchers, routes, open_browser=open_browser)
        prepare_tools(page, settings)
        try:
            yield address
        finally:
            end_pending_work(page, streaming, services.runs, LAST_MESSAGES_SECONDS)
            page.close(verbose=False)


def _launch_page(
    page: gr.Blocks,
    settings: Settings,
    watchers: Sequence[Middleware],
    routes: Sequence[BaseRoute],
    *,
    open_browser: bool,
) -> str:
    """Start the server in a thread, and return its address once it answers. watchers: see what the filter lets in."""
    try:
        _, address, _ = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            share=False,
            ssr_mode=False,
            max_file_size=settings.max_dropped_bytes if settings.allow_local_files else MAX_TEXT_UPLOAD,
            enable_monitoring=False,
            run_history=False,
            state_session_capacity=MAX_SESSIONS,
            mcp_server=settings.mcp,
            allowed_paths=[],
            blocked_paths=private_paths(settings),
            auth=password_check(settings),  # type: ignore[arg-type]  # Gradio awaits one that is a coroutine
            auth_message=SIGN_IN_MESSAGE,
            app_kwargs={
                "routes": routes,
                "middleware": [Middleware(ErrorPages), Middleware(RequestFilter, settings), *watchers],
            },
            **launch_look(),
        )
    except OSError as error:
        raise PlaygroundError(
            f"The port {settings.port} on {settings.host} is taken or not allowed.",
            "Choose another one with --port or PLAYGROUND_PORT; 0 looks for a free one.",
        ) from error
    return str(address)


def launch(settings: Settings, *, open_browser: bool = False) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    events.write_to_stderr(settings.log_level, settings.log_format, chats=settings.log_chats)
    with serving(settings, open_browser=open_browser) as address:
        events.started(__version__, address, settings.on_space)
        print(f"The playground is open at {address} (Ctrl-C ends it).", flush=True)
        _wait_for_signal()
    events.shut_down()


def _wait_for_signal() -> None:
    """Returns after Ctrl-C or SIGTERM.

    Looks every second: the system may give a signal to another thread, which would not wake this one.
    """
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    with suppress(KeyboardInterrupt):
        while not ended.wait(1):
            pass
    print("Ending the playground.", flush=True)
