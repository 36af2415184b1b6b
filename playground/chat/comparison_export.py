"""Writes a whole comparison as Markdown, to read, and as JSON, to work with.

Both hold everything that it takes to repeat it: the files (name, size, SHA-256), the settings, the machine and the
versions. They hold no folder of this computer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from playground import __version__
from playground.chat.comparison import (
    DISTURBED_SENTENCE,
    ComparisonRow,
    MeasurementNoise,
    PaneResult,
    comparison_table,
)
from playground.chat.conversation import Conversation
from playground.chat.export import code, one_line, settings_in_words, turn, where_it_ran
from playground.chat.first_difference import FirstDifference, TokenChoice, first_difference
from playground.engine.protocol import Finished
from playground.engine.remote.protocol import RemoteModel
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import Sampling
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.models.model_file import ModelFile
from playground.text_format import counted, gigabytes


@dataclass(frozen=True)
class SavedPane:
    """One pane as it is saved. context: None for a server's model.

    result: of the last reply, None without one. digests: the SHA-256 of each shard, () if they were not computed.
    finished: for each whole reply, its index among the messages and how it ended. cut_short: for each other reply, its
    index and why it has no end, in a sentence.
    """

    file: ModelFile | RemoteModel
    context: ContextParameters | None
    conversation: Conversation
    result: PaneResult | None = None
    digests: tuple[str, ...] = ()
    finished: tuple[tuple[int, Finished], ...] = ()
    cut_short: tuple[tuple[int, str], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the shards; () for a server's model."""
        return () if isinstance(self.file, RemoteModel) else tuple(shard.name for shard in self.file.shards)

    @property
    def size(self) -> int | None:
        """Bytes of all shards; None for a server's model."""
        return None if isinstance(self.file, RemoteModel) else self.file.size

    @property
    def title(self) -> str:
        return f"{self.file.display_name} {self.file.level}"


@dataclass(frozen=True)
class SavedComparison:
    """What is saved of a comparison; `sampling` has the seed that was used."""

    panes: tuple[SavedPane, ...]
    sampling: Sampling
    max_tokens: int | None
    processors: Processors
    memory: MachineMemory
    noise: MeasurementNoise = field(default_factory=MeasurementNoise)
    title: str = "Comparison"
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions())

    @property
    def table(self) -> tuple[ComparisonRow, ...]:
        return comparison_table([pane.result for pane in self.panes], self.noise)

    @property
    def is_disturbed(self) -> bool:
        return any(any(row.disturbed) for row in self.table)

    @property
    def first_difference(self) -> FirstDifference | None:
        """Of the first two panes."""
        results = [pane.result for pane in self.panes[:2] if pane.result]
        return first_difference(*results) if len(results) == 2 else None

    @property
    def lettered_panes(self) -> list[tuple[str, SavedPane]]:
        """The panes with the letters A, B … under which they were shown."""
        return [(chr(ord("A") + index), pane) for index, pane in enumerate(self.panes)]


def installed_versions() -> dict[str, str]:
    """The versions of the programs that decide the answers."""
    return {"playground": __version__, "llama-cpp-python": version("llama-cpp-python")}


# --- JSON ---


def comparison_as_json(saved: SavedComparison) -> str:
    """One JSON object; sizes in bytes, times in seconds, speeds in tokens per second, probabilities from 0 to 1."""
    difference = saved.first_difference
    data = {
        "title": saved.title,
        "settings": {"max_tokens": saved.max_tokens, **dataclasses.asdict(saved.sampling)},
        "machine": {
            "cores_usable": saved.processors.usable,
            "memory_total": saved.memory.total,
            "memory_usable": saved.memory.usable,
            "limited_by": saved.memory.limited_by,
        },
        "versions": dict(saved.versions),
        "panes": [_pane_data(pane) for pane in saved.panes],
        "first_difference": difference.to_json() if difference else None,
        "differences": [
            {
                "figure": row.figure,
                "unit": row.unit,
                "values": row.values,
                "better": row.better,
                "disturbed": row.disturbed,
            }
            for row in saved.table
        ],
        "spread": dataclasses.asdict(saved.noise),  # the name that saved files have had from the beginning
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


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
        "replies": [
            {"message": index, "finish_reason": end.reason, "timings": end.timings.to_json()}
            for index, end in pane.finished
        ]
        + [
            {"message": index, "finish_reason": None, "timings": None, "cut_short": why}
            for index, why in pane.cut_short
        ],
    }
    if result is not None:
        data |= {
            "mode": result.mode,
            "finish_reason": result.finished.reason,
            "timings": result.finished.timings.to_json(),
            "memory_planned": result.plan.needed if result.plan else None,
            "memory_measured": result.measured.resident if result.measured else None,
            "device": result.plan.context.placement.name if result.plan else None,
            "placement": dataclasses.asdict(result.plan.context.placement) if result.plan else None,
            "layers": result.plan.layers if result.plan else None,
            "device_memory": [
                dataclasses.asdict(one) | {"planned": result.plan.on_device(one.device)}
                for one in result.measured.devices
            ]
            if result.plan and result.measured
            else [],
        }
    return data


# --- Markdown ---


def comparison_as_markdown(saved: SavedComparison) -> str:
    """The set-up, the table of figures, the first difference, then the conversation of each pane."""
    blocks = [f"# {one_line(saved.title)}", _set_up(saved), _table(saved)]
    if (difference := saved.first_difference) is not None:
        blocks += ["## First difference", _first_difference(saved, difference)]
    for letter, pane in saved.lettered_panes:
        blocks += _conversation(letter, pane)
    return "\n\n".join(blocks) + "\n"


def _set_up(saved: SavedComparison) -> str:
    memory = saved.memory
    lines = [f"- {letter}: {one_line(pane.title)}, {_how_it_ran(pane)}" for letter, pane in saved.lettered_panes]
    lines += [
        f"- Settings: {settings_in_words(saved.sampling, saved.max_tokens)}",
        f"- Machine: {counted(saved.processors.usable, 'core')}, {gigabytes(memory.usable)} of memory usable, "
        f"limited by {one_line(memory.limited_by)}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in saved.versions.items())}",
    ]
    return "\n".join(lines)


def _how_it_ran(pane: SavedPane) -> str:
    if pane.context is None:
        return "on a server, which does not report its file, level or context"
    names = ", ".join(map(code, pane.files))
    digests = f", SHA-256 {', '.join(map(code, pane.digests))}" if pane.digests else ""
    context = f"context {pane.context.context_size} tokens, KV cache {pane.context.kv_type}"
    result = pane.result
    ran_on = f", on {where_it_ran(result.plan, result.measured)}" if result and result.plan else ""
    return f"{context}, {names}, {pane.size} bytes{digests}{ran_on}"


def _table(saved: SavedComparison) -> str:
    """The figures as a Markdown table; a value that is better by more than the noise is bold."""
    letters = [letter for letter, _ in saved.lettered_panes]
    lines = [f"|  | {' | '.join(letters)} |", f"|---|{'---|' * len(letters)}"]
    for row in saved.table:
        cells = [f"**{text}**" if index == row.better else text for index, text in enumerate(row.texts)]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    if saved.is_disturbed:
        lines += ["", DISTURBED_SENTENCE]
    return "\n".join(lines)


def _first_difference(saved: SavedComparison, difference: FirstDifference) -> str:
    letters = [letter for letter, _ in saved.lettered_panes][:2]
    lines = [f"Identical for {counted(difference.common_tokens, 'token')}, then:"]
    for letter, other, choice in zip(letters, reversed(letters), difference.choices, strict=True):
        lines.append(
            f"- {letter} {_choice_in_words(choice)}: probability {_probability(choice.own)}; "
            f"{other}’s choice: {_probability(choice.other)}"
        )
    return "\n".join(lines)


def _choice_in_words(choice: TokenChoice) -> str:
    return "ended its answer" if choice.is_end else f"wrote {code(json.dumps(choice.text, ensure_ascii=False))}"


def _probability(probability: float | None) -> str:
    return "not among its likeliest tokens" if probability is None else f"{probability:.2%}"


def _conversation(letter: str, pane: SavedPane) -> Iterator[str]:
    yield f"# {letter}: {one_line(pane.title)}"
    if pane.conversation.system.strip():
        yield f"## System prompt\n\n{pane.conversation.system.strip()}"
    ends, cut_short = dict(pane.finished), dict(pane.cut_short)
    for index, message in enumerate(pane.conversation.messages):
        yield from turn(message, ends.get(index), cut_short.get(index, ""))
