"""The handle on a child process, and how a child ends with its parent; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from playground.machine import child_process
from playground.machine.child_process import ChildProcess, describe_exit, raise_oom_score

PATIENCE_SECONDS = 30  # how long a hung child may hold up the tests before they fail
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an oom_score_adj")

StartChild = Callable[[str], ChildProcess]

ECHO = """
import sys
for line in sys.stdin:
    print("heard", line, end="", flush=True)
"""

# Never ends by itself, its standard input included; "poll" is the way that every system has.
WATCHFUL = """
import os, sys, threading
if {way!r} == "poll" and hasattr(os, "pidfd_open"):
    del os.pidfd_open
from playground.machine.child_process import end_with_parent
end_with_parent({parent})
print(os.getpid(), flush=True)
print("watching", file=sys.stderr, flush=True)
for line in sys.stdin:
    print("still here", flush=True)
threading.Event().wait()
"""

# Starts the watchful child in a thread that ends once the child watches, as a web server's may, and goes on itself.
PARENT = """
import subprocess, sys, threading
kept = []
def start():
    child = subprocess.Popen([sys.executable, "-c", {watchful!r}], stderr=subprocess.PIPE)
    child.stderr.readline()
    kept.append(child)
starter = threading.Thread(target=start)
starter.start()
starter.join()
print("the thread has ended", flush=True)
threading.Event().wait()
"""


def ask(child: ChildProcess, line: bytes = b"go") -> bytes:
    child.send_line(line)
    return child.read_line(PATIENCE_SECONDS)


# --- lines ---


def test_lines_go_in_and_come_out(start_child: StartChild) -> None:
    child = start_child(ECHO)
    assert ask(child, b"one") == b"heard one"
    assert ask(child, b"two\n") == b"heard two"
    assert child.is_alive and psutil.pid_exists(child.pid)


def test_a_line_longer_than_a_pipe_holds_comes_out_whole(start_child: StartChild) -> None:
    child = start_child(ECHO)
    long = b"x" * 1_000_000
    assert ask(child, long) == b"heard " + long


def test_lines_that_came_together_are_read_one_by_one(start_child: StartChild) -> None:
    child = start_child('print("one\\ntwo\\n\\nfour")')
    assert list(child.lines()) == [b"one", b"two", b"", b"four"]


def test_a_silent_child_is_told_from_a_dead_one(start_child: StartChild) -> None:
    child = start_child(ECHO)
    with pytest.raises(TimeoutError):
        child.read_line(0)
    assert ask(child) == b"heard go"
    child.kill()
    with pytest.raises(EOFError):
        child.read_line(PATIENCE_SECONDS)
    child.send_line(b"a line to a dead child is no error")


def test_half_a_line_of_a_dead_child_is_no_line(start_child: StartChild) -> None:
    child = start_child('print("whole"); print("half", end="")')
    assert list(child.lines()) == [b"whole"]


def test_a_line_without_end_does_not_fill_the_memory(start_child: StartChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_LONGEST_LINE_BYTES", 1 << 20)
    child = start_child("while True: print('x' * 1000, end='')")
    with pytest.raises(ValueError, match="without end"):
        child.read_line(PATIENCE_SECONDS)


# --- the end ---


def test_the_end_of_standard_error_is_kept(start_child: StartChild) -> None:
    child = start_child("import sys\nfor n in range(1000): print(n, 'x' * 1000, file=sys.stderr)\nsys.exit(3)")
    assert child.wait_for_exit() == 3
    words = child.last_words()
    assert words[-1].startswith("999 xxx") and len(words) < 100 and len(words[-1]) < 1000


def test_a_child_that_ends_while_nobody_reads_leaves_the_systems_list(start_child: StartChild) -> None:
    child = start_child(ECHO)
    (listener,) = [thread for thread in threading.enumerate() if thread.name == f"errors of {child.pid}"]
    os.kill(child.pid, signal.SIGKILL)
    listener.join(PATIENCE_SECONDS)
    assert not psutil.pid_exists(child.pid)


def test_closing_ends_the_child_and_the_thread_that_reads_it(start_child: StartChild) -> None:
    child = start_child(ECHO)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.extend(child.lines()))
    reader.start()
    child.close()
    child.close()
    reader.join(PATIENCE_SECONDS)
    assert not reader.is_alive() and not psutil.pid_exists(child.pid)


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("import sys; sys.exit(3)", "ended by itself (code 3)"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by the system, most likely because memory ran out"),
        ("import os; os.abort()", "crashed (SIGABRT)"),
    ],
)
def test_the_way_a_child_ended_is_described(start_child: StartChild, source: str, ending: str) -> None:
    assert describe_exit(start_child(source).wait_for_exit()) == ending


# --- the child's side ---

POLITE = """
import os, signal
from playground.machine.child_process import open_child_pipes
commands, answers = open_child_pipes()
print("noise of a library")
os.write(1, b"noise of a C library\\n")
os.kill(os.getpid(), signal.SIGINT)
for line in commands:
    answers.write(b"heard " + line)
"""


def test_only_answers_reach_the_parent_and_ctrl_c_does_not_end_the_child(start_child: StartChild) -> None:
    child = start_child(POLITE)
    assert ask(child) == b"heard go"
    child.kill()
    child.wait_for_exit()
    assert "noise of a C library" in child.last_words()


@linux_only
def test_a_child_offers_itself_to_the_oom_killer(start_child: StartChild) -> None:
    child = start_child(POLITE)
    ask(child)
    assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) >= 900


@pytest.mark.parametrize(("before", "after"), [("0\n", "900"), ("-500\n", "900"), ("1000\n", "1000\n"), ("?", "?")])
def test_an_oom_score_is_only_ever_raised(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "proc/self/oom_score_adj"
    file.parent.mkdir(parents=True)
    file.write_text(before)
    raise_oom_score(tmp_path)
    assert file.read_text() == after


def test_where_there_is_no_oom_killer_nothing_happens(tmp_path: Path) -> None:
    raise_oom_score(tmp_path)


@pytest.mark.parametrize("way", ["system", "poll"])
def test_a_child_outlives_the_thread_that_started_it_but_not_its_parent(start_child: StartChild, way: str) -> None:
    parent = start_child(PARENT.format(watchful=WATCHFUL.format(way=way, parent="")))
    child = int(parent.read_line(PATIENCE_SECONDS))
    try:
        assert parent.read_line(PATIENCE_SECONDS) == b"the thread has ended"
        assert ask(parent) == b"still here"  # the child reads what the parent was given
        assert ask(parent) == b"still here"
        parent.kill()
        with pytest.raises(EOFError):  # nobody holds the other end any more: the child is gone too
            parent.read_line(PATIENCE_SECONDS)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise


@pytest.mark.parametrize("way", ["system", "poll"])
def test_a_child_whose_parent_ended_before_it_watched_ends_at_once(start_child: StartChild, way: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert start_child(WATCHFUL.format(way=way, parent=gone.pid)).wait_for_exit() == 1
