"""Which repositories of the Hub may be used, as whoever runs the playground has listed them. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from playground.models.catalog import load_catalog

CATALOGUE: Final = "catalogue"  # stands for the repositories of the models that the tab Fit knows


def allowed_by(names: Sequence[str] | None) -> Callable[[str], bool]:
    """Tells whether `owner/name` is among names such as `owner/name`, `owner/*` or `catalogue`; None allows all."""
    if names is None:
        return lambda repo: True
    listed = {name.lower() for name in names}
    if CATALOGUE in listed:
        listed |= {model.repo.lower() for model in load_catalog() if model.repo}
    return lambda repo: any(fnmatchcase(repo.lower(), name) for name in listed)
