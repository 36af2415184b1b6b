"""Kept pages, in a process of their own: what a block costs the second time, and that it is all given back."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

MIB = 1 << 20
BLOCK = 64 * MIB
PAGES = BLOCK // 4096

SCRIPT = """
import ctypes, json, os, resource, sys
from playground.machine.malloc import KeptPages
from playground.machine.memory import read_process_memory

library, block, others = ctypes.CDLL(None), int(sys.argv[1]), []
library.malloc.restype = ctypes.c_void_p
pages = KeptPages()
said = {"faults": [], "resident": []}

def use_a_block():
    pages.keeping = True
    place = ctypes.c_void_p(library.malloc(ctypes.c_size_t(block)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    library.memset(place, 1, ctypes.c_size_t(block))
    said["faults"].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    pages.keeping = False
    library.free(place)
    pages.hold(block)

for number in range(4):
    use_a_block()
    others.append(library.malloc(ctypes.c_size_t(100_000 + 4096 * number)))  # must not lie where the next block will
    said["resident"].append(read_process_memory(os.getpid()).resident)
pages.give_back()
said["resident"].append(read_process_memory(os.getpid()).resident)
use_a_block()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, list[int]]:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("pages are kept only where the C library is glibc")
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(BLOCK)], capture_output=True, check=True)
    answer: dict[str, list[int]] = json.loads(run.stdout)
    if answer["faults"][0] < PAGES / 2:
        pytest.skip("this kernel gives huge pages, of which faults tell nothing")
    return answer


def test_the_next_block_of_the_size_needs_no_fresh_pages(said: dict[str, list[int]]) -> None:
    first, *others, _ = said["faults"]
    assert max(others) < first / 10


def test_the_room_of_one_block_is_kept_and_not_one_for_each(said: dict[str, list[int]]) -> None:
    *kept, _ = said["resident"]
    assert max(kept) - min(kept) < BLOCK / 4


def test_giving_back_frees_the_pages_and_the_next_block_has_fresh_ones(said: dict[str, list[int]]) -> None:
    *_, kept, given_back = said["resident"]
    assert kept - given_back > BLOCK * 0.9
    assert said["faults"][-1] > PAGES / 2


IN_PIECES = """
import ctypes, json, os
from playground.machine.malloc import release_free_pages
from playground.machine.memory import read_process_memory

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
large = []
for _ in range(1000):
    large.append(ctypes.c_void_p(library.malloc(ctypes.c_size_t(60_000))))
    library.memset(large[-1], 1, ctypes.c_size_t(60_000))
    library.malloc(ctypes.c_size_t(5000))  # stays, and so the heap cannot simply become shorter
for block in large:
    library.free(block)
before = read_process_memory(os.getpid()).anonymous
release_free_pages()
print(json.dumps([before, read_process_memory(os.getpid()).anonymous]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_pages_that_are_free_between_others_go_back_to_the_system() -> None:
    reported = subprocess.run([sys.executable, "-c", IN_PIECES], capture_output=True, text=True, timeout=60, check=True)
    before, after = json.loads(reported.stdout)
    assert before - after > 40 * MIB


HEAPS = """
import ctypes, json, re, sys, tempfile, threading
from playground.machine.malloc import limit_malloc_arenas

def block_of_a_thread():
    blocks.append(library.malloc(ctypes.c_size_t(5000)))
    everybody.wait()  # a heap of a thread that has ended goes to the next

library, blocks, everybody = ctypes.CDLL(None), [], threading.Barrier(12)
if sys.argv[1] == "few":
    limit_malloc_arenas()
threads = [threading.Thread(target=block_of_a_thread) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as told:
    stream = ctypes.c_void_p(library.fopen(told.name.encode(), b"w"))
    library.malloc_info(0, stream)
    library.fclose(stream)
    print(len(re.findall(rb"<heap ", told.read())))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc")
def test_threads_share_two_heaps_where_they_would_have_one_each() -> None:
    def heaps(how: str) -> int:
        run = [sys.executable, "-c", HEAPS, how]
        return int(subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout)

    usual, few = heaps("as usual"), heaps("few")
    assert few <= 2 < usual
