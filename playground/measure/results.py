"""What a measurement found, and under which conditions: the record that is stored, exported and imported.

A quality figure belongs to a file (by its hash), a KV cache and a text. A speed also belongs to a device, its layers
and the threads. So every record carries all of them, with the versions of what computed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

What = Literal["fidelity", "speed", "instructions", "tools", "reasoning", "answers", "profile", "server"]
WHATS: Final[tuple[What, ...]] = get_args(What)
OF_A_DEVICE: Final[tuple[What, ...]] = ("speed", "profile")  # the others are of the file wherever it runs
ABILITIES: Final[tuple[What, ...]] = ("instructions", "tools", "reasoning")
HERE: Final = ""  # the source of what was measured by this playground


@dataclass(frozen=True)
class Measurement:
    """One thing measured of one level.

    level: `id@server` for a server's model, whose file is not known: then size is 0, digest "" and threads 0.
    file: its name. size: bytes. digest: SHA-256 of the file. k_type, v_type: of the KV cache. layers: on the device,
    None on the CPU. settings: how it was measured. text, text_digest: what was read, "" where nothing was. reference:
    what it is compared with, a level or a server's model, "" for none; reference_digest: of that file. versions: by
    name. figures: the numbers by name. details: one entry for each test item. seconds: how long it took. source: HERE,
    or the name of an imported file.
    """

    what: What
    model: str
    level: str
    file: str
    size: int
    bits_per_weight: float | None
    digest: str
    k_type: str
    v_type: str
    device: str
    layers: int | None
    threads: int
    settings: Mapping[str, Any]
    text: str
    text_digest: str
    reference: str
    reference_digest: str
    versions: Mapping[str, str]
    measured_at: str
    seconds: float
    figures: Mapping[str, Any]
    details: Sequence[Mapping[str, Any]] = field(default=())
    source: str = HERE

    @property
    def row(self) -> RowKey:
        return RowKey(self.source, self.model, self.level, self.k_type, self.v_type)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, order=True)
class RowKey:
    """A row of the table: one level of a model with one KV cache, measured here or elsewhere.

    device: where its speed was measured, if it was on several; "" where one row has all.
    """

    source: str
    model: str
    level: str
    k_type: str = "f16"
    v_type: str = "f16"
    device: str = ""

    @property
    def name(self) -> str:
        """`Q4_K_M`, `Q4_K_M · KV q8_0`, `Q4_K_M · K q8_0 V q4_0`, `Q4_K_M · CUDA0`."""
        kv = f"KV {self.k_type}" if self.k_type == self.v_type else f"K {self.k_type} V {self.v_type}"
        is_usual = (self.k_type, self.v_type) == ("f16", "f16")
        return " · ".join([self.level, *([] if is_usual else [kv]), *([self.device] if self.device else [])])

    @property
    def on_any_device(self) -> RowKey:
        return replace(self, device="")


@dataclass(frozen=True)
class ResultRow:
    """The newest measurement of each kind of one level. own: any of them, for the facts of the file."""

    key: RowKey
    by_what: Mapping[What, Measurement]

    @property
    def own(self) -> Measurement:
        return next(iter(self.by_what.values()))

    @property
    def size(self) -> int:
        return self.own.size

    def figure(self, what: What, name: str) -> float | None:
        """A number of a measurement; None where it was not measured."""
        found = self.by_what.get(what)
        value = found.figures.get(name) if found else None
        return float(value) if isinstance(value, int | float) else None

    @property
    def divergence(self) -> float | None:
        return self.figure("fidelity", "kl_divergence")

    @property
    def is_least_divergence(self) -> bool:
        """Whether the reference was kept in the short form, so that the divergences are lower bounds."""
        found = self.by_what.get("fidelity")
        return found is not None and found.settings.get("precision_of_the_reference") == "top"

    @property
    def speed(self) -> float | None:
        """Tokens per second of a reply."""
        return self.figure("speed", "tg_tokens_per_second")

    @property
    def is_reference(self) -> bool:
        """Whether it was compared with itself."""
        found = self.by_what.get("fidelity")
        is_usual_cache = self.key.k_type == self.key.v_type == "f16"
        return found is not None and found.digest == found.reference_digest and is_usual_cache


def result_rows(measurements: Iterable[Measurement]) -> list[ResultRow]:
    """The rows of the table: by model, the largest file first. measurements: the oldest first.

    Answers to a set of prompts are not in it: measure/answers/grid.py shows them.
    """
    found: dict[RowKey, list[Measurement]] = {}
    for each in measurements:
        if each.what != "answers":
            found.setdefault(each.row, []).append(each)
    rows = [row for key, of_level in found.items() for row in _rows_of(key, of_level)]
    return sorted(rows, key=lambda row: (row.key.source, row.key.model, -row.size, row.key))


def _rows_of(key: RowKey, found: Sequence[Measurement]) -> list[ResultRow]:
    """One row, or one for each device where the speed was measured on several; without an earlier file's figures."""
    of_file = [each for each in found if each.digest == found[-1].digest]
    devices = list(dict.fromkeys(each.device for each in of_file if each.what in OF_A_DEVICE))
    if len(devices) < 2:
        return [ResultRow(key, _newest(of_file))]
    return [
        ResultRow(
            replace(key, device=device),
            _newest([each for each in of_file if each.what not in OF_A_DEVICE or each.device == device]),
        )
        for device in devices
    ]


def _newest(found: Iterable[Measurement]) -> dict[What, Measurement]:
    """The last one of each kind."""
    newest: dict[What, Measurement] = {each.what: each for each in found}
    return dict(sorted(newest.items()))


def imports_of(rows: Iterable[ResultRow]) -> list[str]:
    """The names of the imports among the rows."""
    return list(dict.fromkeys(row.key.source for row in rows if row.key.source))


def comparable_rows(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows whose fidelity was measured over the same text against the same reference: those of the newest one."""
    measured = [(row, row.by_what["fidelity"]) for row in rows if "fidelity" in row.by_what]
    if not measured:
        return []
    newest = max((found for _, found in measured), key=lambda found: found.measured_at)
    wanted = (newest.text_digest, newest.reference_digest)
    return [row for row, found in measured if (found.text_digest, found.reference_digest) == wanted]


def efficient_frontier(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows that no other beats: none is at least as small with at least as little divergence, and better in one.

    From small to large. Rows without a divergence are left out.
    """
    measured = [(row.size, row.divergence, row) for row in rows if row.divergence is not None]
    frontier: list[ResultRow] = []
    least = float("inf")
    for _, divergence, row in sorted(measured, key=lambda entry: (entry[0], entry[1])):
        if divergence < least:
            frontier.append(row)
            least = divergence
    return frontier
