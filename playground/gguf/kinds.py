"""What a GGUF file is: a model to chat with, or something that goes with one.

A header says it under general.type. Where only the name is known, as in a list of the Hub, `kind_of_name` guesses.
"""

from __future__ import annotations

import re
from typing import Final, Literal

FileKind = Literal["model", "projector", "imatrix", "draft", "adapter"]

KIND_NAMES: Final[dict[FileKind, str]] = {
    "model": "a model",
    "projector": "an image or audio projector (mmproj)",
    "imatrix": "an importance matrix",
    "draft": "a draft model for speculative decoding",
    "adapter": "a LoRA adapter",
}
_KIND_OF_TYPE: Final[dict[str, FileKind]] = {  # gguf.GGUFType
    "adapter": "adapter", "mmproj": "projector", "imatrix": "imatrix",
}  # fmt: skip


def kind_of_type(general_type: str | None) -> FileKind:
    """The kind that a header's general.type stands for; a model where the header does not say."""
    return _KIND_OF_TYPE.get(general_type or "model", "model")


def kind_of_name(stem: str, level: str | None) -> FileKind:
    """The kind that a file's name suggests: `stem` without ending and shard number, `level` as found in it."""
    words = [word for word in re.split(r"[-_. ]+", stem.lower()) if word]
    if "mmproj" in words or "projector" in words:
        return "projector"
    if words[:1] == ["imatrix"] or ("imatrix" in words and level is None):
        return "imatrix"
    if words[:1] == ["mtp"] or not {"draft", "drafter", "eagle3", "dflash"}.isdisjoint(words):
        return "draft"
    return "adapter" if _names_adapter(words, level) else "model"


def _names_adapter(words: list[str], level: str | None) -> bool:
    """LoRA adapters come unquantized or end in the word; "alpaca-lora-65B.Q4_K_M" is a whole model made with one."""
    if "adapter" in words:
        return True
    return "lora" in words and (level in (None, "F16", "BF16", "F32") or words[-1] == "lora" or words[0] == "lora")
