"""What is shown of the Hub: what a search found, an opened repository with its levels, and that as a record.

service.py works them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from playground.app.model_picker.choice import LevelRow
from playground.app.records import LeftOutRecord, LevelRecord, LevelsRecord
from playground.errors import BadModelFile, PlaygroundError
from playground.fit.budget import NO_MEMORY, Budget
from playground.fit.plan import MemoryPlan
from playground.fit.verdict import Verdict
from playground.models.hub.client import FoundRepository
from playground.models.hub.repository import HubLevel, Repository

ESTIMATED: Final = "Estimated from the file size. Select it to read its header."


@dataclass(frozen=True)
class SearchView:
    """What a search found, or why the Hub could not be asked."""

    words: str
    found: tuple[FoundRepository, ...] = ()
    error: PlaygroundError | None = None


@dataclass(frozen=True)
class HubView:
    """An opened repository: a row for each level, in order, with the plan and the largest context of the chosen one.

    A row's value is its HubLevel.key. is_exact: the chosen level's own header was read. is_installed: the chosen level
    is on this disk already. where: it would run, and why there; "" on a computer without a GPU. error: why the
    repository or the level could not be opened. bad_files: by the key of a level, what is wrong with its file.
    """

    repository: Repository | None = None
    rows: tuple[LevelRow, ...] = ()
    chosen: HubLevel | None = None
    is_exact: bool = False
    context_size: int = 0
    budget: Budget = NO_MEMORY
    plan: MemoryPlan | None = None
    where: str = ""
    verdict: Verdict | None = None
    largest_context: int | None = None
    is_installed: bool = False
    error: PlaygroundError | None = None
    bad_files: Mapping[str, BadModelFile] = field(default_factory=dict)


def _reason(view: HubView, row: LevelRow) -> str:
    if row.verdict:
        return f"{row.verdict.label}: {row.verdict.reason}"
    if row.value in view.bad_files:
        return str(view.bad_files[row.value])
    return "Another model of the repository: ask for it by its own name."


def hub_levels_record(view: HubView) -> LevelsRecord:
    """A record of each level for programs, a bad file's with what is wrong with it, and the files left out.

    Raises the view's error where that is not one file's.
    """
    if view.error is not None and not view.bad_files:
        raise view.error
    assert view.repository is not None
    levels: list[LevelRecord] = [
        {
            "model": level.base_name,
            "level": row.name,
            "reference": level.reference,
            "bits_per_weight": row.bits_per_weight,
            "size": level.size,
            "files": [file.path for file in level.files],
            "verdict": row.verdict.kind if row.verdict else "unusable" if row.value in view.bad_files else "unknown",
            "reason": _reason(view, row),
            "context_size": view.context_size,
            "origin": "hub",
            "requantized_from": None,
            "notes": [note for note in row.notes if note != ESTIMATED and row.value not in view.bad_files],
            "recommended": row.recommended,
            "estimated": ESTIMATED in row.notes or row.verdict is None,
        }
        for level, row in zip(view.repository.levels, view.rows, strict=True)
    ]
    left_out: list[LeftOutRecord] = [{"file": entry.path, "reason": entry.reason} for entry in view.repository.left_out]
    return {"levels": levels, "left_out": left_out}
