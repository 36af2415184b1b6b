"""Records to markup for what every tab shows: the page's head, notices, errors, progress, empty states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from playground.app.messages import NoticeKind, StatusMessage, WorkProgress
from playground.errors import HubUnreachable, PlaygroundError
from playground.resources import asset
from playground.text_format import counted, gigabytes_apart, in_gibibytes, memory_as_sold, percent
from playground.web.html.templates import render

if TYPE_CHECKING:
    from playground.llama.devices import Device, Devices
    from playground.machine.cpus import Processors
    from playground.machine.memory import MachineMemory


def page_head(
    memory: MachineMemory,
    processors: Processors,
    devices: Devices,
    *,
    on_space: bool = False,
    on_zerogpu: bool = False,
) -> str:
    """The strip on top of every tab: the page's name, and what this computer is."""
    logo = Markup(asset("logo.svg").read_text(encoding="utf-8"))
    machine = machine_strip(memory, processors, devices, on_space=on_space, on_zerogpu=on_zerogpu)
    return render("page.html#head", logo=logo, machine=machine, problem=devices.problem)


def machine_strip(
    memory: MachineMemory,
    processors: Processors,
    devices: Devices,
    *,
    on_space: bool = False,
    on_zerogpu: bool = False,
) -> Markup:
    """`This computer 23.0 GB usable of 25.2 GB · 2 cores`, with what limits each in a hint.

    With a GPU: `NVIDIA RTX 4070 11.7 GB free of 12.9 GB · RAM 23.7 GB usable of 33.5 GB · 8 cores`.

    on_space: the computer is not the reader's own, and is called what it is. on_zerogpu: it is lent a GPU for single
    replies.
    """
    usable, total = gigabytes_apart(memory.usable, memory.total)
    return render(
        "page.html#machine",
        name="This Space" if on_space else "This computer",
        gpus=[_gpu(device) for device in devices.gpus],
        usable=usable,
        total=total,
        memory_hint=_memory_hint(memory),
        cores=counted(processors.usable, "core"),
        cores_limited_by=processors.limited_by,
        on_zerogpu=on_zerogpu,
    )


def _memory_hint(memory: MachineMemory) -> str:
    """The same in GiB, and how it is sold: 16.7 GB is more than people know their computer has."""
    hint = f"{in_gibibytes(memory.usable)} of {in_gibibytes(memory.total)}, limited by {memory.limited_by}."
    sold = "" if memory.limit else memory_as_sold(memory.total)
    return f"{hint} Memory is sold in GiB: this is a computer with {sold}." if sold else hint


def _gpu(device: Device) -> dict[str, str | bool]:
    """What the strip says of one GPU."""
    free, total = gigabytes_apart(device.memory_free, device.memory_total)
    hint = f"{in_gibibytes(device.memory_free)} of {in_gibibytes(device.memory_total)}"
    return {"name": device.description, "free": free, "total": total, "unified": device.unified, "hint": hint}


def theme_switch() -> Markup:
    """The button that goes from the system's colours to light, to dark, and back."""
    return render("page.html#theme_switch")


def status_message(message: StatusMessage) -> str:
    """A notice, a progress or an error as markup; "" for a notice without text."""
    if isinstance(message, PlaygroundError):
        return error_card(message)
    if isinstance(message, WorkProgress):
        return progress_bar(message)
    return notice(message.text, message.kind) if message.text else ""


def paragraph(text: str, css_class: str = "gp-hint") -> Markup:
    """One plain sentence, by default as a quiet hint."""
    return render("page.html#paragraph", text=text, css_class=css_class)


def empty_state(title: str, what_to_do: str) -> str:
    """What a part of the page says while there is nothing in it yet; both texts are plain, not markup."""
    return render("page.html#empty_state", title=title, what_to_do=what_to_do)


def error_card(error: PlaygroundError | str) -> str:
    """An error as the page shows it: what is wrong in bold, then what to do about it.

    That there is no network is no alarm: a calm sentence.
    """
    if isinstance(error, HubUnreachable):
        return notice(str(error))
    problem, remedy = (error.problem, error.remedy) if isinstance(error, PlaygroundError) else (error, "")
    return render("page.html#error", problem=problem, remedy=remedy)


def notice(text: str, kind: NoticeKind = "info") -> str:
    """A sentence beside the work; screen readers read it out without taking the focus."""
    return render("page.html#notice", text=text, kind=kind)


def progress_bar(progress: WorkProgress) -> str:
    """`Loading SmolLM2 135M · Q4_1 — 43%`; no number while the share is unknown."""
    share = min(max(progress.fraction or 0.0, 0.0), 1.0)
    known = progress.fraction is not None
    return render("page.html#progress", stage=progress.stage, share=share, percent=percent(share) if known else "")
