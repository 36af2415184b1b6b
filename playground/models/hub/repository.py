"""What a repository on the Hub offers: its models, the levels of each, and the files of each level.

Worked out from file names and sizes, without a request. Projectors, imatrix files, draft models and adapters are left
out, and so are levels of which a shard is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from playground.errors import ModelNotFound
from playground.gguf.filenames import parse_file_name
from playground.gguf.levels import DEFAULT_LEVELS, find_level, nominal_bits

MOST_USEFUL_BITS: Final = 9.0  # above Q8_0 a level is larger and slower, and its answers are no better
UNKNOWN_LEVEL: Final = "unknown"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. etag: identifies its content; SHA-256 of a large file, Git's id of a small one."""

    path: str
    size: int  # bytes
    etag: str
    sha256: str | None = None


@dataclass(frozen=True)
class HubLevel:
    """One model at one level: all its shards, in order."""

    repo: str
    commit: str  # of the repository when it was opened
    base_name: str
    level: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(file.size for file in self.files)

    @property
    def summary(self) -> str:
        """One sentence on the level; "" for an unknown level."""
        known = find_level(self.level)
        return known.summary if known else ""

    @property
    def key(self) -> str:
        """Unique on the Hub: repository and first file, such as `owner/repo/folder/file.gguf`."""
        return f"{self.repo}/{self.files[0].path}"

    @property
    def reference(self) -> str:
        """The short name, such as `owner/repo:Q4_K_M`."""
        return f"{self.repo}:{self.level}"


@dataclass(frozen=True)
class HubModel:
    """One model of a repository, its levels from small to large."""

    base_name: str
    levels: tuple[HubLevel, ...]


@dataclass(frozen=True)
class Repository:
    """A repository as the Hub describes it. incomplete: levels left out because shards are missing."""

    id: str
    commit: str
    models: tuple[HubModel, ...]
    downloads: int = 0
    likes: int = 0
    licence: str | None = None
    gated: bool = False
    renamed_from: str | None = None
    incomplete: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[HubLevel, ...]:
        return tuple(level for model in self.models for level in model.levels)

    @property
    def note(self) -> str:
        """What a person should know before choosing a level; often ""."""
        sentences = []
        if self.renamed_from:
            sentences.append(f"{self.renamed_from} is now called {self.id}.")
        if self.gated:
            sentences.append("Its licence must be accepted on its page before it can be downloaded.")
        if self.incomplete:
            sentences.append(f"Left out, because files are missing: {', '.join(self.incomplete)}.")
        return " ".join(sentences)

    def resolve_level(
        self, level: str | None = None, *, path: str | None = None, base_name: str | None = None
    ) -> HubLevel:
        """One level: that of a file's path, of a name, or the recommended one. Raises ModelNotFound."""
        offered = [found for found in self.levels if base_name in (None, found.base_name)]
        if path is not None:
            fitting = [found for found in offered if any(file.path == path for file in found.files)]
        elif level is not None:
            fitting = [found for found in offered if _same_level(found.level, level)]
        else:
            usual = recommended_level(offered)
            fitting = [usual] if usual else []
        if fitting:
            return fitting[0]
        names = ", ".join(dict.fromkeys(found.level for found in offered)) or "none"
        raise ModelNotFound(f"{self.id} does not offer {path or level or 'a GGUF model'}.", f"Its levels are: {names}.")


def read_models(repo: str, commit: str, files: Iterable[HubFile]) -> tuple[tuple[HubModel, ...], tuple[str, ...]]:
    """The models among a repository's files, and the names of levels that lack shards."""
    sets: dict[tuple[str, str, str, int], dict[int, HubFile]] = defaultdict(dict)
    for file in files:
        name = parse_file_name(file.path)
        if name is not None and name.kind == "model" and file.size > 0:
            folder = str(PurePosixPath(file.path).parent)
            sets[folder, name.base_name, name.level or UNKNOWN_LEVEL, name.shard_count][name.shard] = file
    whole = {key: shards for key, shards in sets.items() if len(shards) == key[3]}
    incomplete = sorted(f"{base} {level}" for _, base, level, _ in sets.keys() - whole.keys())
    names = _unique_names(whole)
    models: dict[str, list[HubLevel]] = defaultdict(list)
    for key, shards in whole.items():
        ordered = tuple(shards[number] for number in sorted(shards))
        models[names[key]].append(HubLevel(repo, commit, names[key], key[2], ordered))
    rows = (HubModel(base, tuple(sorted(levels, key=_by_size))) for base, levels in sorted(models.items()))
    return tuple(rows), tuple(incomplete)


def recommended_level(levels: Sequence[HubLevel], verdicts: Mapping[str, str] | None = None) -> HubLevel | None:
    """The level to suggest: the one with the most bits that fits, else Q4_K_M or near it, or None if nothing fits.

    verdicts: HubLevel.key -> "fits", "tight" or "wont_fit", for a useful context; a level without a verdict counts as
    tight. Levels above Q8_0 are suggested only if there is no other: they are slower, and their answers no better.
    """
    verdicts = verdicts or {}
    fitting = [level for level in levels if verdicts.get(level.key) == "fits"]
    if fitting:
        return max(_useful(fitting), key=lambda level: (nominal_bits(level.level), level.size))
    tight = [level for level in levels if verdicts.get(level.key, "tight") == "tight"]
    for name in DEFAULT_LEVELS if tight else ():
        for level in tight:
            if level.level == name:
                return level
    usual_bits = nominal_bits(DEFAULT_LEVELS[0])
    return min(tight, key=lambda level: (abs(nominal_bits(level.level) - usual_bits), level.size), default=None)


def _useful(levels: list[HubLevel]) -> list[HubLevel]:
    return [level for level in levels if nominal_bits(level.level) <= MOST_USEFUL_BITS] or levels


def _by_size(level: HubLevel) -> tuple[int, str]:
    return level.size, level.key


def _same_level(offered: str, asked: str) -> bool:
    return offered.upper().replace("-", "_") == asked.upper().replace("-", "_")


def _unique_names(sets: Iterable[tuple[str, str, str, int]]) -> dict[tuple[str, str, str, int], str]:
    """A name for the model of each set of files: its base name, with the folder where two models share that name."""
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for folder, base, level, _ in sets:
        folders[base, level].add(folder)
    doubled = {base for (base, _), places in folders.items() if len(places) > 1}
    return {
        key: f"{key[0]}/{key[1]}" if key[1] in doubled and key[0] != "." else key[1]
        for key in sets
    }  # fmt: skip
