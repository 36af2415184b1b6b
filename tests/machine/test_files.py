"""Files on real disks that are full or read-only, made for one process each; and files that are whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.errors import PlaygroundError
from playground.machine.files import why_not_writable, write_json_atomically
from tests.support.narrow_places import full_disk, read_only
from tests.support.playground_process import ROOT, environment

ASK = """
from pathlib import Path
from playground.machine.files import choose_temporary_folder, why_not_writable
print(why_not_writable(Path.home() / "data").strerror)
choose_temporary_folder()
import tempfile
print(tempfile.gettempdir())
"""
RECORD = """
from pathlib import Path
from playground.machine.files import write_json_atomically
path = Path.home() / "data" / "record.json"
path.touch()
try:
    write_json_atomically(path, ["x" * 10_000])
except Exception as error:
    print(error)
print(sorted(file.name for file in path.parent.iterdir()), path.stat().st_size)
"""
VOTE = """
from pathlib import Path
from playground.measure.votes import Contestant, Pair, Vote, VoteStore
pair = Pair.in_order(Contestant("Tiny", "Q8_0"), Contestant("Tiny", "Q2_K"))
book = VoteStore(Path.home() / "data" / "votes.sqlite")
try:
    book.add_vote(Vote(pair, "first", "first"))
except Exception as error:
    print(error)
print(book.tallies())
"""


def reported(within: list[str], home: Path, program: str) -> list[str]:
    command = [*within, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("place", "why"), [(full_disk, "No space left on device"), (read_only, "Read-only file system")]
)
def test_a_disk_that_takes_nothing_is_found_and_temporary_files_have_a_folder(
    tmp_path: Path, place: Callable[[], list[str]], why: str
) -> None:
    found, temporary = reported(place(), tmp_path, ASK)
    assert found == why
    assert temporary in ("/dev/shm", str(tmp_path))


def test_a_vote_on_a_full_disk_is_told_and_the_book_stays_sound(tmp_path: Path) -> None:
    first, second = reported(full_disk(), tmp_path, VOTE)
    assert first == "Your vote could not be kept: database or disk is full. Make room on its disk."
    assert second == "[]"


def test_a_record_that_a_full_disk_cannot_take_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    assert reported(full_disk(), tmp_path, RECORD) == [
        "The folder data cannot be written to: No space left on device. Make room on its disk.",
        "['record.json'] 0",
    ]


def test_a_record_is_written_into_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "new" / "record.json", {"é": 1})
    write_json_atomically(tmp_path / "new" / "record.json", {"é": 2})
    assert json.loads((tmp_path / "new" / "record.json").read_text(encoding="utf-8")) == {"é": 2}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record.json"]


def test_a_record_below_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlaygroundError, match=r"The folder file cannot be written to: .* Allow writing there"):
        write_json_atomically(tmp_path / "file" / "record.json", [])


def test_a_record_that_several_threads_write_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json_atomically(path, [0] * 1000)

    def write(number: int) -> None:
        for _ in range(50):
            write_json_atomically(path, [number] * 1000)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert len(record) == 1000 and len(set(record)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_yet_is_judged_by_where_it_would_be_and_not_made(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path / "new" / "folder") is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = why_not_writable(tmp_path / "file" / "data")
    assert error is not None and error.strerror == "Not a directory"
