"""docs/security.md names the tests that show what it says: each of them has to be there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "security.md"


def test_every_test_that_the_threat_table_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text()))
    there = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    assert len(named) > 40
    assert named - there == set()


def test_every_threat_has_a_defence_and_a_test() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    threats = [row.strip("| ").split(" | ") for row in rows if not row.startswith("| threat |")]
    assert len(threats) > 25
    for cells in threats:
        assert len(cells) == 3 and cells[1] and re.search(r"`test_\w+`", cells[2]), cells


def test_the_readme_leads_to_it() -> None:
    assert "docs/security.md" in (TESTS.parent / "README.md").read_text()
