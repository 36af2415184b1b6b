"""Records for programs: the same keys in the command line's --json and in the API. Keys are stable.

Sizes are bytes, times seconds, lengths tokens; None is what cannot be known. Typed dictionaries: Gradio reads an
endpoint's fields from them, and the playground's own facts need no check on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypedDict

from playground.chat.comparison import Pane, PaneResult
from playground.chat.first_difference import FirstDifference
from playground.chat.template.message import Message
from playground.engine.protocol import DeviceMemory, Finished, Memory
from playground.errors import PlaygroundError
from playground.fit.budget import Budget
from playground.fit.plan import MemoryPlan
from playground.fit.planner import PlacedPlan, Planner
from playground.fit.verdict import Verdict, judge
from playground.llama.devices import Device, Devices
from playground.llama.params import ContextParameters
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.models.library import Library
from playground.models.model_file import ModelFile

USUAL_CONTEXT: Final = 4096  # tokens, or the most that the model was trained for: if no other is chosen


class DeviceRecord(TypedDict):
    """What a model can run on. memory_free: of the CPU what this computer can give to a model."""

    name: str  # llama.cpp's, such as CUDA0
    description: str
    backend: str
    kind: str  # CPU, GPU, integrated GPU, accelerator
    memory_total: int
    memory_free: int
    unified: bool  # whether its memory is the computer's own


class MachineRecord(TypedDict):
    memory_total: int
    memory_usable: int
    memory_limit: int | None
    limited_by: str
    cores_usable: int
    cores_limited_by: str
    devices: list[DeviceRecord]
    devices_problem: str  # why a GPU is not used, "" if there is nothing to say


class LevelRecord(TypedDict, total=False):
    """A level on this disk or on the Hub; the last two keys only for one on the Hub.

    notes: sentences on the level beyond its name, such as that it is slower here than one with more bits.
    """

    model: str
    level: str
    reference: str  # what other calls take as the model
    bits_per_weight: float | None
    size: int
    files: list[str]
    verdict: str  # fits, tight, slow, wont_fit; unknown, or unusable for a file that llama.cpp refuses
    reason: str
    context_size: int | None
    origin: str
    requantized_from: str | None
    notes: list[str]
    recommended: bool
    estimated: bool


class PlannedDeviceRecord(TypedDict):
    """What a GPU would hold of a model. parts: bytes by kind. layers: with the output, which counts as one."""

    name: str
    needed: int
    usable: int
    layers: int
    parts: dict[str, int]


class LeftOutRecord(TypedDict):
    """A GGUF file that is in no level, and why, in a sentence."""

    file: str
    reason: str


class LevelsRecord(TypedDict):
    """Every GGUF file of a model, a repository or a folder: in a level, or left out."""

    levels: list[LevelRecord]
    left_out: list[LeftOutRecord]


class PlanRecord(TypedDict):
    """The parts, total, must_stay and usable are of the computer's own memory; of GPUs see `devices`."""

    weights: int
    repacked: int
    kv_cache: int
    recurrent: int
    compute: int
    output: int
    base: int
    needed: int  # the one figure of a plan: what answers need in memory
    total: int  # with what no token reads, which the system takes back first
    must_stay: int
    usable: int
    verdict: str
    reason: str
    tokens_per_second: list[float | None] | None  # of what is slow, from and to
    largest_context: int | None
    context_size: int
    device: str  # where it would run: CPU, CUDA0, CUDA0 + CPU
    experts_in_ram: int  # layers that would be on a GPU but for their experts
    where: str  # a sentence that says why there, "" where there is no GPU
    devices: list[PlannedDeviceRecord]


class UsedDeviceRecord(TypedDict):
    """What a GPU holds of a loaded model. layers: with the output, which counts as one."""

    name: str
    backend: str
    layers: int
    memory_planned: int
    memory_measured: int  # how much less was free after the load; what is allocated, if that is not known
    memory_allocated: int  # by llama.cpp's own account


class ReplyRecord(TypedDict):
    text: str
    thinking: str
    finish_reason: str | None
    timings: dict[str, Any] | None
    memory_measured: int | None  # all that is resident
    memory_planned: int | None  # what answers need
    context_size: int | None
    load_seconds: float | None  # of the load before the reply; null if the model was loaded
    device: str | None  # on which it ran: CPU, CUDA0, CUDA0 + CPU
    experts_in_ram: int | None  # layers on a GPU but for their experts
    devices: list[UsedDeviceRecord]  # the GPUs among them
    disturbed: bool | None  # whether something else had the cores, so that the speeds are not what the model reaches
    note: str  # what a person should know of the reply: why it has no answer, what of the chat was not read; often ""


class PaneRecord(TypedDict, total=False):
    """One answer of a comparison: as a reply, or why there is none."""

    model: str
    level: str
    file: str | None
    text: str
    thinking: str
    finish_reason: str | None
    timings: dict[str, Any] | None
    memory_measured: int | None
    memory_planned: int | None
    context_size: int | None
    load_seconds: float | None
    device: str | None
    experts_in_ram: int | None
    devices: list[UsedDeviceRecord]
    disturbed: bool | None
    note: str
    mode: str
    seed: int | None
    error: str


class ComparisonRecord(TypedDict):
    panes: list[PaneRecord]
    first_difference: dict[str, Any] | None


def device_record(device: Device) -> DeviceRecord:
    return {
        "name": device.name,
        "description": device.description,
        "backend": device.backend,
        "kind": device.kind,
        "memory_total": device.memory_total,
        "memory_free": device.memory_free,
        "unified": device.unified,
    }


def machine_record(memory: MachineMemory, processors: Processors, devices: Devices) -> MachineRecord:
    return {
        "memory_total": memory.total,
        "memory_usable": memory.usable,
        "memory_limit": memory.limit,
        "limited_by": memory.limited_by,
        "cores_usable": processors.usable,
        "cores_limited_by": processors.limited_by,
        "devices": [device_record(device) for device in devices.all],
        "devices_problem": devices.problem,
    }


def level_record(
    file: ModelFile,
    library: Library,
    planner: Planner,
    context: int | None,
    slots: int,
    budget: Budget,
    notes: Sequence[str] = (),
) -> LevelRecord:
    """A file on this disk, planned at this context where it would run; one that llama.cpp refuses says so."""
    record: LevelRecord = {
        "model": file.base_name,
        "level": file.level,
        "reference": file.reference,
        "bits_per_weight": None,
        "size": file.size,
        "files": [str(shard) for shard in file.shards],
        "verdict": "unusable",
        "reason": "",
        "context_size": None,
        "origin": file.origin,
        "requantized_from": file.requantized_from,
        "notes": list(notes),
    }
    try:
        record["bits_per_weight"] = library.whole_header(file).bits_per_weight
        size = context or min(USUAL_CONTEXT, planner.trained_context(file.path))
        record["context_size"] = size
        verdict = judge(planner.place(file.path, ContextParameters(size, slots=slots), budget).plan, budget)
        record["verdict"], record["reason"] = verdict.kind, f"{verdict.label}: {verdict.reason}"
    except PlaygroundError as error:
        record["reason"] = str(error)
    except OSError as error:
        record["reason"] = f"The file cannot be read: {error.strerror or error}."
    return record


def plan_record(placed: PlacedPlan, verdict: Verdict, budget: Budget, largest: int | None) -> PlanRecord:
    plan = placed.plan
    return {
        "weights": plan.weights,
        "repacked": plan.repacked,
        "kv_cache": plan.kv_cache,
        "recurrent": plan.recurrent,
        "compute": plan.compute,
        "output": plan.output,
        "base": plan.base,
        "needed": plan.needed,
        "total": plan.total,
        "must_stay": plan.must_stay,
        "usable": budget.usable,
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "tokens_per_second": list(verdict.tokens_per_second) if verdict.tokens_per_second else None,
        "largest_context": largest,
        "context_size": plan.context.cells,
        "device": plan.context.placement.name,
        "experts_in_ram": plan.context.placement.experts_in_ram,
        "where": placed.reason,
        "devices": [_planned_device(placed, name, budget) for name in plan.device_names],
    }


def _planned_device(placed: PlacedPlan, name: str, budget: Budget) -> PlannedDeviceRecord:
    device = budget.find(name)
    return {
        "name": name,
        "needed": placed.plan.on_device(name),
        "usable": device.usable if device else 0,
        "layers": placed.plan.layers_on(name),
        "parts": {part.kind: part.bytes for part in placed.plan.on_devices if part.device == name},
    }


def used_device_record(device: DeviceMemory, plan: MemoryPlan) -> UsedDeviceRecord:
    return {
        "name": device.device,
        "backend": device.backend,
        "layers": device.layers,
        "memory_planned": plan.on_device(device.device),
        "memory_measured": device.measured,
        "memory_allocated": device.allocated,
    }


def reply_record(
    message: Message,
    finished: Finished | None,
    memory: Memory | None,
    plan: MemoryPlan | None,
    context_size: int | None,
    load_seconds: float | None = None,
    note: str = "",
) -> ReplyRecord:
    """finished: None while it is being written. plan: None of a model on a server. load_seconds: see ReplyRecord."""
    return {
        "text": message.content,
        "thinking": message.thinking,
        "finish_reason": finished.reason if finished else None,
        "timings": finished.timings.to_json() if finished else None,
        "memory_measured": memory.resident if memory else None,
        "memory_planned": plan.needed if plan else None,
        "context_size": context_size,
        "load_seconds": load_seconds,
        "device": plan.context.placement.name if plan else None,
        "experts_in_ram": plan.context.placement.experts_in_ram if plan else None,
        "devices": [used_device_record(device, plan) for device in memory.devices] if memory and plan else [],
        "disturbed": finished.timings.disturbed if finished else None,
        "note": note,
    }


def pane_record(
    pane: Pane, result: PaneResult | None, error: PlaygroundError | None = None, partial: Message | None = None
) -> PaneRecord:
    """One pane's answer; without a result, why there is none, if it has ended, and what was written before that."""
    path = getattr(pane.file, "path", None)  # a server's model has none here
    record: PaneRecord = {
        "model": pane.file.display_name,
        "level": pane.file.level,
        "file": str(path) if path else None,
    }
    if result is None:
        if error:
            record["error"] = str(error)
        if partial:
            record["text"], record["thinking"] = partial.content, partial.thinking
        return record
    message, plan = result.conversation.messages[-1], result.plan
    cells = plan.context.cells if plan else None
    reply = reply_record(message, result.finished, result.measured, plan, cells, result.load_seconds, result.remarks)
    return {**record, **reply, "mode": result.mode, "seed": result.sampling.seed}


def difference_record(difference: FirstDifference | None) -> dict[str, Any] | None:
    return difference.to_json() if difference else None
