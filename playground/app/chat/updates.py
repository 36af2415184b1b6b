"""The updates of a chat as facts: what is new of the session, the reply and the model. web/ draws them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal

from playground.app.loaded_models import LoadedModelsView
from playground.app.messages import CutShortBy, StatusMessage, WorkProgress, log_refusal
from playground.app.model_picker.choice import ModelChoice
from playground.chat.session import ChatSession
from playground.chat.speed_trace import SpeedTrace
from playground.chat.template.message import Message
from playground.engine.protocol import Event, Memory
from playground.engine.timings import Timings
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import Sampling
from playground.text_format import counted

Phase = Literal["rest", "loading", "replying"]
ToolUse = Literal["off", "ask", "allowed"]  # never; after the person has agreed to each call; at once

NEARLY_FULL: Final = 0.9  # of the context
_NAMED_CHARACTERS: Final = 48  # of a question that is only named


@dataclass(frozen=True)
class ChatRequest:
    """How the next reply is made. max_tokens: of the reply. tools: whether the model is offered any."""

    choice: ModelChoice
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 512
    tools: ToolUse = "off"


@dataclass(frozen=True)
class ReplyActivity:
    """What a reply does now. event: the engine's newest, None before the first; stopped_by: who cut the reply short.

    trace: its speed until now. load_seconds: what the load took that came first, None where there was none; the
    engine's times begin after it.
    """

    event: Event | None = None
    stopped_by: CutShortBy | None = None
    load_seconds: float | None = None
    trace: SpeedTrace = field(default_factory=SpeedTrace)


@dataclass(frozen=True)
class ContextUse:
    """How many tokens of the context a chat takes; None where it is not known.

    left_out: how many of the oldest messages the model did not read. first_read: the first question that it did, which
    is left out next; "" where there is only one.
    """

    used: int | None = None
    size: int | None = None
    left_out: int = 0
    first_read: str = ""

    @property
    def is_nearly_full(self) -> bool:
        return bool(self.size and self.used and self.used >= NEARLY_FULL * self.size)

    @property
    def forgets(self) -> str:
        """What of the chat the model does not read any more, or soon will not; "" while all of it has room."""
        next_one = f"“{_beginning(self.first_read)}” and its answer" if self.first_read else ""
        if self.left_out:
            forgotten = f"The model no longer reads the first {counted(self.left_out, 'message')} of this chat"
            return f"{forgotten}; next it forgets {next_one}." if next_one else f"{forgotten}."
        if self.is_nearly_full and next_one:
            return f"The context is nearly full: the next message may make the model forget {next_one}."
        return "The context is nearly full: little room is left for an answer." if self.is_nearly_full else ""


@dataclass(frozen=True)
class ReplyDetails:
    """The figures of a whole reply. plan and memory: of the model that wrote it, None for a server's.

    load_seconds: as in ReplyActivity.
    """

    timings: Timings
    plan: MemoryPlan | None
    memory: Memory | None
    load_seconds: float | None = None


@dataclass(frozen=True)
class LoadReport:
    """A model that was loaded: how long it took, and the memory planned and measured."""

    seconds: float
    plan: MemoryPlan
    memory: Memory


@dataclass(frozen=True)
class ChatUpdate:
    """What is new. None leaves a part of the page as it is, CLEAR empties it.

    growing: the reply so far, which is not in `session` yet. opening: what it waits for before it can begin, such as a
    load. has_new_level: a level was made, so there is a new file.
    """

    session: ChatSession | None = None
    growing: Message | None = None
    phase: Phase | None = None
    activity: ReplyActivity | None = None
    context: ContextUse | None = None
    details: ReplyDetails | None = None
    problem: StatusMessage | None = None
    progress: StatusMessage | LoadReport | None = None
    may_load_anyway: bool | None = None
    loaded_models: LoadedModelsView | None = None
    has_new_level: bool = False
    opening: WorkProgress | None = None

    def after(self, earlier: ChatUpdate) -> ChatUpdate:
        """Both as one update: what is new here, else what was new before."""
        news = {part.name: value for part in fields(self) if (value := getattr(self, part.name)) is not None}
        if self.session is not None:
            news |= {"growing": self.growing, "opening": self.opening}
        return replace(earlier, **news | {"has_new_level": self.has_new_level or earlier.has_new_level})

    @property
    def size(self) -> int:
        """Of the texts in it, in characters."""
        messages = self.session.conversation.messages if self.session else ()
        return sum(message.characters for message in messages)


def refused_update(error: PlaygroundError, visitor: Visitor) -> ChatUpdate:
    """The error where problems are shown. A refused request is logged."""
    log_refusal(error, visitor)
    return ChatUpdate(problem=error)


def _beginning(text: str) -> str:
    """Of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _NAMED_CHARACTERS else f"{line[: _NAMED_CHARACTERS - 1].rstrip()}…"
