"""The page as a whole: its tabs laid out and wired. What happens inside a tab is in tabs/; app.py serves it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import gradio as gr

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
from playground.llama.devices import Devices
from playground.web.api import offer_api
from playground.web.gradio_private import (
    check_gradio,
    describe_no_sessions,
    keep_no_analytics,
    keep_rows_of_shut_tabs,
    leave_out_the_hubs_header,
    repeat_nothing_at_the_end,
    report_progress_in_one_place,
    rest_while_idle,
    send_updates_whole,
    spare_outputs_that_stay,
    wrap_generators,
)
from playground.web.html.page import page_head, theme_switch
from playground.web.model_picker.picker import keep_pickers_current
from playground.web.server.first_view import FirstView, Properties
from playground.web.server.sessions import Sessions
from playground.web.server.uploads import CLEANING_SECONDS, KEPT_SECONDS
from playground.web.streaming import Streaming, never_empty
from playground.web.tabs.chat.dial import wire_chat_dial
from playground.web.tabs.chat.keeping import wire_chat_keeping
from playground.web.tabs.chat.layout import ChatTab, build_chat_tab
from playground.web.tabs.chat.tab import wire_chat_tab
from playground.web.tabs.chat.tool_wiring import wire_chat_tools
from playground.web.tabs.compare.dial import first_properties, wire_downloads
from playground.web.tabs.compare.layout import CompareTab, build_compare_tab
from playground.web.tabs.compare.tab import read_request, wire_compare_tab
from playground.web.tabs.fit import FitTab, build_fit_tab, wire_fit_tab
from playground.web.tabs.learn import build_learn_tab, wire_learn_tab
from playground.web.tabs.measure.tab import MeasureTab, build_measure_tab, wire_measure_tab
from playground.web.tabs.models.first_models import ChatTarget
from playground.web.tabs.models.tab import CompareTarget, ModelsTab, build_models_tab, wire_models_tab
from playground.web.tabs.programs import build_agent_pairs, build_programs_panel
from playground.web.tabs.skills import SkillGridPanel, build_skill_grid, wire_shelf, wire_skill_grid
from playground.web.widgets import javascript

# Without a number Gradio lets one event wait on a ZeroGPU Space, and a page begins with more.
MOST_EVENTS_WAITING: Final = 10_000
HEAD_SECONDS: Final = 30  # from one look at the free memory to the next
QUICK_EVENTS_AT_ONCE: Final = 16  # redraws and the like; replies have no limit here, the engine queues them itself

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class TabServices:
    """What the tabs work with, over the services that all front ends share."""

    picker: ModelPickerService
    chat: ChatService
    compare: CompareService
    measure: MeasureService
    models: ModelsService
    fit: FitService
    programs: ProgramService

    @classmethod
    def over(cls, services: Services, programs: ProgramService) -> TabServices:
        settings = services.settings
        picker = ModelPickerService(
            services.library,
            services.planner,
            services.pool.budget_for,
            settings.slots,
            quantization_jobs=services.quantization_jobs if settings.allow_quantize else None,
            runs=services.runs,
            servers=Servers(services.remotes, may_add=settings.may_add_remotes),
            zerogpu=services.zerogpu,
            forecaster=services.forecaster,
        )
        loaded_models = LoadedModels(services.pool, services.planner, picker)
        tools = ToolRunner(services.tool_servers)
        models = ModelsService(services)
        return cls(
            picker=picker,
            chat=ChatService(settings, services.pool, picker, loaded_models, tools=tools),
            compare=CompareService(services, picker, loaded_models),
            measure=MeasureService(services),
            models=models,
            fit=FitService(services, models.hub),
            programs=programs,
        )


@dataclass(frozen=True)
class PageParts:
    """The components of the page, by tab, and the tabs that others lead to or listen to."""

    head: gr.HTML
    tabs: gr.Tabs
    compare_tab: gr.Tab
    compare: CompareTab
    skill_grid: SkillGridPanel
    chat_tab: gr.Tab
    chat: ChatTab
    measure: MeasureTab
    fit: FitTab
    models: ModelsTab
    learn_tab: gr.Tab
    learn: gr.HTML


def build_page(
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
    work = TabServices.over(services, programs or ProgramService(services))
    page: gr.Blocks
    with gr.Blocks(
        title="GGUF playground", analytics_enabled=False, fill_width=True,
        delete_cache=(CLEANING_SECONDS, KEPT_SECONDS),
    ) as page:  # fmt: skip
        parts = _lay_out(services, work)
        _wire_tabs(page, parts, services, work, streaming)
        _wire_page(page, parts, services, sessions)
        offer_api(ApiService(services, work.models.hub), sessions.forget_soon)
    if first_view:
        first_view.follow(page, partial(_first_view, parts, services, work))
    page.queue(max_size=MOST_EVENTS_WAITING, default_concurrency_limit=QUICK_EVENTS_AT_ONCE)
    sessions.watch_page(page, (services.runs.end_session, streaming.end_session, services.pool.forget_chat))
    _adapt_gradio(page, parts.head)
    return page


def _lay_out(services: Services, work: TabServices) -> PageParts:
    settings = services.settings
    head = gr.HTML(_head(services, services.devices.known), elem_id="head", apply_default_css=False)
    gr.HTML(theme_switch(), js_on_load=javascript("theme_switch.js"), elem_id="theme", apply_default_css=False)
    if settings.on_space:
        gr.DuplicateButton(
            "Duplicate this Space", variant="secondary", size="sm", elem_id="duplicate", elem_classes="gp-duplicate",
        )  # fmt: skip
    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab("Compare", id="compare") as compare_tab:
            compare = build_compare_tab(
                work.picker, load_comparison_prompts(), work.compare.usual_mode, settings.max_reply_tokens,
                settings.tab_seconds,
            )  # fmt: skip
            skill_grid = build_skill_grid()
            build_agent_pairs(work.programs)
        # Rendered from the start: what comes back after a reload arrives before a person goes there.
        with gr.Tab("Chat", id="chat", render_children=True) as chat_tab:
            chat = build_chat_tab(work.picker, settings, services.tool_servers.names)
        with gr.Tab("Measure", id="measure") as measure_tab:
            measure = build_measure_tab(measure_tab, work.measure)
        with gr.Tab("Fit", id="fit") as fit_tab:
            fit = build_fit_tab(fit_tab, work.fit)
        with gr.Tab("Models", id="models") as models_tab:
            models = build_models_tab(models_tab, settings)
            build_programs_panel(work.programs, settings)
        with gr.Tab("Learn", id="learn") as learn_tab:
            learn = build_learn_tab()
    return PageParts(
        head=head,
        tabs=tabs,
        compare_tab=compare_tab,
        compare=compare,
        skill_grid=skill_grid,
        chat_tab=chat_tab,
        chat=chat,
        measure=measure,
        fit=fit,
        models=models,
        learn_tab=learn_tab,
        learn=learn,
    )


def _wire_tabs(page: gr.Blocks, parts: PageParts, services: Services, work: TabServices, streaming: Streaming) -> None:
    """The events of each tab, and those that lead from one tab to another."""
    settings, tabs, chat, compare, models = services.settings, parts.tabs, parts.chat, parts.compare, parts.models
    wire_chat_tab(chat, work.chat, streaming)
    wire_chat_keeping(page, chat, work.chat, streaming, tabs)
    wire_chat_tools(chat, work.chat, streaming)
    wire_chat_dial(chat, work.chat, work.compare.dials)
    wire_shelf(page, chat, parts.skill_grid, work.chat, settings.skills_dir)
    wire_compare_tab(page, compare, work.compare, tabs, streaming)
    wire_downloads(compare, tabs, models.hub.wanted)
    wire_skill_grid(
        parts.skill_grid, compare, chat.storage.shelf, work.compare, streaming, partial(read_request, compare),
        settings.skills_dir,
    )  # fmt: skip
    wire_measure_tab(page, parts.measure, work.measure)
    wire_fit_tab(parts.fit, work.fit, tabs, chat, work.picker, models.hub.wanted)
    wire_learn_tab(page, parts.learn_tab, parts.learn, tabs, LearnService(services, work.picker.usual_model))
    left, right = (pane.picker for pane in compare.panes)
    to_compare = CompareTarget((left, right), work.compare.setup.first_choices)
    wire_models_tab(page, models, work.models, ChatTarget(tabs, chat.picker, work.picker), to_compare)
    keep_pickers_current((chat.picker, left, right), work.picker, [models.models_changed])


def _wire_page(page: gr.Blocks, parts: PageParts, services: Services, sessions: Sessions) -> None:
    """What belongs to no tab: the strip on top, the address, scripts of the whole page, the end of a visit."""

    def draw_head() -> str:
        return _head(services, services.devices.current())

    def close_session(request: gr.Request) -> None:
        sessions.close_session(str(request.session_hash))

    clock = gr.Timer(HEAD_SECONDS)
    # With each tab, too: what Chat, Fit and Models plan with is read when they open, and stands below the strip.
    gr.on([page.load, clock.tick, parts.tabs.select], draw_head, None, parts.head, **_QUIET)
    for part, name in ((parts.compare_tab, "compare"), (parts.chat_tab, "chat")):
        names = f"() => ({javascript('address_tab.js')})({javascript('write_address.js')}, '{name}')"
        part.select(js=names, **_QUIET)
    for script in ("page.js", "keyboard.js", "copy_as_written.js"):
        page.load(js=javascript(script), **_QUIET)
    page.unload(close_session)


def _head(services: Services, devices: Devices) -> str:
    """The strip on top. devices: those known now, or those of this moment, for which their driver is asked."""
    on_space, on_zerogpu = services.settings.on_space, services.zerogpu is not None
    return page_head(services.memory(), services.processors, devices, on_space=on_space, on_zerogpu=on_zerogpu)


def _first_view(parts: PageParts, services: Services, work: TabServices) -> Properties:
    return {
        parts.head: {"value": _head(services, services.devices.known)},
        **first_properties(parts.compare, work.compare.setup, work.picker.model_names()),
    }


def _adapt_gradio(page: gr.Blocks, head: gr.HTML) -> None:
    """What web/gradio_private.py changes of Gradio, once the page is whole."""
    check_gradio(page)
    leave_out_the_hubs_header(page)
    report_progress_in_one_place(page, head)
    wrap_generators(page, never_empty)
    send_updates_whole()
    keep_rows_of_shut_tabs()
    spare_outputs_that_stay()
    repeat_nothing_at_the_end()
    describe_no_sessions()
    keep_no_analytics(page)
    rest_while_idle(page)
