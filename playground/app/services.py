"""What every front end shares: library, planner, pool, runs, servers and downloads, opened and closed together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from playground.app.tool_servers.client import ToolServers
from playground.app.tool_servers.config import read_tool_servers
from playground.chat.template.renderer_process import RENDERER
from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.pool import ModelPool
from playground.engine.remote.registry import ServerRegistry
from playground.engine.timings import Timings
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.engine.zerogpu.gpu_function import is_zerogpu
from playground.errors import PlaygroundError
from playground.fit.budget import GpuMargin
from playground.fit.planner import Planner
from playground.limits.runs import Runs
from playground.llama.devices import DeviceReader
from playground.llama.params import AUTOMATIC_CHOICE, CPU_ONLY, Placement
from playground.machine.cpus import Processors, read_processors
from playground.machine.files import remove_leftovers
from playground.machine.memory import MachineMemory, read_memory, read_process_memory
from playground.measure.forecast import SpeedForecaster
from playground.models.file_records import LastUsed
from playground.models.hub.client import HubClient
from playground.models.hub.download_queue import DownloadQueue
from playground.models.hub.headers import HubHeaders
from playground.models.hub.listings import Listings
from playground.models.hub.names import repository_filter
from playground.models.library import Library
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import place_for_imatrix
from playground.settings import Settings

# Of a command that has had an answer: measured 56 MiB, and 16 in the process that renders chat templates.
OWN_BYTES: Final = 72 << 20
USABLE_STEP: Final = 8 << 20  # what a control group counts for the same processes varies by 0.3 MiB


class Services:
    """Open in a `with`; the end of it ends every child process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = Library(settings)
        self.processors: Processors = read_processors()
        self._resources = ExitStack()
        self.devices = self._resources.enter_context(DeviceReader())
        self.planner = self._resources.enter_context(Planner())
        cores = CpuShares(self.processors.usable)
        self._resources.callback(cores.close)
        self.last_used = LastUsed(settings.data_dir / "last-used.json")
        self.listings = Listings(settings.data_dir / "repositories.json")
        self.forecaster = SpeedForecaster(settings.data_dir / "measured-speeds.json", self.processors.usable)
        self.pool = ModelPool(
            cores,
            self.planner,
            usable_bytes=lambda: self.memory().usable,
            idle_seconds=settings.idle_seconds,
            turn_seconds=settings.turn_seconds,
            on_loaded=self.last_used.record_load,
            on_load_started=RENDERER.start_in_background,  # so that the first prompt need not wait for its process
            devices=self.devices,
            on_reply=self._record_speed,
            gpu_margin=GpuMargin(settings.gpu_margin_bytes, settings.gpu_margin_share),
        )
        self._resources.callback(RENDERER.close)
        self._resources.callback(self.pool.close)
        self.runs = self._resources.enter_context(Runs.from_settings(settings))
        self.remotes = ServerRegistry(settings.remotes, settings.remote_silence_seconds)
        self._resources.callback(self.remotes.close)
        self.quantization_jobs = QuantizationJobs(self.library, self.processors.usable, self._place_for_imatrix)
        self._resources.callback(self.quantization_jobs.close)
        for folder in ("models", "scores"):
            remove_leftovers(settings.data_dir / folder)  # of runs that were killed
        self._still_to_load = OWN_BYTES
        self._opening = threading.Lock()
        self._downloads: DownloadQueue | None = None

    def _record_speed(self, engine: LocalEngine, timings: Timings) -> None:
        """Forecasts learn from every reply that nothing disturbed."""
        if timings.disturbed or timings.generation_speed is None:
            return
        tokens = timings.generated_tokens or 0
        self.forecaster.record_reply(
            engine.path,
            device=engine.context.placement.name,
            threads=timings.threads,
            tokens=tokens,
            context_used=(timings.prompt_tokens or 0) + tokens,
            tokens_per_second=timings.generation_speed,
        )

    @cached_property
    def zerogpu(self) -> ZeroGpu | None:
        """For replies on the GPU of a ZeroGPU Space; None elsewhere. The first use begins to fetch what they need."""
        if not is_zerogpu():
            return None
        own, index = self.settings.zerogpu_libraries, self.settings.zerogpu_index
        folder = own or self.settings.data_dir / "zerogpu"
        zerogpu = ZeroGpu(folder, "" if own else index, self.processors.usable)
        self._resources.callback(zerogpu.close)
        return zerogpu

    @cached_property
    def tool_servers(self) -> ToolServers:
        """The MCP servers of the settings; none of them runs before a chat wants tools. Raises PlaygroundError."""
        path = self.settings.offered_mcp_servers
        servers = ToolServers(read_tool_servers(path) if path else {})
        self._resources.callback(servers.close)
        return servers

    @cached_property
    def hub(self) -> HubClient:
        return HubClient(allowed=repository_filter(self.settings.allowed_repos))

    @cached_property
    def headers(self) -> HubHeaders:
        """Headers of models on the Hub, kept in the data folder."""
        return HubHeaders(self.hub, self.settings.data_dir / "headers")

    @property
    def downloads(self) -> DownloadQueue:
        """The download queue. The first use continues the downloads of the last run."""
        with self._opening:
            if self._downloads is None:
                self._downloads = self._resources.enter_context(DownloadQueue(self.settings, self.hub, self.headers))
            return self._downloads

    def close_first(self, close: Callable[[], object]) -> None:
        """Call this before the models and all else that is open here ends."""
        self._resources.callback(close)

    def memory(self) -> MachineMemory:
        """The memory of this computer now; what the planner's processes would give back counts as usable.

        This process counts as OWN_BYTES, as long as it has less: what it will still load differs from command to
        command, and all of them have to judge alike. Rounded down, since the system's own counts vary a little.
        """
        if self._still_to_load:  # asked only until all is loaded: the answer takes some milliseconds
            self._still_to_load = max(0, OWN_BYTES - read_process_memory(os.getpid()).anonymous)
        memory = read_memory(returnable=self.planner.held_bytes() - self._still_to_load)
        return replace(memory, usable=memory.usable // USABLE_STEP * USABLE_STEP)

    def _place_for_imatrix(self, source: Path) -> Placement:
        """On a GPU as far as it has room beside the loaded models."""
        budget = self.pool.budget_for(source, idle_gives_way=False)
        try:
            return place_for_imatrix(self.planner, source, AUTOMATIC_CHOICE, budget)
        except PlaygroundError:
            return CPU_ONLY

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
