"""What can be chosen in the Measure tab, and what is: models, levels, places, models of servers."""

from __future__ import annotations

from dataclasses import dataclass

from playground.app.measure.service import USUAL_LEVELS, LevelChoice, MeasureService


@dataclass(frozen=True)
class MeasureChoice:
    """What can be chosen, and what is: models as (name, base name), levels, and those of them on this disk.

    server_models: as (name, `id@server`). others: the models on this disk besides the chosen one.
    """

    models: list[tuple[str, str]]
    model: str | None
    levels: list[LevelChoice]
    chosen: list[str]
    places: list[tuple[str, str]]
    server_models: list[tuple[str, str]]
    server_model: str | None
    others: list[tuple[str, str]]
    chosen_others: list[str]

    @property
    def here(self) -> list[str]:
        return [each.level for each in self.levels if each.is_here]

    @property
    def reference(self) -> str | None:
        """The largest level on this disk."""
        return self.here[0] if self.here else None


def read_choice(
    service: MeasureService, model: object, chosen: object = None, server_model: object = None, others: object = None
) -> MeasureChoice:
    """The models, and the levels of one of them. chosen: the levels that stay chosen; None for those on this disk.

    server_model, others: stay chosen where they can be.
    """
    on_disk = service.models()
    models = list(on_disk)
    measured = {row.key.model for row in service.results().rows} - {base for _, base in models}
    models += [(name, name) for name in sorted(measured)]
    names = [base for _, base in models]
    name = str(model) if model in names else names[0] if names else None
    levels = service.levels(name) if name else []
    known = [each.level for each in levels]
    kept = [level for level in words_in(chosen) if level in known]
    chosen_levels = kept or [each.level for each in levels if each.is_here][:USUAL_LEVELS]
    servers = service.server_models()
    known_servers = [reference for _, reference in servers]
    server = str(server_model) if server_model in known_servers else known_servers[0] if servers else None
    rest = [each for each in on_disk if each[1] != name]
    return MeasureChoice(
        models, name, levels, chosen_levels, service.places(), servers, server, rest,
        [base for _, base in rest if base in words_in(others)],
    )  # fmt: skip


def words_in(value: object) -> list[str]:
    """The texts of a list that the page sent."""
    return [str(each) for each in value][:100] if isinstance(value, list) else []
