"""Parses the names of model files: which model, at which quantization level, which shard of how many.

Reads names only. The file need not exist, and where its header says something else, the header is right. A name that
leaves the level open ("model-q8.gguf") has none.

    UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL-00001-of-00005.gguf -> DeepSeek-R1, UD-Q2_K_XL, shard 1 of 5
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from playground.gguf.kinds import FileKind, kind_of_name
from playground.text_format import replace_surrogates


@dataclass(frozen=True)
class FileName:
    """A parsed name. base_name: the same for all levels of a model. level: in its usual spelling, or None.

    spelled: how the name itself writes the level, with what it says of its making: "i1-Q4_K_M", "q4", "f16.q6"; ""
    where it says nothing.
    """

    base_name: str
    level: str | None
    shard: int = 1
    shard_count: int = 1
    kind: FileKind = "model"
    spelled: str = field(default="", compare=False)


_SHARD: Final = re.compile(r"[-_.](\d{5})-of-(\d{5})$", re.IGNORECASE)

# A level stands between separators. Groups: the mark of a dynamic mix, then one of the families with its parts.
_LEVEL: Final = re.compile(
    r"""
    (?<![a-z0-9])
    (?:(?P<dynamic>UD)[-_.])?
    (?:
        (?P<fork>TQ[34]_[14]S[EV]?|PT?Q[12]_0|STQ1_0|I[28]_S|TL[12]|Q8_KV|Q[2-8]_0_ROCM(?:FP4|FPX|I4)(?:_[A-Z]+)?)
      | (?P<integer>T?Q[1-8])[-_.](?P<variant>[01])
            (?:[-_](?P<rows>4[-_]4|4[-_]8|8[-_]8))?
      | (?P<k>[A-HJ-SU-Z]?Q[2-8])[-_.]?K
      | (?P<i>IQ[1-6])[-_.]?(?P<i_size>XXS|XS|S|M|NL|KSS|KS|KT|KL|K|BN)
            (?:_(?P<i_rows>4_4|4_8|8_8))?
      | (?P<float>BF16|FP?16|FP?32)
      | (?P<fp4>MXFP4|NVFP4)(?:[-_.](?P<moe>MOE))?
    )
    (?:(?<=K)[-_.]?(?P<k_size>XXS|XS|S|M|L|XL|XXL)(?![a-z0-9])|_(?P<size>S|M|L|XL|XXL)(?![a-z0-9]))?
    (?:_(?P<repacked>R(?:4|8|16)))?
    (?:(?<=[A-Z])_(?P<own>(?!(?:IT|V|IMAT|CHAT|BASE)(?![A-Z]))[A-Z]{1,4}\d?)(?=[-_.]|$))?  # own mixes: Q4_K_P
    (?![a-z0-9]|[.]\d)
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Too vague to be a level: bits without a kind, alone or after the type of the tensors that stay larger (f16.q6, q8q4).
_OPEN_LEVEL: Final = re.compile(
    r"[-_.]((?:(?:b?f16|f32|q8_0)[-_.])?q[1-8](?:p|q[1-8]|b?f16|fp16)?|[1-8]-?bits?|int[48]|fp[48])"
    r"([-_.](?:imat\d*|imatrix))?$",
    re.IGNORECASE,
)
_HOW_MADE: Final = re.compile(r"(?:^|[-_.])(?:i1|imat\d*|imatrix|static|smol|mainline|pure)$", re.IGNORECASE)
# What follows a level says how it was made (Q4_K_M-HQ, Q4_K_M-imat, "Q4_K_M (1)"), up to a word that names the model.
_MODEL_WORD: Final = re.compile(
    r"[-_. ](?:v\d\w*|\d+(?:\.\d+)?[bmk]|it|chat|instruct|base|code|coder|math|vision|vl|think|thinking|reasoning"
    r"|dpo|sft|rp|distill|distilled|abliterated|uncensored|heretic|merged|lora|mmproj)(?![a-z0-9]).*",
    re.IGNORECASE,
)
_LARGER_TENSORS: Final = re.compile(r"[-_.](?:b?f16|f32|q8_0)$", re.IGNORECASE)  # of a mix, before its level
_SEPARATORS: Final = "-_. "
_FOLDER_ENDING: Final = re.compile(r"[-_.]gguf$", re.IGNORECASE)


def parse_file_name(path: str, home: str = "") -> FileName | None:
    """Parse the name of a model file; `path` may have folders before it. None if it does not end in .gguf.

    home: the repository or folder in which the path begins. It names the model where nothing in the path does.
    """
    file = PurePosixPath(replace_surrogates(path).replace("\\", "/"))
    if file.suffix.lower() != ".gguf":
        return None
    stem, shard, shard_count = split_shard(file.stem)
    base, level, spelled = _split_level(stem)
    kind = kind_of_name(stem, level)
    if level is None and not spelled:
        level = _split_level(file.parent.name)[1]
    base = base or _name_of_folder([*file.parts[:-1], replace_surrogates(home)])
    return FileName(base or stem, level, shard, shard_count, kind, spelled)


def names_level_only(folder: str) -> bool:
    """Whether a folder is named after a level and nothing else, such as "Q4_K_M"."""
    base, level, _ = _split_level(folder)
    return level is not None and not base


def split_shard(stem: str) -> tuple[str, int, int]:
    """A name without its shard number, the number from 1, and the number of shards; 1 of 1 for a whole file."""
    match = _SHARD.search(stem)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        return stem, 1, 1
    return stem[: match.start()], int(match[1]), int(match[2])


def _split_level(stem: str) -> tuple[str, str | None, str]:
    """The name without its level; the level, the last one in the name; and how the name spells it."""
    if vague := _OPEN_LEVEL.search(stem):
        return _HOW_MADE.sub("", stem[: vague.start()]), None, stem[vague.start() + 1 :]
    matches = list(_LEVEL.finditer(stem))
    if not matches:
        return stem, None, ""
    last = matches[-1]
    if len(matches) > 1 and last["float"] and not matches[-2]["float"]:  # Q6_K-bf16: a mix with larger tensors
        last = matches[-2] if len(stem[matches[-2].end() : last.start()]) == 1 else last
    start = stem[: last.start()].rstrip(_SEPARATORS)
    before = _HOW_MADE.sub("", start)
    before = _LARGER_TENSORS.sub("", before)
    named = _MODEL_WORD.search(stem, last.end())
    after = named[0] if named else ""
    spelled = stem[len(before) : len(stem) - len(after)].strip(_SEPARATORS)
    return (before + after).strip(_SEPARATORS), _usual_spelling(last), spelled


def _usual_spelling(match: re.Match[str]) -> str:
    """In upper case with underscores; F16 for fp16; UD- before a dynamic mix."""
    part = {name: (text or "").upper().replace("-", "_") for name, text in match.groupdict().items()}
    if part["fork"] or part["float"]:
        words = [part["fork"] or part["float"].replace("FP", "F")]
    elif part["k"]:
        words = [part["k"], "K"]
    elif part["i"]:
        words = [part["i"], part["i_size"], part["i_rows"]]
    else:
        words = [part["integer"], part["variant"], part["rows"], part["fp4"], part["moe"]]
    words += [part["k_size"] or part["size"], part["repacked"], part["own"]]
    return ("UD-" if part["dynamic"] else "") + "_".join(word for word in words if word)


def _name_of_folder(folders: Sequence[str]) -> str:
    """The model's name where the file's whole name is a level: that of the nearest folder that names more than one."""
    for folder in reversed(folders):
        name = _FOLDER_ENDING.sub("", folder)
        base = _split_level(name)[0] if _LEVEL.search(name) else name
        if base and base.lower() not in ("gguf", "models", "/"):
            return base
    return ""
