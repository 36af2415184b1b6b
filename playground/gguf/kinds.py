"""What a GGUF file is: a model to chat with, a model of another sort, or something that goes with one.

A header says it: by general.type, by its architecture, and by how attention and pooling are set. Where only the name is
known, as in a list of the Hub, `kind_of_name` guesses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

FileKind = Literal[
    "model", "projector", "imatrix", "draft", "adapter", "control vector", "vocabulary",
    "embedding", "reranker", "encoder", "encoder-decoder", "diffusion", "image", "speech",
]  # fmt: skip

KIND_NAMES: Final[dict[FileKind, str]] = {
    "model": "a model",
    "projector": "an image or audio projector (mmproj)",
    "imatrix": "an importance matrix",
    "draft": "a draft model for speculative decoding",
    "adapter": "a LoRA adapter",
    "control vector": "a control vector",
    "vocabulary": "a vocabulary without weights",
    "embedding": "an embedding model",
    "reranker": "a reranker",
    "encoder": "an encoder model",
    "encoder-decoder": "an encoder-decoder model (T5)",
    "diffusion": "a diffusion language model",
    "image": "a model for pictures or video",
    "speech": "a model for speech or sound",
}

# What the kind is for, after its name in a sentence.
PURPOSES: Final[dict[FileKind, str]] = {
    "projector": "it lets a chat model see pictures or hear sound, and holds no chat model itself",
    "imatrix": "it helps to make quantized files, and holds no model",
    "draft": "it speeds up a larger model, and is not made to chat alone",
    "adapter": "it changes the model that it was trained for, and holds no model itself",
    "control vector": "it steers the model that it was made for, and holds no model itself",
    "vocabulary": "it holds the words of a model, and no model",
    "embedding": "it turns text into numbers for search, and cannot write an answer",
    "reranker": "it scores how well a text answers a question, and cannot write an answer",
    "encoder": "it reads a whole text at once, and cannot write an answer",
    "encoder-decoder": "it translates or rewrites a text, and cannot chat here",
    "diffusion": "it writes all words of an answer at once in many passes, which the playground cannot do",
    "image": "it makes or reads pictures, and cannot chat",
    "speech": "it makes or reads sound, and cannot chat",
}

_KIND_OF_TYPE: Final[dict[str, FileKind]] = {  # gguf.GGUFType
    "adapter": "adapter", "mmproj": "projector", "imatrix": "imatrix", "vocab": "vocabulary",
}  # fmt: skip

# Architectures of llama.cpp 0c1e57098 (src/llama-arch.cpp) that do not write text token by token, and those of programs
# for pictures and sound that use the same file format.
_KIND_OF_ARCHITECTURE: Final[dict[str, FileKind]] = {
    "clip": "projector", "mmproj": "projector", "imatrix": "imatrix", "controlvector": "control vector",
    "eagle3": "draft", "dflash": "draft", "gemma4-assistant": "draft", "qwen3tts": "speech", "pockettts": "speech",
    "bert": "embedding", "modern-bert": "embedding", "nomic-bert": "embedding", "nomic-bert-moe": "embedding",
    "neo-bert": "embedding", "jina-bert-v2": "embedding", "jina-bert-v3": "embedding", "eurobert": "embedding",
    "gemma-embedding": "embedding", "llama-embed": "embedding", "t5encoder": "encoder",
    "t5": "encoder-decoder",
    "dream": "diffusion", "llada": "diffusion", "llada-moe": "diffusion", "rnd1": "diffusion",
    "diffusion-gemma": "diffusion",
    "flux": "image", "sd1": "image", "sdxl": "image", "sd3": "image", "aura": "image", "auraflow": "image",
    "hidream": "image", "cosmos": "image", "ltxv": "image", "hyvid": "image", "wan": "image", "lumina2": "image",
    "qwen_image": "image", "z_image": "image", "pig": "image", "chroma": "image", "cogvideox": "image", 
    "mochi": "image",
    "wavtokenizer-dec": "speech", "whisper": "speech", "parakeet": "speech", "vits": "speech", "kokoro": "speech",
    "parler-tts": "speech", "orpheus": "speech", "dia": "speech", "outetts": "speech", "bark": "speech",
    "encodec": "speech", "csm": "speech",
}  # fmt: skip
_POOLING_LAST, _POOLING_RANK = 3, 4  # llama.cpp's LLAMA_POOLING_TYPE_…; 1 and 2 are mean and first token
_RERANKER_TENSORS: Final = frozenset(("cls.weight", "cls.output.weight"))
_IMATRIX_ENDINGS: Final = (".in_sum2", ".counts")


def kind_of_header(metadata: Mapping[str, Any], tensor_names: frozenset[str]) -> FileKind:
    """The kind that a header stands for: by general.type, its architecture, its tensors, attention and pooling.

    A model where the header does not say otherwise. The later shards of a model have no architecture.
    """
    architecture = metadata.get("general.architecture") or ""
    general_type = metadata.get("general.type")
    of_type = _KIND_OF_TYPE.get(general_type) if isinstance(general_type, str) else None
    if metadata.get("adapter.type") == "control_vector" or (
        tensor_names and all(name.startswith("direction.") for name in tensor_names)
    ):
        return "control vector"
    if of_type:
        return of_type
    if "adapter.type" in metadata or any(name.endswith((".lora_a", ".lora_b")) for name in tensor_names):
        return "adapter"
    if tensor_names and all(name.endswith(_IMATRIX_ENDINGS) for name in tensor_names):
        return "imatrix"
    layers = {name.split(".")[1] for name in tensor_names if name.startswith("blk.")}
    if metadata.get(f"{architecture}.nextn_predict_layers") and layers and "0" not in layers:
        return "draft"  # the drafting layers of a model, without the layers that they draft for
    is_reranker = metadata.get(f"{architecture}.pooling_type") == _POOLING_RANK or not tensor_names.isdisjoint(
        _RERANKER_TENSORS
    )
    if architecture in _KIND_OF_ARCHITECTURE:
        kind = _KIND_OF_ARCHITECTURE[architecture]
        return "reranker" if kind == "embedding" and is_reranker else kind
    if is_reranker:
        return "reranker"
    if metadata.get(f"{architecture}.pooling_type") in (1, 2, 3):
        return "embedding"
    if "diffusion.shift_logits" in metadata:
        return "diffusion"
    if metadata.get(f"{architecture}.attention.causal") is False:
        return "encoder"
    if not tensor_names and "tokenizer.ggml.model" in metadata and "split.count" not in metadata:
        return "vocabulary"
    return "model"


def embeds_by_last_token(metadata: Mapping[str, Any]) -> bool:
    """Whether each token of a text looks only at those before it, and the last one stands for the whole text.

    Such a model is made from one that writes, as Qwen3-Embedding is; a text can be read in pieces.
    """
    architecture = metadata.get("general.architecture") or ""
    looks_back = architecture not in _KIND_OF_ARCHITECTURE and (
        metadata.get(f"{architecture}.attention.causal") is not False
    )
    return looks_back and metadata.get(f"{architecture}.pooling_type") == _POOLING_LAST


def no_chat_model(kind: FileKind) -> str:
    """`an embedding model, not a model to chat with: it turns text into numbers for search, and …`"""
    return f"{KIND_NAMES[kind]}, not a model to chat with: {PURPOSES[kind]}."


def kind_of_name(stem: str, level: str | None) -> FileKind:
    """The kind that a file's name suggests: `stem` without ending and shard number, `level` as found in it."""
    words = [word for word in re.split(r"[-_. ]+", stem.lower()) if word]
    if "mmproj" in words or "projector" in words:
        return "projector"
    if words[:1] == ["imatrix"] or ("imatrix" in words and level is None):
        return "imatrix"
    if words[:1] == ["mtp"] or not {"draft", "drafter", "eagle3", "dflash"}.isdisjoint(words):
        return "draft"
    return "adapter" if _names_adapter(words, level) else "model"


def _names_adapter(words: list[str], level: str | None) -> bool:
    """LoRA adapters come unquantized or end in the word; "alpaca-lora-65B.Q4_K_M" is a whole model made with one."""
    if "adapter" in words:
        return True
    return "lora" in words and (level in (None, "F16", "BF16", "F32") or words[-1] == "lora" or words[0] == "lora")
