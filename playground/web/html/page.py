"""Records to HTML for what every tab shows: the page's head, notices, errors, empty states.

Pure functions; no Gradio, no state. Whatever comes from a file, a model or a visitor is escaped here. Memory has its
own room (render_memory.py), so have the picker's rows (render_picker.py) and a reply's figures (render_reply.py).
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal

from playground.app.format import counted, gibibytes_apart
from playground.errors import PlaygroundError
from playground.resources import asset

if TYPE_CHECKING:
    from playground.machine.cpus import Processors
    from playground.machine.memory import MachineMemory


NoticeKind = Literal["info", "good", "warning"]


def page_head(memory: MachineMemory, processors: Processors, *, on_space: bool = False) -> str:
    """The strip on top of every tab: the page's name, and what this computer is."""
    logo = asset("logo.svg").read_text(encoding="utf-8")
    return (
        '<header class="gp-head">'
        f'<div class="gp-brand"><span class="gp-logo" aria-hidden="true">{logo}</span>'
        '<div><h1 class="gp-title">GGUF playground</h1>'
        '<p class="gp-tagline">Feel what quantization does to a language model</p></div></div>'
        f"{machine_strip(memory, processors, on_space=on_space)}</header>"
    )


def machine_strip(memory: MachineMemory, processors: Processors, *, on_space: bool = False) -> str:
    """`This computer: 21.4 GiB usable of 23.5 GiB · 2 cores`, with what limits each in a hint.

    on_space: the computer is not the reader's own, and is called what it is.
    """
    name = "This Space" if on_space else "This computer"
    usable, total = gibibytes_apart(memory.usable, memory.total)
    cores = counted(processors.usable, "core")
    return (
        f'<p class="gp-machine"><span class="gp-machine-name">{name}</span> '
        f'<span title="Limited by {escape(memory.limited_by, quote=True)}"><b>{usable}</b> usable of {total}</span>'
        '<span class="gp-dot" aria-hidden="true"> · </span>'
        f'<span title="Limited by {escape(processors.limited_by, quote=True)}"><b>{cores}</b></span></p>'
    )


def empty_state(title: str, what_to_do: str) -> str:
    """What a part of the page says while there is nothing in it yet; both texts are plain, not markup."""
    return f'<div class="gp-empty"><p class="gp-empty-title">{escape(title)}</p><p>{escape(what_to_do)}</p></div>'


def error_card(error: PlaygroundError | str) -> str:
    """An error as the page shows it: what is wrong in bold, then what to do about it."""
    problem, remedy = (error.problem, error.remedy) if isinstance(error, PlaygroundError) else (error, "")
    what_to_do = f"<p>{escape(remedy)}</p>" if remedy else ""
    return f'<div class="gp-card gp-error" role="alert"><p><strong>{escape(problem)}</strong></p>{what_to_do}</div>'


def notice(text: str, kind: NoticeKind = "info") -> str:
    """A sentence the page says beside the work; read out by screen readers without taking the focus."""
    return f'<div class="gp-card gp-{kind}" role="status"><p>{escape(text)}</p></div>'
