"""The Models tab at work: views drawn into its components, and every event wired.

What happens is models_desk.py's to say, where things stand models_layout.py's, how rows read render_models.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.hub import HubView
from playground.app.models import ModelsService, size_line
from playground.app.refusals import file_error_message, log_refusal
from playground.errors import PlaygroundError
from playground.gguf.levels import USUAL_LEVELS
from playground.models.hub.names import looks_like_reference
from playground.settings import Settings
from playground.text_format import bits, gibibytes
from playground.web.html.memory import memory_bar, memory_bar_empty
from playground.web.html.models import (
    download_label,
    downloads,
    hub_facts,
    hub_levels,
    installed_models,
    repository_head,
    search_results,
)
from playground.web.html.page import error_card, notice, status_message
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import is_upload
from playground.web.widgets import button_rows, change_stamp, radio_rows

OFTEN_SECONDS: Final = 0.4  # how often a page looks at the downloads while one is under way: to move twice a second
SELDOM_SECONDS: Final = 5.0  # and while none is: another visitor may start one


@dataclass(frozen=True)
class InstalledModelsPart:
    """What is on this disk: rows with Delete, the question before it, and a file opened by its path."""

    rows: gr.HTML
    asked: gr.State  # the key of the row that is asked about
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    said: gr.HTML
    path: gr.Textbox
    open_path: gr.Button
    drop: gr.File

    @property
    def all(self) -> list[Any]:
        return [self.rows, self.asked, self.question, self.confirm, self.keep, self.said]


@dataclass(frozen=True)
class MakePart:
    """A level made of a model that is here."""

    model: gr.Dropdown
    level: gr.Dropdown
    size: gr.HTML
    make: gr.Button
    stop: gr.Button
    progress: gr.HTML


@dataclass(frozen=True)
class HubPart:
    """Search, an opened repository, its chosen level."""

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
    said: gr.HTML

    @property
    def opened(self) -> list[Any]:
        return [self.repo, self.head, self.levels, self.memory, self.facts, self.download, self.said]


@dataclass(frozen=True)
class ModelsTab:
    """The components that the app and its tests touch. `news` changes when what is on the disk has changed."""

    tab: gr.Tab
    installed_models: InstalledModelsPart
    making: MakePart
    hub: HubPart
    on_the_way: gr.HTML
    way_said: gr.HTML
    timer: gr.Timer
    arrived: gr.State  # how many downloads were done when this page last looked
    news: gr.Textbox


def build_models_tab(tab: gr.Tab, settings: Settings) -> ModelsTab:
    """Inside the tab that is open: this computer on the left, the Hub on the right; one column on a phone."""
    with gr.Row(elem_classes="gp-models"):
        with gr.Column(elem_classes="gp-models-part"):
            installed_models = _lay_out_shelf(settings)
            making = _lay_out_making(settings)
        with gr.Column(elem_classes="gp-models-part"):
            hub = _lay_out_hub(settings)
            on_the_way = button_rows("", "models-downloads")
            way_said = _html("models-downloads-said")
    timer = gr.Timer(SELDOM_SECONDS)
    news = gr.Textbox(visible="hidden", elem_id="models-news")
    return ModelsTab(tab, installed_models, making, hub, on_the_way, way_said, timer, gr.State(0), news)


def _lay_out_shelf(settings: Settings) -> InstalledModelsPart:
    _title("On this Space" if settings.on_space else "On this computer")
    rows = button_rows('<p class="gp-hint">Looking at this disk …</p>', "models-shelf")
    asked = gr.State("")
    question = _html("models-question")
    with gr.Row(elem_classes="gp-question-buttons"):
        confirm = gr.Button("Delete", variant="stop", size="sm", visible=False, elem_id="models-delete")
        keep = gr.Button("Keep it", size="sm", visible=False, elem_id="models-keep")
    said = _html("models-said")
    with gr.Row(elem_classes="gp-input gp-models-input", visible=settings.allow_local_files):
        path = gr.Textbox(
            label="Open a GGUF by its path", placeholder="Open a GGUF by its path", show_label=False, container=False,
            max_lines=1, elem_id="models-path",
        )  # fmt: skip
        open_path = gr.Button("Open", scale=0, elem_id="models-open-path")
    drop = gr.File(
        label="Or drop a GGUF file here", file_count="multiple", file_types=[".gguf"], height=132,
        visible=settings.allow_local_files, elem_id="models-drop",
    )  # fmt: skip
    return InstalledModelsPart(rows, asked, question, confirm, keep, said, path, open_path, drop)


def _lay_out_making(settings: Settings) -> MakePart:
    with gr.Column(visible=settings.allow_quantize, elem_classes="gp-picker gp-make"):
        _title("Make a level")
        model = gr.Dropdown([], label="From", interactive=True, elem_id="models-make-model")
        level = gr.Dropdown([], label="Level", interactive=True, elem_id="models-make-level")
        size = _html("models-make-size")
        make = gr.Button("Make", variant="primary", interactive=False, elem_id="models-make")
        progress = _html("models-making")
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id="models-stop-making")
    return MakePart(model, level, size, make, stop, progress)


def _lay_out_hub(settings: Settings) -> HubPart:
    _title("Find on the Hugging Face Hub")
    with gr.Row(elem_classes="gp-input gp-models-input"):
        text = gr.Textbox(
            label="Words, owner/repo, or an address", placeholder="Words, owner/repo:LEVEL, or an address",
            show_label=False, container=False, max_lines=1, max_length=1000, elem_id="models-search",
        )  # fmt: skip
        find = gr.Button("Find", variant="primary", scale=0, elem_id="models-find")
    wanted = gr.Textbox(visible="hidden", elem_id="models-wanted")
    results = button_rows("", "models-results")
    repo = gr.State("")
    head = _html("models-repository")
    with gr.Column(elem_classes="gp-picker"):
        levels = radio_rows("", "models-level")
        memory = _html("models-memory", memory_bar_empty("Open a model: what it will need shows here."))
    facts = _html("models-facts")
    download = gr.Button("Download", variant="primary", visible=False, elem_id="models-download")
    said = _html("models-download-said")
    return HubPart(text, wanted, find, results, repo, head, levels, memory, facts, download, said)


def _title(words: str) -> None:
    gr.HTML(f'<h2 class="gp-part-title">{words}</h2>', apply_default_css=False)


def _html(elem_id: str, value: str = "") -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id)


# While a person types, the server is asked for the newest text only, a moment after each key.
_NEWEST_JS: Final = """text => new Promise(done => setTimeout(
  () => done(document.querySelector('#models-search :is(input, textarea)').value), 350))"""

Updates = dict[Any, Any]
HERE: Final = "This level is on this computer: it is in every model list."
_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}


# --- react ---


def draw_shelf(tab: ModelsTab, service: ModelsService, said: str = "") -> Updates:
    """What is on this disk, with no question asked."""
    part = tab.installed_models
    return {
        part.rows: gr.HTML(value="", rows=installed_models(service.installed_models.view())),
        part.asked: "",
        part.question: "",
        part.confirm: gr.Button(visible=False),
        part.keep: gr.Button(visible=False),
        part.said: said,
    }


def draw_makeable(tab: ModelsTab, service: ModelsService, model: object, level: object) -> Updates:
    """What can be made of a model, and the exact size of the chosen level."""
    part = tab.making
    sources = service.quantization_sources() if service.settings.allow_quantize else []
    names = [base_name for _, base_name in sources]
    base_name = model if model in names else next(iter(names), None)
    sizes = service.makeable_levels(str(base_name)) if base_name else {}
    chosen = level if level in sizes else next((one for one in (*USUAL_LEVELS, *sizes) if one in sizes), None)
    choices = [
        (f"{one.level} · {gibibytes(one.size)} · {bits(one.bits_per_weight)}", one.level) for one in sizes.values()
    ]
    words = (
        size_line(sizes[str(chosen)]) if chosen else "Nothing can be made yet: a model has to be on this disk first."
    )
    return {
        part.model: gr.Dropdown(choices=sources, value=base_name),
        part.level: gr.Dropdown(choices=choices, value=chosen),
        part.size: notice(words),
        part.make: gr.Button(f"Make {chosen}" if chosen else "Make", interactive=chosen is not None, visible=True),
    }


def draw_hub(tab: ModelsTab, service: ModelsService, view: HubView) -> Updates:
    """An opened repository and its chosen level."""
    part = tab.hub
    bar = memory_bar_empty("Reading the model's header …" if view.chosen else "Open a model: what it needs shows here.")
    if view.plan and view.verdict:
        bar = memory_bar(view.plan, view.usable, view.verdict)
    elif view.error:
        bar = ""
    may = view.chosen is not None and not view.is_here and service.settings.allow_downloads
    here = notice(HERE, "good") if view.is_here else ""
    return {
        part.repo: view.repository.id if view.repository else "",
        part.head: repository_head(view.repository, service.repository_url(view.repository.id))
        if view.repository
        else "",
        part.levels: gr.HTML(value=view.chosen.key if view.chosen else "", rows=hub_levels(view, "models-level")),
        part.memory: bar,
        part.facts: hub_facts(view),
        part.download: gr.Button(download_label(view.chosen), visible=True)
        if may and view.chosen
        else gr.Button(visible=False),
        part.said: error_card(view.error) if view.error else here,
    }


def pace(service: ModelsService) -> gr.Timer:
    """How often this page looks at the downloads from now on."""
    return gr.Timer(OFTEN_SECONDS if service.is_downloading() else SELDOM_SECONDS)


def draw_downloads(tab: ModelsTab, service: ModelsService, arrived: int, shown: object = "") -> Updates:
    """Every download as it stands; where one has arrived since, the disk's rows and the other tabs' lists too.

    shown: the key of the level that the opened repository shows.
    """
    records = service.downloads()
    done = sum(record.state == "done" for record in records)
    updates: Updates = {
        tab.on_the_way: gr.HTML(value="", rows=downloads(records)),
        tab.timer: pace(service),
        tab.arrived: done,
    }
    if done > arrived:
        updates |= draw_shelf(tab, service) | {tab.news: change_stamp()}
        if any(record.id == shown and record.state == "done" for record in records):
            updates |= {tab.hub.download: gr.Button(visible=False), tab.hub.said: notice(HERE, "good")}
    return updates


# --- wire ---


def wire_models_tab(page: gr.Blocks, tab: ModelsTab, service: ModelsService) -> None:
    """Every event of the tab. Nothing is asked of the Hub before a person asks."""
    _wire_shelf(tab, service)
    _wire_making(tab, service)
    _wire_hub(tab, service)
    _wire_downloads(page, tab, service)

    def opened(model: Any, level: Any, arrived: int) -> Updates:
        shown = draw_shelf(tab, service) | draw_makeable(tab, service, model, level)
        return shown | draw_downloads(tab, service, arrived) | {tab.way_said: service.away}

    part = tab.making
    tab.tab.select(
        opened,
        [part.model, part.level, tab.arrived],
        [*tab.installed_models.all, part.model, part.level, part.size, part.make, tab.on_the_way, tab.timer,
         tab.arrived, tab.news, tab.hub.download, tab.hub.said, tab.way_said],
        **_QUIET,
    )  # fmt: skip


def _wire_shelf(tab: ModelsTab, service: ModelsService) -> None:
    part = tab.installed_models

    def refusing(error: PlaygroundError, request: gr.Request) -> Updates:
        return draw_shelf(tab, service, file_error_message(error, visitor_of(request, service.runs, "models")))

    def ask(request: gr.Request, action: Any) -> Updates:
        try:
            row = service.installed_models.find_row(str(action).removeprefix("delete "))
        except PlaygroundError as error:
            return refusing(error, request)
        size = gibibytes(row.file.size)
        words = f"Delete {row.file.display_name} {row.file.level} ({size}) from this disk? It cannot be undone."
        return {
            part.rows: gr.HTML(value=""),
            part.asked: row.key,
            part.question: notice(words, "warning"),
            part.confirm: gr.Button(f"Delete {row.file.level}", visible=True),
            part.keep: gr.Button(visible=True),
            part.said: "",
        }

    def confirmed(request: gr.Request, key: str) -> Updates:
        try:
            file = service.installed_models.delete_model(key)
        except PlaygroundError as error:
            return refusing(error, request)
        words = f"Deleted {file.display_name} {file.level}: {gibibytes(file.size)} are free again."
        return draw_shelf(tab, service, notice(words, "good")) | {tab.news: change_stamp()}

    def open_path(request: gr.Request, path: str) -> Updates:
        try:
            file = service.installed_models.add_file(path)
        except PlaygroundError as error:
            return refusing(error, request)
        words = f"{file.display_name} {file.level} is in every model list until the playground ends."
        return draw_shelf(tab, service, notice(words, "good")) | {tab.news: change_stamp(), part.path: ""}

    def drop(request: gr.Request, paths: Any) -> Updates:
        try:
            files = service.installed_models.keep_uploads([path for path in paths or [] if is_upload(path)])
        except PlaygroundError as error:
            return refusing(error, request) | {part.drop: None}
        words = ", ".join(f"{file.display_name} {file.level}" for file in files)
        return draw_shelf(tab, service, notice(f"Kept {words}: now in every model list.", "good")) | {
            tab.news: change_stamp(),
            part.drop: None,
        }

    outputs = [*part.all, tab.news]
    part.drop.upload(drop, part.drop, [*outputs, part.drop], **_QUIET)
    part.rows.input(ask, part.rows, part.all, **_QUIET)
    part.confirm.click(confirmed, part.asked, outputs, **_QUIET)
    part.keep.click(lambda: draw_shelf(tab, service), None, part.all, **_QUIET)
    gr.on([part.open_path.click, part.path.submit], open_path, part.path, [*outputs, part.path], **_QUIET)


def _wire_making(tab: ModelsTab, service: ModelsService) -> None:
    part = tab.making

    def make(request: gr.Request, model: Any, level: Any) -> Iterator[Updates]:
        for frame in service.make_level(str(model), str(level), visitor=visitor_of(request, service.runs, "models")):
            updates: Updates = {
                part.progress: notice(f"Made {level}: it is in every model list.", "good")
                if frame.is_made
                else status_message(frame.message),
                part.make: gr.Button(visible=not frame.is_busy),
                part.stop: gr.Button(visible=frame.is_busy),
            }
            if frame.is_made:
                updates |= (
                    draw_shelf(tab, service) | draw_makeable(tab, service, model, level) | {tab.news: change_stamp()}
                )
            yield updates

    def stop(request: gr.Request) -> None:
        service.runs.stop_run(visitor_of(request, service.runs, "models"), "making")

    def choose(model: Any, level: Any) -> Updates:
        return draw_makeable(tab, service, model, level) | {part.progress: ""}

    shown = [part.model, part.level, part.size, part.make]
    gr.on(
        [part.model.input, part.level.input], choose, [part.model, part.level], [*shown, part.progress],
        trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    part.make.click(
        make, [part.model, part.level], [*shown, part.progress, part.stop, *tab.installed_models.all, tab.news],
        concurrency_limit=None, **_QUIET,
    )  # fmt: skip
    part.stop.click(stop, queue=False, **_QUIET)


def _wire_hub(tab: ModelsTab, service: ModelsService) -> None:
    part = tab.hub

    def drawn(request: gr.Request, view: HubView) -> Updates:
        if view.error:
            log_refusal(view.error, visitor_of(request, service.runs, "models"))
        return draw_hub(tab, service, view)

    def search(text: str) -> Updates:
        return {part.results: gr.HTML(value="", rows=search_results(service.hub.search_repositories(str(text))))}

    def find(request: gr.Request, text: str) -> Iterator[Updates]:
        if looks_like_reference(str(text)):
            yield from open_named(request, text)
        else:
            yield search(text)

    def open_named(request: gr.Request, text: Any) -> Iterator[Updates]:
        for view in service.hub.open_repository(str(text).removeprefix("open ")):
            yield drawn(request, view) | {part.results: gr.HTML(value="", rows="")}

    def open_wanted(request: gr.Request, repo: Any) -> Iterator[Updates]:
        for updates in open_named(request, repo) if repo else ():
            yield {part.text: repo} | updates

    def choose(request: gr.Request, repo: str, key: Any) -> Iterator[Updates]:
        for view in service.hub.choose_level(repo, str(key)):
            yield drawn(request, view)

    def download(request: gr.Request, repo: str, key: Any, arrived: int) -> Updates:
        said = {part.said: service.start_download(repo, str(key), visitor_of(request, service.runs, "models"))}
        return said | draw_downloads(tab, service, arrived, key)

    newest: dict[str, Any] = {"trigger_mode": "always_last", **_QUIET}
    part.text.input(search, part.text, part.results, js=_NEWEST_JS, **newest)
    gr.on([part.text.submit, part.find.click], find, part.text, [part.results, *part.opened], **newest)
    part.results.input(open_named, part.results, [part.results, *part.opened], **newest)
    part.wanted.change(open_wanted, part.wanted, [part.text, part.results, *part.opened], **newest)
    part.levels.input(choose, [part.repo, part.levels], part.opened, **newest)
    part.download.click(download, [part.repo, part.levels, tab.arrived], _watched(tab), **_QUIET)


def _wire_downloads(page: gr.Blocks, tab: ModelsTab, service: ModelsService) -> None:
    def act(request: gr.Request, action: Any, arrived: int) -> Updates:
        return {
            tab.way_said: service.change_download(str(action), visitor_of(request, service.runs, "models"))
        } | draw_downloads(tab, service, arrived)

    def look(arrived: int, shown: Any) -> Updates:
        return draw_downloads(tab, service, arrived, shown)

    def greet() -> Updates:
        records = service.downloads()
        return {
            tab.timer: pace(service),
            tab.arrived: sum(record.state == "done" for record in records),
        }

    tab.on_the_way.input(act, [tab.on_the_way, tab.arrived], [tab.way_said, *_watched(tab)], **_QUIET)
    tab.timer.tick(look, [tab.arrived, tab.hub.levels], _watched(tab), **_QUIET)
    page.load(greet, None, [tab.timer, tab.arrived], **_QUIET)


def _watched(tab: ModelsTab) -> list[Any]:
    return [tab.on_the_way, tab.timer, tab.arrived, tab.news, tab.hub.download, tab.hub.said, *tab.installed_models.all]
