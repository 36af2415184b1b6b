"""Continuous batching: many requests share the steps of one model.

Knows no llama.cpp, no pipes and no chats: it drives a Decoder and emits events. Each step admits who fits, builds one
batch (a token for every sequence that generates, then pieces of prompts), decodes it, samples and emits. A finished
sequence stays in the KV cache: a prompt that begins with the same tokens evaluates only what is new.

A reply is one growing list of tokens, prompt first, and a count of how many of them are in the cache. Whatever is not
there yet is evaluated next; so a lost cache costs time, never text.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from playground.engine.messages import (
    Alternative,
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Prefilled,
    Queued,
    Token,
)
from playground.engine.pace import Pace
from playground.engine.reply import Reply
from playground.errors import PlaygroundError
from playground.llama.decoder import Aborted, CacheFull, Row

STEP_SECONDS: Final = 0.5  # a step should take no longer, so that Stop and other chats never wait long
SMALLEST_CHUNK: Final = 16  # prompt tokens in a step, however slow the model
FIRST_CHUNK: Final = 64  # before any speed is known
FIXED_CHUNK: Final = 128  # of reproducible requests: the same text in the same pieces, always

# llama.cpp's attention on a CPU takes another path from 64 rows on: faster on long prompts, with other last digits.
# Short prompts stay below, so that a short chat says the same alone, among others and in its second turn.
QUIET_ROWS: Final = 60
SHORT_PROMPT: Final = 512
WORTH_CUTTING: Final = 256  # shared tokens from which a cut cache is reused though others decode; see _reusable


class Decoder(Protocol):
    """What the scheduler needs of a model; llama/decoder.py is the real one."""

    context_size: int
    batch_size: int
    slots: int

    def tokenize(self, text: str) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...
    def decode(self, rows: Sequence[Row]) -> None: ...
    def new_sampler(
        self,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repeat_penalty: float,
        seed: int,
        recent: Sequence[int],
    ) -> Any: ...
    def sample(self, row: int, sampler: Any) -> int: ...
    def log_probabilities(self, row: int) -> npt.NDArray[np.float32]: ...
    def keep_prefix(self, sequence: int, length: int) -> int: ...
    def forget_all(self) -> None: ...
    def set_threads(self, threads: int) -> None: ...
    def clear_abort(self) -> None: ...


class Slot:
    """One sequence of the KV cache: what it holds, and the reply that is using it."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.tokens: list[int] = []  # left by a finished reply; a living one keeps its own
        self.chat = ""
        self.is_over = False  # its chat: nothing is kept when the reply ends
        self.reply: Reply | None = None
        self.last_used = 0


class Scheduler:
    """Serves requests in the order they come, `slots` at once; call `step` while `can_step`."""

    def __init__(
        self,
        decoder: Decoder,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decoder = decoder
        self._emit = emit
        self._clock = clock
        self.threads = 0
        self._whole_cores = True
        self._slots = [Slot(sequence) for sequence in range(decoder.slots)]
        self._waiting: deque[Reply] = deque()
        self._chunk = float(FIRST_CHUNK)
        self._pace = Pace()
        self._ticks = itertools.count(1)  # orders living replies and idle sequences by age

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or any(slot.reply for slot in self._slots)

    def submit(self, wanted: Generate) -> None:
        """Queue a request; one whose prompt cannot fit is answered with Failed at once."""
        tokens = self._decoder.tokenize(wanted.prompt)
        size = self._decoder.context_size
        if not tokens or len(tokens) >= size:
            problem = f"The prompt has {len(tokens):,} tokens; this context holds {size:,}, the reply included."
            self._emit(Failed(wanted.request, problem, "Shorten the text or choose a larger context."))
            return
        self._waiting.append(Reply(wanted, tokens, size, self._clock()))

    def cancel(self, request: int) -> None:
        """End a request wherever it is; its sequence stays as a cache."""
        self._decoder.clear_abort()
        for reply in self._waiting:
            if reply.request == request:
                self._waiting.remove(reply)
                self._tell_end(reply, "cancelled")
                return
        for slot in self._active():
            assert slot.reply
            if slot.reply.request == request:
                self._finish(slot, "cancelled")

    def forget_chat(self, chat: str) -> None:
        """Give up the chat's sequences: nobody will go on with them, and their cells would only slow others down."""
        for slot in self._slots:
            if slot.chat == chat:
                slot.is_over = True
                if not slot.reply:
                    self._empty(slot)

    def decodes_alone(self, request: int) -> bool:
        """Whether an abort of the running step would cost nobody else anything."""
        return [slot.reply.request for slot in self._slots if slot.reply] == [request]

    @property
    def can_step(self) -> bool:
        """Whether there is work that may be done with the threads of now: a reproducible request wants all cores."""
        if not self.busy or self.threads == 0:
            return False
        next_up = [slot.reply for slot in self._slots if slot.reply] or [self._waiting[0]]
        return self._whole_cores or not any(reply.wanted.reproducible for reply in next_up)

    def set_threads(self, threads: int, *, whole: bool = True) -> None:
        """`whole`: these are all cores there are."""
        self.threads, self._whole_cores = threads, whole
        if threads > 0:
            self._decoder.set_threads(threads)

    # --- a step ---

    def step(self) -> None:
        """Admit, evaluate one batch, sample, emit."""
        started = self._clock()
        self._admit()
        taken, rows = self._build_batch()
        if not rows:
            return
        try:
            self._decoder.decode(rows)
        except Aborted:
            self._decoder.clear_abort()
            self._recover()
        except CacheFull:
            self._make_room()
        except PlaygroundError as error:
            self._fail_all(error)
        else:
            self._advance(taken, started)

    def _build_batch(self) -> tuple[list[tuple[Slot, int, int]], list[Row]]:
        """The slots that take part, each with its count of tokens and the batch row of its last one; and the rows."""
        taken: list[tuple[Slot, int, int]] = []
        rows: list[Row] = []
        generating = [slot for slot in self._active() if slot.reply and slot.reply.generating]
        reading = [slot for slot in self._active() if slot.reply and not slot.reply.generating]
        for slot in generating:
            self._add_rows(slot, 1, rows, taken)
        room = self._chunk_size(len(rows), reading)
        for place, slot in enumerate(reading):
            assert slot.reply
            share = math.ceil(room / (len(reading) - place))
            count = min(share, len(slot.reply.remaining))
            if count:
                self._add_rows(slot, count, rows, taken)
                room -= count
        return taken, rows

    def _chunk_size(self, rows: int, reading: Sequence[Slot]) -> int:
        """How many prompt tokens this step may take beside its `rows` of generating sequences."""
        room = self._decoder.batch_size - rows
        if any(slot.reply and slot.reply.wanted.reproducible for slot in reading):
            return min(FIXED_CHUNK, room)
        if all(slot.reply and slot.reply.prompt_size - slot.reply.cached <= SHORT_PROMPT for slot in reading):
            room = min(room, max(QUIET_ROWS - rows, SMALLEST_CHUNK))
        return min(int(self._chunk), room)

    @staticmethod
    def _add_rows(slot: Slot, count: int, rows: list[Row], taken: list[tuple[Slot, int, int]]) -> None:
        assert slot.reply
        tokens, start = slot.reply.tokens, slot.reply.evaluated
        for position in range(start, start + count):
            rows.append(Row(tokens[position], position, slot.sequence, position == len(tokens) - 1))
        taken.append((slot, count, len(rows) - 1))

    def _advance(self, taken: Sequence[tuple[Slot, int, int]], started: float) -> None:
        """Sample for every sequence that has caught up, then account for the step and emit."""
        sampled: list[int | None] = []
        for slot, count, row in taken:
            reply = slot.reply
            assert reply
            caught_up = reply.evaluated + count == len(reply.tokens)
            sampled.append(self._decoder.sample(row, reply.sampler) if caught_up else None)
        now = self._clock()
        self._learn_chunk(
            sum(count for slot, count, _ in taken if slot.reply and not slot.reply.generating), now - started
        )
        for (slot, count, row), token in zip(taken, sampled, strict=True):
            reply = slot.reply
            assert reply
            reply.account(count, now - started)
            if reply.generated == 0:
                self._emit(Prefilled(reply.request, reply.evaluated, reply.prompt_size, reply.cached))
            if token is not None:
                self._take(slot, token, row, now)

    def _learn_chunk(self, prompt_tokens: int, seconds: float) -> None:
        """Follow the speed of prompt evaluation; small remainders say little about it and are left out."""
        if prompt_tokens >= self._chunk / 2 and seconds > 0:
            possible = STEP_SECONDS * prompt_tokens / seconds
            smoothed = (self._chunk + possible) / 2
            self._chunk = min(max(smoothed, SMALLEST_CHUNK), self._decoder.batch_size)

    def _take(self, slot: Slot, token: int, row: int, now: float) -> None:
        """A reply got its next token: emit it, or end the reply."""
        reply = slot.reply
        assert reply
        if reply.first_token_at is None:
            reply.first_token_at = now
        logprob, top = self._alternatives(reply.wanted.alternatives, token, row)
        if self._decoder.ends(token):
            end = None if logprob is None else Alternative(token, self._piece(token), logprob)
            self._finish(slot, "end of text", end, top)
            return
        reply.tokens.append(token)
        text = reply.text.feed(self._decoder.piece(token))
        speed, waited = reply.generation_speed, reply.first_token_at - reply.submitted_at
        self._emit(Token(reply.request, text, token, reply.generated, speed, len(reply.tokens), logprob, top, waited))
        if reply.text.stopped:
            self._finish(slot, "stop string")
        elif reply.generated == reply.wanted.max_tokens:
            self._finish(slot, "length limit")
        elif len(reply.tokens) >= self._decoder.context_size:
            self._finish(slot, "context full")

    def _alternatives(self, count: int, token: int, row: int) -> tuple[float | None, tuple[Alternative, ...]]:
        if count <= 0:
            return None, ()
        logprobs = self._decoder.log_probabilities(row)
        best = np.argsort(-logprobs, kind="stable")[:count]
        top = tuple(Alternative(int(i), self._piece(int(i)), float(logprobs[i])) for i in best)
        return float(logprobs[token]), top

    def _piece(self, token: int) -> str:
        return self._decoder.piece(token).decode("utf-8", "replace")

    # --- admission ---

    def _active(self) -> list[Slot]:
        """The slots in use, longest served first."""
        return sorted(
            (slot for slot in self._slots if slot.reply), key=lambda slot: slot.reply.order if slot.reply else 0
        )

    def _admit(self) -> None:
        """Strictly in order: whoever is next waits for room, and nobody overtakes."""
        while self._waiting:
            reply = self._waiting[0]
            slot = self._place_alone() if reply.wanted.reproducible else self._place(reply)
            if slot is None:
                break
            self._waiting.popleft()
            reply.admitted(self._clock(), order=next(self._ticks))
            sampling = reply.wanted.sampling
            reply.sampler = self._decoder.new_sampler(
                sampling.temperature,
                sampling.top_k,
                sampling.top_p,
                sampling.min_p,
                sampling.repeat_penalty,
                random.getrandbits(32) if sampling.seed is None else sampling.seed,
                reply.tokens,
            )
            slot.reply, slot.tokens, slot.chat, slot.is_over = reply, [], reply.wanted.chat, False
        self._tell_places()

    def _tell_places(self) -> None:
        if all(reply.place == place for place, reply in enumerate(self._waiting, start=1)):
            return
        now = self._clock()
        running = [slot.reply.served_seconds(now) for slot in self._slots if slot.reply]
        waits = self._pace.waits(running, [reply.wanted.reproducible for reply in self._waiting])
        for place, (reply, seconds) in enumerate(zip(self._waiting, waits, strict=True), start=1):
            if reply.place != place:
                reply.place = place
                self._emit(Queued(reply.request, place, seconds))

    def _place_alone(self) -> Slot | None:
        """For a reproducible request: nobody beside it, an empty cache, all cores, so that nothing can differ."""
        if self._active() or not self._whole_cores:
            return None
        self._forget_everything()
        return self._slots[0]

    def _place(self, reply: Reply) -> Slot | None:
        """The best idle slot, with room for the whole reply made by forgetting the oldest idle sequences."""
        active = [slot.reply for slot in self._slots if slot.reply]
        idle = [slot for slot in self._slots if not slot.reply]
        reserved = reply.cells + sum(other.cells for other in active)
        exclusive = any(other.wanted.reproducible for other in active)
        if not idle or exclusive or reserved > self._decoder.context_size:
            return None
        slot = _best_slot(idle, reply.tokens, reply.wanted.chat)
        others = sorted((other for other in idle if other is not slot), key=lambda other: other.last_used)
        for other in others:
            if reserved + sum(len(kept.tokens) for kept in others) <= self._decoder.context_size:
                break
            self._empty(other)
        kept = _reusable(slot.tokens, reply.tokens, alone=not active)
        reply.cached = reply.evaluated = self._decoder.keep_prefix(slot.sequence, kept)
        return slot

    # --- endings ---

    def _finish(
        self, slot: Slot, reason: FinishReason, end: Alternative | None = None, top: tuple[Alternative, ...] = ()
    ) -> None:
        reply = slot.reply
        assert reply
        slot.tokens = reply.tokens[: reply.evaluated]
        slot.reply = None
        slot.last_used = next(self._ticks)
        if slot.is_over:
            self._empty(slot)
        self._pace.ended(reply.served_seconds(self._clock()))
        self._tell_end(reply, reason, end, top)

    def _tell_end(
        self, reply: Reply, reason: FinishReason, end: Alternative | None = None, top: tuple[Alternative, ...] = ()
    ) -> None:
        text, timings = reply.text.finish(), reply.timings(self._clock(), self.threads)
        self._emit(Finished(reply.request, reason, timings, text, end=end, top=top))
        reply.close()

    def _recover(self) -> None:
        """After a decode that ended midway: keep what surely is in the cache."""
        for slot in self._active():
            if slot.reply:
                slot.reply.evaluated = self._decoder.keep_prefix(slot.sequence, slot.reply.evaluated)

    def _make_room(self) -> None:
        """The accounting promised room that the cache did not have: give up idle sequences, then the youngest reply."""
        idle = [slot for slot in self._slots if not slot.reply and slot.tokens]
        for slot in idle:
            self._empty(slot)
        self._recover()
        if not idle:
            self._finish(self._active()[-1], "context full")

    def _fail_all(self, error: PlaygroundError) -> None:
        for slot in self._active():
            assert slot.reply
            self._emit(Failed(slot.reply.request, error.problem, error.remedy))
            slot.reply.close()
            slot.reply = None
        self._forget_everything()

    def _empty(self, slot: Slot) -> None:
        self._decoder.keep_prefix(slot.sequence, 0)
        slot.tokens = []

    def _forget_everything(self) -> None:
        self._decoder.forget_all()
        for slot in self._slots:
            slot.tokens = []


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return length


def _reusable(cached: Sequence[int], prompt: Sequence[int], *, alone: bool) -> int:
    """How many cached tokens a prompt keeps. The last prompt token is always evaluated: its logits choose the reply.

    A sequence that is cut leaves a hole in the KV cache, into which llama.cpp puts the next tokens of everybody; where
    that turns their order, last digits change. Beside others it is worth it only for a prompt that takes long to read.
    """
    shared = min(_common_prefix(cached, prompt), len(prompt) - 1)
    return shared if alone or shared == len(cached) or shared >= WORTH_CUTTING else 0


def _best_slot(idle: Sequence[Slot], prompt: Sequence[int], chat: str) -> Slot:
    """The chat's own slot, else the one whose cache serves best without wiping another chat's for a few common words.

    Who does not name a chat and begins as a nameless sequence does goes on with it: a stale one beside it would lie in
    the way of every token, since attention visits all cells up to the last that is taken.
    """
    own = next((slot for slot in idle if chat and slot.chat == chat), None)
    if own:
        return own
    best = max(idle, key=lambda slot: _common_prefix(slot.tokens, prompt))
    shared = _common_prefix(best.tokens, prompt)
    worth = len(best.tokens) if best.chat or chat else min(len(best.tokens), len(prompt))
    if shared and shared * 2 >= worth:
        return best
    return min(idle, key=lambda slot: (len(slot.tokens) > 0, slot.last_used))
