"""The models that the table of levels and contexts can show: on this disk, on the Hub, or known by their blueprint.

A subject joins what the planner is asked (a file, a stand-in, a blueprint) with the sizes that are known exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from playground.errors import PlaygroundError
from playground.fit.planner import PlannableModel
from playground.fit.table import LevelSize
from playground.gguf.header import GgufHeader
from playground.gguf.tensors import TensorInfo
from playground.gguf.weight_use import TOKEN_EMBEDDING
from playground.machine.memory import is_held_in_memory
from playground.models.catalog import load_catalog
from playground.models.library import Library
from playground.models.model_file import ModelFile


@dataclass(frozen=True)
class FitSubject:
    """A model that a table can be made of.

    key: names it among all subjects. planned: what the planner is asked. sizes: levels of files. computed: the weights
    in bytes at levels without a file, by level. keeps_mxfp4: whether its experts are MXFP4 at every level that
    publishers make. tensors: of levels known by their own file, by level; "" for any other level. hyperparameters:
    GGUF's keys without the architecture's prefix. files: of levels on this disk. base_name: of the model in the
    library, None for one that is not on this disk. repo: where it can be had.
    """

    key: str
    name: str
    planned: PlannableModel
    parameter_count: int
    sizes: tuple[LevelSize, ...] = ()
    computed: Mapping[str, int] = field(default_factory=dict)
    keeps_mxfp4: bool = False
    tensors: Mapping[str, Sequence[TensorInfo]] = field(default_factory=dict)
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    base_name: str | None = None
    repo: str | None = None

    @property
    def vocabulary_size(self) -> int:
        """Tokens, from the table of tensors; 0 where it is not known."""
        tables = self.tensors.values()
        return next((tensor.shape[-1] for table in tables for tensor in table if tensor.name == TOKEN_EMBEDDING), 0)

    @property
    def on_disk(self) -> bool:
        return self.base_name is not None


def subjects_on_disk(library: Library) -> list[FitSubject]:
    """One subject for each model here; of two files at one level the first counts, as in the model picker."""
    found = []
    for base_name, files in library.models().items():
        by_level: dict[str, ModelFile] = {}
        for file in files:
            by_level.setdefault(file.level, file)
        try:
            found.append(_of_files(library, base_name, by_level))
        except (PlaygroundError, OSError):  # a file that went away or broke since it was listed
            continue
    return found


def _of_files(library: Library, base_name: str, files: Mapping[str, ModelFile]) -> FitSubject:
    headers = {level: library.whole_header(file) for level, file in files.items()}
    first, header = next(iter(files.values())), next(iter(headers.values()))
    return FitSubject(
        key=f"disk/{base_name}",
        name=first.display_name,
        planned=first.path,
        parameter_count=header.parameter_count,
        sizes=tuple(
            LevelSize(level, header.weight_bytes, held=is_held_in_memory(files[level].path))
            for level, header in headers.items()
        ),
        keeps_mxfp4=header.keeps_mxfp4,
        tensors={"": header.tensors, **{level: own.tensors for level, own in headers.items()}},
        hyperparameters=hyperparameters_of(header),
        files={level: file.path for level, file in files.items()},
        base_name=base_name,
        repo=next((file.repo for file in files.values() if file.repo), None),
    )


def hyperparameters_of(header: GgufHeader) -> dict[str, object]:
    """A header's own keys without the architecture's prefix: `block_count`, `attention.head_count`."""
    prefix = f"{header.architecture}."
    return {key.removeprefix(prefix): value for key, value in header.metadata.items() if key.startswith(prefix)}


def catalogue_subjects(without_repos: Iterable[str] = ()) -> list[FitSubject]:
    """The catalogue's models, by their blueprints alone; `without_repos` leaves out what is on disk already."""
    here = {repo.lower() for repo in without_repos}
    return [
        FitSubject(
            key=f"catalogue/{model.id}",
            name=model.display_name,
            planned=model.blueprint,
            parameter_count=model.parameter_count,
            computed=model.weight_bytes,
            keeps_mxfp4=model.keeps_mxfp4,
            tensors={"": model.blueprint.tensors},
            hyperparameters=model.blueprint.metadata,
            repo=model.repo,
        )
        for model in load_catalog()
        if model.repo is None or model.repo.lower() not in here
    ]
