"""The panes of a comparison: what is asked of which model, what each answered, and a table of the figures.

Values and pure functions. chat/compare.py runs the models; the page, the command line and the exports each draw the
table that `comparison_table` makes. Speeds of answers that were written at the same time are never marked as better,
because the models shared the cores or a server; nor are speeds during which something else had the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from playground.chat.conversation import Conversation, ReplyUpdate, WrittenReply
from playground.chat.export import where_it_ran
from playground.chat.template.message import Message
from playground.chat.template.thinking import AS_IT_LIKES, ThinkingChoice
from playground.engine.local.load_queue import Waiting
from playground.engine.protocol import FINISH_WORDS, Finished, FinishReason, Memory, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import Sampling
from playground.models.model_file import ModelFile
from playground.text_format import UNKNOWN, counted, gigabytes, gigabytes_apart, seconds, speed

Mode = Literal["in turn", "at once"]
TurnsReason = Literal["no room for both", "one model"]

# --- a pane: its question, its news, its answer ---


@dataclass(frozen=True)
class Pane:
    """One model with a conversation of its own, which ends with the question.

    file: a model on this computer or on a server. context: None for a server's model, whose context is not known here.
    thinking: how much the model may think first. going_on: an answer that was cut off and goes on from where it
    stopped; None for a new one.
    """

    file: ModelFile | RemoteModel
    context: ContextParameters | None
    conversation: Conversation = field(default_factory=Conversation)
    thinking: ThinkingChoice = AS_IT_LIKES
    going_on: PaneResult | None = None


@dataclass(frozen=True)
class PaneResult:
    """A pane's answer with its figures.

    conversation: with the reply. tokens: in order, each with its log-probability and the top alternatives; the token
    that ends a text is in `finished` instead. plan, measured: bytes; None for a server's model. sampling: with the
    seed that was used. mode: how the answer was really made, which is not always what was asked for. left_out: number
    of the oldest messages that did not fit into the prompt. vocabulary_size: None for a server's model.
    load_seconds: of the load before the answer; None if there was none. remarks: what a person should know of the
    reply (`ReplyUpdate.remarks`).
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
    load_seconds: float | None = None
    remarks: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether a server answered."""
        return self.vocabulary_size is None

    @property
    def reply(self) -> Message:
        return self.conversation.messages[-1]

    @property
    def written(self) -> WrittenReply:
        """The answer as its model wrote it."""
        texts = [token.text for token in self.tokens]
        ids = tuple(token.id for token in self.tokens)
        return WrittenReply(self.reply, ids, "".join(texts) + self.finished.text)


@dataclass(frozen=True)
class PaneUpdate:
    """News of the pane with this index: one of the other fields is set, besides `loading` perhaps also `waiting`."""

    pane: int
    loading: float | None = None  # done fraction of the load, repeated while it does not change
    waiting: Waiting | None = None  # why the load has not begun
    reply: ReplyUpdate | None = None  # the growing text; `.finished` is set at its end
    unloaded: bool = False  # this pane's model was unloaded to make room for another pane's
    takes_turns: TurnsReason | None = None  # why the panes answer in turn although "at once" was asked for
    failed: PlaygroundError | None = None  # this pane ends here; the others go on
    result: PaneResult | None = None  # the last update of a pane that finished


# --- the table ---

Figure = Literal[
    "generation_speed", "prompt_speed", "time_to_first_token", "memory_planned", "memory_measured",
    "gpu_memory_planned", "gpu_memory_measured", "ran_on", "tokens", "finish_reason",
]  # fmt: skip
Unit = Literal["tokens per second", "seconds", "bytes", "tokens", "device", "finish reason"]
Value = float | int | str | None

DISTURBED_SENTENCE: Final = (
    "While an answer marked as disturbed was written, something else had the processor for more than a tenth of the "
    "time. Its speed is not what the model reaches, so no speed is called better. Ask again when the computer is quiet."
)


LEAST_TOKENS: Final = 32  # of an answer, or of a prompt, for its speed to mean anything

MEMORY_SENTENCE: Final = (
    "Memory planned is what the answer needs. Memory measured is all that is loaded, with parts of the file that no "
    "token reads and that the system takes back when memory is short."
)


@dataclass(frozen=True)
class MeasurementNoise:
    """How much each figure differs when one model answers the same question twice, as a fraction of the larger value.

    The defaults hold until `noise_of` has measured it: on an otherwise idle computer two runs seldom differ by more.
    Prompt speed and time to first token get a wider margin, because a short prompt is over in a moment.
    """

    generation_speed: float = 0.05
    prompt_speed: float = 0.1
    time_to_first_token: float = 0.1
    memory: float = 0.02
    is_measured: bool = False


@dataclass(frozen=True)
class ComparisonRow:
    """One figure of each pane, in its unit; None where it is unknown.

    better: index of the pane that is better than every other by more than the measurement noise. None where the
    difference may be noise, where a speed was disturbed, and for figures that have no better side, such as the number
    of tokens.
    disturbed: for each pane, whether something else had the cores while this figure was measured.
    """

    figure: Figure
    title: str
    unit: Unit
    values: tuple[Value, ...]
    better: int | None
    disturbed: tuple[bool, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The values for people: "12.3 tok/s", "4.92 GB"; two sizes with enough digits to tell them apart."""
        if self.unit == "bytes" and len(self.values) == 2:
            first, second = self.values
            if isinstance(first, int) and isinstance(second, int):
                return gigabytes_apart(first, second)
        disturbed = self.disturbed or (False,) * len(self.values)
        return tuple(_value_text(self.unit, *pair) for pair in zip(self.values, disturbed, strict=True))


def comparison_table(
    results: Sequence[PaneResult | None], noise: MeasurementNoise | None = None
) -> tuple[ComparisonRow, ...]:
    """The figures of all panes, in the order of `Figure`; a pane without a result has None everywhere.

    Those of GPUs are left out where no model ran on one. Where one model has a part of its memory on a GPU, no memory
    is called better: less of the one is more of the other.
    """
    noise = noise or MeasurementNoise()
    uses_gpus = any(result.plan and result.plan.on_devices for result in results if result)
    at_once = any(result.mode == "at once" for result in results if result)
    rows = []
    for figure, kind in _FIGURES.items():
        if figure in _OF_GPUS and not uses_gpus:
            continue
        values = tuple(kind.read_value(result) if result else None for result in results)
        disturbed = tuple(
            kind.depends_on_cores and result is not None and result.finished.timings.disturbed for result in results
        )
        better = None
        is_shared = kind.unit == "bytes" and uses_gpus
        is_disturbed = any(disturbed) or (at_once and kind.depends_on_cores)
        is_too_short = kind.depends_on_cores and any(_is_too_short(figure, result) for result in results if result)
        if kind.better and not is_shared and not is_disturbed and not is_too_short:
            better = _best_index(values, kind.better, kind.noise(noise))
        rows.append(ComparisonRow(figure, kind.title, kind.unit, values, better, disturbed))
    return tuple(rows)


def noise_of(results: Sequence[PaneResult]) -> MeasurementNoise:
    """The noise that two or more runs of one model with one question show.

    Never below the defaults: two runs that happened to be alike do not make small differences meaningful.
    """

    def measured(figure: Figure, usual: float) -> float:
        return max(usual, _difference([_FIGURES[figure].read_value(result) for result in results]))

    usual = MeasurementNoise()
    return MeasurementNoise(
        generation_speed=measured("generation_speed", usual.generation_speed),
        prompt_speed=measured("prompt_speed", usual.prompt_speed),
        time_to_first_token=measured("time_to_first_token", usual.time_to_first_token),
        memory=measured("memory_measured", usual.memory),
        is_measured=True,
    )


@dataclass(frozen=True)
class _FigureKind:
    """How a figure is read and judged. noise: picks the fraction of `MeasurementNoise` that applies to it."""

    title: str
    unit: Unit
    read_value: Callable[[PaneResult], Value]
    better: Literal["more", "less"] | None = None
    noise: Callable[[MeasurementNoise], float] = lambda noise: 0.0

    @property
    def depends_on_cores(self) -> bool:
        return self.unit in ("tokens per second", "seconds")


_FIGURES: Final[dict[Figure, _FigureKind]] = {
    "generation_speed": _FigureKind(
        "Generation speed", "tokens per second", lambda result: result.finished.timings.generation_speed,
        "more", lambda noise: noise.generation_speed,
    ),
    "prompt_speed": _FigureKind(
        "Prompt speed", "tokens per second", lambda result: result.finished.timings.prompt_speed,
        "more", lambda noise: noise.prompt_speed,
    ),
    "time_to_first_token": _FigureKind(
        "Time to first token", "seconds", lambda result: result.finished.timings.time_to_first_token,
        "less", lambda noise: noise.time_to_first_token,
    ),
    "memory_planned": _FigureKind(  # without noise: the same file gives the same plan, to the byte
        "Memory planned", "bytes", lambda result: result.plan.needed if result.plan else None, "less",
    ),
    "memory_measured": _FigureKind(
        "Memory measured", "bytes", lambda result: result.measured.resident if result.measured else None,
        "less", lambda noise: noise.memory,
    ),
    "gpu_memory_planned": _FigureKind(
        "GPU memory planned", "bytes",
        lambda result: sum(part.bytes for part in result.plan.on_devices) if result.plan else None,
    ),
    "gpu_memory_measured": _FigureKind(
        "GPU memory measured", "bytes",
        lambda result: sum(device.measured for device in result.measured.devices) if result.measured else None,
    ),
    "ran_on": _FigureKind(
        "Ran on", "device", lambda result: where_it_ran(result.plan, result.measured) if result.plan else None
    ),
    "tokens": _FigureKind("Length", "tokens", lambda result: result.finished.timings.generated_tokens),
    "finish_reason": _FigureKind("How it ended", "finish reason", lambda result: result.finished.reason),
}  # fmt: skip


_OF_GPUS: Final[frozenset[Figure]] = frozenset(("gpu_memory_planned", "gpu_memory_measured", "ran_on"))


def _is_too_short(figure: Figure, result: PaneResult) -> bool:
    """Whether too few tokens were written or read for this speed to be compared."""
    timings = result.finished.timings
    tokens = timings.generated_tokens
    if figure != "generation_speed" and timings.prompt_tokens is not None:
        tokens = timings.prompt_tokens - (timings.cached_tokens or 0)
    return tokens is not None and tokens < LEAST_TOKENS


def _best_index(values: Sequence[Value], better: Literal["more", "less"], noise: float) -> int | None:
    """Index of the best known value, if it is ahead of the second best by more than the noise."""
    known = [(value, index) for index, value in enumerate(values) if isinstance(value, int | float)]
    if len(known) < 2:
        return None
    known.sort(reverse=better == "more", key=lambda pair: pair[0])
    (best, index), (second, _) = known[:2]
    return index if _difference([best, second]) > noise else None


def _difference(values: Sequence[Value]) -> float:
    """Largest minus smallest known value, as a fraction of the largest; 0 if fewer than two are known."""
    known = [value for value in values if isinstance(value, int | float)]
    largest = max(known, default=0)
    return (largest - min(known)) / largest if len(known) > 1 and largest > 0 else 0.0


def _value_text(unit: Unit, value: Value, disturbed: bool) -> str:
    if value is None:
        return UNKNOWN
    if unit == "device":
        return str(value)
    if isinstance(value, str):
        return FINISH_WORDS[cast("FinishReason", value)]
    if unit == "tokens per second":
        return speed(value, disturbed=disturbed)
    if unit == "seconds":
        return f"{seconds(value)}{' (disturbed)' if disturbed else ''}"
    return gigabytes(int(value)) if unit == "bytes" else counted(int(value), "token")
