"""What the person who starts the playground can choose, read once from PLAYGROUND_* variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from playground.errors import PlaygroundError


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "gguf-playground"


class Settings(BaseSettings):
    """Every field is the variable PLAYGROUND_<FIELD>; sizes in bytes or tokens, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="PLAYGROUND_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(7860, ge=0, le=65535)  # 0 lets the system choose
    on_space: bool = Field(default_factory=lambda: "SPACE_ID" in os.environ)
    model_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    data_dir: Path = Field(default_factory=_default_data_dir)  # made levels, results, cached headers

    slots: int = Field(4, ge=1, le=64)  # chats that one loaded model serves at once
    idle_seconds: float = Field(900, gt=0)  # a model nobody uses is unloaded after this
    allow_load_anyway: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)
    allow_quantize: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)  # levels made on this disk
    allow_delete: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)  # models of all visitors
    allow_local_files: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)  # any path a visitor types
    allow_downloads: bool = True
    max_reply_tokens: int = Field(4096, ge=1)
    max_message_characters: int = Field(100_000, ge=1)
    max_history_messages: int = Field(200, ge=2)
    updates_per_second: float = Field(5, gt=0, le=10)  # each costs the model some speed

    @field_validator("model_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; raises PlaygroundError naming the variable that cannot be read."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "PLAYGROUND_" + "_".join(str(part) for part in first["loc"]).upper()
        raise PlaygroundError(
            f"The setting {name} is {first['input']!r}: {first['msg']}.", "Change or unset the variable."
        ) from error
