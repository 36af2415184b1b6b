"""Fidelity against llama.cpp's own perplexity tool: the same figures, and how long both take.

Figures: both read the same 4,096 tokens in windows of 512 and score the second half of each, so every figure must be
the same; the largest difference is told. Time: the tool's two passes (reference, then level, with its loads), and the
playground's over the same tokens, as the Measure tab reads its six texts. The processor's time is told, too: on a busy
computer, with one core (`taskset -c 0`), it is what can be compared. The models: the starter as it is, and a level of
it, made first. TOOL is a built `llama-perplexity` of the same llama.cpp; benchmarks/README.md says how to build it.

    python -m benchmarks.fidelity_speed TOOL [LEVEL] [ROUNDS]
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import cores, engine_on, made, report, run_main, services, starter
from playground.app.services import Services
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import BriefScores, Scored
from playground.llama.params import ContextParameters
from playground.measure.text_fidelity import ReferenceReading, TokenFigures, fidelity_figures
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


def text_of_tokens(path: Path) -> str:
    """Our texts one after the other, as many whole characters as make 4,096 tokens and not one more."""
    text = "\n\n".join(each.text for each in six_texts())
    with engine_on(path, SMALL) as engine:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            is_short = engine.count_tokens(text[:middle], ((0, middle),)) <= TOKENS
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


def tool_passes(tool: Path, reference: Path, level: Path, text: Path, base: Path) -> tuple[float, str]:
    """Seconds of both passes, and what the second prints."""
    usual = [str(tool), "-f", str(text), "-c", str(WINDOW), "-t", str(cores()), "--kl-divergence-base", str(base)]
    started = time.perf_counter()
    for arguments in (["-m", str(reference)], ["-m", str(level), "--kl-divergence"]):
        command = ended_with_parent([*usual, *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout + done.stderr


def own_passes(opened: Services, reference: Path, level: Path, text: str, folder: Path) -> float:
    """Seconds of the same, as a run of the Measure tab."""
    started = time.perf_counter()
    with ReferenceReading(opened.pool, texts_of(text), folder) as reading:
        for number, path in enumerate((reference, level)):
            with Steps(opened.pool.lease_model(path, SMALL)).finish() as lease:
                for _ in reading.read_level(lease) if number else reading.read_reference(lease):
                    pass
            opened.pool.unload_idle_models()
    return time.perf_counter() - started


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
        text = text_of_tokens(reference)
        (folder / "text.txt").write_text(text, encoding="utf-8")
        own_times, tool_times, own_work, tool_work, printed = [], [], [], [], ""
        for _ in range(int(rounds)):
            before = processor_seconds()
            seconds, printed = tool_passes(Path(tool), reference, level, folder / "text.txt", folder / "base.bin")
            between = processor_seconds()
            tool_times.append(seconds)
            own_times.append(own_passes(opened, reference, level, text, folder))
            tool_work.append(between - before)
            own_work.append(processor_seconds() - between)
        (folder / "reference.bin").touch()
        own, theirs = own_figures(reference, level, text, folder / "reference.bin"), tool_figures(printed)
    rows = [("tool, seconds", f"{min(tool_times):.1f}"), ("playground, seconds", f"{min(own_times):.1f}")]
    rows += [
        ("tool, processor seconds", f"{min(tool_work):.1f}"),
        ("playground, processor seconds", f"{min(own_work):.1f}, {min(own_work) / min(tool_work):.2f} of the tool's"),
    ]
    worst = 0.0
    for figure, value in theirs.items():
        difference = abs(own[figure] / value - 1) if value else abs(own[figure])
        worst = max(worst, difference)
        rows.append((figure, f"{own[figure]:.6f}, the tool {value:.6f} ({difference:.2%} apart)"))
    rows.append(("largest difference", f"{worst:.2%}, target at most 1 %"))
    report("Fidelity beside llama-perplexity", rows, min(own_times) / min(tool_times), "<= 1.15")


if __name__ == "__main__":
    run_main(main)
