"""The models of servers, as the picker offers them beside those of this computer, and the entering of a server.

Joins what is known of the servers with words for people. Knows no component, and never waits for a server longer than
a page may take.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Final
from urllib.parse import urlsplit

from playground.app.model_choice import LevelRow
from playground.engine.local.load_queue import LoadStatus
from playground.engine.remote.protocol import RemoteModel
from playground.engine.remote.registry import RemoteLease, ServerModels, ServerRegistry
from playground.errors import ModelNotFound, RequestRefused
from playground.servers import read_server
from playground.text_format import counted

FIRST_LOOK_SECONDS: Final = 2.0  # what the last stage of a view waits for a server that was never asked before


class Servers:
    """Safe to share between visitors. may_add: whether a person may enter a server on the page."""

    def __init__(self, remotes: ServerRegistry | None = None, *, may_add: bool = False) -> None:
        self._remotes = remotes or ServerRegistry()
        self.may_add = may_add

    def names(self, *, wait: bool = False) -> list[tuple[str, str]]:
        """(name to read, value) of every model known now; a server that does not answer stands there by its name.

        wait: for servers that were never asked before, a moment.
        """
        offers = self._remotes.list_servers()
        if wait and any(map(_is_first_look, offers)):
            self._remotes.wait_for_lists(FIRST_LOOK_SECONDS)
            offers = self._remotes.list_servers()
        return [name for offer in offers for name in _names(offer)]

    def means(self, value: str | None) -> bool:
        """Whether a value is that of a server's model, or of a server: `id@server` or `@server`."""
        server = (value or "").rpartition("@")[2] if "@" in (value or "") else None
        return any(offer.server == server for offer in self._remotes.list_servers())

    def model(self, value: str | None) -> RemoteModel:
        """The model that a value means; raises ModelNotFound, or why its server could not be asked."""
        offer = next((one for one in self._remotes.list_servers() if (value or "").endswith(f"@{one.server}")), None)
        found = next((model for model in offer.models if model.reference == value), None) if offer else None
        if found is not None:
            return found
        if offer is not None and offer.problem is not None:
            raise offer.problem
        raise ModelNotFound("That model is not on offer any more.", "Choose another one from the list.")

    def open(self, model: RemoteModel) -> Generator[LoadStatus, None, RemoteLease]:
        """A lease on a server's model, as the pool gives one on a file."""
        return self._remotes.lease_model(model)

    def first(self) -> str | None:
        """The value of the first model there is."""
        return next((value for _, value in self.names(wait=True)), None)

    def add(self, name: str, address: str, key: str) -> str:
        """What a person entered; the sentence for success. Raises PlaygroundError. Without a name, the host's."""
        if not self.may_add:
            raise RequestRefused(
                "Servers cannot be entered here.",
                "Whoever runs this page can set PLAYGROUND_REMOTES.",
                setting="allow_remotes",
            )
        server = read_server(name.strip() or _host(address), address, key)
        models = self._remotes.add_server(server)
        return f"{server.name} offers {counted(len(models), 'model')}: the list of models has {_them(models)} now."


def server_row(model: RemoteModel) -> LevelRow:
    """The one row of a server's model, in place of levels; without size, bits and verdict, which only it knows."""
    summary = "In memory of its own, at the level with which it was started there."
    return LevelRow(model.level, f"runs on {model.server}", 0, None, summary, None, is_elsewhere=True)


def memory_words(model: RemoteModel) -> str:
    """What stands in place of the memory bar."""
    return f"This model runs on {model.server}: it takes no memory here, and there is nothing to load."


def _names(offer: ServerModels) -> Iterable[tuple[str, str]]:
    if not offer.models and offer.problem is not None:
        return [(f"{offer.server} (cannot be asked)", f"@{offer.server}")]
    return [(f"{model.display_name}, runs on {model.server}", model.reference) for model in offer.models]


def _is_first_look(offer: ServerModels) -> bool:
    return offer.is_looking and not offer.models and offer.problem is None


def _host(address: str) -> str:
    try:
        return urlsplit(address.strip()).hostname or ""
    except ValueError:
        return ""


def _them(models: tuple[RemoteModel, ...]) -> str:
    return "it" if len(models) == 1 else "them"
