"""An opened repository's levels as records for programs."""

from __future__ import annotations

from playground.app.hub import WORKED_OUT, HubView
from playground.app.records import LevelRecord


def level_records(view: HubView) -> list[LevelRecord]:
    """One record for each level; raises what the view has to say where it could not be opened or read."""
    if view.error is not None:
        raise view.error
    assert view.repository is not None
    return [
        {
            "model": level.base_name,
            "level": level.level,
            "reference": f"{level.repo}:{level.level}",
            "bits_per_weight": row.bits_per_weight,
            "size": level.size,
            "files": [file.path for file in level.files],
            "verdict": row.verdict.kind if row.verdict else "unknown",
            "reason": f"{row.verdict.label}: {row.verdict.reason}"
            if row.verdict
            else "Another model: ask for it alone.",
            "context_size": view.context_size,
            "origin": "hub",
            "requantized_from": None,
            "recommended": row.recommended,
            "estimated": WORKED_OUT in row.notes or row.verdict is None,
        }
        for level, row in zip(view.repository.levels, view.rows, strict=True)
    ]
