"""Parses the names of model files: which model, at which quantization level, which shard of how many.

Reads names only. The file need not exist, and where its header says something else, the header is right. A name that
leaves the level open ("model-q8.gguf") has none.

    UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL-00001-of-00005.gguf -> DeepSeek-R1, UD-Q2_K_XL, shard 1 of 5
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from playground.gguf.kinds import FileKind, kind_of_name
from playground.text_format import replace_surrogates


@dataclass(frozen=True)
class FileName:
    """A parsed name. base_name: the same for all levels of a model. level: in its usual spelling, or None."""

    base_name: str
    level: str | None
    shard: int = 1
    shard_count: int = 1
    kind: FileKind = "model"


_SHARD: Final = re.compile(r"[-_.](\d{5})-of-(\d{5})$", re.IGNORECASE)

# A level stands between separators. Groups: the mark of a dynamic mix, then one of the families with its parts.
_LEVEL: Final = re.compile(
    r"""
    (?<![a-z0-9])
    (?:(?P<dynamic>UD)[-_.])?
    (?:
        (?P<integer>T?Q[1-8])[-_.](?P<variant>[01])
            (?:[-_](?P<rows>4[-_]4|4[-_]8|8[-_]8))?
      | (?P<k>Q[2-8])[-_.]?K
      | (?P<i>IQ[1-6])[-_.]?(?P<i_size>XXS|XS|S|M|NL|KSS|KS|KT|KL|K)
            (?:_(?P<i_rows>4_4|4_8|8_8))?
      | (?P<float>BF16|FP?16|FP?32)
      | (?P<fp4>MXFP4|NVFP4)(?:[-_.](?P<moe>MOE))?
    )
    (?:(?<=K)[-_.]?(?P<k_size>XXS|XS|S|M|L|XL|XXL)|_(?P<size>S|M|L|XL|XXL))?
    (?:_(?P<repacked>R[48]))?
    (?![a-z0-9]|[.]\d)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_OPEN_LEVEL: Final = re.compile(r"[-_.](?:q[2-8]|[2-8]-?bits?)$", re.IGNORECASE)  # too vague to be a level
_HOW_MADE: Final = re.compile(r"[-_.](?:i1|imat\d*|imatrix)$", re.IGNORECASE)
_HOW_MADE_AFTER: Final = re.compile(r"^[-_.](?:imat\d*|imatrix)(?=[-_.]|$)", re.IGNORECASE)
_SEPARATORS: Final = "-_. "


def parse_file_name(path: str) -> FileName | None:
    """Parse the name of a model file; `path` may have folders before it. None if it does not end in .gguf."""
    file = PurePosixPath(replace_surrogates(path).replace("\\", "/"))
    if file.suffix.lower() != ".gguf":
        return None
    stem, shard, shard_count = _split_shard(file.stem)
    base, level = _split_level(stem)
    kind = kind_of_name(stem, level)
    if level is None:
        level = _split_level(file.parent.name)[1]
    return FileName(base or _name_of_folder(file) or stem, level, shard, shard_count, kind)


def _split_shard(stem: str) -> tuple[str, int, int]:
    match = _SHARD.search(stem)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        return stem, 1, 1
    return stem[: match.start()], int(match[1]), int(match[2])


def _split_level(stem: str) -> tuple[str, str | None]:
    """The name without its level, and the level: the last one in the name."""
    matches = list(_LEVEL.finditer(stem))
    if not matches:
        return _OPEN_LEVEL.sub("", stem), None
    last = matches[-1]
    before = _HOW_MADE.sub("", stem[: last.start()].rstrip(_SEPARATORS))
    after = _HOW_MADE_AFTER.sub("", stem[last.end() :])
    return (before + after).strip(_SEPARATORS), _usual_spelling(last)


def _usual_spelling(match: re.Match[str]) -> str:
    """In upper case with underscores; F16 for fp16; UD- before a dynamic mix."""
    part = {name: (text or "").upper().replace("-", "_") for name, text in match.groupdict().items()}
    if part["float"]:
        words = [part["float"].replace("FP", "F")]
    elif part["k"]:
        words = [part["k"], "K"]
    elif part["i"]:
        words = [part["i"], part["i_size"], part["i_rows"]]
    else:
        words = [part["integer"], part["variant"], part["rows"], part["fp4"], part["moe"]]
    words += [part["k_size"] or part["size"], part["repacked"]]
    return ("UD-" if part["dynamic"] else "") + "_".join(word for word in words if word)


def _name_of_folder(file: PurePosixPath) -> str:
    """The model's name where the file's whole name is a level: its folder's name without the usual -GGUF."""
    return re.sub(r"[-_.]gguf$", "", file.parent.name, flags=re.IGNORECASE)
