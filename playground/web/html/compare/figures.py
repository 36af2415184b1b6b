"""Draws what to expect of a comparison, and the table of both answers' figures.

The better value of a row is marked by words and a colour, unless the difference may be measurement noise.
"""

from __future__ import annotations

from typing import Final

from playground.app.compare.updates import (
    ComparedAnswers,
    CompareOutlook,
)
from playground.chat.comparison import DISTURBED_SENTENCE, MEMORY_SENTENCE, ComparisonRow, MeasurementNoise, Mode
from playground.text_format import gigabytes, percent, seconds
from playground.web.html.templates import render

_MODE_IN_WORDS: Final[dict[Mode, str]] = {
    "in turn": "Each model gets all cores in turn, so speeds are comparable.",
    "at once": "Both answer at the same time and share the cores. Waiting time is not counted.",
}
_MODE_WITH_SERVER: Final[dict[Mode, str]] = {
    "in turn": "One model answers after the other.",
    "at once": "Both answer at the same time, and share nothing if each runs on a machine of its own.",
}
_SERVERS_SPEED: Final = "A server’s speed is measured from here, so it includes the network and its other users."
_RESIDENCY: Final = {
    "together": "Both models stay in memory.",
    "one after the other": "The two do not fit in memory together, so they are swapped for each answer.",
}
_SHARED: Final = {
    "cores": "Both wrote at the same time and shared the cores. These speeds are not what each model reaches alone, so "
    "none is highlighted.",
    "server": "Both wrote at the same time on one server, where each may have slowed the other down. These speeds may "
    "not be what each model reaches alone, so none is highlighted.",
}
_TIMES_FROM: Final = 1.5  # from this ratio on, "times as fast" reads better than a per cent


# --- before ---


def outlook_line(outlook: CompareOutlook) -> str:
    """What to expect of speeds and memory, before anything runs."""
    if outlook.has_server:
        return render("compare.html#hint", text=f"{_MODE_WITH_SERVER[outlook.mode]} {_SERVERS_SPEED}")
    text = _MODE_IN_WORDS[outlook.mode]
    if outlook.to_make:
        text += f" {' and '.join(outlook.to_make)} will be created first."
    elif outlook.residency:
        text += f" {_RESIDENCY[outlook.residency]}"
    return render("compare.html#hint", text=text)


# --- after ---


def differences_table(answers: ComparedAnswers) -> str:
    """The figures of both answers, with by how much the better one is better."""
    rows = [
        (row.title, [(text, _advantage(row) if row.better == index else "") for index, text in enumerate(row.texts)])
        for row in answers.table
    ]
    if answers.shared:  # what disturbed a speed was the other answer
        hint = _SHARED[answers.shared]
    elif any(any(row.disturbed) for row in answers.table):
        hint = DISTURBED_SENTENCE
    else:
        hint = _noise_in_words(answers.noise)
    return render("compare.html#differences", names=answers.names, rows=rows, hint=f"{hint} {MEMORY_SENTENCE}")


def _advantage(row: ComparisonRow) -> str:
    """`1.6 times as fast`, `65.0 MB less`."""
    first, second = (float(value or 0) for value in row.values)
    if row.unit == "bytes":
        return f"{gigabytes(int(abs(first - second)))} less"
    if row.unit == "seconds":
        return f"{seconds(abs(first - second))} sooner"
    ratio = max(first, second) / min(first, second)
    return f"{ratio:.1f} times as fast" if ratio >= _TIMES_FROM else f"{percent(ratio - 1)} faster"


def _noise_in_words(noise: MeasurementNoise) -> str:
    limits = (
        f"Differences under {percent(noise.generation_speed)} in generation speed, {percent(noise.prompt_speed)} in "
        f"prompt speed and {percent(noise.time_to_first_token)} in time to first token are not highlighted"
    )
    if noise.is_measured:
        return f"{limits}: they are within the measured noise."
    return f"{limits}: they can be measurement noise."
