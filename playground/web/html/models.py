"""Records to HTML for the Models tab: what is on this disk, what the Hub offers, what is on its way.

Pure functions; whatever comes from a file name, the Hub or a visitor is escaped here. A button carries in `data-value`
what it asks for; the tab hands that to the desk, which trusts none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from playground.app.hub import HubView, SearchView
from playground.app.models import InstalledModelRow, InstalledModelsView
from playground.models.hub.client import FoundRepository
from playground.models.hub.download_queue import Download, DownloadState
from playground.models.hub.repository import HubLevel, Repository
from playground.text_format import about, bits, count, counted, day, gibibytes, gibibytes_apart, parameters, percent
from playground.web.html.page import empty_state, error_card
from playground.web.html.picker import level_row

STATES: dict[DownloadState, str] = {
    "queued": "Waiting for its turn",
    "preparing": "Reading its header",
    "checking": "Checking what has arrived",
    "downloading": "Downloading",
    "waiting": "Waiting",
    "cancelled": "Cancelled",
    "failed": "Stopped",
    "done": "Done",
}


# --- on this disk ---


def installed_models(view: InstalledModelsView) -> str:
    """Every model on this disk with what it is, and the files that were left out with the reason."""
    here = counted(len(view.rows), "model file")
    room = f'<p class="gp-hint">{here} here · {gibibytes(view.free)} free on this disk.</p>'
    if not view.rows:
        rows = empty_state("No model is on this computer yet", "Find one on the Hub below, and download it.")
    else:
        rows = f'<ul class="gp-shelf">{"".join(map(_shelf_row, view.rows))}</ul>'
    return rows + room + _left_out(view)


def _shelf_row(row: InstalledModelRow) -> str:
    file = row.file
    spoken = f"Delete {file.display_name} {file.level}"
    delete = _button(f"delete {row.key}", "Delete", spoken) if row.may_be_deleted else ""
    note = f'<p class="gp-shelf-note">{escape(row.note)}</p>' if row.note else ""
    return (
        f'<li><div class="gp-shelf-what"><p><b>{escape(file.display_name)}</b> '
        f'<span class="gp-level-name">{escape(file.level)}</span></p>'
        f'<p class="gp-figures">{gibibytes(file.size)} · {bits(row.bits_per_weight)} · {escape(row.origin)} · '
        f"last used {day(row.last_used)}</p>"
        f"{note}</div>{delete}</li>"
    )


def _left_out(view: InstalledModelsView) -> str:
    if not view.left_out:
        return ""
    items = "".join(f"<li><b>{escape(entry.file_name)}</b>: {escape(entry.reason)}</li>" for entry in view.left_out)
    words = counted(len(view.left_out), "file")
    return (
        f'<details class="gp-details"><summary>{words} left out</summary><ul class="gp-left-out">{items}</ul></details>'
    )


# --- on the Hub ---


def search_results(view: SearchView) -> str:
    """Repositories to open, the most downloaded first."""
    if view.error is not None:
        return error_card(view.error)
    if not view.found:
        return "" if not view.words else '<p class="gp-hint">No GGUF model has these words in its name.</p>'
    return f'<ul class="gp-shelf gp-found">{"".join(map(_found_row, view.found))}</ul>'


def _found_row(found: FoundRepository) -> str:
    facts = [parameters(found.parameter_count), f"{count(found.downloads)} downloads", f"{count(found.likes)} likes"]
    facts += [found.licence or "", "licence to accept first" if found.gated else ""]
    words = " · ".join(escape(fact) for fact in facts if fact)
    return (
        f'<li><div class="gp-shelf-what"><p><b>{escape(found.id)}</b></p><p class="gp-figures">{words}</p></div>'
        f"{_button(f'open {found.id}', 'Open', f'Open {found.id}')}</li>"
    )


def repository_head(repository: Repository, page: str) -> str:
    """The opened repository by name, with what to know before choosing."""
    facts = [f"{count(repository.downloads)} downloads", repository.licence or "", "gated" if repository.gated else ""]
    note = f'<p class="gp-shelf-note">{escape(repository.note)}</p>' if repository.note else ""
    return (
        f'<div class="gp-repository"><h3>{escape(repository.id)}</h3>'
        f'<p class="gp-figures">{" · ".join(escape(fact) for fact in facts if fact)} · '
        f'<a href="{escape(page, quote=True)}" target="_blank" rel="noopener noreferrer">its page</a></p>{note}</div>'
    )


def hub_levels(view: HubView, group: str) -> str:
    """The levels of an opened repository as radio buttons, each model of it under its own name."""
    if view.repository is None:
        return ""
    chosen = view.chosen.key if view.chosen else ""
    by_key = {row.value: row for row in view.rows}
    parts = []
    for model in view.repository.models:
        if len(view.repository.models) > 1:
            parts.append(f'<p class="gp-hub-model">{escape(model.base_name)}</p>')
        parts += [level_row(by_key[level.key], level.key == chosen, group) for level in model.levels]
    return (
        '<fieldset class="gp-levels"><legend><b>Level</b> <span>fewer bits: smaller, faster, coarser</span></legend>'
        f'<div class="gp-scroll gp-hub-scroll">{"".join(parts)}</div></fieldset>'
    )


def hub_facts(view: HubView) -> str:
    """What the chosen level's verdict rests on, and the largest context that fits."""
    if view.plan is None or view.chosen is None:
        return ""
    basis = (
        "From its own header, by llama.cpp's own reckoning."
        if view.is_exact
        else "Worked out from its size and another level's header."
    )
    largest = (
        f"The largest context that fits is {count(view.largest_context)} tokens."
        if view.largest_context
        else "No context size fits with this level."
    )
    return f'<p class="gp-hint">With {count(view.context_size)} tokens of context. {largest} {basis}</p>'


def download_label(level: HubLevel) -> str:
    return f"Download {level.level} ({gibibytes(level.size)})"


# --- on its way ---


def downloads(records: Sequence[Download]) -> str:
    """Every download with its progress; empty where there is none."""
    if not records:
        return ""
    rows = "".join(map(_download_row, records))
    return f'<h3 class="gp-part-title">Downloads</h3><ul class="gp-shelf gp-downloads">{rows}</ul>'


def _download_row(record: Download) -> str:
    level = record.level
    name = f"{level.base_name} {level.level}"
    share = record.bytes_done / record.bytes_total if record.bytes_total else 0.0
    buttons = ""
    if not record.has_ended:
        buttons = _button(f"cancel {record.id}", "Cancel", f"Cancel {name}")
    elif record.state != "done":
        buttons = _button(f"resume {record.id}", "Resume", f"Resume {name}")
    if record.has_ended:
        buttons += _button(f"forget {record.id}", "Forget", f"Forget {name}")
    note = f'<p class="gp-shelf-note">{escape(record.note)}</p>' if record.note else ""
    bar = (
        f'<div class="gp-progress-track" role="progressbar" aria-label="{escape(name, quote=True)}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{100 * share:.0f}"><span style="width:{100 * share:.1f}%"></span></div>'
    )
    return (
        f'<li><div class="gp-shelf-what"><p><b>{escape(level.base_name)}</b> '
        f'<span class="gp-level-name">{escape(level.level)}</span></p>'
        f'<p class="gp-figures">{_download_words(record, share)}</p>{"" if record.state == "done" else bar}{note}</div>'
        f'<div class="gp-shelf-buttons">{buttons}</div></li>'
    )


def _download_words(record: Download, share: float) -> str:
    if record.state == "done":
        return f"Done · {gibibytes(record.bytes_total)} · now in every model list"
    done, total = gibibytes_apart(record.bytes_done, record.bytes_total)
    words = [STATES[record.state], f"{done} of {total}", percent(share)]
    if record.speed:
        words.append(f"{gibibytes(round(record.speed))}/s")
    if record.seconds_left is not None:
        words.append(f"{about(record.seconds_left)} left")
    return " · ".join(words)


def _button(value: str, label: str, spoken: str) -> str:
    return (
        f'<button type="button" class="gp-small-button" data-value="{escape(value, quote=True)}"'
        f' aria-label="{escape(spoken, quote=True)}">{label}</button>'
    )
