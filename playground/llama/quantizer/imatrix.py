"""Measures which columns of a model's weights matter: the importance matrix that llama.cpp's lowest levels need.

While the model reads a text, the input of every multiplication by weights is recorded: a column that is multiplied by
large inputs matters more when its weights are rounded. llama.cpp passes each node of its graph to a callback. The
bindings pass the node as an address, so its layout in ggml.h is repeated here, and checked against ggml's own functions
before it is used.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp._ggml import libggml

from playground.llama.params import CPU_ONLY, ContextParameters, Placement, context_parameters, model_parameters

TEXT_TOKENS: Final = 512  # the text is read in pieces of so many, each as a text of its own
_WEIGHT: Final = b".weight"
_F32: Final = 0  # ggml_type

Importance = dict[str, npt.NDArray[np.float32]]  # by tensor: a mean square for each column, expert after expert


class ImportanceNotMeasured(Exception):
    """No importance can be measured; says why."""


def measure_importance(
    path: str, text: str, threads: int, tell: Callable[[float], None], placement: Placement = CPU_ONLY
) -> Importance:
    """Let the model at `path` read the text where `placement` says; `tell` is called with the fraction that is read.

    Raises ImportanceNotMeasured, and PlaygroundError when a device is not there.
    """
    params = model_parameters(placement)
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ImportanceNotMeasured("llama.cpp cannot load the model")
    try:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 8))()
        has_words = llama_cpp.llama_vocab_type(vocabulary) != llama_cpp.LLAMA_VOCAB_TYPE_NONE
        count = (
            llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, len(tokens), True, False) if has_words else 0
        )
        if count <= 0:
            raise ImportanceNotMeasured("the model has no vocabulary to read a text with")
        reader = ImportanceReader()
        for start in range(0, count, TEXT_TOKENS):
            _read(model, tokens[start : min(start + TEXT_TOKENS, count)], threads, reader, placement)
            tell(min(1.0, (start + TEXT_TOKENS) / count))
        return reader.result()
    finally:
        llama_cpp.llama_model_free(model)


def _read(model: Any, tokens: list[int], threads: int, reader: ImportanceReader, placement: Placement) -> None:
    """One piece in a context of its own. Every token's logits are wanted: else the last layer would see but one."""
    chosen = ContextParameters.for_scoring(TEXT_TOKENS, placement=placement)
    params = context_parameters(chosen, threads)
    params.cb_eval = reader.callback
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ImportanceNotMeasured("llama.cpp cannot make a context to read a text in")
    batch = llama_cpp.llama_batch_init(chosen.scored_rows, 0, 1)
    try:
        for start in range(0, len(tokens), chosen.scored_rows):
            piece = tokens[start : start + chosen.scored_rows]
            batch.n_tokens = len(piece)
            for row, token in enumerate(piece):
                batch.token[row], batch.pos[row], batch.n_seq_id[row] = token, start + row, 1
                batch.seq_id[row][0], batch.logits[row] = 0, True
            code = llama_cpp.llama_decode(context, batch)
            if reader.problem:
                raise reader.problem
            if code != 0:
                raise ImportanceNotMeasured(f"llama.cpp could not read the text (code {code})")
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


class _Tensor(ctypes.Structure):
    """struct ggml_tensor of ggml.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),  # elements of each dimension, row first
        ("nb", ctypes.c_size_t * 4),  # bytes from one to the next
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


class _Sums:
    """Of one tensor of weights, for each expert (one in most models): how many inputs it got, their squares' sums."""

    def __init__(self, experts: int, columns: int) -> None:
        self.squares = np.zeros((experts, columns), dtype=np.float64)
        self.inputs = np.zeros(experts, dtype=np.int64)

    def add(self, inputs: npt.NDArray[np.float32], chosen: npt.NDArray[np.int32] | None = None) -> None:
        """inputs: (tokens, rows of each token, columns); chosen: (tokens, experts used), where there are experts.

        An expert reads the row of its own place, or the only one there is.
        """
        if chosen is None:
            self._add(0, inputs.reshape(-1, inputs.shape[-1]))
            return
        for place in range(chosen.shape[1]):
            rows = inputs[:, place % inputs.shape[1]]
            for expert in np.unique(chosen[:, place]):
                self._add(int(expert), rows[chosen[:, place] == expert])

    def _add(self, expert: int, read: npt.NDArray[np.float32]) -> None:
        self.squares[expert] += np.square(read).sum(axis=0)
        self.inputs[expert] += len(read)

    def mean_squares(self) -> npt.NDArray[np.float32]:
        """Flat, expert after expert; an expert that the text never woke counts every column alike."""
        means = np.ones_like(self.squares)
        woken = self.inputs > 0
        means[woken] = self.squares[woken] / self.inputs[woken, None]
        return means.astype(np.float32).ravel()


class ImportanceReader:
    """Called for every node of a graph: asks for the multiplications by weights, and sums up their inputs."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._is_checked = False
        self.problem: Exception | None = None  # of the callback, through which none can be raised
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._hear)

    def result(self) -> Importance:
        return {name: sums.mean_squares() for name, sums in self._sums.items()}

    def _hear(self, address: int, is_asked: bool, _: Any) -> bool:
        """Asked: whether this node is wanted. Else: its inputs are there to be read; True goes on."""
        try:
            return self._heard(address, is_asked)
        except Exception as error:
            self.problem = error
            return False

    def _heard(self, address: int, is_asked: bool) -> bool:
        node = _Tensor.from_address(address)
        if not node.src[0] or not node.src[1]:
            return not is_asked
        weights, inputs = _Tensor.from_address(node.src[0]), _Tensor.from_address(node.src[1])
        is_wanted = _own_name(weights.name).endswith(_WEIGHT) and inputs.type == _F32 and inputs.ne[0] == weights.ne[0]
        is_wanted = is_wanted and _operation(address) in (b"MUL_MAT", b"MUL_MAT_ID")
        if is_wanted and not is_asked:
            self._check(address, node)
            self._read(weights, node.src[1], node.src[2])
        return is_wanted or not is_asked

    def _check(self, address: int, node: _Tensor) -> None:
        if self._is_checked:
            return
        reported = (libggml.ggml_get_name(address), libggml.ggml_get_data(address))
        self._is_checked = reported == (node.name, node.data)
        if not self._is_checked:
            raise ImportanceNotMeasured("this build of llama.cpp lays out its tensors in another way")

    def _read(self, weights: _Tensor, inputs: int, chosen: int | None) -> None:
        """inputs, chosen: addresses of tensors."""
        experts = weights.ne[2] if chosen else 1
        sums = self._sums.setdefault(_own_name(weights.name).decode(), _Sums(experts, weights.ne[0]))
        sums.add(_array(inputs, np.float32), _array(chosen, np.int32)[0] if chosen else None)


def _own_name(name: bytes) -> bytes:
    """The name of a tensor in the file; a copy on another device has the name of the device in front.

    >>> _own_name(b"CUDA0#blk.0.ffn_up.weight#0")
    b'blk.0.ffn_up.weight'
    """
    return name.split(b"#")[1] if name.count(b"#") == 2 else name


def _operation(address: int) -> bytes:
    name: bytes = libggml.ggml_op_desc(address)
    return name


def declare_tensor_functions() -> None:
    """Gives the functions that look into a tensor their C signatures; once for a process."""
    pointer = ctypes.c_void_p
    libggml.ggml_backend_tensor_get.argtypes = [pointer, pointer, ctypes.c_size_t, ctypes.c_size_t]
    libggml.ggml_backend_tensor_get.restype = None
    for name, result in (
        ("ggml_get_name", ctypes.c_char_p),
        ("ggml_get_data", pointer),
        ("ggml_op_desc", ctypes.c_char_p),
    ):
        function = getattr(libggml, name)
        function.restype, function.argtypes = result, [pointer]


def _array(address: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    """A copy of a tensor in any device's memory, (planes, rows, columns): its fourth dimension is one here."""
    tensor = _Tensor.from_address(address)
    columns, rows, planes = tensor.ne[0], tensor.ne[1], tensor.ne[2]
    span = (planes - 1) * tensor.nb[2] + (rows - 1) * tensor.nb[1] + columns * np.dtype(kind).itemsize
    raw = np.empty(span, np.uint8)
    libggml.ggml_backend_tensor_get(address, raw.ctypes.data, 0, span)
    shape, strides = (planes, rows, columns), (tensor.nb[2], tensor.nb[1], tensor.nb[0])
    copied: npt.NDArray[Any] = np.ndarray(shape, kind, raw, 0, strides).copy()
    return copied
