"""The pool of loaded models, on the real starter: who shares, who gives way, who is refused, and what is left behind.

The memory that the pool is told of is the test's to say; what its children take of it is measured.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from playground.engine.local.client import WORKER
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.lease import ModelLease
from playground.engine.local.load_queue import LoadStatus, ModelKey, PooledModel
from playground.engine.local.memory_reservation import MemoryReservation
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Finished, ReplyRequest, Token
from playground.errors import BadModelFile, DoesNotFit, ModelStopped, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.machine.memory import read_process_memory
from playground.steps import Steps

SMALL = ContextParameters(512, slots=1)
OTHER = ContextParameters(768, slots=1)
LARGE = ContextParameters(8192, slots=1)
PLENTY = 1 << 40
SUM = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"

Loading = Generator[LoadStatus, None, ModelLease]
MakePool = Callable[..., ModelPool]


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


@pytest.fixture
def make_pool(planner: Planner) -> Iterator[MakePool]:
    """`make_pool(usable, idle_seconds, turn_seconds)`: usable is a number of bytes, or what a function says."""
    with ExitStack() as resources:

        def make(
            usable: int | Callable[[], int] = PLENTY, idle_seconds: float = 900, turn_seconds: float = 900
        ) -> ModelPool:
            cores = CpuShares(2)
            resources.callback(cores.close)
            pool = ModelPool(
                cores, planner, usable if callable(usable) else lambda: usable, idle_seconds, turn_seconds,
                still_seconds=0.2,
            )  # fmt: skip
            resources.callback(pool.close)
            return pool

        yield make
    assert workers() == []


def workers() -> list[psutil.Process]:
    """The processes of models that this test has started and that live."""
    return [child for child in psutil.Process().children() if WORKER in _command_line(child)]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


def finish(opening: Loading) -> ModelLease:
    """The lease at the end of a load."""
    return Steps(opening).finish()


def started(opening: Loading) -> psutil.Process:
    """The process of a load, as soon as there is one."""
    while not (found := workers()):
        next(opening)
    return found[0]


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)  # there is no sign to wait for but what is looked at


def wait_for_loaders() -> None:
    """Returns when no load is under way in any thread."""
    for thread in threading.enumerate():
        if thread.name == "model load":
            thread.join(30)
            assert not thread.is_alive()


def answer(lease: ModelLease) -> str:
    events = lease.engine.start_reply(ReplyRequest(SUM, GREEDY, max_tokens=20))
    return "".join(event.text for event in events if isinstance(event, Token | Finished))


def left_of(budget: int) -> Callable[[], int]:
    """A computer with so many bytes, less what the models in it have taken for good."""
    return lambda: budget - sum(read_process_memory(worker.pid).anonymous for worker in workers())


# --- who is refused ---


def test_a_load_that_stands_still_keeps_no_other_load_waiting(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    halted = pool.lease_model(starter, SMALL)
    process = started(halted)
    process.suspend()
    try:
        with finish(pool.lease_model(starter, OTHER)) as other:
            assert isinstance(list(other.engine.start_reply(ReplyRequest(SUM, GREEDY, 4)))[-1], Finished)
    finally:
        process.resume()
    with finish(halted) as lease:
        assert isinstance(list(lease.engine.start_reply(ReplyRequest(SUM, GREEDY, 4)))[-1], Finished)


def test_what_a_load_that_stands_still_has_yet_to_take_is_not_given_to_others(planner: Planner) -> None:
    halted = PooledModel(ModelKey(Path("halted.gguf"), SMALL))
    halted.plan = MemoryPlan(SMALL, weights=50, repacked=0, kv_cache=70, recurrent=0, compute=20, output=0, base=10)
    halted.users, halted.stands_still = 1, True
    memory = MemoryReservation(planner, lambda: 1000)
    assert memory.usable_beside(Path("other.gguf"), [halted]) == 1000 - 50 - 100
    assert memory.usable_beside(Path("halted.gguf"), [halted]) == 1000 - 100


def test_a_load_that_the_plan_refuses_starts_nothing_and_says_what_fits(
    make_pool: MakePool, planner: Planner, starter: Path
) -> None:
    usable = planner.plan(starter, ContextParameters(4096, slots=1)).total
    pool = make_pool(usable)
    with pytest.raises(DoesNotFit, match=r"at 8,192 tokens: .* A context of 4,\d\d\d tokens fits\."):
        finish(pool.lease_model(starter, LARGE))
    assert pool.loaded_models() == []
    assert workers() == []


def test_where_not_even_the_smallest_context_fits_the_way_out_is_another_model(
    make_pool: MakePool, starter: Path
) -> None:
    with pytest.raises(DoesNotFit, match="smaller level or a smaller model"):
        finish(make_pool(10 << 20).lease_model(starter, LARGE))


def test_who_insists_may_load_what_does_not_fit(make_pool: MakePool, starter: Path) -> None:
    with finish(make_pool(10 << 20).lease_model(starter, SMALL, allow_unfit=True)) as lease:
        assert "4" in answer(lease)


def test_a_file_that_is_corrupt_is_told_to_everyone_who_waits_for_it(
    make_pool: MakePool, starter: Path, tmp_path: Path
) -> None:
    corrupt = tmp_path / "corrupt.gguf"
    corrupt.write_bytes(starter.read_bytes()[:3_000_000])
    pool = make_pool()
    openings = [pool.lease_model(corrupt, SMALL) for _ in range(3)]
    for opening in openings:
        next(opening)
    for opening in openings:
        with pytest.raises(BadModelFile, match="corrupted or incomplete"):
            finish(opening)
    assert pool.loaded_models() == []


# --- who shares ---


def test_two_who_want_the_same_model_share_one_process(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    openings = [pool.lease_model(starter, SMALL) for _ in range(2)]
    for opening in openings:
        next(opening)
    first, second = map(finish, openings)
    assert first.engine is second.engine
    assert len(workers()) == 1
    first.release()
    assert [(model.state, model.users) for model in pool.loaded_models()] == [("ready", 1)]
    assert "4" in answer(second)


def test_a_chat_that_is_over_leaves_nothing_in_any_models_cache(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()

    def cached(chat: str) -> int:
        *_, end = lease.engine.start_reply(ReplyRequest(SUM, GREEDY, max_tokens=2, chat=chat))
        assert isinstance(end, Finished)
        return end.timings.cached_tokens or 0

    with finish(pool.lease_model(starter, SMALL)) as lease:
        assert cached("Ann") == 0 and cached("Ann") > 0
        pool.forget_chat("Ann")
        assert cached("Ben") == 0


def test_a_load_tells_its_progress_up_to_the_end(make_pool: MakePool, starter: Path) -> None:
    opening = make_pool().lease_model(starter, SMALL)
    fractions = []
    while True:
        try:
            fractions.append(next(opening).fraction)
        except StopIteration:
            break
    assert fractions[0] == 0.0
    assert fractions == sorted(fractions)


def test_a_load_given_up_by_one_goes_on_for_the_other(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    leaves, stays = pool.lease_model(starter, SMALL), pool.lease_model(starter, SMALL)
    next(leaves), next(stays)
    leaves.close()
    with finish(stays) as lease:
        assert "4" in answer(lease)


def test_a_load_given_up_by_all_leaves_nothing_behind(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    openings = [pool.lease_model(starter, SMALL) for _ in range(2)]
    for opening in openings:
        next(opening)
    for opening in openings:
        opening.close()
    assert pool.loaded_models() == []
    wait_for_loaders()
    assert workers() == []


def test_after_a_load_that_was_given_up_the_same_model_can_be_had_again(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    given_up = pool.lease_model(starter, SMALL)
    next(given_up)
    given_up.close()
    with finish(pool.lease_model(starter, SMALL)) as lease:
        assert "4" in answer(lease)


# --- who gives way ---


def test_an_idle_model_gives_way_to_one_that_needs_its_memory(
    make_pool: MakePool, planner: Planner, starter: Path
) -> None:
    pool = make_pool(left_of(planner.plan(starter, LARGE).total + (8 << 20)))
    finish(pool.lease_model(starter, SMALL)).release()
    with finish(pool.lease_model(starter, LARGE)):
        assert [model.key.context for model in pool.loaded_models()] == [LARGE]
        assert len(workers()) == 1


def test_a_model_in_use_never_gives_way(make_pool: MakePool, planner: Planner, starter: Path) -> None:
    pool = make_pool(left_of(planner.plan(starter, LARGE).total + (8 << 20)))
    with finish(pool.lease_model(starter, SMALL)) as lease:
        with pytest.raises(DoesNotFit):
            finish(pool.lease_model(starter, LARGE))
        assert "4" in answer(lease)


def test_an_idle_model_stays_where_both_fit(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    finish(pool.lease_model(starter, SMALL)).release()
    with finish(pool.lease_model(starter, OTHER)):
        assert {model.key.context for model in pool.loaded_models()} == {SMALL, OTHER}


def test_a_load_that_is_tight_gets_the_memory_of_the_planners_processes(
    make_pool: MakePool, planner: Planner, starter: Path
) -> None:
    roomy, tight = make_pool(), make_pool(left_of(planner.plan(starter, LARGE).total + (8 << 20)))
    planner.plan(starter, ContextParameters(1792))
    with finish(roomy.lease_model(starter, SMALL)):
        assert planner.held_bytes() > 0
    roomy.close()
    with finish(tight.lease_model(starter, LARGE)) as lease:
        assert planner.held_bytes() == 0 and lease.load_seconds
    with finish(tight.lease_model(starter, LARGE)) as lease:
        assert lease.load_seconds is None  # it was there


def test_the_least_recently_used_gives_way_first(make_pool: MakePool, planner: Planner, starter: Path) -> None:
    budget = 0
    pool = make_pool(lambda: left_of(budget)())
    budget = PLENTY
    older, newer = finish(pool.lease_model(starter, SMALL)), finish(pool.lease_model(starter, OTHER))
    newer.release()
    older.release()  # so the one that was opened first was used last
    taken = PLENTY - left_of(PLENTY)()
    smallest = min(read_process_memory(worker.pid).anonymous for worker in workers())
    budget = planner.plan(starter, LARGE).total + taken - smallest // 2
    with finish(pool.lease_model(starter, LARGE)):
        assert {model.key.context for model in pool.loaded_models()} == {SMALL, LARGE}


# --- who waits ---


def until_it_waits(opening: Loading) -> LoadStatus:
    """The first word of an opening that says for whom it waits."""
    return next(progress for progress in opening if progress.waiting and progress.waiting.for_models)


@pytest.fixture
def room_for_one(planner: Planner, starter: Path) -> Callable[[], int]:
    return left_of(planner.plan(starter, LARGE).total + (8 << 20))


def test_who_is_patient_waits_for_the_model_in_use_and_then_has_its_turn(
    make_pool: MakePool, room_for_one: Callable[[], int], starter: Path
) -> None:
    pool = make_pool(room_for_one)
    lease = finish(pool.lease_model(starter, SMALL))
    opening = pool.lease_model(starter, LARGE, wait_for_memory=True)
    waiting = until_it_waits(opening).waiting
    assert waiting and waiting.position == 1
    assert [(model.key.context, model.users) for model in waiting.for_models] == [(SMALL, 1)]
    assert "4" in answer(lease)
    lease.release()
    with finish(opening) as mine:
        assert "4" in answer(mine)
        assert [(model.key.context, model.state) for model in pool.loaded_models()] == [(LARGE, "ready")]


def test_who_gives_up_waiting_leaves_the_line(
    make_pool: MakePool, room_for_one: Callable[[], int], starter: Path
) -> None:
    pool = make_pool(room_for_one)
    with finish(pool.lease_model(starter, SMALL)):
        opening = pool.lease_model(starter, LARGE, wait_for_memory=True)
        until_it_waits(opening)
        assert [model.state for model in pool.loaded_models()] == ["ready", "waiting"]
        opening.close()
        assert [model.state for model in pool.loaded_models()] == ["ready"]
        wait_for_loaders()
        assert len(workers()) == 1


def test_waiting_is_no_use_where_a_model_would_not_fit_even_alone(
    make_pool: MakePool, planner: Planner, starter: Path
) -> None:
    pool = make_pool(left_of(planner.plan(starter, OTHER).total + (8 << 20)))
    with (
        finish(pool.lease_model(starter, SMALL)),
        pytest.raises(DoesNotFit, match=r"at 8,192 tokens: .* are usable"),
    ):
        finish(pool.lease_model(starter, LARGE, wait_for_memory=True))


def test_who_is_not_patient_hears_that_it_is_for_the_models_in_use(
    make_pool: MakePool, room_for_one: Callable[[], int], starter: Path
) -> None:
    pool = make_pool(room_for_one)
    with (
        finish(pool.lease_model(starter, SMALL)),
        pytest.raises(DoesNotFit, match=r"It would fit if the models in use were not there\."),
    ):
        finish(pool.lease_model(starter, LARGE))


def test_what_fits_beside_the_models_in_use_passes_one_that_waits(
    make_pool: MakePool, planner: Planner, starter: Path
) -> None:
    budget = planner.plan(starter, LARGE).total + planner.plan(starter, OTHER).must_stay // 2
    pool = make_pool(left_of(budget))
    with finish(pool.lease_model(starter, SMALL)):
        waits = pool.lease_model(starter, LARGE, wait_for_memory=True)
        until_it_waits(waits)
        with finish(pool.lease_model(starter, OTHER, wait_for_memory=True)) as lease:
            assert "4" in answer(lease)
        waits.close()


def test_nobody_new_uses_a_model_whose_memory_another_has_waited_for_long_enough(
    make_pool: MakePool, room_for_one: Callable[[], int], starter: Path
) -> None:
    pool = make_pool(room_for_one, turn_seconds=0)
    lease = finish(pool.lease_model(starter, SMALL))
    large = pool.lease_model(starter, LARGE, wait_for_memory=True)
    until_it_waits(large)
    small_again = pool.lease_model(starter, SMALL, wait_for_memory=True)
    held_back = next(small_again).waiting
    assert held_back and held_back.position == 0
    assert [model.key.context for model in held_back.for_models] == [LARGE]
    with pytest.raises(DoesNotFit, match="waited for its turn"):
        next(pool.lease_model(starter, SMALL))
    assert "4" in answer(lease)
    lease.release()
    with finish(large) as mine:
        assert "4" in answer(mine)
    with finish(small_again) as turn_of_small:
        assert "4" in answer(turn_of_small)


def test_two_who_want_different_models_alternate_where_only_one_fits(
    make_pool: MakePool, room_for_one: Callable[[], int], starter: Path
) -> None:
    pool = make_pool(room_for_one, turn_seconds=0)
    contexts = (ContextParameters(4096, slots=1), LARGE)
    openings = [pool.lease_model(starter, context, wait_for_memory=True) for context in contexts * 2]
    served = []
    while openings:
        opening = openings.pop(0)
        try:
            next(opening)
            openings.append(opening)
        except StopIteration as end:
            with end.value as lease:
                served.append(lease.engine.context.context_size)
    assert sorted(served) == [4096, 4096, 8192, 8192]


def test_a_load_that_was_measured_tells_its_seconds_and_others_get_an_estimate(
    make_pool: MakePool, starter: Path, tmp_path: Path
) -> None:
    pool = make_pool()
    assert pool.load_time(starter, 1) is None
    with finish(pool.lease_model(starter, SMALL)) as lease:
        size, seconds = lease.plan.weights, lease.engine.loaded.seconds
    measured, estimated = pool.load_time(starter, size), pool.load_time(tmp_path / "twice.gguf", 2 * size)
    assert measured and measured.is_measured and measured.seconds == seconds
    assert estimated and not estimated.is_measured and estimated.seconds == pytest.approx(2 * seconds)


# --- what is given back ---


def test_unloading_ends_the_process_and_gives_its_memory_back(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    lease = finish(pool.lease_model(starter, SMALL))
    process = psutil.Process(lease.engine.pid)
    pool.unload_idle_models()
    assert process.is_running()
    lease.release()
    pool.unload_idle_models()
    assert not process.is_running()
    assert pool.loaded_models() == []


def test_a_model_nobody_uses_is_unloaded_after_a_while(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool(idle_seconds=0.05)
    lease = finish(pool.lease_model(starter, SMALL))
    process = psutil.Process(lease.engine.pid)
    lease.release()
    process.wait(30)
    assert pool.loaded_models() == []


def test_a_model_that_was_killed_is_replaced_at_the_next_opening(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    broken = finish(pool.lease_model(starter, SMALL))
    reply = broken.engine.start_reply(ReplyRequest(SUM, GREEDY))
    os.kill(broken.engine.pid, signal.SIGKILL)
    with pytest.raises(ModelStopped):
        list(reply)
    with finish(pool.lease_model(starter, SMALL)) as lease:
        assert lease.engine.pid != broken.engine.pid
        assert "4" in answer(lease)
        broken.release()  # late, and of no consequence for the successor
        assert "4" in answer(lease)


def test_a_killed_idle_model_is_replaced_without_a_word_or_a_trace(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    finish(pool.lease_model(starter, SMALL)).release()
    files, threads = psutil.Process().num_fds(), threading.active_count()
    for _ in range(3):
        lease = finish(pool.lease_model(starter, SMALL))
        lease.release()
        os.kill(lease.engine.pid, signal.SIGKILL)
        wait_until(lambda: pool.loaded_models() == [])
    finish(pool.lease_model(starter, SMALL)).release()
    wait_until(lambda: psutil.Process().num_fds() <= files and threading.active_count() <= threads)


def test_closing_the_pool_ends_every_model(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    finish(pool.lease_model(starter, SMALL))
    finish(pool.lease_model(starter, OTHER)).release()
    assert len(workers()) == 2
    pool.close()
    assert workers() == []
    with pytest.raises(PlaygroundError, match="shutting down"):
        next(pool.lease_model(starter, SMALL))


def test_closing_the_pool_in_mid_load_is_told_to_who_waits(make_pool: MakePool, starter: Path) -> None:
    pool = make_pool()
    opening = pool.lease_model(starter, SMALL)
    next(opening)
    pool.close()
    with pytest.raises(PlaygroundError, match=r"shutting down|unloaded"):
        finish(opening)
    wait_for_loaders()
    assert workers() == []
