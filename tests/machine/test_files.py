"""Whether a folder takes what is written to it: on real disks that are full or read-only, made for one process each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.machine.files import nameless_file, why_not_writable
from tests.support.narrow_places import full_disk, read_only
from tests.support.playground_process import ROOT, environment

ASK = """
from pathlib import Path
from playground.machine.files import settle_temporary_folder, why_not_writable
print(why_not_writable(Path.home() / "data").strerror)
settle_temporary_folder()
import tempfile
print(tempfile.gettempdir())
"""
VOTE = """
from pathlib import Path
from playground.measure.votes import Contestant, Pair, Vote, VoteStore
pair = Pair.of(Contestant("Tiny", "Q8_0"), Contestant("Tiny", "Q2_K"))
book = VoteStore(Path.home() / "data" / "votes.sqlite")
try:
    book.add(Vote(pair, "first", "first"))
except Exception as error:
    print(error)
print(book.tallies())
"""


def told(within: list[str], home: Path, program: str) -> list[str]:
    command = [*within, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("place", "why"), [(full_disk, "No space left on device"), (read_only, "Read-only file system")]
)
def test_a_disk_that_takes_nothing_is_found_and_a_folder_for_temporary_files_is_named_all_the_same(
    tmp_path: Path, place: Callable[[], list[str]], why: str
) -> None:
    found, temporary = told(place(), tmp_path, ASK)
    assert found == why
    assert temporary in ("/dev/shm", str(tmp_path))


def test_a_vote_on_a_full_disk_is_told_and_the_book_stays_sound(tmp_path: Path) -> None:
    first, second = told(full_disk(), tmp_path, VOTE)
    assert first == "Your vote could not be kept: database or disk is full. Make room on its disk."
    assert second == "[]"


def test_a_folder_that_is_not_there_yet_is_judged_by_where_it_would_be_and_not_made(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path / "new" / "folder") is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = why_not_writable(tmp_path / "file" / "data")
    assert error is not None and error.strerror == "Not a directory"


def test_last_words_can_be_read_after_they_were_written() -> None:
    with nameless_file() as file:
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('last words')"], stderr=file, check=True)
        file.seek(0)
        assert file.read() == b"last words"
