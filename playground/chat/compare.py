"""One question to several panes, in turn or at once, as one stream of what happens in each.

In turn, each model has all cores to itself, so that its speed is its own; at once they share them. Models of servers
stand beside those of this computer: both are leases here. Either way a request is reproducible and all panes have the
same seed: what differs in the answers is the models' doing. One thread does it all, because the engines write into
mailboxes meanwhile; so closing the stream ends everything, in any phase.

Knows no page. Which models stay in memory is the pool's to decide: it keeps both where they fit together, and lets one
give way to the other where they do not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.chat.comparison import Mode, Pane, PaneResult, PaneUpdate
from playground.chat.conversation import Lease, reply
from playground.engine.local.pool import LoadStatus, ModelKey, ModelPool
from playground.engine.protocol import Sampling, Token
from playground.engine.remote.protocol import RemoteModel
from playground.engine.remote.registry import ServerRegistry
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.planner import Planner
from playground.fit.verdict import judge
from playground.limits.runs import Visitor

# Two models on 4 cores each: about where more cores stop to speed a reply up, because memory sets its pace.
CORES_FOR_AT_ONCE: Final = 8
_SEEDS: Final = 1_000_000  # enough to choose from, and short enough to be typed again


def compare(
    pool: ModelPool,
    planner: Planner,
    panes: Sequence[Pane],
    sampling: Sampling,
    max_tokens: int | None,
    *,
    mode: Mode,
    interval_seconds: float,
    alternatives: int = 5,
    remotes: ServerRegistry | None = None,
    visitor: Visitor | None = None,
) -> Generator[PaneUpdate, None, None]:
    """Each pane's answer to the question that its conversation ends with; one pane alone does too.

    An update of one pane or another comes about every interval_seconds, also when there is no news. A pane ends with
    its `result` or with why it `failed`; nothing is raised for it. A sampling without a seed gets one for all panes
    (told in each result). Closing the generator stops every pane and leaves the engines ready. visitor: who asked,
    for the log.
    """
    comparison = _Comparison(
        pool,
        planner,
        remotes or ServerRegistry(),
        panes,
        seeded(sampling),
        max_tokens,
        interval_seconds,
        alternatives,
        visitor,
    )
    everyone = range(len(panes))
    return comparison.in_turn(everyone) if mode == "in turn" else comparison.at_once(everyone)


def usual_mode(cores: int) -> Mode:
    """In turn on few cores, where two models at once would make each other slow."""
    return "at once" if cores >= CORES_FOR_AT_ONCE else "in turn"


def seeded(sampling: Sampling) -> Sampling:
    """With a seed: its own, or one drawn now."""
    return sampling if sampling.seed is not None else replace(sampling, seed=random.randrange(_SEEDS))


def residency(pool: ModelPool, planner: Planner, panes: Sequence[Pane]) -> Literal["together", "one after the other"]:
    """Whether the panes' models will be in memory together, by plan and as the pool would decide now.

    A file that cannot be planned will not load either, and takes no memory. Asks the planner: a second for a new file.
    """
    in_use = {model.key for model in pool.loaded_models() if model.users > 0}
    beside = 0  # bytes of the models before
    for key in dict.fromkeys(_keys(panes)):
        if key in in_use:
            continue
        try:
            plan = planner.plan(key.path, key.context)
        except PlaygroundError:
            continue
        if beside and judge(plan, pool.usable_bytes_for(key.path) - beside).kind == "wont_fit":
            return "one after the other"
        beside += plan.total
    return "together"


@dataclass(frozen=True)
class _Comparison:
    pool: ModelPool
    planner: Planner
    remotes: ServerRegistry
    panes: Sequence[Pane]
    sampling: Sampling
    max_tokens: int | None
    interval_seconds: float
    alternatives: int
    visitor: Visitor | None

    def in_turn(self, which: Iterable[int]) -> Generator[PaneUpdate, None, None]:
        """One after the other; each model is released before the next one is asked for."""
        for index in which:
            try:
                with (yield from self._opened(index)) as lease:
                    yield from self._answer(index, lease, "in turn")
            except PlaygroundError as error:
                yield PaneUpdate(index, failed=error)

    def at_once(self, which: Sequence[int]) -> Generator[PaneUpdate, None, None]:
        """All models are opened, then all answer; where that cannot be, in turn."""
        keys = _keys([self.panes[index] for index in which])
        if len(set(keys)) < len(keys):
            yield PaneUpdate(which[-1], takes_turns="one model")  # it answers reproducible requests one by one
            yield from self.in_turn(which)
            return
        refused: tuple[int, DoesNotFit] | None = None
        with ExitStack() as leases:
            opened: dict[int, Lease] = {}
            for index in which:
                holds_memory = any(_key(self.panes[other]) for other in opened)
                try:
                    opened[index] = leases.enter_context(
                        (yield from self._opened(index, wait_for_memory=not holds_memory))
                    )
                except DoesNotFit as error:
                    if holds_memory:
                        refused = index, error
                        break
                    yield PaneUpdate(index, failed=error)
                except PlaygroundError as error:
                    yield PaneUpdate(index, failed=error)
            if refused is None:
                yield from self._answers_at_once(opened)
        if refused is not None:
            yield from self._without_room_for_all(which, *refused)

    def _without_room_for_all(self, which: Sequence[int], index: int, error: DoesNotFit) -> Iterator[PaneUpdate]:
        """Ours are released by now: either all others give way to the refused model in time, or it never fits."""
        (key,) = _keys([self.panes[index]])
        plan = self.planner.plan(key.path, key.context)
        if judge(plan, self.pool.usable_bytes_for(key.path, all_give_way=True)).kind == "wont_fit":
            yield PaneUpdate(index, failed=error)
            yield from self.at_once([other for other in which if other != index])
        else:
            yield PaneUpdate(index, takes_turns="no room for both")
            yield from self.in_turn(which)

    def _opened(self, index: int, *, wait_for_memory: bool = True) -> Generator[PaneUpdate, None, Lease]:
        """Progress of the load, then the lease; tells which panes' models gave way to it.

        Never wait for memory while holding another lease: two comparisons could wait for each other.
        """
        before = self._panes_in_memory()
        pane, key = self.panes[index], _key(self.panes[index])
        loading: Generator[LoadStatus, None, Lease]
        if isinstance(pane.file, RemoteModel):
            loading = self.remotes.lease_model(pane.file)
        else:
            assert key is not None
            loading = self.pool.lease_model(key.path, key.context, wait_for_memory=wait_for_memory)
        try:
            while True:
                try:
                    progress = next(loading)
                except StopIteration as end:
                    lease: Lease = end.value
                    break
                yield from self._given_way(before)
                yield PaneUpdate(index, loading=progress.fraction, waiting=progress.waiting)
        finally:
            loading.close()
        try:
            yield from self._given_way(before)
        except GeneratorExit:
            lease.release()
            raise
        return lease

    def _given_way(self, before: set[int]) -> Iterator[PaneUpdate]:
        """Tells whose models are gone, once each: takes them out of `before`."""
        for index in sorted(before - self._panes_in_memory()):
            before.remove(index)
            yield PaneUpdate(index, gave_way=True)

    def _panes_in_memory(self) -> set[int]:
        keys = {model.key for model in self.pool.loaded_models()}
        return {index for index, pane in enumerate(self.panes) if _key(pane) in keys}

    def _answers_at_once(self, leases: Mapping[int, Lease]) -> Iterator[PaneUpdate]:
        machines = Counter(self._machine(index) for index in leases)
        answers = {
            index: self._answer(index, lease, "at once" if machines[self._machine(index)] > 1 else "in turn")
            for index, lease in leases.items()
        }
        try:
            while answers:
                for index in tuple(answers):
                    try:
                        yield next(answers[index])
                    except StopIteration:
                        del answers[index]
                    except PlaygroundError as error:
                        del answers[index]
                        yield PaneUpdate(index, failed=error)
        finally:
            for answer in answers.values():
                answer.close()

    def _machine(self, index: int) -> str:
        """What the pane's model shares its speed with: its server's name, "" for this computer."""
        file = self.panes[index].file
        return file.server if isinstance(file, RemoteModel) else ""

    def _answer(self, index: int, lease: Lease, mode: Mode) -> Generator[PaneUpdate, None, None]:
        conversation = self.panes[index].conversation
        updates = reply(
            lease.engine,
            conversation,
            self.sampling,
            self.max_tokens,
            reproducible=True,
            alternatives=self.alternatives,
            interval_seconds=self.interval_seconds,
            visitor=self.visitor,
        )
        tokens: list[Token] = []
        try:
            for update in updates:
                tokens += (event for event in update.events if isinstance(event, Token))
                yield PaneUpdate(index, reply=update)
        finally:
            updates.close()
        assert update.finished is not None  # the engine ends a reply with Finished or an error
        loaded = lease.engine.loaded
        result = PaneResult(
            conversation=conversation.answered(update.message),
            finished=update.finished,
            plan=lease.plan,
            measured=update.finished.memory or (loaded.memory if loaded else None),
            tokens=tuple(tokens),
            sampling=self.sampling,
            mode=mode,
            left_out=update.left_out,
            vocabulary_size=loaded.vocabulary_size if loaded else None,
        )
        yield PaneUpdate(index, result=result)


def _key(pane: Pane) -> ModelKey | None:
    """What the pool knows the pane's model by; None for a server's."""
    if isinstance(pane.file, RemoteModel) or pane.context is None:
        return None
    return ModelKey(pane.file.path.absolute(), pane.context)


def _keys(panes: Iterable[Pane]) -> list[ModelKey]:
    return [key for key in map(_key, panes) if key is not None]
