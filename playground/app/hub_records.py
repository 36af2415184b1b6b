"""An opened repository of the Hub as a record for programs: each level with its verdict, and the files left out."""

from __future__ import annotations

from playground.app.hub import ESTIMATED, HubView
from playground.app.model_choice import LevelRow
from playground.app.records import LeftOutRecord, LevelRecord, LevelsRecord


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
