"""The Models tab: what is on this disk, and levels made of it.

Above it are the search, in hub.py, and good first models, in first_models.py, as is the catalogue below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.messages import log_file_refusal
from playground.app.model_picker.choice import ModelChoice
from playground.app.models import InstalledModelRow, ModelsService
from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.text_format import gigabytes
from playground.web.html.models import installed_models, makeable_choices, makeable_facts, part_title
from playground.web.html.page import error_card, notice, paragraph, status_message
from playground.web.model_picker.picker import PickerComponents, fill_pickers
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import is_upload
from playground.web.streaming import Updates, Values
from playground.web.tabs.models.first_models import ChatTarget, FirstPart, lay_out_catalogue, lay_out_first, wire_first
from playground.web.tabs.models.hub import HubPart, draw_downloads, lay_out_hub, wire_hub
from playground.web.widgets import button_rows, change_stamp, hidden_text, javascript, markup_place

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class InstalledPart:
    """What is on this disk: rows with Delete, the question before it, a file opened by its path or dropped."""

    rows: gr.HTML
    asked: gr.State  # the key of the row that is asked about
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    message: gr.HTML
    path: gr.Textbox
    open_path: gr.Button
    drop: gr.File

    @property
    def outputs(self) -> list[Any]:
        """What `draw_installed` may change."""
        return [self.rows, self.asked, self.question, self.confirm, self.keep, self.message]


@dataclass(frozen=True)
class MakePart:
    """A level made of a model that is here. box: shown when a row asks for it."""

    box: gr.Column
    model: gr.Dropdown
    level: gr.Dropdown
    size: gr.HTML
    make: gr.Button
    stop: gr.Button
    progress: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `draw_makeable` may change."""
        return [self.model, self.level, self.size, self.make]


@dataclass(frozen=True)
class ModelsTab:
    """The tab's components. models_changed: changes when the models on this disk have changed."""

    tab: gr.Tab
    installed: InstalledPart
    making: MakePart
    hub: HubPart
    first: FirstPart
    models_changed: gr.Textbox


# --- lay out ---


def build_models_tab(tab: gr.Tab, settings: Settings) -> ModelsTab:
    """Inside the tab that is open: search, first models, what is on this disk, the rest of the catalogue."""
    with gr.Column(elem_classes="gp-models"):
        with gr.Column(elem_classes="gp-models-part"):
            hub = lay_out_hub()
        with gr.Column(elem_classes="gp-models-part"):
            cards, message = lay_out_first()
        with gr.Column(elem_classes="gp-models-part"):
            installed = _lay_out_installed(settings)
            making = _lay_out_making(settings)
        with gr.Column(elem_classes="gp-models-part"):
            first = lay_out_catalogue(cards, message)
    models_changed = hidden_text("models-news")
    return ModelsTab(
        tab=tab, installed=installed, making=making, hub=hub, first=first, models_changed=models_changed
    )  # fmt: skip


def _lay_out_installed(settings: Settings) -> InstalledPart:
    gr.HTML(part_title("On this Space" if settings.on_space else "On this computer"), apply_default_css=False)
    rows = button_rows(paragraph("Reading this disk …"), "models-shelf")
    asked = gr.State("")
    question = markup_place("models-question")
    with gr.Row(elem_classes="gp-question-buttons"):
        confirm = gr.Button("Delete", variant="stop", size="sm", visible=False, elem_id="models-delete")
        keep = gr.Button("Keep it", size="sm", visible=False, elem_id="models-keep")
    message = markup_place("models-said")
    with gr.Row(elem_classes="gp-input gp-models-input", visible=settings.allow_local_files):
        path = gr.Textbox(
            label="Path of a .gguf file on this computer", placeholder="Path of a .gguf file on this computer",
            show_label=False, container=False, max_lines=1, elem_id="models-path",
        )  # fmt: skip
        open_path = gr.Button("Open", scale=0, elem_id="models-open-path")
    drop = gr.File(
        label="Drop a .gguf file here", show_label=False, file_count="multiple", file_types=[".gguf"], height=76,
        visible=settings.allow_local_files, elem_id="models-drop",
    )  # fmt: skip
    return InstalledPart(
        rows=rows, asked=asked, question=question, confirm=confirm, keep=keep, message=message, path=path,
        open_path=open_path, drop=drop,
    )  # fmt: skip


def _lay_out_making(settings: Settings) -> MakePart:
    with gr.Column(visible=False, elem_classes="gp-picker gp-make", elem_id="models-make-box") as box:
        gr.HTML(part_title("Make another level"), apply_default_css=False)
        return MakePart(
            box=box,
            model=gr.Dropdown([], label="From", interactive=True, elem_id="models-make-model"),
            level=gr.Dropdown([], label="Quantization", interactive=True, elem_id="models-make-level"),
            size=markup_place("models-make-size"),
            make=gr.Button("Make", variant="primary", interactive=False, elem_id="models-make"),
            progress=markup_place("models-making"),
            stop=gr.Button("Stop", variant="stop", visible=False, elem_id="models-stop-making"),
        )


# --- react ---


def draw_installed(tab: ModelsTab, service: ModelsService, message: str = "") -> Updates:
    """What is on this disk, with no question asked."""
    part = tab.installed
    return {
        part.rows: _installed_rows(service),
        part.asked: "",
        part.question: "",
        part.confirm: gr.Button(visible=False),
        part.keep: gr.Button(visible=False),
        part.message: message,
    }


def _installed_rows(service: ModelsService) -> gr.HTML:
    view = service.installed_models.view()
    return gr.HTML(value="", rows=installed_models(view, may_make=service.settings.allow_quantize))


def draw_makeable(tab: ModelsTab, service: ModelsService, model: object, level: object) -> Updates:
    """What can be made of a model, and the exact size of the chosen level."""
    part, view = tab.making, service.makeable_view(model, level)
    chosen = view.chosen.level if view.chosen else None
    return {
        part.model: gr.Dropdown(choices=list(view.sources), value=view.base_name),
        part.level: gr.Dropdown(choices=makeable_choices(view), value=chosen),
        part.size: notice(makeable_facts(view)),
        part.make: gr.Button(f"Make {chosen}" if chosen else "Make", interactive=chosen is not None, visible=True),
    }


def draw_change(tab: ModelsTab, service: ModelsService, message: str = "") -> Updates:
    """What is on this disk after a change, which redraws the pickers of the other tabs."""
    return draw_installed(tab, service, message) | {tab.models_changed: change_stamp()}


# --- wire ---


@dataclass(frozen=True)
class CompareTarget:
    """The Compare tab's pickers, and the pair of choices with which it opens a model."""

    pickers: Sequence[PickerComponents]
    pair_of: Callable[[str], Sequence[ModelChoice]]


def wire_models_tab(
    page: gr.Blocks, tab: ModelsTab, service: ModelsService, chat: ChatTarget, compare: CompareTarget
) -> None:
    """Every event of the tab. The Hub is asked nothing before a person asks."""
    making, hub = tab.making, tab.hub
    changed = [*tab.installed.outputs, tab.models_changed]

    def open_tab(values: Values) -> Updates:
        drawn = draw_installed(tab, service) | draw_makeable(tab, service, values[making.model], values[making.level])
        drawn |= draw_downloads(hub, service.downloads())
        drawn |= {hub.downloads_message: status_message(service.downloads_warning)}
        if reason := service.why_unreachable:  # where a search would say it, so that it stands here once
            drawn[hub.results] = gr.HTML(value="", rows=error_card(reason))
        return drawn

    outputs = [*tab.installed.outputs, *making.outputs, hub.downloads, hub.timer, hub.downloads_message, hub.results]
    tab.tab.select(open_tab, {making.model, making.level}, outputs, **_QUIET)
    _wire_installed(tab, service, changed, chat, compare)
    _wire_making(tab, service, changed)
    drawn = wire_first(tab.tab, tab.first, hub, service, chat)
    drawn.then(lambda: _installed_rows(service), None, tab.installed.rows, **_QUIET)  # now with their speeds
    page.load(js=javascript("drop_anywhere.js"), **_QUIET)
    wire_hub(page, hub, service, lambda: draw_change(tab, service), changed)


def _wire_installed(
    tab: ModelsTab,
    service: ModelsService,
    changed: list[Any],
    chat: ChatTarget,
    compare: CompareTarget,
) -> None:
    part, making = tab.installed, tab.making

    def refuse(error: PlaygroundError, request: gr.Request) -> Updates:
        log_file_refusal(error, visitor_of(request, service.runs, "models"))
        return draw_installed(tab, service, error_card(error))

    def press(request: gr.Request, values: Values) -> Iterator[Updates]:
        """What a row's button asks for: `chat KEY`, `compare KEY`, `make KEY` or `delete KEY`."""
        verb, _, key = str(values[part.rows]).partition(" ")
        try:
            row = service.installed_models.find_row(key)
        except PlaygroundError as error:
            yield refuse(error, request)
            return
        yield {part.rows: gr.HTML(value="")}
        if verb == "chat":
            yield from chat.open_file(request, row.file.path)
        elif verb == "compare":
            yield from compare_model(request, row.file.base_name)
        elif verb == "make":
            yield draw_makeable(tab, service, row.file.base_name, None) | {making.box: gr.Column(visible=True)}
        else:
            yield ask(row)

    def compare_model(request: gr.Request, base_name: str) -> Iterator[Updates]:
        """Compare, with the model at the pair of its levels that shows most."""
        yield {chat.tabs: gr.Tabs(selected="compare")}
        yield from fill_pickers(compare.pickers, chat.service, request, compare.pair_of(base_name))

    def ask(row: InstalledModelRow) -> Updates:
        name, size = f"{row.file.display_name} {row.file.level}", gigabytes(row.file.size)
        return {
            part.asked: row.key,
            part.question: notice(f"Delete {name} ({size}) from this disk? This cannot be undone.", "warning"),
            part.confirm: gr.Button(f"Delete {row.file.level}", visible=True),
            part.keep: gr.Button(visible=True),
            part.message: "",
        }

    def delete(request: gr.Request, key: str) -> Updates:
        try:
            file = service.installed_models.delete_model(key)
        except PlaygroundError as error:
            return refuse(error, request)
        message = f"Deleted {file.display_name} {file.level}: {gigabytes(file.size)} are free again."
        return draw_change(tab, service, notice(message, "good"))

    def open_path(request: gr.Request, path: str | None) -> Updates:
        try:
            file = service.installed_models.add_file(path or "")
        except PlaygroundError as error:
            return refuse(error, request)
        message = f"{file.display_name} {file.level} is in every model list until the playground is closed."
        return draw_change(tab, service, notice(message, "good")) | {part.path: ""}

    def keep_upload(request: gr.Request, paths: Any) -> Updates:
        try:
            files = service.installed_models.keep_uploads([path for path in paths or [] if is_upload(path)])
        except PlaygroundError as error:
            return refuse(error, request) | {part.drop: None}
        names = ", ".join(f"{file.display_name} {file.level}" for file in files)
        message = f"Added {names}: now in every model list."
        return draw_change(tab, service, notice(message, "good")) | {part.drop: None}

    part.drop.upload(keep_upload, part.drop, [*changed, part.drop], **_QUIET)
    elsewhere = [making.box, *making.outputs, *chat.outputs]
    for picker in compare.pickers:
        elsewhere += picker.outputs
    part.rows.input(press, {part.rows}, [*part.outputs, *elsewhere], **_QUIET)
    part.confirm.click(delete, part.asked, changed, **_QUIET)
    part.keep.click(lambda: draw_installed(tab, service), None, part.outputs, **_QUIET)
    gr.on([part.open_path.click, part.path.submit], open_path, part.path, [*changed, part.path], **_QUIET)


def _wire_making(tab: ModelsTab, service: ModelsService, changed: list[Any]) -> None:
    part = tab.making

    def choose(values: Values) -> Updates:
        return draw_makeable(tab, service, values[part.model], values[part.level]) | {part.progress: ""}

    def make(request: gr.Request, values: Values) -> Iterator[Updates]:
        model, level = str(values[part.model]), str(values[part.level])
        for update in service.make_level(model, level, visitor=visitor_of(request, service.runs, "models")):
            drawn: Updates = {
                part.progress: status_message(update.message),
                part.make: gr.Button(visible=not update.is_busy),
                part.stop: gr.Button(visible=update.is_busy),
            }
            if update.is_made:
                drawn |= draw_change(tab, service) | draw_makeable(tab, service, model, level)
                drawn[part.progress] = notice(f"Made {level}: it is in every model list.", "good")
            yield drawn

    def stop(request: gr.Request) -> None:
        service.runs.stop_run(visitor_of(request, service.runs, "models"), "making")

    choice: set[Any] = {part.model, part.level}
    gr.on(
        [part.model.input, part.level.input], choose, choice, [*part.outputs, part.progress],
        trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    part.make.click(
        make, choice, [*part.outputs, part.progress, part.stop, *changed],
        concurrency_limit=None, **_QUIET,
    )  # fmt: skip
    part.stop.click(stop, queue=False, **_QUIET)
