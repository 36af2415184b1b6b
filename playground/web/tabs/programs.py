"""Connect an agent: the panel of the Models tab, with what programs ask now; and agents' runs in the Compare tab.

Both are folded, and drawn again only while they are open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gradio as gr

from playground.app.programs.service import ProgramService
from playground.settings import Settings
from playground.web.html.programs import agent_pairs, connect_card, program_calls
from playground.web.server.openai.errors import PREFIX
from playground.web.server.sessions import visitor_of
from playground.web.widgets import button_rows, javascript

REDRAW_SECONDS: Final = 1.0
_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}


def build_programs_panel(service: ProgramService, settings: Settings) -> None:
    """Inside the tab that is open: how to connect a program, and what programs ask now."""
    with gr.Accordion("Connect an agent", open=False, elem_id="programs", elem_classes="gp-more") as panel:
        card = gr.HTML(
            "", apply_default_css=False, js_on_load=javascript("copy_buttons.js"), elem_id="programs-connect"
        )
        rows = button_rows("", "programs-calls")
    timer = gr.Timer(REDRAW_SECONDS, active=False)

    def draw_card(request: gr.Request) -> Any:
        return connect_card(f"{_origin(request)}{PREFIX}", settings, service.models())

    def draw_calls(request: gr.Request) -> Any:
        calls = service.calls_for(visitor_of(request, service.runs, "models"))
        return gr.HTML(value="", rows=program_calls(calls, service.calls.served))

    def stop(number: object, request: gr.Request) -> Any:
        if str(number).isdecimal() and len(str(number)) < 12:
            service.stop_call(visitor_of(request, service.runs, "models"), int(str(number)))
        return draw_calls(request)

    panel.expand(draw_card, None, card, **_QUIET)
    rows.input(stop, rows, rows, **_QUIET)
    _redraw_while_open(panel, timer, draw_calls, rows)


def build_agent_pairs(service: ProgramService) -> None:
    """Inside the tab that is open: what agents asked of `compare:A|B`."""
    with gr.Accordion("Agents’ runs on two models", open=False, elem_id="agent-pairs", elem_classes="gp-more") as panel:
        shown = gr.HTML("", apply_default_css=False, elem_id="agent-pairs-shown")
    timer = gr.Timer(REDRAW_SECONDS, active=False)

    def draw(request: gr.Request) -> Any:
        return agent_pairs(service.pairs_for(visitor_of(request, service.runs, "compare")))

    _redraw_while_open(panel, timer, draw, shown)


def _redraw_while_open(panel: gr.Accordion, timer: gr.Timer, draw: Callable[..., Any], shown: gr.HTML) -> None:
    gr.on([panel.expand, timer.tick], draw, None, shown, **_QUIET)
    panel.expand(lambda: gr.Timer(active=True), None, timer, **_QUIET)
    panel.collapse(lambda: gr.Timer(active=False), None, timer, **_QUIET)


def _origin(request: gr.Request) -> str:
    """The address that the visitor's browser has opened, as far as a program can use it."""
    scheme = str(request.headers.get("x-forwarded-proto") or "http").partition(",")[0].strip()
    host = str(request.headers.get("host") or "127.0.0.1:7860")
    return f"{'https' if scheme == 'https' else 'http'}://{host}"
