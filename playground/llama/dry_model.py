"""Opens a model without its weights and asks llama.cpp how much memory a context of it would take.

A bad file can abort the process that opens it, so only the planner's child process does. The file may be a stand-in,
the header followed by a hole as large as the weights; or there is no file, only hyperparameters.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import llama_cpp
import llama_cpp.llama_cpp as bindings

from playground.errors import BadModelFile, PlaygroundError
from playground.llama.log import (
    ContextSizes,
    LlamaLog,
    failure_reason,
    printable,
    read_context_sizes,
    read_recurrent_buffers,
)
from playground.llama.params import CPU_ONLY, MOST_CONTEXT, Placement, model_parameters
from playground.llama.weight_buffers import BufferUse, buffer_uses, repacked_bytes, tensor_shapes

Hyperparameter = bool | int | float | str | Sequence[bool] | Sequence[int] | Sequence[float]

_DRAFTING_LAYERS: Final = "nextn_predict_layers"
_GGUF_INT32: Final = 5  # gguf.h's enum gguf_type
_GGUF_FLOAT32: Final = 6
_GGUF_BOOL: Final = 7
_CONTEXT_PARTS: Final = ("kv_cache", "recurrent", "compute")
_ARRAY_ITEMS: Final[dict[type, tuple[int, Any]]] = {
    bool: (_GGUF_BOOL, ctypes.c_bool),
    int: (_GGUF_INT32, ctypes.c_int32),
    float: (_GGUF_FLOAT32, ctypes.c_float),
}


DevicePart = tuple[str, str, int]  # kind, device, bytes


@dataclass(frozen=True)
class ContextMemory:
    """What a model and one context of it take, in bytes.

    sizes: of the context, over all devices. buffers: of model and context; () if this build does not tell.
    recurrent_buffers: bytes of recurrent states by the name of their buffers.
    """

    sizes: ContextSizes
    buffers: tuple[BufferUse, ...]
    recurrent_buffers: Mapping[str, int]

    @property
    def on_devices(self) -> list[DevicePart]:
        """The parts that lie in a GPU's own memory, device by device."""
        parts = []
        for device in dict.fromkeys(use.device for use in self.buffers if use.device):
            uses = [use for use in self.buffers if use.device == device]
            state = sum(use.state for use in uses)
            recurrent = min(state, sum(self.recurrent_buffers.get(name, 0) for name in {use.name for use in uses}))
            parts += [
                ("weights", device, sum(use.weights for use in uses)),
                ("kv_cache", device, state - recurrent),
                ("recurrent", device, recurrent),
                ("compute", device, sum(use.compute for use in uses)),
            ]
        return [part for part in parts if part[2]]

    @property
    def in_ram(self) -> ContextSizes:
        """The context's parts in the computer's memory."""
        on_devices = {kind: sum(part[2] for part in self.on_devices if part[0] == kind) for kind in _CONTEXT_PARTS}
        rest = {kind: max(0, getattr(self.sizes, kind) - size) for kind, size in on_devices.items()}
        return replace(self.sizes, **rest)

    @property
    def ram_weights(self) -> int:
        return sum(use.weights for use in self.buffers if not use.device)

    @property
    def ram_repacked(self) -> int:
        return sum(use.weights for use in self.buffers if use.is_repacked)


@dataclass(frozen=True)
class KnownVocabulary:
    """How many tokens the vocabulary of a file has: all of it that a plan needs."""

    architecture: str
    tokens: int

    def overrides(self) -> Any:
        """Metadata that take the place of the file's, ended by an empty entry."""
        entries: Any = (llama_cpp.llama_model_kv_override * 3)()
        entries[0].key, entries[1].key = b"tokenizer.ggml.model", f"{self.architecture}.vocab_size".encode()
        entries[0].tag, entries[0].value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, b"no_vocab"
        entries[1].tag, entries[1].value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, self.tokens
        return entries


class DryModel:
    """A model opened without allocation; close it. Made by `from_file` or `from_hyperparameters`.

    architecture: "llama", "qwen3". layers: of the model, and the output, which can be on a GPU as well. has_experts:
    whether some layers have experts.
    trained_context: tokens, at most MOST_CONTEXT. weight_bytes: of the file's tensors, 0 where there is no file.
    repacked_bytes: of them, what loading copies into CPU order; all of them where this build does not tell.
    """

    def __init__(self, model: Any, log: LlamaLog, *, has_weights: bool) -> None:
        self._model = model
        self._log = log
        self.trained_context = min(llama_cpp.llama_model_n_ctx_train(model), MOST_CONTEXT)
        self.architecture = _read_metadata(model, b"general.architecture")
        self.layers: int = llama_cpp.llama_model_n_layer(model) + 1
        self.has_experts = _read_metadata(model, f"{self.architecture}.expert_count".encode()) not in ("", "0")
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.weight_bytes: int = llama_cpp.llama_model_size(model) if has_weights else 0
        repacked = repacked_bytes(model) if has_weights else 0
        self.repacked_bytes: int = self.weight_bytes if repacked is None else repacked

    @classmethod
    def from_file(
        cls,
        path: Path,
        log: LlamaLog,
        placement: Placement = CPU_ONLY,
        known: KnownVocabulary | None = None,
    ) -> DryModel:
        """The model of a file, or of a stand-in for it; of the first shard, beside all the others, where it is split.

        known: of the same file, opened before. The vocabulary is then left out, which takes most of the time.
        Raises BadModelFile with llama.cpp's words.
        """
        log.take_lines()
        parameters = model_parameters(placement, dry=True)
        if known:
            parameters.kv_overrides = known.overrides()
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            raise _refused(log, printable(path.name))
        opened = cls(model, log, has_weights=True)
        if opened.trained_context < 1:  # negative for 2**31 and more, since llama.cpp answers in 32 bits
            opened.close()
            raise BadModelFile(
                f"{printable(path.name)} gives an impossible context length: a number of tokens from 1 to "
                f"{2**31 - 1:,} was expected, and its header has {'0' if opened.trained_context == 0 else 'more'}.",
                "Choose another file of the model.",
            )
        return opened

    @classmethod
    def from_hyperparameters(
        cls,
        architecture: str,
        hyperparameters: Mapping[str, Hyperparameter],
        vocabulary_size: int,
        log: LlamaLog,
        placement: Placement = CPU_ONLY,
    ) -> DryModel:
        """A model of which only the metadata is known; its keys come without the architecture's prefix.

        Raises BadModelFile with llama.cpp's words.
        """
        log.take_lines()
        parameters = model_parameters(placement, dry=True)
        hyperparameters = _without_drafting_layers(hyperparameters)
        with _metadata(architecture, {**hyperparameters, "vocab_size": vocabulary_size}) as metadata:
            model = llama_cpp.llama_model_init_from_user(metadata, _NO_WEIGHTS, ctypes.c_void_p(0), parameters)
        if not model:
            raise _refused(log, "this model")
        return cls(model, log, has_weights=False)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by its name, a row's length first.

        Without a file these are all that llama.cpp has a place for, also those that a model may lack: biases, a
        separate output matrix.
        """
        return tensor_shapes(self._model)

    @contextmanager
    def context_sizes(self, parameters: llama_cpp.llama_context_params) -> Iterator[ContextSizes]:
        """What a context with these parameters takes over all devices; it stays open within the `with`, not allocated.

        Raises as `context_memory` does.
        """
        with self.context_memory(parameters) as memory:
            yield memory.sizes

    @contextmanager
    def context_memory(self, parameters: llama_cpp.llama_context_params) -> Iterator[ContextMemory]:
        """What a context with these parameters takes; it stays open within the `with`, its buffers not allocated.

        Raises PlaygroundError with llama.cpp's words when the model cannot have such a context.
        """
        self._log.take_lines()
        context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not context:
            raise PlaygroundError(
                f"llama.cpp cannot make this context: {failure_reason(self._log.take_lines()) or 'it gave no reason'}.",
                "Choose another context size or KV cache type.",
            )
        try:
            lines, buffers = self._log.take_lines(), buffer_uses(context)
            sizes = read_context_sizes(lines)
            if buffers is not None:
                sizes = sizes.with_buffers(sum(use.state for use in buffers), sum(use.compute for use in buffers))
            yield ContextMemory(sizes, tuple(buffers or ()), read_recurrent_buffers(lines))
        finally:
            llama_cpp.llama_free(context)

    def close(self) -> None:
        llama_cpp.llama_model_free(self._model)


def _without_drafting_layers(hyperparameters: Mapping[str, Hyperparameter]) -> Mapping[str, Hyperparameter]:
    """The metadata of the same model without the last layers that only draft tokens (nextn, MTP).

    A run does not load them, and gives them no KV cache. Without a file llama.cpp asks for a place for their tensors
    all the same, finds none, and aborts.
    """
    layers, drafting = (hyperparameters.get(key, 0) for key in ("block_count", _DRAFTING_LAYERS))
    if not isinstance(layers, int) or not isinstance(drafting, int) or drafting < 1:
        return hyperparameters
    if drafting >= layers:
        raise BadModelFile(
            "This model has layers that draft tokens for another model, and none of its own.",
            "Choose the model that it drafts for.",
        )
    shorter = {
        key: value[: layers - drafting] if isinstance(value, (list, tuple)) and len(value) == layers else value
        for key, value in hyperparameters.items()
        if key != _DRAFTING_LAYERS
    }
    return {**shorter, "block_count": layers - drafting}


def _read_metadata(model: Any, key: bytes) -> str:
    """The value of one key; "" where the file has none."""
    text: Any = ctypes.create_string_buffer(64)
    return text.value.decode() if llama_cpp.llama_model_meta_val_str(model, key, text, len(text)) >= 0 else ""


def _refused(log: LlamaLog, name: str) -> BadModelFile:
    words = failure_reason(log.take_lines()) or "it gave no reason"
    unknown = words.startswith(("unknown model architecture", "unknown pre-tokenizer", "unknown tokenizer"))
    is_cut = any(word in words for word in ("corrupt", "incomplete", "failed to read"))
    remedy = (
        "Choose a model this llama.cpp knows."
        if unknown
        else "Fetch the file again, or choose another one."
        if is_cut
        else "The file is made for another program or version: choose another file of the model."
    )
    return BadModelFile(f"llama.cpp cannot open {name}: {words}.", remedy)


@llama_cpp.llama_cpp.llama_model_set_tensor_data_t  # type: ignore[untyped-decorator]
def _no_weights(tensor: int, data: int) -> None:
    """llama.cpp asks for the weights of a model without a file; a dry run leaves them out."""


_NO_WEIGHTS: Final = _no_weights


# --- metadata without a file ---


@contextmanager
def _metadata(architecture: str, hyperparameters: Mapping[str, Hyperparameter]) -> Iterator[int]:
    """A gguf_context that holds the hyperparameters and a vocabulary of no texts."""
    _gguf("init_empty").restype = ctypes.c_void_p
    gguf: int = _gguf("init_empty")()
    try:
        _setter("str", ctypes.c_char_p)(gguf, b"general.architecture", architecture.encode())
        _setter("str", ctypes.c_char_p)(gguf, b"tokenizer.ggml.model", b"no_vocab")
        for key, value in hyperparameters.items():
            _set(gguf, f"{architecture}.{key}".encode(), value)
        yield gguf
    finally:
        free = _gguf("free")
        free.argtypes = [ctypes.c_void_p]
        free(gguf)


def _set(gguf: int, key: bytes, value: Hyperparameter) -> None:
    if isinstance(value, bool):  # before int, of which it is a kind
        _setter("bool", ctypes.c_bool)(gguf, key, value)
    elif isinstance(value, int):
        _setter("u32", ctypes.c_uint32)(gguf, key, value)
    elif isinstance(value, float):
        _setter("f32", ctypes.c_float)(gguf, key, value)
    elif isinstance(value, str):
        _setter("str", ctypes.c_char_p)(gguf, key, value.encode())
    else:
        kind, item = _ARRAY_ITEMS[type(value[0])]
        set_array = _gguf("set_arr_data")
        set_array.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        set_array(gguf, key, kind, (item * len(value))(*value), len(value))


def _setter(kind: str, argument: Any) -> Callable[[int, bytes, Any], None]:
    function: Any = _gguf(f"set_val_{kind}")
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, argument]
    function.restype = None
    return function  # type: ignore[no-any-return]


def _gguf(name: str) -> Any:
    """A function of gguf.h, which the bindings load with llama.cpp but do not wrap."""
    return getattr(bindings._lib, f"gguf_{name}")
