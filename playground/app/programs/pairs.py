"""One agent's run on two models: A answers the agent, and B the same request afterwards, in the background.

An agent asks for the model `compare:A|B`. B waits for its turn: one reply after the other, and as memory allows.
What it is good for: an agent's own work shows whether a smaller level would have called the same functions.
"""

from __future__ import annotations

import json
import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Final

from playground.chat.comparison import PaneResult
from playground.chat.conversation import Conversation
from playground.chat.first_difference import FirstDifference, first_difference
from playground.chat.programs.reply import ProgramRequest, ReplyPiece
from playground.chat.template.message import ToolCall
from playground.engine.protocol import Finished, Token
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.params import DeviceChoice
from playground.llama.sampling_extras import Sampling

PREFIX: Final = "compare:"
ALTERNATIVES: Final = 5  # with each token, to tell how probable each model held the other's choice
_MOST_PAIRS: Final = 50  # kept, the newest
_MOST_WAITING: Final = 100  # answers of B that wait; later ones are left out
_IDLE_SECONDS: Final = 30.0  # after which the thread of B's answers ends


@dataclass
class AgentAnswer:
    """What one model answered. vocabulary_size: of the model, once it is loaded."""

    model: str
    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    malformed_calls: int = 0
    tokens: list[Token] = field(default_factory=list)
    finished: Finished | None = None
    vocabulary_size: int | None = None

    def add(self, piece: ReplyPiece) -> None:
        self.text += piece.text
        self.thinking += piece.thinking
        self.calls += piece.calls
        self.malformed_calls += piece.malformed_calls
        self.tokens += piece.tokens
        self.finished = piece.finished or self.finished

    @property
    def called(self) -> list[tuple[str, object]]:
        """The calls without their ids: two with the same arguments are the same call, in any order of the fields."""
        return [(call.name, json.loads(call.arguments)) for call in self.calls]

    def result(self, sampling: Sampling) -> PaneResult | None:
        """The answer as a pane of a comparison; None before its end."""
        if self.finished is None:
            return None
        return PaneResult(
            conversation=Conversation(),
            finished=self.finished,
            plan=None,
            measured=self.finished.memory,
            tokens=tuple(self.tokens),
            sampling=sampling,
            mode="in turn",
            left_out=0,
            vocabulary_size=self.vocabulary_size,
        )


@dataclass
class AgentPair:
    """One request of an agent. device: where it wants both models, if it says so.

    problem: why B has no answer; "" while it waits or once it is there.
    """

    number: int
    visitor: Visitor
    asked: str
    request: ProgramRequest
    first: AgentAnswer
    second: AgentAnswer
    device: DeviceChoice | None = None
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        return self.second.finished is not None

    @property
    def same_calls(self) -> bool | None:
        """Whether both called the same functions with the same arguments; None if none was called, or B is not done."""
        if not self.is_whole or not (self.first.calls or self.second.calls):
            return None
        return self.first.called == self.second.called

    @property
    def difference(self) -> FirstDifference | None:
        """Where the answers part; None where they do not, or cannot be compared."""
        one, other = self.first.result(self.request.sampling), self.second.result(self.request.sampling)
        return first_difference(one, other) if one and other else None


Replies = Callable[[AgentPair, AgentAnswer], Generator[ReplyPiece, None, None]]  # of B


class AgentPairs:
    """Keeps the newest pairs, and asks B, one request after the other, on a thread that ends when none is left."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._lock = threading.Lock()
        self._pairs: deque[AgentPair] = deque(maxlen=_MOST_PAIRS)
        self._waiting: queue.Queue[AgentPair] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._count = 0

    def newest(self) -> list[AgentPair]:
        """The newest first."""
        with self._lock:
            return list(reversed(self._pairs))

    def add(
        self,
        visitor: Visitor,
        request: ProgramRequest,
        first: AgentAnswer,
        model: str,
        device: DeviceChoice | None = None,
    ) -> None:
        """A has answered; B is asked as soon as possible."""
        with self._lock:
            self._count += 1
            pair = AgentPair(self._count, visitor, request.question, request, first, AgentAnswer(model), device)
            self._pairs.append(pair)
            try:
                self._waiting.put_nowait(pair)
            except queue.Full:
                pair.problem = f"{_MOST_WAITING} other answers were waiting already."
            if self._thread is None:
                self._thread = threading.Thread(target=self._ask_in_turn, daemon=True, name="answers of B to agents")
                self._thread.start()

    def _ask_in_turn(self) -> None:
        while True:
            try:
                pair = self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._thread = None
                        return
                continue
            answer = AgentAnswer(pair.second.model)
            try:
                for piece in self._replies(pair, answer):
                    answer.add(piece)
                pair.second = answer
            except PlaygroundError as error:
                pair.problem = str(error)
            except Exception as error:  # of any kind: the next pair must get its turn
                pair.problem = f"The answer failed: {type(error).__name__}."


def read_pair(name: str) -> tuple[str, str] | None:
    """The two models of `compare:A|B`; None for any other name. Raises RequestRefused for half a pair."""
    if not name.startswith(PREFIX):
        return None
    first, _, second = (part.strip() for part in name.removeprefix(PREFIX).partition("|"))
    if not first or not second:
        raise RequestRefused("A comparison names two models.", "Write compare:A|B, with a model for each letter.")
    return first, second


def comparable(request: ProgramRequest) -> ProgramRequest:
    """The request as two models can be compared by it: with one seed, decoded alone, with alternatives."""
    sampling = request.sampling
    if sampling.seed is None:
        sampling = replace(sampling, seed=random.getrandbits(31))
    return replace(request, sampling=sampling, reproducible=True, alternatives=max(request.alternatives, ALTERNATIVES))
