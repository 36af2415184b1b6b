"""The search of the Models tab: models found on the Hub, judged level by level, and downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.hub.view import HubView
from playground.app.messages import log_refusal
from playground.app.models import ModelsService
from playground.models.hub.download_queue import Download
from playground.models.hub.names import looks_like_reference
from playground.web.html.memory import device_bars, memory_bar, memory_bar_empty
from playground.web.html.models import (
    download_label,
    downloads,
    hub_facts,
    hub_levels,
    repository_head,
    search_results,
)
from playground.web.html.page import error_card, notice, status_message
from playground.web.redraws import Redraws
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Updates, Values
from playground.web.widgets import button_rows, hidden_text, javascript, markup_place, radio_rows

BUSY_SECONDS: Final = 0.4  # between two looks at the downloads while one runs: progress moves twice a second
IDLE_SECONDS: Final = 5.0  # and while none runs: another visitor may start one
INSTALLED: Final = "This level is on this computer and in every model list."
_NO_REPOSITORY: Final = "Open a model to see how much memory it needs."
_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_NEWEST: Final[dict[str, Any]] = {**_QUIET, "trigger_mode": "always_last"}


@dataclass(frozen=True)
class HubPart:
    """The components: search, an opened repository with its chosen level, the downloads."""

    text: gr.Textbox
    wanted: gr.Textbox  # a repository that another tab leads to
    find: gr.Button
    results: gr.HTML
    repo: gr.State  # the id of the opened repository, "" while none is
    head: gr.HTML
    levels: gr.HTML
    memory: gr.HTML
    facts: gr.HTML
    download: gr.Button
    message: gr.HTML
    downloads: gr.HTML
    downloads_message: gr.HTML
    timer: gr.Timer
    done: gr.State  # how many downloads were done when this page last looked

    @property
    def outputs(self) -> list[Any]:
        """What `draw_hub` may change."""
        return [self.repo, self.head, self.levels, self.memory, self.facts, self.download, self.message]


# --- lay out ---


def lay_out_hub() -> HubPart:
    """The one box for words, names and links, and what it finds, inside the column that is open."""
    with gr.Row(elem_classes="gp-input gp-models-input"):
        text = gr.Textbox(
            label="Search models, or paste owner/repo or a link",
            placeholder="Search the Hugging Face Hub, paste owner/repo or a link, or drop a .gguf file here",
            show_label=False, container=False, max_lines=1, max_length=1000, elem_id="models-search",
        )  # fmt: skip
        find = gr.Button("Find", variant="primary", scale=0, elem_id="models-find")
    wanted = hidden_text("models-wanted")
    results = button_rows("", "models-results")
    repo = gr.State("")
    message = markup_place("models-download-said")
    with gr.Row(elem_classes="gp-opened"):
        with gr.Column(elem_classes="gp-picker"):
            head = markup_place("models-repository")
            levels = radio_rows("", "models-level")
        with gr.Column(elem_classes="gp-picker"):
            memory = markup_place("models-memory", memory_bar_empty(_NO_REPOSITORY))
            facts = markup_place("models-facts")
            download = gr.Button("Download", variant="primary", visible=False, elem_id="models-download")
    rows = button_rows("", "models-downloads")
    downloads_message = markup_place("models-downloads-said")
    return HubPart(
        text=text, wanted=wanted, find=find, results=results, repo=repo, head=head, levels=levels, memory=memory,
        facts=facts, download=download, message=message, downloads=rows, downloads_message=downloads_message,
        timer=gr.Timer(IDLE_SECONDS), done=gr.State(0),
    )  # fmt: skip


# --- react ---


def draw_hub(part: HubPart, service: ModelsService, view: HubView) -> Updates:
    """An opened repository and its chosen level."""
    repository, chosen = view.repository, view.chosen
    if view.plan and view.verdict:
        bar = memory_bar(view.plan, view.budget.usable, view.verdict) + device_bars(view.plan, view.budget, view.where)
    elif view.error:
        bar = ""
    else:
        bar = memory_bar_empty("Reading the model's header …" if chosen else _NO_REPOSITORY)
    may_download = chosen is not None and not view.is_installed and service.settings.allow_downloads
    message = notice(INSTALLED, "good") if view.is_installed else ""
    return {
        part.repo: repository.id if repository else "",
        part.head: repository_head(repository, service.repository_url(repository.id)) if repository else "",
        part.levels: gr.HTML(value=chosen.key if chosen else "", rows=hub_levels(view, "models-level")),
        part.memory: bar,
        part.facts: hub_facts(view),
        part.download: gr.Button(download_label(chosen) if chosen else "Download", visible=may_download),
        part.message: error_card(view.error) if view.error else message,
    }


def draw_downloads(part: HubPart, records: Sequence[Download]) -> Updates:
    """Every download as it stands, and how soon to look again."""
    is_downloading = any(not record.has_ended for record in records)
    return {
        part.downloads: gr.HTML(value="", rows=downloads(records)),
        part.timer: gr.Timer(BUSY_SECONDS if is_downloading else IDLE_SECONDS),
    }


# --- wire ---


def wire_hub(
    page: gr.Blocks,
    part: HubPart,
    service: ModelsService,
    draw_change: Callable[[], Updates],
    changed: Sequence[Any],
) -> None:
    """Every event of this half. draw_change: what is on the disk, drawn when a download is done, in `changed`."""

    searches, openings = Redraws(), Redraws()

    def search(request: gr.Request, text: str) -> Updates:
        """Nothing where something else was searched for or opened meanwhile."""
        is_newest = searches.begin_redraw(str(request.session_hash))
        found, reason = search_results(service.hub.search_repositories(str(text))), service.why_unreachable
        if not is_newest():
            return {part.results: gr.skip()}
        return {part.results: gr.HTML(value="", rows=error_card(reason) if reason else found)}

    def find(request: gr.Request, text: str) -> Iterator[Updates]:
        if looks_like_reference(str(text)):
            yield from open_named(request, text)
        else:
            yield search(request, text)

    def open_named(request: gr.Request, text: Any) -> Iterator[Updates]:
        searches.begin_redraw(str(request.session_hash))
        emptied: Updates = {part.results: gr.HTML(value="", rows="")}
        for updates in drawn(request, service.hub.open_repository(str(text).removeprefix("open "))):
            yield updates | emptied
            emptied = {}  # what is searched for meanwhile stays

    def open_wanted(request: gr.Request, repo: Any) -> Iterator[Updates]:
        named: Updates = {part.text: repo}
        for updates in open_named(request, repo) if repo else ():
            yield updates | named
            named = {}  # what is typed meanwhile stays

    def choose(request: gr.Request, values: Values) -> Iterator[Updates]:
        yield from drawn(request, service.hub.choose_level(values[part.repo], str(values[part.levels])))

    def drawn(request: gr.Request, views: Iterator[HubView]) -> Iterator[Updates]:
        """The views, until another repository or level is chosen."""
        is_newest = openings.begin_redraw(str(request.session_hash))
        for view in views:
            if not is_newest():
                return
            if view.error:
                log_refusal(view.error, visitor_of(request, service.runs, "models"))
            yield draw_hub(part, service, view)

    def watch(values: Values) -> Updates:
        """The downloads as they stand; when one is done since the last look, what is on this disk, too."""
        records = service.downloads()
        done = _ids_of_done(records)
        updates = draw_downloads(part, records) | {part.done: len(done)}
        if len(done) > values[part.done]:
            updates |= draw_change()
            if values[part.levels] in done:
                updates |= {part.download: gr.Button(visible=False), part.message: notice(INSTALLED, "good")}
        return updates

    def begin() -> Updates:
        records = service.downloads()
        return {part.timer: draw_downloads(part, records)[part.timer], part.done: len(_ids_of_done(records))}

    def download(request: gr.Request, values: Values) -> Updates:
        visitor = visitor_of(request, service.runs, "models")
        message = service.start_download(values[part.repo], str(values[part.levels]), visitor)
        return {part.message: status_message(message)} | watch(values)

    def change_download(request: gr.Request, values: Values) -> Updates:
        message = service.change_download(str(values[part.downloads]), visitor_of(request, service.runs, "models"))
        return {part.downloads_message: status_message(message)} | watch(values)

    opened = [part.results, *part.outputs]
    watched: set[Any] = {part.done, part.levels}
    outputs = [part.downloads, part.timer, part.done, part.download, part.message, *changed]
    part.text.input(search, part.text, part.results, js=javascript("newest_search.js"), **_NEWEST)
    gr.on([part.text.submit, part.find.click], find, part.text, opened, **_NEWEST)
    part.results.input(open_named, part.results, opened, **_NEWEST)
    part.wanted.change(open_wanted, part.wanted, [part.text, *opened], **_NEWEST)
    part.levels.input(choose, {part.repo, part.levels}, part.outputs, **_NEWEST)
    part.download.click(download, watched | {part.repo}, outputs, **_QUIET)
    part.downloads.input(change_download, watched | {part.downloads}, [part.downloads_message, *outputs], **_QUIET)
    part.timer.tick(watch, watched, outputs, **_QUIET)
    page.load(begin, None, [part.timer, part.done], **_QUIET)


def _ids_of_done(records: Sequence[Download]) -> list[str]:
    return [record.id for record in records if record.state == "done"]
