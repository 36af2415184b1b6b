"""Whether models can run here at all: starts both kinds of child process, asks each something, and ends it.

Takes one core about a second, and needs no model file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from playground.engine.local.client import WORKER
from playground.engine.pipe import decode_event, encode_command
from playground.engine.protocol import Failed, Load
from playground.errors import PlaygroundError
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.machine.child_process import ChildProcess
from playground.models.catalog import load_catalog

TIMEOUT_SECONDS: Final = 60.0  # for each of the two, on a machine whose cores are all busy


def why_no_model_can_run() -> str:
    """A sentence; "" if models can run."""
    try:
        return _worker_problem() or _planner_problem()
    except (OSError, PlaygroundError) as error:
        return f"No process for a model can be started: {error}"


def _worker_problem() -> str:
    """Lets a worker load a file that is no model, which it has to report."""
    with ChildProcess(WORKER) as child:
        child.send_line(encode_command(Load(os.devnull, ContextParameters(512))))
        with suppress(EOFError, TimeoutError):
            if isinstance(decode_event(child.read_line(TIMEOUT_SECONDS)), Failed):
                return ""
        child.kill()
        child.wait_for_exit()
        reason = " ".join(child.last_words()[-1:])
        return f"A process for a model cannot be started{f': {reason}' if reason else '.'}"


def _planner_problem() -> str:
    """Asks the planner about a model of which there is only a description. Raises the error that it reports."""
    smallest = min((model.blueprint for model in load_catalog()), key=lambda blueprint: blueprint.vocabulary_size)
    with Planner(children=1, timeout_seconds=TIMEOUT_SECONDS) as planner:
        planner.trained_context(smallest)
    return ""
