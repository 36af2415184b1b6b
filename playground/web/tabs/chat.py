"""The Chat tab at work: frames drawn into its components, and every event wired.

What happens is chat_desk.py's to say, where things stand chat_layout.py's, how figures read render_reply.py's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any, Final

import gradio as gr

from playground.app.chat import ChatDesk, Frame, Wish
from playground.app.chat_session import Talk, read_instructions, shown
from playground.app.format import counted
from playground.app.model_choice import Choice
from playground.app.refusals import told
from playground.chat.conversation import Conversation
from playground.chat.export import as_json, as_markdown
from playground.chat.history import HistoryLimits
from playground.engine.protocol import Sampling
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Visitor
from playground.web.html.page import notice
from playground.web.html.reply import context_meter, live_line
from playground.web.model_picker import draw as draw_picker
from playground.web.model_picker import news, wire_model_picker
from playground.web.saved_file import saving_js
from playground.web.server.uploads import discard_upload
from playground.web.server.visitors import visitor_of
from playground.web.streaming import Relay
from playground.web.tabs.chat_layout import ChatTab
from playground.web.updates import what_is_new

# A browser tab's own storage: it outlives a reload, other tabs do not see it, and the server keeps nothing.
_KEEP_JS: Final = (
    "text => { try { sessionStorage.setItem('gguf-playground-chat', text); } catch { /* full, or off */ } }"
)
_KEPT_JS: Final = "() => { try { return sessionStorage.getItem('gguf-playground-chat') || ''; } catch { return ''; } }"


# --- react ---


def wish(*values: Any) -> Wish:
    """What the picker and the parameters hold, in the order of `ModelPicker.choice` and `Parameters.all`."""
    system, temperature, top_k, top_p, min_p, repeat_penalty, max_tokens, seed = values[4:]
    sampling = Sampling(
        temperature=float(temperature),
        top_k=int(top_k),
        top_p=float(top_p),
        min_p=float(min_p),
        repeat_penalty=float(repeat_penalty),
        seed=None if seed is None or seed < 0 else int(seed),
    )
    return Wish(Choice.read(*values[:4]), str(system or ""), sampling, int(max_tokens))


def draw(tab: ChatTab, frame: Frame) -> dict[Any, Any]:
    """The updates that a frame means."""
    updates = what_is_new(
        (tab.live, frame.live),
        (tab.meter, frame.meter),
        (tab.details, frame.details),
        (tab.problem, frame.problem),
        (tab.progress, frame.progress),
    )
    if frame.talk is not None:
        if frame.growing is None:  # the chat itself changes when the reply is whole
            updates[tab.talk] = frame.talk
        updates[tab.log] = shown(frame.talk, frame.growing)
    if frame.made:
        updates[tab.picker.news] = news()
    if frame.residents is not None:
        updates[tab.residents] = gr.HTML(value="", rows=frame.residents)
    if frame.may_load_anyway is not None:
        updates[tab.load_anyway] = gr.Button(visible=frame.may_load_anyway)
    if frame.phase is not None:
        busy = frame.phase != "rest"
        updates |= {
            tab.load: gr.Button(visible=frame.phase != "loading", interactive=not busy),
            tab.cancel_load: gr.Button(visible=frame.phase == "loading"),
            tab.send: gr.Button(visible=not busy),
            tab.stop: gr.Button(visible=frame.phase == "replying"),
        }
        if frame.talk is not None:
            usable = not busy and not frame.talk.is_empty
            updates |= {button: gr.Button(interactive=usable) for button in tab.tools.need_a_chat}
    return updates


def instructions_line(talk: Talk) -> str:
    """What is attached, by name and length."""
    if not talk.instructions:
        return ""
    length = counted(len(talk.instructions.text), "character")
    return f'<p class="gp-attached">Instructions: <b>{escape(talk.instructions.name)}</b> · {length}</p>'


def to_keep(talk: Talk) -> str:
    """The chat as the browser keeps it for a reload."""
    return "" if talk.is_empty else json.dumps(talk.conversation.to_json())


def restored(kept: str, limits: HistoryLimits, visitor: Visitor | None = None) -> Frame | None:
    """The chat that a browser kept, or whatever else it sends in its place; None where there is nothing to show."""
    if not kept:
        return None
    try:
        if len(kept) > 8 * limits.all_characters:  # no chat within the limits is that long, escapes included
            raise RequestRefused(
                "The chat that this browser kept is too long.",
                "A new one was started.",
                setting="max_message_characters",
            )
        conversation = Conversation.from_untrusted(json.loads(kept), limits)
    except (ValueError, RecursionError):
        return Frame(
            problem=notice("The chat that this browser kept cannot be read; a new one was started.", "warning")
        )
    except PlaygroundError as error:
        return Frame(problem=told(error, visitor))
    return Frame(Talk(replace(conversation, system="")), phase="rest") if conversation.messages else None


# --- wire ---


def wire_chat_tab(page: gr.Blocks, tab: ChatTab, desk: ChatDesk, relay: Relay) -> None:
    """Every event of the tab. Generators run side by side: the pool and the engine guard the model, not the queue."""
    # What was loaded is another choice's. First of all: the page runs an event's listeners one after the other, and
    # after the redraw it would wipe what a Load pressed meanwhile has told.
    gr.on(tab.picker.changes, None, None, tab.progress, js="() => ''")
    wire_model_picker(page, tab.picker, desk.picker, "chat")
    asked = [*tab.picker.choice, *tab.parameters.all]
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    visitor = partial(visitor_of, visits=desk.visits, via="chat")

    def send(request: gr.Request, text: str, talk: Talk, *values: Any) -> Iterator[dict[Any, Any]]:
        for number, frame in enumerate(desk.send(visitor(request), talk, text, wish(*values))):
            yield draw(tab, frame) | ({tab.message: ""} if number == 0 and frame.talk else {})

    def sending(text: str) -> Callable[..., Iterator[dict[Any, Any]]]:
        def send_it(request: gr.Request, talk: Talk, *values: Any) -> Iterator[dict[Any, Any]]:
            yield from send(request, text, talk, *values)

        return send_it

    def regenerate(request: gr.Request, talk: Talk, *values: Any) -> Iterator[dict[Any, Any]]:
        for frame in desk.regenerate(visitor(request), talk, wish(*values)):
            yield draw(tab, frame)

    def load(request: gr.Request, *choice: Any) -> Iterator[dict[Any, Any]]:
        for frame in desk.load(visitor(request), Choice.read(*choice)):
            yield draw(tab, frame)

    def load_anyway(request: gr.Request, *choice: Any) -> Iterator[dict[Any, Any]]:
        for frame in desk.load(visitor(request), Choice.read(*choice), anyway=True):
            yield draw(tab, frame)

    def stop(request: gr.Request) -> None:
        desk.stop(visitor(request))

    def kept(event: Any) -> None:
        """After what changes the chat, the browser keeps it for a reload."""
        event.then(to_keep, tab.talk, tab.kept, **quiet).then(None, tab.kept, None, js=_KEEP_JS)

    def restore(request: gr.Request, text: str) -> dict[Any, Any]:
        return draw(tab, restored(text, desk.limits, visitor(request)) or Frame(phase="rest"))

    outputs = [*tab.drawn, tab.message]
    sent = [tab.send.click, tab.message.submit]
    kept(relay.wire(sent, send, [tab.message, tab.talk, *asked], outputs, tab.growing))
    for starter in tab.starters:
        kept(relay.wire([starter.click], sending(str(starter.value)), [tab.talk, *asked], outputs, tab.growing))
    kept(relay.wire([tab.tools.regenerate.click], regenerate, [tab.talk, *asked], tab.drawn, tab.growing))
    page.load(restore, tab.kept, tab.drawn, js=_KEPT_JS, **quiet)
    relay.wire([tab.load.click], load, tab.picker.choice, tab.drawn, tab.growing)
    relay.wire([tab.load_anyway.click], load_anyway, tab.picker.choice, tab.drawn, tab.growing)
    gr.on([tab.stop.click, tab.cancel_load.click], stop, **quiet)
    _wire_residents(page, tab, desk, quiet)
    _wire_talk(tab, desk, quiet, kept)


def _wire_residents(page: gr.Blocks, tab: ChatTab, desk: ChatDesk, quiet: dict[str, Any]) -> None:
    """What is in memory is told when the page opens and whenever the choice changes; a button makes it the choice."""
    picker = tab.picker

    def told(*choice: Any) -> gr.HTML:
        return told_of(Choice.read(*choice))

    def join(request: gr.Request, pressed: Any) -> Iterator[dict[Any, Any]]:
        wanted = desk.join(visitor_of(request, desk.visits, "chat"), str(pressed))
        for view in desk.picker.views(wanted):
            drawn = dict(zip(picker.shown, draw_picker(view, "chat"), strict=True))
            yield drawn | {picker.kv_type: wanted.kv_type, tab.residents: told_of(view.choice)}

    def told_of(choice: Choice) -> gr.HTML:
        return gr.HTML(value="", rows=desk.residents.card(choice))

    gr.on([page.load, picker.line.change], told, picker.choice, tab.residents, trigger_mode="always_last", **quiet)
    tab.residents.input(
        join, tab.residents, [*picker.shown, picker.kv_type, tab.residents], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip


def _wire_talk(tab: ChatTab, desk: ChatDesk, quiet: dict[str, Any], kept: Callable[[Any], None]) -> None:
    def edit(talk: Talk) -> dict[Any, Any]:
        hint = notice("Change your last message and send it: it takes the place of the old one and its reply.")
        return {tab.talk: replace(talk, editing=True), tab.message: talk.last_question, tab.problem: hint}

    def clear(talk: Talk) -> dict[Any, Any]:
        nothing = Frame(talk.cleared(), phase="rest", live=live_line(None), meter=context_meter(None, None))
        return draw(tab, nothing) | {tab.details: "", tab.problem: "", tab.progress: ""}

    def attach(request: gr.Request, path: str, talk: Talk) -> dict[Any, Any]:
        try:
            talk = replace(talk, instructions=read_instructions(path, desk.limits))
        except PlaygroundError as error:
            return {tab.problem: told(error, visitor_of(request, desk.visits, "chat"))}
        finally:
            discard_upload(path)
        return {tab.talk: talk, tab.attached: instructions_line(talk), tab.tools.detach: gr.Button(visible=True)}

    def detach(talk: Talk) -> dict[Any, Any]:
        return {
            tab.talk: replace(talk, instructions=None),
            tab.attached: "",
            tab.tools.detach: gr.Button(visible=False),
        }

    def save(render: Any) -> Any:
        return lambda talk: render(talk.transcript())

    tools = tab.tools
    tools.edit.click(edit, tab.talk, [tab.talk, tab.message, tab.problem], **quiet)
    kept(tools.clear.click(clear, tab.talk, tab.drawn, **quiet))
    tools.attach.upload(attach, [tools.attach, tab.talk], [tab.talk, tab.attached, tools.detach, tab.problem], **quiet)
    tools.detach.click(detach, tab.talk, [tab.talk, tab.attached, tools.detach], **quiet)
    for button, render, name, kind in (
        (tools.save_markdown, as_markdown, "chat.md", "text/markdown"),
        (tools.save_json, as_json, "chat.json", "application/json"),
    ):
        button.click(save(render), tab.talk, tab.saved, **quiet).then(None, tab.saved, None, js=saving_js(name, kind))
