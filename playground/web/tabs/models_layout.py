"""The Models tab laid out: which components there are, and where. What they do is models_tab.py's to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.settings import Settings
from playground.web.buttons import button_rows
from playground.web.html.memory import memory_bar_empty
from playground.web.model_picker import radio_rows

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
