"""The sizes in which a picture of the Measure tab is drawn: one beside the choices, one for a phone.

Both are in the page, and theme.css shows the one for which there is room. So text is as large on a phone as elsewhere,
and nothing has to be scrolled sideways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SPOKEN_LETTER: Final = 6.1  # width of a letter of the figures that a focused point shows


@dataclass(frozen=True)
class Canvas:
    """The width and height of a drawing in its own units, about pixels, and the margins around what is drawn.

    name: its class in theme.css. said_x: where the figures of a focused point begin.
    """

    name: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    said_x: int

    @property
    def is_narrow(self) -> bool:
        return self.width < 500

    @property
    def inner_right(self) -> int:
        return self.width - self.right

    @property
    def inner_bottom(self) -> int:
        return self.height - self.bottom

    def spoken_lines(self, text: str) -> list[str]:
        """Figures with commas between them, in as many lines as they need here."""
        room = (self.width - self.said_x) / _SPOKEN_LETTER
        lines: list[str] = []
        for part in text.split(", "):
            if lines and len(lines[-1]) + 2 + len(part) <= room:
                lines[-1] += f", {part}"
            else:
                if lines:
                    lines[-1] += ","
                lines.append(part)
        return lines
