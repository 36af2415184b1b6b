"""A decoder without a model: it says the alphabet, one letter after the other, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from playground.llama.control_tokens import Span
from playground.llama.model import Aborted, BatchRow

END = 0


class Sampler:
    def close(self) -> None:
        pass


class ScriptedDecoder:
    """Tokens are character codes. After any token comes its successor; after 'z' the text ends.

    Its clock moves by `seconds_per_token` for each row, so that times are exact.
    """

    def __init__(
        self,
        context_size: int = 64,
        batch_size: int = 32,
        slots: int = 2,
        seconds_per_token: float = 0.001,
        can_forget_suffix: bool = True,
        is_on_cpu: bool = True,
    ) -> None:
        self.context_size, self.batch_size, self.slots = context_size, batch_size, slots
        self.seconds_per_token = seconds_per_token
        self.can_forget_suffix = can_forget_suffix
        self.is_on_cpu = is_on_cpu
        self.now = 0.0
        self.cells: dict[int, list[int]] = {}
        self.batches: list[list[tuple[int, int, int]]] = []  # (sequence, position, token)
        self.abort_next = False
        self.samplers = 0

    def clock(self) -> float:
        return self.now

    def tokenize(self, text: str, literal: Sequence[Span] = ()) -> list[int]:
        return [ord(character) for character in text]

    def token_to_piece(self, token: int) -> bytes:
        return chr(token).encode()

    def is_end_token(self, token: int) -> bool:
        return token == END

    def decode(self, rows: Sequence[BatchRow]) -> None:
        assert len(rows) <= self.batch_size
        self.batches.append([(row.sequence, row.position, row.token) for row in rows])
        self.now += len(rows) * self.seconds_per_token
        if self.abort_next:
            self.abort_next = False
            raise Aborted
        for row in rows:
            cells = self.cells.setdefault(row.sequence, [])
            assert row.position == len(cells), "a position was skipped or written twice"
            cells.append(row.token)
        assert sum(len(cells) for cells in self.cells.values()) <= self.context_size, "the cache overflowed"
        self._last = rows

    def new_sampler(self, *_: object) -> Sampler:
        self.samplers += 1
        return Sampler()

    def sample(self, row: int, sampler: object) -> int:
        token = self._last[row].token
        return END if token == ord("z") else token + 1

    def log_probabilities(self, row: int) -> npt.NDArray[np.float32]:
        logprobs = np.full(128, -10.0, dtype=np.float32)
        logprobs[self.sample(row, None)] = -0.1
        return logprobs

    def keep_prefix(self, sequence: int, length: int) -> int:
        kept = length if self.can_forget_suffix or length == len(self.cells.get(sequence, [])) else 0
        self.cells[sequence] = self.cells.get(sequence, [])[:kept]
        return kept

    def forget_all(self) -> None:
        self.cells.clear()

    def set_threads(self, threads: int) -> None:
        pass

    def clear_abort(self) -> None:
        pass
