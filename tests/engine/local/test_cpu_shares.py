"""The threads of all models that decode never exceed the cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from playground.engine.local.cpu_shares import CpuShares, share_cores


@pytest.mark.parametrize(
    ("cores", "models", "expected"),
    [(8, 1, [8]), (8, 2, [4, 4]), (8, 3, [3, 3, 2]), (2, 3, [1, 1, 0]), (1, 2, [1, 0]), (4, 0, [])],
)
def test_cores_are_shared_evenly_and_never_exceeded(cores: int, models: int, expected: list[int]) -> None:
    assert share_cores(cores, models) == expected


class Model:
    """Remembers its threads and tells the ledger, which must never exceed the cores."""

    def __init__(self, thread_counts: dict[Any, int]) -> None:
        self.ledger = thread_counts
        self.changed = threading.Semaphore(0)

    def set_threads(self, threads: int) -> None:
        self.ledger[self] = threads
        self.ledger["most"] = max(self.ledger.get("most", 0), sum(n for m, n in self.ledger.items() if m != "most"))
        self.changed.release()

    def await_threads(self, threads: int) -> None:
        while self.ledger.get(self) != threads:
            assert self.changed.acquire(timeout=10)


@pytest.fixture
def thread_counts() -> dict[Any, int]:
    return {}


@pytest.fixture
def cores() -> Iterator[CpuShares]:
    shares = CpuShares(2)
    yield shares
    shares.close()


def test_a_model_alone_gets_all_cores_and_shares_them_with_a_second(
    cores: CpuShares, thread_counts: dict[Any, int]
) -> None:
    first, second = Model(thread_counts), Model(thread_counts)
    cores.add_model(first)
    first.await_threads(2)
    cores.add_model(second)
    second.await_threads(1)
    assert thread_counts[first] == 1
    cores.remove_model(second)
    first.await_threads(2)
    assert thread_counts["most"] == 2


def test_more_models_than_cores_take_turns(
    cores: CpuShares, thread_counts: dict[Any, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.engine.local.cpu_shares.TURN_SECONDS", 0.01)
    models = [Model(thread_counts) for _ in range(3)]
    for model in models:
        cores.add_model(model)
    for model in models * 2:
        model.await_threads(1)
        model.await_threads(0)
    assert thread_counts["most"] == 2


def test_an_idle_model_holds_no_core(cores: CpuShares, thread_counts: dict[Any, int]) -> None:
    model = Model(thread_counts)
    cores.add_model(model)
    model.await_threads(2)
    cores.remove_model(model)
    model.await_threads(0)


def test_a_model_that_needs_all_cores_takes_short_turns_with_all_of_them(
    cores: CpuShares, thread_counts: dict[Any, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.engine.local.cpu_shares.ALL_CORES_TURN_SECONDS", 0.01)
    whole, other = Model(thread_counts), Model(thread_counts)
    had = []

    def set_threads(threads: int) -> None:
        had.append(threads)
        Model.set_threads(whole, threads)

    monkeypatch.setattr(whole, "set_threads", set_threads)
    cores.add_model(other)
    other.await_threads(2)
    cores.add_model(whole, all_cores=True)
    for model in [whole, other] * 3:
        model.await_threads(2)
        model.await_threads(0)
    assert set(had) == {0, 2}
    assert thread_counts["most"] == 2


def test_when_nobody_needs_whole_cores_any_more_they_are_shared_again(
    cores: CpuShares, thread_counts: dict[Any, int]
) -> None:
    first, second = Model(thread_counts), Model(thread_counts)
    cores.add_model(first, all_cores=True)
    cores.add_model(second)
    first.await_threads(2)
    cores.add_model(first)
    first.await_threads(1)
    second.await_threads(1)
