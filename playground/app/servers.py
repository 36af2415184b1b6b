"""The models of OpenAI-compatible servers, as the model picker offers them, and the adding of a server.

Never waits for a server longer than a page may take.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Final
from urllib.parse import urlsplit

from playground.app.model_picker.choice import LevelRow
from playground.engine.local.load_queue import LoadStatus
from playground.engine.remote.protocol import RemoteModel
from playground.engine.remote.registry import RemoteLease, ServerModels, ServerRegistry
from playground.errors import ModelNotFound, RequestRefused
from playground.servers import read_server
from playground.text_format import counted

FIRST_LOOK_SECONDS: Final = 2.0  # how long the last stage of a view waits for servers that were never asked before


class Servers:
    """Thread-safe. may_add: whether visitors may add servers on the page."""

    def __init__(self, remotes: ServerRegistry | None = None, *, may_add: bool = False) -> None:
        self._remotes = remotes or ServerRegistry()
        self.may_add = may_add

    def model_names(self, *, wait: bool = False) -> list[tuple[str, str]]:
        """(name to show, value) of every model known now; a server that does not answer is listed by its own name.

        wait: give servers that were never asked before a moment to answer.
        """
        offers = self._remotes.list_servers()
        if wait and any(map(_is_first_look, offers)):
            self._remotes.wait_for_lists(FIRST_LOOK_SECONDS)
            offers = self._remotes.list_servers()
        return [name for offer in offers for name in _model_names(offer)]

    def has_model(self, value: str | None) -> bool:
        """Whether a value belongs to a known server: `id@server` for a model, or `@server` for the server itself."""
        server = (value or "").rpartition("@")[2] if "@" in (value or "") else None
        return any(offer.server == server for offer in self._remotes.list_servers())

    def find_model(self, value: str | None) -> RemoteModel:
        """The model of a value. Raises ModelNotFound, or the error with which its server failed to answer."""
        offer = next((one for one in self._remotes.list_servers() if (value or "").endswith(f"@{one.server}")), None)
        found = next((model for model in offer.models if model.reference == value), None) if offer else None
        if found is not None:
            return found
        if offer is not None and offer.problem is not None:
            raise offer.problem
        raise ModelNotFound("That model is no longer available.", "Choose another one from the list.")

    def lease_model(self, model: RemoteModel) -> Generator[LoadStatus, None, RemoteLease]:
        """A lease on a server's model, with the same interface as the pool's lease on a file."""
        return self._remotes.lease_model(model)

    def first_model(self) -> str | None:
        """The value of the first model, None where there is none."""
        return next((value for _, value in self.model_names(wait=True)), None)

    def add_server(self, name: str, address: str, key: str) -> str:
        """Add a server; returns the sentence for success. An empty name becomes the host's. Raises PlaygroundError."""
        if not self.may_add:
            raise RequestRefused(
                "Servers cannot be added here.",
                "The operator can add them with PLAYGROUND_REMOTES.",
                setting="allow_remotes",
            )
        server = read_server(name.strip() or _host(address), address, key)
        models = self._remotes.add_server(server)
        return f"Connected to {server.name}: {counted(len(models), 'model')} added to the list."


def server_row(model: RemoteModel) -> LevelRow:
    """The only row of a server's model; its size, bits and memory are not known here."""
    summary = "It runs there, with the quantization that the server was started with."
    return LevelRow(model.level, f"runs on {model.server}", 0, None, summary, None, is_elsewhere=True)


def no_memory_sentence(model: RemoteModel) -> str:
    """A sentence in place of the memory plan."""
    return f"This model runs on {model.server}. It needs no memory on this computer and no loading."


def _model_names(offer: ServerModels) -> Iterable[tuple[str, str]]:
    if not offer.models and offer.problem is not None:
        return [(f"{offer.server} (not reachable)", f"@{offer.server}")]
    return [(f"{model.display_name}, runs on {model.server}", model.reference) for model in offer.models]


def _is_first_look(offer: ServerModels) -> bool:
    return offer.is_looking and not offer.models and offer.problem is None


def _host(address: str) -> str:
    try:
        return urlsplit(address.strip()).hostname or ""
    except ValueError:
        return ""
