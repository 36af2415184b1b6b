"""`fidelity`: how close a level comes to a reference level of the same model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from playground.cli.arguments import add_device_arguments, chosen_device
from playground.cli.output import ProgressLine, Report, format_table
from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.text_format import UNKNOWN, counted, gigabytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from playground.cli.arguments import Commands
    from playground.measure.fidelity import Fidelity, FidelityProgress


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "fidelity",
        help="how close a level is to a reference: perplexity, KL divergence, agreement",
        description="The reference reads the text once, then each candidate; their probabilities are compared.",
    )
    parser.add_argument("reference", metavar="REFERENCE", help="the model to measure against, usually the larger level")
    parser.add_argument("candidates", metavar="CANDIDATE", nargs="+", help="another level of the same model")
    parser.add_argument("--text", type=Path, metavar="FILE", help="the text to read (default: the playground's own)")
    add_device_arguments(parser)
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.services import Services
    from playground.llama.params import CONTEXT_STEP, ContextParameters
    from playground.measure.fidelity import FidelityProgress, measure_fidelity
    from playground.resources import asset

    text = read_text(arguments.text or asset("evaluation.txt"))
    # Of this context only the place is used: scoring makes a context of its own beside it.
    context = ContextParameters(CONTEXT_STEP, slots=1, device=chosen_device(arguments))
    found: list[Fidelity] = []
    with Services(settings) as services:
        paths = [services.library.find_file(name).path for name in (arguments.reference, *arguments.candidates)]
        reference, *candidates = [(path, context) for path in paths]
        scores = settings.data_dir / "scores"
        with ProgressLine() as line:
            for update in measure_fidelity(services.pool, reference, candidates, text, folder=scores):
                if isinstance(update, FidelityProgress):
                    line.show(_progress(update))
                else:
                    found.append(update)
    return _report(arguments.candidates, found)


def read_text(path: Path) -> str:
    """Raises PlaygroundError when it cannot be read or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlaygroundError(f"{path} cannot be read: {error.strerror}.", "Name a text file.") from error
    except UnicodeDecodeError as error:
        raise PlaygroundError(f"{path} is not a text in UTF-8.", "Save it as UTF-8, or name another file.") from error


def _progress(progress: FidelityProgress) -> str:
    disk = f", {gigabytes(progress.disk_bytes)} on disk meanwhile" if progress.disk_bytes else ""
    return f"{progress.phase.capitalize()}: {progress.fraction:4.0%}{disk}"


def _report(candidates: Sequence[str], found: Sequence[Fidelity]) -> Report:
    """rows: the figures of each candidate. Those of the first also stand alone, as when there could be but one."""
    records = [_record(fidelity) for fidelity in found]
    tables = [_table(record) for record in records]
    if len(candidates) > 1:
        tables = [f"{candidate}\n{table}" for candidate, table in zip(candidates, tables, strict=True)]
    note = f"Over {counted(len(found[0].tokens), 'token')}; ± is the standard error."
    rows = [{"model": candidate, **record} for candidate, record in zip(candidates, records, strict=True)]
    return Report(records[0] | {"rows": rows}, "\n\n".join(tables) + f"\n{note}")


def _record(fidelity: Fidelity) -> dict[str, float | None]:
    """By the definitions of measure/text_fidelity.py."""
    from playground.measure.text_fidelity import percentile

    figures = ("perplexity_reference", "perplexity", "kl_divergence", "top_token_agreement")
    record = {name: getattr(fidelity, name) for figure in figures for name in (figure, f"{figure}_error")}
    divergences = [token.kl_divergence for token in fidelity.tokens if token.kl_divergence is not None]
    for name, share in (("kl_median", 0.5), ("kl_99", 0.99)):
        found = percentile(divergences, share)
        record |= {name: found.value, f"{name}_error": found.error}
    return record | {"kl_maximum": max(divergences), "tokens": len(fidelity.tokens)}


def _table(record: Mapping[str, float | None]) -> str:
    lines = [
        ("Perplexity of the reference", "perplexity_reference", 3),
        ("Perplexity of the candidate", "perplexity", 3),
        ("KL divergence, mean", "kl_divergence", 5),
        ("KL divergence, median", "kl_median", 5),
        ("KL divergence, 99 %", "kl_99", 5),
        ("KL divergence, largest", "kl_maximum", 5),
        ("Same most likely token", "top_token_agreement", 4),
    ]
    rows = [(title, *_figure(record[name], record.get(f"{name}_error"), digits)) for title, name, digits in lines]
    return format_table(rows, right=(1, 2))


def _figure(value: float | None, error: float | None, digits: int) -> tuple[str, str]:
    return UNKNOWN if value is None else f"{value:,.{digits}f}", UNKNOWN if error is None else f"± {error:,.{digits}f}"
