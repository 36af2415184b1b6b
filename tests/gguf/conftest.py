"""llama.cpp's own tensor library, to hold our reading of files against."""

from __future__ import annotations

import sys
from pathlib import Path

import llama_cpp
import pytest


@pytest.fixture(scope="session")
def ggml_path() -> Path:
    """The shared library that knows GGUF and ggml's types, as the bindings bring it."""
    name = "libggml-base.dylib" if sys.platform == "darwin" else "libggml-base.so"
    return Path(llama_cpp.__file__).parent / "lib" / name
