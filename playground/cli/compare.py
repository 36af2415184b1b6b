"""`compare`: one question to two models, their answers, and what they differ in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from playground.cli.chat import add_question_to, chosen_context, chosen_sampling, figures
from playground.cli.output import Report, table
from playground.engine.protocol import FINISH_WORDS
from playground.settings import Settings
from playground.text_format import UNKNOWN, count, gibibytes, percent, seconds, speed

if TYPE_CHECKING:
    from playground.chat.comparison import Figure, Pane, PaneResult, PaneUpdate, Value
    from playground.chat.first_difference import FirstDifference, TokenChoice
    from playground.cli.arguments import Commands
    from playground.engine.protocol import FinishReason
    from playground.errors import PlaygroundError

INTERVAL_SECONDS = 0.1  # between looks at what was written


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("compare", help="ask two models the same question")
    parser.add_argument("models", metavar="MODEL", nargs=2, help="as elsewhere, or name@server for a server's")
    add_question_to(parser)
    parser.add_argument("--at-once", action="store_true", help="both at the same time, on shared cores")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import difference_record, pane_record
    from playground.app.services import Services
    from playground.chat.compare import compare
    from playground.chat.comparison import Pane
    from playground.chat.conversation import Conversation
    from playground.chat.first_difference import first_difference
    from playground.engine.remote.protocol import RemoteModel
    from playground.llama.params import ContextParameters

    conversation = Conversation(arguments.system).ask(arguments.prompt)
    with Services(settings) as services:
        files = [services.remotes.find_model(model) or services.library.find_file(model) for model in arguments.models]
        panes = [
            Pane(
                file,
                None
                if isinstance(file, RemoteModel)
                else ContextParameters(chosen_context(arguments, services, file.path), slots=settings.slots),
                conversation,
            )
            for file in files
        ]
        updates = compare(
            services.pool,
            services.planner,
            panes,
            chosen_sampling(arguments),
            arguments.max_tokens or settings.max_reply_tokens,
            mode="at once" if arguments.at_once else "in turn",
            interval_seconds=INTERVAL_SECONDS,
            remotes=services.remotes,
        )
        results, failures = _followed(updates, panes, written=not arguments.json)
    if not results:
        raise failures[0]
    both = [results[index] for index in range(len(panes)) if index in results]
    parting = first_difference(*both) if len(both) == 2 else None
    record = {
        "panes": [pane_record(pane, results.get(index), failures.get(index)) for index, pane in enumerate(panes)],
        "first_difference": difference_record(parting),
    }
    return Report(record, _text([pane.file.level for pane in panes], both, parting) if len(both) == 2 else "")


def _followed(
    updates: Iterable[PaneUpdate], panes: Sequence[Pane], *, written: bool
) -> tuple[dict[int, PaneResult], dict[int, PlaygroundError]]:
    """The results and the failures by pane; each answer is printed when it is whole, its figures beside it."""
    results: dict[int, PaneResult] = {}
    failures: dict[int, PlaygroundError] = {}
    for update in updates:
        name = f"{panes[update.pane].file.display_name} {panes[update.pane].file.level}"
        if update.failed:
            failures[update.pane] = update.failed
            if written:
                print(f"{name}: {update.failed}", file=sys.stderr)
        elif update.result:
            results[update.pane] = update.result
            if written:
                _write(name, update.result)
        elif written and (note := _note(update)):
            print(f"{name}: {note}", file=sys.stderr)
    return results, failures


def _write(name: str, result: PaneResult) -> None:
    print(f"{name}\n\n{result.conversation.messages[-1].content}\n", flush=True)
    print(f"{figures(result.finished, result.measured)}\n", file=sys.stderr, flush=True)


def _note(update: PaneUpdate) -> str:
    if update.gave_way:
        return "unloaded, to make room for the other"
    if update.takes_turns == "no room for both":
        return "does not fit beside the other, so they answer in turn"
    if update.takes_turns == "one model":
        return "the same model as the other, so they answer in turn"
    return ""


def _text(levels: Sequence[str], results: Sequence[PaneResult], parting: FirstDifference | None) -> str:
    """The figures of both, those of the better one with a star, and where the answers part."""
    from playground.chat.comparison import differences

    lines = [["", *levels]]
    for row in differences(results):
        cells = [_cell(row.figure, value) for value in row.values]
        marked = [f"{cell} *" if index == row.better else cell for index, cell in enumerate(cells)]
        lines.append([_TITLES[row.figure], *marked])
    marks = "* better by more than one model differs from itself"
    return "\n".join([table(lines), marks, "", _parting(levels, results, parting)])


_TITLES: Mapping[Figure, str] = {
    "generation_speed": "Generation",
    "prompt_speed": "Prompt",
    "time_to_first_token": "To first token",
    "memory_planned": "Memory planned",
    "memory_measured": "Memory measured",
    "tokens": "Tokens",
    "finish_reason": "Ended by",
}


def _cell(figure: Figure, value: Value) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        reason: FinishReason = value  # type: ignore[assignment]
        return FINISH_WORDS[reason]
    if figure in ("generation_speed", "prompt_speed"):
        return speed(value)
    if figure == "time_to_first_token":
        return seconds(value)
    return gibibytes(int(value)) if figure.startswith("memory") else count(int(value))


def _parting(levels: Sequence[str], results: Sequence[PaneResult], parting: FirstDifference | None) -> str:
    from playground.chat.first_difference import comparable

    if parting is None:
        if comparable(*results):
            return "The answers are the same."
        if any(result.is_remote for result in results):
            return "The server does not show its tokens, so nothing is said of where the answers part."
        return "The models have different vocabularies, so tokens say nothing."
    lines = [f"The answers part after {count(parting.place)} tokens:"]
    for level, choice in zip(levels, (parting.mine, parting.theirs), strict=True):
        lines.append(f"  {level} {_chosen(choice)}, {_held(choice.own)}; the other's choice, {_held(choice.other)}")
    return "\n".join(lines)


def _chosen(choice: TokenChoice) -> str:
    return "ended its answer" if choice.ends else f"wrote {choice.text!r}"


def _held(probability: float | None) -> str:
    return "not among its five likeliest" if probability is None else f"probability {percent(probability)}"
