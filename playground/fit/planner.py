"""Plans the memory of a model before it is loaded, by asking llama.cpp itself.

Keeps a few dry-run children open, so that a slider is live. Adds nothing of its own to what they say but the vocabulary
of a model without a file; what the machine has is machine/memory.py's to say.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from playground.errors import ModelNotFound, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.planner_worker import ChildKilled, PlannerProcess
from playground.llama.params import ContextParameters
from playground.models.catalog import Blueprint

__all__ = ["MemoryPlan", "Planner", "Subject"]

Subject = str | PathLike[str] | Blueprint

_MOST_ANSWERS: Final = 4096
# Of a process that has read the vocabulary: 164 for Gemma's 262,144 tokens, 330 for SmolLM2's 49,152 and their merges.
_VOCABULARY_BYTES_PER_TOKEN: Final = 250


class Planner:
    """Answers what a model would need. Safe to share between threads; a `with` resource.

    children: how many models stay open; the least recently used is closed first.
    timeout_seconds: the longest a question may take, opening included.
    """

    def __init__(self, children: int = 4, timeout_seconds: float = 20.0) -> None:
        self._most_children = children
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._subjects: OrderedDict[str, _OpenSubject] = OrderedDict()
        self._answers: OrderedDict[tuple[str, ContextParameters], MemoryPlan] = OrderedDict()
        self._closed = False

    def __enter__(self) -> Planner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def plan(self, subject: Subject, context: ContextParameters) -> MemoryPlan:
        """The memory of a model with that context. Answers already given cost nothing.

        subject: a GGUF file, or a stand-in for one; the first shard, beside the others, of a split one; or a blueprint,
        whose `weights` and `repacked` are 0 because they depend on the level.
        Raises ModelNotFound, BadModelFile with llama.cpp's words, or PlaygroundError when it gives no answer.
        """
        key, description = _identity(subject)
        with self._lock:
            if (known := self._answers.get((key, context))) is not None:
                self._answers.move_to_end((key, context))
                return known
        answer = self._open_subject(key, description).plan(context)
        with self._lock:
            self._answers[key, context] = answer
            while len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        return answer

    def trained_context(self, subject: Subject) -> int:
        """The context the model was trained for, in tokens. Raises as `plan` does."""
        return self._open_subject(*_identity(subject)).trained_context

    def close(self) -> None:
        with self._lock:
            self._closed = True
            subjects = tuple(self._subjects.values())
            self._subjects.clear()
        for subject in subjects:
            subject.close()

    def _open_subject(self, key: str, description: dict[str, Any]) -> _OpenSubject:
        with self._lock:
            if self._closed:
                raise PlaygroundError("The planner is closed.", "Start the playground again.")
            subject = self._subjects.setdefault(key, _OpenSubject(description, self._timeout_seconds))
            self._subjects.move_to_end(key)
            surplus = len(self._subjects) - self._most_children
            unused = [self._subjects.popitem(last=False)[1] for _ in range(surplus)]
        for old in unused:
            old.close()
        return subject


class _OpenSubject:
    """One model's child: started at the first question, replaced after its death, asked by one thread at a time.

    A thread may still hold one that was closed meanwhile: its question is answered, but no child stays behind.
    """

    def __init__(self, description: dict[str, Any], timeout_seconds: float) -> None:
        self._description = description
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._child: PlannerProcess | None = None
        self._closed = False

    @property
    def trained_context(self) -> int:
        with self._living_child() as child:
            return int(child.opened["trained_context"])

    def plan(self, context: ContextParameters) -> MemoryPlan:
        try:
            return self._asked(context)
        except ChildKilled:
            return self._asked(context)  # of another child

    def _asked(self, context: ContextParameters) -> MemoryPlan:
        with self._living_child() as child:
            sizes = child.ask(context)
        unread = 0 if "path" in self._description else child.opened["vocabulary_size"] * _VOCABULARY_BYTES_PER_TOKEN
        sizes["base"] += unread
        return MemoryPlan(context=context, weights=child.opened["weights"], repacked=child.opened["repacked"], **sizes)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._end_child()

    @contextmanager
    def _living_child(self) -> Iterator[PlannerProcess]:
        with self._lock:
            if self._child is not None and not self._child.alive:
                self._end_child()
            if self._child is None:
                self._child = PlannerProcess(self._description, self._timeout_seconds)
            try:
                yield self._child
            finally:
                if self._closed:
                    self._end_child()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _identity(subject: Subject) -> tuple[str, dict[str, Any]]:
    """What a model is known by here, and how it is described to a child. A file that has changed is another model."""
    if isinstance(subject, Blueprint):
        description = {
            "architecture": subject.architecture,
            "metadata": dict(subject.metadata),
            "vocabulary_size": subject.vocabulary_size,
        }
        return json.dumps(description, sort_keys=True), description
    path = Path(subject).absolute()
    try:
        status = path.stat()
    except OSError as error:
        raise ModelNotFound(f"There is no model file {path.name} to plan.", "Choose another one.") from error
    return json.dumps([str(path), status.st_mtime_ns, status.st_size]), {"path": str(path)}
