"""What a person has picked in a picker, as a browser, a link or a row of a table tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from playground.llama.params import KV_TYPES, KvType

MOST_CONTEXT: Final = 16_777_216  # tokens; llama.cpp's own bookkeeping for more takes long, even in a dry run


@dataclass(frozen=True)
class ModelChoice:
    """What a person has picked, None where the playground should choose. `level` is a row's value."""

    model: str | None = None
    level: str | None = None
    context_size: int | None = None
    kv_type: KvType = "f16"

    @classmethod
    def read(cls, model: object, level: object, context_size: object, kv_type: object) -> ModelChoice:
        """The choice as a browser sends it; whatever is no possible value becomes None."""
        text = str(context_size or "")
        size = int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 9 else None
        return cls(
            model=model if isinstance(model, str) else None,
            level=level if isinstance(level, str) and level else None,
            context_size=size if size and size <= MOST_CONTEXT else None,
            kv_type=kv_type if kv_type in KV_TYPES else "f16",
        )
