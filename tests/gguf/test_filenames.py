"""Real file names, as publishers on the Hub write them."""

from __future__ import annotations

import pytest

from playground.gguf.filenames import FileName, parse_file_name
from playground.gguf.forks import program_of_level
from playground.gguf.levels import find_level

# path, base name, level
WHOLE_MODELS = [
    # bartowski
    ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Llama-3.2-1B-Instruct", "Q4_K_M"),
    ("Llama-3.2-1B-Instruct-Q6_K_L.gguf", "Llama-3.2-1B-Instruct", "Q6_K_L"),
    ("Llama-3.2-1B-Instruct-Q3_K_XL.gguf", "Llama-3.2-1B-Instruct", "Q3_K_XL"),
    ("Llama-3.2-1B-Instruct-f16.gguf", "Llama-3.2-1B-Instruct", "F16"),
    ("Llama-3.2-1B-Instruct-Q4_0_8_8.gguf", "Llama-3.2-1B-Instruct", "Q4_0_8_8"),
    ("Llama-3.2-1B-Instruct-Q4_0_4_4.gguf", "Llama-3.2-1B-Instruct", "Q4_0_4_4"),
    ("Meta-Llama-3.1-8B-Instruct-IQ2_M.gguf", "Meta-Llama-3.1-8B-Instruct", "IQ2_M"),
    ("Meta-Llama-3.1-8B-Instruct-f32.gguf", "Meta-Llama-3.1-8B-Instruct", "F32"),
    ("Mistral-Nemo-Instruct-2407-IQ3_XS.gguf", "Mistral-Nemo-Instruct-2407", "IQ3_XS"),
    ("google_gemma-3-27b-it-qat-Q4_0.gguf", "google_gemma-3-27b-it-qat", "Q4_0"),
    ("Qwen_Qwen3-30B-A3B-IQ4_NL.gguf", "Qwen_Qwen3-30B-A3B", "IQ4_NL"),
    ("microsoft_Phi-4-mini-instruct-Q2_K_L.gguf", "microsoft_Phi-4-mini-instruct", "Q2_K_L"),
    ("DeepSeek-R1-Distill-Qwen-1.5B-Q4_1.gguf", "DeepSeek-R1-Distill-Qwen-1.5B", "Q4_1"),
    # TheBloke
    ("llama-2-7b-chat.Q5_K_M.gguf", "llama-2-7b-chat", "Q5_K_M"),
    ("mixtral-8x7b-instruct-v0.1.Q4_K_M.gguf", "mixtral-8x7b-instruct-v0.1", "Q4_K_M"),
    ("tinyllama-1.1b-chat-v1.0.Q2_K.gguf", "tinyllama-1.1b-chat-v1.0", "Q2_K"),
    ("mistral-7b-instruct-v0.2.Q3_K_S.gguf", "mistral-7b-instruct-v0.2", "Q3_K_S"),
    ("codellama-34b.Q3_K_L.gguf", "codellama-34b", "Q3_K_L"),
    ("phi-2.Q8_0.gguf", "phi-2", "Q8_0"),
    ("yi-34b-200k.Q5_0.gguf", "yi-34b-200k", "Q5_0"),
    ("alpaca-lora-65B.Q4_K_M.gguf", "alpaca-lora-65B", "Q4_K_M"),
    # mradermacher: i1 marks weighting by an importance matrix
    ("Qwen3.6-27B.i1-Q4_K_M.gguf", "Qwen3.6-27B", "Q4_K_M"),
    ("translategemma-27b-it.i1-IQ1_S.gguf", "translategemma-27b-it", "IQ1_S"),
    ("CyberPal2.0-20B.i1-MXFP4_MOE.gguf", "CyberPal2.0-20B", "MXFP4_MOE"),
    ("gemma-4-e2b-it.Q8_0.gguf", "gemma-4-e2b-it", "Q8_0"),
    ("Llama-3.2-3B-Instruct-uncensored.i1-IQ3_XXS.gguf", "Llama-3.2-3B-Instruct-uncensored", "IQ3_XXS"),
    # unsloth
    ("Qwen3-0.6B-UD-IQ1_M.gguf", "Qwen3-0.6B", "UD-IQ1_M"),
    ("Qwen3-0.6B-BF16.gguf", "Qwen3-0.6B", "BF16"),
    ("gpt-oss-20b-UD-Q4_K_XL.gguf", "gpt-oss-20b", "UD-Q4_K_XL"),
    ("Qwen3.6-35B-A3B-UD-Q8_K_XL.gguf", "Qwen3.6-35B-A3B", "UD-Q8_K_XL"),
    ("Qwen3-Coder-Next-UD-TQ1_0.gguf", "Qwen3-Coder-Next", "UD-TQ1_0"),
    ("gemma-3n-E4B-it-UD-IQ2_XXS.gguf", "gemma-3n-E4B-it", "UD-IQ2_XXS"),
    ("Llama-3.2-1B-Instruct.Q4_K_M.gguf", "Llama-3.2-1B-Instruct", "Q4_K_M"),
    ("Phi-4-mini-reasoning-UD-Q5_K_XL.gguf", "Phi-4-mini-reasoning", "UD-Q5_K_XL"),
    ("Qwen3.6-27B-MTP-Q4_K_M.gguf", "Qwen3.6-27B-MTP", "Q4_K_M"),  # holds the whole model too
    # lmstudio-community, ggml-org, makers
    ("lmstudio-community/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q6_K.gguf", "Qwen2.5-7B-Instruct", "Q6_K"),
    ("gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b", "MXFP4"),
    ("gpt-oss-20b-MXFP4.gguf", "gpt-oss-20b", "MXFP4"),
    ("gemma-3-4b-it-q4_0.gguf", "gemma-3-4b-it", "Q4_0"),
    ("gemma-3-1b-it-Q8_0.gguf", "gemma-3-1b-it", "Q8_0"),
    ("stories15M-q4_0.gguf", "stories15M", "Q4_0"),
    ("tinygemma3-Q8_0.gguf", "tinygemma3", "Q8_0"),
    ("Mellum2-12B-A2.5B-Thinking-MXFP4_MOE.gguf", "Mellum2-12B-A2.5B-Thinking", "MXFP4_MOE"),
    ("Qwen3.6-35B-A3B-NVFP4.gguf", "Qwen3.6-35B-A3B", "NVFP4"),
    ("gemma-4-31B-it-NVFP4-turbo-NVFP4.gguf", "gemma-4-31B-it-NVFP4-turbo", "NVFP4"),
    ("Phi-3-mini-4k-instruct-fp16.gguf", "Phi-3-mini-4k-instruct", "F16"),
    ("qwen2-0_5b-instruct-q5_k_m.gguf", "qwen2-0_5b-instruct", "Q5_K_M"),
    ("qwen2.5-0.5b-instruct-fp16.gguf", "qwen2.5-0.5b-instruct", "F16"),
    ("qwen2.5-coder-1.5b-instruct-q2_k.gguf", "qwen2.5-coder-1.5b-instruct", "Q2_K"),
    ("smollm2-1.7b-instruct-q4_k_m.gguf", "smollm2-1.7b-instruct", "Q4_K_M"),
    ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct", "Q4_1"),
    ("ggml-model-q4_0.gguf", "ggml-model", "Q4_0"),
    ("granite-3.3-2b-instruct-Q5_1.gguf", "granite-3.3-2b-instruct", "Q5_1"),
    ("Falcon3-1B-Instruct-1.58bit-TQ2_0.gguf", "Falcon3-1B-Instruct-1.58bit", "TQ2_0"),
    ("EXAONE-4.0-1.2B-IQ4_XS.gguf", "EXAONE-4.0-1.2B", "IQ4_XS"),
    # unusual spellings
    ("shisa-v1-llama3-70b.Q4_K-M.gguf", "shisa-v1-llama3-70b", "Q4_K_M"),
    ("gemma-4-e4b-it-qat-q4-0.gguf", "gemma-4-e4b-it-qat", "Q4_0"),
    ("MODEL-Q5KM.GGUF", "MODEL", "Q5_K_M"),
    ("model-bf16.gguf", "model", "BF16"),
    ("model.fp32.gguf", "model", "F32"),
    ("L3-8B-Stheno-v3.2-Q4_K_M-imat.gguf", "L3-8B-Stheno-v3.2", "Q4_K_M"),
    ("NeuralBeagle14-7B-imatrix-Q6_K.gguf", "NeuralBeagle14-7B", "Q6_K"),
    ("Llama3-8B-Chinese-Chat-f16-v2_1.gguf", "Llama3-8B-Chinese-Chat-v2_1", "F16"),
    ("gemma-4-31B-it-qat-Q4_0_V2.gguf", "gemma-4-31B-it-qat_V2", "Q4_0"),
    ("Qwen3-8B-Q3_K.gguf", "Qwen3-8B", "Q3_K"),
    # a publisher's own mixes
    ("M-9B-Q4_K_P.gguf", "M-9B", "Q4_K_P"),
    ("M-9B-Q5_K_HQ.gguf", "M-9B", "Q5_K_HQ"),
    ("M-9B-IQ3_XXS_H.gguf", "M-9B", "IQ3_XXS_H"),
    ("Model.f16.q4_k.gguf", "Model", "Q4_K"),
    ("M-9B-Q4_K_M-HQ.gguf", "M-9B", "Q4_K_M"),
    ("M-9B-Q4_K_M-HQ-v2.gguf", "M-9B-v2", "Q4_K_M"),
    ("M-9B-Q8_0-f16emb.gguf", "M-9B", "Q8_0"),
    ("M-9B-IQ4_XS.NEO-max.gguf", "M-9B", "IQ4_XS"),
    ("M-9B-UD-Q4_K_XL-MTP.gguf", "M-9B", "UD-Q4_K_XL"),
    ("M-9B-Q4_K_M-20261101.gguf", "M-9B", "Q4_K_M"),
    ("M-9B-Q4_K_M (1).gguf", "M-9B", "Q4_K_M"),  # a browser's second download
    ("M-9B-Q6_K_L-bf16.gguf", "M-9B", "Q6_K_L"),
    ("M-9B-bf16_q8_0.gguf", "M-9B", "Q8_0"),
    ("M-9B-q2ks-mixed-AutoRound.gguf", "M-9B", "Q2_K_S"),
    ("M-9B-HQ4_K.gguf", "M-9B", "HQ4_K"),
    ("M-9B-mainline-IQ4_NL.gguf", "M-9B", "IQ4_NL"),
    # a word that names the model may stand behind the level
    ("M-9B-Q4_K_M-chat.gguf", "M-9B-chat", "Q4_K_M"),
    ("M-Q4_K_M-128k.gguf", "M-128k", "Q4_K_M"),
    ("M-9B-Q4_K_M.abliterated.gguf", "M-9B.abliterated", "Q4_K_M"),
    # no level in the name: the header knows
    ("Model.f16.q6.gguf", "Model", None),
    ("Model.q8q4.gguf", "Model", None),
    ("Model-q8fp16.gguf", "Model", None),
    ("Model-4bit.gguf", "Model", None),
    ("Phi-3-mini-4k-instruct-q4.gguf", "Phi-3-mini-4k-instruct", None),
    ("SmolLM2-1.7B-Q8.gguf", "SmolLM2-1.7B", None),
    ("Bonsai-8B.gguf", "Bonsai-8B", None),
    ("Mixtral-8x7B-v0.1.gguf", "Mixtral-8x7B-v0.1", None),
    ("Qwen3-30B-A3B.gguf", "Qwen3-30B-A3B", None),
    ("ggml-vocab-llama-bpe.gguf", "ggml-vocab-llama-bpe", None),
    # level in the folder
    ("Q8_0/model.gguf", "model", "Q8_0"),
    ("UD-IQ2_XXS/model.gguf", "model", "UD-IQ2_XXS"),
    ("Qwen3-8B-GGUF/Q4_K_M.gguf", "Qwen3-8B", "Q4_K_M"),
    ("Big-9B-GGUF/Q6_K/Q6_K-00001-of-00001.gguf", "Big-9B", "Q6_K"),
    (r"C:\models\bf16\gemma.gguf", "gemma", "BF16"),
]

# path, base name, level, the program that reads it
OF_FORKS = [
    ("DeepSeek-V3-0324-IQ4_KS_R4.gguf", "DeepSeek-V3-0324", "IQ4_KS_R4", "ik_llama.cpp"),
    ("DeepSeek-V3.1-smol-IQ4_KSS-00001-of-00007.gguf", "DeepSeek-V3.1", "IQ4_KSS", "ik_llama.cpp"),
    ("DeepSeek-R1-0528-DQ4_K_R4.gguf", "DeepSeek-R1-0528", "DQ4_K_R4", "ik_llama.cpp"),
    ("M-9B-BF16_R16.gguf", "M-9B", "BF16_R16", "ik_llama.cpp"),
    ("M-9B-Q8_KV.gguf", "M-9B", "Q8_KV", "ik_llama.cpp"),
    ("bitnet-b1.58-2B-IQ2_BN.gguf", "bitnet-b1.58-2B", "IQ2_BN", "ik_llama.cpp"),
    ("ggml-model-i2_s.gguf", "ggml-model", "I2_S", "bitnet.cpp"),
    ("bitnet_b1_58-3B-tl1.gguf", "bitnet_b1_58-3B", "TL1", "bitnet.cpp"),
    ("Qwen3.6-35B-A3B-TQ3_4S.gguf", "Qwen3.6-35B-A3B", "TQ3_4S", "llama.cpp-tq3"),
    ("Qwen3.6-27B-TQ4_1S.gguf", "Qwen3.6-27B", "TQ4_1S", "llama-cpp-turboquant"),
    ("Ternary-Bonsai-2-27B-PTQ1_0.gguf", "Ternary-Bonsai-2-27B", "PTQ1_0", "PrismML's llama.cpp"),
    ("Qwen3.8-27B-Q4_0_ROCMFP4_FAST.gguf", "Qwen3.8-27B", "Q4_0_ROCMFP4_FAST", "ROCmFPX"),
    ("Qwen3-4B-Q4_K_HIFI.gguf", "Qwen3-4B", "Q4_K_HIFI", "a HIFI build of llama.cpp"),
    ("Hunyuan-1.8B-STQ1_0.gguf", "Hunyuan-1.8B", "STQ1_0", "the llama.cpp of AngelSlim"),
]

SHARDS = [
    ("UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL-00001-of-00005.gguf", "DeepSeek-R1", "UD-Q2_K_XL", 1, 5),
    ("DeepSeek-R1-UD-IQ1_S/DeepSeek-R1-UD-IQ1_S-00003-of-00003.gguf", "DeepSeek-R1", "UD-IQ1_S", 3, 3),
    ("BF16/DeepSeek-R1.BF16-00030-of-00030.gguf", "DeepSeek-R1", "BF16", 30, 30),
    ("qwen2.5-7b-instruct-q5_k_m-00001-of-00002.gguf", "qwen2.5-7b-instruct", "Q5_K_M", 1, 2),
    ("Q3_K_M/model-00002-of-00003.gguf", "model", "Q3_K_M", 2, 3),
    ("UD-IQ4_NL/Qwen3.5-122B-A10B-UD-IQ4_NL-00001-of-00003.gguf", "Qwen3.5-122B-A10B", "UD-IQ4_NL", 1, 3),
    ("gpt-oss-120b-mxfp4-00002-of-00003.gguf", "gpt-oss-120b", "MXFP4", 2, 3),
    ("grok-1-IQ3_XS-split-00009-of-00009.gguf", "grok-1", "IQ3_XS", 9, 9),
    ("DSV4F-UD-IQ_S/DeepSeek-V4-Flash-0731-UD-IQ1_S-00001-of-00003.gguf", "DeepSeek-V4-Flash-0731", "UD-IQ1_S", 1, 3),
]

NOT_MODELS = [
    ("mmproj-BF16.gguf", "projector"),
    ("mmproj-model-f16.gguf", "projector"),
    ("mmproj-Qwen3VL-4B-Instruct-Q8_0.gguf", "projector"),
    ("Qwen2-VL-2B-Instruct.mmproj-Q8_0.gguf", "projector"),
    ("gemma4-12b-unsloth-mmproj-F16.gguf", "projector"),
    ("imatrix.gguf", "imatrix"),
    ("imatrix_unsloth.gguf", "imatrix"),
    ("Ornith-1.5-35B-A3B-imatrix.gguf", "imatrix"),
    ("SuperQwen3.8-27b-abliterated.imatrix.gguf", "imatrix"),
    ("Qwen3-8B-Q4_K_M-GGUF/qwen3-8b-imatrix.gguf", "imatrix"),
    ("mtp-Qwen3.8-27B-Q4_0.gguf", "draft"),
    ("Mistral-Small-3.1-DRAFT-0.5B.Q8_0.gguf", "draft"),
    ("dflash-draft-3.6-q4_k_m.gguf", "draft"),
    ("DSpark-drafter-Q8_0.gguf", "draft"),
    ("qwen2.5-0.5b-abliterated-lora-f16.gguf", "adapter"),
    ("bonsai-abliterate-lora.gguf", "adapter"),
    ("Llama-3-Instruct-abliteration-LoRA-8B-f16.gguf", "adapter"),
    ("ggml-adapter-model.gguf", "adapter"),
    ("gemma-3-1b-it-qat-q4_0-gguf/persona-lora.gguf", "adapter"),
]


@pytest.mark.parametrize(("path", "base_name", "level"), WHOLE_MODELS)
def test_a_real_name_gives_its_model_and_its_level(path: str, base_name: str, level: str | None) -> None:
    assert parse_file_name(path) == FileName(base_name, level, 1, 1, "model")


@pytest.mark.parametrize(("path", "base_name", "level", "shard", "shard_count"), SHARDS)
def test_a_shard_is_known_with_its_place(path: str, base_name: str, level: str, shard: int, shard_count: int) -> None:
    assert parse_file_name(path) == FileName(base_name, level, shard, shard_count, "model")


@pytest.mark.parametrize(("path", "kind"), NOT_MODELS)
def test_what_cannot_be_talked_to_is_told_apart(path: str, kind: str) -> None:
    parsed = parse_file_name(path)
    assert parsed is not None and parsed.kind == kind


@pytest.mark.parametrize(
    "path",
    ["README.md", "imatrix.dat", "Qwen1.5-110B-Chat.Q4_K_M.gguf.part1of2", "model-Q4_K_M.gguf.incomplete", "gguf"],
)
def test_other_files_are_no_model_files(path: str) -> None:
    assert parse_file_name(path) is None


@pytest.mark.parametrize("path", ["m-Q8_0-00000-of-00003.gguf", "m-Q8_0-00004-of-00003.gguf", "m-Q8_0-1-of-3.gguf"])
def test_an_impossible_shard_counts_as_a_whole_file(path: str) -> None:
    parsed = parse_file_name(path)
    assert parsed is not None and (parsed.shard, parsed.shard_count) == (1, 1)


def test_all_levels_of_a_repository_share_one_base_name() -> None:
    names = [name for name, base, _ in WHOLE_MODELS if base == "Llama-3.2-1B-Instruct"]
    assert len(names) > 5
    assert {parse_file_name(name).base_name for name in names} == {"Llama-3.2-1B-Instruct"}  # type: ignore[union-attr]


@pytest.mark.parametrize(("path", "base_name", "level", "program"), OF_FORKS)
def test_a_level_of_a_fork_is_known_with_the_program_that_reads_it(
    path: str, base_name: str, level: str, program: str
) -> None:
    parsed = parse_file_name(path)
    assert parsed is not None and (parsed.base_name, parsed.level) == (base_name, level)
    assert program_of_level(level) == program and find_level(level) is None


@pytest.mark.parametrize("level", sorted({level for _, _, level in WHOLE_MODELS if level}))
def test_every_level_that_a_name_gives_is_in_the_table_or_near_a_row(level: str) -> None:
    assert find_level(level) is not None
