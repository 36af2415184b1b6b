"""Fidelity against llama.cpp's own perplexity tool: the same figures, and how long both take.

Figures: both read the same 4,096 tokens in windows of 512 and score the second half of each, so every figure must be
the same; the largest difference is told. Time: the tool's two passes (reference, then level, with its loads), and the
playground's, by turns. The playground's passes are measured twice:

- the same work: the windows of the tool, each from an empty cache, and the second half of each is scored.
- as Measure reads the same text: its six texts, each in one piece, and every token is scored, twice as many.

The processor's time is told, too: on a busy computer, with one core (`taskset -c 0`), it is what can be compared. The
models: the starter as it is, and a level of it, made first. TOOL is a built `llama-perplexity` of the same llama.cpp;
benchmarks/README.md says how to build it.

    python -m benchmarks.fidelity_speed TOOL [LEVEL] [ROUNDS]
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import cores, engine_on, made, report, run_main, services, starter
from playground.app.services import Services
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import BriefScores, Scored
from playground.llama.params import ContextParameters
from playground.measure.text_fidelity import ReferenceReading, TokenFigures, fidelity_figures, rows_at_once
from playground.measure.texts import MeasuredText, six_texts
from playground.steps import Steps
from tests.support.ended_with_parent import ended_with_parent

TOKENS = 4096
WINDOW = 512
SMALL = ContextParameters(256, slots=1)
FIGURES = {  # the tool's line -> our name, and by what its number is multiplied
    r"Mean PPL\(Q\)": ("perplexity", 1.0),
    r"Mean PPL\(base\)": ("perplexity_reference", 1.0),
    r"Mean    KLD": ("kl_divergence", 1.0),
    r"Median  KLD": ("kl_median", 1.0),
    r"99\.0%   KLD": ("kl_99", 1.0),
    r"Maximum KLD": ("kl_maximum", 1.0),
    r"Same top p": ("top_token_agreement", 0.01),
}


def text_of_tokens(engine: LocalEngine) -> str:
    """Our texts one after the other, as many whole characters as make 4,096 tokens and not one more."""
    return _beginning(engine, "\n\n".join(each.text for each in six_texts()), TOKENS)


def windows_of(engine: LocalEngine, text: str) -> list[tuple[str, str]]:
    """The text in the tool's windows, each as the half that is only read and the half that is scored."""
    windows, left = list[tuple[str, str]](), text
    for _ in range(TOKENS // WINDOW):
        window = _beginning(engine, left, WINDOW)
        read = _beginning(engine, window, WINDOW // 2)
        windows.append((read, window[len(read) :]))
        left = left[len(window) :]
    return windows


def _beginning(engine: LocalEngine, text: str, tokens: int) -> str:
    """As many of the first characters as make so many tokens and not one more."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        is_short = engine.count_tokens(text[:middle], ((0, middle),)) <= tokens
        low, high = (middle, high) if is_short else (low, middle - 1)
    return text[:low]


def texts_of(text: str) -> list[MeasuredText]:
    """The six texts again, out of what `text_of_tokens` made of them."""
    texts, left = list[MeasuredText](), text
    for each in six_texts():
        piece, left = left[: len(each.text)], left[len(each.text) + 2 :]
        texts += [MeasuredText(each.category, piece)] if len(piece) > 2 else []
    return texts


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@dataclass
class Spent:
    """Of each round: seconds, and processor seconds of this process and of its children that have ended."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @contextmanager
    def measured(self) -> Iterator[None]:
        started, before = time.perf_counter(), processor_seconds()
        yield
        self.seconds.append(time.perf_counter() - started)
        self.processor.append(processor_seconds() - before)

    def ratio(self, other: Spent) -> float:
        return min(self.seconds) / min(other.seconds)

    def described(self, tool: Spent) -> str:
        work = f"{min(self.processor):.1f} s of the processor"
        ratios = f"{self.ratio(tool):.2f} and {min(self.processor) / min(tool.processor):.2f} of the tool's"
        return f"{min(self.seconds):.1f} s, {work}{'' if self is tool else f': {ratios}'}"


def tool_passes(tool: Path, reference: Path, level: Path, text: Path, base: Path) -> str:
    """Both passes of the tool; what the second prints."""
    usual = [str(tool), "-f", str(text), "-c", str(WINDOW), "-t", str(cores()), "--kl-divergence-base", str(base)]
    for arguments in (["-m", str(reference)], ["-m", str(level), "--kl-divergence"]):
        command = ended_with_parent([*usual, *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def same_passes(
    opened: Services, reference: Path, level: Path, windows: Sequence[tuple[str, str]], folder: Path
) -> None:
    """Both passes over the tool's windows, by what Measure reads its texts with."""
    files = [folder / f"{number}.window" for number in range(len(windows))]
    rows = rows_at_once(reference.stat().st_size)
    for path in (reference, level):
        with Steps(opened.pool.lease_model(path, SMALL)).finish() as lease:
            for file, (read, scored) in zip(files, windows, strict=True):
                file.touch()
                with lease.engine.start_scoring(
                    read, scored, file, against_reference=path is level, literal=((0, len(read)),), brief=True,
                    precision="16-bit", rows=rows,
                ) as stream:  # fmt: skip
                    for _ in stream:
                        pass
        opened.pool.unload_idle_models()


def measure_passes(opened: Services, reference: Path, level: Path, texts: Sequence[MeasuredText], folder: Path) -> None:
    """Both passes as a run of the Measure tab."""
    with ReferenceReading(opened.pool, texts, folder) as reading:
        for path in (reference, level):
            with Steps(opened.pool.lease_model(path, SMALL)).finish() as lease:
                for _ in reading.read_level(lease) if path is level else reading.read_reference(lease):
                    pass
            opened.pool.unload_idle_models()


def tool_figures(printed: str) -> dict[str, float]:
    found = {}
    for pattern, (name, factor) in FIGURES.items():
        line = re.search(rf"{pattern}\s*:\s*(-?[\d.]+)", printed)
        if line:
            found[name] = float(line[1]) * factor
    return found


def own_figures(reference: Path, level: Path, text: str, file: Path) -> dict[str, float]:
    """Over exactly the tokens that the tool scores."""
    parts: list[BriefScores] = []
    for path, against in ((reference, False), (level, True)):
        with engine_on(path, SMALL) as engine:
            parts = _scores(engine, text, file, against_reference=against)
    scored = range(1, 1 + sum(len(part.logprobs) for part in parts))
    counted = [place for place, number in enumerate(scored) if number % WINDOW > WINDOW // 2]

    def chosen(values: Sequence[float]) -> list[float]:
        return [values[place] for place in counted]

    whole = TokenFigures(
        "all",
        chosen([value for part in parts for value in part.logprobs]),
        chosen([value for part in parts for value in part.reference_logprobs]),
        chosen([value for part in parts for value in part.kl_divergences]),
        [bool(value) for value in chosen([value for part in parts for value in part.agreements])],
    )
    return fidelity_figures([whole])


def _scores(engine: LocalEngine, text: str, file: Path, *, against_reference: bool) -> list[BriefScores]:
    with engine.start_scoring(
        "", text, file, against_reference=against_reference, window=WINDOW, brief=True, precision="16-bit"
    ) as stream:
        return [event.brief for event in stream if isinstance(event, Scored) and event.brief]


def main() -> None:
    tool, level_name, rounds = [*sys.argv[1:], *("", "Q4_0", "3")[len(sys.argv) - 1 :]][:3]
    with tempfile.TemporaryDirectory() as name, services() as opened:
        folder = Path(name)
        reference, level = starter(), made(level_name, folder)
        with engine_on(reference, SMALL) as engine:
            text = text_of_tokens(engine)
            windows = windows_of(engine, text)
        (folder / "text.txt").write_text(text, encoding="utf-8")
        by_tool, same_work, measure = Spent(), Spent(), Spent()
        printed = ""
        for _ in range(int(rounds)):
            with by_tool.measured():
                printed = tool_passes(Path(tool), reference, level, folder / "text.txt", folder / "base.bin")
            with same_work.measured():
                same_passes(opened, reference, level, windows, folder)
            with measure.measured():
                measure_passes(opened, reference, level, texts_of(text), folder)
        (folder / "reference.bin").touch()
        own, theirs = own_figures(reference, level, text, folder / "reference.bin"), tool_figures(printed)
    rows = [
        ("tool", by_tool.described(by_tool)),
        ("playground, the same work", same_work.described(by_tool)),
        ("playground, as Measure reads it", measure.described(by_tool)),
    ]
    worst = 0.0
    for figure, value in theirs.items():
        difference = abs(own[figure] / value - 1) if value else abs(own[figure])
        worst = max(worst, difference)
        rows.append((figure, f"{own[figure]:.6f}, the tool {value:.6f} ({difference:.2%} apart)"))
    rows.append(("largest difference", f"{worst:.2%}, target at most 1 %"))
    report("Fidelity beside llama-perplexity", rows, same_work.ratio(by_tool), "<= 1.15")


if __name__ == "__main__":
    run_main(main)
