"""`speed`: how fast a model reads and writes on this computer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from playground.cli.arguments import add_device_arguments, chosen_device, lease_file, repeats, slots, tokens
from playground.cli.output import ProgressLine, Report, format_table
from playground.settings import Settings

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.measure.speed import SpeedResult


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("speed", help="tokens per second of prompt and reply, over repeats")
    parser.add_argument("models", metavar="MODEL", nargs="+")
    parser.add_argument("--prompt", type=tokens, default=512, metavar="N", help="tokens of the prompt (default: 512)")
    parser.add_argument("--generate", type=tokens, default=128, metavar="N", help="tokens of the reply (default: 128)")
    parser.add_argument("--repeat", type=repeats, default=5, metavar="R", help="runs of each test (default: 5)")
    parser.add_argument("--concurrent", type=slots, default=1, metavar="C", help="also C replies at once")
    add_device_arguments(parser)
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.services import Services
    from playground.llama.params import ContextParameters
    from playground.measure.speed import SpeedTest, measure_speed

    tests = [SpeedTest("prompt", arguments.prompt), SpeedTest("reply", arguments.generate)]
    if arguments.concurrent > 1:
        tests.append(SpeedTest("reply", arguments.generate, arguments.concurrent))
    context = ContextParameters(
        max(test.context_size for test in tests), slots=arguments.concurrent, device=chosen_device(arguments)
    )
    results: list[tuple[str, str, SpeedResult]] = []
    with Services(settings) as services, ProgressLine() as line:
        for model in arguments.models:
            path = services.library.find_file(model).path
            with lease_file(services, path, context) as lease:
                for test in tests:
                    result = None
                    for result in measure_speed(lease.engine, test, arguments.repeat):
                        line.show(f"{model} {result.test.name}: run {len(result.runs)} of {arguments.repeat}")
                    if result is not None:
                        results.append((model, lease.plan.context.placement.name, result))
    return _report(results)


def _report(results: Sequence[tuple[str, str, SpeedResult]]) -> Report:
    """results: the model as it was named, where it ran, and how fast."""
    rows: list[dict[str, Any]] = [
        {
            "model": model,
            "test": result.test.name,
            "tokens_per_second": result.tokens_per_second,
            "deviation": result.deviation,
            "repeats": len(result.runs),
            "mean_tokens": result.mean_tokens,
            "disturbed": result.disturbed,
            "device": device,
        }
        for model, device, result in results
    ]
    lines = [["MODEL", "DEVICE", "TEST", "TOKENS PER SECOND", "DEVIATION"]]
    lines += [
        [
            row["model"],
            row["device"],
            row["test"],
            f"{row['tokens_per_second']:,.1f}{' (disturbed)' if row['disturbed'] else ''}",
            "–" if row["deviation"] is None else f"± {row['deviation']:.1f}",
        ]
        for row in rows
    ]
    notes = [
        f"{model} ended its replies after {result.mean_tokens:.0f} of {result.test.tokens} tokens ({result.test.name})."
        for model, _, result in results
        if result.is_shortened
    ]
    if any(result.disturbed for *_, result in results):
        notes.append(
            "Disturbed: something else had the processor for more than a tenth of the time, so the speed is not what "
            "the model reaches. Measure again when the computer is quiet."
        )
    return Report({"rows": rows}, "\n".join([format_table(lines, right=(3, 4)), *notes]))
