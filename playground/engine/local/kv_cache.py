"""The sequences of one KV cache: which reply has which, what is kept of the finished ones, and room for the next.

Knows tokens and cells, no steps and no events. A finished sequence stays: a prompt that begins with the same tokens
evaluates only what is new. Its cells count until they are given up, since attention visits them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, Protocol

from playground.engine.local.request import GenerateRequest

WORTH_CUTTING: Final = 256  # shared tokens from which a cut cache is reused though others decode; see _reusable


class CacheMemory(Protocol):
    """What is needed of the model's cache; llama/decoder.py has the real one."""

    context_size: int
    slots: int

    def keep_prefix(self, sequence: int, length: int) -> int: ...
    def forget_all(self) -> None: ...


class Slot:
    """One sequence of the KV cache: what it holds, and the reply that is using it."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.tokens: list[int] = []  # left by a finished reply; a living one keeps its own
        self.chat = ""
        self.is_over = False  # its chat: nothing is kept when the reply ends
        self.reply: GenerateRequest | None = None
        self.last_used = 0  # a tick: when its reply was given it, or gave it back


class SequenceCache:
    """All of a cache's, each with or without a reply."""

    def __init__(self, cache: CacheMemory) -> None:
        self._cache = cache
        self._slots = [Slot(sequence) for sequence in range(cache.slots)]
        self._ticks = itertools.count(1)

    @property
    def in_use(self) -> list[tuple[Slot, GenerateRequest]]:
        """Those with a reply, longest served first."""
        used = [(slot, slot.reply) for slot in self._slots if slot.reply]
        return sorted(used, key=lambda one: one[0].last_used)

    @property
    def replies(self) -> list[GenerateRequest]:
        """Those that have a sequence, longest served first."""
        return [reply for _, reply in self.in_use]

    def find(self, reply: GenerateRequest) -> Slot | None:
        """A place for it, with room for all of it made by forgetting the oldest idle sequences; None if there is none.

        The reply is told how much of its prompt is in the cache already.
        """
        others = self.replies
        idle = [slot for slot in self._slots if not slot.reply]
        reserved = reply.cells + sum(other.cells for other in others)
        exclusive = any(other.wanted.reproducible for other in others)
        if not idle or exclusive or reserved > self._cache.context_size:
            return None
        slot = _best_slot(idle, reply.tokens, reply.wanted.chat)
        kept = sorted((other for other in idle if other is not slot), key=lambda other: other.last_used)
        for oldest in list(kept):
            if reserved + sum(len(one.tokens) for one in kept) <= self._cache.context_size:
                break
            self._empty(oldest)
        reused = _reusable(slot.tokens, reply.tokens, alone=not others)
        reply.cached = reply.evaluated = self._cache.keep_prefix(slot.sequence, reused)
        return slot

    def find_alone(self) -> Slot | None:
        """A place with nobody beside it and an empty cache, so that nothing can differ."""
        if self.in_use:
            return None
        self.forget_all()
        return self._slots[0]

    def give(self, slot: Slot, reply: GenerateRequest) -> None:
        """The reply has the slot from now on."""
        slot.reply, slot.tokens, slot.last_used = reply, [], next(self._ticks)
        slot.chat, slot.is_over = reply.wanted.chat, False

    def take_back(self, slot: Slot) -> None:
        """The reply is over; what it has in the cache stays, unless its whole chat is."""
        if slot.reply:
            slot.tokens = slot.reply.tokens[: slot.reply.evaluated]
        slot.reply, slot.last_used = None, next(self._ticks)
        if slot.is_over:
            self._empty(slot)

    def recover(self) -> None:
        """After a decode that ended midway: keep what surely is in the cache."""
        for slot, reply in self.in_use:
            reply.evaluated = self._cache.keep_prefix(slot.sequence, reply.evaluated)

    def give_up_idle(self) -> bool:
        """Make what room there is; False where there was none to make."""
        idle = [slot for slot in self._slots if not slot.reply and slot.tokens]
        for slot in idle:
            self._empty(slot)
        return bool(idle)

    def forget_chat(self, chat: str) -> None:
        """Give up the chat's sequences: nobody will go on with them, and their cells would only slow others down."""
        for slot in self._slots:
            if slot.chat == chat:
                slot.is_over = True
                if not slot.reply:
                    self._empty(slot)

    def forget_all(self) -> None:
        """Empty the cache; nobody may be using it."""
        self._cache.forget_all()
        for slot in self._slots:
            slot.tokens = []

    def _empty(self, slot: Slot) -> None:
        self._cache.keep_prefix(slot.sequence, 0)
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
