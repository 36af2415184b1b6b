"""Records to markup for the Models tab: what is on this disk, what the Hub offers, the downloads.

A button carries in `data-value` what it asks for. The tab hands that to the service, which trusts none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from playground.app.first_models import CatalogueRow, CatalogueView, Role
from playground.app.hub.view import HubView, SearchView
from playground.app.models import InstalledModelsView, MakeableView
from playground.models.hub.client import FoundRepository
from playground.models.hub.download_queue import Download, DownloadState
from playground.models.hub.repository import HubLevel, Repository
from playground.models.model_file import ModelFile
from playground.text_format import about, bits, count, counted, gigabytes, gigabytes_apart, parameters, percent
from playground.web.html.page import empty_state, notice
from playground.web.html.picker import level_row
from playground.web.html.templates import render

STATES: Final[dict[DownloadState, str]] = {
    "queued": "Queued",
    "preparing": "Reading the header",
    "checking": "Checking the file",
    "downloading": "Downloading",
    "waiting": "Waiting",
    "cancelled": "Cancelled",
    "failed": "Failed",
    "done": "Done",
}
ROLES: Final[dict[Role, str]] = {
    "small": "Small and quick",
    "comfortable": "Best that is comfortable",
    "largest": "Largest that fits",
}
_OTHER_PROGRAMS: Final = ("LM Studio", "Ollama", "llama.cpp")


def part_title(words: str) -> Markup:
    return render("models.html#title", words=words)


# --- on this disk ---


def installed_models(view: InstalledModelsView, *, may_make: bool = True) -> Markup:
    """Every model on this disk with what it is, and the files that were left out with the reason."""
    empty = empty_state("No model on this computer yet", "Download one of the models above, or search for another.")
    origins = [_origin(row.file) for row in view.rows]
    return render("models.html#installed", view=view, origins=origins, empty=empty, may_make=may_make)


def _origin(file: ModelFile) -> str:
    """Where a file comes from: `made here`, `from owner/repo`, `from owner/repo, found in LM Studio`."""
    is_from_another_program = file.origin in _OTHER_PROGRAMS
    if file.repo:
        return f"from {file.repo}" + (f", found in {file.origin}" if is_from_another_program else "")
    if is_from_another_program:
        return f"found in {file.origin}"
    return {"folder": "from a models folder", "starter": "comes with the playground"}.get(file.origin, file.origin)


def makeable_choices(view: MakeableView) -> list[tuple[str, str]]:
    """(`Q2_0 · 62.2 MB · 3.6 bits`, level) of every level that can be made."""
    return [
        (f"{size.level} · {gigabytes(size.size)} · {bits(size.bits_per_weight)}", size.level) for size in view.sizes
    ]


def makeable_facts(view: MakeableView) -> str:
    """`62.2 MB (62,164,224 bytes) · 3.6 bits.` and how it is made: the exact file before it is made."""
    size = view.chosen
    if size is None:
        return "Nothing to make yet: there has to be a model on this computer first."
    exact = f"{gigabytes(size.size)} ({count(size.size)} bytes) · {bits(size.bits_per_weight)}."
    return f"{exact} {size.note}" if size.note else exact


# --- the catalogue ---


def first_model_cards(view: CatalogueView, *, may_download: bool, is_offline: bool = False) -> Markup:
    """The good first models, each with its button. is_offline: what is not here cannot be had now."""
    cards = [(card, ROLES[card.role], _seconds(card, view)) for card in view.cards if card.role]
    return render("models.html#cards", cards=cards, may_download=may_download, is_offline=is_offline)


def first_models_to_come() -> Markup:
    """The place of the cards while they are chosen."""
    return render("models.html#cards_to_come", purposes=[*ROLES.values()])


def catalogue(view: CatalogueView) -> Markup:
    """The rest of the catalogue as a table; a press on a column's head sorts by it."""
    columns = [("name", "Model"), ("size", "Download"), ("speed", "Expected speed")]
    return render("models.html#catalogue", view=view, columns=columns)


def _seconds(card: CatalogueRow, view: CatalogueView) -> float | None:
    """How long the download takes, from the speed of the last one."""
    return card.download_bytes / view.download_speed if view.download_speed else None


# --- on the Hub ---


def search_results(view: SearchView) -> str:
    """Repositories to open, the most downloaded first; "" before anything was searched for."""
    if view.error is not None:
        return notice(str(view.error))  # calm: a box that searches while one types is no place for an alarm
    if not view.found:
        return render("models.html#nothing_found") if view.words else ""
    return render("models.html#search_results", found=[(found, _found_facts(found)) for found in view.found])


def _found_facts(found: FoundRepository) -> list[str]:
    facts = [
        parameters(found.parameter_count),
        counted(found.downloads, "download"),
        counted(found.likes, "like"),
        found.licence or "",
        "licence must be accepted first" if found.gated else "",
    ]
    return [fact for fact in facts if fact]


def repository_head(repository: Repository, url: str) -> Markup:
    """The opened repository by name, with what to know before choosing."""
    return render("models.html#repository", repository=repository, url=url)


def hub_levels(view: HubView, group: str) -> str:
    """The levels of an opened repository as radio buttons, each model of it under its own name."""
    if view.repository is None:
        return ""
    chosen = view.chosen.key if view.chosen else ""
    rows = {row.value: level_row(row, row.value == chosen, group) for row in view.rows}
    models = [(model.base_name, [rows[level.key] for level in model.levels]) for model in view.repository.models]
    return render("models.html#levels", models=models)


def hub_facts(view: HubView) -> str:
    """What the chosen level's verdict is based on, and the largest context that fits."""
    return "" if view.plan is None or view.chosen is None else render("models.html#level_facts", view=view)


def download_label(level: HubLevel) -> str:
    return f"Download {level.level} ({gigabytes(level.size)})"


# --- downloads ---


def downloads(records: Sequence[Download]) -> str:
    """Every download with its progress; "" if there is none."""
    if not records:
        return ""
    shares = [record.bytes_done / record.bytes_total if record.bytes_total else 0.0 for record in records]
    rows = [(record, share, _figures(record, share)) for record, share in zip(records, shares, strict=True)]
    return render("models.html#downloads", records=rows)


def _figures(record: Download, share: float) -> list[str]:
    if record.state == "done":
        return ["Done", gigabytes(record.bytes_total), "now in every model list"]
    done, total = gigabytes_apart(record.bytes_done, record.bytes_total)
    figures = [STATES[record.state], f"{done} of {total}", percent(share)]
    if record.speed:
        figures.append(f"{gigabytes(round(record.speed))}/s")
    if record.seconds_left is not None:
        figures.append(f"{about(record.seconds_left)} left")
    return figures
