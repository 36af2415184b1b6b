"""A chat as its tab keeps it on the server: the conversation, how each reply ended, the attached instructions.

Plain frozen data, because Gradio copies a session's state. Knows no model and no component; `shown` gives the messages
in the form that a Chatbot takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from playground.chat.conversation import Conversation
from playground.chat.export import Transcript
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.markdown_escape import escape_markdown
from playground.chat.template.render import Message
from playground.engine.protocol import Finished, Sampling
from playground.errors import RequestRefused

THINKING_TITLE: Final = "Thinking …"
THOUGHTS_TITLE: Final = "Thoughts"


@dataclass(frozen=True)
class Instructions:
    """A text that goes before the chat: a skill file, a style guide, notes."""

    name: str
    text: str


@dataclass(frozen=True)
class ModelUsed:
    """Which model wrote the last reply, for the transcript."""

    title: str = ""
    file_name: str = ""
    level: str = ""
    context_size: int | None = 0


@dataclass(frozen=True)
class ChatSession:
    conversation: Conversation = field(default_factory=Conversation)
    finished: tuple[tuple[int, Finished], ...] = ()  # (place among the messages, how that reply ended)
    instructions: Instructions | None = None
    editing: bool = False  # the next message takes the place of the last question
    model: ModelUsed = field(default_factory=ModelUsed)
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None

    @property
    def is_empty(self) -> bool:
        return not self.conversation.messages

    @property
    def last_question(self) -> str:
        return next((m.content for m in reversed(self.conversation.messages) if m.role == "user"), "")

    def asked(self, text: str, limits: HistoryLimits) -> ChatSession:
        """With a question more, or with the last one changed; raises RequestRefused for too much or nothing."""
        checked_text(text, "The message", limits)
        changed = self.conversation.edit_last(text) if self.editing else self.conversation.ask(text)
        return self._with(changed)

    def asked_again(self) -> ChatSession:
        """Without the last reply."""
        return self._with(self.conversation.without_last_reply())

    def answered(self, message: Message, finished: Finished | None) -> ChatSession:
        place = len(self.conversation.messages)
        ends = (*self.finished, (place, finished)) if finished else self.finished
        return replace(self, conversation=self.conversation.answered(message), finished=ends)

    def with_system(self, system_text: str) -> ChatSession:
        """The system text of the next reply: the attached instructions after what was written."""
        parts = [system_text.strip(), self.instructions.text.strip() if self.instructions else ""]
        return replace(
            self, conversation=replace(self.conversation, system="\n\n".join(part for part in parts if part))
        )

    def cleared(self) -> ChatSession:
        """A new chat; the instructions stay."""
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

    def _with(self, conversation: Conversation) -> ChatSession:
        ends = tuple((place, end) for place, end in self.finished if place < len(conversation.messages))
        return replace(self, conversation=conversation, finished=ends, editing=False)


def shown(talk: ChatSession, growing: Message | None = None) -> list[dict[str, Any]]:
    """The messages for a Chatbot; `growing` is the reply that is being written."""
    messages = [*talk.conversation.messages, *([growing] if growing else [])]
    turns: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        still_thinking = growing is not None and place == len(messages) - 1 and not message.content
        if message.thinking:
            title = THINKING_TITLE if still_thinking else THOUGHTS_TITLE
            status = "pending" if still_thinking else "done"
            turns.append(
                {
                    "role": "assistant",
                    "content": escape_markdown(message.thinking),
                    "metadata": {"title": title, "status": status},
                }
            )
        if message.content:
            turns.append({"role": message.role, "content": escape_markdown(message.content)})
    return turns


def read_instructions(path: str | Path, limits: HistoryLimits) -> Instructions:
    """An uploaded text or Markdown file; raises RequestRefused when it is too long, empty or no text."""
    file = Path(path)
    most_bytes = 4 * limits.message_characters
    with file.open("rb") as opened:
        raw = opened.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise RequestRefused(
            f"{file.name} is too long: instructions may have {limits.message_characters:,} characters.",
            "Shorten it.",
            setting="max_message_characters",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{file.name} is not text in UTF-8.", "Attach a text or Markdown file.") from error
    if not text.strip() or "\x00" in text:
        raise RequestRefused(f"{file.name} holds no text.", "Attach a text or Markdown file.")
    return Instructions(file.name, checked_text(text, file.name, limits))
