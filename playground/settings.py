"""What the person who starts the playground can choose, read once from PLAYGROUND_* variables."""

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


def _usual(here: Any, on_space: Any) -> Any:
    """A default that is stricter on a Space, where anybody may come."""
    return Field(default_factory=lambda: on_space if "SPACE_ID" in os.environ else here, gt=0)


class Settings(BaseSettings):
    """Every field is the variable PLAYGROUND_<FIELD>; sizes in bytes or tokens, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="PLAYGROUND_", frozen=True, extra="ignore")

    host: str = Field(default_factory=lambda: "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1")
    port: int = Field(7860, ge=0, le=65535)  # 0 lets the system choose
    on_space: bool = Field(default_factory=lambda: "SPACE_ID" in os.environ)
    model_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    data_dir: Path = Field(default_factory=_default_data_dir)  # made levels, results, cached headers
    remotes: Annotated[tuple[RemoteServer, ...], NoDecode] = ()  # servers whose models can be used, too
    allow_remotes: bool | None = None  # entered on the page; None: only where it is for this computer alone
    remote_silence_seconds: float = Field(120, gt=0)  # a server that says nothing for so long is given up

    slots: int = Field(4, ge=1, le=64)  # chats that one loaded model serves at once
    idle_seconds: float = Field(900, gt=0)  # a model nobody uses is unloaded after this
    allow_load_anyway: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)
    allow_quantize: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)  # levels made on this disk
    allow_delete: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)  # models of all visitors
    allow_local_files: bool = Field(default_factory=lambda: "SPACE_ID" not in os.environ)  # any path a visitor types
    allow_downloads: bool = True
    allow_lab: bool = True  # controls and scorings; making levels has a switch of its own
    allowed_repos: Annotated[tuple[str, ...] | None, NoDecode] = Field(  # `owner/name`, `owner/*`; None: every one
        default_factory=lambda: ("catalogue",) if "SPACE_ID" in os.environ else None
    )
    password: SecretStr = SecretStr("")  # asked of everybody who opens the page; "" asks nobody
    max_message_characters: int = _usual(100_000, 20_000)
    max_history_messages: int = Field(200, ge=2)
    max_dropped_bytes: int = Field(64 << 30, ge=1)  # of a model file that is dropped onto the page
    max_reply_tokens: int = _usual(4096, 1024)
    max_reply_seconds: float = _usual(1800, 300)  # from the first sign of a reply
    max_wait_seconds: float = _usual(1800, 600)  # for memory, a load and a free slot
    max_replies: int = _usual(64, 32)  # being written or waiting, of all visitors
    max_replies_per_visitor: int = _usual(3, 2)  # fewer than the slots, so that one is left for others
    max_lab_runs: int = _usual(4, 2)  # levels made, controls, scorings
    max_lab_runs_per_visitor: int = _usual(2, 1)
    max_lab_seconds: float = _usual(7200, 900)
    max_downloads: int = _usual(20, 4)
    max_downloads_per_visitor: int = _usual(10, 1)
    max_results: int = _usual(1_000_000, 100_000)  # votes that the data folder keeps
    max_results_per_visitor_an_hour: int = _usual(200, 60)
    turn_seconds: float = _usual(60, 20)  # after which a waiting model's turn comes before new replies of others
    tab_seconds: float = _usual(7 * 86_400, 6 * 3600)  # what an open page left on the server is kept so long
    proxies: int = Field(0, ge=0, le=10)  # in front of the page, whose X-Forwarded-For is believed
    updates_per_second: float = Field(5, gt=0, le=10)  # each costs the model some speed
    mcp: bool = False  # the API's endpoints as tools for MCP programs, too
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    metrics: bool = False  # readiness and figures for Prometheus under /gradio_api/
    log_chats: bool = False  # questions and answers in the log, too

    @field_validator("model_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("allowed_repos", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """Names with spaces or commas between; `*` is every repository, "" none at all."""
        if not isinstance(value, str):
            return value
        names = tuple(value.replace(",", " ").split())
        return None if "*" in names else names

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _in_small_letters(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("remotes", mode="before")
    @classmethod
    def _read_servers(cls, value: Any) -> Any:
        return read_servers(value, os.environ) if isinstance(value, str) else value

    @property
    def may_add_remotes(self) -> bool:
        """Whether the page takes addresses of servers: who types one makes this computer ask it."""
        if self.allow_remotes is not None:
            return self.allow_remotes
        return not self.on_space and self.host in ("127.0.0.1", "::1", "localhost")


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
