"""The decorated function that a ZeroGPU Space must have at its start.

On ZeroGPU a Space has a processor all the time, and a GPU only inside a function that is decorated with `spaces.GPU`.
The platform ends a Space that has no such function when its page is launched. Models run on the processor there; the
one function that is decorated here only names the GPU.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

TRUE: Final = ("1", "t", "true")  # as the package `spaces` reads its variables
LONGEST_CALL_SECONDS: Final = 15


def is_zerogpu(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a ZeroGPU Space."""
    return environ.get("SPACES_ZERO_GPU", "").lower() in TRUE


def declare_gpu_function() -> Callable[[], str]:
    """Decorates `gpu_name`; to be called before Gradio or anything that could touch CUDA is imported.

    The package `spaces` belongs to the platform. It reports the function when the page is launched.
    """
    import spaces

    decorated: Callable[[], str] = spaces.GPU(duration=LONGEST_CALL_SECONDS)(gpu_name)
    return decorated


def gpu_name() -> str:
    """The GPU that the driver names, such as "GPU 0: NVIDIA RTX PRO 6000 …"; "" where there is none."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return listed.stdout.strip()
