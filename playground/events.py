"""The log: one line on standard error for each thing that happened.

Each event has a function here, which the code calls where it happens; its name and its fields are fixed here. What
people and models wrote is never a field: it travels beside them, and is written only if the settings ask for it.
Nothing is written before `write_to_stderr`, so the command line writes none of this. The metrics
(web/server/metrics.py) get the same events, written or not.

    2026-11-24 10:55:01 info reply model=Qwen3-0.6B-Q4_K_M.gguf reason="end of text" tokens=210 tokens_per_second=14.2
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Final, Literal

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
Fields = Mapping[str, Any]  # of one event, unrounded

_ROOT: Final = "playground"
_LOG: Final = logging.getLogger("playground.events")
_LOG.addHandler(logging.NullHandler())  # a command says on standard error what went wrong, and no more
_LOG.setLevel(logging.DEBUG)  # for subscribers; the handler that writes has a level of its own
_PLAIN: Final = re.compile(r"[\w.:/@+\-]+", re.ASCII)  # a value that needs no quotes in a line of text
_MAX_VALUE_CHARACTERS: Final = 2000


# --- what happens ---


def started(version: str, address: str, on_space: bool) -> None:
    _log("start", version=version, address=address, on_space=on_space, pid=os.getpid())


def model_loaded(
    model: str,
    context_size: int,
    seconds: float,
    plan_bytes: int,
    device: str = "CPU",
    gpu_layers: int | None = None,
    backend: str | None = None,
) -> None:
    """device: CPU, CUDA0, CUDA0 + CPU. gpu_layers: on GPUs, with the output; backend: of these. None for the CPU."""
    _log(
        "model loaded", model=model, context_size=context_size, seconds=seconds, plan_bytes=plan_bytes, device=device,
        gpu_layers=gpu_layers, backend=backend,
    )  # fmt: skip


def model_not_loaded(model: str, error: str, why: str) -> None:
    """error: the kind of failure, as for a reply."""
    _log("model not loaded", logging.WARNING, model=model, error=error, why=why)


def model_died(model: str, pid: int, why: str) -> None:
    _log("model died", logging.ERROR, model=model, worker_pid=pid, why=why)


@dataclass(frozen=True)
class ReplyFigures:
    """The engine's (or a server's) figures of one reply, in tokens and seconds; None where there is none."""

    tokens: int = 0  # generated
    prompt_tokens: int | None = None  # evaluated, without those that were in the cache
    queued_seconds: float | None = None
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    seconds: float | None = None
    disturbed: bool | None = None  # True: something else had the cores, so the speed is not what the model reaches


def reply_ended(
    model: str,
    visitor: str,
    via: str,
    reason: str,
    figures: ReplyFigures,
    *,
    error: str = "",
    tool_calls: int = 0,
    malformed_calls: int = 0,
    chat: Mapping[str, str],
) -> None:
    """reason: the engine's, "stopped" or "failed". error: the kind of failure. chat: what was written, by field name.

    tool_calls, malformed_calls: calls of functions in it, and what looked like calls but was given back as text.

    The text of a failure belongs to `chat`: a template or a server can put the question into it.
    """
    level = logging.WARNING if reason == "failed" else logging.INFO
    _log(
        "reply", level, chat, model=model, visitor=visitor or None, via=via or None, reason=reason,
        error=error or None, tool_calls=tool_calls or None, malformed_calls=malformed_calls or None, **asdict(figures),
    )  # fmt: skip


def refused(visitor: str, via: str, setting: str, why: str) -> None:
    """A request that was refused. setting: the one that decides so, "" if none does."""
    _log("refused", visitor=visitor or None, via=via or None, setting=setting or None, why=why)


def scoring_ended(writer: str, reader: str, visitor: str, outcome: str, error: str = "") -> None:
    """One model's answer was read by another: outcome "done", "stopped" or "failed"; error: the kind of failure."""
    level = logging.WARNING if outcome == "failed" else logging.INFO
    _log("scoring", level, writer=writer, reader=reader, visitor=visitor, outcome=outcome, error=error or None)


def texts_embedded(model: str, visitor: str, via: str, outcome: str, texts: int, tokens: int, error: str = "") -> None:
    """texts, tokens: of which the program has the vectors. outcome: "done", "stopped" or "failed"."""
    level = logging.WARNING if outcome == "failed" else logging.INFO
    _log(
        "embedding", level, model=model, visitor=visitor, via=via or None, outcome=outcome, texts=texts, tokens=tokens,
        error=error or None,
    )  # fmt: skip


def download_ended(model: str, state: str, received_bytes: int, why: str) -> None:
    level = logging.WARNING if state == "failed" else logging.INFO
    _log("download ended", level, model=model, state=state, received_bytes=received_bytes, why=why or None)


def level_made(model: str, level: str, size_bytes: int, seconds: float) -> None:
    _log("level made", model=model, level_name=level, size_bytes=size_bytes, seconds=seconds)


def level_not_made(model: str, level: str, why: str) -> None:
    _log("level not made", logging.WARNING, model=model, level_name=level, why=why)


def shut_down() -> None:
    _log("shutdown", pid=os.getpid())


# --- who gets them ---


@contextmanager
def subscribed(on_event: Callable[[str, Fields], None]) -> Iterator[None]:
    """During the `with`, call `on_event` with each event and its fields, in the thread in which it happens."""
    subscriber = _Subscriber(on_event)
    _LOG.addHandler(subscriber)
    try:
        yield
    finally:
        _LOG.removeHandler(subscriber)


class _Subscriber(logging.Handler):
    def __init__(self, on_event: Callable[[str, Fields], None]) -> None:
        super().__init__()
        self._on_event = on_event

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._on_event(record.getMessage(), getattr(record, "fields", {}))
        except Exception:  # a subscriber that fails must not break what it watches
            self.handleError(record)


def write_to_stderr(level: Level, format: Format, *, chats: bool) -> None:
    """Write events from now on, in this process; a second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level.upper())
    handler.setFormatter(LineFormatter(format, chats=chats))
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


# --- how they are written ---


class LineFormatter(logging.Formatter):
    """One line for each record, line breaks escaped: text for people, or a JSON object."""

    def __init__(self, format: Format = "text", *, chats: bool = False) -> None:
        super().__init__()
        self._as_json, self._chats = format == "json", chats

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        level = record.levelname.lower()
        event, fields = _event_of(record, chats=self._chats)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if self._as_json:
            time = moment.isoformat(timespec="milliseconds")
            return json.dumps({"time": time, "level": level, "event": event, **fields}, ensure_ascii=False)
        words = [moment.strftime("%Y-%m-%d %H:%M:%S"), level, event]
        return " ".join((*words, *(f"{name}={_as_text(value)}" for name, value in fields.items())))


def _event_of(record: logging.LogRecord, *, chats: bool) -> tuple[str, dict[str, Any]]:
    """A record's event and fields; a record of any other logger is the event "note"."""
    fields: Mapping[str, Any] | None = getattr(record, "fields", None)
    if fields is None:
        return "note", {"of": record.name, "why": record.getMessage()}
    chat: Mapping[str, str] = getattr(record, "chat", {}) if chats else {}
    return record.getMessage(), {**{name: _rounded(value) for name, value in fields.items()}, **chat}


def _rounded(value: object) -> object:
    return round(value, 2) if isinstance(value, float) else value


def _as_text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _log(event: str, level: int = logging.INFO, chat: Mapping[str, str] | None = None, /, **fields: object) -> None:
    known = {
        name: value[:_MAX_VALUE_CHARACTERS] if isinstance(value, str) else value
        for name, value in fields.items()
        if value is not None
    }
    _LOG.log(level, "%s", event, extra={"fields": known, "chat": dict(chat or {})})
