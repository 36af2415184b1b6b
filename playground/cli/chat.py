"""`chat`: one question, one answer, written as it comes."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from playground.cli.arguments import seed, temperature, tokens
from playground.cli.output import Report
from playground.settings import Settings
from playground.ui.words import FINISH_WORDS, counted, gibibytes, seconds, speed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playground.chat.conversation import ReplyUpdate
    from playground.cli.arguments import Commands
    from playground.engine.messages import Finished

USUAL_CONTEXT = 4096  # tokens, or the most that the model was trained for


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("chat", help="ask one question")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-p", "--prompt", required=True, metavar="TEXT", help="the question")
    parser.add_argument("--system", default="", metavar="TEXT", help="instructions for the model")
    parser.add_argument("--context", type=tokens, metavar="N", help="context size in tokens (default: 4096)")
    parser.add_argument("--max-tokens", type=tokens, metavar="N", help="the longest answer, in tokens")
    parser.add_argument("--temperature", type=temperature, metavar="T", help="0 always takes the likeliest token")
    parser.add_argument("--seed", type=seed, metavar="S", help="the same seed gives the same answer")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.chat.conversation import Conversation, reply
    from playground.cli.loading import loaded
    from playground.engine.messages import Sampling
    from playground.llama.parameters import ContextParameters
    from playground.services import Services

    conversation = Conversation(arguments.system).ask(arguments.prompt)
    chosen = {"temperature": arguments.temperature, "seed": arguments.seed}
    sampling = Sampling(**{name: value for name, value in chosen.items() if value is not None})
    repeatable = sampling.temperature == 0 or sampling.seed is not None
    with Services(settings) as services:
        path = services.library.find(arguments.model).path
        context_size = arguments.context or min(USUAL_CONTEXT, services.planner.trained_context(path))
        with loaded(services, path, ContextParameters(context_size, slots=settings.slots)) as lease:
            longest = arguments.max_tokens or settings.max_reply_tokens
            updates = reply(lease.engine, conversation, sampling, longest, reproducible=repeatable)
            last, finished = _followed(updates, written=not arguments.json)
            memory = finished.memory or lease.engine.loaded.memory
            planned = lease.plan.total
    record = {
        "text": last.answer,
        "thinking": last.thinking,
        "finish_reason": finished.reason,
        "timings": dataclasses.asdict(finished.timings),
        "memory_measured": memory.resident,
        "memory_planned": planned,
        "context_size": last.context_size,
    }
    if not arguments.json:
        print(f"{_figures(finished)} · {gibibytes(memory.resident)} of memory", file=sys.stderr)
    return Report(record, "")


def _followed(updates: Iterable[ReplyUpdate], *, written: bool) -> tuple[ReplyUpdate, Finished]:
    """Writes the answer to standard output as it grows, and the thoughts to a terminal's standard error."""
    answer = thinking = ""
    finished = last = None
    for last in updates:
        finished = last.finished or finished
        if written:
            if sys.stderr.isatty():
                print(last.thinking[len(thinking) :], end="", file=sys.stderr, flush=True)
                if last.thinking and last.answer and not answer:
                    print("\n", file=sys.stderr, flush=True)
            print(last.answer[len(answer) :], end="", flush=True)
            answer, thinking = last.answer, last.thinking
    if written:
        print(flush=True)
    assert last is not None and finished is not None  # the engine ends a reply with Finished or an error
    return last, finished


def _figures(finished: Finished) -> str:
    timings = finished.timings
    return " · ".join(
        (
            speed(timings.generation_speed),
            counted(timings.generated_tokens, "token"),
            f"{seconds(timings.time_to_first_token)} to first token",
            FINISH_WORDS[finished.reason],
        )
    )
