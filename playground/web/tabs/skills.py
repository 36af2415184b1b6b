"""Skills: the shelf in the Chat tab, and the Compare tab's four answers of two levels with a skill and without it.

The browser keeps the shelf in its own storage, for all its tabs; the chat has which of them are on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import gradio as gr

from playground.app.chat.service import ChatService
from playground.app.chat.skills import Shelf, read_shelf, toggled
from playground.app.chat.updates import ChatUpdate, refused_update
from playground.app.compare.comparison import CompareRequest
from playground.app.compare.service import CompareService
from playground.app.compare.skill_grid import ask_with_and_without
from playground.app.messages import CLEAR
from playground.chat.session import ChatSession, read_instructions
from playground.errors import PlaygroundError, RequestRefused
from playground.web.html.page import paragraph, status_message
from playground.web.html.skills import skill_chips, skill_grid
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import discard_upload
from playground.web.streaming import Streaming, Updates, Values
from playground.web.tabs.chat.layout import ChatTab
from playground.web.tabs.chat.tab import draw_update
from playground.web.tabs.compare.layout import CompareTab
from playground.web.widgets import javascript

_SHELF: Final = "gguf-playground-skills"  # the name of the shelf in the browser's storage
_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}
_WHAT_FOR: Final = (
    "A skill is a text that tells a model how to do a task. Both levels answer the question in the box above, or else "
    "the last one, without the skill and with it: four answers, and what the skill costs in tokens and seconds. "
    "“Add a skill” in Chat puts one on the shelf."
)
_NO_SKILL: Final = RequestRefused("There is no skill yet.", "Add one in the Chat tab: a text or Markdown file.")


def shelf_js(action: str) -> str:
    """The browser's part of an event that reads or writes the shelf."""
    return f"text => ({javascript('shelf.js')})('{action}', '{_SHELF}', text)"


def wire_shelf(page: gr.Blocks, tab: ChatTab, panel: SkillGridPanel, service: ChatService, folder: Path | None) -> None:
    """The chips of the shelf, its files, and what of it is on in this chat. panel: of Compare, filled with it."""
    visitor = partial(visitor_of, runs=service.runs, via="chat")
    shelf_box = tab.storage.shelf

    def read(text: object) -> Shelf:
        return read_shelf(text, service.limits, folder)

    def draw(text: str | None, session: ChatSession) -> gr.HTML:
        return gr.HTML(value="", rows=skill_chips(read(text), _on(session)))

    def draw_all(text: str | None, session: ChatSession) -> Updates:
        return {tab.skills: draw(text, session), panel.skill: _skill_choices(read(text))}

    def add(request: gr.Request, path: str | None, text: str | None, session: ChatSession) -> Updates:
        """A file becomes a skill, and is on at once."""
        try:
            skill = read_instructions(Path(path or ""), service.limits)
            shelf = read(text).with_skill(skill)
        except PlaygroundError as error:
            return draw_update(tab, refused_update(error, visitor(request)))
        finally:
            if path:
                discard_upload(path)
        chosen = replace(session, instructions=shelf.switched_on({*_on(session), skill.name}))
        return draw_update(tab, ChatUpdate(chosen, problem=CLEAR)) | {shelf_box: shelf.to_text()}

    def press(pressed: object, text: str | None, session: ChatSession) -> Updates:
        """A chip switches its skill on or off; its cross takes it off the shelf."""
        shelf, (action, name) = read(text), _read_press(pressed)
        on = toggled(_on(session), name) if action == "toggle" else _on(session) - {name}
        if action == "remove":
            shelf = shelf.without_skill(name)
        chosen = replace(session, instructions=shelf.switched_on(on))
        return draw_update(tab, ChatUpdate(chosen)) | {shelf_box: shelf.to_text()}

    inputs = [shelf_box, tab.session]
    page.load(draw_all, inputs, [tab.skills, panel.skill], js=_opened_js(), **_PRIVATE)
    page.load(None, None, shelf_box, js=shelf_js("read"), **_PRIVATE)
    shelf_box.change(None, shelf_box, None, js=shelf_js("keep"), **_PRIVATE)
    # The kept text follows each change of the chat; a change of the state itself is not seen after an unqueued event.
    gr.on([shelf_box.change, tab.storage.chat.change], draw, inputs, tab.skills, trigger_mode="always_last", **_PRIVATE)
    outputs = [*tab.outputs, shelf_box]
    tab.tools.attach.upload(add, [tab.tools.attach, *inputs], outputs, **_QUICK)
    tab.skills.input(press, [tab.skills, *inputs], outputs, **_QUICK)


@dataclass(frozen=True)
class SkillGridPanel:
    """The components of the four answers."""

    skill: gr.Dropdown
    ask: gr.Button
    stop: gr.Button
    problem: gr.HTML
    grid: gr.HTML


def build_skill_grid() -> SkillGridPanel:
    """Inside the Compare tab."""
    with gr.Accordion("With a skill and without it", open=False, elem_id="skill-grid", elem_classes="gp-more"):
        gr.HTML(paragraph(_WHAT_FOR), apply_default_css=False)
        with gr.Row(elem_classes="gp-skill-ask"):
            skill = gr.Dropdown([], label="Skill", elem_id="skill-grid-skill", interactive=True)
            ask = gr.Button("Ask both levels, with it and without", size="sm", elem_id="skill-grid-ask")
            stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="skill-grid-stop")
        problem = gr.HTML("", apply_default_css=False, elem_id="skill-grid-problem")
        grid = gr.HTML("", apply_default_css=False, elem_id="skill-grid-answers")
    return SkillGridPanel(skill, ask, stop, problem, grid)


def wire_skill_grid(
    panel: SkillGridPanel,
    tab: CompareTab,
    shelf_box: gr.Textbox,
    service: CompareService,
    streaming: Streaming,
    read_request: Callable[[Values], CompareRequest],
    folder: Path | None,
) -> None:
    """The question in the box, or the last one, to both levels with the chosen skill and without it."""
    visitor = partial(visitor_of, runs=service.runs, via="compare")

    def list_skills(text: str | None, chosen: str | None) -> gr.Dropdown:
        return _skill_choices(read_shelf(text, service.limits, folder), chosen)

    def ask(request: gr.Request, values: Values) -> Iterator[Updates]:
        who = visitor(request)
        skill = read_shelf(values[shelf_box], service.limits, folder).find(values[panel.skill])
        question = str(values[tab.message] or "").strip() or values[tab.comparison].question
        if skill is None:
            yield {panel.problem: status_message(_NO_SKILL)}
            return
        service.stop_what_runs(who)
        for number, update in enumerate(ask_with_and_without(service, who, question, read_request(values), skill)):
            drawn: Updates = {}
            if update.grid:
                drawn[panel.grid] = skill_grid(update.grid)
            if number == 0 or not update.is_busy:
                drawn |= {
                    panel.problem: status_message(update.problem) if update.problem else "",
                    panel.ask: gr.Button(interactive=not update.is_busy),
                    panel.stop: gr.Button(visible=update.is_busy),
                }
            yield drawn

    def stop(request: gr.Request) -> None:
        service.stop_comparison(visitor(request))

    shelf_box.change(list_skills, [shelf_box, panel.skill], panel.skill, **_PRIVATE)
    inputs = {shelf_box, panel.skill, tab.message, tab.comparison, *tab.request_inputs}
    streaming.wire([panel.ask.click], ask, inputs, [panel.grid, panel.problem, panel.ask, panel.stop], [panel.grid])
    panel.stop.click(stop, **_QUICK)


def _skill_choices(shelf: Shelf, chosen: str | None = None) -> gr.Dropdown:
    names = [skill.name for skill in shelf.skills]
    return gr.Dropdown(choices=names, value=chosen if chosen in names else next(iter(names), None))


def _on(session: ChatSession) -> set[str]:
    return set(session.instructions.skills) if session.instructions else set()


def _opened_js() -> str:
    return f"(text, session) => [({javascript('shelf.js')})('read', '{_SHELF}'), session]"


def _read_press(pressed: object) -> tuple[str, str]:
    """The action and the name of a chip that a browser sent; ("", "") for anything else."""
    try:
        sent = json.loads(pressed) if isinstance(pressed, str) and len(pressed) < 1000 else {}
    except (ValueError, RecursionError):
        return "", ""
    pairs = list(sent.items()) if isinstance(sent, dict) else []
    is_action = len(pairs) == 1 and pairs[0][0] in ("toggle", "remove") and isinstance(pairs[0][1], str)
    return (pairs[0][0], pairs[0][1]) if is_action else ("", "")
