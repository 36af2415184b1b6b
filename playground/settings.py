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


def _setting(description: str, here: Any, on_space: Any = ..., *, shown: str | None = None, **rules: Any) -> Any:
    """One field. The description and the defaults go into docs/settings.md.

    on_space: the default on a Space, if it is another one. shown: the default in words, where its value says little.
    """
    rules["json_schema_extra"] = {"shown": shown} if shown else None
    if on_space is ...:
        return Field(here, description=description, **rules)
    return Field(default_factory=lambda: on_space if _is_space() else here, description=description, **rules)


def _limit(description: str, here: Any, on_space: Any) -> Any:
    return _setting(description, here, on_space, gt=0)


def _not_on_space(description: str) -> Any:
    return _setting(description, True, False)


class Settings(BaseSettings):
    """Every field is the variable PLAYGROUND_<FIELD>. Sizes in bytes or tokens, times in seconds.

    The groups are the tables of docs/settings.md, which scripts/settings_table.py writes.
    """

    model_config = SettingsConfigDict(env_prefix="PLAYGROUND_", frozen=True, extra="ignore")

    # The page
    host: str = _setting(
        "the address to listen on; `0.0.0.0` lets others in your network use it", "127.0.0.1", "0.0.0.0"
    )
    port: int = _setting("the port; 0 lets the system choose", 7860, ge=0, le=65535)
    password: SecretStr = _setting(
        "asked of everybody who opens the page; any user name works", SecretStr(""), shown="none"
    )
    proxies: int = _setting(
        "how many proxies stand in front of the page; with 0, `X-Forwarded-For` is believed only from a proxy on this "
        "computer (a Space knows its own)", 0, ge=0, le=10,
    )  # fmt: skip
    tab_seconds: float = _limit(
        "what an open page keeps on the server is dropped after this time without a change", 7 * 86_400, 6 * 3600
    )
    updates_per_second: float = _setting(  # each costs the model some speed
        "how often the page is updated while a reply is written; a third of that when it is long", 4, gt=0, le=10
    )
    on_space: bool = Field(
        default_factory=_is_space, description="whether this is a Hugging Face Space",
        json_schema_extra={"shown": "set by the Space"},
    )  # fmt: skip

    # Models
    model_dirs: Annotated[tuple[Path, ...], NoDecode] = _setting(
        "folders with GGUF files, separated by `:`; folders inside them count", (), shown="none"
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="where the playground keeps its own files: levels made here, votes, headers from the Hub",
        json_schema_extra={"shown": "`~/.local/share/gguf-playground`"},
    )
    skills_dir: Path | None = _setting(
        "a folder with text and Markdown files that every chat may switch on as skills", None, shown="none"
    )
    slots: int = _setting("chats that one loaded model serves at once", 4, ge=1, le=64)
    idle_seconds: float = _setting("a loaded model that nobody uses for this time is unloaded", 900, gt=0)
    turn_seconds: float = _limit(
        "a load that has waited this long for memory goes before new replies of the models in its way", 60, 20
    )
    gpu_margin_bytes: int = _setting(
        "what Automatic leaves free of a GPU's memory for the screen and other programs", 1 << 30, shown="1 GiB", ge=0
    )
    gpu_margin_share: float = _setting(
        "the same as a share of that memory; the smaller of the two counts", 0.05, ge=0, lt=1
    )
    remotes: Annotated[tuple[RemoteServer, ...], NoDecode] = _setting(
        "OpenAI-compatible servers to use, too, as `name=address` with spaces between", (), shown="none"
    )
    zerogpu_index: str = _setting(
        "on a ZeroGPU Space: the index from which llama.cpp with CUDA is fetched at the start, for replies on the GPU; "
        "empty where there shall be none", "https://abetlen.github.io/llama-cpp-python/whl/cu125",
        shown="CUDA 12.5 of the bindings' project",
    )  # fmt: skip
    zerogpu_libraries: Path | None = _setting(
        "on a ZeroGPU Space: a folder with the package `llama_cpp` built for its GPU, used in place of the index", None,
        shown="none",
    )  # fmt: skip
    remote_silence_seconds: float = _setting("a server that sends nothing for so long counts as failed", 120, gt=0)

    # What visitors may do
    allow_load_anyway: bool = _not_on_space("whether a model that does not fit may be loaded after a warning")
    allow_quantize: bool = _not_on_space("whether levels may be made on this disk")
    allow_delete: bool = _not_on_space("whether models that the playground made or downloaded may be deleted")
    allow_local_files: bool = _not_on_space("whether a GGUF may be opened by its path, or dropped onto the page")
    allow_downloads: bool = _setting("whether models may be downloaded from the Hub", True)
    allowed_repos: Annotated[tuple[str, ...] | None, NoDecode] = _setting(
        "repositories of the Hub that may be found, opened and downloaded: `owner/name`, `owner/*`, `catalogue` (those "
        "that the tab Fit names), with spaces between; `*` for all", None, ("catalogue",),
        shown="all, on a Space `catalogue`",
    )  # fmt: skip
    allow_lab: bool = _setting(
        "whether levels may be measured, and comparisons run twice or scored token by token", True
    )
    allow_remotes: bool | None = _setting(
        "whether addresses of servers may be entered on the page", None,
        shown="only if the page is for this computer alone",
    )  # fmt: skip
    api: bool = _setting(
        "whether programs may use the OpenAI-compatible interface at `/v1`; where others can reach the page, only with "
        "a key (see [for programs](api.md))", True,
    )  # fmt: skip
    api_key: SecretStr = _setting("the key that programs send to `/v1`", SecretStr(""), shown="none")
    api_context: int = _setting(
        "the context size, in tokens, with which `/v1` loads a model that is not loaded", 8192, ge=256, le=16_777_216
    )
    mcp: bool = _setting("whether MCP programs may use the five endpoints as tools", False)
    mcp_servers: Path | None = _setting(
        "a file with MCP servers whose tools a chat may be given, in the usual form `{\"mcpServers\": …}`; ignored "
        "where others can reach the page (needs the extra `mcp`; see [tools](tools.md))", None, shown="none",
    )  # fmt: skip

    # Limits
    max_message_characters: int = _limit("the longest message; a whole chat may be ten times as long", 100_000, 20_000)
    max_history_messages: int = _setting("the longest chat, in messages", 200, ge=2)
    max_dropped_bytes: int = _setting(
        "the largest model file that may be dropped onto the page, where files of this computer may be opened",
        64 << 30, shown="64 GiB", ge=1,
    )  # fmt: skip
    max_reply_tokens: int = _limit("the longest reply", 4096, 1024)
    max_reply_seconds: float = _limit("the longest time for reading a prompt and writing the reply", 1800, 300)
    max_wait_seconds: float = _limit("the longest time to wait for memory, a load and a free slot", 1800, 600)
    max_replies: int = _limit("replies being written or waiting at once, of all visitors", 64, 32)
    max_replies_per_visitor: int = _limit("the same for one visitor; never all the slots of a model", 3, 2)
    max_lab_runs: int = _limit("quantization jobs, measurements and scorings at once, of all visitors", 4, 2)
    max_lab_runs_per_visitor: int = _limit("the same for one visitor", 2, 1)
    max_lab_seconds: float = _limit("the longest time for one of them", 7200, 900)
    max_downloads: int = _limit("downloads under way or waiting, of all visitors", 20, 4)
    max_downloads_per_visitor: int = _limit("the same for one visitor", 10, 1)
    max_results: int = _limit("votes that are kept", 1_000_000, 100_000)
    max_results_per_visitor_an_hour: int = _limit("how many of them one visitor may give within an hour", 200, 60)

    # Log and figures
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "how much is written to standard error: `debug`, `info`, `warning`, `error`", "info"
    )
    log_format: Literal["text", "json"] = _setting("one line for each event, as `text` or as `json`", "text")
    log_chats: bool = _setting("whether questions and answers are in the log, too", False)
    metrics: bool = _setting(
        "whether `/gradio_api/livez` and `readyz` (or `healthz`) say that the page lives and is ready, and `metrics` "
        "has figures for Prometheus (needs the extra `metrics`; see [hosting](hosting.md#watching-it))", False,
    )  # fmt: skip

    @field_validator("model_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("mcp_servers", mode="before")
    @classmethod
    def _from_home(cls, value: Any) -> Any:
        return (Path(value).expanduser() if value else None) if isinstance(value, str) else value

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
    def is_for_this_computer(self) -> bool:
        """Whether no other computer can reach the page."""
        return not self.on_space and not self.proxies and self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def offers_api(self) -> bool:
        return self.api and (self.is_for_this_computer or bool(self.api_key.get_secret_value()))

    @property
    def offered_mcp_servers(self) -> Path | None:
        """The file of MCP servers. They act with the rights of the person who started the playground, so only there."""
        return self.mcp_servers if self.is_for_this_computer else None

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
