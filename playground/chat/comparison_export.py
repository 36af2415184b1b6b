"""A whole comparison as Markdown, to read, and as JSON, to work with; pure functions of a record.

Everything that it takes to repeat it is in: which bytes were run (size and SHA-256), how, on what, by which versions.
Folders of this computer are not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from playground import __version__
from playground.chat.comparison import DifferenceRow, Figure, PaneResult, Spread, Value, differences
from playground.chat.conversation import Conversation
from playground.chat.export import code, one_line, settings_in_words, turn
from playground.chat.first_difference import FirstDifference, TokenChoice, first_difference
from playground.engine.protocol import Finished, Sampling
from playground.engine.remote.protocol import RemoteModel
from playground.llama.params import ContextParameters
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.models.library import ModelFile

_MIB: Final = 1 << 20
_TITLES: Final[dict[Figure, str]] = {
    "generation_speed": "Generation, tokens per second",
    "prompt_speed": "Prompt, tokens per second",
    "time_to_first_token": "Time to first token, s",
    "memory_planned": "Memory planned, MiB",
    "memory_measured": "Memory measured, MiB",
    "tokens": "Tokens",
    "finish_reason": "Ended by",
}


@dataclass(frozen=True)
class SavedPane:
    """One side; context None where a server has its own.

    digests: the SHA-256 of each of the file's shards, () where they were not computed.
    conversation: all that was said; result: of the last reply, None where there is none; failure: why.
    ends: the place among the messages of each whole reply, and how it ended.
    """

    file: ModelFile | RemoteModel
    context: ContextParameters | None
    conversation: Conversation
    result: PaneResult | None = None
    failure: str = ""
    digests: tuple[str, ...] = ()
    ends: tuple[tuple[int, Finished], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its shards; of a server's model nothing is known."""
        return () if isinstance(self.file, RemoteModel) else tuple(shard.name for shard in self.file.shards)

    @property
    def size(self) -> int | None:
        """Bytes of all shards."""
        return None if isinstance(self.file, RemoteModel) else self.file.size

    @property
    def title(self) -> str:
        return f"{self.file.display_name} {self.file.level}"


@dataclass(frozen=True)
class SavedComparison:
    """What is written down of a comparison; `sampling` with the seed that was used."""

    panes: tuple[SavedPane, ...]
    sampling: Sampling
    max_tokens: int | None
    processors: Processors
    memory: MachineMemory
    spread: Spread = field(default_factory=Spread)
    title: str = "Comparison"
    versions: Mapping[str, str] = field(default_factory=lambda: versions())

    @property
    def rows(self) -> tuple[DifferenceRow, ...]:
        return differences([pane.result for pane in self.panes], self.spread)

    @property
    def parting(self) -> FirstDifference | None:
        """Of the first two panes."""
        results = [pane.result for pane in self.panes[:2] if pane.result]
        return first_difference(*results) if len(results) == 2 else None


def versions() -> dict[str, str]:
    """Of what decides the answers."""
    return {"playground": __version__, "llama-cpp-python": version("llama-cpp-python")}


def comparison_as_json(record: SavedComparison) -> str:
    """One JSON object; sizes in bytes, times in seconds, speeds in tokens per second, probabilities from 0 to 1."""
    parting = record.parting
    data = {
        "title": record.title,
        "settings": {"max_tokens": record.max_tokens, **dataclasses.asdict(record.sampling)},
        "machine": {
            "cores_usable": record.processors.usable,
            "memory_total": record.memory.total,
            "memory_usable": record.memory.usable,
            "limited_by": record.memory.limited_by,
        },
        "versions": dict(record.versions),
        "panes": [_pane_data(pane) for pane in record.panes],
        "first_difference": dataclasses.asdict(parting) if parting else None,
        "differences": [dataclasses.asdict(row) for row in record.rows],
        "spread": dataclasses.asdict(record.spread),
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def comparison_as_markdown(record: SavedComparison) -> str:
    """Facts, the table of differences, where the answers part, and then each side's conversation."""
    blocks = [f"# {one_line(record.title)}", _facts(record), _table(record)]
    if (parting := record.parting) is not None:
        blocks += ["## Where they part", _parting(record, parting)]
    for letter, pane in _lettered(record):
        blocks += _side(letter, pane)
    return "\n\n".join(blocks) + "\n"


def _pane_data(pane: SavedPane) -> dict[str, Any]:
    result = pane.result
    data: dict[str, Any] = {
        "model": pane.file.display_name,
        "level": pane.file.level,
        "requantized_from": pane.file.requantized_from,
        "server": pane.file.server if isinstance(pane.file, RemoteModel) else None,
        "files": list(pane.files),
        "size": pane.size,
        "sha256": list(pane.digests) or None,
        "context_size": pane.context.context_size if pane.context else None,
        "kv_type": pane.context.kv_type if pane.context else None,
        **pane.conversation.to_json(),
        "error": pane.failure or None,
        "replies": [
            {"message": place, "finish_reason": end.reason, "timings": dataclasses.asdict(end.timings)}
            for place, end in pane.ends
        ],
    }
    if result is not None:
        data |= {
            "mode": result.mode,
            "finish_reason": result.finished.reason,
            "timings": dataclasses.asdict(result.finished.timings),
            "memory_planned": result.plan.total if result.plan else None,
            "memory_measured": result.measured.resident if result.measured else None,
        }
    return data


def _facts(record: SavedComparison) -> str:
    cores, memory = record.processors.usable, record.memory
    lines = [f"- {letter}: {one_line(pane.title)}, {_how_it_ran(pane)}" for letter, pane in _lettered(record)]
    lines += [
        f"- Settings: {settings_in_words(record.sampling, record.max_tokens)}",
        f"- Machine: {cores} {'core' if cores == 1 else 'cores'} and {memory.usable // _MIB} MiB of memory usable, "
        f"limited by {one_line(memory.limited_by)}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in record.versions.items())}",
    ]
    return "\n".join(lines)


def _how_it_ran(pane: SavedPane) -> str:
    if pane.context is None:
        return "a server's model, of whose file, level and context nothing is known here"
    return f"context {pane.context.context_size} tokens, KV cache {pane.context.kv_type}, {_files(pane)}"


def _files(pane: SavedPane) -> str:
    names = ", ".join(map(code, pane.files))
    digests = f", SHA-256 {', '.join(code(digest) for digest in pane.digests)}" if pane.digests else ""
    return f"{names}, {pane.size} bytes{digests}"


def _table(record: SavedComparison) -> str:
    """A Markdown table; the better value of a row is bold, where chance cannot have made it."""
    letters = [letter for letter, _ in _lettered(record)]
    lines = [f"|  | {' | '.join(letters)} |", f"|---|{'---|' * len(letters)}"]
    for row in record.rows:
        cells = [_cell(row.figure, value) for value in row.values]
        if row.better is not None:
            cells[row.better] = f"**{cells[row.better]}**"
        lines.append(f"| {_TITLES[row.figure]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figure: Figure, value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if figure.startswith("memory"):
        return f"{value / _MIB:.1f}"
    return (
        f"{value:.2f}"
        if figure == "time_to_first_token"
        else f"{value:.1f}"
        if isinstance(value, float)
        else f"{value}"
    )


def _parting(record: SavedComparison, parting: FirstDifference) -> str:
    letters = [letter for letter, _ in _lettered(record)][:2]
    lines = [f"After {parting.place} equal tokens:"]
    for letter, other, choice in zip(letters, reversed(letters), (parting.mine, parting.theirs), strict=True):
        lines.append(
            f"- {letter} {_chosen(choice)}: probability {_percent(choice.own)}; "
            f"what {other} chose: {_percent(choice.other)}"
        )
    return "\n".join(lines)


def _chosen(choice: TokenChoice) -> str:
    return "ended its answer" if choice.ends else f"wrote {code(json.dumps(choice.text, ensure_ascii=False))}"


def _percent(probability: float | None) -> str:
    return "not among its most probable" if probability is None else f"{probability:.2%}"


def _side(letter: str, pane: SavedPane) -> Iterator[str]:
    yield f"# {letter}: {one_line(pane.title)}"
    if pane.conversation.system.strip():
        yield f"## System text\n\n{pane.conversation.system.strip()}"
    ends = dict(pane.ends)
    for place, message in enumerate(pane.conversation.messages):
        yield from turn(message, ends.get(place))
    if pane.failure:
        yield f"*{one_line(pane.failure)}*"


def _lettered(record: SavedComparison) -> list[tuple[str, SavedPane]]:
    return [(chr(ord("A") + index), pane) for index, pane in enumerate(record.panes)]
