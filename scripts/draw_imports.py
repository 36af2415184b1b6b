"""Draws the arrows between the package's folders into docs/development.md, from the imports.

`make fix` runs it; a test fails where the drawing and the imports differ. Modules beside the folders (errors.py,
settings.py …) are left out: everything may import them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = PROJECT / "docs" / "development.md"
TOP_DOWN: Final = (
    *("web", "cli", "app", "measure", "quantize", "chat", "engine", "fit", "models", "llama"),
    *("limits", "gguf", "machine"),
)
BEGIN: Final = "<!-- drawn by scripts/draw_imports.py -->\n"
END: Final = "<!-- end of the drawing -->\n"


def folder_imports(package: Path) -> dict[str, set[str]]:
    """Folder of the package -> the other folders that its modules import, lazily too."""
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    found: dict[str, set[str]] = {folder: set() for folder in folders}
    for folder in folders:
        for path in (package / folder).rglob("*.py"):
            found[folder] |= set(_imported_folders(path.read_text(encoding="utf-8"), package.name)) & folders - {folder}
    return found


def _imported_folders(source: str, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names = [f"{package}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[1] for name in names if name.startswith(f"{package}."))


def drawing(imports: dict[str, set[str]]) -> str:
    """A table from the top layer down: each folder, and the folders that it imports."""
    rows = ["| folder | imports |", "| --- | --- |"]
    for folder in sorted(imports, key=TOP_DOWN.index):
        below = sorted(imports[folder], key=TOP_DOWN.index)
        rows.append(f"| `{folder}/` | {' '.join(f'→ `{name}/`' for name in below) or '–'} |")
    return "\n".join(rows) + "\n"


def redrawn(document: str, imports: dict[str, set[str]]) -> str:
    """The document with the drawing of these imports in place of its old one."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{drawing(imports)}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(redrawn(DOCUMENT.read_text(encoding="utf-8"), folder_imports(PROJECT / "playground")))
