"""The parameters of a model and its context, made in one place for the plan and for the run.

A plan that reserved other buffers than the run would be a guess, so both take their C structs from here.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import llama_cpp

from playground.errors import PlaygroundError
from playground.llama.cpu_kernels import has_amx
from playground.llama.devices import find_device, ggml_function
from playground.llama.made_up_devices import is_made_up, make_up_device

KvType = Literal["f16", "q8_0", "q4_0"]
Embeds = Literal["", "at once", "in pieces"]
KV_TYPES: Final[dict[KvType, int]] = {
    "f16": llama_cpp.GGML_TYPE_F16,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
}

BATCH_TOKENS: Final = 256  # most tokens in one llama_decode; 512 are no faster on a CPU, and need twice the buffer
# Where layers are on a GPU, llama.cpp's own defaults: most tokens in one llama_decode, and how many of them are
# computed at once, which decides how large the buffers are. Several GPUs work on the pieces of one call in turn.
GPU_BATCH_TOKENS: Final = 2048
GPU_MICRO_BATCH_TOKENS: Final = 512
# Tokens in one llama_decode when every one of them is scored; each takes a row of logits. More are faster where a model
# is so small that its threads mostly wait for each other.
SCORED_ROWS: Final = 64
MOST_SCORED_ROWS: Final = 256
MOST_CONTEXT: Final = 16_777_216  # tokens; llama.cpp's own bookkeeping for more takes long, even in a dry run
CONTEXT_STEP: Final = 256  # llama.cpp rounds a context up to a multiple of this
ALL_LAYERS: Final = -1


@dataclass(frozen=True)
class Placement:
    """Where a model runs.

    devices: llama.cpp's names of the GPUs, in order; none of them is the CPU alone.
    gpu_layers: how many of the model's layers are on these devices, from the last one on; ALL_LAYERS for all of them.
        The output counts as a layer, the last one. The input stays in RAM.
    experts_in_ram: of so many layers, from the first one on, the experts stay in RAM.
    split: what part of the layers each device takes, in any unit; () if there is one device.
    """

    devices: tuple[str, ...] = ()
    gpu_layers: int = 0
    experts_in_ram: int = 0
    split: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.devices) != (self.gpu_layers != 0):
            raise ValueError(f"{self.gpu_layers} layers on the devices {self.devices}")
        if self.split and (len(self.split) != len(self.devices) or sum(self.split) <= 0):
            raise ValueError(f"{self.devices} with the split {self.split}")

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Placement:
        """From what dataclasses.asdict gave, also after a way through JSON."""
        return cls(**{**fields, **{name: tuple(fields[name]) for name in ("devices", "split")}})

    @property
    def is_cpu_only(self) -> bool:
        return not self.devices

    @property
    def is_whole_on_devices(self) -> bool:
        return self.gpu_layers == ALL_LAYERS and not self.experts_in_ram

    @property
    def name(self) -> str:
        """`CPU`, `CUDA0`, `CUDA0 + CUDA1`; with the CPU where it has layers as well."""
        return " + ".join([*self.devices, *(["CPU"] if not self.is_whole_on_devices else [])])

    def layers_of(self, device: str, layers: int) -> int:
        """How many of a model's `layers`, the output among them, lie on this device, by llama.cpp's rule."""
        placed = layers if self.gpu_layers == ALL_LAYERS else min(self.gpu_layers, layers)
        if len(self.devices) < 2:
            return placed if device in self.devices else 0
        ends = [sum(self.split[: index + 1]) / sum(self.split) for index in range(len(self.split))]
        owners = [next(index for index, end in enumerate(ends) if layer / placed < end) for layer in range(placed)]
        return owners.count(self.devices.index(device)) if device in self.devices else 0


CPU_ONLY: Final = Placement()
AUTOMATIC: Final = "auto"
CPU: Final = "cpu"
ZEROGPU: Final = "zerogpu"
_CHOICE: Final = re.compile(r"([\w.\[\]-]{1,80})(?::(all|\d{1,4}))?(?:,experts=(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True)
class DeviceChoice:
    """Where somebody wants a model to run; fit/offload.py makes a placement of it.

    device: "auto", "cpu", llama.cpp's name of a GPU, or "zerogpu": the GPU that a Space is lent for a reply, while the
    model itself is on the CPU. gpu_layers: on the GPU, ALL_LAYERS for all of them, None for as many as fit.
    experts_in_ram: of so many layers the experts stay in RAM, None for as few as possible.
    """

    device: str = AUTOMATIC
    gpu_layers: int | None = None
    experts_in_ram: int | None = None

    @property
    def is_cpu(self) -> bool:
        return self.device.lower() in (CPU, ZEROGPU) or self.gpu_layers == 0

    @property
    def is_zerogpu(self) -> bool:
        return self.device.lower() == ZEROGPU

    @property
    def text(self) -> str:
        """`auto`, `cpu`, `auto:all`, `CUDA0:27`, `auto,experts=12`; `read` reads it."""
        layers = "" if self.gpu_layers is None else f":{'all' if self.gpu_layers == ALL_LAYERS else self.gpu_layers}"
        return f"{self.device}{layers}{'' if self.experts_in_ram is None else f',experts={self.experts_in_ram}'}"

    @property
    def gpu(self) -> str | None:
        """The name of the GPU that was chosen, if one was."""
        return None if self.device.lower() in (AUTOMATIC, CPU, ZEROGPU) else self.device

    @staticmethod
    def can_read(text: object) -> bool:
        return isinstance(text, str) and _CHOICE.fullmatch(text) is not None

    @classmethod
    def read(cls, text: object) -> DeviceChoice:
        """From a text that a browser sent; an impossible one is Automatic."""
        found = _CHOICE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return cls()
        layers = None if found[2] is None else ALL_LAYERS if found[2] == "all" else int(found[2])
        return cls(found[1], layers, None if found[3] is None else int(found[3]))


AUTOMATIC_CHOICE: Final = DeviceChoice()


@dataclass(frozen=True)
class ContextParameters:
    """What a person chooses for a loaded model.

    context_size: cells of the KV cache in tokens, shared by all slots (one unified cache).
    kv_type: of the keys and the values. v_type: of the values, where they have another one; None for the same.
    slots: sequences that can be decoded at once; their logits are reserved in the compute buffer.
    scored_rows: tokens of a batch that may all want their logits, where a text is scored; 0 where replies are written.
    device: where it shall run, by choice. placement: where it runs, once that is decided.
    embeds: texts are turned into vectors, each read in one batch, which is as large as the context. It is computed at
        once, since every token may look at all others, or in pieces, where each looks back and the last one counts.
    """

    context_size: int
    kv_type: KvType = "f16"
    slots: int = 4
    scored_rows: int = 0
    device: DeviceChoice = AUTOMATIC_CHOICE
    placement: Placement = CPU_ONLY
    v_type: KvType | None = None
    embeds: Embeds = ""

    def __post_init__(self) -> None:
        if self.context_size < 1 or self.slots < 1:
            raise ValueError(f"context_size and slots start at 1, got {self.context_size} and {self.slots}")

    @classmethod
    def for_scoring(
        cls,
        tokens: int,
        kv_type: KvType = "f16",
        placement: Placement = CPU_ONLY,
        v_type: KvType | None = None,
        rows: int = SCORED_ROWS,
    ) -> ContextParameters:
        """The temporary context in which one text of so many tokens is scored, `rows` at once."""
        return cls(tokens, kv_type, slots=1, scored_rows=rows, placement=placement, v_type=v_type)

    @classmethod
    def for_embedding(cls, tokens: int, embeds: Embeds = "at once") -> ContextParameters:
        """The context in which texts of up to so many tokens are turned into vectors, one after the other."""
        return cls(tokens, slots=1, embeds=embeds)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ContextParameters:
        """From what dataclasses.asdict gave, also after a way through JSON."""
        choice = DeviceChoice(**fields["device"])
        return cls(**{**fields, "device": choice, "placement": Placement.from_fields(fields["placement"])})

    @property
    def cells(self) -> int:
        """The context that llama.cpp will really allocate, in tokens."""
        return math.ceil(self.context_size / CONTEXT_STEP) * CONTEXT_STEP


def model_parameters(placement: Placement = CPU_ONLY, *, dry: bool = False) -> llama_cpp.llama_model_params:
    """How a model is opened; `dry` simulates every allocation and reads no weights.

    A dry run must not map the file: with mmap on, llama.cpp fails an assertion when nothing is allocated.

    CPU only means it: with no layers on a GPU alone, llama.cpp would still send it large batches, reserve memory there
    and leave out the repacking of weights. So the list of devices is empty, and no weights lie in a driver's buffers.

    Raises PlaygroundError when a device is not there. The result must live until the model is open.
    """
    params: llama_cpp.llama_model_params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = placement.gpu_layers
    devices = (ctypes.c_void_p * (len(placement.devices) + 1))(*map(_existing_device, placement.devices), None)
    params.devices = ctypes.addressof(devices)  # type: ignore[assignment]  # a void pointer to the bindings
    params.no_host = placement.is_cpu_only
    # Most builds by GCC end with SIGSEGV in the first batch of an AMX buffer (scripts/install_llama.py).
    params.use_extra_bufts = not has_amx()
    split = (ctypes.c_float * llama_cpp.llama_max_devices())(*placement.split)
    params.tensor_split = split
    overrides = _experts_in_ram(placement.experts_in_ram)
    params.tensor_buft_overrides = ctypes.addressof(overrides)  # type: ignore[assignment]
    params.kept_alive = (devices, split, overrides)  # the struct has their addresses only
    if dry:
        params.no_alloc = True
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    return params


def _existing_device(name: str) -> int:
    device = find_device(name) or (make_up_device(name) if is_made_up(name) else None)
    if not device:
        raise PlaygroundError(f"The device {name} is not there.", "Choose another device, or CPU only.")
    return device


class _BufferOverride(ctypes.Structure):
    """struct llama_model_tensor_buft_override of llama.h: where the tensors go whose names match the pattern."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


def _experts_in_ram(layers: int) -> Any:
    """A list, ended by an empty entry, that keeps the experts of the first `layers` layers in RAM."""
    cpu_buffers: int = ggml_function("backend_cpu_buffer_type", [], ctypes.c_void_p)()
    patterns = [rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode() for layer in range(layers)]
    entries = [_BufferOverride(pattern, cpu_buffers) for pattern in patterns]
    return (_BufferOverride * (layers + 1))(*entries, _BufferOverride(None, None))


def context_parameters(chosen: ContextParameters, threads: int = 1) -> llama_cpp.llama_context_params:
    """The context of a plan or a run.

    n_outputs_max is the number of sequences (the default reserves logits for a whole batch), and sliding-window models
    keep only their window (swa_full off): the two defaults that decide the memory of a context.
    """
    params: llama_cpp.llama_context_params = llama_cpp.llama_context_default_params()
    params.n_ctx = chosen.cells
    is_cpu = chosen.placement.is_cpu_only
    params.n_batch = min(chosen.scored_rows or (BATCH_TOKENS if is_cpu else GPU_BATCH_TOKENS), chosen.cells)
    params.n_ubatch = min(params.n_batch, BATCH_TOKENS if is_cpu else GPU_MICRO_BATCH_TOKENS)
    params.n_seq_max = chosen.slots
    params.n_outputs_max = max(chosen.slots, chosen.scored_rows)
    if chosen.embeds:
        params.embeddings = True
        params.n_batch = params.n_outputs_max = chosen.cells
        params.n_ubatch = chosen.cells if chosen.embeds == "at once" else min(params.n_ubatch, chosen.cells)
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
    params.type_k = KV_TYPES[chosen.kv_type]
    params.type_v = KV_TYPES[chosen.v_type or chosen.kv_type]
    params.offload_kqv = params.op_offload = not is_cpu
    params.swa_full = False
    params.kv_unified = True
    params.no_perf = True
    return params
