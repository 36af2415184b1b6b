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
    from playground.cli.arguments import Commands
    from playground.measure.fidelity import Fidelity, FidelityProgress


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "fidelity",
        help="how close a level is to a reference: perplexity, KL divergence, agreement",
        description="Both models read the same text, one after the other; their probabilities are compared.",
    )
    parser.add_argument("reference", metavar="REFERENCE", help="the model to measure against, usually the larger level")
    parser.add_argument("candidate", metavar="CANDIDATE", help="another level of the same model")
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
    with Services(settings) as services:
        reference = services.library.find_file(arguments.reference).path, context
        candidate = services.library.find_file(arguments.candidate).path, context
        scores = settings.data_dir / "scores"
        with ProgressLine() as line:
            for update in measure_fidelity(services.pool, reference, candidate, text, folder=scores):
                if isinstance(update, FidelityProgress):
                    line.show(_progress(update))
    assert not isinstance(update, FidelityProgress)  # it ends with the figures or an error
    return _report(update)


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


def _report(fidelity: Fidelity) -> Report:
    figures = ("perplexity_reference", "perplexity", "kl_divergence", "top_token_agreement")
    record = {name: getattr(fidelity, name) for figure in figures for name in (figure, f"{figure}_error")}
    rows = [
        (
            "Perplexity of the reference",
            *_figure(fidelity.perplexity_reference, fidelity.perplexity_reference_error, 3),
        ),
        ("Perplexity of the candidate", *_figure(fidelity.perplexity, fidelity.perplexity_error, 3)),
        ("KL divergence", *_figure(fidelity.kl_divergence, fidelity.kl_divergence_error, 5)),
        ("Same most likely token", *_figure(fidelity.top_token_agreement, fidelity.top_token_agreement_error, 4)),
    ]
    note = f"Over {counted(len(fidelity.tokens), 'token')}; ± is the standard error."
    return Report(record | {"tokens": len(fidelity.tokens)}, f"{format_table(rows, right=(1, 2))}\n{note}")


def _figure(value: float, error: float | None, digits: int) -> tuple[str, str]:
    return f"{value:,.{digits}f}", UNKNOWN if error is None else f"± {error:,.{digits}f}"
