"""The servers that the playground may ask: what each offers now, and a lease on one of its models.

Asks no server itself (remote_line.py does). The one idea: whoever lists models is answered at once with what is known,
and a look that is due runs in the background, so that a server that hangs keeps no page waiting.
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
    """What is known of a server: its models as last seen, and why it could not be asked since then, if so."""

    server: str
    models: tuple[RemoteModel, ...] = ()
    problem: PlaygroundError | None = None
    is_looking: bool = False


class RemoteLease:
    """The right to use a server's model, for symmetry with a model in memory: there is nothing to give back."""

    plan: Final = None  # its memory is the server's

    def __init__(self, engine: RemoteEngine) -> None:
        self.engine = engine

    def release(self) -> None:
        pass

    def __enter__(self) -> RemoteLease:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Known:
    """A server with its line. Its fields are the registry's; so is its lock."""

    def __init__(self, line: ServerClient) -> None:
        self.line = line
        self.models: tuple[RemoteModel, ...] = ()
        self.problem: PlaygroundError | None = None
        self.looked_at: float | None = None
        self.is_looking = False
        self.engines: dict[str, RemoteEngine] = {}

    @property
    def offer(self) -> ServerModels:
        return ServerModels(self.line.server.name, self.models, self.problem, self.is_looking)


class ServerRegistry:
    """Thread-safe. Servers are those of the settings and those that were entered since."""

    def __init__(
        self,
        servers: Iterable[RemoteServer] = (),
        silence_seconds: float = 120,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._news = threading.Condition()
        self._known = {server.name: _Known(ServerClient(server, silence_seconds)) for server in servers}
        self._settled = frozenset(name.lower() for name in self._known)

    def list_servers(self) -> tuple[ServerModels, ...]:
        """What is known of each server, without a wait; a look that is due begins."""
        with self._news:
            for name, known in self._known.items():
                is_due = known.looked_at is None or self._clock() - known.looked_at > FRESH_SECONDS
                if is_due and not known.is_looking:
                    known.is_looking = True
                    threading.Thread(target=self._look, args=(known,), daemon=True, name=f"models of {name}").start()
            return tuple(known.offer for known in self._known.values())

    def list_models(self) -> tuple[RemoteModel, ...]:
        """All models known now, by server."""
        return tuple(model for offer in self.list_servers() for model in offer.models)

    def find_model(self, reference: str) -> RemoteModel | None:
        """The model that `id@server` means, of a server that is known; whether it has it, it will say when asked."""
        id, _, name = reference.rpartition("@")
        with self._news:
            known = self._known.get(name)
        if known is None or not id:
            return None
        return next((model for model in known.models if model.id == id), RemoteModel(name, id))

    def wait_for_lists(self, seconds: float) -> bool:
        """Until no look is under way, at most so long; whether that came about."""
        with self._news:
            return self._news.wait_for(lambda: not any(known.is_looking for known in self._known.values()), seconds)

    def add_server(self, server: RemoteServer) -> tuple[RemoteModel, ...]:
        """One more server, if it answers; its models. One that was entered before by the same name is replaced.

        Raises RemoteProblem with what it answered instead, RequestRefused for a name of the settings and for too many.
        """
        line = ServerClient(server, self._silence_seconds)
        with self._news:
            if server.name.lower() in self._settled:
                raise RequestRefused(f"There is a server {server.name} already.", "Give this one another name.")
            if server.name not in self._known and len(self._known) >= MOST_SERVERS:
                raise RequestRefused(f"There are {MOST_SERVERS} servers already, the most here.", "Use one of them.")
        try:
            models = line.list_models()
        except PlaygroundError:
            line.close()
            raise
        known = _Known(line)
        known.models, known.looked_at = models, self._clock()
        with self._news:
            self._known[server.name] = known
        return models

    def lease_model(self, model: RemoteModel) -> Generator[LoadStatus, None, RemoteLease]:
        """A lease, as a generator like the pool's: nothing has to be loaded. Raises RemoteProblem."""
        yield LoadStatus(1.0)
        with self._news:
            known = self._known.get(model.server)
            if known is None:
                raise RemoteProblem(f"There is no server {model.server} any more.", "Choose another model.")
            engine = known.engines.get(model.id)
            if engine is None or engine.model != model:
                engine = known.engines[model.id] = RemoteEngine(known.line, model)
        return RemoteLease(engine)

    def close(self) -> None:
        with self._news:
            for known in self._known.values():
                known.line.close()

    def _look(self, known: _Known) -> None:
        models, problem = known.models, None
        try:
            models = known.line.list_models()
        except PlaygroundError as error:
            problem = error
        except Exception as error:  # a look that fails in any way must end
            problem = RemoteProblem(f"{known.line.server.name} could not be asked ({type(error).__name__}).")
        with self._news:
            known.models, known.problem = models, problem
            known.looked_at, known.is_looking = self._clock(), False
            self._news.notify_all()
