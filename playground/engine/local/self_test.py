"""Whether models can be run here at all: both kinds of child process started once, asked something, and ended.

A second's work of one core, without a model file. Knows nothing of who asks, or how often.
"""

from __future__ import annotations

import os
from contextlib import suppress
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
    with ChildProcess(WORKER) as child:
        child.send_line(encode(Load(os.devnull, ContextParameters(512))))
        with suppress(EOFError, TimeoutError):
            if isinstance(decode(child.read_line(TRIAL_SECONDS)), Failed):
                return ""
        child.kill()
        child.wait_for_exit()
        last = " ".join(child.last_words()[-1:])
        return f"A process for a model cannot be started{f': {last}' if last else '.'}"


def _trouble_of_a_planner() -> str:
    """It is asked about a model of which there is only a description; raises what it says."""
    smallest = min((model.blueprint for model in load_catalog()), key=lambda blueprint: blueprint.vocabulary_size)
    with Planner(children=1, timeout_seconds=TRIAL_SECONDS) as planner:
        planner.trained_context(smallest)
    return ""
