"""How the models in memory read: who uses them, what a swap takes, why one waits."""

from __future__ import annotations

import re

import pytest

from playground.app.loaded_models import LoadedModelRow, LoadedModelsView, Swap, SwapRoom, waiting_words
from playground.engine.local.load_queue import LoadTime
from playground.web.html.loaded_models import load_time_words, loaded_models_card

FOX = LoadedModelRow("Fox 135M · Q4_1", 4096, users=2, value="fox")
OWL = LoadedModelRow("Owl 1B · Q8_0", 2048, users=0, is_loading=True)


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def test_each_model_says_who_uses_it_and_can_be_joined_where_that_is_possible() -> None:
    card = loaded_models_card(LoadedModelsView((FOX, OWL)))
    assert "Fox 135M · Q4_1 · 4,096 tokens 2 use it now Use this one" in text_of(card)
    assert "Owl 1B · Q8_0 · 2,048 tokens is being loaded" in text_of(card)
    assert card.count("<button") == 1 and 'data-value="fox"' in card


@pytest.mark.parametrize(("users", "words"), [(0, "nobody uses it now"), (1, "1 uses it now"), (3, "3 use it now")])
def test_the_number_of_users_reads_as_a_sentence(users: int, words: str) -> None:
    assert words in text_of(loaded_models_card(LoadedModelsView((LoadedModelRow("Fox", 1, users),))))


def test_names_from_files_are_text_and_never_markup() -> None:
    card = loaded_models_card(LoadedModelsView((LoadedModelRow("<img src=x>", 1, 0, value='"><script>'),)))
    assert "<img" not in card and "<script" not in card


@pytest.mark.parametrize(
    ("room", "words"),
    [
        ("beside", "Your choice fits beside it: loading it takes –."),
        ("idle gives way", "Your choice takes the place of what nobody uses: loading it takes –."),
        ("waits for others", "has to wait until there is room, because nobody’s model is taken away"),
    ],
)
def test_a_swap_says_what_happens_to_the_others(room: SwapRoom, words: str) -> None:
    assert words in text_of(loaded_models_card(LoadedModelsView((FOX,), Swap(room, None))))


def test_what_never_fits_is_left_to_the_verdict() -> None:
    assert "Your choice" not in loaded_models_card(LoadedModelsView((FOX,), Swap("never", None)))
    assert loaded_models_card(LoadedModelsView((), Swap("beside", None))) == ""


def test_the_seconds_of_a_load_say_where_they_come_from() -> None:
    assert load_time_words(LoadTime(0.84, is_measured=True)) == "0.84 s (the last time)"
    assert load_time_words(LoadTime(12.3, is_measured=False)) == "about 12 s (estimated from other loads)"
    assert load_time_words(None) == "–"


def test_who_waits_is_told_for_whom_and_in_which_place() -> None:
    assert waiting_words(1, []) == ""
    assert waiting_words(1, [FOX]).startswith("Waiting for the memory of Fox 135M · Q4_1 (2 use it now): you are next.")
    assert "2 others are before you" in waiting_words(3, [FOX])
    assert waiting_words(1, [OWL]) == "Waiting while Owl 1B · Q8_0 loads"
    assert "has waited for its turn and comes first" in waiting_words(0, [FOX])
