"""Replies for programs: finds and loads the model that is named, and streams its reply, under the page's limits.

A program is a visitor like any other: the same runs, queue, log lines and figures. Errors are raised as
PlaygroundError; web/server/openai/ gives them the form that programs expect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from playground.app.messages import log_refusal
from playground.app.programs.calls import AS_LOADED, LoadChoice, ProgramCall, ProgramCalls
from playground.app.programs.pairs import AgentAnswer, AgentPair, AgentPairs, comparable, read_pair
from playground.app.services import Services
from playground.chat.programs.embeddings import stream_embeddings
from playground.chat.programs.reply import ProgramRequest, ReplyPiece, count_prompt, stream_choices
from playground.engine.local.lease import ModelLease
from playground.engine.local.load_queue import LoadedModel
from playground.engine.protocol import Prefilled
from playground.errors import ModelNotFound, PlaygroundError, RequestRefused
from playground.gguf.kinds import embeds_by_last_token
from playground.limits.run import Run
from playground.limits.visitor import Visitor
from playground.llama.params import AUTOMATIC_CHOICE, ContextParameters, DeviceChoice, Embeds
from playground.models.model_file import ModelFile
from playground.steps import Steps

INTERVAL_SECONDS: Final = 0.05  # between two pieces of a reply
_NOTHING: Final = ReplyPiece()

ReplyWork = Callable[[Run], Generator[ReplyPiece, None, None]]


class StoppedHere(PlaygroundError):
    """A person has stopped the reply on the page."""


@dataclass(frozen=True)
class ProgramModel:
    """A model that can be asked for. name: as requests name it. context_size: None while it is not loaded.

    embeds: it turns texts into vectors, and cannot chat.
    """

    name: str
    size: int
    context_size: int | None
    embeds: bool = False


class NotForThis(RequestRefused):
    """A model that cannot do what it is asked for."""


class ProgramService:
    """Serves every program."""

    def __init__(self, services: Services) -> None:
        self.runs = services.runs
        self.calls = ProgramCalls()
        self.pairs = AgentPairs(self._reply_recorded)
        self.started_at = int(time.time())
        self._services = services
        self._settings = services.settings

    def models(self) -> list[ProgramModel]:
        """Every model on this computer, those that chat first, and of them those in memory."""
        library, loaded = self._services.library, self._loaded_sizes()
        listed = [
            ProgramModel(file.name, file.size, loaded.get(str(file.path.absolute())), embeds)
            for files, embeds in ((library.files(), False), (library.embedding_files(), True))
            for file in files
        ]
        return sorted(listed, key=lambda model: (model.embeds, model.context_size is None))

    def find_model(self, name: str) -> ModelFile:
        """A model that chats. Raises ModelNotFound, or NotForThis for one that only embeds."""
        library = self._services.library
        try:
            return library.find_file(name.strip(), by_path=self._settings.allow_local_files)
        except PlaygroundError:
            if any(name.strip().endswith(f"@{offer.server}") for offer in self._services.remotes.list_servers()):
                raise NotForThis(
                    f"{name.strip()} runs on another server.", "Ask that server: it speaks this interface itself."
                ) from None
            if library.find_embedding_file(name.strip()):
                raise NotForThis(
                    f"{name.strip()} turns texts into vectors and cannot chat.", "Ask it at /v1/embeddings."
                ) from None
            raise
        except (OSError, RuntimeError, ValueError):  # characters or a length that no path has
            raise _no_such_model(name) from None

    def find_embedding_model(self, name: str) -> ModelFile:
        """A model that embeds. Raises ModelNotFound, or NotForThis for one that chats."""
        found = self._services.library.find_embedding_file(name.strip())
        if found:
            return found
        chats = self.find_model(name)
        raise NotForThis(
            f"{chats.name} writes text and makes no embeddings.", "Name an embedding model; GET /v1/models lists them."
        )

    def model_named(self, name: str) -> ProgramModel:
        """What is known of one model of either kind. Raises ModelNotFound."""
        embeds = self._services.library.find_embedding_file(name.strip())
        file = embeds or self.find_model(name)
        return ProgramModel(file.name, file.size, self._loaded_sizes().get(str(file.path.absolute())), bool(embeds))

    def calls_for(self, visitor: Visitor) -> list[ProgramCall]:
        """The replies under way that a visitor may see: all on one's own computer, else those of the same address."""
        return [call for call in self.calls.under_way() if self._may_see(visitor, call.run.visitor)]

    def pairs_for(self, visitor: Visitor) -> list[AgentPair]:
        """The same of the comparisons of agents, the newest first."""
        return [pair for pair in self.pairs.newest() if self._may_see(visitor, pair.visitor)]

    def stop_call(self, visitor: Visitor, number: int) -> None:
        """End a reply under way that this visitor may see."""
        if any(call.number == number for call in self.calls_for(visitor)):
            self.calls.stop(number)

    def _may_see(self, visitor: Visitor, other: Visitor) -> bool:
        return self._settings.is_for_this_computer or bool(visitor.address and visitor.address == other.address)

    def reply(
        self, visitor: Visitor, model: str, request: ProgramRequest, choice: LoadChoice = AS_LOADED
    ) -> Generator[ReplyPiece, None, None]:
        """The reply in pieces, several a second, also empty ones; closing the generator ends it.

        choice: what it leaves open is as with the loaded model, or as in the settings.
        """
        with _refusals_logged(visitor):
            if models := read_pair(model):
                yield from self._reply_of_pair(visitor, models, request, choice)
            else:
                yield from self._reply(visitor, model, request, choice)

    def embed(
        self, visitor: Visitor, model: str, texts: Sequence[str], choice: LoadChoice = AS_LOADED
    ) -> Generator[ReplyPiece, None, None]:
        """The vectors of the texts, in their order, in pieces as those of a reply."""
        with _refusals_logged(visitor):
            file = self.find_embedding_model(model)
            yield from self._run(visitor, file, texts[0], partial(self._embedded, file, texts, choice))

    def count_prompt(
        self, visitor: Visitor, model: str, request: ProgramRequest, choice: LoadChoice = AS_LOADED
    ) -> Generator[ReplyPiece, None, None]:
        """One piece at the end says how many tokens the prompt has. The model is loaded for it: it alone can count."""
        with _refusals_logged(visitor):
            file = self.find_model(model)
            yield from self._run(visitor, file, request.question, partial(self._counted, file, request, choice))

    def _reply_of_pair(
        self, visitor: Visitor, models: tuple[str, str], request: ProgramRequest, choice: LoadChoice
    ) -> Generator[ReplyPiece, None, None]:
        """A's answer; B's follows in the background, once A's is whole."""
        if request.choices > 1:
            raise RequestRefused("A comparison answers once.", "Leave n out.")
        first, second = (self.find_model(name).name for name in models)
        asked, answer = comparable(request), AgentAnswer(first)
        for piece in self._reply(visitor, first, asked, choice, answer):
            answer.add(piece)
            if piece.finished:
                self.pairs.add(visitor, asked, answer, second, choice.device)
            yield piece

    def _reply_recorded(self, pair: AgentPair, answer: AgentAnswer) -> Generator[ReplyPiece, None, None]:
        visitor = replace(pair.visitor, session=f"{pair.visitor.session} B")
        yield from self._reply(visitor, answer.model, pair.request, LoadChoice(device=pair.device), answer)

    def _reply(
        self,
        visitor: Visitor,
        model: str,
        request: ProgramRequest,
        choice: LoadChoice,
        answer: AgentAnswer | None = None,
    ) -> Generator[ReplyPiece, None, None]:
        file = self.find_model(model)
        if visitor.address and request.choices > self.runs.limits.replies_each:
            raise RequestRefused(
                f"Here one visitor may have {self.runs.limits.replies_each} replies at once, and n is "
                f"{request.choices}.", "Ask for fewer.",
            )  # fmt: skip
        most = self.runs.limits.reply_tokens
        request = replace(request, max_tokens=min(request.max_tokens or most, most))
        work = partial(self._answered, file, request, choice, answer)
        yield from self._run(visitor, file, request.question, work, request.choices)

    def _run(
        self, visitor: Visitor, file: ModelFile, about: str, work: ReplyWork, choices: int = 1
    ) -> Generator[ReplyPiece, None, None]:
        """The pieces of a work within the visitor's share. It is in the list meanwhile, where a person can stop it."""
        number = self.calls.next_number()
        with self.runs.start_run(visitor, "reply", f"program {number}") as run:
            call = ProgramCall(number, file.name, about[:200], run, choices)
            with self.calls.listed(call):
                for piece in work(run):
                    call.add_piece(piece)
                    yield piece
                    if not call.is_whole:
                        _check(run)

    def _answered(
        self,
        file: ModelFile,
        request: ProgramRequest,
        choice: LoadChoice,
        answer: AgentAnswer | None,
        run: Run,
    ) -> Generator[ReplyPiece, None, None]:
        context = self._context(file, choice) or self._new_context(file, choice)
        lease = yield from self._loaded(file, context, run)
        with lease:
            if answer:
                answer.vocabulary_size = lease.engine.loaded.vocabulary_size
            run.release_if_abandoned(lease.release)
            pieces = stream_choices(lease.engine, request, interval_seconds=INTERVAL_SECONDS, visitor=run.visitor)
            run.close_if_abandoned(pieces)
            with closing(pieces):
                for piece in pieces:
                    if piece.prefilled or piece.tokens:
                        run.begin_work()
                    yield piece

    def _counted(
        self, file: ModelFile, request: ProgramRequest, choice: LoadChoice, run: Run
    ) -> Generator[ReplyPiece, None, None]:
        context = self._context(file, choice) or self._new_context(file, choice)
        with (yield from self._loaded(file, context, run)) as lease:
            tokens = count_prompt(lease.engine, request)
        yield ReplyPiece(prefilled=Prefilled(request=0, done=0, total=tokens, cached=0))

    def _embedded(
        self, file: ModelFile, texts: Sequence[str], choice: LoadChoice, run: Run
    ) -> Generator[ReplyPiece, None, None]:
        size = self._context_size(file, choice)
        metadata = self._services.library.header(file.path).metadata
        embeds: Embeds = "in pieces" if embeds_by_last_token(metadata) else "at once"
        context = self._context(file, choice) or ContextParameters.for_embedding(size, embeds)
        lease = yield from self._loaded(file, context, run)
        with lease:
            run.release_if_abandoned(lease.release)
            run.begin_work()
            pieces = stream_embeddings(lease.engine, texts, run.visitor, interval_seconds=INTERVAL_SECONDS)
            run.close_if_abandoned(pieces)
            with closing(pieces):
                yield from pieces

    def _loaded(self, file: ModelFile, context: ContextParameters, run: Run) -> Generator[ReplyPiece, None, ModelLease]:
        loading = self._services.pool.lease_model(file.path, context, wait_for_memory=True)
        run.close_if_abandoned(loading)
        _check(run)
        with Steps(loading) as steps:
            for _ in steps:
                yield _NOTHING
                _check(run)
            return steps.result

    def _context(self, file: ModelFile, choice: LoadChoice) -> ContextParameters | None:
        """As the model is loaded where it is wanted: with the size asked for, else the largest; None if it is not."""
        loaded = [
            model.key.context
            for model in self._services.pool.loaded_models()
            if model.key.path == file.path.absolute() and model.state != "waiting" and _runs_on(model, choice.device)
        ]
        if choice.context_size is None:
            return max(loaded, key=lambda context: context.context_size, default=None)
        wanted = self._context_size(file, choice)
        return next((context for context in loaded if context.context_size == wanted), None)

    def _new_context(self, file: ModelFile, choice: LoadChoice) -> ContextParameters:
        size, device = self._context_size(file, choice), choice.device or AUTOMATIC_CHOICE
        return ContextParameters(size, slots=self._settings.slots, device=device)

    def _context_size(self, file: ModelFile, choice: LoadChoice) -> int:
        """As asked for, or as the settings say; at most what the model was trained for."""
        wanted = choice.context_size or self._settings.api_context
        return min(wanted, self._services.planner.trained_context(file.path))

    def _loaded_sizes(self) -> dict[str, int]:
        ready = [model for model in self._services.pool.loaded_models() if model.state == "ready"]
        return {str(model.key.path): model.key.context.context_size for model in ready}


def _runs_on(model: LoadedModel, device: DeviceChoice | None) -> bool:
    """Whether a model that is loaded is where a request wants it; None: it may be anywhere."""
    if device is None or model.key.context.device == device:
        return True
    return device.is_cpu and model.plan is not None and model.plan.context.placement.is_cpu_only


@contextmanager
def _refusals_logged(visitor: Visitor) -> Iterator[None]:
    try:
        yield
    except PlaygroundError as error:
        log_refusal(error, visitor)
        raise


def _no_such_model(name: str) -> ModelNotFound:
    return ModelNotFound(f"There is no model {name[:200]!r} here.", "GET /v1/models lists all.")


def _check(run: Run) -> None:
    """Raises an error if the run took too long or was stopped."""
    if run.interruption:
        raise run.interruption
    if run.is_stopped():
        raise StoppedHere("This reply was stopped on the page of the playground.", "Ask again.")
