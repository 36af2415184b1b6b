"""Makes quantization levels of a model on disk, with llama.cpp's own quantizer in a child process.

A dry run first says exactly how large the file will be; then the file is written, and gets its name when it is
complete. A level made from a quantized file cannot be better than that file, and says so in its own metadata. For the
lowest levels llama.cpp needs an importance matrix; the child measures one while the model reads a text.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError
from playground.fit.budget import Budget
from playground.fit.planner import Planner
from playground.gguf.filenames import parse_file_name
from playground.gguf.header import REQUANTIZED_FROM, merge_shards, read_header
from playground.gguf.levels import LEVELS, MAKEABLE_LEVELS, Level, nominal_bits
from playground.gguf.reader import FileSource
from playground.gguf.tensors import TensorType
from playground.llama.params import CPU_ONLY, ContextParameters, DeviceChoice, Placement
from playground.llama.quantizer.imatrix import TEXT_TOKENS
from playground.llama.quantizer.log import Fallback
from playground.machine.files import unfinished_file
from playground.quantize.quantizer_process import QuantizerProcess
from playground.resources import asset
from playground.text_format import gigabytes_apart

HEARTBEAT_SECONDS: Final = 0.25  # progress is yielded at least this often, so that a stop acts soon
SILENCE_SECONDS: Final = 60.0  # a dry run takes 0.03 s for the starter, and reads no weights of larger models either
NOTED_DEVIATION: Final = 0.1  # from the level's nominal bits per weight: a larger one is noted
_IMATRIX_NOTE: Final = {"quantize.imatrix.dataset": "calibration.txt of the GGUF playground"}  # llama.cpp's own key


@dataclass(frozen=True)
class QuantizedSize:
    """What a level of a model will be: the file's bytes, and the true average of bits per weight.

    weight_bytes: of all tensors, so the file without its header. main_type: that of most weights. keeps_mxfp4: some
    tensors are MXFP4 in the source and stay so, as in the levels that publishers make of such models.
    fallbacks: tensors whose rows are not a multiple of the level's block, and the larger type of each.
    requantized_from: the level that the file cannot be better than; None if the source is not quantized.
    uses_imatrix: llama.cpp makes it only with an importance matrix, which is measured first.
    """

    level: str
    size: int
    weight_bytes: int
    bits_per_weight: float
    main_type: TensorType
    tensor_count: int
    fallbacks: tuple[Fallback, ...]
    requantized_from: str | None
    uses_imatrix: bool = False
    keeps_mxfp4: bool = False

    @property
    def note(self) -> str | None:
        """What people should know beyond the level's name, in sentences; None if there is nothing."""
        named = level_note(self.level, None, self.bits_per_weight)
        origin = level_note(self.level, self.requantized_from, None)
        imatrix = "Needs an importance matrix, which is measured first." if self.uses_imatrix else None
        experts = mxfp4_note(self.level) if self.keeps_mxfp4 else None
        return " ".join(filter(None, (named, self._fallback_note(), origin, experts, imatrix))) or None

    def _fallback_note(self) -> str | None:
        if not self.fallbacks:
            return None
        rows = " or ".join(map(str, sorted({fallback.row_length for fallback in self.fallbacks})))
        blocks = " or ".join(map(str, sorted({fallback.divisor for fallback in self.fallbacks})))
        verb = "uses" if len(self.fallbacks) == 1 else "use"
        return (
            f"{len(self.fallbacks)} of {self.tensor_count} tensors {verb} a fallback type: this model's rows ({rows}) "
            f"are not a multiple of {blocks}."
        )


@dataclass(frozen=True)
class QuantizationProgress:
    """The fraction of the weights that is done, and the current tensor: `number` of `count`.

    measures_imatrix: the fraction is that of the text being read for the importance matrix; there is no tensor yet.
    """

    fraction: float
    tensor: str
    number: int
    count: int
    measures_imatrix: bool = False


@dataclass(frozen=True)
class QuantizedFile:
    """The file is complete and has its name."""

    path: Path
    size: int
    planned: QuantizedSize


def estimate_level(source: Path, level: str) -> QuantizedSize:
    """The exact size of `level` made from the model at `source`; writes nothing.

    Raises ModelNotFound, BadModelFile, or PlaygroundError with llama.cpp's words when it refuses.
    """
    outcome = estimate_levels(source, (level,))[level]
    if isinstance(outcome, PlaygroundError):
        raise outcome
    return outcome


def estimate_levels(source: Path, levels: Sequence[str] | None = None) -> dict[str, QuantizedSize | PlaygroundError]:
    """The exact size of each level, or why it cannot be made; one child process for all.

    Raises ModelNotFound or BadModelFile if the source itself is missing or damaged.
    """
    model = _read_source(source)
    outcomes: dict[str, QuantizedSize | PlaygroundError] = {}
    remaining = list(MAKEABLE_LEVELS if levels is None else levels)
    while remaining:
        with QuantizerProcess() as process:  # another one after a level that ended it
            while remaining and process.is_alive:
                level = remaining.pop(0)
                try:
                    outcomes[level] = _plan(process, model, level)
                except BadModelFile:
                    raise
                except PlaygroundError as error:
                    outcomes[level] = error
    return outcomes


def quantize_file(
    source: Path, level: str, target: Path, threads: int, place: Callable[[], Placement] = lambda: CPU_ONLY
) -> Generator[QuantizationProgress | QuantizedFile, None, None]:
    """Make `level` of the model at `source` as the file `target`: yields progress, then the QuantizedFile.

    place: where the source runs while an importance matrix is measured, asked if the level needs one; the weights
    themselves are quantized on the CPU.
    Closing the generator stops the work and leaves nothing behind; so does any error. Raises what `estimate_level`
    does, and PlaygroundError when the target exists or the disk is too full.
    """
    model = _read_source(source)
    _refuse_existing(target)
    with QuantizerProcess() as process:
        planned = _plan(process, model, level)
        with unfinished_file(target) as unfinished:
            _refuse_full_disk(target.parent, planned)
            order = _order("make", model, level, planned.uses_imatrix) | {
                "target": str(unfinished),
                "threads": max(1, threads),
            }
            if planned.uses_imatrix:
                yield from _measure_imatrix(process, model, planned, threads, place())
            yield QuantizationProgress(0.0, "", 0, planned.tensor_count)
            process.send_order(order)
            yield from _progress(process, planned)
            _refuse_existing(target)
            size = _safe_on_disk(unfinished)
            unfinished.rename(target)
    yield QuantizedFile(target, size, planned)


def place_for_imatrix(planner: Planner, source: Path, device: DeviceChoice, budget: Budget) -> Placement:
    """Where a model runs while its importance matrix is measured. Raises as `Planner.place` does."""
    context = replace(ContextParameters.for_scoring(TEXT_TOKENS), device=device)
    return planner.place(source, context, budget).plan.context.placement


def level_note(level: str, requantized_from: str | None, bits_per_weight: float | None) -> str | None:
    """What people should know of a file beyond its level's name, in sentences; None if there is nothing.

    >>> level_note("Q8_0", "Q4_1", 8.51)
    'Made from the Q4_1 file, so it cannot be better than Q4_1.'
    """
    notes = []
    nominal = nominal_bits(level)
    if nominal and bits_per_weight and bits_per_weight > nominal * (1 + NOTED_DEVIATION):
        notes.append(f"Averages {bits_per_weight:.1f} bits per weight, because some tensors stay at higher precision.")
    elif nominal and bits_per_weight and bits_per_weight < nominal * (1 - NOTED_DEVIATION):
        notes.append(f"Averages {bits_per_weight:.1f} bits per weight, fewer than usual for {level}.")
    if requantized_from:
        notes.append(f"Made from the {requantized_from} file, so it cannot be better than {requantized_from}.")
    return " ".join(notes) or None


def mxfp4_note(level: str) -> str | None:
    """What the level of a model means whose experts stay MXFP4, in a sentence; None for MXFP4 itself."""
    if "MXFP4" in level.upper():
        return None
    return f"Its experts stay MXFP4 (4.25 bits per weight) at every level: {level} is how the rest is stored."


def lowest_origin(level: str, is_quantized: bool, noted: str | None) -> str | None:
    """The level that a file made from this one cannot be better than; None if the file was never quantized.

    level: that of the file. noted: what the file says it was made from. The lower of the two: what is made from a Q8_0
    that was made from Q4_1 is no better than Q4_1.
    """
    if not is_quantized or noted is None:
        return level if is_quantized else noted
    return level if 0 < nominal_bits(level) < nominal_bits(noted) else noted


# --- the source ---


@dataclass(frozen=True)
class _Source:
    """origin: the level that a file made from it cannot be better than. mxfp4: the tensors of that type."""

    shards: tuple[Path, ...]
    origin: str | None
    mxfp4: tuple[str, ...] = ()


def _read_source(path: Path) -> _Source:
    shards = _shards(Path(os.path.abspath(path.expanduser())))
    for shard in shards:
        if not shard.is_file():
            raise ModelNotFound(
                f"There is no file {shard.name} in its folder.", "Choose a GGUF file that is on this computer."
            )
    try:
        headers = [read_header(FileSource(shard)) for shard in shards]
    except OSError as error:
        raise BadModelFile(f"{path.name} cannot be read: {error.strerror}.", "Check its permissions.") from error
    header = merge_shards(headers) if len(headers) > 1 else headers[0]
    name = parse_file_name(path.name)
    level = (name.level if name else None) or header.level or "an unknown level"
    mxfp4 = tuple(tensor.name for tensor in header.tensors if tensor.type is TensorType.MXFP4)
    return _Source(shards, lowest_origin(level, header.is_quantized, header.requantized_from), mxfp4)


def _shards(path: Path) -> tuple[Path, ...]:
    """All files of the model that `path` belongs to, in order."""
    name = parse_file_name(path.name)
    if name is None or name.shard_count == 1:
        return (path,)
    stem = path.name[: -len("00001-of-00001.gguf")]
    count = name.shard_count
    return tuple(path.with_name(f"{stem}{number:05}-of-{count:05}.gguf") for number in range(1, count + 1))


# --- orders to the child process, and its answers ---


def _order(word: str, model: _Source, level: str, uses_imatrix: bool) -> dict[str, Any]:
    notes = {} if model.origin is None else {REQUANTIZED_FROM: model.origin}
    return {
        "order": word,
        "source": str(model.shards[0]),
        "shards": [str(shard) for shard in model.shards],
        "file_type": _makeable_level(level).file_type,
        "notes": notes | _IMATRIX_NOTE if uses_imatrix else notes,
        "keep_mxfp4": model.mxfp4,
        "weighed": uses_imatrix,
    }


def _makeable_level(name: str) -> Level:
    """The level of that name, in upper or lower case. Raises PlaygroundError if the quantizer does not know it."""
    for level in LEVELS:
        if level.name == name.upper() and level.makeable:
            return level
    raise PlaygroundError(f"llama.cpp cannot make a level named {name}.", f"It makes {', '.join(MAKEABLE_LEVELS)}.")


def _plan(process: QuantizerProcess, model: _Source, level: str, uses_imatrix: bool = False) -> QuantizedSize:
    """What the level would be; with an importance matrix, which changes the sizes, if llama.cpp requires one."""
    process.send_order(_order("plan", model, level, uses_imatrix))
    answer = process.read_answer(SILENCE_SECONDS)
    if answer is None:
        raise BadModelFile(
            f"llama.cpp did not answer within {SILENCE_SECONDS:.0f} seconds how large {level} would be.", "Try again."
        )
    if answer["is"] == "refused":
        raise _refusal(level, answer)
    if answer["needs_imatrix"] and not uses_imatrix:
        return _plan(process, model, level, uses_imatrix=True)
    return QuantizedSize(
        level=_makeable_level(level).name,
        size=answer["size"],
        weight_bytes=answer["weights"],
        bits_per_weight=answer["bits_per_weight"],
        main_type=TensorType[answer["main_type"].upper()],
        tensor_count=answer["tensors"],
        fallbacks=_fallbacks(answer),
        requantized_from=model.origin,
        uses_imatrix=uses_imatrix,
        keeps_mxfp4=bool(model.mxfp4),
    )


def _measure_imatrix(
    process: QuantizerProcess, model: _Source, planned: QuantizedSize, threads: int, placement: Placement
) -> Iterator[QuantizationProgress]:
    """How far the model has read the text; the latest value again while the child says nothing."""
    text = asset("calibration.txt").read_text(encoding="utf-8")
    where = {"threads": max(1, threads), "placement": asdict(placement)}
    process.send_order({"order": "weigh", "source": str(model.shards[0]), "text": text, **where})
    latest = QuantizationProgress(0.0, "", 0, planned.tensor_count, measures_imatrix=True)
    while True:
        answer = process.read_answer(HEARTBEAT_SECONDS)
        if answer is not None and answer["is"] == "refused":
            raise PlaygroundError(
                f"{planned.level} is made with an importance matrix, and none can be measured of this model: "
                f"{answer['reason']}.",
                "Choose another level, or download this one.",
            )
        if answer is not None and answer["is"] == "weighed":
            return
        if answer is not None:
            latest = replace(latest, fraction=answer["fraction"])
        yield latest


def _progress(process: QuantizerProcess, planned: QuantizedSize) -> Iterator[QuantizationProgress]:
    """How far the quantizer is, until the file is written; the latest value again while the child says nothing."""
    latest = QuantizationProgress(0.0, "", 0, planned.tensor_count)
    while True:
        answer = process.read_answer(HEARTBEAT_SECONDS)
        if answer is not None and answer["is"] == "refused":
            raise _refusal(planned.level, answer)
        if answer is not None and answer["is"] == "made":
            break
        if answer is not None:
            latest = QuantizationProgress(answer["fraction"], answer["tensor"], answer["number"], answer["tensors"])
        yield latest
    yield QuantizationProgress(1.0, latest.tensor, latest.count, latest.count)


def _fallbacks(answer: Mapping[str, Any]) -> tuple[Fallback, ...]:
    return tuple(Fallback(**fallback) for fallback in answer["fallbacks"])


def _refusal(level: str, answer: Mapping[str, Any]) -> PlaygroundError:
    reason = answer["reason"].rstrip(".")
    if "iostream error" in reason:
        return PlaygroundError(f"{level} could not be written: the disk became full, or failed.", "Free some space.")
    for fallback in _fallbacks(answer):
        if fallback.used is None:
            reason += (
                f" ({fallback.tensor}: rows of {fallback.row_length} weights, not divisible by {fallback.divisor})"
            )
    return PlaygroundError(
        f"llama.cpp cannot make {level} of this model: {reason}.", "Choose another level, such as Q8_0."
    )


# --- the target ---


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise PlaygroundError(f"{target.name} exists already.", "Use it, or delete it first.")


def _refuse_full_disk(folder: Path, planned: QuantizedSize) -> None:
    free = shutil.disk_usage(folder).free
    if planned.size > free:
        needed_text, free_text = gigabytes_apart(planned.size, free)
        raise PlaygroundError(
            f"{planned.level} needs {needed_text}, and {free_text} are free on this disk.",
            "Free some space, or choose a smaller level.",
        )


def _safe_on_disk(path: Path) -> int:
    """The file's size, after all of it is on the disk: after a power cut no name may belong to half a file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
