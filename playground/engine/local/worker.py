"""The model's own process: `python -m playground.engine.local.worker` loads one model and serves it.

It ends when its input ends. One thread reads commands, so that a Cancel reaches a decode that is under way; the
main thread does everything else.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from playground.engine.local.scheduler import Scheduler
from playground.engine.local.scoring import Scorer
from playground.engine.protocol import (
    Cancel,
    Command,
    CountTokens,
    Event,
    Failed,
    Finished,
    ForgetChat,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    Memory,
    Score,
    SetThreads,
    ThreadsSet,
    Token,
    TokenCount,
    decode,
    encode,
)
from playground.errors import PlaygroundError
from playground.llama.log import LlamaLog, reason
from playground.llama.model import LlamaModel
from playground.machine.child_process import open_child_pipes
from playground.machine.memory import read_process_memory

# Tokens are told together this often. A line for each would wake the page's process in the middle of the next decode,
# whose threads need every core: that cost a fast model some per cent of its speed.
TELL_SECONDS: Final = 0.1


class Worker:
    """Serves one model: a mailbox of commands, a scheduler, and one voice for the events."""

    def __init__(self, decoder: LlamaModel, answers: BinaryIO) -> None:
        self._decoder = decoder
        self._answers = answers
        self._mailbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._scheduler = Scheduler(decoder, self._emit)
        self._scorer = Scorer(decoder, self._emit)
        self._untold: list[bytes] = []
        self._told_at = 0.0

    def listen(self, commands: Iterable[bytes]) -> None:
        """Runs in a thread of its own. The end of the input means that the parent is gone: nothing is left to do."""
        for line in commands:
            command = decode(line)
            if isinstance(command, Cancel) and self._scheduler.decodes_alone(command.request):
                self._decoder.abort()
            self._mailbox.put(command)
        os._exit(0)

    def serve(self) -> None:
        while True:
            working = self._scheduler.can_step or (self._scorer.busy and self._scheduler.threads > 0)
            try:
                self._obey(self._mailbox.get(block=not working))
            except queue.Empty:
                self._step()

    def _step(self) -> None:
        """A step of the replies and a chunk of a scored text take turns; each has a context of its own."""
        if self._scheduler.can_step:
            self._scheduler.step()
        if self._scorer.busy:
            self._scorer.step(self._scheduler.threads)

    def _obey(self, command: Command) -> None:
        match command:
            case Generate():
                self._scheduler.submit(command)
            case Score():
                self._scorer.submit(command)
            case Cancel():
                self._scheduler.cancel(command.request)
                self._scorer.cancel(command.request)
            case ForgetChat():
                self._scheduler.forget_chat(command.chat)
            case CountTokens():
                self._emit(TokenCount(command.request, len(self._decoder.tokenize(command.text))))
            case SetThreads():
                self._scheduler.set_threads(command.threads, all_cores=command.all_cores)
                self._emit(ThreadsSet(command.threads))
            case Load():
                self._emit(Failed(None, "This process has a model already."))

    def _emit(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._tell()  # the last tokens do not wait until the memory is counted
            event = dataclasses.replace(event, memory=measured_memory())
        self._untold.append(encode(event))
        can_wait = isinstance(event, Token) and event.count > 1 and time.monotonic() - self._told_at < TELL_SECONDS
        if not can_wait:  # each reply ends with a Finished, which cannot
            self._tell()

    def _tell(self) -> None:
        self._answers.write(b"".join(self._untold))
        self._untold.clear()
        self._told_at = time.monotonic()


def measured_memory() -> Memory:
    measured = read_process_memory(os.getpid())
    return Memory(measured.anonymous, measured.mapped)


def load(wanted: Load, answers: BinaryIO) -> tuple[LlamaModel, Loaded]:
    """The loaded model; tells its progress in steps of one per cent."""
    started = time.perf_counter()
    told = -1

    def tell(fraction: float) -> bool:
        nonlocal told
        if int(fraction * 100) > told:
            told = int(fraction * 100)
            answers.write(encode(LoadProgress(fraction)))
        return True

    with LlamaLog() as log:
        decoder = LlamaModel(Path(wanted.path), wanted.context, tell, lambda: reason(log.take()))
    facts = Loaded(
        description=decoder.description,
        context_size=decoder.context_size,
        trained_context=decoder.trained_context,
        vocabulary_size=decoder.vocabulary_size,
        parameter_count=decoder.parameter_count,
        chat_template=decoder.chat_template,
        bos=decoder.bos,
        eos=decoder.eos,
        seconds=time.perf_counter() - started,
        memory=measured_memory(),
    )
    return decoder, facts


def main() -> None:
    commands, answers = open_child_pipes()
    wanted = decode(commands.readline())
    try:
        decoder, facts = load(wanted, answers)
    except PlaygroundError as error:
        answers.write(encode(Failed(None, error.problem, error.remedy)))
        return
    worker = Worker(decoder, answers)
    answers.write(encode(facts))
    threading.Thread(target=worker.listen, args=(commands,), daemon=True, name="commands").start()
    worker.serve()


if __name__ == "__main__":
    main()
