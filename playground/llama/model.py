"""A model that decodes batches of tokens: model, context, tokenizer and sampler over the low-level bindings.

engine/local/scheduler.py drives it through its Decoder protocol. Everything that llama.cpp allocates is owned here and
freed by `close`.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from playground.errors import BadModelFile, DoesNotFit, PlaygroundError
from playground.llama.control_tokens import ControlToken, ControlTokens, Span, is_structure
from playground.llama.params import ContextParameters, context_parameters, model_parameters
from playground.llama.sampler import LlamaSampler
from playground.llama.sampling_extras import NO_EXTRAS, Sampling, SamplingExtras
from playground.llama.scoring_context import ScoringContext, log_softmax
from playground.llama.weight_buffers import buffer_uses

_ABORTED: Final = 2  # llama_decode's answer when the abort callback said yes
_CONTROL: Final[int] = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN  # what is never text
_USER_DEFINED: Final[int] = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
_NO_ROOM: Final = 1  # llama_decode's answer when the KV cache has no free cells
_LESS_MEMORY: Final = "Choose fewer layers on the GPU, a smaller context, or CPU only."


def _is_full(reason: str) -> bool:
    """Whether llama.cpp's words are about memory that it did not get."""
    return any(words in reason for words in ("alloc", "out of memory", "OutOfDeviceMemory"))


@dataclass(frozen=True)
class BatchRow:
    """One token of a batch: where it stands in which sequence, and whether the next token will be asked for."""

    token: int
    position: int
    sequence: int
    wants_logits: bool = False


class Aborted(Exception):
    """A decode was ended midway by `abort`; what the batch held of its sequences must be forgotten."""


class CacheFull(Exception):
    """The KV cache had no cells left for the batch."""


class LlamaModel:
    """One model with one context of `slots` sequences over a unified KV cache.

    Raises, with llama.cpp's own words: DoesNotFit when a device or the RAM has too little memory for the weights or the
    context, BadModelFile when the file cannot be loaded, and PlaygroundError when the context cannot be made.
    """

    def __init__(
        self,
        path: Path,
        chosen: ContextParameters,
        on_progress: Callable[[float], bool] = lambda fraction: True,
        last_words: Callable[[], str] = lambda: "",
    ) -> None:
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        llama_cpp.llama_backend_init()
        params = model_parameters(chosen.placement)
        # ctypes callbacks must outlive every call that may use them
        self._progress = llama_cpp.llama_progress_callback(lambda fraction, _: on_progress(fraction))
        params.progress_callback = self._progress
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            reason = last_words() or "it gives no reason"
            problem = f"llama.cpp cannot load {path.name}: {reason}."
            raise DoesNotFit(problem, _LESS_MEMORY) if _is_full(reason) else BadModelFile(problem)
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self.is_on_cpu = chosen.placement.is_cpu_only
        self.is_lost = False  # a GPU failed: nothing that it holds can be relied on
        self._kv_type, self._v_type, self._placement = chosen.kv_type, chosen.v_type, chosen.placement
        self._make_context(chosen, last_words)
        self._logits_row: Any = ctypes.c_float * self.vocabulary_size
        self._pieces: dict[int, bytes] = {}

    def _make_context(self, chosen: ContextParameters, last_words: Callable[[], str]) -> None:
        params = context_parameters(chosen)
        # The abort callback is C's strlen on a flag: "" is no, "\1" is yes. It is asked at every node of the graph, and
        # a Python function there would cost more than the small models' arithmetic.
        self._abort_flag = ctypes.create_string_buffer(2)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        assert strlen is not None
        self._abort = llama_cpp.ggml_abort_callback(strlen)
        params.abort_callback = self._abort
        params.abort_callback_data = ctypes.cast(self._abort_flag, ctypes.c_void_p)
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            reason = last_words() or "it gives no reason"
            problem = f"llama.cpp cannot make a context of {chosen.cells} tokens: {reason}."
            raise (DoesNotFit if _is_full(reason) else PlaygroundError)(problem, "Choose a smaller context.")
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self.context_size: int = llama_cpp.llama_n_ctx(self._context)
        self.batch_size: int = llama_cpp.llama_n_batch(self._context)
        self.slots = chosen.slots
        self._batch = llama_cpp.llama_batch_init(self.batch_size, 0, 1)

    # --- facts ---

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def trained_context(self) -> int:
        return int(llama_cpp.llama_model_n_ctx_train(self._model))

    @property
    def parameter_count(self) -> int:
        return int(llama_cpp.llama_model_n_params(self._model))

    @property
    def chat_template(self) -> str | None:
        template = llama_cpp.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else None

    @property
    def bos(self) -> str:
        return self._text_of_special(llama_cpp.llama_vocab_bos(self._vocabulary))

    @property
    def eos(self) -> str:
        return self._text_of_special(llama_cpp.llama_vocab_eos(self._vocabulary))

    def _text_of_special(self, token: int) -> str:
        return self.token_to_piece(token).decode("utf-8", "replace") if token >= 0 else ""

    @property
    def bytes_on_devices(self) -> dict[str, int]:
        """What model and context hold of each GPU's memory, by llama.cpp's own account; {} if this build has none."""
        held: dict[str, int] = {}
        for use in buffer_uses(self._context) or ():
            if use.device and use.total:
                held[use.device] = held.get(use.device, 0) + use.total
        return held

    def layers_on(self, device: str) -> int:
        """How many of the layers lie on this GPU; the output counts as one."""
        return self._placement.layers_of(device, llama_cpp.llama_model_n_layer(self._model) + 1)

    # --- text ---

    def tokenize(self, text: str, literal: Sequence[Span] = (), *, plain: bool = False) -> list[int]:
        """The tokens of a text that goes on: a beginning-of-text token is added unless the text has it, never an end.

        Special tokens are recognised by their spelling, except where a part of it lies in `literal`, the spans of the
        text that are text like any other: [start, stop) in characters. `plain` makes all of it such text.
        """
        if plain:
            return [*self.beginning, *self._tokens_of_text(text)]
        starts_itself = bool(self.bos) and text.startswith(self.bos) and not (literal and literal[0][0] < len(self.bos))
        beginning = () if starts_itself else self.beginning
        if not literal:
            return [*beginning, *self._tokens_of(text, parse_special=True)]
        tokens = list(beginning)
        for piece in self.control_tokens.split_text(text, literal):
            tokens += self._tokens_of_text(piece) if isinstance(piece, str) else (piece,)
        return tokens

    def _tokens_of_text(self, text: str) -> list[int]:
        """The tokens of a text in which nothing is a control token.

        llama.cpp reads a user-defined token's spelling as the token even so: it is cut behind its first character.
        """
        tokens: list[int] = []
        while cut := next((start + 1 for start, token in self.control_tokens.find(text) if token.is_always_read), 0):
            tokens += self._tokens_after(text[:cut], tokens)
            text = text[cut:]
        return [*tokens, *self._tokens_after(text, tokens)]

    def tokenize_whole(self, text: str) -> list[int]:
        """The tokens of a complete text, between those that the model wants around it; none of it is a control one."""
        return self._tokens_of(text, parse_special=False, is_whole=True)

    def _tokens_after(self, text: str, before: Sequence[int]) -> list[int]:
        """The tokens of a text that goes on from others, without the space that SentencePiece puts in front."""
        tokens = self._tokens_of(text, parse_special=False)
        if before and tokens and not text.startswith(" ") and self.token_to_piece(tokens[0]).startswith(b" "):
            line_break = self._tokens_of("\n", parse_special=False)
            together = self._tokens_of(f"\n{text}", parse_special=False)
            if together[: len(line_break)] == line_break:
                return together[len(line_break) :]
        return tokens

    def _tokens_of(self, text: str, *, parse_special: bool, is_whole: bool = False) -> list[int]:
        """llama.cpp's tokens of a text. is_whole: with those that a file asks to add at its beginning and end."""
        data = text.encode("utf-8", "surrogatepass")
        room = len(data) + 8
        while True:
            tokens = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), tokens, room, is_whole, parse_special)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    @functools.cached_property
    def control_tokens(self) -> ControlTokens:
        """The tokens that end turns, open others or enclose a part of a turn."""
        return ControlTokens(
            ControlToken(
                token,
                text,
                takes_left=bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP),
                takes_right=bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP),
                is_always_read=not attributes & _CONTROL,
            )
            for token in range(self.vocabulary_size)
            if (attributes := llama_cpp.llama_vocab_get_attr(self._vocabulary, token)) & (_CONTROL | _USER_DEFINED)
            and (text := self._text_of_special(token))
            and (attributes & _CONTROL or is_structure(text))
        )

    def token_to_piece(self, token: int) -> bytes:
        """The bytes of one token, special tokens spelled out; a character may be spread over several tokens."""
        if (known := self._pieces.get(token)) is not None:
            return known
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, True)
            if count >= 0:
                self._pieces[token] = buffer.raw[:count]
                return self._pieces[token]
            size = -count

    @property
    def beginning(self) -> tuple[int, ...]:
        """The token with which this model wants every text to begin; none for many models."""
        token = int(llama_cpp.llama_vocab_bos(self._vocabulary))
        return (token,) if llama_cpp.llama_vocab_get_add_bos(self._vocabulary) and token >= 0 else ()

    def is_end_token(self, token: int) -> bool:
        """Whether this token says that the reply is over."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    # --- decoding ---

    def decode(self, rows: Sequence[BatchRow]) -> None:
        """Evaluate one batch; raises Aborted, CacheFull, or PlaygroundError with llama.cpp's code."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, row in enumerate(rows):
            batch.token[index] = row.token
            batch.pos[index] = row.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = row.sequence
            batch.logits[index] = row.wants_logits
        result = llama_cpp.llama_decode(self._context, batch)
        if result == _ABORTED:
            raise Aborted
        if result == _NO_ROOM:
            raise CacheFull
        if result != 0:
            self.is_lost = not self.is_on_cpu
            raise PlaygroundError(
                f"llama.cpp could not evaluate a batch (code {result}).", "Try again or reload the model."
            )

    def embed(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """The vector that the model makes of a whole text, of length 1: (width,).

        Raises Aborted, or PlaygroundError, also for a model that gives a vector for each token and none for a text.
        """
        if self._memory:  # an encoder has none
            self.forget_all()
        self.decode([BatchRow(token, place, 0, wants_logits=True) for place, token in enumerate(tokens)])
        pooled = llama_cpp.llama_get_embeddings_seq(self._context, 0)
        if not pooled:
            raise PlaygroundError(
                "This model's file does not say how the vectors of its tokens become one.", "Use another file of it."
            )
        width = llama_cpp.llama_model_n_embd_out(self._model)
        vector = np.array(np.ctypeslib.as_array(pooled, (width,)), dtype=np.float32)
        length = float(np.linalg.norm(vector.astype(np.float64)))
        return vector / np.float32(length) if length else vector

    def new_sampler(
        self, sampling: Sampling, recent: Sequence[int], extras: SamplingExtras = NO_EXTRAS
    ) -> LlamaSampler:
        """Raises PlaygroundError for a grammar that cannot be used."""
        return LlamaSampler(self._vocabulary, self.vocabulary_size, sampling, recent, extras)

    def sample(self, row: int, sampler: LlamaSampler) -> int:
        """The next token after batch row `row`, which must have wanted logits. Raises PlaygroundError by a grammar."""
        if sampler.has_grammar:
            return sampler.sample_within_grammar(self._logits(row), self.token_to_piece)
        if sampler.takes_the_best:  # the chain would first copy and wrap the whole vocabulary
            return int(self._logits(row).argmax())
        return int(llama_cpp.llama_sampler_sample(sampler.chain, self._context, row))

    def log_probabilities(self, row: int) -> npt.NDArray[np.float32]:
        """Natural log-probabilities over the vocabulary after batch row `row`, before any sampling: (vocabulary,)."""
        return log_softmax(self._logits(row))

    def scoring_context(self, tokens: int, rows: int) -> ScoringContext:
        """A temporary context beside this one, for a text of so many tokens, `rows` at once; the caller closes it.

        Raises PlaygroundError when llama.cpp cannot make it, usually for lack of memory.
        """
        chosen = ContextParameters.for_scoring(tokens, self._kv_type, self._placement, self._v_type, rows)
        return ScoringContext(self._model, self.vocabulary_size, chosen)

    def _logits(self, row: int) -> npt.NDArray[np.float32]:
        """llama.cpp's own memory, valid until the next decode: (vocabulary,)."""
        address = ctypes.addressof(llama_cpp.llama_get_logits_ith(self._context, row).contents)
        return np.frombuffer(self._logits_row.from_address(address), np.float32)

    # --- the KV cache ---

    def keep_prefix(self, sequence: int, length: int) -> int:
        """Forget all of a sequence but its first `length` tokens; returns how many are kept, which is `length` or 0.

        A sliding-window cache may have dropped what the next token needs, and a recurrent state cannot go back: then
        nothing is kept and the prompt must be evaluated again.
        """
        reachable = length > 0 and self._window_reaches(sequence, length)
        if reachable and llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            return length
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return 0

    def _window_reaches(self, sequence: int, length: int) -> bool:
        oldest = llama_cpp.llama_memory_seq_pos_min(self._memory, sequence)
        window: int = llama_cpp.llama_model_n_swa(self._model)
        return bool(0 <= oldest <= max(0, length - window))

    def forget_all(self) -> None:
        """Empty the cache as if nothing had ever been evaluated."""
        llama_cpp.llama_memory_clear(self._memory, True)

    # --- control ---

    def set_threads(self, threads: int) -> None:
        llama_cpp.llama_set_n_threads(self._context, threads, threads)

    def abort(self) -> None:
        """End the decode that runs now; safe from any thread."""
        self._abort_flag[0] = b"\x01"

    def clear_abort(self) -> None:
        self._abort_flag[0] = b"\x00"

    def close(self) -> None:
        if self._batch is not None:
            llama_cpp.llama_batch_free(self._batch)
            self._batch = None
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
