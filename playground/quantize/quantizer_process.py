"""The parent's handle on the quantizer's child process: orders down, answers up, and an ordinary error when it dies.

Knows nothing of levels. Standard error goes to a nameless file, read only when the child has died: the last words of an
assertion of llama.cpp stand there.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from playground.errors import ModelStopped
from playground.machine.confinement import child_environment
from playground.machine.files import nameless_file

_LAST_WORDS_BYTES: Final = 4096


class QuantizerProcess:
    """One `python -m playground.llama.quantizer`; a `with` resource, ended at its close whatever it is doing."""

    def __init__(self) -> None:
        self._last_words = nameless_file()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "playground.llama.quantizer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._last_words,
            bufsize=0,
            env=child_environment(),
        )
        self._unread = b""
        self._answers = selectors.DefaultSelector()  # select() itself knows only the first 1,024 files of a process
        assert self._child.stdout is not None
        self._answers.register(self._child.stdout, selectors.EVENT_READ)

    def __enter__(self) -> QuantizerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._answers.close()
        for stream in (self._child.stdin, self._child.stdout, self._last_words):
            if stream is not None:
                stream.close()

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> None:
        """End the child at once."""
        self._child.kill()
        self._child.wait()

    def send(self, order: Mapping[str, Any]) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise self._death() from None

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next answer; None when none came in so many seconds. Raises ModelStopped when the child has ended."""
        assert self._child.stdout is not None
        while b"\n" not in self._unread:
            if not self._answers.select(seconds):
                return None
            piece = self._child.stdout.read(1 << 16)
            if not piece:
                raise self._death()
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> ModelStopped:
        code = self._child.wait()
        if code == -signal.SIGKILL:
            return ModelStopped(
                "The system ended llama.cpp's quantizer, most likely because memory ran out.",
                "Unload a model, then try again.",
            )
        self._last_words.seek(0, os.SEEK_END)
        self._last_words.seek(max(0, self._last_words.tell() - _LAST_WORDS_BYTES))
        lines = self._last_words.read().decode("utf-8", "replace").strip().splitlines()
        said = next((line for line in reversed(lines) if "GGML_ASSERT" in line), lines[-1] if lines else "nothing")
        return ModelStopped(f"llama.cpp's quantizer stopped and said: {said}", "Choose another level or another file.")
