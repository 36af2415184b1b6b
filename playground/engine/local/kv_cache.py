"""The slots of one KV cache: which request uses which, what finished requests left, and cells for the next request.

A slot is one sequence of the cache, as in llama.cpp's server. A finished request leaves its tokens there, so that a
prompt that begins with the same tokens evaluates only the new ones. Those cells count as used until they are cleared:
attention visits them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, Protocol

from playground.engine.local.request import GenerateRequest

WORTH_CUTTING: Final = 256  # shared tokens from which a cut cache is reused beside other requests; see _reusable_tokens


class CacheMemory(Protocol):
    """What the slots need of the model's cache; llama/model.py has the real one."""

    context_size: int
    slots: int

    def keep_prefix(self, sequence: int, length: int) -> int: ...
    def forget_all(self) -> None: ...


class Slot:
    """One sequence of the KV cache.

    tokens: left by a finished request; while a request runs, its own list counts.
    is_reproducible: whether the tokens were left by a reproducible request.
    chat_is_over: the cells are cleared as soon as the request ends.
    last_used: a tick of the slots' clock.
    """

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.tokens: list[int] = []
        self.chat = ""
        self.chat_is_over = False
        self.is_reproducible = False
        self.request: GenerateRequest | None = None
        self.last_used = 0


class SequenceCache:
    """All slots of a KV cache."""

    def __init__(self, cache: CacheMemory) -> None:
        self._cache = cache
        self._slots = [Slot(sequence) for sequence in range(cache.slots)]
        self._ticks = itertools.count(1)

    @property
    def busy_slots(self) -> list[tuple[Slot, GenerateRequest]]:
        """Slots with a request, the longest running first."""
        busy = [(slot, slot.request) for slot in self._slots if slot.request]
        return sorted(busy, key=lambda pair: pair[0].last_used)

    @property
    def running_requests(self) -> list[GenerateRequest]:
        """Requests that have a slot, the longest running first."""
        return [request for _, request in self.busy_slots]

    def find_slot(self, request: GenerateRequest) -> Slot | None:
        """A free slot with enough cells, for which the oldest idle slots are cleared; None if there is none.

        Sets how much of the request's prompt is in the cache already.
        """
        running = self.running_requests
        idle = [slot for slot in self._slots if not slot.request]
        reserved = request.max_cells + sum(other.max_cells for other in running)
        is_exclusive = any(other.asked.reproducible for other in running)
        if not idle or is_exclusive or reserved > self._cache.context_size:
            return None
        slot = _best_slot(idle, request.tokens, request.asked.chat)
        others = sorted((other for other in idle if other is not slot), key=lambda other: other.last_used)
        for oldest in list(others):
            if reserved + sum(len(other.tokens) for other in others) <= self._cache.context_size:
                break
            self._clear(oldest)
        reusable = _reusable_tokens(slot.tokens, request.tokens, alone=not running)
        request.cached = request.evaluated = self._cache.keep_prefix(slot.sequence, reusable)
        return slot

    def find_exclusive_slot(self, request: GenerateRequest) -> Slot | None:
        """A slot of an empty cache without other requests, so that the text depends on nothing else.

        A reply that goes on keeps what itself has left, if nothing else came meanwhile.
        """
        if self.busy_slots:
            return None
        slot, *others = self._slots
        before = len(request.tokens) - 1
        if request.asked.written and slot.is_reproducible and slot.tokens == request.tokens[:before]:
            is_whole = self._cache.keep_prefix(slot.sequence, before) == before
            if is_whole and not any(other.tokens for other in others):
                request.cached = request.evaluated = before
                return slot
        self.clear_all()
        return slot

    def assign_slot(self, slot: Slot, request: GenerateRequest) -> None:
        slot.request, slot.tokens, slot.last_used = request, [], next(self._ticks)
        slot.chat, slot.chat_is_over = request.asked.chat, False

    def release_slot(self, slot: Slot) -> None:
        """The request has ended; its tokens stay in the cache, unless its chat is over."""
        if slot.request:
            slot.tokens = slot.request.tokens[: slot.request.evaluated]
            slot.is_reproducible = slot.request.asked.reproducible
        slot.request, slot.last_used = None, next(self._ticks)
        if slot.chat_is_over:
            self._clear(slot)

    def drop_partial_step(self) -> None:
        """After a step that ended midway: keeps only tokens that are known to be in the cache."""
        for slot, request in self.busy_slots:
            request.evaluated = self._cache.keep_prefix(slot.sequence, request.evaluated)

    def clear_idle_slots(self) -> bool:
        """False if there was nothing to clear."""
        idle = [slot for slot in self._slots if not slot.request and slot.tokens]
        for slot in idle:
            self._clear(slot)
        return bool(idle)

    def forget_chat(self, chat: str) -> None:
        """Clear the slots of a chat that is over: their cells would only slow other requests down."""
        for slot in self._slots:
            if slot.chat == chat:
                slot.chat_is_over = True
                if not slot.request:
                    self._clear(slot)

    def clear_all(self) -> None:
        """Empty the cache; no request may be using it."""
        self._cache.forget_all()
        for slot in self._slots:
            slot.tokens = []

    def _clear(self, slot: Slot) -> None:
        self._cache.keep_prefix(slot.sequence, 0)
        slot.tokens = []


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return length


def _reusable_tokens(cached: Sequence[int], prompt: Sequence[int], *, alone: bool) -> int:
    """How many cached tokens a prompt can keep. Its last token is always evaluated, since its logits are needed.

    A sequence that is cut leaves a hole in the KV cache, which llama.cpp fills with the next tokens of all requests.
    That can change their order, and with it the last digits. Beside other requests, only a long prompt is worth it.
    """
    shared = min(_common_prefix(cached, prompt), len(prompt) - 1)
    return shared if alone or shared == len(cached) or shared >= WORTH_CUTTING else 0


def _best_slot(idle: Sequence[Slot], prompt: Sequence[int], chat: str) -> Slot:
    """The chat's own slot, else the one with the most reusable tokens, unless these are just a few of another chat's.

    A prompt without a chat that begins like a slot without a chat continues it: left beside it, the old tokens would
    slow down every step, since attention visits all cells up to the last one in use.
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
