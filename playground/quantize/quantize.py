"""Makes quantization levels of a model that is on disk, with llama.cpp's own quantizer in a child process.

First exactly how large and how good (a dry run), then the file itself, which appears under its name only when it is
whole. Knows nothing of pages; what tensors become is llama/quantizer.py's to ask. The one idea: a level made from a
quantized file cannot be better than that file, and says so in its own metadata from then on. The lowest levels want to
know which weights matter; for them the model reads a text first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError
from playground.gguf.filenames import parse_file_name
from playground.gguf.header import REQUANTIZED_FROM, FileSource, GgufHeader, merge_shards, read_header
from playground.gguf.levels import LEVELS, MAKEABLE_LEVELS, Level, find_level
from playground.llama.quantizer import Fallback
from playground.machine.files import unfinished_file
from playground.quantize.quantizer_process import QuantizerProcess
from playground.resources import asset
from playground.text_format import gibibytes_apart

HEARTBEAT_SECONDS: Final = 0.25  # progress is told again after this, so that a stop is never far
SILENCE_SECONDS: Final = 60.0  # a dry run takes 0.03 s for the starter, and reads no weights of larger models either
NAMED_ASTRAY: Final = 0.1  # of the nominal bits per weight: from here on a file's name says too little
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64"})  # types that are no quantization
_WEIGHED_WITH: Final = {"quantize.imatrix.dataset": "calibration.txt of the GGUF playground"}  # llama.cpp's own key


@dataclass(frozen=True)
class QuantizedSize:
    """What a level of a model will be: the file's bytes and the true bits per weight.

    fallbacks: tensors whose rows do not divide by the level's blocks, and the larger type each takes.
    requantized_from: the level the made file cannot be better than; None where the source is not quantized.
    is_weighed: llama.cpp makes it only with an importance matrix, which is measured here first.
    """

    level: str
    size: int
    bits_per_weight: float
    tensor_count: int
    fallbacks: tuple[Fallback, ...]
    requantized_from: str | None
    is_weighed: bool = False

    @property
    def note(self) -> str | None:
        """What the level's name does not say, in plain sentences; None where it says it all."""
        named = level_note(self.level, None, self.bits_per_weight)
        origin = level_note(self.level, self.requantized_from, None)
        weighed = "Made with an importance matrix, for which the model reads a text first." if self.is_weighed else None
        return " ".join(filter(None, (named, self._fallbacks_in_words(), origin, weighed))) or None

    def _fallbacks_in_words(self) -> str | None:
        if not self.fallbacks:
            return None
        rows = " or ".join(
            str(row_length) for row_length in sorted({fallback.row_length for fallback in self.fallbacks})
        )
        blocks = " or ".join(str(divisor) for divisor in sorted({fallback.divisor for fallback in self.fallbacks}))
        return (
            f"{len(self.fallbacks)} of {self.tensor_count} tensors {'has' if len(self.fallbacks) == 1 else 'have'} "
            "another type than the level's, "
            f"because rows of {rows} weights do not divide into blocks of {blocks}."
        )


@dataclass(frozen=True)
class QuantizationProgress:
    """So much of the weights is done; `tensor` is the one in work, `number` of `count`.

    is_weighing: so much of the text is read that tells which weights matter; no tensor is in work yet.
    """

    fraction: float
    tensor: str
    number: int
    count: int
    is_weighing: bool = False


@dataclass(frozen=True)
class QuantizedFile:
    """The file is whole and has its name."""

    path: Path
    size: int
    planned: QuantizedSize


def estimate_level(source: Path, level: str) -> QuantizedSize:
    """What `level` made from the model at `source` would be, to the byte; writes nothing.

    Raises ModelNotFound, BadModelFile, or PlaygroundError with llama.cpp's words where it refuses.
    """
    outcome = estimate_levels(source, (level,))[level]
    if isinstance(outcome, PlaygroundError):
        raise outcome
    return outcome


def estimate_levels(source: Path, levels: Sequence[str] | None = None) -> dict[str, QuantizedSize | PlaygroundError]:
    """Each level's estimate, or why it cannot be made; one child for all of them.

    Raises ModelNotFound or BadModelFile for what is wrong with the source itself.
    """
    model = _read_source(source)
    outcomes: dict[str, QuantizedSize | PlaygroundError] = {}
    remaining = list(MAKEABLE_LEVELS if levels is None else levels)
    while remaining:
        with QuantizerProcess() as process:  # anew after a level over which it died
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
    source: Path, level: str, target: Path, threads: int
) -> Generator[QuantizationProgress | QuantizedFile, None, None]:
    """Make `level` of the model at `source` as the file `target`: yields progress, then the QuantizedFile.

    Closing the generator stops the work and leaves nothing behind; so does any error. Raises what `estimate` does, and
    PlaygroundError when the target exists or the disk is too full.
    """
    model = _read_source(source)
    _refuse_existing(target)
    with QuantizerProcess() as process:
        planned = _plan(process, model, level)
        with unfinished_file(target) as unfinished:
            _refuse_full_disk(target.parent, planned)
            order = _order("make", model, level, planned.is_weighed) | {
                "target": str(unfinished),
                "threads": max(1, threads),
            }
            if planned.is_weighed:
                yield from _weighing(process, model, planned, threads)
            yield QuantizationProgress(0.0, "", 0, planned.tensor_count)
            process.send_order(order)
            yield from _progress(process, planned)
            _refuse_existing(target)
            size = _safe_on_disk(unfinished)
            unfinished.rename(target)
    yield QuantizedFile(target, size, planned)


def level_note(level: str, requantized_from: str | None, bits_per_weight: float | None) -> str | None:
    """What a level's name does not say of a file, in plain sentences; None where there is nothing to add.

    >>> level_note("Q2_K", "Q4_1", 5.14)
    'Named Q2_K, in truth 5.1 bits per weight. Requantized from Q4_1: it cannot be better than that.'
    """
    notes = []
    nominal = find_level(level)
    if nominal and bits_per_weight and abs(bits_per_weight / nominal.bits_per_weight - 1) > NAMED_ASTRAY:
        notes.append(f"Named {level}, in truth {bits_per_weight:.1f} bits per weight.")
    if requantized_from:
        notes.append(f"Requantized from {requantized_from}: it cannot be better than that.")
    return " ".join(notes) or None


def lowest_origin(level: str, is_quantized: bool, noted: str | None) -> str | None:
    """The level that whatever is made from a file cannot be better than; None where the file never was quantized.

    level: the file's own; noted: what the file says it was requantized from. The lower of the two, the earlier where
    they are equal: a Q8_0 made from Q4_1 is a Q4_1 at heart, and so is an F16 made from it.
    """
    if not is_quantized or noted is None:
        return level if is_quantized else noted
    own, earlier = find_level(level), find_level(noted)
    return level if own and earlier and own.bits_per_weight < earlier.bits_per_weight else noted


# --- the source ---


@dataclass(frozen=True)
class _Source:
    shards: tuple[Path, ...]
    origin: str | None


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
    return _Source(shards, lowest_origin(level, _is_quantized(header), header.requantized_from))


def _shards(path: Path) -> tuple[Path, ...]:
    """All files of the model that `path` is a part of, the first one first."""
    name = parse_file_name(path.name)
    if name is None or name.shard_count == 1:
        return (path,)
    stem = path.name[: -len("00001-of-00001.gguf")]
    count = name.shard_count
    return tuple(path.with_name(f"{stem}{number:05}-of-{count:05}.gguf") for number in range(1, count + 1))


def _is_quantized(header: GgufHeader) -> bool:
    return any(tensor.type.name not in _FLOATS for tensor in header.tensors)


# --- the talk with the child ---


def _order(word: str, model: _Source, level: str, is_weighed: bool) -> dict[str, Any]:
    notes = {} if model.origin is None else {REQUANTIZED_FROM: model.origin}
    return {
        "order": word,
        "source": str(model.shards[0]),
        "shards": [str(shard) for shard in model.shards],
        "file_type": _known(level).file_type,
        "notes": notes | _WEIGHED_WITH if is_weighed else notes,
        "weighed": is_weighed,
    }


def _known(name: str) -> Level:
    """The level of that name, in either case. Raises PlaygroundError for one that the quantizer does not know."""
    for level in LEVELS:
        if level.name == name.upper() and level.makeable:
            return level
    raise PlaygroundError(f"llama.cpp makes no level named {name}.", f"It makes {', '.join(MAKEABLE_LEVELS)}.")


def _plan(process: QuantizerProcess, model: _Source, level: str, is_weighed: bool = False) -> QuantizedSize:
    """What the level would be; weighed where llama.cpp will not make it otherwise, and then it is another one."""
    process.send_order(_order("plan", model, level, is_weighed))
    answer = process.read_answer(SILENCE_SECONDS)
    if answer is None:
        raise BadModelFile(
            f"llama.cpp did not say within {SILENCE_SECONDS:.0f} seconds what {level} would be.", "Try again."
        )
    if answer["is"] == "refused":
        raise _refusal(level, answer)
    if answer["needs_imatrix"] and not is_weighed:
        return _plan(process, model, level, is_weighed=True)
    return QuantizedSize(
        _known(level).name,
        answer["size"],
        answer["bits_per_weight"],
        answer["tensors"],
        _fallbacks(answer),
        model.origin,
        is_weighed,
    )


def _weighing(
    process: QuantizerProcess, model: _Source, planned: QuantizedSize, threads: int
) -> Iterator[QuantizationProgress]:
    """How far the child has read the text, the latest again while it is silent."""
    text = asset("calibration.txt").read_text(encoding="utf-8")
    process.send_order({"order": "weigh", "source": str(model.shards[0]), "text": text, "threads": max(1, threads)})
    latest = QuantizationProgress(0.0, "", 0, planned.tensor_count, is_weighing=True)
    while True:
        answer = process.read_answer(HEARTBEAT_SECONDS)
        if answer is not None and answer["is"] == "refused":
            raise PlaygroundError(
                f"{planned.level} is made with an importance matrix, and none can be measured of this model: "
                f"{answer['reason']}.",
                "Choose another level, or fetch this one ready-made.",
            )
        if answer is not None and answer["is"] == "weighed":
            return
        if answer is not None:
            latest = replace(latest, fraction=answer["fraction"])
        yield latest


def _progress(process: QuantizerProcess, planned: QuantizedSize) -> Iterator[QuantizationProgress]:
    """What the child tells of its work, the latest again while it is silent, until the file is whole."""
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
        raise PlaygroundError(f"{target.name} is there already.", "Use it, or delete it first.")


def _refuse_full_disk(folder: Path, planned: QuantizedSize) -> None:
    free = shutil.disk_usage(folder).free
    if planned.size > free:
        needed_text, free_text = gibibytes_apart(planned.size, free)
        raise PlaygroundError(
            f"{planned.level} needs {needed_text}, and {free_text} are free on this disk.",
            "Free some space, or choose a smaller level.",
        )


def _safe_on_disk(path: Path) -> int:
    """The file's size, once all of it has left memory: no name may stand for half a file after a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
