"""What can be chosen in the Measure tab, and what is: models, levels, places, models of servers."""

from __future__ import annotations

from dataclasses import dataclass

from playground.app.measure.service import USUAL_LEVELS, LevelChoice, MeasureService, usual_reference
from playground.web.html.measure.results import level_choices


@dataclass(frozen=True)
class MeasureChoice:
    """What can be chosen, and what is: models as (name, base name), levels, and those of them on this disk.

    server_models: as (name, `id@server`). others: the models on this disk besides the chosen one. other_levels: those
    of the others that are chosen, as (name, `LEVEL@model`).
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
    other_levels: list[tuple[str, str]]
    chosen_other_levels: list[str]

    @property
    def here(self) -> list[str]:
        return [each.level for each in self.levels if each.is_here]

    @property
    def reference(self) -> str | None:
        """The level that the others are compared with, as long as nobody chooses another."""
        return usual_reference(self.levels) or None


def read_choice(
    service: MeasureService, model: object, chosen: object = None, server_model: object = None, others: object = None,
    other_levels: object = None,
) -> MeasureChoice:  # fmt: skip
    """The models, and the levels of one of them. chosen: the levels that stay chosen; None for those on this disk.

    server_model, others, other_levels: stay chosen where they can be; another model of which no level is chosen has
    those on this disk.
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
    chosen_others = [each for each in rest if each[1] in words_in(others)]
    offered: list[tuple[str, str]] = []
    picked: list[str] = []
    for shown, base in chosen_others:
        found = service.levels(base)
        offered += [(f"{shown} · {text}", f"{level}@{base}") for text, level in level_choices(found)]
        usual = [each.level for each in found if each.is_here][:USUAL_LEVELS]
        picked += [f"{level}@{base}" for level in levels_of(base, other_levels) or usual]
    known_levels = {value for _, value in offered}
    return MeasureChoice(
        models, name, levels, chosen_levels, service.places(), servers, server, rest,
        [base for _, base in chosen_others], offered, [value for value in picked if value in known_levels],
    )  # fmt: skip


def levels_of(model: str, chosen: object) -> list[str]:
    """Those of another model among the chosen `LEVEL@model`."""
    pairs = [each.partition("@") for each in words_in(chosen)]
    return [level for level, _, base in pairs if base == model]


def words_in(value: object) -> list[str]:
    """The texts of a list that the page sent."""
    return [str(each) for each in value][:100] if isinstance(value, list) else []
