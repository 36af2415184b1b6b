"""A model's own process: `python -m playground.engine.local.worker` loads one model and serves its requests.

It ends when its input ends. One thread reads commands, so that a Cancel can abort a decode under way. The main thread
does everything else.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import resource
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from playground.engine.local.embedder import Embedder
from playground.engine.local.scheduler import Scheduler
from playground.engine.local.scoring.scorer import Scorer
from playground.engine.pipe import decode_command, encode_event
from playground.engine.protocol import (
    Cancel,
    Command,
    CountTokens,
    DeviceMemory,
    Embed,
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
)
from playground.errors import DoesNotFit, PlaygroundError
from playground.llama.devices import backend_name, device_backends, free_memory
from playground.llama.log import LlamaLog, failure_reason
from playground.llama.model import LlamaModel
from playground.machine.child_process import open_child_pipes
from playground.machine.memory import read_process_memory

# Tokens are sent together this often. A line for each of them would wake the page's process in the middle of the next
# decode, whose threads need every core: that cost a fast model some per cent of its speed.
SEND_SECONDS: Final = 0.1


def _disk_reads() -> int:
    """How often this process has waited for a page of a file, such as weights that are mapped."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


class Worker:
    """Serves one loaded model: commands from the pipe, what replies, scores and embeds, and events to the pipe."""

    def __init__(self, model: LlamaModel, output: BinaryIO, devices: tuple[DeviceMemory, ...] = ()) -> None:
        self._model = model
        self._devices = devices
        self._output = output
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        cpu_clock = time.process_time if model.is_on_cpu else None
        self._scheduler = Scheduler(model, self._emit, cpu_clock=cpu_clock, disk_reads=_disk_reads)
        self._scorer = Scorer(model, self._emit)
        self._embedder = Embedder(model, self._emit)
        self._unsent: list[bytes] = []
        self._sent_at = 0.0

    def read_commands(self, lines: Iterable[bytes]) -> None:
        """Runs in a thread of its own. When the input ends, the parent is gone, and so is this process."""
        for line in lines:
            command = decode_command(line)
            if isinstance(command, Cancel) and (
                self._scheduler.decodes_alone(command.request) or self._embedder.is_reading(command.request)
            ):
                self._model.abort()
            self._commands.put(command)
        os._exit(0)

    def serve_requests(self) -> None:
        """Returns only if the model's device is lost: the process has to end then, and a new one starts afresh."""
        while not self._model.is_lost:
            is_asked_more = self._scorer.is_busy or self._embedder.is_busy
            has_work = self._scheduler.can_step or (is_asked_more and self._scheduler.threads > 0)
            try:
                self._execute(self._commands.get(block=not has_work))
            except queue.Empty:
                self._run_step()

    def _run_step(self) -> None:
        """A step of the replies and a chunk of a scored text alternate, each with a context of its own.

        A model that embeds does nothing else.
        """
        if self._scheduler.can_step:
            self._scheduler.run_step()
        if self._scorer.is_busy:
            self._scorer.run_step(self._scheduler.threads)
        if self._embedder.is_busy:
            self._embedder.run_step()

    def _execute(self, command: Command) -> None:
        match command:
            case Generate():
                self._scheduler.add_request(command)
            case Score():
                self._scorer.add_request(command)
            case Embed():
                self._embedder.add_request(command)
            case Cancel():
                self._scheduler.cancel_request(command.request)
                self._scorer.cancel_request(command.request)
                self._embedder.cancel_request(command.request)
            case ForgetChat():
                self._scheduler.forget_chat(command.chat)
            case CountTokens():
                self._emit(TokenCount(command.request, len(self._model.tokenize(command.text, command.literal))))
            case SetThreads():
                self._scheduler.set_threads(command.threads, all_cores=command.all_cores)
                self._emit(ThreadsSet(command.threads))
            case Load():
                self._emit(Failed(None, "This process has a model already."))

    def _emit(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._send()  # the last tokens do not wait until the memory is measured
            event = dataclasses.replace(event, memory=measure_memory(self._devices))
        self._unsent.append(encode_event(event))
        can_wait = isinstance(event, Token) and event.count > 1 and time.monotonic() - self._sent_at < SEND_SECONDS
        if not can_wait:  # every reply ends with Finished, which does not wait
            self._send()

    def _send(self) -> None:
        self._output.write(b"".join(self._unsent))
        self._unsent.clear()
        self._sent_at = time.monotonic()


def measure_memory(devices: tuple[DeviceMemory, ...]) -> Memory:
    measured = read_process_memory(os.getpid())
    return Memory(measured.anonymous, measured.mapped, devices)


def measure_devices(model: LlamaModel, free_before: Mapping[str, int]) -> tuple[DeviceMemory, ...]:
    """The GPUs that hold a part of the model, right after its load; other programs change what is free later."""
    held = model.bytes_on_devices
    taken = {name: free_before.get(name, 0) - free_memory(name) for name in held}
    return tuple(
        DeviceMemory(
            name, allocated, taken[name] if taken[name] > 0 else None, backend_name(name), model.layers_on(name)
        )
        for name, allocated in held.items()
    )


def load_model(command: Load, output: BinaryIO) -> tuple[LlamaModel, Loaded]:
    """The loaded model. Sends its progress in steps of one per cent."""
    started = time.perf_counter()
    sent = -1

    def send_progress(fraction: float) -> bool:
        nonlocal sent
        if int(fraction * 100) > sent:
            sent = int(fraction * 100)
            output.write(encode_event(LoadProgress(fraction)))
        return True

    free_before = {name: free_memory(name) for name in command.context.placement.devices}
    with LlamaLog() as log:
        model = LlamaModel(Path(command.path), command.context, send_progress, lambda: failure_reason(log.take_lines()))
    loaded = Loaded(
        description=model.description,
        context_size=model.context_size,
        trained_context=model.trained_context,
        vocabulary_size=model.vocabulary_size,
        parameter_count=model.parameter_count,
        chat_template=model.chat_template,
        bos=model.bos,
        eos=model.eos,
        seconds=time.perf_counter() - started,
        memory=measure_memory(measure_devices(model, free_before)),
        control_texts=model.control_tokens.texts,
    )
    return model, loaded


def main() -> None:
    lines, output = open_child_pipes(for_driver=bool(device_backends()))
    command = decode_command(lines.readline())
    assert isinstance(command, Load)
    try:
        model, loaded = load_model(command, output)
    except PlaygroundError as error:
        output.write(encode_event(Failed(None, error.problem, error.remedy, isinstance(error, DoesNotFit))))
        return
    worker = Worker(model, output, loaded.memory.devices)
    output.write(encode_event(loaded))
    threading.Thread(target=worker.read_commands, args=(lines,), daemon=True, name="commands").start()
    worker.serve_requests()


if __name__ == "__main__":
    main()
