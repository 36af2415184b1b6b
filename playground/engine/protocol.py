"""The messages between the page's process and a model's process: commands go down, events come up.

engine/pipe.py writes them to a pipe, and reads them from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from playground.engine.timings import Timings
from playground.llama.control_tokens import Span
from playground.llama.params import SCORED_ROWS, ContextParameters
from playground.llama.sampling_extras import NO_EXTRAS, Sampling, SamplingExtras

# Of kept log-probabilities; engine/local/scoring/reference_file.py says more.
Precision = Literal["exact", "16-bit", "top"]
FinishReason = Literal["end of text", "length limit", "stop string", "context full", "cancelled"]

# For people, on the page and in the terminal.
FINISH_SENTENCES: Final[dict[FinishReason, str]] = {
    "end of text": "The model finished its answer.",
    "length limit": "The reply reached the most tokens allowed. Raise “Longest reply” for longer replies.",
    "stop string": "The reply reached one of its stop texts.",
    "context full": "The context is full. Choose a larger context size, or clear the chat.",
    "cancelled": "You stopped the reply.",
}
FINISH_WORDS: Final[dict[FinishReason, str]] = {
    "end of text": "finished",
    "length limit": "cut off at the length limit",
    "stop string": "reached a stop text",
    "context full": "context full",
    "cancelled": "stopped by you",
}


UNKNOWN_ID: Final = -1  # of a token whose id a server does not send


@dataclass(frozen=True)
class Alternative:
    """A token that the model might have chosen, with its log-probability (natural logarithm)."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class TokenScore:
    """How likely a model finds one token of a text, given all tokens before it.

    text: the texts of all scores, joined, are the scored text. A character of several tokens is in the last one's text.
    logprob: natural logarithm.
    top: the five most likely tokens, the most likely first.

    The other fields are None or empty if the text is not compared with a reference model:
    reference_logprob, reference_top: the same two of the reference.
    kl_divergence: KL(reference || model) over the whole vocabulary, in nats; from a server at least so much, see Score.
    agrees: whether both find the same token most likely.
    """

    id: int
    text: str
    logprob: float
    top: tuple[Alternative, ...]
    reference_logprob: float | None = None
    reference_top: tuple[Alternative, ...] = ()
    kl_divergence: float | None = None
    agrees: bool | None = None


@dataclass(frozen=True)
class BriefScores:
    """The figures of several tokens of a text, in order, and nothing to look at: a list each.

    logprobs: how likely the model finds each token (natural logarithm). The others are empty if it is not compared
    with a reference: see TokenScore for what they mean.
    """

    logprobs: tuple[float, ...]
    reference_logprobs: tuple[float, ...] = ()
    kl_divergences: tuple[float, ...] = ()
    agreements: tuple[bool, ...] = ()


# --- commands, from the page to a model's process ---


@dataclass(frozen=True)
class Load:
    path: str
    context: ContextParameters


@dataclass(frozen=True)
class ReplyRequest:
    """What an engine over llama.cpp is asked: to continue `prompt`.

    max_tokens: None for as many as the context holds.
    reproducible: decode alone, in fixed chunks, with all cores, so that the same request gives the same text.
    alternatives: how many of the most likely tokens are sent with each Token.
    chat: the chat that the prompt belongs to, "" if unknown. A chat has one sequence of the KV cache, which its next
        prompt continues.
    literal: spans of the prompt, [start, stop) in characters, in which a control token is only spelled out.
    extras: what is asked for besides. A grammar that cannot be used makes the request fail.
    written: the tokens of the reply that are there already; it goes on after them, as if it had never stopped.
    """

    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    reproducible: bool = False
    alternatives: int = 0
    chat: str = ""
    literal: tuple[Span, ...] = ()
    extras: SamplingExtras = NO_EXTRAS
    written: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generate:
    request: int
    asked: ReplyRequest


# The byte of a text at which a server's token begins, and what it found most likely there: the id (UNKNOWN_ID where it
# sends none), the text and the log-probability of each token.
SentTop = tuple[int, Sequence[tuple[int, str, float]]]


@dataclass(frozen=True)
class Score:
    """Score `continuation` after `prompt`, token by token.

    continuation: a text, in which nothing is a control token, or the tokens of a reply.
    path: a file of log-probabilities over the whole vocabulary. against_reference False writes it, True reads it and
        compares.
    window: the most tokens that are read together; None reads the whole text together.
    literal: spans of the prompt, as in ReplyRequest.
    brief: send BriefScores instead of a TokenScore for each token; needed for another precision than "exact".
    precision: how exactly the file keeps the log-probabilities, see engine/local/scoring/reference_file.py.
    rows: how many tokens are read at once. The last digits depend on it, so it is the same for both.
    sent_tops: what a server sent of the places of the continuation. Where a token begins at the same byte, its
        TokenScore has the divergence from that, which is at most that over the whole vocabulary.
    """

    request: int
    prompt: str
    continuation: str | tuple[int, ...]
    path: str
    against_reference: bool
    window: int | None = None
    literal: tuple[Span, ...] = ()
    brief: bool = False
    precision: Precision = "exact"
    rows: int = SCORED_ROWS
    sent_tops: tuple[SentTop, ...] = ()


@dataclass(frozen=True)
class Embed:
    """Turn each text into a vector, one after the other."""

    request: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class CountTokens:
    request: int
    text: str
    literal: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Cancel:
    request: int


@dataclass(frozen=True)
class ForgetChat:
    """Clear the chat's sequence of the KV cache, after its reply if one is under way."""

    chat: str


@dataclass(frozen=True)
class SetThreads:
    """Decode with this many threads from now on; ThreadsSet confirms it. 0 pauses, and is how a model starts.

    all_cores: there are no more cores than this. A reproducible request waits for them: its text depends on the number.
    """

    threads: int
    all_cores: bool = True


# --- events, from a model's process to the page ---


@dataclass(frozen=True)
class LoadProgress:
    fraction: float


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of a GPU's memory that a model has. allocated: what llama.cpp holds, by its own account.

    taken: how much less of it was free right after the load than before; None if the driver does not tell.
    backend: llama.cpp's name of it, such as CUDA. layers: of the model, on this GPU; the output counts as one.
    """

    device: str
    allocated: int
    taken: int | None
    backend: str = ""
    layers: int = 0

    @property
    def measured(self) -> int:
        return self.taken or self.allocated


@dataclass(frozen=True)
class Memory:
    """Measured bytes of the model's process.

    anonymous: memory that the process must keep. mapped: pages of the model's file, which the kernel may drop.
    devices: the memory of each GPU that holds a part of it.
    """

    anonymous: int
    mapped: int
    devices: tuple[DeviceMemory, ...] = ()

    @property
    def resident(self) -> int:
        return self.anonymous + self.mapped


@dataclass(frozen=True)
class Loaded:
    """The model is ready: what only llama.cpp knows of it.

    description: llama.cpp's own, such as "llama 135M Q4_1".
    context_size: tokens that were really allocated.
    control_texts: how the control tokens of the vocabulary are spelled.
    """

    description: str
    context_size: int
    trained_context: int
    vocabulary_size: int
    parameter_count: int
    chat_template: str | None
    bos: str
    eos: str
    seconds: float
    memory: Memory
    control_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ThreadsSet:
    threads: int


@dataclass(frozen=True)
class Queued:
    """A request waits. `position` 1 is next; the event is sent again when the position changes.

    wait_seconds: estimated from how long recent replies of this model took; None if none has ended yet.
    """

    request: int
    position: int
    wait_seconds: float | None = None


@dataclass(frozen=True)
class Remark:
    """Where a reply is written and what it waits for, in a sentence. lasts: it belongs to the finished reply, too."""

    request: int
    text: str
    lasts: bool = False


@dataclass(frozen=True)
class Prefilled:
    """How much of the prompt is evaluated, in tokens. `cached` of them were in the KV cache already."""

    request: int
    done: int
    total: int
    cached: int


@dataclass(frozen=True)
class Token:
    """One generated token.

    text: may be empty while a character or a possible stop string is incomplete.
    count: tokens generated so far, with this one.
    tokens_per_second: of decoding alone; None for the first token.
    context_used: cells of the KV cache that this sequence holds; None if a server does not send it.
    time_to_first_token: seconds since the request arrived, with its time in the queue.
    disturbed: something else had the cores for a part of the time, so the speed is not what the model reaches.
    piece: the token's own text, if the request asked for alternatives.
    """

    request: int
    text: str
    id: int
    count: int
    tokens_per_second: float | None
    context_used: int | None
    logprob: float | None = None
    top: tuple[Alternative, ...] = ()
    time_to_first_token: float | None = None
    disturbed: bool = False
    piece: str = ""


@dataclass(frozen=True)
class Finished:
    """The end of a reply.

    text: the last piece of text, if characters were held back.
    end: the token that ended the text, which is not part of the reply, and `top` its alternatives. Only if the request
        asked for alternatives.
    stop: the stop string that ended it, which is not part of the reply either.
    """

    request: int
    reason: FinishReason
    timings: Timings
    text: str = ""
    memory: Memory | None = None
    end: Alternative | None = None
    top: tuple[Alternative, ...] = ()
    stop: str = ""


@dataclass(frozen=True)
class Scored:
    """The scores of one chunk, none while a prompt is read. `done` of `total` tokens are read.

    brief: instead of `scores`, where the request is brief.
    """

    request: int
    done: int
    total: int
    scores: tuple[TokenScore, ...]
    brief: BriefScores | None = None


@dataclass(frozen=True)
class ScoringEnded:
    """The end of a scoring request. file_bytes: the size of the file of log-probabilities."""

    request: int
    cancelled: bool
    seconds: float
    file_bytes: int


@dataclass(frozen=True)
class Embedded:
    """The vector of the next text, of length 1; none for a text of more tokens than the model reads at once.

    tokens: of the text, with those that the model wants around it.
    """

    request: int
    vector: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class EmbeddingEnded:
    """The end of an embedding request. seconds: of computing."""

    request: int
    cancelled: bool
    seconds: float


@dataclass(frozen=True)
class TokenCount:
    request: int
    tokens: int


@dataclass(frozen=True)
class Failed:
    """A request that cannot be served, or the load (request None): what a PlaygroundError says.

    no_memory: a memory was full; nothing is wrong with the file.
    """

    request: int | None
    problem: str
    remedy: str = ""
    no_memory: bool = False


Command = Load | Generate | Score | Embed | CountTokens | Cancel | ForgetChat | SetThreads
Event = (
    LoadProgress | Loaded | ThreadsSet | Queued | Remark | Prefilled | Token | Finished
    | Scored | ScoringEnded | Embedded | EmbeddingEnded | TokenCount | Failed
)  # fmt: skip
