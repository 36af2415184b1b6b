"""Asks several models one question, one after the other or at the same time, and yields one stream of updates.

In turn, each model has all cores, so its speed is its own; at once, they share the cores. Every request is reproducible
and all panes have the same seed, so that only the models make the answers differ. A model can be one of this computer
or of a server: both are leases here.

One thread does everything, because the engines collect events in the background. Closing the stream therefore stops
all panes, in any phase. The pool decides which models stay in memory: all that fit together; otherwise it unloads one
for the other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.chat.comparison import Mode, Pane, PaneResult, PaneUpdate
from playground.chat.conversation import stream_reply
from playground.engine.interface import Lease
from playground.engine.local.load_queue import LoadStatus, ModelKey
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Token
from playground.engine.remote.protocol import RemoteModel
from playground.engine.remote.registry import ServerRegistry
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.fit.verdict import budget_after, judge
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import Sampling
from playground.steps import Steps

# Two models on 4 cores each: about where more cores stop to speed a reply up, because memory sets its pace.
CORES_FOR_AT_ONCE: Final = 8
_ALTERNATIVES: Final = 5  # of each token, to tell how probable each model held the other's choice
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
    remotes: ServerRegistry | None = None,
    visitor: Visitor | None = None,
) -> Generator[PaneUpdate, None, None]:
    """The answer of each pane to the last question of its conversation; a single pane is allowed.

    Yields an update of some pane about every interval_seconds, also without news. A pane ends with its `result` or with
    `failed`; errors of one pane are not raised. A sampling without a seed gets one for all panes, which each result
    reports. Closing the generator stops all panes and leaves the engines ready. visitor: who asked, for the log.
    """
    runner = _PaneRunner(
        pool=pool,
        planner=planner,
        remotes=remotes or ServerRegistry(),
        panes=panes,
        sampling=seeded(sampling),
        max_tokens=max_tokens,
        interval_seconds=interval_seconds,
        visitor=visitor,
    )
    all_panes = range(len(panes))
    return runner.run_in_turn(all_panes) if mode == "in turn" else runner.run_at_once(all_panes)


def usual_mode(cores: int) -> Mode:
    """In turn on few cores, where two models at once would slow each other down."""
    return "at once" if cores >= CORES_FOR_AT_ONCE else "in turn"


def seeded(sampling: Sampling) -> Sampling:
    """With a seed: its own, or one drawn now."""
    return sampling if sampling.seed is not None else replace(sampling, seed=random.randrange(_SEEDS))


def residency(pool: ModelPool, planner: Planner, panes: Sequence[Pane]) -> Literal["together", "one after the other"]:
    """Whether all models will be in memory together, by their plans and as the pool would decide now.

    Skips a file that cannot be planned: it will not load either. Takes a second for a file that was never planned.
    """
    in_use = {model.key for model in pool.loaded_models() if model.users > 0}
    before: list[MemoryPlan] = []  # of the models before this one
    for key in dict.fromkeys(_keys(panes)):
        if key in in_use:
            continue
        try:
            budget = budget_after(pool.budget_for(key.path), before)
            plan = planner.place(key.path, key.context, budget).plan
        except PlaygroundError:
            continue
        if before and judge(plan, budget).is_refused:
            return "one after the other"
        before.append(plan)
    return "together"


@dataclass(frozen=True)
class _PaneRunner:
    pool: ModelPool
    planner: Planner
    remotes: ServerRegistry
    panes: Sequence[Pane]
    sampling: Sampling
    max_tokens: int | None
    interval_seconds: float
    visitor: Visitor | None

    def run_in_turn(self, indices: Iterable[int]) -> Generator[PaneUpdate, None, None]:
        """One after the other; each model is released before the next one is requested."""
        for index in indices:
            try:
                with (yield from self._open_model(index)) as lease:
                    yield from self._stream_answer(index, lease, "in turn")
            except PlaygroundError as error:
                yield PaneUpdate(index, failed=error)

    def run_at_once(self, indices: Sequence[int]) -> Generator[PaneUpdate, None, None]:
        """Open all models, then let all answer; in turn if that is not possible."""
        keys = _keys([self.panes[index] for index in indices])
        if len(set(keys)) < len(keys):
            yield PaneUpdate(indices[-1], takes_turns="one model")  # it answers reproducible requests one by one
            yield from self.run_in_turn(indices)
            return
        refused: tuple[int, DoesNotFit] | None = None
        with ExitStack() as leases:
            opened: dict[int, Lease] = {}
            for index in indices:
                holds_memory = any(_key(self.panes[other]) for other in opened)
                try:
                    opened[index] = leases.enter_context(
                        (yield from self._open_model(index, wait_for_memory=not holds_memory))
                    )
                except DoesNotFit as error:
                    if holds_memory:
                        refused = index, error
                        break
                    yield PaneUpdate(index, failed=error)
                except PlaygroundError as error:
                    yield PaneUpdate(index, failed=error)
            if refused is None:
                yield from self._stream_answers(opened)
        if refused is not None:
            yield from self._retry_without_room(indices, *refused)

    def _retry_without_room(self, indices: Sequence[int], index: int, error: DoesNotFit) -> Iterator[PaneUpdate]:
        """Continue after a model did not fit beside ours, which are released by now.

        In turn if it will fit once other models are unloaded; without this pane if it never fits.
        """
        (key,) = _keys([self.panes[index]])
        budget = self.pool.budget_for(key.path, all_give_way=True)
        if judge(self.planner.place(key.path, key.context, budget).plan, budget).is_refused:
            yield PaneUpdate(index, failed=error)
            yield from self.run_at_once([other for other in indices if other != index])
        else:
            yield PaneUpdate(index, takes_turns="no room for both")
            yield from self.run_in_turn(indices)

    def _open_model(self, index: int, *, wait_for_memory: bool = True) -> Generator[PaneUpdate, None, Lease]:
        """Load the pane's model, with progress and news of panes whose models were unloaded for it; returns the lease.

        wait_for_memory: until others release theirs. False while another lease is held, because two comparisons could
        wait for each other.
        """
        in_memory = self._panes_in_memory()
        pane, key = self.panes[index], _key(self.panes[index])
        loading: Generator[LoadStatus, None, Lease]
        if isinstance(pane.file, RemoteModel):
            loading = self.remotes.lease_model(pane.file)
        else:
            assert key is not None
            loading = self.pool.lease_model(key.path, key.context, wait_for_memory=wait_for_memory)
        with Steps[LoadStatus, Lease](loading) as steps:
            for progress in steps:
                yield from self._report_unloaded(in_memory)
                yield PaneUpdate(index, loading=progress.fraction, waiting=progress.waiting)
            lease = steps.result
        try:
            yield from self._report_unloaded(in_memory)
        except GeneratorExit:
            lease.release()
            raise
        return lease

    def _report_unloaded(self, in_memory: set[int]) -> Iterator[PaneUpdate]:
        """An update for each pane whose model is no longer in memory; removes it from the set, to report it once."""
        for index in sorted(in_memory - self._panes_in_memory()):
            in_memory.remove(index)
            yield PaneUpdate(index, unloaded=True)

    def _panes_in_memory(self) -> set[int]:
        keys = {model.key for model in self.pool.loaded_models()}
        return {index for index, pane in enumerate(self.panes) if _key(pane) in keys}

    def _stream_answers(self, leases: Mapping[int, Lease]) -> Iterator[PaneUpdate]:
        machines = Counter(self._machine(index) for index in leases)
        answers = {
            index: self._stream_answer(index, lease, "at once" if machines[self._machine(index)] > 1 else "in turn")
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
        """The machine whose cores the pane's model uses: a server's name, "" for this computer."""
        file = self.panes[index].file
        return file.server if isinstance(file, RemoteModel) else ""

    def _stream_answer(self, index: int, lease: Lease, mode: Mode) -> Generator[PaneUpdate, None, None]:
        conversation, before = self.panes[index].conversation, self.panes[index].going_on
        more = self.max_tokens
        if before and more is not None:
            more = max(1, more - len(before.tokens))
        updates = stream_reply(
            lease.engine,
            conversation,
            self.sampling,
            more,
            thinking=self.panes[index].thinking,
            reproducible=True,
            alternatives=_ALTERNATIVES,
            interval_seconds=self.interval_seconds,
            visitor=self.visitor,
            written=before.written if before else None,
        )
        tokens: list[Token] = list(before.tokens) if before else []
        try:
            for update in updates:
                tokens += (event for event in update.events if isinstance(event, Token))
                yield PaneUpdate(index, reply=update)
        finally:
            updates.close()
        assert update.finished is not None  # the engine ends a reply with Finished or an error
        loaded = lease.engine.loaded
        finished = update.finished
        if before:
            finished = replace(finished, timings=before.finished.timings.continued_by(finished.timings))
        result = PaneResult(
            conversation=conversation.with_reply(update.message),
            finished=finished,
            plan=lease.plan,
            measured=update.finished.memory or (loaded.memory if loaded else None),
            tokens=tuple(tokens),
            sampling=self.sampling,
            mode=mode,
            left_out=update.left_out,
            vocabulary_size=loaded.vocabulary_size if loaded else None,
            load_seconds=before.load_seconds if before else lease.load_seconds,
            remarks=update.remarks,
        )
        yield PaneUpdate(index, result=result)


def _key(pane: Pane) -> ModelKey | None:
    """The pool's key of the pane's model; None for a server's model."""
    if isinstance(pane.file, RemoteModel) or pane.context is None:
        return None
    return ModelKey(pane.file.path.absolute(), pane.context)


def _keys(panes: Iterable[Pane]) -> list[ModelKey]:
    return [key for key in map(_key, panes) if key is not None]
