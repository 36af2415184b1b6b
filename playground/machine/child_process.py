"""A Python module as a child process that speaks in lines: commands on its standard input, answers on its output.

A model file can abort llama.cpp, and a system short of memory kills processes; neither may take the page down, so
whatever llama.cpp does with a model file it does in such a child. Its standard error is kept for its last words.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final

from playground.machine.confinement import child_environment, confine_this_process
from playground.machine.process import end_when_parent_is_gone, offer_to_the_oom_killer_first

_TAIL_LINES: Final = 60
_TAIL_CHARACTERS: Final = 400  # of one line of standard error


class ChildProcess:
    """The parent's end: `send` a line, iterate `lines`, `end` it. A broken pipe only shows as the end of `lines`."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
        )
        self._send_lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._listener = threading.Thread(target=self._keep_tail, daemon=True, name=f"stderr of {module}")
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write one line, its newline included."""
        assert self._process.stdin
        with self._send_lock:
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):  # it has ended; whoever reads its lines learns of it
                pass

    def lines(self) -> Iterator[bytes]:
        """The child's lines until it ends."""
        assert self._process.stdout
        yield from self._process.stdout

    def exit_code(self) -> int:
        """Wait for the end; negative is the number of the signal that ended it."""
        code = self._process.wait()
        self._listener.join(timeout=2)
        return code

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> list[str]:
        """The last lines of the child's standard error, oldest first."""
        return list(self._tail)

    def kill(self) -> None:
        """End it without waiting, from any thread; its pipes stay until `end`."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, wait until the system has its memory back, and close the pipes."""
        self._process.kill()
        self._process.wait()
        self._listener.join(timeout=2)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a line that was never flushed
                    pipe.close()

    def _keep_tail(self) -> None:
        assert self._process.stderr
        try:
            for line in self._process.stderr:
                self._tail.append(line.decode("utf-8", "replace").strip()[:_TAIL_CHARACTERS])
        except ValueError:  # the pipe was closed under us
            pass


def speak_in_lines() -> tuple[BinaryIO, BinaryIO]:
    """The child's end: (commands, answers), called once at its start.

    Whatever llama.cpp prints to standard output goes to standard error from now on. The child ignores Ctrl-C (its
    parent decides), is confined, goes first when memory runs out, and ends when its parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    confine_this_process()
    offer_to_the_oom_killer_first()
    end_when_parent_is_gone()
    return sys.stdin.buffer, answers
