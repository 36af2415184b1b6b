"""What a command has to say, as one JSON object or as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """The same facts twice: `record` for scripts (sizes in bytes, times in seconds), `text` for people."""

    record: Mapping[str, Any]
    text: str


def show(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.record, allow_nan=False))
    elif report.text:
        print(report.text)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two spaces apart; those named in `right` are numbers and end together."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
