"""The trial of the engine: real children, sound and not."""

from __future__ import annotations

import pytest

from playground.engine.local import self_test


def test_where_models_can_be_run_there_is_nothing_to_say() -> None:
    assert self_test.why_no_model_can_run() == ""


def test_a_process_that_cannot_start_is_told_in_its_own_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "WORKER", "playground.engine.nothing_here")
    assert "No module named playground.engine.nothing_here" in self_test.why_no_model_can_run()


def test_a_system_that_starts_no_processes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert self_test.why_no_model_can_run().startswith("No process for a model can be started: ")


def test_a_planner_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "TIMEOUT_SECONDS", 1e-6)  # sooner than any process can answer
    monkeypatch.setattr(self_test, "_worker_problem", lambda: "")
    assert "did not answer within" in self_test.why_no_model_can_run()
