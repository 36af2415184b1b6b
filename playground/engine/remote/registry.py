"""The OpenAI-compatible servers that the playground may ask: the models of each, and leases on them.

Lists of models are returned at once, as they are known. If one is old, it is looked up in the background, so that a
server that hangs keeps no page waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Final

from playground.engine.local.load_queue import LoadStatus
from playground.engine.remote.client import ServerClient
from playground.engine.remote.engine import RemoteEngine
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError, RemoteProblem, RequestRefused
from playground.servers import RemoteServer

FRESH_SECONDS: Final = 30.0  # after which a list is looked up again
MOST_SERVERS: Final = 20


@dataclass(frozen=True)
class ServerModels:
    """What is known of a server.

    models: as last seen. problem: why the last look-up failed. is_looking: a look-up is under way.
    """

    server: str
    models: tuple[RemoteModel, ...] = ()
    problem: PlaygroundError | None = None
    is_looking: bool = False


class RemoteLease:
    """The right to use a server's model, with the methods of a lease on a model in memory; nothing is given back."""

    plan: Final = None  # its memory is the server's
    load_seconds: Final = None  # it is not loaded here

    def __init__(self, engine: RemoteEngine) -> None:
        self.engine = engine

    def release(self) -> None:
        pass

    def __enter__(self) -> RemoteLease:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _KnownServer:
    """The registry's lock guards its fields."""

    def __init__(self, client: ServerClient) -> None:
        self.client = client
        self.models: tuple[RemoteModel, ...] = ()
        self.problem: PlaygroundError | None = None
        self.looked_at: float | None = None
        self.is_looking = False
        self.engines: dict[str, RemoteEngine] = {}


class ServerRegistry:
    """The servers of the settings, and those that were added since. Thread-safe."""

    def __init__(
        self,
        servers: Iterable[RemoteServer] = (),
        silence_seconds: float = 120,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._servers = {server.name: _KnownServer(ServerClient(server, silence_seconds)) for server in servers}
        self._names_of_settings = frozenset(name.lower() for name in self._servers)

    def list_servers(self) -> tuple[ServerModels, ...]:
        """What is known of each server, at once. Starts the look-ups that are due."""
        with self._changed:
            for name, server in self._servers.items():
                is_due = server.looked_at is None or self._clock() - server.looked_at > FRESH_SECONDS
                if is_due and not server.is_looking:
                    server.is_looking = True
                    look_up = threading.Thread(target=self._look_up, args=(server,), daemon=True)
                    look_up.name = f"models of {name}"
                    look_up.start()
            return tuple(
                ServerModels(name, server.models, server.problem, server.is_looking)
                for name, server in self._servers.items()
            )

    def list_models(self) -> tuple[RemoteModel, ...]:
        """All models known now, by server."""
        return tuple(model for server in self.list_servers() for model in server.models)

    def find_model(self, reference: str) -> RemoteModel | None:
        """The model that `id@server` means; None if there is no such server.

        Whether the server has the model, the request shows.
        """
        id, _, name = reference.rpartition("@")
        with self._changed:
            server = self._servers.get(name)
        if server is None or not id:
            return None
        return next((model for model in server.models if model.id == id), RemoteModel(name, id))

    def wait_for_lists(self, seconds: float) -> bool:
        """Wait until no look-up is under way, at most so long. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not any(server.is_looking for server in self._servers.values()), seconds
            )

    def add_server(self, server: RemoteServer) -> tuple[RemoteModel, ...]:
        """Add a server if it answers, and return its models. One that was added before by the same name is replaced.

        Raises RemoteProblem if it does not answer; RequestRefused for a name of the settings, or if there are too many.
        """
        client = ServerClient(server, self._silence_seconds)
        with self._changed:
            if server.name.lower() in self._names_of_settings:
                raise RequestRefused(f"There is already a server {server.name}.", "Give this one another name.")
            if server.name not in self._servers and len(self._servers) >= MOST_SERVERS:
                raise RequestRefused(f"There are already {MOST_SERVERS} servers, the most here.", "Use one of them.")
        try:
            models = client.list_models()
        except PlaygroundError:
            client.close()
            raise
        added = _KnownServer(client)
        added.models, added.looked_at = models, self._clock()
        with self._changed:
            self._servers[server.name] = added
        return models

    def lease_model(self, model: RemoteModel) -> Generator[LoadStatus, None, RemoteLease]:
        """A lease, as a generator like the pool's, though nothing is loaded. Raises RemoteProblem."""
        yield LoadStatus(1.0)
        with self._changed:
            server = self._servers.get(model.server)
            if server is None:
                raise RemoteProblem(f"There is no server {model.server} any more.", "Choose another model.")
            engine = server.engines.get(model.id)
            if engine is None or engine.model != model:
                engine = server.engines[model.id] = RemoteEngine(server.client, model)
        return RemoteLease(engine)

    def close(self) -> None:
        with self._changed:
            for server in self._servers.values():
                server.client.close()

    def _look_up(self, server: _KnownServer) -> None:
        models, problem = server.models, None
        try:
            models = server.client.list_models()
        except PlaygroundError as error:
            problem = error
        except Exception as error:  # of any kind: a look-up must end
            problem = RemoteProblem(f"{server.client.server.name} could not be asked ({type(error).__name__}).")
        with self._changed:
            server.models, server.problem = models, problem
            server.looked_at, server.is_looking = self._clock(), False
            self._changed.notify_all()
