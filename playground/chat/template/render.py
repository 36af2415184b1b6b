"""Turns a conversation into the prompt that a model was trained on, by the chat template inside its file.

The template is a program by a stranger; sandbox.py runs it and budget.py bounds it. This room knows what templates
expect to be given, how they differ in what they take, and how to say what went wrong. It knows nothing of tokens.
"""

from __future__ import annotations

import functools
import itertools
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

import jinja2
from jinja2 import meta

from playground.chat.template.budget import BUDGET, Budget, Refusal, TemplateLimits
from playground.chat.template.sandbox import Sandbox
from playground.errors import TemplateRefused

# ChatML, the most common form of a prompt, for models that bring no template.
CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_END_OF_TURN: Final = "<|im_end|>"

_FALLBACK_NOTE: Final = (
    "This model file has no chat template: the playground uses ChatML, the most common one. "
    "If the replies look odd, the model may not be made for chatting."
)
_NO_SYSTEM_NOTE: Final = (
    "This model's template has no place for instructions: they are put in front of the first message instead."
)
_SUBJECT: Final = "The chat template of this model"
_REMEDY: Final = "Try another file of this model, or another model."
_THINKING_SWITCHES: Final = ("enable_thinking", "thinking")  # Qwen, SmolLM3, GLM, Gemma … ; Granite, DeepSeek
_PROBE_SYSTEM, _PROBE_USER = "Amaranth.", "Bergamot."

Result = TypeVar("Result")


@dataclass(frozen=True)
class Message:
    """One turn; `thinking` is what the assistant thought before it answered."""

    role: Literal["system", "user", "assistant"]
    content: str
    thinking: str = ""


class ChatTemplate:
    """A chat template ready to render; raises TemplateRefused where it cannot be read.

    source: Jinja, as in a GGUF file's `tokenizer.chat_template`; None takes ChatML. bos and eos: the texts of the
    model's first and last token, which templates write themselves.
    """

    def __init__(self, source: str | None, bos: str, eos: str, limits: TemplateLimits | None = None) -> None:
        self.is_fallback = not (source and source.strip())
        self._limits = limits or TemplateLimits()
        self._tokens = {"bos_token": bos, "eos_token": eos}
        text = CHATML if self.is_fallback or source is None else source
        if len(text) > self._limits.source_characters:
            raise TemplateRefused(
                f"The chat template is {len(text)} characters long; the playground reads up to "
                f"{self._limits.source_characters}.",
                _REMEDY,
            )
        self._sandbox = Sandbox()
        self._compiled, self._names = _in_plain_words(lambda: self._read(text))

    def render(self, messages: Sequence[Message], *, thinking: bool | None = None) -> str:
        """The prompt, up to where the assistant's next reply begins; raises TemplateRefused.

        thinking: asks the model to think first, or not to; None leaves it to the template. A template without a system
        role gets the system text in front of the first message, and one that insists on alternating roles gets
        neighbours of the same role as one message.
        """
        given = list(messages) if self.takes_system else _with_system_folded(messages)
        try:
            return self._run(given, thinking, as_parts=self._takes_parts)
        except _TemplateObjects:
            merged = _with_neighbours_merged(given)
            if len(merged) == len(given):
                raise
            return self._run(merged, thinking, as_parts=self._takes_parts)

    @property
    def note(self) -> str:
        """What a person should know of this template; empty where there is nothing to say."""
        if self.is_fallback:
            return _FALLBACK_NOTE
        return "" if self.takes_system else _NO_SYSTEM_NOTE

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Where a reply ends besides the model's own end token: ChatML's mark may be ordinary text to this model."""
        return (CHATML_END_OF_TURN,) if self.is_fallback else ()

    @property
    def can_switch_thinking(self) -> bool:
        """Whether `thinking` changes anything."""
        return any(switch in self._names for switch in _THINKING_SWITCHES)

    @functools.cached_property
    def takes_system(self) -> bool:
        """Whether a system text reaches the prompt; asked of the template by a trial."""
        trial = [Message("system", _PROBE_SYSTEM), Message("user", _PROBE_USER)]
        try:
            return _PROBE_SYSTEM in self._run(trial, None, as_parts=self._takes_parts)
        except _Stopped:
            raise
        except TemplateRefused:
            return not self._renders(trial[1:], as_parts=self._takes_parts)

    @functools.cached_property
    def _takes_parts(self) -> bool:
        """Whether contents must be lists of parts, as some templates of models that see pictures demand."""
        trial = [Message("user", _PROBE_USER)]
        return not self._renders(trial, as_parts=False) and self._renders(trial, as_parts=True)

    def _renders(self, trial: Sequence[Message], *, as_parts: bool) -> bool:
        try:
            return _PROBE_USER in self._run(trial, None, as_parts=as_parts)
        except _Stopped:
            raise
        except TemplateRefused:
            return False

    def _read(self, source: str) -> tuple[jinja2.Template, frozenset[str]]:
        words = sum(1 for _ in itertools.islice(self._sandbox.lex(source), self._limits.source_words + 1))
        if words > self._limits.source_words:  # reading would take seconds, which no clock could end
            raise Refusal(f"has more than {self._limits.source_words:,} words and signs")
        names = meta.find_undeclared_variables(self._sandbox.parse(source))
        return self._sandbox.from_string(source), frozenset(names)

    def _run(self, messages: Sequence[Message], thinking: bool | None, *, as_parts: bool) -> str:
        characters = sum(len(message.content) + len(message.thinking) for message in messages)
        budget = BUDGET.set(Budget(self._limits, len(messages), characters))
        variables: dict[str, Any] = {
            "messages": [_as_template_sees_it(message, as_parts) for message in messages],
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            **self._tokens,
        }
        if thinking is not None:
            variables |= dict.fromkeys(_THINKING_SWITCHES, thinking)
        try:
            return _in_plain_words(lambda: "".join(self._compiled.generate(**variables)))
        finally:
            BUDGET.reset(budget)


@functools.lru_cache(maxsize=32)
def chat_template(source: str | None, bos: str, eos: str) -> ChatTemplate:
    """The same template, read once: reading takes some milliseconds, and every reply asks for it."""
    return ChatTemplate(source, bos, eos)


class _Stopped(TemplateRefused):
    """The sandbox or its limits ended it: nothing is won by another try."""


class _TemplateObjects(TemplateRefused):
    """The template itself called raise_exception."""


def _as_template_sees_it(message: Message, as_parts: bool) -> dict[str, Any]:
    content = [{"type": "text", "text": message.content}] if as_parts else message.content
    seen: dict[str, Any] = {"role": message.role, "content": content}
    if message.thinking:  # templates that want earlier thoughts look here, others never see them
        seen |= {"reasoning_content": message.thinking, "thinking": message.thinking}
    return seen


def _with_system_folded(messages: Sequence[Message]) -> list[Message]:
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    others = [message for message in messages if message.role != "system"]
    for place, message in enumerate(others):
        if system and message.role == "user":
            others[place] = replace(message, content=f"{system}\n\n{message.content}")
            break
    return others


def _with_neighbours_merged(messages: Sequence[Message]) -> list[Message]:
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            both = f"{merged[-1].content}\n\n{message.content}".strip()
            merged[-1] = replace(message, content=both)
        else:
            merged.append(message)
    return merged


def _in_plain_words(work: Callable[[], Result]) -> Result:
    """Runs it; whatever the template does wrong becomes a TemplateRefused that says what, and where."""
    try:
        return work()
    except Refusal as reason:
        raise _Stopped(f"{_SUBJECT} was stopped{_line_of(reason)}: it {reason}.", _REMEDY) from reason
    except RecursionError:
        raise _Stopped(f"{_SUBJECT} was stopped: it is nested too deeply.", _REMEDY) from None
    except jinja2.TemplateSyntaxError as error:
        problem = f"{_SUBJECT} has an error in line {error.lineno}: {_shortened(error.message)}"
        raise TemplateRefused(problem, _REMEDY) from error
    except Exception as error:
        if type(error) is jinja2.TemplateError:  # by raise_exception, in the template's own words
            problem = f"{_SUBJECT} does not take this conversation: {_shortened(str(error))}"
            raise _TemplateObjects(problem, _REMEDY) from error
        words = _shortened(str(error) or type(error).__name__)
        raise TemplateRefused(f"{_SUBJECT} fails{_line_of(error)}: {words}", _REMEDY) from error


def _line_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
    return f" in line {lines[-1]}" if lines else ""


def _shortened(text: str | None) -> str:
    words = re.sub(r"\s+", " ", text or "").strip()
    words = words if len(words) <= 300 else words[:299] + "…"
    return words if words.endswith((".", "!", "?", "…")) else words + "."
