"""The decorated function of a ZeroGPU Space: it writes one reply on the GPU that is lent for the call.

On ZeroGPU a Space has a processor all the time, and a GPU only inside a function that is decorated with `spaces.GPU`.
The platform ends a Space that has no such function when its page is launched. It runs a call in a fork of the page's
process and passes on what the function yields. The fork starts a model's process of the usual kind, so the file is
read by a confined child here as well, and the page gets lines of JSON to check.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playground.engine.protocol import Generate
    from playground.llama.params import ContextParameters

TRUE: Final = ("1", "t", "true")  # as the package `spaces` reads its variables
_SPARE_SECONDS: Final = 2  # of the time asked for, to end the reply and the model's process
_LINES_SECONDS: Final = 0.15  # how often the page gets what was written, and may end the call


@dataclass(frozen=True)
class GpuJob:
    """One reply for the GPU. `context` says on which device the model is placed, `cores` how many threads it may use.

    seconds: for how long the GPU is asked for. libraries: what the model's process adds to its environment.
    """

    path: str
    context: ContextParameters
    generate: Generate
    seconds: int
    cores: int
    libraries: Mapping[str, str]


GpuFunction = Callable[[GpuJob], Generator[bytes, None, None]]


def is_zerogpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in TRUE


def declare_gpu_function() -> GpuFunction:
    """Decorates `write_reply`; first to be called before Gradio or anything that could touch CUDA is imported.

    The package `spaces` belongs to the platform. It reports the function when the page is launched, and gives the same
    one when it is asked again.
    """
    import spaces

    decorated: GpuFunction = spaces.GPU(duration=seconds_of)(write_reply)
    return decorated


def seconds_of(job: GpuJob) -> int:
    """The `duration` of a call, with which the platform is asked for job.seconds; it needs this before the call.

    The package `spaces` asks for 1.5 times the duration where the GPU is half of an RTX PRO 6000: a duration counts the
    seconds of the GPUs that ZeroGPU had before.
    """
    return max(1, int(job.seconds / _duration_factor()))


def _duration_factor() -> float:
    try:
        from spaces.zero.config import get_config

        factor = float(get_config()["duration_factor"])
    except Exception:  # the package belongs to the platform and changes without notice
        return 1.0
    return factor if factor > 0 else 1.0


def write_reply(job: GpuJob) -> Generator[bytes, None, None]:
    """Loads the model, writes the reply and ends the model's process. Yields lines of events, as protocol.py has them.

    Runs in the fork that has the GPU. Often yields nothing (b""), so that the call can be ended at any time.
    """
    from playground.engine.local.client import LocalEngine
    from playground.engine.local.cpu_shares import CpuShares
    from playground.engine.pipe import encode_event
    from playground.engine.protocol import Failed
    from playground.errors import PlaygroundError

    until = time.monotonic() + job.seconds - _SPARE_SECONDS
    yield b""  # the GPU is there
    os.environ.update(job.libraries)  # of the fork alone
    shares = CpuShares(job.cores)
    command = job.generate
    try:
        with closing(shares), closing(LocalEngine(Path(job.path), job.context, shares)) as engine:
            for progress in engine.load_model():
                yield encode_event(progress)
            with engine.start_reply(command.asked) as stream:
                while stream.is_open:
                    yield b"".join(map(encode_event, stream.events_within(_LINES_SECONDS)))
                    if time.monotonic() > until and stream.is_open:
                        remedy = "Ask the model to go on, or choose the processor."
                        problem = f"The {job.seconds} s for which the GPU was asked are over."
                        yield encode_event(Failed(command.request, problem, remedy))
                        return
    except PlaygroundError as error:
        yield encode_event(Failed(command.request, error.problem, error.remedy))
