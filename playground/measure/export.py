"""Measurements as files: CSV for a spreadsheet, JSON to be laid beside others, a Markdown table for a model card.

JSON is the whole of it, and `read_export` reads it back. CSV and Markdown are the table.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, get_args

from playground.engine.local.scoring.reference_file import TOP_KEPT
from playground.errors import RequestRefused
from playground.measure.profile import SpeedRow, profile_rows, profile_sentences
from playground.measure.results import ABILITIES, Measurement, ResultRow, What
from playground.measure.votes import plain_cell
from playground.text_format import UNKNOWN, gigabytes, one_line

FORMAT: Final = "gguf-playground measurements"
MOST_IMPORTED: Final = 5_000
MOST_BYTES: Final = 64 << 20
_COLUMNS: Final[tuple[tuple[str, What, str], ...]] = (
    ("perplexity", "fidelity", "perplexity"),
    ("perplexity_error", "fidelity", "perplexity_error"),
    ("kl_divergence", "fidelity", "kl_divergence"),
    ("kl_divergence_error", "fidelity", "kl_divergence_error"),
    ("kl_median", "fidelity", "kl_median"),
    ("kl_99", "fidelity", "kl_99"),
    ("kl_maximum", "fidelity", "kl_maximum"),
    ("top_token_agreement", "fidelity", "top_token_agreement"),
    ("top_token_agreement_error", "fidelity", "top_token_agreement_error"),
    ("pp_tokens_per_second", "speed", "pp_tokens_per_second"),
    ("pp_deviation", "speed", "pp_deviation"),
    ("pp_disturbed", "speed", "pp_disturbed"),
    ("tg_tokens_per_second", "speed", "tg_tokens_per_second"),
    ("tg_deviation", "speed", "tg_deviation"),
    ("tg_disturbed", "speed", "tg_disturbed"),
    ("memory_resident", "speed", "memory_resident"),
    ("same_words_as_server", "server", "same_words"),
    ("same_words_as_server_error", "server", "same_words_error"),
    ("kl_from_server_at_least", "server", "kl_at_least"),
    ("kl_from_server_at_least_error", "server", "kl_at_least_error"),
    ("instructions_passed", "instructions", "passed"),
    ("instructions_passed_loosely", "instructions", "passed_loosely"),
    ("instructions_items", "instructions", "items"),
    ("instructions_interval_low", "instructions", "interval_low"),
    ("instructions_interval_high", "instructions", "interval_high"),
    ("tools_passed", "tools", "passed"),
    ("tools_items", "tools", "items"),
    ("tools_interval_low", "tools", "interval_low"),
    ("tools_interval_high", "tools", "interval_high"),
    ("reasoning_passed", "reasoning", "passed"),
    ("reasoning_items", "reasoning", "items"),
    ("reasoning_interval_low", "reasoning", "interval_low"),
    ("reasoning_interval_high", "reasoning", "interval_high"),
)
_CONDITIONS: Final = ("device", "threads", "reference", "text", "precision_of_the_reference", "file_sha256")
_TYPES: Final[dict[str, Any]] = {
    "size": int, "threads": int, "seconds": (int, float), "settings": dict, "versions": dict, "figures": dict,
}  # fmt: skip
_MAY_BE_NONE: Final = ("bits_per_weight", "layers")
_LONGEST_NAME: Final = 1_000  # characters of a field
_LARGEST: Final = 1e18  # number; SQLite and what is computed with it take no larger one
LEAST_POWER: Final = -9  # of ten, of a divergence: less is rounding
LOWER_BOUND: Final = (
    "“At least”: the disk had no room for all probabilities of the reference, so its "
    f"{TOP_KEPT} most likely tokens of each place and the sum of all others were kept."
)
_OF_A_CATEGORY: Final = ("tokens", "perplexity", "kl_divergence", "top_token_agreement")


def export_json(rows: Sequence[ResultRow], answers: Sequence[Measurement] = ()) -> dict[str, Any]:
    """Plain data: every measurement of the rows, with its conditions, and the answers to the tasks and to prompts."""
    found = [each for row in rows for each in row.by_what.values()]
    measurements = [each.to_json() for each in (*found, *answers)]
    return {"format": FORMAT, "version": 1, "measurements": measurements}


def export_csv(rows: Sequence[ResultRow]) -> str:
    """One line for each row of the table, after a header line; sizes in bytes. RFC 4180."""
    text = io.StringIO()
    writer = csv.writer(text)
    facts = ["source", "model", "level", "k_type", "v_type", "size", "bits_per_weight"]
    varying = [_category_cells(row) | _profile_cells(row) for row in rows]
    others = list(dict.fromkeys(name for cells in varying for name in cells))
    writer.writerow([*facts, *(name for name, _, _ in _COLUMNS), *_CONDITIONS, *map(plain_cell, others)])
    for row, own in zip(rows, varying, strict=True):
        key = row.key
        names = [plain_cell(word) for word in (key.source, key.model, key.level, key.k_type, key.v_type)]
        figures = [_figure_cell(name, row.figure(what, figure)) for name, what, figure in _COLUMNS]
        found = [_figure_cell(name, own.get(name)) for name in others]
        cells = [*names, row.size or None, row.own.bits_per_weight, *figures, *_condition_cells(row), *found]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def _condition_cells(row: ResultRow) -> list[str | int | None]:
    """What the figures belong to, as _CONDITIONS names it: of the speed, of the fidelity, of the file."""
    speed, fidelity = row.by_what.get("speed"), row.by_what.get("fidelity")
    precision = fidelity.settings.get("precision_of_the_reference", "") if fidelity else ""
    of_speed = [plain_cell(speed.device), speed.threads or None] if speed else [None, None]
    of_fidelity = [fidelity.reference, fidelity.text, str(precision)] if fidelity else ["", "", ""]
    return [*of_speed, *map(plain_cell, of_fidelity), plain_cell(row.own.digest)]


def export_markdown(rows: Sequence[ResultRow]) -> str:
    """A table for a model card, and under it how it was measured."""
    has_server = any("server" in row.by_what for row in rows)
    headings = ["Size", "Bits per weight", "Perplexity", "KL divergence", "Same top token", "Reply tok/s"]
    headings += ["Instructions", "Tool calls", "Reasoning"]
    headings += ["Same as the server", "KL from the server"] if has_server else []
    lines = [f"| Model | Level | {' | '.join(headings)} |", f"| --- | --- |{' ---: |' * len(headings)}"]
    for row in rows:
        share, same = row.figure("fidelity", "top_token_agreement"), row.figure("server", "same_words")
        cells = [
            _cell(row.key.model),
            _cell(row.key.name),
            gigabytes(row.size or None),
            _number(row.own.bits_per_weight, 2),
            perplexity_with_error(row.figure("fidelity", "perplexity"), row.figure("fidelity", "perplexity_error")),
            divergence_text(row),
            UNKNOWN if share is None else f"{share:.1%}",
            _rate(row.speed, row.figure("speed", "tg_deviation"), disturbed=bool(row.figure("speed", "tg_disturbed"))),
            *(score_with_interval(row, what) for what in ABILITIES),
        ]
        if has_server:
            cells += [UNKNOWN if same is None else f"{same:.1%}", divergence_from_server(row)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {sentence}" for sentence in conditions(rows)), *_category_lines(rows), *_profile_lines(rows)]
    return "\n".join(lines)


def _figure_cell(name: str, value: float | None) -> float | str | None:
    return ("yes" if value else "no") if name.endswith("_disturbed") and value is not None else value


def category_figures(row: ResultRow) -> dict[str, dict[str, float | None]]:
    """The figures of fidelity for each kind of text, by its name; {} where it was not measured."""
    found = row.by_what.get("fidelity")
    names = ("tokens", *(name for figure in _OF_A_CATEGORY[1:] for name in (figure, f"{figure}_error")))
    return {
        one_line(each["category"], 80): {name: value if _is_number(value := each.get(name)) else None for name in names}
        for each in (found.figures.get("categories", []) if found else [])
    }


def _category_cells(row: ResultRow) -> dict[str, float | None]:
    """Those figures by column: `kl_divergence_of_code`, `kl_divergence_error_of_code`."""
    return {
        f"{name}_of_{category}": value
        for category, figures in category_figures(row).items()
        for name, value in figures.items()
    }


def _category_lines(rows: Sequence[ResultRow]) -> list[str]:
    """The KL divergence by kind of text, a table of its own; none where only one text was read."""
    found = {row.key: category_figures(row) for row in rows}
    names = list(dict.fromkeys(name for of_row in found.values() for name in of_row))
    if len(names) < 2:
        return []
    lines = ["", f"| KL divergence | {' | '.join(map(_cell, names))} |", f"| --- |{' ---: |' * len(names)}"]
    for row in rows:
        if of_row := found[row.key]:
            figures = [of_row.get(name, {}) for name in names]
            cells = [
                divergence_with_error(each.get("kl_divergence"), each.get("kl_divergence_error")) for each in figures
            ]
            lines.append(f"| {_cell(f'{row.key.model} {row.key.name}')} | {' | '.join(cells)} |")
    return lines


def _profile_cells(row: ResultRow) -> dict[str, float | None]:
    """How the speed holds, by column: each test with its deviation, and what the memory gives.

    The names: `reply_after_1024_2_threads`, `reply_4_chats_2_threads`, `prompt_after_0_2_threads`.
    """
    found = row.by_what.get("profile")
    cells: dict[str, float | None] = {}
    for each in profile_rows(found.figures) if found else ():
        what = f"{each.concurrent}_chats" if each.concurrent > 1 else f"after_{each.depth}"
        name = f"{'prompt' if each.kind == 'prompt' else 'reply'}_{what}_{each.threads}_threads"
        if name not in cells:  # the last one is repeated, to see whether the computer became slower
            cells |= {name: each.tokens_per_second, f"{name}_deviation": each.deviation}
            cells[f"{name}_disturbed"] = float(each.disturbed)
    for name in ("memory_bandwidth", "read_bytes") if cells else ():
        cells[name] = row.figure("profile", name)
    return cells


def _profile_lines(rows: Sequence[ResultRow]) -> list[str]:
    """How the speed holds as a table of its own, a column for each level, and what it says; none if not measured."""
    speeds: dict[str, dict[tuple[str, int], SpeedRow]] = {}
    said = []
    several = len({row.key.model for row in rows}) > 1
    for row in rows:
        figures = row.by_what["profile"].figures if "profile" in row.by_what else {}
        name = _cell(" ".join([*([row.key.model] if several else []), row.key.name, row.key.source]).strip())
        for each in profile_rows(figures):  # the last one is repeated, to see whether the computer became slower
            speeds.setdefault(name, {}).setdefault((each.test, each.threads), each)
        if sentences := profile_sentences(figures):
            said.append(f"- {name}: {' '.join(sentences)}")
    if not speeds:
        return []
    lines = ["", f"| Speed in tok/s | Threads | {' | '.join(speeds)} |", f"| --- | ---: |{' ---: |' * len(speeds)}"]
    for test, threads in dict.fromkeys(key for tests in speeds.values() for key in tests):
        found = [tests.get((test, threads)) for tests in speeds.values()]
        cells = [
            _rate(each.tokens_per_second, each.deviation, disturbed=each.disturbed) if each else UNKNOWN
            for each in found
        ]
        lines.append(f"| {test} | {threads} | {' | '.join(cells)} |")
    return [*lines, "", *said]


def _rate(speed: float | None, deviation: float | None, *, disturbed: bool) -> str:
    return with_error(speed, deviation, 1) + (" (disturbed)" if disturbed else "")


def _cell(text: str) -> str:
    """Of a Markdown table; it may come from a stranger's file."""
    return one_line(text, 120).replace("|", "\\|")


def conditions(rows: Sequence[ResultRow]) -> list[str]:
    """How the rows were measured, in sentences: the text and the reference, the device, the versions."""
    found = [each for row in rows for each in row.by_what.values()]
    references = sorted(
        {f"{each.model} {each.reference} over {each.text}" for each in found if each.what == "fidelity"}
    )
    servers = sorted({f"{each.reference} on {each.text}" for each in found if each.what == "server"})
    speeds = [each for each in found if each.what == "speed"]
    devices = sorted({f"{each.device}, {each.threads} threads" if each.threads else each.device for each in speeds})
    versions = sorted({f"{name} {number}" for each in found for name, number in each.versions.items()})
    sentences = []
    if references:
        against = one_line("; ".join(references), 300)
        sentences.append(f"KL divergence in nats, mean over all tokens, against {against}.")
    if any(row.is_least_divergence for row in rows):
        sentences.append(LOWER_BOUND)
    if servers:
        sentences.append(f"The server’s words: {one_line('; '.join(servers), 300)}.")
    if devices:
        sentences.append(f"Speed on {one_line('; '.join(devices), 300)}.")
    if versions:
        days = sorted({one_line(each.measured_at[:10], 10) for each in found})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        sentences.append(f"Measured {when} with {one_line(', '.join(versions), 300)}.")
    return sentences


def score(row: ResultRow, what: What) -> str:
    """`38 of 40`, or a dash."""
    passed, items = row.figure(what, "passed"), row.figure(what, "items")
    return UNKNOWN if passed is None or items is None else f"{passed:.0f} of {items:.0f}"


def score_with_interval(row: ResultRow, what: What) -> str:
    """`38 of 43 (75% to 95%)`, with the Wilson interval; of instructions also how many are followed loosely."""
    low, high = row.figure(what, "interval_low"), row.figure(what, "interval_high")
    interval = "" if low is None or high is None else f" ({low:.0%} to {high:.0%})"
    loosely = row.figure(what, "passed_loosely")
    return score(row, what) + interval + ("" if loosely is None else f", loosely {loosely:.0f}")


def divergence_text(row: ResultRow, name: str = "kl_divergence") -> str:
    """Of the mean, or of another figure of the divergence, as `divergence_with_error` writes it."""
    value, error = row.figure("fidelity", name), row.figure("fidelity", f"{name}_error")
    return divergence_with_error(value, error, is_least=row.is_least_divergence)


def divergence_from_server(row: ResultRow) -> str:
    """`at least 0.0123 ± 0.0011`, since a server sends only the most likely tokens; a dash where it sends none."""
    value, error = row.figure("server", "kl_at_least"), row.figure("server", "kl_at_least_error")
    return "at least 0" if value == 0 else divergence_with_error(value, error, is_least=True)


def divergence_with_error(value: float | None, error: float | None = None, *, is_least: bool = False) -> str:
    """With three digits that count, or two after the point; `0` only where there is no difference at all.

    is_least: it is a lower bound.

    >>> divergence_with_error(0.0123456, 0.0004), divergence_with_error(0.0000021), divergence_with_error(12.3456)
    ('0.0123 ± 0.0004', '0.00000210', '12.35')
    >>> divergence_with_error(0.0), divergence_with_error(1e-12), divergence_with_error(None)
    ('0', 'less than 1e-09', '–')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) < 10.0**LEAST_POWER:
        return "at least 0" if is_least else f"less than {10.0**LEAST_POWER:g}"
    digits = max(2, 2 - math.floor(math.log10(abs(value))))
    least = "at least " if is_least else ""
    return f"{least}{value:,.{digits}f}" + (f" ± {error:,.{digits}f}" if error else "")


def perplexity_with_error(value: float | None, error: float | None) -> str:
    """Without digits that nobody reads: that of a level that is broken may have seven before the point.

    >>> perplexity_with_error(11.0612, 0.2), perplexity_with_error(1087350.744, 357293.9)
    ('11.061 ± 0.200', '1,087,351 ± 357,294')
    """
    size = value or 0.0
    return with_error(value, error, 3 if size < 100 else 1 if size < 10_000 else 0)


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def with_error(value: float | None, error: float | None, digits: int) -> str:
    """`0.0123 ± 0.0004`, or a dash."""
    return _number(value, digits) + ("" if error is None else f" ± {error:,.{digits}f}")


def read_export(data: bytes, source: str) -> list[Measurement]:
    """The measurements of a JSON export, under the name of its file. Raises RequestRefused for anything else."""
    if len(data) > MOST_BYTES:
        raise RequestRefused(f"The file has {gigabytes(len(data))}.", f"Up to {gigabytes(MOST_BYTES)} are read.")
    try:
        record = json.loads(data)
        json.dumps(record, ensure_ascii=False).encode()  # half a character can be spelled, and not be sent on
    except (ValueError, RecursionError) as error:
        raise RequestRefused("The file is no JSON.", "Choose a JSON export of the Measure tab.") from error
    entries = record.get("measurements") if isinstance(record, dict) and record.get("format") == FORMAT else None
    if not isinstance(entries, list):
        raise RequestRefused("The file holds no measurements.", "Choose a JSON export of the Measure tab.")
    if len(entries) > MOST_IMPORTED:
        raise RequestRefused(f"The file has {len(entries):,} measurements.", f"Up to {MOST_IMPORTED:,} are read.")
    return [_measurement_of(entry, source, number) for number, entry in enumerate(entries, 1)]


def _measurement_of(entry: object, source: str, number: int) -> Measurement:
    names = [each.name for each in fields(Measurement) if each.name != "source"]
    if not isinstance(entry, dict) or not set(names) <= entry.keys() | {"details"}:
        raise RequestRefused(f"Measurement {number} of the file lacks a field.", "Export it again.")
    values = {name: entry.get(name, []) for name in names}
    for name, value in values.items():
        wanted = _TYPES.get(name, list if name == "details" else str)
        if name in _MAY_BE_NONE:
            wanted = (int, float, type(None))
        if not isinstance(value, wanted) or isinstance(value, bool) or _cannot_be(value):
            raise RequestRefused(f"Measurement {number} of the file has a wrong {name}.", "Export it again.")
    if values["what"] not in get_args(What) or values["size"] < 0 or not _are_figures(values["figures"]):
        raise RequestRefused(f"Measurement {number} of the file is none that is known here.", "Export it again.")
    details = [each for each in values["details"] if isinstance(each, dict) and isinstance(each.get("task"), int)]
    return Measurement(**{**values, "details": details, "source": source})


def _cannot_be(value: object) -> bool:
    """A number that is none or far too large, or an endless name."""
    if isinstance(value, str):
        return len(value) > _LONGEST_NAME
    return isinstance(value, int | float) and not abs(value) < _LARGEST


def _are_figures(figures: dict[str, Any]) -> bool:
    """Whether all numbers are such, and the figures by kind of text have what the table shows of them."""
    categories = figures.get("categories", [])
    return (
        isinstance(categories, list)
        and not any(_cannot_be(value) for value in figures.values())
        and all(isinstance(each, dict) and isinstance(each.get("category"), str) for each in categories)
        and all(_is_number(each.get(name)) for each in categories for name in _OF_A_CATEGORY)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not _cannot_be(value)
