"""`compare`: one question to two models, their answers, and how they differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from playground.cli.arguments import add_question_arguments, chosen_sampling, find_model
from playground.cli.chat import figures
from playground.cli.output import Report, format_table
from playground.settings import Settings
from playground.text_format import counted, percent

if TYPE_CHECKING:
    from playground.chat.comparison import Pane, PaneResult, PaneUpdate
    from playground.chat.first_difference import FirstDifference, NoDifferenceReason, TokenChoice
    from playground.chat.template.message import Message
    from playground.cli.arguments import Commands
    from playground.errors import PlaygroundError

INTERVAL_SECONDS = 0.1  # between updates of the answers


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("compare", help="ask two models the same question")
    parser.add_argument("models", metavar="MODEL", nargs=2, help="a model here, or name@server for one of a server")
    add_question_arguments(parser)
    parser.add_argument(
        "--device", action="append", metavar="D", help="auto, cpu, or a GPU as `machine` names it; twice: of each model"
    )
    parser.add_argument("--at-once", action="store_true", help="both at the same time, on shared cores")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import difference_record, pane_record
    from playground.app.services import Services
    from playground.chat.compare import compare
    from playground.chat.comparison import Pane
    from playground.chat.conversation import Conversation
    from playground.chat.first_difference import first_difference
    from playground.llama.params import AUTOMATIC, DeviceChoice

    conversation = Conversation(arguments.system).with_question(arguments.prompt)
    devices = [DeviceChoice(name) for name in arguments.device or [AUTOMATIC]]
    with Services(settings) as services:
        panes = [
            Pane(*find_model(services, model, arguments.context, device), conversation)
            for model, device in zip(arguments.models, (devices[0], devices[-1]), strict=True)
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
        results, failures, partial = _follow(updates, panes, is_printed=not arguments.json)
    if not results and not partial:
        raise failures[0]
    both = [results[index] for index in range(len(panes)) if index in results]
    difference = first_difference(*both) if len(both) == 2 else None
    record = {
        "panes": [
            pane_record(pane, results.get(index), failures.get(index), partial.get(index))
            for index, pane in enumerate(panes)
        ],
        "first_difference": difference_record(difference),
    }
    text = _text([pane.file.level for pane in panes], both, difference) if len(both) == 2 else ""
    return Report(record, text, error=None if results else failures[0])


def _follow(
    updates: Iterable[PaneUpdate], panes: Sequence[Pane], *, is_printed: bool
) -> tuple[dict[int, PaneResult], dict[int, PlaygroundError], dict[int, Message]]:
    """The results, the failures, and what was written before a failure, by pane.

    Each answer is printed when it is complete, with its figures, or when it breaks off, with the cause.
    """
    results: dict[int, PaneResult] = {}
    failures: dict[int, PlaygroundError] = {}
    written: dict[int, Message] = {}
    for update in updates:
        name = f"{panes[update.pane].file.display_name} {panes[update.pane].file.level}"
        if update.failed:
            failures[update.pane] = update.failed
            if is_printed:
                if update.pane in written:
                    print(f"{name}\n\n{written[update.pane].content}\n", flush=True)
                print(f"{name}: {update.failed}", file=sys.stderr)
        elif update.reply:
            written[update.pane] = update.reply.message
        elif update.result:
            results[update.pane] = update.result
            if is_printed:
                _print_answer(name, update.result)
        elif is_printed and (note := _note(update)):
            print(f"{name}: {note}", file=sys.stderr)
    return results, failures, {pane: message for pane, message in written.items() if pane in failures}


def _print_answer(name: str, result: PaneResult) -> None:
    print(f"{name}\n\n{result.conversation.messages[-1].content}\n", flush=True)
    if result.remarks:
        print(f"{name}: {result.remarks}", file=sys.stderr)
    print(f"{figures(result.finished, result.measured, result.load_seconds)}\n", file=sys.stderr, flush=True)


def _note(update: PaneUpdate) -> str:
    if update.unloaded:
        return "unloaded, so that the other model fits into memory"
    if update.takes_turns == "no room for both":
        return "does not fit beside the other model, so they answer one after the other"
    if update.takes_turns == "one model":
        return "the same model as the other one, so they answer one after the other"
    return ""


def _text(levels: Sequence[str], results: Sequence[PaneResult], difference: FirstDifference | None) -> str:
    """The figures of both with a star on the better one, and the first difference."""
    from playground.chat.comparison import DISTURBED_SENTENCE, MEMORY_SENTENCE, comparison_table

    lines, table = [["", *levels]], comparison_table(results)
    for row in table:
        cells = [f"{text} *" if index == row.better else text for index, text in enumerate(row.texts)]
        lines.append([row.title, *cells])
    marks = "* better by more than the usual measurement noise"
    notes = [DISTURBED_SENTENCE] if any(any(row.disturbed) for row in table) else []
    parts = [format_table(lines), marks, *notes, MEMORY_SENTENCE, "", _first_difference(levels, results, difference)]
    return "\n".join(parts)


def _first_difference(levels: Sequence[str], results: Sequence[PaneResult], difference: FirstDifference | None) -> str:
    from playground.chat.first_difference import why_no_difference

    if difference is None:
        return _WHY_NO_DIFFERENCE[why_no_difference(*results).reason]
    lines = [f"Identical for {counted(difference.common_tokens, 'token')}, then:"]
    for level, choice in zip(levels, difference.choices, strict=True):
        own, other = _probability(choice.own), _probability(choice.other)
        lines.append(f"  {level} {_choice_in_words(choice)}, {own}; the other model's choice, {other}")
    return "\n".join(lines)


_WHY_NO_DIFFERENCE: Mapping[NoDifferenceReason, str] = {
    "identical": "The answers are identical.",
    "cut off": "The answers are identical until one of them was cut off.",
    "different vocabularies": "The models use different vocabularies, so tokens cannot be compared.",
    "tokens not shown": "The server does not send its tokens, so they cannot be compared.",
}


def _choice_in_words(choice: TokenChoice) -> str:
    return "ended its answer" if choice.is_end else f"wrote {choice.text!r}"


def _probability(probability: float | None) -> str:
    return "not among its five most likely" if probability is None else f"probability {percent(probability)}"
