"""Whether models can be run here at all: both kinds of child process started once, asked something, and ended.

A second's work of one core, without a model file. Knows nothing of who asks, or how often.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from playground.engine.local.client import WORKER
from playground.engine.protocol import Failed, Load, decode, encode
from playground.errors import PlaygroundError
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.machine.child_process import ChildProcess
from playground.models.catalog import load_catalog

TRIAL_SECONDS: Final = 60.0  # for each of the two, on a machine whose cores are all busy


def why_no_model_can_run() -> str:
    """A sentence; "" where all is well."""
    try:
        return _trouble_of_a_worker() or _trouble_of_a_planner()
    except (OSError, PlaygroundError) as error:
        return f"No process for a model can be started: {error}"


def _trouble_of_a_worker() -> str:
    """It is asked to load what is no model, and has to say so."""
    child = ChildProcess(WORKER)
    too_late = threading.Timer(TRIAL_SECONDS, child.kill)
    too_late.daemon = True
    too_late.start()
    try:
        child.send(encode(Load(os.devnull, ContextParameters(512))))
        line = next(child.lines(), b"")
        if line and isinstance(decode(line), Failed):
            return ""
        last = " ".join(child.last_words()[-1:])
        return f"A process for a model cannot be started{f': {last}' if last else '.'}"
    finally:
        too_late.cancel()
        child.end()


def _trouble_of_a_planner() -> str:
    """It is asked about a model of which there is only a description; raises what it says."""
    smallest = min((model.blueprint for model in load_catalog()), key=lambda blueprint: blueprint.vocabulary_size)
    with Planner(children=1, timeout_seconds=TRIAL_SECONDS) as planner:
        planner.trained_context(smallest)
    return ""
