"""The page as a whole: its head, its tabs, and how it is served.

`build_app` lays out, `serving` runs it; nothing here knows what happens inside a tab.
"""

from __future__ import annotations

import inspect
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

import gradio as gr
from starlette.middleware import Middleware

from playground import __version__, events
from playground.app.api import ApiService
from playground.app.chat import ChatService
from playground.app.compare.service import CompareService
from playground.app.fit import FitService
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker import ModelPickerService
from playground.app.models import ModelsService
from playground.app.servers import Servers
from playground.app.services import Services
from playground.chat.prompts import load_comparison_prompts
from playground.errors import PlaygroundError
from playground.machine.malloc import share_few_heaps
from playground.settings import Settings
from playground.web.api import offer_api
from playground.web.html.page import page_head
from playground.web.mcp import check_mcp, prepare_tools
from playground.web.model_picker import keep_pickers_current
from playground.web.server.health import Health, check_metrics
from playground.web.server.password import PASSWORD_WANTED, password_check, private_places
from playground.web.server.request_filter import RequestFilter
from playground.web.server.sessions import MOST_PAGES, HeartbeatMiddleware, Sessions, see_off
from playground.web.server.startup_checks import asked_directly, tell_what_is_amiss
from playground.web.server.uploads import UPLOADS, UPLOADS_KEPT, uploads_in
from playground.web.streaming import Streaming, never_empty
from playground.web.tabs.chat import wire_chat_tab
from playground.web.tabs.chat_layout import build_chat_tab
from playground.web.tabs.compare import wire_compare_tab
from playground.web.tabs.compare_layout import build_compare_tab
from playground.web.tabs.fit import build_fit_tab, wire_fit_tab
from playground.web.tabs.learn import build_learn_tab, wire_learn_tab
from playground.web.tabs.models import build_models_tab, wire_models_tab
from playground.web.theme import launch_look

LARGEST_UPLOAD: Final = "2mb"  # of a text file with instructions, where no model file may be dropped
FAREWELL_SECONDS: Final = 5.0  # for what is under way to end by itself when the playground ends
QUICK_EVENTS_AT_ONCE: Final = 16  # redraws and the like; replies have no limit here, the engine queues them itself


def build_app(services: Services, streaming: Streaming, sessions: Sessions) -> gr.Blocks:
    """The page over these services; serve it with `serving`.

    relay: what passes long work from event to event; whoever ends the page waits for it. sessions: what sees to the end
    of each visit.
    """
    settings = services.settings
    quantization_jobs = services.quantization_jobs if settings.allow_quantize else None
    picker_service = ModelPickerService(
        services.library, services.planner, services.pool.usable_for, settings.slots, quantization_jobs, services.runs,
        Servers(services.remotes, may_add=settings.may_add_remotes),
    )  # fmt: skip
    loaded_models = LoadedModels(services.pool, services.planner, picker_service)
    chat_service = ChatService(settings, services.pool, picker_service, loaded_models)
    compare_service = CompareService(services, picker_service, loaded_models)
    models_service = ModelsService(services)
    fit_service = FitService(
        services.library, services.planner, quantization_jobs, services.pool.usable_for, settings.slots,
        models_service.hub.fit_subjects, models_service.hub.find_fit_subject,
    )  # fmt: skip

    def told_head() -> str:
        return page_head(services.memory(), services.processors, on_space=settings.on_space)

    def tab_closed(request: gr.Request) -> None:
        sessions.close(str(request.session_hash))

    page: gr.Blocks
    with gr.Blocks(
        title="GGUF playground", analytics_enabled=False, fill_width=True, delete_cache=UPLOADS_KEPT
    ) as page:
        sessions.look_after(page, (services.runs.leave, streaming.leave, services.pool.forget_chat))
        head = gr.HTML(told_head(), elem_id="head", apply_default_css=False)
        if settings.on_space:
            gr.DuplicateButton(
                "Duplicate this Space", variant="secondary", size="sm", elem_id="duplicate",
                elem_classes="gp-duplicate",
            )  # fmt: skip
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Chat", id="chat"):
                chat = build_chat_tab(picker_service, settings.max_reply_tokens, settings.tab_seconds)
            with gr.Tab("Compare", id="compare"):
                compare = build_compare_tab(
                    picker_service, load_comparison_prompts(), compare_service.usual_mode, settings.max_reply_tokens,
                    settings.tab_seconds,
                )  # fmt: skip
            with gr.Tab("Fit", id="fit") as fit_tab:
                fit = build_fit_tab(fit_tab, fit_service)
            with gr.Tab("Models", id="models") as models_tab:
                models = build_models_tab(models_tab, settings)
            with gr.Tab("Learn", id="learn"):
                learn = build_learn_tab()
        wire_chat_tab(page, chat, chat_service, streaming)
        wire_compare_tab(page, compare, compare_service, tabs, streaming)
        wire_fit_tab(fit, fit_service, tabs, chat, picker_service, models.hub.wanted)
        wire_learn_tab(learn, tabs)
        wire_models_tab(page, models, models_service)
        offer_api(ApiService(services, models_service.hub), sessions.forget_soon)
        left, right = (pane.picker for pane in compare.panes)
        keep_pickers_current({"chat": chat.picker, "left": left, "right": right}, picker_service, [models.news])
        page.load(
            told_head,
            None,
            head,
            show_progress="hidden",
            api_visibility="private",
        )
        page.unload(tab_closed)
    page.space_id = None  # on a Space Gradio would add a header of its own, with parts from other servers
    _spare_the_browser(page, head)
    _leave_as_it_is_what_nothing_is_told_of(page)
    page.queue(default_concurrency_limit=QUICK_EVENTS_AT_ONCE)
    page._queue.ANALYTICS_MAX_EVENTS = 1  # Gradio makes a table of so many past events whenever one ends
    return page


def _spare_the_browser(page: gr.Blocks, place: gr.HTML) -> None:
    """Let every event report its progress in one place, where nothing shows.

    Gradio's page copies all that it knows of each place in which any event ever reported, whenever some event takes a
    step, on the cores that the model decodes with.
    """
    for event in page.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = [place]


def _leave_as_it_is_what_nothing_is_told_of(page: gr.Blocks) -> None:
    for event in page.fns.values():
        if inspect.isgeneratorfunction(event.fn):
            event.fn = never_empty(event.fn)


@contextmanager
def serving(settings: Settings, *, open_browser: bool = False) -> Iterator[str]:
    """The page at the address that is yielded; the end of the `with` ends it and every model.

    Raises PlaygroundError when the port is taken.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio greets itself at the start
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # an upload that is refused is told to its sender
    share_few_heaps()
    check_mcp(settings)
    check_metrics(settings.metrics)
    own_disk = uploads_in(settings.data_dir / UPLOADS) if settings.allow_local_files else nullcontext()
    with own_disk, asked_directly(settings.host), Services(settings) as services:
        tell_what_is_amiss(services)
        streaming, sessions = Streaming(), Sessions()
        try:
            page = build_app(services, streaming, sessions)
        except OSError as error:  # Gradio makes a folder for itself
            raise PlaygroundError(
                f"The page cannot be built: {error}.", "Set TMPDIR to a folder that can be written to."
            ) from error
        health = [Middleware(Health, services)] if settings.metrics else []
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
                max_file_size=settings.max_dropped_bytes if settings.allow_local_files else LARGEST_UPLOAD,
                enable_monitoring=False,
                run_history=False,
                state_session_capacity=MOST_PAGES,
                mcp_server=settings.mcp,
                allowed_paths=[],
                blocked_paths=private_places(settings),
                auth=password_check(settings),  # type: ignore[arg-type]  # Gradio waits for one that takes time, too
                auth_message=PASSWORD_WANTED,
                app_kwargs={
                    "middleware": [
                        Middleware(RequestFilter, settings),
                        Middleware(HeartbeatMiddleware, sessions),
                        *health,
                    ]
                },
                **launch_look(),
            )
        except OSError as error:
            raise PlaygroundError(
                f"The port {settings.port} on {settings.host} is taken or not allowed.",
                "Choose another one with --port or PLAYGROUND_PORT; 0 looks for a free one.",
            ) from error
        prepare_tools(page, settings)
        try:
            yield address
        finally:
            see_off(page, streaming, services.runs, FAREWELL_SECONDS)
            page.close(verbose=False)


def launch(settings: Settings, *, open_browser: bool = False) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    events.write_to_stderr(settings.log_level, settings.log_format, chats=settings.log_chats)
    with serving(settings, open_browser=open_browser) as address:
        events.started(__version__, address, settings.on_space)
        print(f"The playground is open at {address} (Ctrl-C ends it).", flush=True)
        _wait_for_the_end()
    events.shut_down()


def _wait_for_the_end() -> None:
    """Looks every second: the system may hand a signal to another thread, which would not wake this one."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    with suppress(KeyboardInterrupt):
        while not ended.wait(1):
            pass
    print("Ending the playground.", flush=True)
