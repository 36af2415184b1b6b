"""`chat`: one question, one answer, printed while it is written."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from playground.cli.arguments import (
    add_device_arguments,
    add_question_arguments,
    chosen_device,
    chosen_sampling,
    find_model,
    lease_model,
)
from playground.cli.output import Report
from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.text_format import counted, gigabytes, seconds, speed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playground.chat.conversation import ReplyUpdate
    from playground.cli.arguments import Commands
    from playground.engine.protocol import Finished, Memory


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("chat", help="ask one question")
    parser.add_argument("model", metavar="MODEL")
    add_question_arguments(parser)
    add_device_arguments(parser)
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import reply_record
    from playground.app.services import Services
    from playground.chat.conversation import Conversation, stream_reply

    conversation = Conversation(arguments.system).with_question(arguments.prompt)
    sampling = chosen_sampling(arguments)
    is_repeatable = sampling.temperature == 0 or sampling.seed is not None
    max_tokens = arguments.max_tokens or settings.max_reply_tokens
    with Services(settings) as services:
        model, context = find_model(services, arguments.model, arguments.context, chosen_device(arguments))
        with lease_model(services, model, context) as lease:
            updates = stream_reply(lease.engine, conversation, sampling, max_tokens, reproducible=is_repeatable)
            last, error = _follow(updates, is_printed=not arguments.json)
            finished, loaded = last.finished, lease.engine.loaded
            memory = (finished.memory if finished else None) or (loaded.memory if loaded else None)
            plan, load_seconds = lease.plan, lease.load_seconds
    if last.remarks:
        print(last.remarks, file=sys.stderr)
    if finished and not arguments.json:
        print(figures(finished, memory, load_seconds), file=sys.stderr)
    record = reply_record(last.message, finished, memory, plan, last.context_size, load_seconds, last.remarks)
    return Report({**record, "error": str(error)} if error else record, "", error)


def _follow(updates: Iterable[ReplyUpdate], *, is_printed: bool) -> tuple[ReplyUpdate, PlaygroundError | None]:
    """The last update, and what broke the reply off after some text; an error before any text is raised.

    Prints the answer to standard output as it grows, and the reasoning to standard error if that is a terminal.
    """
    answer = thinking = ""
    last: ReplyUpdate | None = None
    error: PlaygroundError | None = None
    try:
        for last in updates:
            if is_printed:
                if sys.stderr.isatty():
                    print(_added(last.thinking, thinking), end="", file=sys.stderr, flush=True)
                    if last.thinking and last.answer and not answer:
                        print("\n", file=sys.stderr, flush=True)
                print(_added(last.answer, answer), end="", flush=True)
                answer, thinking = last.answer, last.thinking
    except PlaygroundError as failure:
        if last is None or not (last.answer or last.thinking):
            raise
        error = failure
    if is_printed:
        print(flush=True)
    assert last is not None  # the engine ends a reply with Finished or an error
    return last, error


def _added(text: str, printed: str) -> str:
    """What is to be printed after `printed`; all of the text if that has turned out to be something else."""
    return text[len(printed) :] if text.startswith(printed) else f"\n\n{text}"


def figures(finished: Finished, memory: Memory | None, load_seconds: float | None = None) -> str:
    """A reply's figures on one line. load_seconds: of the load before it, if there was one."""
    from playground.engine.protocol import FINISH_WORDS

    timings = finished.timings
    in_all = [f"{seconds(timings.total_seconds)} in all"] if timings.generation_speed is None else []
    return " · ".join(
        (
            speed(timings.generation_speed, disturbed=timings.disturbed),
            counted(timings.generated_tokens, "token"),
            *([f"{seconds(load_seconds)} to load"] if load_seconds is not None else []),
            f"{seconds(timings.time_to_first_token)} to first token",
            *in_all,
            FINISH_WORDS[finished.reason],
            f"{gigabytes(memory.resident if memory else None)} of memory",
            *(f"{gigabytes(device.measured)} of {device.device}" for device in (memory.devices if memory else ())),
        )
    )
