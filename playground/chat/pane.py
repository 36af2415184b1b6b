"""One side of a comparison: what is asked of which model, what it tells on the way, and what came of it.

Values only; compare.py brings them about, differences.py weighs them against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from playground.chat.conversation import Conversation, ReplyUpdate
from playground.engine.local.pool import Waiting
from playground.engine.protocol import Finished, Memory, Sampling, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.models.library import ModelFile

Mode = Literal["in turn", "at once"]
TurnsReason = Literal["no room for both", "one model"]


@dataclass(frozen=True)
class Pane:
    """Its model, and its own history, which ends with the question.

    file: on this computer, or a model that a server runs; a server has its own context, which is None here.
    """

    file: ModelFile | RemoteModel
    context: ContextParameters | None
    conversation: Conversation = field(default_factory=Conversation)


@dataclass(frozen=True)
class PaneResult:
    """What a pane answered, and the figures of it.

    conversation: with the reply. tokens: in order, each with its log-probability and the top alternatives; the token
    that ends a text is not among them, but in `finished`. plan and measured: bytes. sampling: with the seed that was
    used. left_out: the oldest messages that had no room in the prompt. mode: how it was really made; at once the cores
    were shared, so that its speeds are not the model's own. Memory and vocabulary are None where a server has them.
    """

    conversation: Conversation
    finished: Finished
    plan: MemoryPlan | None
    measured: Memory | None
    tokens: tuple[Token, ...]
    sampling: Sampling
    mode: Mode
    left_out: int
    vocabulary_size: int | None

    @property
    def is_remote(self) -> bool:
        """Whether a server answered."""
        return self.vocabulary_size is None


@dataclass(frozen=True)
class PaneUpdate:
    """What is new of the pane with this index: one of the other fields is set, beside `loading` perhaps `waiting`."""

    pane: int
    loading: float | None = None  # the fraction of the load that is done; told again while there is no news
    waiting: Waiting | None = None  # why the load has not begun
    reply: ReplyUpdate | None = None  # the growing text; `.finished` at its end
    gave_way: bool = False  # this pane's model was unloaded, so that another pane's could load
    takes_turns: TurnsReason | None = None  # at once was asked for, and why the panes answer in turn all the same
    failed: PlaygroundError | None = None  # this pane ends here; the others go on
    result: PaneResult | None = None  # the last word of a pane that finished
