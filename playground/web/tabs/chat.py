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

from playground.app.chat import ChatRequest, ChatService, ChatUpdate
from playground.app.model_choice import ModelChoice
from playground.app.refusals import error_message
from playground.chat.conversation import Conversation
from playground.chat.export import as_json, as_markdown
from playground.chat.history import HistoryLimits
from playground.chat.session import ChatSession, read_instructions, shown
from playground.engine.protocol import Sampling
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Visitor
from playground.text_format import counted
from playground.web.html.loaded_models import loaded_models_card
from playground.web.html.page import notice
from playground.web.html.reply import context_meter, live_line
from playground.web.model_picker import wire_model_picker
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import discard_upload
from playground.web.streaming import Streaming, Values, what_is_new
from playground.web.tabs.chat_layout import ChatTab
from playground.web.widgets import change_stamp, save_file_js

# A browser tab's own storage: it outlives a reload, other tabs do not see it, and the server keeps nothing.
_KEEP_JS: Final = (
    "text => { try { sessionStorage.setItem('gguf-playground-chat', text); } catch { /* full, or off */ } }"
)
_KEPT_JS: Final = "() => { try { return sessionStorage.getItem('gguf-playground-chat') || ''; } catch { return ''; } }"


# --- react ---


def wish(*values: Any) -> ChatRequest:
    """What the picker and the parameters hold, in the order of `PickerComponents.choice` and `Parameters.all`."""
    system, temperature, top_k, top_p, min_p, repeat_penalty, max_tokens, seed = values[4:]
    sampling = Sampling(
        temperature=float(temperature),
        top_k=int(top_k),
        top_p=float(top_p),
        min_p=float(min_p),
        repeat_penalty=float(repeat_penalty),
        seed=None if seed is None or seed < 0 else int(seed),
    )
    return ChatRequest(ModelChoice.read(*values[:4]), str(system or ""), sampling, int(max_tokens))


def draw(tab: ChatTab, frame: ChatUpdate) -> dict[Any, Any]:
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
        updates[tab.picker.models_changed] = change_stamp()
    if frame.loaded_models is not None:
        updates[tab.loaded_models] = gr.HTML(value="", rows=loaded_models_card(frame.loaded_models))
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


def instructions_line(talk: ChatSession) -> str:
    """What is attached, by name and length."""
    if not talk.instructions:
        return ""
    length = counted(len(talk.instructions.text), "character")
    return f'<p class="gp-attached">Instructions: <b>{escape(talk.instructions.name)}</b> · {length}</p>'


def to_keep(talk: ChatSession) -> str:
    """The chat as the browser keeps it for a reload."""
    return "" if talk.is_empty else json.dumps(talk.conversation.to_json())


def restored(kept: str, limits: HistoryLimits, visitor: Visitor | None = None) -> ChatUpdate | None:
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
        return ChatUpdate(
            problem=notice("The chat that this browser kept cannot be read; a new one was started.", "warning")
        )
    except PlaygroundError as error:
        return ChatUpdate(problem=error_message(error, visitor))
    return ChatUpdate(ChatSession(replace(conversation, system="")), phase="rest") if conversation.messages else None


# --- wire ---


def wire_chat_tab(page: gr.Blocks, tab: ChatTab, service: ChatService, streaming: Streaming) -> None:
    """Every event of the tab. Generators run side by side: the pool and the engine guard the model, not the queue."""
    # What was loaded is another choice's. First of all: the page runs an event's listeners one after the other, and
    # after the redraw it would wipe what a Load pressed meanwhile has told.
    gr.on(tab.picker.changes, None, None, tab.progress, js="() => ''")
    wire_model_picker(page, tab.picker, service.picker)
    asked = [*tab.picker.choice, *tab.parameters.all]
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    visitor = partial(visitor_of, runs=service.runs, via="chat")

    def send(request: gr.Request, text: str, talk: ChatSession, *values: Any) -> Iterator[dict[Any, Any]]:
        for number, frame in enumerate(service.send(visitor(request), talk, text, wish(*values))):
            yield draw(tab, frame) | ({tab.message: ""} if number == 0 and frame.talk else {})

    def sending(text: str) -> Callable[..., Iterator[dict[Any, Any]]]:
        def send_it(request: gr.Request, talk: ChatSession, *values: Any) -> Iterator[dict[Any, Any]]:
            yield from send(request, text, talk, *values)

        return send_it

    def regenerate(request: gr.Request, talk: ChatSession, *values: Any) -> Iterator[dict[Any, Any]]:
        for frame in service.regenerate(visitor(request), talk, wish(*values)):
            yield draw(tab, frame)

    def load(request: gr.Request, values: Values) -> Iterator[dict[Any, Any]]:
        for frame in service.load(visitor(request), tab.picker.read_choice(values)):
            yield draw(tab, frame)

    def load_anyway(request: gr.Request, values: Values) -> Iterator[dict[Any, Any]]:
        for frame in service.load(visitor(request), tab.picker.read_choice(values), anyway=True):
            yield draw(tab, frame)

    def stop(request: gr.Request) -> None:
        service.stop(visitor(request))

    def kept(event: Any) -> None:
        """After what changes the chat, the browser keeps it for a reload."""
        event.then(to_keep, tab.talk, tab.kept, **quiet).then(None, tab.kept, None, js=_KEEP_JS)

    def restore(request: gr.Request, text: str) -> dict[Any, Any]:
        return draw(tab, restored(text, service.limits, visitor(request)) or ChatUpdate(phase="rest"))

    outputs = [*tab.drawn, tab.message]
    sent = [tab.send.click, tab.message.submit]
    kept(streaming.wire(sent, send, [tab.message, tab.talk, *asked], outputs, tab.growing))
    for starter in tab.starters:
        kept(streaming.wire([starter.click], sending(str(starter.value)), [tab.talk, *asked], outputs, tab.growing))
    kept(streaming.wire([tab.tools.regenerate.click], regenerate, [tab.talk, *asked], tab.drawn, tab.growing))
    page.load(restore, tab.kept, tab.drawn, js=_KEPT_JS, **quiet)
    streaming.wire([tab.load.click], load, tab.picker.inputs, tab.drawn, tab.growing)
    streaming.wire([tab.load_anyway.click], load_anyway, tab.picker.inputs, tab.drawn, tab.growing)
    gr.on([tab.stop.click, tab.cancel_load.click], stop, **quiet)
    _wire_residents(page, tab, service, quiet)
    _wire_talk(tab, service, quiet, kept)


def _wire_residents(page: gr.Blocks, tab: ChatTab, service: ChatService, quiet: dict[str, Any]) -> None:
    """What is in memory is told when the page opens and whenever the choice changes; a button makes it the choice."""
    picker = tab.picker

    def told(values: Values) -> gr.HTML:
        return told_of(picker.read_choice(values))

    def join(request: gr.Request, pressed: Any) -> Iterator[dict[Any, Any]]:
        wanted = service.join(visitor_of(request, service.runs, "chat"), str(pressed))
        for view in service.picker.views(wanted):
            yield picker.updates(view) | {tab.loaded_models: told_of(view.choice)}

    def told_of(choice: ModelChoice) -> gr.HTML:
        return gr.HTML(value="", rows=loaded_models_card(service.loaded_models.view(choice)))

    gr.on([page.load, picker.line.change], told, picker.inputs, tab.loaded_models, trigger_mode="always_last", **quiet)
    tab.loaded_models.input(
        join, tab.loaded_models, [*picker.outputs, tab.loaded_models], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip


def _wire_talk(tab: ChatTab, service: ChatService, quiet: dict[str, Any], kept: Callable[[Any], None]) -> None:
    def edit(talk: ChatSession) -> dict[Any, Any]:
        hint = notice("Change your last message and send it: it takes the place of the old one and its reply.")
        return {tab.talk: replace(talk, editing=True), tab.message: talk.last_question, tab.problem: hint}

    def clear(talk: ChatSession) -> dict[Any, Any]:
        nothing = ChatUpdate(talk.cleared(), phase="rest", live=live_line(None), meter=context_meter(None, None))
        return draw(tab, nothing) | {tab.details: "", tab.problem: "", tab.progress: ""}

    def attach(request: gr.Request, path: str, talk: ChatSession) -> dict[Any, Any]:
        try:
            talk = replace(talk, instructions=read_instructions(path, service.limits))
        except PlaygroundError as error:
            return {tab.problem: error_message(error, visitor_of(request, service.runs, "chat"))}
        finally:
            discard_upload(path)
        return {tab.talk: talk, tab.attached: instructions_line(talk), tab.tools.detach: gr.Button(visible=True)}

    def detach(talk: ChatSession) -> dict[Any, Any]:
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
        button.click(save(render), tab.talk, tab.saved, **quiet).then(
            None, tab.saved, None, js=save_file_js(name, kind)
        )
