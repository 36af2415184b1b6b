"""The settings: one PLAYGROUND_* environment variable each, read once at the start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from playground.errors import PlaygroundError
from playground.servers import RemoteServer, read_servers


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "gguf-playground"


def _is_space() -> bool:
    """Whether this is a Hugging Face Space, which is open to everybody: defaults are stricter there."""
    return "SPACE_ID" in os.environ


def _limit(here: Any, on_space: Any) -> Any:
    return Field(default_factory=lambda: on_space if _is_space() else here, gt=0)


def _not_on_space() -> Any:
    return Field(default_factory=lambda: not _is_space())


class Settings(BaseSettings):
    """Every field is the variable PLAYGROUND_<FIELD>. Sizes in bytes or tokens, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="PLAYGROUND_", frozen=True, extra="ignore")

    host: str = Field(default_factory=lambda: "0.0.0.0" if _is_space() else "127.0.0.1")
    port: int = Field(7860, ge=0, le=65535)  # 0: the system chooses a free one
    on_space: bool = Field(default_factory=_is_space)
    model_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    data_dir: Path = Field(default_factory=_default_data_dir)  # levels made here, results, cached headers
    remotes: Annotated[tuple[RemoteServer, ...], NoDecode] = ()  # OpenAI-compatible servers, see servers.py
    allow_remotes: bool | None = None  # added on the page; None: only if nobody else can open it
    remote_silence_seconds: float = Field(120, gt=0)  # a reply fails when its server sends nothing for so long

    slots: int = Field(4, ge=1, le=64)  # chats that one loaded model serves at once
    idle_seconds: float = Field(900, gt=0)  # an unused model is unloaded after this time
    allow_load_anyway: bool = _not_on_space()  # a model that should not fit
    allow_quantize: bool = _not_on_space()  # making levels on this disk
    allow_delete: bool = _not_on_space()  # of models, which all visitors share
    allow_local_files: bool = _not_on_space()  # any path that a visitor types
    allow_downloads: bool = True
    allow_lab: bool = True  # measurements; for making levels see allow_quantize
    allowed_repos: Annotated[tuple[str, ...] | None, NoDecode] = Field(  # `owner/name`, `owner/*`; None: all
        default_factory=lambda: ("catalogue",) if _is_space() else None
    )
    password: SecretStr = SecretStr("")  # to open the page; "": none
    max_message_characters: int = _limit(100_000, 20_000)
    max_history_messages: int = Field(200, ge=2)
    max_dropped_bytes: int = Field(64 << 30, ge=1)  # size of a model file dropped onto the page
    max_reply_tokens: int = _limit(4096, 1024)
    max_reply_seconds: float = _limit(1800, 300)  # for prompt and reply; the wait before has its own limit
    max_wait_seconds: float = _limit(1800, 600)  # for memory, a load and a free slot
    max_replies: int = _limit(64, 32)  # of all visitors, those that wait included
    max_replies_per_visitor: int = _limit(3, 2)  # fewer than the slots, so that one stays free for others
    max_lab_runs: int = _limit(4, 2)  # measurements and levels being made
    max_lab_runs_per_visitor: int = _limit(2, 1)
    max_lab_seconds: float = _limit(7200, 900)
    max_downloads: int = _limit(20, 4)
    max_downloads_per_visitor: int = _limit(10, 1)
    max_results: int = _limit(1_000_000, 100_000)  # votes kept in the data folder
    max_results_per_visitor_an_hour: int = _limit(200, 60)
    turn_seconds: float = _limit(60, 20)  # after this wait a model comes before new replies of others
    tab_seconds: float = _limit(7 * 86_400, 6 * 3600)  # how long the state of an open page is kept
    proxies: int = Field(0, ge=0, le=10)  # in front of the page; their X-Forwarded-For is trusted
    updates_per_second: float = Field(5, gt=0, le=10)  # of a streaming reply; each costs the model some speed
    mcp: bool = False  # offer the API's endpoints as MCP tools, too
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    metrics: bool = False  # readiness and Prometheus metrics under /gradio_api/
    log_chats: bool = False  # write questions and answers to the log, too

    @field_validator("model_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("allowed_repos", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """Names separated by spaces or commas; `*` is every repository, "" none."""
        if not isinstance(value, str):
            return value
        names = tuple(value.replace(",", " ").split())
        return None if "*" in names else names

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("remotes", mode="before")
    @classmethod
    def _read_servers(cls, value: Any) -> Any:
        return read_servers(value, os.environ) if isinstance(value, str) else value

    @property
    def may_add_remotes(self) -> bool:
        """Whether visitors may add servers. Every address they type makes this computer send a request to it."""
        if self.allow_remotes is not None:
            return self.allow_remotes
        return not self.on_space and self.host in ("127.0.0.1", "::1", "localhost")


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process. Raises PlaygroundError with the name of a variable that cannot be read."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "PLAYGROUND_" + "_".join(str(part) for part in first["loc"]).upper()
        raise PlaygroundError(
            f"The setting {name} is {first['input']!r}: {first['msg']}.", "Change or unset the variable."
        ) from error
