"""Memory and manners of real child processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from playground.machine.child_process import raise_oom_score
from playground.machine.memory import read_process_memory
from tests.support.machine_layouts import MiB

PATIENCE_SECONDS = 30  # how long a hung child may hold up the tests before they fail
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory from mapped files")

# Takes a step whenever it reads a line, and says when it is done.
GROWING = """
import mmap, sys
kept = []
def step(number):
    if number == 1:
        kept.append(bytearray(b"x") * (64 << 20))
    if number == 2:
        with open(sys.argv[1], "rb") as file:
            view = mmap.mmap(file.fileno(), 48 << 20, access=mmap.ACCESS_READ)
        sum(view[::4096])
        kept.append(view)
    if number == 3:
        shared = mmap.mmap(-1, 32 << 20)
        shared[::4096] = bytes(len(shared) // 4096)
        kept.append(shared)
for number, line in enumerate(iter(sys.stdin.readline, "")):
    step(number)
    print("ready", flush=True)
"""

# Waits for ever on nothing, its standard input too; with "poll", by the way that every system has.
WATCHFUL = """
import os, sys, threading
if sys.argv[1] == "poll" and hasattr(os, "pidfd_open"):
    del os.pidfd_open
from playground.machine.child_process import end_with_parent
end_with_parent(*map(int, sys.argv[2:]))
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
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stderr=subprocess.PIPE)
    child.stderr.readline()
    kept.append(child)
starter = threading.Thread(target=start)
starter.start()
starter.join()
print("the thread has ended", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a Python script with pipes; it is killed in the end."""
    with ExitStack() as stack:

        def script(source: str, *arguments: object) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", source, *map(str, arguments)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,  # so that select sees every line that was not read yet
                )
            )
            stack.callback(process.kill)
            return process

        yield script


def say(process: subprocess.Popen[bytes], line: str = "go") -> str:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    return hear(process)


def hear(process: subprocess.Popen[bytes]) -> str:
    """The next line, "" when all who could write one are gone."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
    assert readable, "the child neither spoke nor ended"
    return process.stdout.readline().decode()


@linux_only
def test_memory_is_told_apart_by_whether_the_kernel_can_drop_it(start, starter: Path) -> None:
    child = start(GROWING, starter)
    seen = []
    for _ in range(4):
        assert say(child) == "ready\n"
        seen.append(read_process_memory(child.pid))
    growth = [(after.anonymous - before.anonymous, after.mapped - before.mapped) for before, after in pairwise(seen)]
    expected = [
        (64 * MiB, 0),  # its own
        (0, 48 * MiB),  # a mapped file
        (32 * MiB, 0),  # shared without a file
    ]
    assert all(memory.exact_split for memory in seen)
    for got, wanted in zip(growth, expected, strict=True):
        assert got == pytest.approx(wanted, abs=MiB)


@linux_only
def test_without_the_exact_file_the_kernels_counters_say_the_same(start, starter: Path, tmp_path: Path) -> None:
    child = start(GROWING, starter)
    for _ in range(4):
        assert say(child) == "ready\n"
    (tmp_path / f"proc/{child.pid}").mkdir(parents=True)
    (tmp_path / f"proc/{child.pid}/status").symlink_to(f"/proc/{child.pid}/status")
    exact, counted = read_process_memory(child.pid), read_process_memory(child.pid, root=tmp_path)
    assert counted.exact_split
    assert counted.anonymous == pytest.approx(exact.anonymous, abs=2 * MiB)
    assert counted.mapped == pytest.approx(exact.mapped, abs=2 * MiB)


def test_where_nothing_tells_them_apart_all_memory_counts_as_anonymous(start, starter: Path, tmp_path: Path) -> None:
    child = start(GROWING, starter)
    say(child), say(child)
    memory = read_process_memory(child.pid, root=tmp_path)  # no /proc there
    assert not memory.exact_split
    assert memory.mapped == 0
    assert memory.resident > 64 * MiB


def test_a_process_that_has_ended_is_not_found(start) -> None:
    child = start("")
    assert hear(child) == ""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but its number is still taken
    with pytest.raises(ProcessLookupError):
        read_process_memory(child.pid)
    child.wait()
    with pytest.raises(ProcessLookupError):
        read_process_memory(child.pid)


@pytest.mark.parametrize("pid", [0, -1])
def test_a_number_that_no_process_can_have_is_not_found(pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        read_process_memory(pid)


@linux_only
def test_a_child_offers_itself_to_the_oom_killer() -> None:
    script = """
from playground.machine.child_process import raise_oom_score
raise_oom_score()
print(open("/proc/self/oom_score_adj").read())
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(printed) >= 900


@pytest.mark.parametrize(("before", "after"), [("0\n", "900"), ("-500\n", "900"), ("1000\n", "1000\n"), ("?", "?")])
def test_an_oom_score_is_only_ever_raised(plant, before: str, after: str) -> None:
    root = plant("")
    (root / "proc/self").mkdir(parents=True)
    file = root / "proc/self/oom_score_adj"
    file.write_text(before)
    raise_oom_score(root)
    assert file.read_text() == after


def test_offering_where_there_is_no_oom_killer_is_no_error(tmp_path: Path) -> None:
    raise_oom_score(tmp_path)


@pytest.mark.parametrize("way", ["system", "poll"])
def test_a_child_outlives_the_thread_that_started_it_but_not_the_process(start, way: str) -> None:
    parent = start(PARENT, WATCHFUL, way)
    child = int(hear(parent))
    try:
        assert hear(parent) == "the thread has ended\n"
        assert say(parent) == "still here\n"  # the child reads what the parent was given
        assert say(parent) == "still here\n"
        parent.kill()
        assert hear(parent) == ""  # nobody holds the other end any more: the child is gone too
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise


@pytest.mark.parametrize("way", ["system", "poll"])
def test_a_child_whose_parent_ended_before_it_could_watch_ends_at_once(start, way: str) -> None:
    gone = start("")
    gone.wait()
    child = start(WATCHFUL, way, gone.pid)
    assert child.wait(PATIENCE_SECONDS) == 1
