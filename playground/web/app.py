"""The page as a whole: `build_app` lays it out and wires it, `serving` serves it, `launch` serves until a signal.

What happens inside a tab is in tabs/, how the server treats requests in server/.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from playground import __version__, events
from playground.app.api import ApiService
from playground.app.chat.service import ChatService
from playground.app.chat.tools import ToolRunner
from playground.app.compare.service import CompareService
from playground.app.fit import FitService
from playground.app.learn.lesson import LearnService
from playground.app.loaded_models import LoadedModels
from playground.app.measure.service import MeasureService
from playground.app.model_picker.service import ModelPickerService
from playground.app.models import ModelsService
from playground.app.programs.service import ProgramService
from playground.app.servers import Servers
from playground.app.services import Services
from playground.chat.prompts import load_comparison_prompts
from playground.errors import PlaygroundError
from playground.llama.devices import Devices
from playground.machine.malloc import limit_malloc_arenas
from playground.settings import Settings
from playground.web.api import offer_api
from playground.web.gradio_private import (
    check_gradio,
    describe_no_sessions,
    keep_no_analytics,
    keep_rows_of_shut_tabs,
    leave_out_the_hubs_header,
    open_no_second_port,
    report_progress_in_one_place,
    rest_while_idle,
    send_updates_whole,
    spare_outputs_that_stay,
    wait_for_a_slow_start,
    wrap_generators,
)
from playground.web.html.page import page_head, theme_switch
from playground.web.mcp import check_mcp, prepare_tools
from playground.web.model_picker import keep_pickers_current
from playground.web.server.error_page import ErrorPages
from playground.web.server.first_view import FirstView, FirstViewMiddleware, Properties
from playground.web.server.health import check_metrics, health_routes
from playground.web.server.openai.routes import openai_routes
from playground.web.server.page_file import page_file_routes
from playground.web.server.password import SIGN_IN_MESSAGE, password_check
from playground.web.server.request_filter import RequestFilter, private_paths
from playground.web.server.sessions import MAX_SESSIONS, SessionMiddleware, Sessions, end_pending_work
from playground.web.server.startup_checks import log_startup_problems, no_proxy_to
from playground.web.server.uploads import CLEANING_SECONDS, KEPT_SECONDS, UPLOADS, uploads_in
from playground.web.streaming import Streaming, never_empty
from playground.web.tabs.chat import wire_chat_tab
from playground.web.tabs.chat_dial import wire_chat_dial
from playground.web.tabs.chat_keeping import wire_chat_keeping
from playground.web.tabs.chat_layout import build_chat_tab
from playground.web.tabs.compare import read_request, wire_compare_tab
from playground.web.tabs.compare_dial import first_properties, wire_downloads
from playground.web.tabs.compare_layout import build_compare_tab
from playground.web.tabs.fit import build_fit_tab, wire_fit_tab
from playground.web.tabs.learn import build_learn_tab, wire_learn_tab
from playground.web.tabs.measure.tab import build_measure_tab, wire_measure_tab
from playground.web.tabs.models import CompareTarget, build_models_tab, wire_models_tab
from playground.web.tabs.models_first import ChatTarget
from playground.web.tabs.programs import build_agent_pairs, build_programs_panel
from playground.web.tabs.skills import build_skill_grid, wire_shelf, wire_skill_grid
from playground.web.tabs.tools.wiring import wire_chat_tools
from playground.web.theme import launch_look
from playground.web.widgets import javascript

MAX_TEXT_UPLOAD: Final = "2mb"  # of a file with instructions, where no model file may be dropped
LAST_MESSAGES_SECONDS: Final = 5.0  # for what is under way to end by itself when the playground ends
# Without a number Gradio lets one event wait on a ZeroGPU Space, and a page begins with more.
MOST_EVENTS_WAITING: Final = 10_000
HEAD_SECONDS: Final = 30  # from one look at the free memory to the next
QUICK_EVENTS_AT_ONCE: Final = 16  # redraws and the like; replies have no limit here, the engine queues them itself


def build_app(
    services: Services,
    streaming: Streaming,
    sessions: Sessions,
    programs: ProgramService | None = None,
    first_view: FirstView | None = None,
) -> gr.Blocks:
    """The page over these services, laid out and wired but not served.

    streaming: passes long work from event to event. sessions: watches the sessions of the page. programs: what is
    served at /v1. first_view: of the page's file.
    """
    settings = services.settings
    programs = programs or ProgramService(services)
    quantization_jobs = services.quantization_jobs if settings.allow_quantize else None
    picker_service = ModelPickerService(
        services.library, services.planner, services.pool.budget_for, settings.slots, quantization_jobs,
        services.runs, Servers(services.remotes, may_add=settings.may_add_remotes), services.zerogpu,
        services.forecaster,
    )  # fmt: skip
    loaded_models = LoadedModels(services.pool, services.planner, picker_service)
    chat_tools = ToolRunner(services.tool_servers)
    chat_service = ChatService(settings, services.pool, picker_service, loaded_models, tools=chat_tools)
    compare_service = CompareService(services, picker_service, loaded_models)
    measure_service = MeasureService(services)
    models_service = ModelsService(services)
    fit_service = FitService(services, models_service.hub)

    def draw_head() -> str:
        return head_of(services.devices.current())

    def head_of(devices: Devices) -> str:
        return page_head(
            services.memory(), services.processors, devices,
            on_space=settings.on_space, on_zerogpu=services.zerogpu is not None,
        )  # fmt: skip

    def draw_first_view() -> Properties:
        return {
            head: {"value": head_of(services.devices.known)},
            **first_properties(compare, compare_service.setup, picker_service.model_names()),
        }

    def close_session(request: gr.Request) -> None:
        sessions.close_session(str(request.session_hash))

    page: gr.Blocks
    with gr.Blocks(
        title="GGUF playground", analytics_enabled=False, fill_width=True,
        delete_cache=(CLEANING_SECONDS, KEPT_SECONDS),
    ) as page:  # fmt: skip
        head = gr.HTML(head_of(services.devices.known), elem_id="head", apply_default_css=False)
        gr.HTML(theme_switch(), js_on_load=javascript("theme_switch.js"), elem_id="theme", apply_default_css=False)
        if settings.on_space:
            gr.DuplicateButton(
                "Duplicate this Space", variant="secondary", size="sm", elem_id="duplicate",
                elem_classes="gp-duplicate",
            )  # fmt: skip
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Compare", id="compare") as compare_tab:
                compare = build_compare_tab(
                    picker_service, load_comparison_prompts(), compare_service.usual_mode, settings.max_reply_tokens,
                    settings.tab_seconds,
                )  # fmt: skip
                skill_grid = build_skill_grid()
                build_agent_pairs(programs)
            # Rendered from the start: what comes back after a reload arrives before a person goes there.
            with gr.Tab("Chat", id="chat", render_children=True) as chat_tab:
                chat = build_chat_tab(picker_service, settings, services.tool_servers.names)
            with gr.Tab("Measure", id="measure") as measure_tab:
                measure = build_measure_tab(measure_tab, measure_service)
            with gr.Tab("Fit", id="fit") as fit_tab:
                fit = build_fit_tab(fit_tab, fit_service)
            with gr.Tab("Models", id="models") as models_tab:
                models = build_models_tab(models_tab, settings)
                build_programs_panel(programs, settings)
            with gr.Tab("Learn", id="learn") as learn_tab:
                learn = build_learn_tab()

        wire_chat_tab(page, chat, chat_service, streaming)
        wire_chat_keeping(page, chat, chat_service, streaming, tabs)
        wire_chat_tools(chat, chat_service, streaming)
        wire_chat_dial(chat, chat_service, compare_service.dials)
        wire_shelf(page, chat, chat_service, settings.skills_dir)
        wire_compare_tab(page, compare, compare_service, tabs, streaming)
        wire_downloads(compare, tabs, models.hub.wanted)
        wire_skill_grid(
            page, skill_grid, compare, chat.storage.shelf, compare_service, streaming, partial(read_request, compare),
            settings.skills_dir,
        )  # fmt: skip
        wire_measure_tab(page, measure, measure_service)
        wire_fit_tab(fit, fit_service, tabs, chat, picker_service, models.hub.wanted)
        wire_learn_tab(page, learn_tab, learn, tabs, LearnService(services, picker_service.usual_model))
        left, right = (pane.picker for pane in compare.panes)
        compare_target = CompareTarget((left, right), compare_service.setup.first_choices)
        wire_models_tab(page, models, models_service, ChatTarget(tabs, chat.picker, picker_service), compare_target)
        keep_pickers_current((chat.picker, left, right), picker_service, [models.models_changed])
        offer_api(ApiService(services, models_service.hub), sessions.forget_soon)
        clock = gr.Timer(HEAD_SECONDS)
        # With each tab, too: what Chat, Fit and Models plan with is read when they open, and stands below the strip.
        looks = [page.load, clock.tick, tabs.select]
        gr.on(looks, draw_head, None, head, show_progress="hidden", api_visibility="private")
        for part, name in ((compare_tab, "compare"), (chat_tab, "chat")):
            names = f"() => ({javascript('address_tab.js')})({javascript('write_address.js')}, '{name}')"
            part.select(js=names, show_progress="hidden", api_visibility="private")
        for script in ("page.js", "keyboard.js", "copy_as_written.js"):
            page.load(js=javascript(script), show_progress="hidden", api_visibility="private")
        page.unload(close_session)

    if first_view:
        first_view.follow(page, draw_first_view)
    page.queue(max_size=MOST_EVENTS_WAITING, default_concurrency_limit=QUICK_EVENTS_AT_ONCE)
    sessions.watch_page(page, (services.runs.end_session, streaming.end_session, services.pool.forget_chat))
    check_gradio(page)
    leave_out_the_hubs_header(page)
    report_progress_in_one_place(page, head)
    wrap_generators(page, never_empty)
    send_updates_whole()
    keep_rows_of_shut_tabs()
    spare_outputs_that_stay()
    describe_no_sessions()
    keep_no_analytics(page)
    rest_while_idle(page)
    return page


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
            page = build_app(services, streaming, sessions, programs, first_view)
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
