"""What a repository on the Hub offers: its models, the levels of each, and the files of each level.

Worked out from file names and sizes, without a request. Every GGUF file is either in a level or left out with a reason:
projectors, imatrix files, draft models and adapters, and levels of which a shard is missing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from playground.errors import ModelNotFound
from playground.gguf.filenames import FileName, parse_file_name, split_shard
from playground.gguf.forks import program_of_level
from playground.gguf.kinds import KIND_NAMES
from playground.gguf.levels import DEFAULT_LEVELS, find_level, nominal_bits

MOST_USEFUL_BITS: Final = 9.0  # above Q8_0 a level is larger and slower, and its answers are no better
UNKNOWN_LEVEL: Final = "unknown"
_MODEL_SIZES: Final = frozenset(("nano", "micro", "tiny", "mini", "small", "base", "medium", "large", "xl", "xxl"))
_OTHER_MODEL: Final = 1.6  # files in two folders whose weights differ by more are not of one model
_ALIKE: Final = 0.02  # two files that differ less in size are not two levels of one model


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. etag: identifies its content; SHA-256 of a large file, Git's id of a small one."""

    path: str
    size: int  # bytes
    etag: str
    sha256: str | None = None


@dataclass(frozen=True)
class HubLevel:
    """One model at one level: all its shards, in order.

    level: unique among the levels of a model. Where the file's name says none that is known, or another file has the
    same one, it is what tells the files apart: "Q4", "i1-Q4_K_M", "Compact".
    """

    repo: str
    commit: str  # of the repository when it was opened
    base_name: str
    level: str
    files: tuple[HubFile, ...]
    is_only: bool = True  # no other model of the repository has a level of that name

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(file.size for file in self.files)

    @property
    def summary(self) -> str:
        """One sentence on the level; "" for an unknown level."""
        if self.made_for:
            return f"Made for {self.made_for}: this llama.cpp cannot read it."
        known = find_level(self.level)
        return known.summary if known else ""

    @property
    def made_for(self) -> str | None:
        """The program that can read the level, where llama.cpp cannot."""
        return program_of_level(self.level)

    @property
    def key(self) -> str:
        """Unique on the Hub: repository and first file, such as `owner/repo/folder/file.gguf`."""
        return f"{self.repo}/{self.files[0].path}"

    @property
    def reference(self) -> str:
        """The short name, such as `owner/repo:Q4_K_M`; with the file's name where the level says too little."""
        is_name = self.is_only and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.level)
        return f"{self.repo}:{self.level if is_name else self.files[0].path}"


@dataclass(frozen=True)
class HubModel:
    """One model of a repository, its levels from small to large."""

    base_name: str
    levels: tuple[HubLevel, ...]


@dataclass(frozen=True)
class LeftOutFile:
    """A GGUF file of a repository that is in no level, and why, in a sentence."""

    path: str
    reason: str


@dataclass(frozen=True)
class Repository:
    """A repository as the Hub describes it. left_out: its GGUF files that are in no level."""

    id: str
    commit: str
    models: tuple[HubModel, ...]
    downloads: int = 0
    likes: int = 0
    licence: str | None = None
    gated: bool = False
    renamed_from: str | None = None
    left_out: tuple[LeftOutFile, ...] = ()

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
        for reason, paths in _by_reason(self.left_out).items():
            names = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
            sentences.append(f"Left out: {names}. {reason}")
        return " ".join(sentences)

    def resolve_level(self, level: str | None = None, *, path: str | None = None) -> HubLevel:
        """One level: that of a file's path or name, that of a name, or the recommended one. Raises ModelNotFound."""
        if path is not None:
            fitting = self._with_file(path)
        elif level is not None:
            fitting = _with_name(self.levels, level)
        else:
            usual = recommended_level(self.levels)
            fitting = [usual] if usual else []
        if fitting:
            return fitting[0]
        names = ", ".join(dict.fromkeys(found.level for found in self.levels)) or "none"
        raise ModelNotFound(f"{self.id} does not offer {path or level or 'a GGUF model'}.", f"Its levels are: {names}.")

    def _with_file(self, path: str) -> list[HubLevel]:
        """The levels with that file, by its path, else by its name alone. Raises ModelNotFound for one left out."""
        same_tests: tuple[Callable[[str], bool], ...] = (
            lambda other: other == path,
            lambda other: PurePosixPath(other).name.lower() == path.lower(),
        )
        for is_same in same_tests:
            if fitting := [found for found in self.levels if any(is_same(file.path) for file in found.files)]:
                if len(fitting) > 1:
                    paths = ", ".join(found.files[0].path for found in fitting)
                    raise ModelNotFound(
                        f"{self.id} has several files named {path}: {paths}.", "Name one with its folder."
                    )
                return fitting
            for entry in self.left_out:
                if is_same(entry.path):
                    raise ModelNotFound(
                        f"{entry.path} is not a model to chat with: {entry.reason}", "Choose another file."
                    )
        return []


def read_models(
    repo: str, commit: str, files: Iterable[HubFile]
) -> tuple[tuple[HubModel, ...], tuple[LeftOutFile, ...]]:
    """The models among a repository's files, and the GGUF files that are in none of them."""
    found, left_out = _whole_files(repo, files)
    bases = _model_names(found)
    levels = [
        HubLevel(repo, commit, base, one.name.level or one.name.spelled or UNKNOWN_LEVEL, one.files)
        for base, one in zip(bases, found, strict=True)
    ]
    levels = _with_unique_names(_grouped_by_size(levels), {one.files[0].path: one.name for one in found})
    models: dict[str, list[HubLevel]] = defaultdict(list)
    for level in levels:
        models[level.base_name].append(level)
    rows = (HubModel(base, tuple(sorted(rows, key=_by_size))) for base, rows in sorted(models.items()))
    return tuple(rows), tuple(left_out)


def recommended_level(levels: Sequence[HubLevel], verdicts: Mapping[str, str] | None = None) -> HubLevel | None:
    """The level to suggest: the one with the most bits that fits, else Q4_K_M or near it, or None if nothing fits.

    verdicts: HubLevel.key -> the kind of its verdict for a useful context; a level without one counts as tight.
    Levels above Q8_0 are suggested only if there is no other: they are slower, and their answers no better.
    """
    verdicts = verdicts or {}
    levels = [level for level in levels if level.made_for is None]
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


def _with_name(levels: Sequence[HubLevel], name: str) -> list[HubLevel]:
    """The levels of that name; else of that file name; else a UD- or i1- mix of it; else a name that ends in it."""
    asked = _folded(name)
    return (
        [found for found in levels if found.level == name]
        or [found for found in levels if _folded(found.level) == asked]
        or [found for found in levels if _stem(found) == asked]
        or [found for found in levels if _folded(found.level) in (f"UD_{asked}", f"I1_{asked}")]
        or [found for found in levels if _stem(found).endswith(f"_{asked}")]
    )


def _stem(level: HubLevel) -> str:
    return _folded(split_shard(PurePosixPath(level.files[0].path).stem)[0])


def _folded(level: str) -> str:
    return level.upper().replace("-", "_")


def _by_reason(left_out: Iterable[LeftOutFile]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for entry in left_out:
        reasons[entry.reason].append(entry.path)
    return reasons


@dataclass(frozen=True)
class _WholeFile:
    """One level's files in order, with what the name of the first says."""

    name: FileName
    folder: str
    files: tuple[HubFile, ...]


def _whole_files(repo: str, files: Iterable[HubFile]) -> tuple[list[_WholeFile], list[LeftOutFile]]:
    """Every model in one file, and every complete set of shards; the other files with the reason."""
    whole: list[_WholeFile] = []
    left_out: list[LeftOutFile] = []
    sets: dict[tuple[str, int], dict[int, tuple[FileName, HubFile]]] = defaultdict(dict)
    for file in files:
        name = parse_file_name(file.path, repo.rpartition("/")[2])
        if name is None:
            continue
        path = PurePosixPath(file.path)
        if name.kind != "model":
            left_out.append(LeftOutFile(file.path, f"It is {KIND_NAMES[name.kind]}."))
        elif file.size <= 0:
            left_out.append(LeftOutFile(file.path, "It is empty."))
        elif name.shard_count == 1:
            whole.append(_WholeFile(name, str(path.parent), (file,)))
        else:
            sets[str(path.with_name(split_shard(path.stem)[0])), name.shard_count][name.shard] = (name, file)
    for (_, count), shards in sets.items():
        in_order = [shards[number] for number in sorted(shards)]
        if len(shards) == count:
            folder = str(PurePosixPath(in_order[0][1].path).parent)
            whole.append(_WholeFile(in_order[0][0], folder, tuple(file for _, file in in_order)))
        else:
            title = " ".join(part for part in (in_order[0][0].base_name, in_order[0][0].level) if part)
            reason = f"{len(shards)} of the {count} files of {title} are there, and a model needs all of them."
            left_out += [LeftOutFile(file.path, reason) for _, file in in_order]
    return whole, left_out


def _model_names(found: Sequence[_WholeFile]) -> list[str]:
    """A name for the model of each: its base name, with the folder where folders hold different models of that name."""
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in found:
        folders[one.name.base_name, one.name.level or one.name.spelled].add(one.folder)
    doubled = {base for (base, _), places in folders.items() if len(places) > 1}
    doubled |= {base for base, sizes in _weights_by_folder(found).items() if max(sizes) > _OTHER_MODEL * min(sizes)}
    bases = ((one.name.base_name, one.folder) for one in found)
    return [f"{folder}/{base}" if base in doubled and folder != "." else base for base, folder in bases]


def _weights_by_folder(found: Sequence[_WholeFile]) -> dict[str, list[float]]:
    """About how many weights the files of each base name hold, by the bits of their levels; only of several folders."""
    weights: dict[str, list[float]] = defaultdict(list)
    folders: dict[str, set[str]] = defaultdict(set)
    for one in found:
        folders[one.name.base_name].add(one.folder)
        if bits := nominal_bits(one.name.level or ""):
            weights[one.name.base_name].append(8 * sum(file.size for file in one.files) / bits)
    return {base: sizes for base, sizes in weights.items() if len(folders[base]) > 1}


def _grouped_by_size(levels: Sequence[HubLevel]) -> list[HubLevel]:
    """Files whose names say no level, as levels of one model where their names and sizes allow it.

    "M-APEX-I-Compact" and "M-APEX-I-Balanced" are the levels "Compact" and "Balanced" of "M-APEX-I": they begin with
    the same words, end in words without a number, and differ in size, which a model and its variant for chats do not.
    """
    unknown = [level for level in levels if level.level == UNKNOWN_LEVEL]
    groups: dict[str, list[HubLevel]] = defaultdict(list)
    for level in unknown:
        words = level.base_name.split("-")
        is_variant = len(words) > 2 and words[-1].isalpha() and words[-1].lower() not in _MODEL_SIZES
        if is_variant:
            groups["-".join(words[:-1])].append(level)
    renamed = {
        level.key: replace(level, base_name=base, level=level.base_name.rpartition("-")[2])
        for base, group in groups.items()
        if len(group) > 1 and _differ_in_size(group)
        for level in group
    }
    return [renamed.get(level.key, level) for level in levels]


def _differ_in_size(levels: Sequence[HubLevel]) -> bool:
    sizes = sorted(level.size for level in levels)
    return all(larger - smaller > _ALIKE * larger for smaller, larger in pairwise(sizes))


def _with_unique_names(levels: Sequence[HubLevel], names: Mapping[str, FileName]) -> list[HubLevel]:
    """The levels, those that share a name renamed: as their file names spell it, else by the whole file name."""
    steps: tuple[Callable[[HubLevel], str], ...] = (
        lambda level: names[level.files[0].path].spelled or level.level,
        lambda level: split_shard(PurePosixPath(level.files[0].path).stem)[0],
        lambda level: level.files[0].path,
    )
    for rename in steps:
        counts = Counter((level.base_name, _folded(level.level)) for level in levels)
        levels = [
            replace(level, level=rename(level)) if counts[level.base_name, _folded(level.level)] > 1 else level
            for level in levels
        ]
    counts_by_level = Counter(_folded(level.level) for level in levels)
    return [replace(level, is_only=counts_by_level[_folded(level.level)] == 1) for level in levels]
