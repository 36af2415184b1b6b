"""A loaded model whose replies ZeroGPU's GPU writes, and the processor where no GPU is lent.

The model stays loaded on the processor as well: it counts the tokens of prompts, and takes over at once when the quota
is gone, nobody lends a GPU, or the call fails before its first token.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from typing import Final

from playground.engine.local.client import LocalEngine
from playground.engine.local.lease import ModelLease
from playground.engine.pipe import decode_event
from playground.engine.protocol import (
    Event,
    Failed,
    Finished,
    Generate,
    Loaded,
    LoadProgress,
    Remark,
    Token,
)
from playground.engine.reply_stream import Mail, ReplyStarter, ReplyStream
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.engine.zerogpu.gpu_function import GpuJob
from playground.engine.zerogpu.quota import seconds_for
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.llama.control_tokens import Span
from playground.text_format import one_line, percent, seconds

REQUEST: Final = 1  # each reply has a stream of its own, so the number means nothing
_LONGEST_REASON: Final = 300  # characters of the platform's words
_MARKUP: Final = re.compile(r"<[^>]*>")


class ZeroGpuEngine(ReplyStarter):
    """As LocalEngine, for `person`, a visitor as the limits count them. is_on_gpu: where the last reply was written."""

    def __init__(self, local: LocalEngine, gpu: ZeroGpu, weight_bytes: int, person: str) -> None:
        self._local = local
        self._gpu = gpu
        self._weight_bytes = weight_bytes
        self._person = person
        self.is_on_gpu = False

    @property
    def loaded(self) -> Loaded:
        return self._local.loaded

    @property
    def name(self) -> str:
        return self._local.name

    def count_tokens(self, text: str, literal: Sequence[Span] = ()) -> int:
        return self._local.count_tokens(text, literal)

    def _next_request(self) -> int:
        return REQUEST

    def _begin_reply(self, command: Generate) -> ReplyStream:
        """Remark events say where the reply is written, and why.

        The platform finds the visitor by the request of the page, which belongs to the caller's context.
        """
        reply = _GpuReply(self, command)
        context = copy_context()
        threading.Thread(target=context.run, args=(reply.write,), daemon=True, name="reply on ZeroGPU").start()
        return ReplyStream(reply.mailbox, reply.close)


class _GpuReply:
    """One reply: on the GPU if it can be had, else here. `write` runs in a thread of its own."""

    def __init__(self, engine: ZeroGpuEngine, command: Generate) -> None:
        self.mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self._engine = engine
        self._command = command
        self._lock = threading.Lock()
        self._is_closed = False
        self._here: ReplyStream | None = None
        self._has_begun = False  # to show text
        self._seconds = 0.0  # of the GPU

    def close(self) -> None:
        """Nobody reads it any more. A call that waits for its GPU ends at its first word."""
        with self._lock:
            self._is_closed, here = True, self._here
        if here:
            here.close()

    def write(self) -> None:
        try:
            if reason := self._write_on_gpu():
                self._remark(f"{reason} So the processor writes this reply.", lasts=True)
                self._write_here()
        except PlaygroundError as error:
            self.mailbox.put(error)
        except Exception as error:  # of any kind: the caller must not wait for ever
            self.mailbox.put(PlaygroundError(f"The reply failed: {type(error).__name__}."))

    def _write_on_gpu(self) -> str:
        """Why the GPU did not write it, "" if it did, or if nobody wants it any more."""
        engine, gpu = self._engine, self._engine._gpu
        outlook = gpu.outlook(engine._person)
        if why := gpu.problem or outlook.refusal:
            return why
        wanted = seconds_for(engine._weight_bytes, self._command.asked.max_tokens)
        wanted = min(wanted, outlook.left) if outlook.left is not None else wanted
        self._remark(f"Waiting for ZeroGPU, asked for {wanted} s of a GPU. {outlook.sentence}")
        local = engine._local
        context = replace(local.context, slots=1, placement=gpu.placement)
        job = GpuJob(str(local.path), context, self._command, wanted, gpu.cores, gpu.libraries)
        began = None
        try:
            with closing(gpu.function(job)) as lines:
                for line in lines:
                    if began is None:
                        began = time.monotonic()
                    if self._is_closed:
                        return ""
                    self._seconds = time.monotonic() - began
                    for event in map(decode_event, line.splitlines()):
                        if isinstance(event, Failed) and not self._has_begun:
                            return f"{event.problem}"
                        self._pass_on(event)
        except PlaygroundError:
            raise
        except Exception as error:  # of Gradio's kind or any other: the platform refuses and breaks off by raising
            said = str(getattr(error, "message", error)) or type(error).__name__
            said = one_line(_MARKUP.sub("", said), _LONGEST_REASON)
            gpu.quota.add_refusal(engine._person, said)
            if self._has_begun:
                raise PlaygroundError(
                    f"ZeroGPU broke the reply off: {said}.", "Ask again, or choose the processor."
                ) from error
            return f"ZeroGPU lent no GPU: {said.rstrip('.')}."
        finally:
            if began is not None:
                gpu.quota.add_use(engine._person, time.monotonic() - began)
        return ""

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, LoadProgress):
            self._remark(f"Loading the model on the GPU: {percent(event.fraction)}")
            return
        if isinstance(event, Loaded):
            return
        if isinstance(event, Token | Finished):
            self._has_begun = True
            self._engine.is_on_gpu = True
        if isinstance(event, Finished):
            where = self._engine._gpu.place
            self._remark(f"Written by {where} in {seconds(self._seconds)} of ZeroGPU's time.", lasts=True)
        self.mailbox.put(event)

    def _write_here(self) -> None:
        self._engine.is_on_gpu = False
        stream = self._engine._local.start_reply(self._command.asked)
        with self._lock:
            self._here, is_closed = stream, self._is_closed
        if is_closed:
            stream.close()
        for event in stream:
            self.mailbox.put(event)

    def _remark(self, text: str, *, lasts: bool = False) -> None:
        self.mailbox.put(Remark(REQUEST, text, lasts))


class ZeroGpuLease:
    """A lease of the pool whose engine asks for the GPU first. plan: None once the GPU has written the reply."""

    def __init__(self, lease: ModelLease, gpu: ZeroGpu, person: str) -> None:
        self._lease = lease
        self.engine = ZeroGpuEngine(lease.engine, gpu, lease.plan.all_weights, person)
        self.load_seconds = lease.load_seconds

    @property
    def plan(self) -> MemoryPlan | None:
        return None if self.engine.is_on_gpu else self._lease.plan

    def release(self) -> None:
        self._lease.release()

    def __enter__(self) -> ZeroGpuLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
