"""How a chat comes back: after a reload or a lost connection, after it was cleared, and out of a file.

A browser's tab keeps its chat as text, because the server forgets a page soon after it was closed; so what comes back
is read as what a stranger may have written. A reply that was under way is asked of the server first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from playground.app.chat.updates import ChatUpdate, ContextUse, ReplyActivity, refused_update
from playground.app.messages import CLEAR, Notice
from playground.app.resumable import ResumableReplies
from playground.chat.history import HistoryLimits
from playground.chat.saved_chat import (
    ChatSettings,
    read_chat_settings,
    read_growing_reply,
    read_saved_chat,
    read_stored_settings,
)
from playground.chat.session import ChatSession
from playground.chat.template.message import Message
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.text_format import counted

TOO_LONG: Final = "too long"  # what a browser keeps in place of a chat for which it has no room
_LINKED: Final = "chat"  # what a link asks for of Chat, and the beginning of the other names
_LOST: Final = "The page was away for too long, or the playground was restarted, so the end of the reply is missing."


@dataclass(frozen=True)
class KeptChat:
    """What a browser's tab kept of its chat for the page that opens next; it may hold anything.

    stored: the chat as JSON. growing: the reply that was being written, as `growing_text` writes it; "" if there was
    none. key: finds the reply on the server.
    """

    stored: str = ""
    growing: str = ""
    key: str = ""


class ChatKeeping:
    """Serves all visitors. replies: those that go on without their page for a while."""

    def __init__(self, runs: Runs, limits: HistoryLimits, replies: ResumableReplies[ChatUpdate]) -> None:
        self.runs, self.limits, self.replies = runs, limits, replies

    def clear_chat(self, session: ChatSession, key: str = "") -> ChatUpdate:
        """A new chat, from which one can go back until the next message."""
        self.replies.forget(key)
        cleared = Notice("The chat was cleared. Undo brings it back.")
        return replace(_other_chat(session.cleared()), problem=cleared)

    def undo_clear(self, session: ChatSession) -> ChatUpdate:
        """The chat before it was cleared, or before another one was opened."""
        return _other_chat(session.replaced or session)

    def open_chat(self, visitor: Visitor, session: ChatSession, path: Path) -> tuple[ChatUpdate, ChatSettings]:
        """The chat in an uploaded file, and how its replies were made; the chat until now can be brought back."""
        try:
            text = _read_text(path, 8 * self.limits.all_characters)
            opened, settings = read_saved_chat(text, self.limits, self.runs.limits.reply_tokens, path.name)
            if opened.is_empty:
                raise RequestRefused(f"{path.name} is a chat without messages.", "Choose another file.")
        except PlaygroundError as error:
            return refused_update(error, visitor), ChatSettings()
        back = " Undo brings the chat before it back." if not session.is_empty else ""
        notice = Notice(f"{path.name} is open: {counted(len(opened.conversation.messages), 'message')}.{back}", "good")
        return replace(_other_chat(opened.in_place_of(session)), problem=notice), settings

    def read_settings(self, stored: str) -> ChatSettings:
        """The settings that a browser's tab kept; it may send anything instead."""
        return read_stored_settings(stored, self.limits, self.runs.limits.reply_tokens)

    def read_link(self, query: Mapping[str, str]) -> ChatSettings | None:
        """The model that a link asks for, and how it runs; None for a link that names none. It may hold anything.

        Such as `chat=SmolLM2-135M-Instruct%3AQ4_1&chat_context=4096&chat_kv=q8_0&chat_device=cpu&chat_thinking=off`.
        """
        model, _, level = query.get(_LINKED, "").rpartition(":")
        size = query.get(f"{_LINKED}_context")
        is_number = size is not None and size.isascii() and size.isdigit() and len(size) < 10
        settings = {
            "context_size": int(size) if size and is_number else size,
            "kv_type": query.get(f"{_LINKED}_kv"),
            "device": query.get(f"{_LINKED}_device"),
            "thinking": query.get(f"{_LINKED}_thinking"),
        }
        data = {"choice": {"model": model, "level": level}, "settings": settings}
        asked = read_chat_settings(data, self.limits, self.runs.limits.reply_tokens)
        return asked if asked.model else None

    def restore_chat(self, visitor: Visitor, kept: KeptChat) -> Iterator[ChatUpdate]:
        """The chat that a browser's tab kept, and its reply: whole if that has ended meanwhile, else as it goes on."""
        restored = self._read_kept_chat(visitor, kept.stored)
        session = restored.session or ChatSession()
        newest, goes_on = self.replies.find(kept.key)
        if newest and newest.session and (goes_on or session.is_waiting_in(newest.session)):
            for update in self.replies.resume(kept.key, visitor):
                yield replace(update, problem=None) if update.problem == CLEAR else update
            return
        if session.is_waiting and kept.growing:
            restored = _without_its_reply(session, read_growing_reply(kept.growing, self.limits))
        yield restored

    def _read_kept_chat(self, visitor: Visitor, stored: str) -> ChatUpdate:
        if not stored:
            return ChatUpdate(phase="rest")
        if stored == TOO_LONG:
            lost = "This chat was longer than a browser can keep, so it did not come back. Save long chats as JSON."
            return ChatUpdate(phase="rest", problem=Notice(lost, "warning"))
        try:
            most_tokens = self.runs.limits.reply_tokens
            session, _ = read_saved_chat(stored, self.limits, most_tokens, "The chat kept by this browser")
        except RequestRefused as error:
            refusal = RequestRefused(error.problem, "A new chat was started.", setting=error.setting)
            return replace(refused_update(refusal, visitor), phase="rest")
        return ChatUpdate(session, phase="rest")


def _other_chat(session: ChatSession) -> ChatUpdate:
    """Another chat than before, at rest."""
    return ChatUpdate(
        session, phase="rest", activity=ReplyActivity(), context=ContextUse(), problem=CLEAR, progress=CLEAR
    )


def _without_its_reply(session: ChatSession, message: Message) -> ChatUpdate:
    """A chat whose reply did not outlive the absence of its page: with the part of it that the browser kept."""
    if not (message.content or message.thinking):
        lost = Notice(f"{_LOST} Regenerate asks again.", "warning")
        return ChatUpdate(session.with_answer_back(), phase="rest", problem=lost)
    lost = Notice(f"{_LOST} What had come is kept; Regenerate writes the reply again.", "warning")
    return ChatUpdate(session.with_partial_reply(message, _LOST), phase="rest", problem=lost)


def _read_text(path: Path, most_bytes: int) -> str:
    """An uploaded text. Raises RequestRefused if it is not UTF-8, or has more bytes."""
    try:
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except OSError as error:
        raise RequestRefused("The file is not here any more.", "Choose it again.") from error
    if len(raw) > most_bytes:
        raise RequestRefused(f"{path.name} is longer than any chat here may be.", setting="max_message_characters")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{path.name} is not a text in UTF-8.", "Choose a chat saved as JSON.") from error
