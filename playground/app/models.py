"""What happens in the Models tab: what is here, levels made, repositories opened, downloads queued and watched.

Joins the installed, the Hub's desk, the maker and the queue of downloads, each of which knows its own trade. Knows no
component; what the settings forbid is refused here, whatever a browser sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from playground.app.format import bits, gibibytes
from playground.app.hub import HubService
from playground.app.installed_models import InstalledModels
from playground.app.makeable_levels import MakeableLevels
from playground.app.making_progress import QuantizationUpdate, frames_of
from playground.app.refusals import error_message
from playground.app.services import Services
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Visitor
from playground.models.hub.download_queue import Download
from playground.quantize.quantize import QuantizedSize, levels_offered
from playground.web.html.page import notice

_OFFLINE: Final = "The Hub is not asked: offline mode is on (HF_HUB_OFFLINE). All that is on this disk works."


class ModelsService:
    """Serves every visitor; downloads and models are everybody's."""

    def __init__(self, services: Services) -> None:
        self.settings = services.settings
        self.runs = services.runs
        self.installed_models = InstalledModels(services.settings, services.library, services.last_used)
        self.hub = HubService(services)
        self._services = services

    # --- levels made here ---

    def sources(self) -> list[tuple[str, str]]:
        """(what people read, base name) of every model that levels can be made of."""
        models = []
        for base_name, files in self._services.library.models().items():
            try:
                source = self._services.quantization_jobs.source(base_name)
            except PlaygroundError:
                continue
            models.append((f"{files[0].display_name}, from {source.level}", base_name))
        return models

    def makeable(self, base_name: str) -> dict[str, QuantizedSize]:
        """Every level that can be made of a model, with its exact size, from large to small."""
        return (
            self._services.quantization_jobs.can_make(base_name, levels_offered())
            if self.settings.allow_quantize
            else {}
        )

    def make(
        self, base_name: str, level: str, stopped: Callable[[], bool] = lambda: False, visitor: Visitor | None = None
    ) -> Iterator[QuantizationUpdate]:
        """Make a level, with progress; a sentence where that was stopped or cannot be."""
        quantization_jobs = self._services.quantization_jobs if self.settings.allow_quantize else None
        yield from frames_of(
            level, MakeableLevels(quantization_jobs, self.runs).make(base_name, level, stopped, visitor), visitor
        )

    # --- downloads ---

    def downloads(self) -> tuple[Download, ...]:
        return self._services.downloads.all()

    def is_downloading(self) -> bool:
        return any(not record.has_ended for record in self.downloads())

    def download(self, repo: str, key: str, visitor: Visitor | None = None) -> str:
        """Queue a level of an open repository; what to say of it, as markup."""
        try:
            self._refuse_downloads()
            level = self.hub.level(repo, key)
            if self.hub.is_here(level):
                return notice(f"{level.base_name} {level.level} is on this computer already.", "good")
            if visitor:
                self.runs.add_download(visitor, level.key, self._unfinished())
            self._services.downloads.start(level)
        except PlaygroundError as error:
            return error_message(error, visitor)
        return notice(
            f"{level.base_name} {level.level} is on its way: see Downloads. It goes on if you leave this page."
        )

    def act(self, action: str, visitor: Visitor | None = None) -> str:
        """`cancel ID`, `resume ID` or `forget ID`, as a row's button asks; an error as markup, "" where all is well."""
        word, _, id = action.partition(" ")
        queue = self._services.downloads
        doing = {"cancel": queue.cancel, "resume": queue.resume, "forget": queue.forget}
        try:
            self._refuse_downloads()
            if word in doing:
                if visitor:
                    self._check_share(word, id, visitor)
                doing[word](id)
        except PlaygroundError as error:
            return error_message(error, visitor)
        return ""

    def _check_share(self, word: str, id: str, visitor: Visitor) -> None:
        """Among strangers nobody ends another's download; to go on with one takes a share of one's own."""
        if word == "resume":
            self.runs.add_download(visitor, id, self._unfinished())
        elif self.settings.on_space:
            self.runs.check_download_is_mine(visitor, id)

    def _unfinished(self) -> list[str]:
        return [record.id for record in self.downloads() if not record.has_ended]

    def page(self, repo: str) -> str:
        return self._services.hub.page(repo)

    @property
    def away(self) -> str:
        """What to say where the Hub is not to be asked, or the downloads are not as they should be; "" otherwise."""
        said = self._services.downloads.said
        queue = notice(said, "warning") if said else ""
        if not self._services.hub.is_offline:
            return queue
        return f"{queue}{notice(_OFFLINE)}"

    def _refuse_downloads(self) -> None:
        if not self.settings.allow_downloads:
            raise RequestRefused(
                "Nothing is downloaded here.", "Whoever runs this playground decided so.", setting="allow_downloads"
            )


def size_line(size: QuantizedSize) -> str:
    """`62 MiB · 3.6 bits. Requantized from Q4_1 …`: what the file will be, to the byte, before it is made."""
    return " ".join(
        filter(None, (f"{gibibytes(size.size)} ({size.size:,} bytes) · {bits(size.bits_per_weight)}.", size.note))
    )
