"""What a repository on the Hub offers: its models, each at several levels, each level one file or several shards.

Works on names and sizes alone and asks nobody. Projectors, imatrix files, drafts and adapters are left out, and so are
levels of which a shard is missing.
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

BEST_USEFUL_BITS: Final = 9.0  # above Q8_0 a level is larger and slower, and its answers are no better
UNKNOWN_LEVEL: Final = "unknown"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `etag` names its content: the SHA-256 of a large file, Git's id of a small one."""

    path: str
    size: int  # bytes
    etag: str
    sha256: str | None = None


@dataclass(frozen=True)
class HubLevel:
    """One model at one level: its shards in order, to be had all or not at all."""

    repo: str
    commit: str  # of the repository when it was looked at
    base_name: str
    level: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(file.size for file in self.files)

    @property
    def summary(self) -> str:
        """A plain sentence on what the level means; empty for a level that is not known."""
        known = find_level(self.level)
        return known.summary if known else ""

    @property
    def key(self) -> str:
        """Names the level among all of the Hub's: repository and first file, such as `owner/repo/folder/file.gguf`."""
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
    """A repository as the Hub tells of it. `incomplete` are levels left out because shards are missing."""

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
        """What the person should know before choosing; often empty."""
        said = []
        if self.renamed_from:
            said.append(f"{self.renamed_from} is now called {self.id}.")
        if self.gated:
            said.append("Its licence has to be accepted on its page before it can be downloaded.")
        if self.incomplete:
            said.append(f"Left out, because files are missing: {', '.join(self.incomplete)}.")
        return " ".join(said)

    def resolve_level(
        self, level: str | None = None, *, path: str | None = None, base_name: str | None = None
    ) -> HubLevel:
        """The level that is meant: by a file's path, by name, or the usual one; raises ModelNotFound."""
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
    told_apart = _names_told_apart(whole)
    models: dict[str, list[HubLevel]] = defaultdict(list)
    for key, shards in whole.items():
        ordered = tuple(shards[number] for number in sorted(shards))
        models[told_apart[key]].append(HubLevel(repo, commit, told_apart[key], key[2], ordered))
    rows = (HubModel(base, tuple(sorted(levels, key=_by_size))) for base, levels in sorted(models.items()))
    return tuple(rows), tuple(incomplete)


def recommended_level(levels: Sequence[HubLevel], verdicts: Mapping[str, str] | None = None) -> HubLevel | None:
    """The level to suggest: the best quality that fits, Q4_K_M where in doubt, None where nothing fits.

    `verdicts` maps a HubLevel.key to "fits", "tight" or "wont_fit", judged with a useful context; without one a level
    is in doubt. Levels above Q8_0 are suggested only where there is no other: they are slower and answer no better.
    """
    verdicts = verdicts or {}
    fitting = [level for level in levels if verdicts.get(level.key) == "fits"]
    if fitting:
        return max(_useful(fitting), key=lambda level: (nominal_bits(level.level), level.size))
    doubtful = [level for level in levels if verdicts.get(level.key, "tight") == "tight"]
    for name in DEFAULT_LEVELS if doubtful else ():
        for level in doubtful:
            if level.level == name:
                return level
    usual_bits = nominal_bits(DEFAULT_LEVELS[0])
    return min(doubtful, key=lambda level: (abs(nominal_bits(level.level) - usual_bits), level.size), default=None)


def _useful(levels: list[HubLevel]) -> list[HubLevel]:
    return [level for level in levels if nominal_bits(level.level) <= BEST_USEFUL_BITS] or levels


def _by_size(level: HubLevel) -> tuple[int, str]:
    return level.size, level.key


def _same_level(offered: str, asked: str) -> bool:
    return offered.upper().replace("-", "_") == asked.upper().replace("-", "_")


def _names_told_apart(sets: Iterable[tuple[str, str, str, int]]) -> dict[tuple[str, str, str, int], str]:
    """A name for the model of each set of files: its base name, after the folder where one name means two models."""
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for folder, base, level, _ in sets:
        folders[base, level].add(folder)
    doubled = {base for (base, _), places in folders.items() if len(places) > 1}
    return {
        key: f"{key[0]}/{key[1]}" if key[1] in doubled and key[0] != "." else key[1]
        for key in sets
    }  # fmt: skip
