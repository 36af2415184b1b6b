"""A file that the browser saves: its text comes as the value of an event, and nothing of it is kept on the server."""

from __future__ import annotations

from typing import Final

_SAVE: Final = """(text, name, type) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def saving_js(name: str, media_type: str) -> str:
    """The browser's part of an event: saves its one input under this name; an empty text saves nothing."""
    return f"text => ({_SAVE})(text, '{name}', '{media_type}')"
