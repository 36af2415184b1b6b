"""What `levels` and `plan` say of a model that is still on the Hub: the same facts, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.settings import Settings

if TYPE_CHECKING:
    from playground.models.library import Library


def is_meant(reference: str, library: Library) -> bool:
    """Whether a reference names a repository of the Hub of which nothing is on this disk."""
    from playground.errors import ModelNotFound
    from playground.models.hub_names import looks_like_reference

    if not looks_like_reference(reference) or reference.startswith((".", "/", "~")) or Path(reference).exists():
        return False
    if reference.lower().endswith(".gguf") and "://" not in reference:
        return False
    try:
        library.levels(reference)
    except ModelNotFound:
        return True
    return False


def levels(reference: str, context: int | None, settings: Settings) -> list[dict[str, Any]]:
    """A row for each level of a repository, as `levels` prints it; one header is read. Raises PlaygroundError."""
    from playground.services import Services
    from playground.ui.hub_desk import WORKED_OUT, HubDesk
    from playground.ui.picker_view import USUAL_CONTEXT

    with Services(settings) as services:
        *_, view = HubDesk(services, context or USUAL_CONTEXT).open(reference)
    if view.error is not None:
        raise view.error
    assert view.repository is not None
    return [
        {
            "model": level.base_name,
            "level": level.level,
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


def header_path(reference: str, settings: Settings) -> Path:
    """The sparse stand-in of a level on the Hub, for the planner. Raises HubProblem, ModelNotFound or BadModelFile."""
    from playground.models.headers import Headers
    from playground.models.hub import Hub
    from playground.models.hub_names import parse_reference

    hub = Hub()
    meant = parse_reference(reference, hub.endpoint)
    level = hub.repository(meant.repo).find(meant.level, path=meant.path)
    return Headers(hub, settings.data_dir / "headers").read(level).path
