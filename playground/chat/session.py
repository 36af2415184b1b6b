"""The chat of one page, as the server keeps it: the conversation, how each reply ended, attached instructions.

Frozen data, because Gradio copies the state of a page.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from playground.chat.conversation import Conversation, WrittenReply
from playground.chat.export import Transcript, as_data
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.template.message import Message, ToolCall
from playground.chat.template.thinking import AS_IT_LIKES, ThinkingChoice
from playground.chat.tools.built_in import AttachedText
from playground.engine.protocol import Finished
from playground.errors import RequestRefused
from playground.llama.params import AUTOMATIC_CHOICE, DeviceChoice, KvType
from playground.llama.sampling_extras import Sampling

NOT_RUN: Final = "The person did not let this call run."
MOST_OTHER_ANSWERS: Final = 8  # to one question, by other levels


@dataclass(frozen=True)
class Instructions:
    """A text that is put in front of the chat: a skill file, a style guide, notes. skills: whose texts are in it."""

    name: str
    text: str
    skills: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelUsed:
    """The model that wrote the last reply, for the transcript. chosen: its model and level as a picker has them.

    device: where it was to run. ran_on: where it ran, in words; "" before a reply has ended.
    """

    title: str = ""
    file_name: str = ""
    level: str = ""
    context_size: int | None = None
    kv_type: KvType = "f16"
    chosen: tuple[str, str] | None = None
    device: DeviceChoice = AUTOMATIC_CHOICE
    ran_on: str = ""
    thinking: ThinkingChoice = AS_IT_LIKES


@dataclass(frozen=True)
class OtherAnswer:
    """What another level answered to the last question. finished: None where the reply has no end; then cut_short."""

    model: ModelUsed
    reply: Message
    finished: Finished | None = None
    cut_short: str = ""


@dataclass(frozen=True)
class ChatSession:
    """A chat. finished: how whole replies ended, by their index among the messages.

    cut_short: why each other reply has no end, in a sentence, by its index. editing: the index of the question that the
    next message replaces, with all that follows it. draft: what stood in the message box before that. replaced: the
    chat that was cleared, or that another one took the place of; it can be brought back until the next message.
    attached: a text for the tools to read; unlike the instructions it is no part of the prompt.
    written: the last reply as its model wrote it, so that it can go on; None where only its text is known.
    others: what other levels answered to the last question, the one that stands beside the newest answer at the end.
    """

    conversation: Conversation = field(default_factory=Conversation)
    finished: tuple[tuple[int, Finished], ...] = ()
    cut_short: tuple[tuple[int, str], ...] = ()
    instructions: Instructions | None = None
    attached: AttachedText | None = None
    editing: int | None = None
    draft: str = ""
    model: ModelUsed = field(default_factory=ModelUsed)
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    replaced: ChatSession | None = None
    others: tuple[OtherAnswer, ...] = ()
    written: WrittenReply | None = None

    @property
    def is_empty(self) -> bool:
        return not self.conversation.messages

    @property
    def has_own_instructions(self) -> bool:
        """Whether instructions came with the chat, which are on no shelf."""
        return self.instructions is not None and not self.instructions.skills

    @property
    def is_waiting(self) -> bool:
        """Whether the last message is a question, or what a tool returned, without a reply."""
        return not self.is_empty and not self.unanswered_calls and self.conversation.messages[-1].role != "assistant"

    def is_waiting_in(self, other: ChatSession) -> bool:
        """Whether this chat waits for a reply that the other one has, or waits for, too."""
        mine, theirs = self.conversation.messages, other.conversation.messages
        return (self.is_waiting or bool(self.unanswered_calls)) and theirs[: len(mine)] == mine

    @property
    def questions(self) -> tuple[int, ...]:
        """The indices of the questions among the messages."""
        return tuple(place for place, message in enumerate(self.conversation.messages) if message.role == "user")

    @property
    def last_question(self) -> str:
        return self.conversation.messages[self.questions[-1]].content if self.questions else ""

    @property
    def unanswered_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the last reply that have no result."""
        answered: set[str] = set()
        for message in reversed(self.conversation.messages):
            if message.role != "tool":
                return tuple(call for call in message.tool_calls if call.id not in answered)
            answered.add(message.answers)
        return ()

    @property
    def pending_calls(self) -> tuple[ToolCall, ...]:
        """Those of a reply that is whole: a person may let them run."""
        last = len(self.conversation.messages) - 1
        while last >= 0 and self.conversation.messages[last].role == "tool":
            last -= 1
        return self.unanswered_calls if any(place == last for place, _ in self.finished) else ()

    @property
    def rounds(self) -> int:
        """How many replies to the last question called tools."""
        later = self.conversation.messages[self.questions[-1] :] if self.questions else ()
        return sum(bool(message.tool_calls) for message in later)

    def with_result(self, call: ToolCall, result: str) -> ChatSession:
        """What a call of the last reply returned."""
        return replace(self, conversation=self.conversation.with_reply(Message("tool", result, answers=call.id)))

    def with_calls_refused(self, why: str) -> ChatSession:
        """The calls that have no result get this sentence as one, so that the chat can go on."""
        session = self
        for call in self.unanswered_calls:
            session = session.with_result(call, why)
        return session

    @property
    def last_end(self) -> Finished | None:
        """How the last reply ended; None where it has no end."""
        return dict(self.finished).get(len(self.conversation.messages) - 1)

    def with_question(self, text: str, limits: HistoryLimits) -> ChatSession:
        """Add a question, or replace the one that is being edited.

        Raises RequestRefused for a text that is empty or too long.
        """
        checked_text(text, "The message", limits)
        before = self.with_calls_refused(NOT_RUN).conversation
        before = before if self.editing is None else before.first_messages(self.editing)
        return self._with(before.with_question(text))

    def without_last_reply(self) -> ChatSession:
        """Up to the last question, to answer it again. Raises RequestRefused if there is none."""
        return replace(self._with(self.conversation.without_last_reply()), others=self.others)

    def with_reply(self, message: Message, finished: Finished) -> ChatSession:
        """Add a whole reply."""
        ends = (*self.finished, (len(self.conversation.messages), finished))
        return replace(self, conversation=self.conversation.with_reply(message), finished=ends)

    def with_partial_reply(self, message: Message, why: str, written: WrittenReply | None = None) -> ChatSession:
        """Add what was written of a reply that has no end, and why, in a sentence; nothing if nothing was written."""
        if not (message.content or message.thinking or message.tool_calls):
            return self
        ends = (*self.cut_short, (len(self.conversation.messages), why))
        return replace(self, conversation=self.conversation.with_reply(message), cut_short=ends, written=written)

    def with_system_prompt(self, text: str) -> ChatSession:
        """Set the system prompt of the next reply: this text, then the attached instructions."""
        parts = (text.strip(), self.instructions.text.strip() if self.instructions else "")
        system = "\n\n".join(part for part in parts if part)
        return replace(self, conversation=replace(self.conversation, system=system))

    @property
    def may_continue(self) -> bool:
        """Whether the last reply was cut off, by its length limit or before it had ended."""
        if self.is_empty or self.is_waiting or self.rounds or self.model.context_size is None:
            return False
        return self.last_end.reason == "length limit" if self.last_end else True

    @property
    def reply_to_continue(self) -> WrittenReply:
        """What is there of the last reply. Raises RequestRefused if it is whole."""
        if not self.may_continue:
            raise RequestRefused("There is no reply to continue.", "Ask something, or regenerate the last reply.")
        return self.written or WrittenReply(self.conversation.messages[-1])

    # --- the last question at another level ---

    @property
    def beside(self) -> OtherAnswer | None:
        """The answer that stands beside the newest one, until one of the two is kept."""
        return self.others[-1] if self.others else None

    def with_answer_aside(self) -> ChatSession:
        """Up to the last question; its answer until now is the one that stands beside the next."""
        asked = self.without_last_reply()
        if self.is_waiting:
            return asked
        place = len(self.conversation.messages) - 1
        finished, cut_short = dict(self.finished).get(place), dict(self.cut_short).get(place, "")
        aside = OtherAnswer(self.model, self.conversation.messages[place], finished, cut_short)
        others = (*(other for other in self.others if other.model.chosen != self.model.chosen), aside)
        return replace(asked, others=others[-MOST_OTHER_ANSWERS:])

    def with_other_answer(self, chosen: tuple[str, str]) -> ChatSession | None:
        """With what this model and level answered in the place of the last reply; None if it has no whole answer."""
        found = next((other for other in self.others if other.model.chosen == chosen and other.finished), None)
        return self.with_answer_aside()._with_answer(found) if found else None

    def with_answer_back(self) -> ChatSession:
        """With the answer beside in the place of one that did not come."""
        return self._with_answer(self.others[-1]) if self.is_waiting and self.others else self

    def with_newest_kept(self) -> ChatSession:
        """With the newest answer alone."""
        return replace(self, others=())

    def with_other_kept(self) -> ChatSession:
        """With the answer beside alone, in the place of the newest."""
        return replace(self.without_last_reply()._with_answer(self.others[-1]), others=()) if self.others else self

    def _with_answer(self, other: OtherAnswer) -> ChatSession:
        """After the last question; the model is again the one that gave it."""
        others = tuple(one for one in self.others if one is not other)
        session = replace(self, model=other.model, others=others, written=None)
        if other.finished:
            return session.with_reply(other.reply, other.finished)
        return session.with_partial_reply(other.reply, other.cut_short)

    # --- editing, clearing, and back ---

    def with_editing(self, question: int, draft: str) -> ChatSession:
        """Edit a question: the last one for -1, else the n-th from 0. Raises RequestRefused if there is none such.

        draft: what stands in the message box.
        """
        if not -1 <= question < len(self.questions) or not self.questions:
            raise RequestRefused("This chat has no such message.", "Choose one of your messages.")
        draft = draft if self.editing is None else self.draft
        return replace(self, editing=self.questions[question], draft=draft)

    def without_editing(self) -> ChatSession:
        return replace(self, editing=None, draft="")

    def cleared(self) -> ChatSession:
        """A new chat that keeps the instructions and the text for the tools."""
        return ChatSession(instructions=self.instructions, attached=self.attached).in_place_of(self)

    def in_place_of(self, other: ChatSession) -> ChatSession:
        """This chat, from which one can go back to the other."""
        return replace(self, replaced=None if other.is_empty else replace(other.without_editing(), replaced=None))

    # --- as text ---

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
            cut_short=dict(self.cut_short),
            kv_type=model.kv_type,
            choice={"model": model.chosen[0], "level": model.chosen[1]} if model.chosen else None,
            instructions=_as_kept(self.instructions) if self.instructions else None,
            attached=dataclasses.asdict(self.attached) if self.attached else None,
            device=model.device.text,
            ran_on=model.ran_on,
            thinking=model.thinking.text,
        )

    def to_stored_text(self) -> str:
        """The chat for the browser to keep, "" if it is empty; `read_saved_chat` (saved_chat.py) reads it back."""
        if self.is_empty and self.instructions is None and self.attached is None:
            return ""
        others = [as_data(self._with_only(other).transcript()) for other in self.others]
        kept = {"editing": self.editing, "draft": self.draft} | ({"others": others} if others else {})
        return json.dumps(as_data(self.transcript()) | kept)

    def _with_only(self, other: OtherAnswer) -> ChatSession:
        """A chat of this one answer, for the browser to keep."""
        return ChatSession(sampling=self.sampling, max_tokens=self.max_tokens)._with_answer(other)

    def _with(self, conversation: Conversation) -> ChatSession:
        kept = len(conversation.messages)
        return replace(
            self,
            conversation=conversation,
            finished=tuple(end for end in self.finished if end[0] < kept),
            cut_short=tuple(end for end in self.cut_short if end[0] < kept),
            editing=None,
            draft="",
            replaced=None,
            others=(),
            written=None,
        )


def _as_kept(instructions: Instructions) -> dict[str, Any]:
    kept = dataclasses.asdict(instructions)
    return kept if instructions.skills else {"name": instructions.name, "text": instructions.text}


def read_instructions(path: Path, limits: HistoryLimits) -> Instructions:
    """Read an uploaded text or Markdown file. Raises RequestRefused if it is too long, empty or not UTF-8 text."""
    most_bytes = 4 * limits.message_characters
    try:
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except OSError as error:
        raise RequestRefused("The file is not here any more.", "Choose it again.") from error
    if len(raw) > most_bytes:
        raise RequestRefused(
            f"{path.name} is too long: a skill may have {limits.message_characters:,} characters.",
            "Shorten it.",
            setting="max_message_characters",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{path.name} is not a text in UTF-8.", "Choose a text or Markdown file.") from error
    if not text.strip() or "\x00" in text:
        raise RequestRefused(f"{path.name} contains no text.", "Choose a text or Markdown file.")
    return Instructions(path.name, checked_text(text, path.name, limits))
