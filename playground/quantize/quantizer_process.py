"""The parent's side of the quantizer's child process: orders go in, answers come out, a death is an ordinary error."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any

from playground.errors import ModelStopped
from playground.llama.log import abort_message
from playground.machine.child_process import ChildProcess, describe_exit


class QuantizerProcess:
    """One `python -m playground.llama.quantizer.process`; a `with` resource, killed at its end even while it works."""

    def __init__(self) -> None:
        self._process = ChildProcess("playground.llama.quantizer.process")

    def __enter__(self) -> QuantizerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive

    def send_order(self, order: Mapping[str, Any]) -> None:
        self._process.send_line(json.dumps(order).encode())

    def read_answer(self, seconds: float) -> dict[str, Any] | None:
        """The next answer; None when none came in so many seconds. Raises ModelStopped when the child has ended."""
        try:
            answer: dict[str, Any] = json.loads(self._process.read_line(seconds))
        except TimeoutError:
            return None
        except (EOFError, ValueError):
            self._process.kill()
            raise self._cause_of_death() from None
        return answer

    def _cause_of_death(self) -> ModelStopped:
        code = self._process.wait_for_exit()
        if code == -signal.SIGKILL:
            remedy = "Unload a model, then try again."
        else:
            remedy = "Choose another level or another file."
        words = abort_message("\n".join(self._process.last_words()))
        return ModelStopped(f"llama.cpp's quantizer {describe_exit(code)}{f': {words}' if words else ''}.", remedy)
