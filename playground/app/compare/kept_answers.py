"""Answers that were given on a page, so that going back to a level shows them at once.

A comparison is reproducible: the same model, question and settings give the same answer, so a kept answer is what a
second run would write. Bounded for each page and in all; the answers of the page that was used last are dropped last.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from playground.app.compare.comparison import CompareRequest, PaneSession
from playground.app.model_picker.choice import ModelChoice
from playground.chat.comparison import MeasurementNoise
from playground.measure.fidelity import Fidelity

MOST_PAGES: Final = 64
MOST_OF_A_PAGE: Final = 16

_Key = tuple[Hashable, ...]
T = TypeVar("T")


@dataclass
class _OfPage:
    answers: OrderedDict[_Key, PaneSession] = field(default_factory=OrderedDict)
    agreements: OrderedDict[_Key, Fidelity] = field(default_factory=OrderedDict)
    noises: OrderedDict[_Key, MeasurementNoise] = field(default_factory=OrderedDict)


class KeptAnswers:
    """The answers, agreements and measured noise of each page. Thread-safe. owner: the page's key."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, _OfPage] = OrderedDict()
        self._lock = threading.Lock()

    def add_answer(self, owner: str, request: CompareRequest, pane: PaneSession) -> None:
        """Keep a pane with its whole answer. request: that it was given to."""
        if pane.choice and pane.result:
            with self._lock:
                _keep(self._page(owner).answers, _answer_key(pane.choice, pane, request), pane)

    def find_answer(
        self, owner: str, request: CompareRequest, choice: ModelChoice, asked: PaneSession
    ) -> PaneSession | None:
        """What this model answered to the same question with the same settings; None if it was not asked yet.

        What is found counts as the newest from then on.
        """
        key = _answer_key(choice, asked, request)
        with self._lock:
            answers = self._page(owner).answers
            if key in answers:
                answers.move_to_end(key)
            return answers.get(key)

    def find_levels(
        self, owner: str, request: CompareRequest, like: ModelChoice, asked: PaneSession
    ) -> list[PaneSession]:
        """What the levels of one model answered to the same question, the newest first, each level once.

        like: a choice that theirs equal but for the level. An answer with another length limit counts too.
        """
        question = _answer_key(like, asked, request)[1:-1]
        found: dict[str | None, PaneSession] = {}
        with self._lock:
            for key, pane in reversed(self._page(owner).answers.items()):
                choice = pane.choice
                if choice and key[1:-1] == question and replace(choice, level=like.level) == like:
                    found.setdefault(choice.level, pane)
        return list(found.values())

    def add_agreement(self, owner: str, first: PaneSession, second: PaneSession, fidelity: Fidelity) -> None:
        with self._lock:
            _keep(self._page(owner).agreements, _agreement_key(first, second), fidelity)

    def find_agreement(self, owner: str, first: PaneSession, second: PaneSession) -> Fidelity | None:
        """How probable the second model finds the first one's answer, if it was measured."""
        with self._lock:
            return self._page(owner).agreements.get(_agreement_key(first, second))

    def add_noise(self, owner: str, first: PaneSession, second: PaneSession, noise: MeasurementNoise) -> None:
        with self._lock:
            _keep(self._page(owner).noises, _pair_key(first, second), noise)

    def find_noise(self, owner: str, first: PaneSession, second: PaneSession) -> MeasurementNoise | None:
        """What two runs of one of the pair differed by, if it was measured."""
        with self._lock:
            return self._page(owner).noises.get(_pair_key(first, second))

    def _page(self, owner: str) -> _OfPage:
        """The lock is held."""
        page = self._pages.setdefault(owner, _OfPage())
        self._pages.move_to_end(owner)
        while len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        return page


def _keep(kept: OrderedDict[_Key, T], key: _Key, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > MOST_OF_A_PAGE:
        kept.popitem(last=False)


def _answer_key(choice: ModelChoice, pane: PaneSession, request: CompareRequest) -> _Key:
    question = pane.question
    return (choice, question.system, question.messages, request.sampling, request.max_tokens)


def _agreement_key(first: PaneSession, second: PaneSession) -> _Key:
    return (first.choice, second.choice, first.conversation.system, first.conversation.messages)


def _pair_key(first: PaneSession, second: PaneSession) -> _Key:
    return (first.choice, second.choice)
