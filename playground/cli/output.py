"""What a command prints: a JSON object or a table at its end, and a line of progress on a terminal meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playground.errors import PlaygroundError


@dataclass(frozen=True)
class Report:
    """The same facts twice: `record` for scripts (sizes in bytes, times in seconds), `text` for people.

    error: what ended the work before its end. It is printed after the report, and the exit code is 1.
    """

    record: Mapping[str, Any]
    text: str
    error: PlaygroundError | None = None


def print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.record, allow_nan=False))
    elif report.text:
        print(report.text)


def format_table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two spaces apart. `right`: the columns of numbers, which end together."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


class ProgressLine:
    """One line on standard error, if that is a terminal; each text replaces the last one. Removed after the `with`."""

    def __enter__(self) -> ProgressLine:
        self._is_shown = sys.stderr.isatty()
        return self

    def show(self, text: str) -> None:
        if self._is_shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        self.show("")
