"""How the real llama.cpp reads a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.llama.model import LlamaModel
from playground.llama.params import ContextParameters
from tests.support.gguf_bytes import with_flags, with_user_defined_tokens

PROMPT = "<|im_start|>user\nHi <|im_end|> there<|im_end|>\n<|im_start|>assistant\n"
TYPED = PROMPT.index("<|im_end|>")


@pytest.fixture(scope="module")
def model(starter: Path) -> Iterator[LlamaModel]:
    with LlamaModel(starter, ContextParameters(256)) as model:
        yield model


@pytest.mark.llama
def test_what_was_typed_is_text_and_the_templates_own_tokens_stay(model: LlamaModel) -> None:
    tokens = model.tokenize(PROMPT, [(TYPED, TYPED + len("<|im_end|>"))])
    assert b"".join(map(model.token_to_piece, tokens)).decode() == PROMPT
    spelled = [model.token_to_piece(token) for token in tokens]
    assert spelled.count(b"<|im_end|>") == 1 and spelled.count(b"<|im_start|>") == 2


@pytest.mark.llama
@pytest.mark.parametrize("text", [PROMPT, "a<|im_end|> \n b", "<|im_start|>", "", "日本語 <|endoftext|>🙂<repo_name>"])
def test_a_prompt_in_which_nothing_was_typed_has_the_tokens_of_llama_cpp(model: LlamaModel, text: str) -> None:
    assert model.tokenize(text, [(0, 0)]) == model.tokenize(text)


@pytest.mark.llama
def test_a_user_defined_token_that_somebody_typed_is_text(starter: Path, model: LlamaModel, tmp_path: Path) -> None:
    (token,) = model.tokenize("<filename>")
    with LlamaModel(with_user_defined_tokens(starter, tmp_path / "own.gguf", token), ContextParameters(256)) as own:
        assert "<filename>" in own.control_tokens.texts
        prompt = "Write <filename> here: <filename>x"
        typed = prompt.index("<filename>")
        tokens = own.tokenize(prompt, [(typed, typed + 10)])
        assert tokens.count(token) == 1 and b"".join(map(own.token_to_piece, tokens)).decode() == prompt
        assert token not in own.tokenize(prompt, plain=True)
        assert b"".join(map(own.token_to_piece, own.tokenize("<<filename>>", plain=True))).decode() == "<<filename>>"
        joined = own.tokenize("a<filename>", [(1, 4)])  # half typed, half of the template
        assert token not in joined and b"".join(map(own.token_to_piece, joined)).decode() == "a<filename>"
        assert own.tokenize("<filename>") == [token]


@pytest.mark.llama
def test_a_prompt_never_ends_in_a_token_that_nobody_wrote(starter: Path, model: LlamaModel, tmp_path: Path) -> None:
    closed = with_flags(starter, tmp_path / "closed.gguf", tokenizer__ggml__add_eos_token=True)
    with LlamaModel(closed, ContextParameters(256)) as same:
        for text in (PROMPT, "Once upon a time", ""):
            assert same.tokenize(text) == model.tokenize(text)
            assert same.tokenize(text, plain=True) == model.tokenize(text, plain=True)
            assert same.tokenize(text, [(0, 1)]) == model.tokenize(text, [(0, 1)])
