"""The log as a test reads it: the lines that the playground writes while the test runs."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

from playground.events import LineFormatter


class Log:
    def __init__(self, formatter: LineFormatter) -> None:
        self.handler = logging.StreamHandler(io.StringIO())
        self.handler.setFormatter(formatter)

    @property
    def lines(self) -> list[str]:
        return str(self.handler.stream.getvalue()).splitlines()


def written(formatter: LineFormatter) -> Iterator[Log]:
    log, logger = Log(formatter), logging.getLogger("playground")
    level = logger.level
    logger.addHandler(log.handler)
    logger.setLevel(logging.INFO)
    yield log
    logger.removeHandler(log.handler)
    logger.setLevel(level)
