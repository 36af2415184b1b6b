"""Imports of Gradio without what only an editor needs, which takes a third of the time until the page is imported.

At each import Gradio parses the source of all its components and writes a stub file beside each, which tells editors
the names of its events. A page needs none.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

_MODULE: Final = "gradio.component_meta"
_WRITES_STUBS: Final = "create_or_modify_pyi"


def leave_out_stubs() -> None:
    """Call it before the first import of Gradio; afterwards it changes nothing."""
    if _MODULE not in sys.modules and not any(isinstance(finder, _WithoutStubs) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutStubs())


class _WithoutStubs(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_without_stubs(module: ModuleType) -> None:
                execute(module)
                if hasattr(module, _WRITES_STUBS):
                    setattr(module, _WRITES_STUBS, _write_nothing)

            spec.loader.exec_module = execute_without_stubs  # type: ignore[method-assign]
        return spec


def _write_nothing(*_: object) -> None:
    pass
