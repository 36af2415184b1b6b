"""When the playground is ready for visitors, and that it costs next to nothing to ask."""

from __future__ import annotations

from playground.limits.runs import Runs
from playground.web.server.readiness import AGAIN_SECONDS, Readiness


class Trials:
    """What each trial of the engine finds, one after the other; the last one is found again and again."""

    def __init__(self, *found: str) -> None:
        self.found, self.count, self.now = list(found), 0, 0.0

    def __call__(self) -> str:
        self.count += 1
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


def tried(trials: Trials, runs: Runs | None = None) -> Readiness:
    readiness = Readiness(runs or Runs(), trials, lambda: trials.now)
    assert "being tried out" in readiness.reason
    readiness.wait()
    return readiness


def test_it_is_ready_once_the_engine_has_been_tried_out_and_never_tries_again() -> None:
    trials = Trials("")
    readiness = tried(trials)
    for trials.now in range(0, 1000, 100):
        assert readiness.reason == ""
    assert trials.count == 1


def test_where_no_model_can_run_it_is_not_ready_until_one_can() -> None:
    trials = Trials("No process can be started.", "")
    readiness = tried(trials)
    assert readiness.reason == "No process can be started."
    trials.now = AGAIN_SECONDS / 2
    assert readiness.reason == "No process can be started." and trials.count == 1
    trials.now = AGAIN_SECONDS
    readiness.reason  # noqa: B018 - who asks begins the next trial
    readiness.wait()
    assert readiness.reason == "" and trials.count == 2


def test_the_death_of_a_models_process_is_looked_into_and_a_bad_file_is_not() -> None:
    trials = Trials("", "Memory is short.")
    readiness = tried(trials)
    trials.now = 100
    for error in ("DoesNotFit", "BadModelFile"):
        readiness.hear("model not loaded", {"error": error})
        assert readiness.reason == "" and trials.count == 1
    readiness.hear("model died", {})
    assert readiness.reason == ""
    readiness.wait()
    assert readiness.reason == "Memory is short."


def test_it_is_not_ready_while_it_shuts_down() -> None:
    runs = Runs()
    readiness = tried(Trials(""), runs)
    runs.close()
    assert readiness.reason == "The playground is shutting down."
