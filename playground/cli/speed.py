"""`speed`: how fast a model reads and writes on this computer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from playground.cli.arguments import add_device_arguments, chosen_device, lease_file, repeats, slots, tokens
from playground.cli.output import ProgressLine, Report, format_table
from playground.settings import Settings
from playground.text_format import counted

if TYPE_CHECKING:
    from playground.app.services import Services
    from playground.cli.arguments import Commands
    from playground.measure.speed import SpeedResult, SpeedTest


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("speed", help="tokens per second of prompt and reply, over repeats")
    parser.add_argument("models", metavar="MODEL", nargs="+")
    parser.add_argument("--prompt", type=tokens, default=512, metavar="N", help="tokens of the prompt (default: 512)")
    parser.add_argument("--generate", type=tokens, default=128, metavar="N", help="tokens of the reply (default: 128)")
    parser.add_argument("--depth", type=depths, default=[0], metavar="N,N", help="after so much context (default: 0)")
    parser.add_argument("--threads", type=thread_counts, metavar="N,N", help="with so many threads")
    parser.add_argument("--repeat", type=repeats, default=5, metavar="R", help="runs of each test (default: 5)")
    parser.add_argument("--concurrent", type=slots, default=1, metavar="C", help="also C replies at once")
    add_device_arguments(parser)
    return parser


def depths(text: str) -> list[int]:
    """Comma-separated numbers of tokens: `0,4k,16k`."""
    return [0 if word.strip() == "0" else tokens(word.strip()) for word in text.split(",")]


def thread_counts(text: str) -> list[int]:
    return [repeats(word) for word in text.split(",")]


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.services import Services

    with Services(settings) as services, ProgressLine() as line:
        rows = [row for model in arguments.models for row in _measured(model, arguments, services, line)]
    return _report(rows, several_threads=len(arguments.threads or ()) > 1)


def _tests(arguments: argparse.Namespace) -> list[SpeedTest]:
    from playground.measure.speed import SpeedTest

    tests = []
    for depth in arguments.depth:
        tests += [
            SpeedTest("prompt", arguments.prompt, depth=depth),
            SpeedTest("reply", arguments.generate, depth=depth),
        ]
        if arguments.concurrent > 1 and not depth:
            tests.append(SpeedTest("reply", arguments.generate, arguments.concurrent))
    return tests


def _measured(model: str, arguments: argparse.Namespace, services: Services, line: ProgressLine) -> Iterator[_Row]:
    """Every test of one model, with each number of threads."""
    from playground.llama.params import ContextParameters
    from playground.measure.speed import measure_speed

    pool, tests = services.pool, _tests(arguments)
    context = ContextParameters(
        max(test.context_size for test in tests), slots=arguments.concurrent, device=chosen_device(arguments)
    )
    with lease_file(services, services.library.find_file(model).path, context) as lease:
        for threads, test in product(arguments.threads or [pool.cores], tests):
            result: SpeedResult | None = None
            with pool.decoding_with(threads):
                for result in measure_speed(lease.engine, test, arguments.repeat):
                    line.show(f"{model} {result.test.name}: run {len(result.runs)} of {arguments.repeat}")
            if result is not None:
                yield _Row(model, lease.plan.context.placement.name, threads, result)


@dataclass(frozen=True)
class _Row:
    """model: as it was named. device: where it ran."""

    model: str
    device: str
    threads: int
    result: SpeedResult

    def to_json(self) -> dict[str, Any]:
        result = self.result
        return {
            "model": self.model, "test": result.test.name, "tokens_per_second": result.tokens_per_second,
            "deviation": result.deviation, "repeats": len(result.runs), "mean_tokens": result.mean_tokens,
            "disturbed": result.disturbed, "device": self.device, "depth": result.test.depth, "threads": self.threads,
            "concurrent": result.test.concurrent,
        }  # fmt: skip


def _report(results: Sequence[_Row], *, several_threads: bool) -> Report:
    from playground.chat.comparison_export import installed_versions

    rows = [each.to_json() for each in results]
    lines = [["MODEL", "DEVICE", "TEST", *(["THREADS"] if several_threads else []), "TOKENS PER SECOND", "DEVIATION"]]
    lines += [
        [
            row["model"],
            row["device"],
            row["test"],
            *([str(row["threads"])] if several_threads else []),
            f"{row['tokens_per_second']:,.1f}{' (disturbed)' if row['disturbed'] else ''}",
            "–" if row["deviation"] is None else f"± {row['deviation']:.1f}",
        ]
        for row in rows
    ]
    runs = max((len(each.result.runs) for each in results), default=0)
    threads = "" if several_threads or not results else f", on {counted(results[0].threads, 'thread')}"
    mean = f"the mean of {runs} runs, ± their deviation" if runs > 1 else "one run"
    notes = [f"Each is {mean}, after one to warm up{threads}."]
    notes += [
        f"{each.model} ended its replies after {each.result.mean_tokens:.0f} of {each.result.test.tokens} tokens "
        f"({each.result.test.name})."
        for each in results
        if each.result.is_shortened
    ]
    if any(each.result.disturbed for each in results):
        notes.append(
            "Disturbed: something else had the processor for more than a tenth of the time, so the speed is not what "
            "the model reaches. Measure again when the computer is quiet."
        )
    return Report(
        {"rows": rows, "versions": installed_versions()},
        "\n".join([format_table(lines, right=range(3, len(lines[0]))), *notes]),
    )
