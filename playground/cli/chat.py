"""`chat`: one question, one answer, written as it comes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from playground.cli.arguments import seed, temperature, tokens
from playground.cli.output import Report
from playground.engine.protocol import FINISH_WORDS
from playground.settings import Settings
from playground.text_format import counted, gibibytes, seconds, speed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from playground.app.services import Services
    from playground.chat.conversation import ReplyUpdate
    from playground.cli.arguments import Commands
    from playground.engine.protocol import Finished, Memory, Sampling


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("chat", help="ask one question")
    parser.add_argument("model", metavar="MODEL")
    add_question_to(parser)
    return parser


def add_question_to(parser: argparse.ArgumentParser) -> None:
    """The question, and how it is to be answered."""
    parser.add_argument("-p", "--prompt", required=True, metavar="TEXT", help="the question")
    parser.add_argument("--system", default="", metavar="TEXT", help="instructions for the model")
    parser.add_argument("--context", type=tokens, metavar="N", help="context size in tokens (default: 4096)")
    parser.add_argument("--max-tokens", type=tokens, metavar="N", help="the longest answer, in tokens")
    parser.add_argument("--temperature", type=temperature, metavar="T", help="0 always takes the likeliest token")
    parser.add_argument("--seed", type=seed, metavar="S", help="the same seed gives the same answer")


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import reply_record
    from playground.app.services import Services
    from playground.chat.conversation import Conversation, stream_reply
    from playground.cli.arguments import leased
    from playground.engine.remote.protocol import RemoteModel
    from playground.llama.params import ContextParameters

    conversation = Conversation(arguments.system).with_question(arguments.prompt)
    sampling = chosen_sampling(arguments)
    repeatable = sampling.temperature == 0 or sampling.seed is not None
    with Services(settings) as services:
        model = services.remotes.find_model(arguments.model) or services.library.find_file(arguments.model)
        context = None
        if not isinstance(model, RemoteModel):
            context = ContextParameters(chosen_context(arguments, services, model.path), slots=settings.slots)
        with leased(services, model, context) as lease:
            longest = arguments.max_tokens or settings.max_reply_tokens
            updates = stream_reply(lease.engine, conversation, sampling, longest, reproducible=repeatable)
            last, finished = _followed(updates, written=not arguments.json)
            facts = lease.engine.loaded
            memory = finished.memory or (facts.memory if facts else None)
            planned = lease.plan.total if lease.plan else None
    if not arguments.json:
        print(figures(finished, memory), file=sys.stderr)
    return Report(reply_record(last.message, finished, memory, planned, last.context_size), "")


def chosen_sampling(arguments: argparse.Namespace) -> Sampling:
    """As asked for, and the usual where nothing was."""
    from playground.engine.protocol import Sampling

    chosen = {"temperature": arguments.temperature, "seed": arguments.seed}
    return Sampling(**{name: value for name, value in chosen.items() if value is not None})


def chosen_context(arguments: argparse.Namespace, services: Services, path: Path) -> int:
    """In tokens. Raises what the planner raises for a file that is no model."""
    from playground.app.records import USUAL_CONTEXT

    size: int | None = arguments.context
    return size or min(USUAL_CONTEXT, services.planner.trained_context(path))


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


def figures(finished: Finished, memory: Memory | None) -> str:
    """A reply's figures on one line."""
    timings = finished.timings
    return " · ".join(
        (
            speed(timings.generation_speed),
            counted(timings.generated_tokens, "token"),
            f"{seconds(timings.time_to_first_token)} to first token",
            FINISH_WORDS[finished.reason],
            f"{gibibytes(memory.resident if memory else None)} of memory",
        )
    )
