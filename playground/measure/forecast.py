"""Forecasts how fast a model will write here before it is downloaded or made: a band of tokens per second.

Writing a token reads nearly all weights once. So its time is the bytes of each type over what this processor multiplies
of that type (llama/kernel_speed.py), and a little for each layer and each word of the vocabulary. What models here
really reached corrects that; a model that was measured itself has its own speed. All of it holds for the beginning of a
chat on a quiet computer: a long context is slower.

On a GPU nothing is known before a model has run there; then others are forecast from that one's bytes per second.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from playground.errors import PlaygroundError
from playground.gguf.header import read_model_header
from playground.gguf.tensors import TensorType
from playground.gguf.weight_use import TokenWork, token_work
from playground.llama.kernel_speed import measure_kernels
from playground.machine.files import write_json_atomically
from playground.text_format import speed

CPU: Final = "CPU"
READING_SPEED: Final = 5.0  # tokens per second; docs/scaling.md has its source
Measure = Callable[[int, Sequence[TensorType]], Mapping[TensorType, float]]
Basis = Literal["measured", "measured models", "memory bandwidth"]

# Seconds a token beside the weights: for each layer, for each word of the vocabulary (the next token is drawn from
# all), and for the step itself. The weights of a model, matrices of many shapes, take a little longer than the probe's.
# Fitted to eight files of three models (135M, 0.5B and 1.5B at six levels); benchmarks/forecast.py.
_LAYER_SECONDS: Final = 40e-6
_WORD_SECONDS: Final = 6e-9
_STEP_SECONDS: Final = 0.3e-3
_WEIGHTS_FACTOR: Final = 1.05

# From which to which multiple of a forecast the speed may lie: without any measured model, with one, and on a GPU.
_FROM_BANDWIDTH: Final = (0.75, 1.25)
_FROM_MODELS: Final = (0.8, 1.2)
_FROM_MODELS_ON_GPU: Final = (0.7, 1.25)
_FEWEST_TOKENS: Final = 32  # of a reply whose speed counts
_MOST_TOKENS: Final = 2048  # of prompt and reply together: a longer context is slower by itself
_RUNS_KEPT: Final = 9  # of a model; their median counts
_MOST_MODELS: Final = 500
_LITTLE: Final = 0.01
_NEAREST: Final = 3  # measured models that correct a forecast


@dataclass(frozen=True)
class Forecast:
    """Tokens per second from `low` to `high`. basis: from what it is known; both are the same for "measured"."""

    low: float
    high: float
    basis: Basis

    @property
    def text(self) -> str:
        """For people: "about 9 to 12 tok/s here", or "11.3 tok/s measured here"."""
        if self.basis == "measured":
            return f"{speed(self.low)} measured here"
        low, high = _rounded(self.low), _rounded(self.high)
        return f"about {low if low == high else f'{low} to {high}'} tok/s here"

    @property
    def middle(self) -> float:
        return math.sqrt(self.low * self.high)

    def to_json(self) -> dict[str, float | str]:
        return {"low": self.low, "high": self.high, "basis": self.basis}


@dataclass(frozen=True)
class Accuracy:
    """How good the forecasts were: how many models were measured after a forecast, and how many lay in its band."""

    within: int
    measured: int


@dataclass(frozen=True)
class _MeasuredModel:
    """What a model reached on a device. forecast: what was expected before its first run."""

    device: str
    work: TokenWork
    runs: tuple[float, ...]
    forecast: Forecast | None = None

    @property
    def tokens_per_second(self) -> float:
        return median(self.runs)

    def to_json(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "bytes_by_type": {kind.name: size for kind, size in self.work.bytes_by_type.items()},
            "layers": self.work.layers,
            "vocabulary_size": self.work.vocabulary_size,
            "runs": list(self.runs),
            "forecast": self.forecast.to_json() if self.forecast else None,
        }

    @classmethod
    def from_json(cls, record: Any) -> _MeasuredModel:
        """Raises ValueError, TypeError or KeyError for what this program did not write."""
        sizes = {TensorType[kind]: _positive(size) for kind, size in record["bytes_by_type"].items()}
        work = TokenWork(sizes, int(record["layers"]), int(record["vocabulary_size"]))
        expected = record["forecast"]
        forecast = None
        if expected:
            forecast = Forecast(_positive(expected["low"]), _positive(expected["high"]), expected["basis"])
        runs = tuple(map(_positive, record["runs"]))
        if not runs or not sizes:
            raise ValueError("no runs")
        return cls(str(record["device"]), work, runs, forecast)


class SpeedForecaster:
    """Forecasts for this computer. Thread-safe, one for all visitors.

    record: a JSON file of the measured models. threads: with which models are run here.
    measure: as kernel_speed.measure_kernels. Each type of weights is measured once, in the background, when a forecast
    first needs it.
    """

    def __init__(self, record: Path, threads: int, measure: Measure = measure_kernels) -> None:
        self._record = record
        self._threads = threads
        self._measure = measure
        self._lock = threading.Lock()
        self._kernels: dict[TensorType, float] = {}  # bytes per second; 0 for a type that could not be measured
        self._wanted: set[TensorType] = set()
        self._probing: threading.Thread | None = None
        self._models = _load(record)
        self._works: dict[str, TokenWork | None] = {}

    # --- forecasts ---

    def forecast(self, work: TokenWork, device: str = CPU, *, wait: bool = False) -> Forecast | None:
        """The band of a model that is not here. None where nothing is known.

        device: as a placement names it. wait: for what has to be measured, a moment at the first call; else None until
        it is known.
        """
        if device != CPU:
            return self._on_gpu(work, device)
        seconds = seconds_per_token(work, self._kernel_speeds(work, wait=wait))
        return None if seconds is None else self._on_cpu(work, seconds)

    def prepare(self, works: Iterable[TokenWork], seconds: float) -> None:
        """Measure together what these need. Returns when it is known, or after so long; it is then known later."""
        with self._lock:
            probing = self._start_probe([kind for work in works for kind in _main_types(work)])
        if probing:
            probing.join(seconds)

    def _on_cpu(self, work: TokenWork, seconds: float) -> Forecast:
        ratios = self._corrections(work)
        low, high = _FROM_MODELS if ratios else _FROM_BANDWIDTH
        expected = median(ratios or [1.0]) / seconds
        return Forecast(low * expected, high * expected, "measured models" if ratios else "memory bandwidth")

    def forecast_file(self, path: Path, device: str = CPU, *, wait: bool = False) -> Forecast | None:
        """Of a file here: the speed that it reached, else its forecast."""
        key = _key(path, device)
        measured = self._models.get(key or "")
        if measured:
            return Forecast(measured.tokens_per_second, measured.tokens_per_second, "measured")
        work = self.work_of_file(path)
        return self.forecast(work, device, wait=wait) if work else None

    def measured_speed(self, path: Path, device: str = CPU) -> float | None:
        """Tokens per second that a file reached here; None for one that was not measured."""
        measured = self._models.get(_key(path, device) or "")
        return measured.tokens_per_second if measured else None

    def work_of_file(self, path: Path) -> TokenWork | None:
        """What a token of this file's model costs; None for a file that cannot be read."""
        key = _key(path, "")
        if key is None:
            return None
        if key not in self._works:
            try:
                header = read_model_header(path)
                self._works[key] = token_work(header.architecture, header.metadata, header.tensors)
            except (PlaygroundError, OSError):
                self._works[key] = None
        return self._works[key]

    def _kernel_speeds(self, work: TokenWork, *, wait: bool) -> Mapping[TensorType, float]:
        """The speeds that are known; those that this work needs and nobody has measured are measured."""
        with self._lock:
            probing = self._start_probe(_main_types(work))
        if wait and probing:
            probing.join()
        return self._kernels

    def _start_probe(self, types: Iterable[TensorType]) -> threading.Thread | None:
        """Under the lock. Returns the thread that measures now; None if nothing has to be."""
        self._wanted |= set(types) - set(self._kernels)
        if self._wanted and self._probing is None:
            self._probing = threading.Thread(target=self._probe, daemon=True, name="kernel speeds")
            self._probing.start()
        return self._probing

    def _probe(self) -> None:
        while True:
            with self._lock:
                types = sorted(self._wanted)
                if not types:
                    self._probing = None
                    return
            found = self._measure(self._threads, types)
            with self._lock:
                self._kernels = {**self._kernels, **{kind: found.get(kind, 0.0) for kind in types}}
                self._wanted -= set(types)

    def _corrections(self, work: TokenWork) -> list[float]:
        """By which factor the models measured here were faster than computed: of those of the nearest size."""
        known = [model for model in list(self._models.values()) if model.device == CPU]
        known.sort(key=lambda model: abs(math.log(model.work.read_bytes / max(1.0, work.read_bytes))))
        computed = [(model, seconds_per_token(model.work, self._kernels)) for model in known]
        return [model.tokens_per_second * seconds for model, seconds in computed if seconds][:_NEAREST]

    def _on_gpu(self, work: TokenWork, device: str) -> Forecast | None:
        known = [model for model in list(self._models.values()) if model.device == device]
        if not known or not work.read_bytes:
            return None
        near = min(known, key=lambda model: abs(math.log(model.work.read_bytes / work.read_bytes)))
        expected = near.tokens_per_second * near.work.read_bytes / work.read_bytes
        low, high = _FROM_MODELS_ON_GPU
        return Forecast(low * expected, high * expected, "measured models")

    # --- what was measured ---

    def record_reply(
        self, path: Path, device: str, threads: int | None, tokens: int, context_used: int, tokens_per_second: float
    ) -> None:
        """A reply that had the computer to itself was written at this speed.

        Short ones, and those of long contexts, are left out. context_used: tokens of prompt and reply.
        """
        is_usual = tokens >= _FEWEST_TOKENS and context_used <= _MOST_TOKENS and tokens_per_second > 0
        if not is_usual or (device == CPU and threads != self._threads):
            return
        key, work = _key(path, device), self.work_of_file(path)
        if key is None or work is None or not work.read_bytes:
            return
        with self._lock:
            known = self._models.get(key)
        if known is None:
            known = _MeasuredModel(device, work, (), self._known_forecast(work, device))
        runs = deque((*known.runs, tokens_per_second), maxlen=_RUNS_KEPT)
        with self._lock:
            self._models = {**self._models, key: replace(known, runs=tuple(runs))}
            while len(self._models) > _MOST_MODELS:
                self._models.pop(next(iter(self._models)))
            _save(self._record, self._models)

    def _known_forecast(self, work: TokenWork, device: str) -> Forecast | None:
        """Without measuring the processor for it."""
        if device != CPU:
            return self._on_gpu(work, device)
        seconds = seconds_per_token(work, self._kernels)
        return None if seconds is None else self._on_cpu(work, seconds)

    def accuracy(self) -> Accuracy:
        """Over all models here that were measured after a forecast."""
        judged = [(model.forecast, model.tokens_per_second) for model in list(self._models.values()) if model.forecast]
        return Accuracy(sum(band.low <= value <= band.high for band, value in judged), len(judged))


def seconds_per_token(work: TokenWork, kernels: Mapping[TensorType, float]) -> float | None:
    """What the processor needs for a token, before any correction; None if a type's speed is not known.

    kernels: bytes per second of each type.
    """
    main = _main_types(work)
    if not main or not all(kernels.get(kind) for kind in main):
        return None
    fastest = max(kernels.values())
    reading = sum(size / (kernels.get(kind) or fastest) for kind, size in work.bytes_by_type.items())
    beside = _STEP_SECONDS + work.layers * _LAYER_SECONDS + work.vocabulary_size * _WORD_SECONDS
    return beside + _WEIGHTS_FACTOR * reading


def _main_types(work: TokenWork) -> list[TensorType]:
    """Those that make up more than a hundredth of what is read: norms and biases do not count."""
    return [kind for kind, size in work.bytes_by_type.items() if size > _LITTLE * work.read_bytes]


def _rounded(tokens_per_second: float) -> str:
    """With two digits, since it is an estimate: "180", "12", "4.2", "0.4"."""
    if tokens_per_second >= 99.5:
        return f"{round(tokens_per_second, -1):,.0f}"
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 4.95 else f"{tokens_per_second:.1f}"


def _key(path: Path, device: str) -> str | None:
    """Names a file as it is now, on a device; None for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    name = json.dumps([str(path.absolute()), status.st_size, status.st_mtime_ns, device])
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("not a positive number")
    return float(value)


def _load(record: Path) -> dict[str, _MeasuredModel]:
    """What is missing or damaged only means that nothing was measured."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return {str(key): _MeasuredModel.from_json(value) for key, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save(record: Path, models: Mapping[str, _MeasuredModel]) -> None:
    with suppress(PlaygroundError):  # it is measured again
        write_json_atomically(record, {key: model.to_json() for key, model in models.items()})
