"""Writes docs/settings.md from playground/settings.py: a table for each group, a row for each setting.

`make fix` runs it; a test fails where the two differ.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from playground import settings
from playground.settings import Settings

PROJECT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = PROJECT / "docs" / "settings.md"
HEAD: Final = """\
# Settings

Environment variables, read once at the start. A switch is `true` or `false`; times are in seconds. A Space has stricter
defaults, because it is open to everybody. This page is written by `scripts/settings_table.py` from
`playground/settings.py`.

The key for a server that `PLAYGROUND_REMOTES` names is `PLAYGROUND_REMOTE_KEY_` and the server's name in capitals.

```
PLAYGROUND_PORT=8000 PLAYGROUND_MODEL_DIRS="$HOME/models:/data/models" make run
```
"""


def settings_page() -> str:
    """The text of docs/settings.md."""
    return "\n".join([HEAD, *(table(title, names) for title, names in groups())])


def groups() -> Iterator[tuple[str, list[str]]]:
    """The comments among the fields of Settings, each with the fields below it."""
    fields = Path(settings.__file__).read_text(encoding="utf-8").partition("class Settings")[2].partition("    @")[0]
    for part in re.split(r"^    # ", fields, flags=re.MULTILINE)[1:]:
        yield part.partition("\n")[0], re.findall(r"^    (\w+): ", part, re.MULTILINE)


def table(title: str, names: list[str]) -> str:
    fields = [(f"`PLAYGROUND_{name.upper()}`", Settings.model_fields[name]) for name in names]
    rows = [f"| {variable} | {default(field)} | {field.description} |" for variable, field in fields]
    return "\n".join([f"## {title}", "", "| variable | default | what it does |", "| --- | --- | --- |", *rows, ""])


def default(field: FieldInfo) -> str:
    """`4096`, or `4096, on a Space 1024`."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("shown"):
        return str(extra["shown"])
    here, on_space = (as_variable(value) for value in defaults(field))
    return here if here == on_space else f"{here}, on a Space {on_space}"


def defaults(field: FieldInfo) -> tuple[Any, Any]:
    """On a computer and on a Space."""
    before = os.environ.pop("SPACE_ID", None)
    try:
        here = field.get_default(call_default_factory=True)
        os.environ["SPACE_ID"] = "somebody/gguf-playground"
        return here, field.get_default(call_default_factory=True)
    finally:
        del os.environ["SPACE_ID"]
        if before is not None:
            os.environ["SPACE_ID"] = before


def as_variable(value: Any) -> str:
    """A value as one writes it into the variable."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, SecretStr):
        return value.get_secret_value() or "none"
    return f"{value:g}" if isinstance(value, float) else f"`{value}`" if isinstance(value, str) else str(value)


if __name__ == "__main__":
    TARGET.write_text(settings_page(), encoding="utf-8")
