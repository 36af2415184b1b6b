"""The figures for Prometheus: counted from the events (events.py), and gauges read when it asks.

Needs the extra `metrics`. Every figure of a reply or a load is the engine's own; no clock runs here. Labels take few
values, known beforehand: nothing of a visitor, no model's name, no sentence. docs/hosting.md lists all figures.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from playground import __version__
from playground.app.services import Services
from playground.engine.local.load_queue import State
from playground.engine.protocol import FinishReason
from playground.events import Fields
from playground.limits.run import Work

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)  # seconds
_SPEED_BUCKETS: Final = (0.5, 1, 2, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200)  # tokens a second; people read 5.3 (README)
_ENDS: Final = (*get_args(FinishReason), "stopped", "failed")
_REPLYING: Final = ("chat", "compare", "api")
_NOT_LOADED: Final = {"DoesNotFit": "does not fit", "BadModelFile": "bad file"}  # everything else is "failed"
_LOADS: Final = ("loaded", *_NOT_LOADED.values(), "failed")
_DISTURBED: Final = {False: "no", True: "yes"}
_DOWNLOADS: Final = ("done", "failed", "cancelled", "interrupted")


class Metrics:
    """Counts events: `with events.subscribed(metrics.count_event)`. Safe from any thread."""

    def __init__(self, services: Services) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
        self._registry = CollectorRegistry()
        count, seconds = self._counter, self._seconds
        self._replies = count("replies", "Replies that ended, by how.", via=_REPLYING, ended=_ENDS)
        self._tokens = count("generated_tokens", "Tokens that models wrote.")
        self._calls = count("tool_calls", "Calls of functions and tools in replies.", outcome=("parsed", "malformed"))
        self._prompt = count("prompt_tokens", "Tokens of prompts that were evaluated, not those of the cache.")
        self._embedded = count("embedded_texts", "Texts that were turned into vectors.")
        self._first = seconds("time_to_first_token", "From a request to its first token, waiting included.")
        self._waits = seconds("queue_wait", "A request's wait for a free slot of its loaded model.")
        self._lasts = seconds("reply", "From a request to the end of its reply.")
        self._speed = Histogram(
            "playground_generation_tokens_per_second",
            "Speed of a reply after its first token; disturbed: something else had the processor meanwhile.",
            ["disturbed"],
            buckets=_SPEED_BUCKETS,
            registry=self._registry,
        )
        for disturbed in _DISTURBED.values():
            self._speed.labels(disturbed)
        self._refusals = count("refusals", "Refusals, by the setting that decides so.", via=(), setting=())
        self._loads = count("model_loads", "Models loaded, or not.", outcome=_LOADS)
        self._load_times = seconds("model_load", "Time that a model took to load.")
        self._deaths = count("model_deaths", "Processes of models that ended unasked.")
        self._downloads = count("downloads", "Downloads that ended, by how.", outcome=_DOWNLOADS)
        self._received = count("downloaded_bytes", "Bytes of models that came from the Hub.")
        self._levels = count("levels_made", "Levels made here, or not.", outcome=("made", "failed"))
        self._registry.register(_Gauges(services))
        ProcessCollector(registry=self._registry)
        self._counters: Mapping[str, Callable[[Fields], None]] = {
            "reply": self._count_reply,
            "embedding": self._count_embedding,
            "refused": self._count_refusal,
            "model loaded": self._count_load,
            "model not loaded": lambda fields: self._loads.labels(_NOT_LOADED.get(fields["error"], "failed")).inc(),
            "model died": lambda fields: self._deaths.inc(),
            "download ended": self._count_download,
            "level made": lambda fields: self._levels.labels("made").inc(),
            "level not made": lambda fields: self._levels.labels("failed").inc(),
        }

    def count_event(self, event: str, fields: Fields) -> None:
        """An event of events.py, with its fields."""
        if event in self._counters:
            self._counters[event](fields)

    def text(self) -> bytes:
        """All figures in the text format of Prometheus."""
        return bytes(generate_latest(self._registry))

    def _count_reply(self, fields: Fields) -> None:
        self._replies.labels(fields.get("via", "none"), fields["reason"]).inc()
        self._tokens.inc(fields["tokens"])
        self._prompt.inc(fields.get("prompt_tokens", 0))
        self._calls.labels("parsed").inc(fields.get("tool_calls", 0))
        self._calls.labels("malformed").inc(fields.get("malformed_calls", 0))
        for name, histogram in (
            ("time_to_first_token", self._first),
            ("queued_seconds", self._waits),
            ("tokens_per_second", self._speed.labels(_DISTURBED[bool(fields.get("disturbed"))])),
            ("seconds", self._lasts),
        ):
            if name in fields:  # a server may not report it, and a stopped reply has no end
                histogram.observe(fields[name])

    def _count_embedding(self, fields: Fields) -> None:
        self._embedded.inc(fields["texts"])
        self._prompt.inc(fields["tokens"])

    def _count_refusal(self, fields: Fields) -> None:
        self._refusals.labels(fields.get("via", "none"), fields.get("setting", "none")).inc()

    def _count_load(self, fields: Fields) -> None:
        self._loads.labels("loaded").inc()
        self._load_times.observe(fields["seconds"])

    def _count_download(self, fields: Fields) -> None:
        self._downloads.labels(fields["state"]).inc()
        self._received.inc(fields["received_bytes"])

    def _counter(self, name: str, help_text: str, **labels: Iterable[str]) -> Counter:
        """Starts at 0 for every label known beforehand: a rate needs a series that was there before."""
        counter = Counter(f"playground_{name}", help_text, list(labels), registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _seconds(self, name: str, help_text: str) -> Histogram:
        return Histogram(f"playground_{name}_seconds", help_text, buckets=_SECONDS_BUCKETS, registry=self._registry)


class _Gauges(Collector):
    """Runs and models at the moment of asking, by kind, and the usable memory."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        runs, states = services.runs.count_runs(), Count(model.state for model in services.pool.loaded_models())
        yield _gauge("runs", "Things under way for visitors.", "work", {work: runs[work] for work in get_args(Work)})
        yield _gauge(
            "models", "Models in memory or on their way.", "state", {state: states[state] for state in get_args(State)}
        )
        yield _gauge("memory_bytes", "Memory of this computer.", "kind", {"usable": services.memory().usable})
        yield from self._devices()
        yield _gauge("build_info", "The version that runs.", "version", {__version__: 1})

    def _devices(self) -> Iterator[Metric]:
        """Layers of loaded models on each device, and the memory of each GPU as it was read last."""
        devices = [device for device in self._services.devices.known.all if device.is_gpu or device.kind == "CPU"]
        plans = [model.plan for model in self._services.pool.loaded_models() if model.state == "ready" and model.plan]
        layers = GaugeMetricFamily(
            "playground_device_layers",
            "Layers of loaded models on each device; a model's output counts as one.",
            labels=["device", "backend"],
        )
        experts = GaugeMetricFamily(
            "playground_experts_in_ram_layers",
            "Layers of loaded models that are on a GPU but for their experts, which are in RAM.",
            sum(plan.context.placement.experts_in_ram for plan in plans),
        )
        memory = GaugeMetricFamily(
            "playground_device_memory_bytes",
            "Memory of each GPU; free: as its driver said last; planned: of loaded models.",
            labels=["device", "backend", "kind"],
        )
        for device in devices:
            if device.is_gpu:
                on_device = sum(plan.layers_on(device.name) for plan in plans)
                planned = sum(plan.on_device(device.name) for plan in plans)
                for kind, size in (("total", device.memory_total), ("free", device.memory_free), ("planned", planned)):
                    memory.add_metric([device.name, device.backend, kind], size)
            else:
                on_device = sum(plan.layers_on_cpu for plan in plans)
            layers.add_metric([device.name, device.backend], on_device)
        yield layers
        yield experts
        yield memory


def _gauge(name: str, help_text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"playground_{name}", help_text, labels=[label])
    for value, count in values.items():
        gauge.add_metric([value], count)
    return gauge
