"""In a container with little memory, every command names the same largest context of a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from playground.machine.cgroups import own_cgroups

LIMIT = 330 << 20  # bytes: the starter fits, its whole context of 8,192 tokens does not


@pytest.fixture
def container() -> Iterator[Path]:
    """A memory control group with a limit, below this process's own; skips where none can be made."""
    for group in own_cgroups(Path("/"), "memory"):
        limit = "memory.max" if group.version == 2 else "memory.limit_in_bytes"
        folder = group.folder / f"playground-test-{os.getpid()}"
        with suppress(OSError):
            folder.mkdir()
            try:
                (folder / limit).write_text(str(LIMIT))
            except OSError:
                folder.rmdir()
                continue
            yield folder
            folder.rmdir()
            return
    pytest.skip("no memory control group can be made here")


def run_in(container: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    enter = f"import os; open({str(container / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    start = f"{enter}; import sys; from playground.__main__ import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, timeout=60)


def test_plan_and_chat_name_the_same_largest_context(container: Path) -> None:
    planned = json.loads(run_in(container, "plan", "starter", "--context", "8192", "--json").stdout)
    refused = run_in(container, "chat", "starter", "-p", "Hello", "--context", "8192")
    named = re.search(r"A context of ([\d,]+) tokens fits", refused.stderr)
    assert refused.returncode == 1 and named, refused.stderr
    assert 1024 < planned["largest_context"] < 8192
    assert int(named[1].replace(",", "")) == planned["largest_context"]
