"""A Python module as a child process that speaks in lines: commands on its standard input, answers on its output.

A model file can abort llama.cpp, and a system short of memory kills processes; neither may take the page down, so
whatever llama.cpp does with a model file it does in such a child. Its standard error is kept for its last words.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from playground.machine.confinement import child_environment, confine_this_process

_TAIL_LINES: Final = 60
_TAIL_CHARACTERS: Final = 400  # of one line of standard error
_OOM_SCORE: Final = 900  # of -1000 to 1000, where 1000 is "always first"
_WATCH_SECONDS: Final = 1.0


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


def offer_to_the_oom_killer_first(root: Path = Path("/")) -> None:
    """Asks the kernel to end this process before its parent when memory runs out. Linux; elsewhere nothing happens.

    The score is only ever raised: that needs no rights, and a container may have set a higher one.
    """
    file = root / "proc/self/oom_score_adj"
    try:
        if int(file.read_text()) < _OOM_SCORE:
            file.write_text(str(_OOM_SCORE))
    except (OSError, ValueError):
        pass


def end_when_parent_is_gone(parent: int | None = None) -> None:
    """Ends this process, at once and without clean-up, when its parent has ended in whatever way.

    parent: the parent's number, where it was handed down; a parent that ended before this call is then noticed too.

    A daemon thread waits for the parent: on Linux by a pidfd, else by looking every second whether this process was
    given to another parent. Linux's PR_SET_PDEATHSIG is no choice: it fires when the THREAD that started the child
    ends, and a web server's threads come and go. A child that is also told by the end of its standard input leaves in
    good order before this does it.
    """
    awaited = os.getppid() if parent is None else parent
    threading.Thread(target=_end_after, args=(awaited,), name="parent-watch", daemon=True).start()


def _end_after(parent: int) -> NoReturn:
    _wait_on_pidfd(parent)
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_WATCH_SECONDS)
    os._exit(1)


def _wait_on_pidfd(parent: int) -> None:
    """Returns when the process has ended; at once where the kernel cannot wait for it."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        return
    try:
        if os.getppid() == parent:  # else the number may by now be another process's
            select.select([descriptor], [], [])
    except (OSError, ValueError):
        pass
    finally:
        os.close(descriptor)
