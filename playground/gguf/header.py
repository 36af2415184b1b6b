"""Reads the header of a GGUF file: its metadata and the table of its tensors, without the weights.

Reads versions 2 and 3, little-endian, from any ByteSource. Files that llama.cpp would refuse are refused with a
sentence. Whether the model then runs is not checked.

    GGUF | version | tensor count | key count | key, type, value … | name, shape, type, offset … | padding | weights
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gguf.constants import GGUF_DEFAULT_ALIGNMENT, Keys

from playground.errors import BadModelFile
from playground.gguf.kinds import FileKind, kind_of_header, no_chat_model
from playground.gguf.levels import level_of_file_type
from playground.gguf.other_formats import not_gguf
from playground.gguf.reader import (
    MIB,
    ByteSource,
    FileSource,
    GgufReader,
    LongArray,
    Value,
    damaged,
    made_elsewhere,
    printable,
)
from playground.gguf.tensors import TensorInfo, TensorType, aligned, end_of_weights, read_tensors

REQUANTIZED_FROM: Final = "gguf_playground.requantized_from"  # our own key, in files that the playground made
MOST_KEYS: Final = 4096  # real files have 20 to 100
MOST_TENSORS: Final = 65_536  # the largest real models have about 2,000
_TEXT_KEYS: Final = (
    Keys.General.ARCHITECTURE, Keys.General.NAME, Keys.General.TYPE, Keys.Tokenizer.CHAT_TEMPLATE, REQUANTIZED_FROM,
)  # fmt: skip
_WHOLE_NUMBER_KEYS: Final = (
    Keys.General.FILE_TYPE, Keys.General.ALIGNMENT,
    Keys.Split.LLM_KV_SPLIT_NO, Keys.Split.LLM_KV_SPLIT_COUNT, Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT,
)  # fmt: skip


@dataclass(frozen=True)
class GgufHeader:
    """A header as read. byte_count: where the weights start, in bytes from the start of the file."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    byte_count: int

    @property
    def architecture(self) -> str:
        """llama.cpp's name for the kind of model, such as "llama"; "" if the file has none, as later shards."""
        return self._text(Keys.General.ARCHITECTURE) or ""

    @property
    def name(self) -> str:
        """The model's name; "" if the file does not say."""
        return self._text(Keys.General.NAME) or ""

    @property
    def trained_context(self) -> int | None:
        """The context size the model was trained for, in tokens."""
        return self._whole_number(Keys.LLM.CONTEXT_LENGTH.format(arch=self.architecture))

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens of the vocabulary: by its own key, or the length of the token list."""
        size = self._whole_number(Keys.LLM.VOCAB_SIZE.format(arch=self.architecture))
        tokens = self.metadata.get(Keys.Tokenizer.LIST)
        if size is None and isinstance(tokens, LongArray):
            return tokens.length
        return len(tokens) if size is None and isinstance(tokens, tuple) else size

    @property
    def chat_template(self) -> str | None:
        return self._text(Keys.Tokenizer.CHAT_TEMPLATE)

    @property
    def parameter_count(self) -> int:
        return sum(tensor.weight_count for tensor in self.tensors)

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.byte_count for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """The true average of this file, from its tensors and not from its name; 0 if it has no tensors."""
        return 8 * self.weight_bytes / self.parameter_count if self.tensors else 0.0

    @property
    def main_type(self) -> TensorType:
        """The type of most weights; F32 for a header without tensors."""
        weights: Counter[TensorType] = Counter()
        for tensor in self.tensors:
            weights[tensor.type] += tensor.weight_count
        return weights.most_common(1)[0][0] if weights else TensorType.F32

    @property
    def keeps_mxfp4(self) -> bool:
        """Whether weights are MXFP4. Models that were trained so keep their experts in it at every published level."""
        return any(tensor.type is TensorType.MXFP4 for tensor in self.tensors)

    @property
    def is_quantized(self) -> bool:
        return any(tensor.type.is_quantized for tensor in self.tensors)

    @property
    def level(self) -> str | None:
        """The level that the file names, such as "Q4_K_M"; None if it names none that llama.cpp knows."""
        number = self._whole_number(Keys.General.FILE_TYPE)
        level = None if number is None else level_of_file_type(number)
        return level.name if level else None

    @property
    def requantized_from(self) -> str | None:
        """The quantized level that the playground made this file from; it cannot be better than that."""
        return self._text(REQUANTIZED_FROM)

    @property
    def kind(self) -> FileKind:
        return kind_of_header(self.metadata, frozenset(tensor.name for tensor in self.tensors))

    @property
    def shard_count(self) -> int:
        """The number of files of the whole model; 1 for a model in one file."""
        return self._whole_number(Keys.Split.LLM_KV_SPLIT_COUNT) or 1

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _whole_number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_header(source: ByteSource) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises BadModelFile if it is not a sound GGUF file, and what the source raises (OSError) if it cannot be read.
    """
    reader = GgufReader(source)
    version = _read_version(reader, source)
    tensor_count = reader.read_uint64("the number of tensors")
    key_count = reader.read_uint64("the number of metadata keys")
    _refuse_absurd(tensor_count, MOST_TENSORS, "tensors")
    _refuse_absurd(key_count, MOST_KEYS, "metadata keys")
    metadata = _read_metadata(reader, key_count)
    alignment = _alignment(metadata)
    try:
        tensors = read_tensors(reader, tensor_count, alignment)
    except BadModelFile as error:
        kind = kind_of_header(metadata, frozenset())  # other programs' files need not keep llama.cpp's rules
        if kind in ("model", "vocabulary"):
            raise
        raise BadModelFile(f"The file is {no_chat_model(kind)}", "Choose a chat model.") from error
    start = aligned(reader.offset, alignment)
    _refuse_missing_weights(start + end_of_weights(tensors), reader.size, bool(tensors))
    return GgufHeader(version, metadata, tensors, min(start, reader.size))


def read_model_header(path: Path) -> GgufHeader:
    """One header for a model on the disk, given by its file, or by its first shard beside the others.

    Raises BadModelFile, or OSError.
    """
    first = read_header(FileSource(path))
    if first.shard_count == 1:
        return first
    numbered = path.name.replace("-00001-of-", "-{:05}-of-")
    others = (path.with_name(numbered.format(number)) for number in range(2, first.shard_count + 1))
    return merge_shards([first, *(read_header(FileSource(other)) for other in others)])


def check_chat_model(header: GgufHeader) -> None:
    """Raises BadModelFile with what the file is for, unless it is a model that can chat."""
    if header.kind != "model":
        raise BadModelFile(f"The file is {no_chat_model(header.kind)}", "Choose a chat model.")


def merge_shards(headers: Sequence[GgufHeader]) -> GgufHeader:
    """One header for a model in several files, given in their order, with the counts and sizes of the whole model.

    The metadata is that of the first file, `byte_count` the sum; tensor offsets count from the start of their own
    file's weights. Raises BadModelFile when a shard is missing, doubled or of another model.
    """
    if not headers:
        raise ValueError("a model has at least one file")
    first = headers[0]
    if first.shard_count != len(headers):
        raise BadModelFile(
            f"The model comes in {first.shard_count} files, and {len(headers)} are here.",
            "Fetch the missing ones into the same folder.",
        )
    for place, header in enumerate(headers):
        number = header.metadata.get(Keys.Split.LLM_KV_SPLIT_NO, place)
        if number != place or header.shard_count != len(headers):
            raise BadModelFile(
                f"File {place + 1} of {len(headers)} of the model is not that file: it says it is number "
                f"{number} (from 0) of {header.shard_count}.",
                "Fetch that file again.",
            )
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    _refuse_other_models_shards(tensors, first)
    return GgufHeader(first.version, first.metadata, tensors, sum(header.byte_count for header in headers))


def write_stand_in(source: ByteSource, header: GgufHeader, path: Path) -> None:
    """Write a file for the dry run: the header, then a hole of the weights' size, which takes no space on disk."""
    with path.open("wb") as file:
        while file.tell() < header.byte_count:
            chunk = source.read_range(file.tell(), min(4 * MIB, header.byte_count - file.tell()))
            if not chunk:
                raise BadModelFile("The model file became shorter while it was read.", "Try again.")
            file.write(chunk)
        file.truncate(source.size)


def _read_version(reader: GgufReader, source: ByteSource) -> int:
    if reader.size == 0:
        raise BadModelFile("A model file was expected, and the file is empty.", "Fetch the file again.")
    if reader.read_bytes(min(4, reader.size), "its first letters") != b"GGUF":
        raise not_gguf(source.read_range(0, 512))
    version = reader.read_uint32("the version")
    if version in (2, 3):
        return version
    if version == 1:
        raise BadModelFile(
            "The file is GGUF version 1, from August 2023, which llama.cpp no longer reads.",
            "Choose a newer conversion of the model.",
        )
    if version & 0xFFFF == 0 and version:
        raise BadModelFile(
            "The file is big-endian GGUF, for computers with another byte order.",
            "Choose the usual, little-endian file of the model.",
        )
    raise BadModelFile(
        f"The file is GGUF version {version}, and versions 2 and 3 can be read.",
        "Update the playground, or choose another file.",
    )


def _refuse_absurd(count: int, most: int, what: str) -> None:
    if count > most:
        raise damaged(f"it claims {count:,} {what}, and no model has more than {most:,}")


def _read_metadata(reader: GgufReader, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for number in range(1, count + 1):
        key = reader.read_string(f"the name of metadata key {number} of {count}")
        if key in metadata:
            raise damaged(f"it has the key {printable(key)} twice")
        metadata[key] = reader.read_value(printable(key))
    _check_standard_keys(metadata)
    return metadata


def _check_standard_keys(metadata: Mapping[str, Value]) -> None:
    for key in _TEXT_KEYS:
        if key in metadata and not isinstance(metadata[key], str):
            raise _wrong_type(key, "a text", metadata[key])
    architecture = metadata.get(Keys.General.ARCHITECTURE, "")
    of_architecture = (key.format(arch=architecture) for key in (Keys.LLM.CONTEXT_LENGTH, Keys.LLM.VOCAB_SIZE))
    for key in (*_WHOLE_NUMBER_KEYS, *of_architecture):
        value = metadata.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _wrong_type(key, "a whole number", value)
    tokens = metadata.get(Keys.Tokenizer.LIST, ())
    if not isinstance(tokens, (tuple, LongArray)):
        raise _wrong_type(Keys.Tokenizer.LIST, "a list", tokens)


def _wrong_type(key: str, expected: str, found: Value) -> BadModelFile:
    length = found.length if isinstance(found, LongArray) else len(found) if isinstance(found, tuple) else None
    what = printable(repr(found)) if length is None else f"a list of {length:,}"
    return made_elsewhere(f"{printable(key)} should be {expected} and is {what}")


def _alignment(metadata: Mapping[str, Value]) -> int:
    """Bytes that every tensor's start is a multiple of: a power of two."""
    alignment = metadata.get(Keys.General.ALIGNMENT, GGUF_DEFAULT_ALIGNMENT)
    assert isinstance(alignment, int)  # by _check_standard_keys
    if alignment == 0 or alignment & (alignment - 1):
        raise made_elsewhere(f"its alignment is {alignment}, which is not a power of two")
    return alignment


def _refuse_missing_weights(needed: int, size: int, has_tensors: bool) -> None:
    if has_tensors and needed > size:
        raise BadModelFile(
            f"The model file is cut off: with its weights it should be {needed:,} bytes long, and it is {size:,}.",
            "Fetch the file again: its download may have stopped early.",
        )


def _refuse_other_models_shards(tensors: Sequence[TensorInfo], first: GgufHeader) -> None:
    names = {tensor.name for tensor in tensors}
    expected = first.metadata.get(Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT, len(tensors))
    if len(names) != len(tensors) or expected != len(tensors):
        raise BadModelFile(
            f"The model's files do not belong together: {expected} different tensors were expected, and they hold "
            f"{len(tensors)}, {len(names)} of them different.",
            "Fetch all of them again from one place.",
        )
