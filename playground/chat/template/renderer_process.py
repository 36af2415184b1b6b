"""Renders templates in a confined child process (renderer.py): one at a time, each within a time limit.

The child is started when it is first needed and kept; one that took too long or too much memory is killed, and the next
render starts another. A template that was stopped so is refused at once for a while, so that it cannot make others wait
again and again.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from playground.errors import PlaygroundError, TemplateRefused
from playground.llama.log import printable
from playground.machine.child_process import ChildProcess

MODULE: Final = "playground.chat.template.renderer"
_START_SECONDS: Final = 60.0  # of a process that takes 0.2 s; for a machine whose cores and disk are all busy
_MOST_STOPPED: Final = 256  # templates remembered
_STARTS: Final = 2  # of a render: the child may have been killed from outside, as the system does for lack of memory
REMEDY: Final = "Try another file of this model, or another model."


@dataclass(frozen=True)
class TemplateLimits:
    """What a template may spend on one prompt; its length grows with the conversation, so that long chats are served.

    seconds: a render takes some milliseconds; everybody else's waits meanwhile.
    refused_seconds: for so long a template that was stopped is not tried again. Not for ever: a computer that stands
    still for some seconds stops an innocent one.
    """

    seconds: float = 3.0
    characters: int = 1_000_000
    characters_per_input_character: int = 8
    source_characters: int = 200_000
    refused_seconds: float = 600.0


class TemplateStopped(TemplateRefused):
    """Its limits or the sandbox ended it: another try with other messages is no use."""


class TemplateObjects(TemplateRefused):
    """The template itself called raise_exception."""


_KINDS: Final = {"stopped": TemplateStopped, "objects": TemplateObjects, "fails": TemplateRefused}


class TemplateRenderer:
    """Thread-safe; `close` ends the child, and the next render would start another."""

    def __init__(self, limits: TemplateLimits | None = None) -> None:
        self.limits = limits or TemplateLimits()
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._stopped: OrderedDict[str, tuple[float, str]] = OrderedDict()  # by hash: until when it is refused, and why

    def read_names(self, source: str) -> frozenset[str]:
        """The variables that a template reads. Raises TemplateRefused, also where the template cannot be read."""
        return frozenset(self._answer(source, {})["names"])

    def render(self, source: str, variables: Mapping[str, Any], input_characters: int) -> str:
        """The prompt. Raises TemplateRefused.

        input_characters: the length of the conversation, from which the longest prompt follows.
        """
        most = self.limits.characters + self.limits.characters_per_input_character * input_characters
        prompt: str = self._answer(source, {"variables": variables, "most_characters": most})["prompt"]
        return prompt

    def start_in_background(self) -> None:
        """Start the child, if there is none, without waiting for it: the first prompt then need not."""
        threading.Thread(target=self._start_quietly, name="start of the template renderer", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._close_child()

    def __enter__(self) -> TemplateRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, source: str, request: Mapping[str, Any]) -> dict[str, Any]:
        line = json.dumps({"source": source, "seconds": self.limits.seconds, **request}).encode()
        name = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        with self._lock:
            self._refuse_if_stopped(name)
            try:
                answer = self._exchange(line)
            except TimeoutError:
                seconds = f"{self.limits.seconds:g} seconds"
                raise self._stop(name, f"was stopped: it was still at work after {seconds}.") from None
            except EOFError:
                raise self._stop(name, "was stopped: the process that rendered it crashed.") from None
            if answer.get("out_of_memory"):
                raise self._stop(name, answer["why"])
        if "refused" in answer:
            raise _KINDS[answer["refused"]](_sentence(answer["why"]), REMEDY)
        return answer

    def _exchange(self, line: bytes) -> dict[str, Any]:
        """Raises TimeoutError, or EOFError when the child ended at every try."""
        for _ in range(_STARTS):
            child = self._living_child()
            child.send_line(line)
            with suppress(EOFError, ValueError):
                answer: dict[str, Any] = json.loads(child.read_line(self.limits.seconds))
                return answer
            self._close_child()
        raise EOFError

    def _stop(self, name: str, why: str) -> TemplateStopped:
        """Kill the child and remember the template."""
        self._close_child()
        self._stopped[name] = time.monotonic() + self.limits.refused_seconds, _sentence(why)
        while len(self._stopped) > _MOST_STOPPED:
            self._stopped.popitem(last=False)
        return TemplateStopped(_sentence(why), REMEDY)

    def _refuse_if_stopped(self, name: str) -> None:
        until, why = self._stopped.get(name, (0.0, ""))
        if time.monotonic() < until:
            raise TemplateStopped(why, REMEDY)

    def _living_child(self) -> ChildProcess:
        if self._child is not None and not self._child.is_alive:
            self._close_child()
        if self._child is None:
            try:
                self._child = ChildProcess(MODULE)
                self._child.read_line(_START_SECONDS)  # that it is ready
            except (TimeoutError, EOFError, OSError) as error:
                words = self._child.last_words()[-1:] if self._child else [str(error)]
                self._close_child()
                problem = "The process that renders chat templates cannot be started"
                raise PlaygroundError(f"{problem}: {printable(' '.join(words))}.", "Try again.") from None
        return self._child

    def _start_quietly(self) -> None:
        with suppress(PlaygroundError), self._lock:  # the first prompt meets the same error, and says so
            self._living_child()

    def _close_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _sentence(why: str) -> str:
    return f"The chat template of this model {why}"


# One for the whole program: it holds no state of anybody's, and its child takes memory. Nothing is started here.
RENDERER: Final = TemplateRenderer()
