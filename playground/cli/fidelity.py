"""`fidelity`: how close a level comes to a reference level of the same model, measured as the Measure tab does it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.cli.arguments import add_device_arguments, chosen_device, lease_file
from playground.cli.output import ProgressLine, Report, format_table
from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.text_format import gigabytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from playground.cli.arguments import Commands
    from playground.engine.protocol import Precision
    from playground.measure.text_fidelity import ReadProgress, TokenFigures


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "fidelity",
        help="how close a level is to a reference: perplexity, KL divergence, agreement",
        description="The reference reads the texts once, then each candidate; their probabilities are compared.",
    )
    parser.add_argument("reference", metavar="REFERENCE", help="the model to measure against, usually the larger level")
    parser.add_argument("candidates", metavar="CANDIDATE", nargs="+", help="another level of the same model")
    parser.add_argument("--text", type=Path, metavar="FILE", help="read this instead of the playground's six texts")
    add_device_arguments(parser)
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.services import Services
    from playground.chat.comparison_export import installed_versions
    from playground.llama.params import CONTEXT_STEP, ContextParameters
    from playground.measure.text_fidelity import ReferenceReading, fidelity_figures
    from playground.measure.texts import SIX_TEXTS, own_text, six_texts, texts_digest

    path: Path | None = arguments.text
    texts = own_text(path.name, read_text(path), None) if path else six_texts()
    # Of this context only the place is used: scoring makes a context of its own beside it.
    context = ContextParameters(CONTEXT_STEP, slots=1, device=chosen_device(arguments))
    rows: list[dict[str, Any]] = []
    with Services(settings) as services, ReferenceReading(services.pool, texts, settings.data_dir / "scores") as read:
        files = [services.library.find_file(name) for name in (arguments.reference, *arguments.candidates)]
        with lease_file(services, files[0].path, context) as lease:
            _show(arguments.reference, read.read_reference(lease))
        for candidate, file in zip(arguments.candidates, files[1:], strict=True):
            with lease_file(services, file.path, context) as lease:
                found = _show(candidate, read.read_level(lease))
            rows.append({"model": candidate, "file": file.file_name, **fidelity_figures(found)})
    facts = {
        "reference": arguments.reference,
        "reference_file": files[0].file_name,
        "text": path.name if path else SIX_TEXTS,
        "text_digest": texts_digest(texts),
        "precision_of_the_reference": read.precision,
        "versions": installed_versions(),
    }
    first = {name: value for name, value in rows[0].items() if name not in ("model", "file")}
    return Report({**first, "rows": rows, **facts}, _as_text(rows, facts["text"], read.precision))


def _show(model: str, reading: Iterator[ReadProgress | TokenFigures]) -> list[TokenFigures]:
    """Progress on a terminal; returns what was found in each text."""
    from playground.measure.text_fidelity import TokenFigures

    found = []
    with ProgressLine() as line:
        for step in reading:
            if isinstance(step, TokenFigures):
                found.append(step)
            else:
                disk = f"{gigabytes(step.disk_bytes)} on disk meanwhile"
                line.show(f"{model} reads the text: {step.done / step.total:4.0%}, {disk}")
    return found


def read_text(path: Path) -> str:
    """Raises PlaygroundError when it cannot be read or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlaygroundError(f"{path} cannot be read: {error.strerror}.", "Name a text file.") from error
    except UnicodeDecodeError as error:
        raise PlaygroundError(f"{path} is not a text in UTF-8.", "Save it as UTF-8, or name another file.") from error


def _as_text(rows: Sequence[Mapping[str, Any]], text: str, precision: Precision) -> str:
    """A table of each candidate, and of each kind of text where there are several; then how it was measured."""
    from playground.measure.export import LOWER_BOUND

    blocks = []
    for row in rows:
        name = [row["model"]] if len(rows) > 1 else []
        kinds = [_kinds_table(row["categories"], precision)] if len(row["categories"]) > 1 else []
        blocks.append("\n\n".join(["\n".join([*name, _table(row, precision)]), *kinds]))
    notes = [f"Over {rows[0]['tokens']:,} tokens of {text}; KL divergence in nats a token, ± is the standard error."]
    if precision == "top":
        notes.append(LOWER_BOUND)
    return "\n\n".join([*blocks, "\n".join(notes)])


def _table(row: Mapping[str, Any], precision: Precision) -> str:
    from playground.measure.export import divergence_with_error, perplexity_with_error

    def perplexity(name: str) -> str:
        return perplexity_with_error(row[name], row[f"{name}_error"])

    def divergence(name: str) -> str:
        return divergence_with_error(row[name], row[f"{name}_error"], is_least=precision == "top")

    return format_table(
        [
            ("Perplexity of the reference", perplexity("perplexity_reference")),
            ("Perplexity of the candidate", perplexity("perplexity")),
            ("KL divergence, mean", divergence("kl_divergence")),
            ("KL divergence, median", divergence("kl_median")),
            ("KL divergence, 99 %", divergence("kl_99")),
            ("KL divergence, largest", divergence("kl_maximum")),
            ("Same most likely token", _share(row)),
        ]
    )


def _kinds_table(categories: Sequence[Mapping[str, Any]], precision: Precision) -> str:
    from playground.measure.export import divergence_with_error, perplexity_with_error

    lines = [("KIND OF TEXT", "TOKENS", "PERPLEXITY", "KL DIVERGENCE", "SAME TOKEN")]
    lines += [
        (
            each["category"],
            f"{each['tokens']:,}",
            perplexity_with_error(each["perplexity"], each["perplexity_error"]),
            divergence_with_error(each["kl_divergence"], each["kl_divergence_error"], is_least=precision == "top"),
            _share(each),
        )
        for each in categories
    ]
    return format_table(lines, right=range(1, 5))


def _share(row: Mapping[str, Any]) -> str:
    value, error = row["top_token_agreement"], row["top_token_agreement_error"]
    return f"{value:.1%}" + ("" if error is None else f" ± {error:.1%}")
