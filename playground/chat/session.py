"""The chat of one page, as the server keeps it: the conversation, how each reply ended, attached instructions.

Frozen data, because Gradio copies the state of a page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from playground.chat.conversation import Conversation
from playground.chat.export import Transcript
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.template.render import Message
from playground.engine.protocol import Finished, Sampling
from playground.errors import RequestRefused


@dataclass(frozen=True)
class Instructions:
    """A text that is put in front of the chat: a skill file, a style guide, notes."""

    name: str
    text: str


@dataclass(frozen=True)
class ModelUsed:
    """The model that wrote the last reply, for the transcript."""

    title: str = ""
    file_name: str = ""
    level: str = ""
    context_size: int | None = 0


@dataclass(frozen=True)
class ChatSession:
    """A chat. finished: how replies ended, by their index among the messages.

    is_editing: the next message replaces the last one.
    """

    conversation: Conversation = field(default_factory=Conversation)
    finished: tuple[tuple[int, Finished], ...] = ()
    instructions: Instructions | None = None
    is_editing: bool = False
    model: ModelUsed = field(default_factory=ModelUsed)
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None

    @property
    def is_empty(self) -> bool:
        return not self.conversation.messages

    @property
    def last_question(self) -> str:
        return next((m.content for m in reversed(self.conversation.messages) if m.role == "user"), "")

    def with_question(self, text: str, limits: HistoryLimits) -> ChatSession:
        """Add a question, or replace the last one while editing.

        Raises RequestRefused for a text that is empty or too long.
        """
        checked_text(text, "The message", limits)
        conversation = self.conversation
        return self._with(
            conversation.replace_last_question(text) if self.is_editing else conversation.with_question(text)
        )

    def without_last_reply(self) -> ChatSession:
        """Up to the last question, to answer it again. Raises RequestRefused if there is none."""
        return self._with(self.conversation.without_last_reply())

    def with_reply(self, message: Message, finished: Finished | None) -> ChatSession:
        """Add a reply; finished: None if it was cut short."""
        index = len(self.conversation.messages)
        ends = (*self.finished, (index, finished)) if finished else self.finished
        return replace(self, conversation=self.conversation.with_reply(message), finished=ends)

    def with_system_prompt(self, text: str) -> ChatSession:
        """Set the system prompt of the next reply: this text, then the attached instructions."""
        parts = (text.strip(), self.instructions.text.strip() if self.instructions else "")
        system = "\n\n".join(part for part in parts if part)
        return replace(self, conversation=replace(self.conversation, system=system))

    def cleared(self) -> ChatSession:
        """A new chat that keeps the instructions."""
        return ChatSession(instructions=self.instructions)

    def transcript(self) -> Transcript:
        model = self.model
        return Transcript(
            title=model.title or "Chat",
            model_file=model.file_name,
            level=model.level,
            context_size=model.context_size,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            conversation=self.conversation,
            finished=dict(self.finished),
        )

    def to_stored_text(self) -> str:
        """The conversation for the browser to keep, "" if it is empty; `read_stored_session` reads it back."""
        return "" if self.is_empty else json.dumps(self.conversation.to_json())

    def _with(self, conversation: Conversation) -> ChatSession:
        ends = tuple((index, end) for index, end in self.finished if index < len(conversation.messages))
        return replace(self, conversation=conversation, finished=ends, is_editing=False)


def read_stored_session(stored: str, limits: HistoryLimits) -> ChatSession:
    """The chat that a browser kept; the browser may send anything.

    Raises RequestRefused for a chat beyond the limits, ValueError for a text that is not JSON.
    """
    if not stored:
        return ChatSession()
    if len(stored) > 8 * limits.all_characters:  # a chat within the limits is never so long, even with escapes
        raise RequestRefused(
            "The chat kept by this browser is too long.", "A new one was started.", setting="max_message_characters"
        )
    try:
        conversation = Conversation.from_untrusted(json.loads(stored), limits)
    except RecursionError as error:
        raise ValueError("too deeply nested JSON") from error
    return ChatSession(replace(conversation, system=""))


def read_instructions(path: Path, limits: HistoryLimits) -> Instructions:
    """Read an uploaded text or Markdown file. Raises RequestRefused if it is too long, empty or not UTF-8 text."""
    most_bytes = 4 * limits.message_characters
    with path.open("rb") as file:
        raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise RequestRefused(
            f"{path.name} is too long: instructions may have {limits.message_characters:,} characters.",
            "Shorten it.",
            setting="max_message_characters",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{path.name} is not a text in UTF-8.", "Attach a text or Markdown file.") from error
    if not text.strip() or "\x00" in text:
        raise RequestRefused(f"{path.name} contains no text.", "Attach a text or Markdown file.")
    return Instructions(path.name, checked_text(text, path.name, limits))
