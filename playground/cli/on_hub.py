"""`levels` and `plan` for a model that is still on the Hub: the same facts, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from playground.settings import Settings

if TYPE_CHECKING:
    from playground.app.records import LevelsRecord
    from playground.models.library import Library


def is_on_hub_only(reference: str, library: Library) -> bool:
    """Whether a reference names a repository of the Hub of which nothing is on this disk."""
    from playground.errors import ModelNotFound
    from playground.models.hub.names import names_repository

    if not names_repository(reference) or Path(reference).exists():
        return False
    try:
        library.find_files(reference)
    except ModelNotFound:
        return True
    return False


def hub_levels(reference: str, context: int | None, settings: Settings) -> LevelsRecord:
    """A record for each level of a repository, for which one header is read. Raises PlaygroundError."""
    from playground.app.hub.service import HubService
    from playground.app.hub.view import hub_levels_record
    from playground.app.records import USUAL_CONTEXT
    from playground.app.services import Services

    with Services(settings) as services:
        *_, view = HubService(services, context or USUAL_CONTEXT).open_repository(reference)
    return hub_levels_record(view)


def header_path(reference: str, settings: Settings) -> Path:
    """A sparse file with the header of a level on the Hub. Raises HubProblem, ModelNotFound or BadModelFile."""
    from playground.models.hub.client import HubClient
    from playground.models.hub.headers import HubHeaders
    from playground.models.hub.names import parse_reference

    hub = HubClient()
    meant = parse_reference(reference, hub.endpoint)
    level = hub.fetch_repository(meant.repo).resolve_level(meant.level, path=meant.path)
    return HubHeaders(hub, settings.data_dir / "headers").read_header(level).path
