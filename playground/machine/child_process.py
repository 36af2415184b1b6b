"""Child processes: a Python module started with pipes, which reads lines and answers in lines.

A model file can abort llama.cpp or keep it busy for ever, the chat template inside it is a program, and a system short
of memory kills processes. None of that may harm the page, so all of it happens in children. `ChildProcess` is the
parent's side; `open_child_pipes` is the child's, and gives up every right that it does not need.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, cast

from playground.machine.confinement import child_environment, confine_this_process

_TAIL_LINES: Final = 60  # of standard error
_TAIL_CHARACTERS: Final = 400  # of one of these lines
_READ_BYTES: Final = 65_536  # what a pipe holds
_LONGEST_LINE_BYTES: Final = 64 << 20  # an answer; a child that never ends its line may not fill the page's memory
_OOM_SCORE: Final = 900  # of -1000 to 1000, where 1000 is "always first"
_WATCH_SECONDS: Final = 1.0


class ChildProcess:
    """The parent's side of `python -m module`; a `with` resource that kills the child at its end.

    Sending and killing are safe from any thread; one thread at a time may read. Nothing is raised when the child has
    ended until its next line is asked for. The child's standard error is read all the time and its end is kept.
    """

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._commands, self._errors = self._process.stdin, self._process.stderr
        self._answers = cast(io.BufferedReader, self._process.stdout)
        self._received = bytearray()
        self._has_input = select.poll()  # select() itself knows only the first 1,024 files of a process
        self._has_input.register(self._answers, select.POLLIN)
        self._send_lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._listener = threading.Thread(target=self._listen, daemon=True, name=f"errors of {self._process.pid}")
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send_line(self, line: bytes) -> None:
        """Write one line; its newline is added where it is missing. Waits while the child does not read."""
        with self._send_lock, contextlib.suppress(OSError, ValueError):  # it has ended: who reads its answer sees that
            self._commands.write(line if line.endswith(b"\n") else line + b"\n")
            self._commands.flush()

    def read_line(self, seconds: float | None = None) -> bytes:
        """The child's next line, without its newline.

        Raises TimeoutError when none comes within `seconds`, EOFError when the child has ended (half a line does not
        count), ValueError when the line is longer than any answer.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > _LONGEST_LINE_BYTES:
                raise ValueError("a line without end")
            if deadline is not None and not self._has_input.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            piece = self._answers.read1(_READ_BYTES)
            if not piece:
                raise EOFError
            self._received += piece
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def lines(self) -> Iterator[bytes]:
        """The child's lines, as `read_line` gives them, until it ends."""
        with contextlib.suppress(EOFError):
            while True:
                yield self.read_line()

    def wait_for_exit(self, seconds: float | None = None) -> int:
        """The exit code, once the child has ended; the negative number of a signal that ended it.

        seconds: after so long it is killed.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._listener.join(timeout=2)
        return code

    def last_words(self) -> list[str]:
        """The last lines of the child's standard error, oldest first."""
        return list(self._tail)

    def kill(self) -> None:
        """End it without waiting, from any thread; its pipes stay open until `close`."""
        self._process.kill()

    def close(self) -> None:
        """Kill it, wait until the system has its memory back, and close the pipes. Safe to call twice."""
        self._process.kill()  # nothing that it holds needs an orderly end
        self.wait_for_exit()
        for pipe in (self._commands, self._answers, self._errors):
            with contextlib.suppress(OSError):  # a line that was never flushed
                pipe.close()

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        """Runs in a thread of its own: keep the end of standard error, then let the system forget the process."""
        with contextlib.suppress(ValueError):  # the pipe was closed meanwhile
            for line in self._errors:
                self._tail.append(line.decode("utf-8", "replace").strip()[:_TAIL_CHARACTERS])
        self._process.wait()


def describe_exit(code: int) -> str:
    """How a process ended, after its name in a sentence: "crashed (SIGABRT)". `code` as from `wait_for_exit`."""
    if code >= 0:
        return f"ended by itself (code {code})"
    if -code == signal.SIGKILL:
        return "was ended by the system, most likely because memory ran out"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    return f"crashed ({name})"


# --- the child's side ---


def open_child_pipes(*, watch_parent: bool = True, for_driver: bool = False) -> tuple[BinaryIO, BinaryIO]:
    """The child's (commands, answers), to be called once at its start; answers are not buffered.

    What libraries print to standard output goes to standard error from now on. The child ignores Ctrl-C, because its
    parent decides when it ends; it is confined, and the first to be killed when memory runs out.
    watch_parent: end it when the parent has ended, even if it is in the middle of its work. Without, the end of its
    commands must end it.
    for_driver: the child will use a GPU's driver, which cannot bear some limits (confinement.py).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    confine_this_process(for_driver=for_driver)
    raise_oom_score()
    if watch_parent:
        end_with_parent()
    return sys.stdin.buffer, answers


def raise_oom_score(root: Path = Path("/")) -> None:
    """Asks the kernel to end this process before its parent when memory runs out. Linux; elsewhere nothing happens.

    The score is only ever raised: that needs no rights, and a container may have set a higher one.
    """
    file = root / "proc/self/oom_score_adj"
    try:
        if int(file.read_text()) < _OOM_SCORE:
            file.write_text(str(_OOM_SCORE))
    except (OSError, ValueError):
        pass


def end_with_parent(parent: int | None = None) -> None:
    """Ends this process, at once and without clean-up, when its parent has ended in any way.

    parent: the parent's process id, if it was handed down; a parent that ended before this call is then noticed too.

    A daemon thread waits for the parent: on Linux by a pidfd, else by looking every second whether this process was
    given to another parent. Linux's PR_SET_PDEATHSIG does not serve: it fires when the THREAD that started the child
    ends, and a web server's threads come and go.
    """
    awaited = os.getppid() if parent is None else parent
    arguments = (awaited, _open_pidfd(awaited))
    threading.Thread(target=_end_after, args=arguments, name="parent-watch", daemon=True).start()


def _end_after(parent: int, pidfd: int | None) -> NoReturn:
    if pidfd is not None and os.getppid() == parent:  # else the number may by now be another process's
        with contextlib.suppress(OSError, ValueError):
            select.select([pidfd], [], [])
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_WATCH_SECONDS)
    os._exit(1)


def _open_pidfd(pid: int) -> int | None:
    """A descriptor that is readable when the process has ended; None where the kernel has no such thing."""
    try:
        return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        return None
