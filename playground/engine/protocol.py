"""The words that the page's process and a model's process say to each other.

Commands go down, events come up, each one JSON object on a line. JSON, not pickle: a model file is untrusted, and what
comes back from the process that read it must not be able to run code here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from playground.llama.params import ContextParameters

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


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn, in llama.cpp's terms; temperature 0 is greedy and ignores the rest but penalties."""

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None  # None draws a new seed for each reply


GREEDY: Final = Sampling(temperature=0.0, seed=0)
UNKNOWN_ID: Final = -1  # a token whose number a server keeps to itself


@dataclass(frozen=True)
class Alternative:
    """A token the model might have chosen: its id, text and log-probability (natural logarithm)."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class TokenScore:
    """How likely a model finds one token of a text, given all before it; log-probabilities are natural logarithms.

    text: joined, the texts of all tokens are the text that was scored; a character of several tokens is in its last.
    top: the five likeliest tokens, likeliest first. The other fields are None or empty unless there is a reference to
    compare with: its own view of the token, the divergence KL(reference || model) over the whole vocabulary in nats,
    and whether both find the same token likeliest.
    """

    id: int
    text: str
    logprob: float
    top: tuple[Alternative, ...]
    reference_logprob: float | None = None
    reference_top: tuple[Alternative, ...] = ()
    kl_divergence: float | None = None
    agrees: bool | None = None


# --- commands: the page to the model's process ---


@dataclass(frozen=True)
class Load:
    path: str
    context: ContextParameters


@dataclass(frozen=True)
class Generate:
    """Continue `prompt`; `reproducible` decodes alone, in fixed chunks, with all cores: the same text every time.

    chat: whose prompt it is, where that is known: a chat has one sequence, which its next prompt takes over.
    """

    request: int
    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()
    reproducible: bool = False
    alternatives: int = 0  # how many top tokens come with each Token
    chat: str = ""


@dataclass(frozen=True)
class Score:
    """Tell how likely the model finds `continuation` after `prompt`, token by token, reading it in fixed chunks.

    continuation: a text, or the tokens themselves where they are known (a reply's). Special tokens are recognised only
    where there is a prompt: a text alone is just a text.
    against_reference: False writes the log-probabilities to the file `path`; True compares with those that are there.
    window: a longer text is read in pieces of so many tokens; None reads all in one.
    """

    request: int
    prompt: str
    continuation: str | tuple[int, ...]
    path: str
    against_reference: bool
    window: int | None = None


@dataclass(frozen=True)
class CountTokens:
    request: int
    text: str


@dataclass(frozen=True)
class Cancel:
    request: int


@dataclass(frozen=True)
class ForgetChat:
    """The chat is over: its sequence is given up, after its reply where one is under way."""

    chat: str


@dataclass(frozen=True)
class SetThreads:
    """Decode with so many threads from now on; 0 pauses, and is how a model starts. ThreadsSet tells that it holds.

    all_cores: these are all cores there are. A reproducible request waits for them: its text depends on the number.
    """

    threads: int
    all_cores: bool = True


# --- events: the model's process to the page ---


@dataclass(frozen=True)
class LoadProgress:
    fraction: float


@dataclass(frozen=True)
class Memory:
    """Measured bytes of the model's process: what must stay (anonymous) and what the kernel may drop (mapped file)."""

    anonymous: int
    mapped: int

    @property
    def resident(self) -> int:
        return self.anonymous + self.mapped


@dataclass(frozen=True)
class Loaded:
    """A model is ready: facts that only llama.cpp knows once it has the file."""

    description: str  # llama.cpp's own, such as "llama 135M Q4_1"
    context_size: int  # tokens that really fit
    trained_context: int
    vocabulary_size: int
    parameter_count: int
    chat_template: str | None
    bos: str
    eos: str
    seconds: float
    memory: Memory


@dataclass(frozen=True)
class ThreadsSet:
    threads: int


@dataclass(frozen=True)
class Queued:
    """A request waits; `position` 1 is next. Sent again when the position changes.

    wait_seconds: estimated from how long this model's recent replies took; None where none has ended yet.
    """

    request: int
    position: int
    wait_seconds: float | None = None


@dataclass(frozen=True)
class Prefilled:
    """So much of the prompt is evaluated (in tokens); `cached` of it was still in the KV cache."""

    request: int
    done: int
    total: int
    cached: int


@dataclass(frozen=True)
class Token:
    """One generated token. `text` may be empty while a character or a possible stop string is incomplete."""

    request: int
    text: str
    id: int
    count: int  # tokens generated so far, this one included
    tokens_per_second: float | None  # decode time only; None at the first token
    context_used: int | None  # cells of the KV cache this sequence holds, in tokens; None where a server does not tell
    logprob: float | None = None
    top: tuple[Alternative, ...] = ()
    time_to_first_token: float | None = None  # seconds since the request came, queueing included


@dataclass(frozen=True)
class Timings:
    """Seconds and tokens of one reply. Speeds count decode time only; a rate that cannot be told is None.

    None is also what a server (remote.py) does not tell; of a model on this computer all counts are known.
    prompt_speed counts the tokens that were evaluated, not the cached ones. generation_speed counts the tokens after
    the first, whose time belongs to the prompt.
    """

    queued_seconds: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    prompt_speed: float | None
    time_to_first_token: float | None
    generated_tokens: int | None
    generation_speed: float | None
    total_seconds: float
    threads: int | None


@dataclass(frozen=True)
class Finished:
    request: int
    reason: FinishReason
    timings: Timings
    text: str = ""  # the last piece of text, when characters were held back
    memory: Memory | None = None
    end: Alternative | None = None  # the token that ended the text; it is no Token of the reply
    top: tuple[Alternative, ...] = ()  # and what stood beside it, when alternatives were asked for


@dataclass(frozen=True)
class Scored:
    """The scores of one more chunk (none while a prompt is read); `done` of `total` tokens are read."""

    request: int
    done: int
    total: int
    scores: tuple[TokenScore, ...]


@dataclass(frozen=True)
class ScoringEnded:
    """The last word of a scoring request. file_bytes: the size of the log-probabilities' file."""

    request: int
    cancelled: bool
    seconds: float
    file_bytes: int


@dataclass(frozen=True)
class TokenCount:
    request: int
    tokens: int


@dataclass(frozen=True)
class Failed:
    """A request, or the load (request None), that cannot be served: a sentence for the person."""

    request: int | None
    problem: str
    remedy: str = ""


Command = Load | Generate | Score | CountTokens | Cancel | ForgetChat | SetThreads
Event = (
    LoadProgress | Loaded | ThreadsSet | Queued | Prefilled | Token | Finished
    | Scored | ScoringEnded | TokenCount | Failed
)  # fmt: skip

_WORDS: Final[dict[str, type]] = {
    word.__name__: word
    for word in (
        Load, Generate, Score, CountTokens, Cancel, ForgetChat, SetThreads,
        LoadProgress, Loaded, ThreadsSet, Queued, Prefilled, Token, Finished,
        Scored, ScoringEnded, TokenCount, Failed,
    )
}  # fmt: skip
_NESTED: Final[dict[str, type]] = {
    "context": ContextParameters,
    "sampling": Sampling,
    "memory": Memory,
    "timings": Timings,
    "end": Alternative,
}

_ENCODER: Final = json.JSONEncoder(default=vars)  # json.dumps would make one for every token


def encode(word: Command | Event) -> bytes:
    """One line of JSON, such as `{"is": "Cancel", "request": 7}`."""
    return _ENCODER.encode({"is": type(word).__name__, **vars(word)}).encode() + b"\n"


def decode(line: bytes) -> Any:
    """The word that `encode` wrote; raises ValueError for anything else."""
    try:
        fields = json.loads(line)
        word = _WORDS[fields.pop("is")]
        return word(**{name: _restored(name, value) for name, value in fields.items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a word of the engine: {line[:80]!r}") from error


def _restored(name: str, value: Any) -> Any:
    if name in _NESTED and isinstance(value, Mapping):
        return _NESTED[name](**value)
    if name in ("top", "reference_top"):
        return tuple(Alternative(**alternative) for alternative in value)
    if name == "scores":
        return tuple(TokenScore(**{inner: _restored(inner, part) for inner, part in score.items()}) for score in value)
    return tuple(value) if isinstance(value, list) else value
