"""How the models in memory read: who uses them, what loading another takes, why a load waits."""

from __future__ import annotations

import re

import pytest

from playground.app.loaded_models import LoadedModelRow, LoadedModelsView, Swap, SwapRoom, waiting_sentence
from playground.engine.local.load_queue import LoadTime
from playground.web.html.loaded_models import load_time, loaded_models_card

FOX = LoadedModelRow("Fox 135M · Q4_1", 4096, users=2, value="fox")
OWL = LoadedModelRow("Owl 1B · Q8_0", 2048, users=0, is_loading=True)


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def test_each_model_says_who_uses_it_and_can_be_chosen_if_possible() -> None:
    card = loaded_models_card(LoadedModelsView((FOX, OWL)))
    assert "Fox 135M · Q4_1 · 4,096 tokens 2 users Use this one" in text_of(card)
    assert "Owl 1B · Q8_0 · 2,048 tokens loading" in text_of(card)
    assert card.count("<button") == 1 and 'data-value="fox"' in card


@pytest.mark.parametrize(("users", "words"), [(0, "idle"), (1, "1 user"), (3, "3 users")])
def test_a_model_says_by_how_many_it_is_used(users: int, words: str) -> None:
    assert words in text_of(loaded_models_card(LoadedModelsView((LoadedModelRow("Fox", 1, users),))))


def test_names_from_files_are_text_and_never_markup() -> None:
    card = loaded_models_card(LoadedModelsView((LoadedModelRow("<img src=x>", 1, 0, value='"><script>'),)))
    assert "<img" not in card and "<script" not in card


@pytest.mark.parametrize(
    ("room", "words"),
    [
        ("beside", "The selected model fits in memory as well."),
        ("replaces idle", "Loading the selected model replaces an idle model."),
        ("waits for others", "has to wait for memory: a model in use is never unloaded."),
    ],
)
def test_a_swap_says_what_happens_to_the_others(room: SwapRoom, words: str) -> None:
    assert words in text_of(loaded_models_card(LoadedModelsView((FOX,), Swap(room, None))))


def test_what_never_fits_is_left_to_the_verdict() -> None:
    assert "selected model" not in loaded_models_card(LoadedModelsView((FOX,), Swap("never", None)))
    assert loaded_models_card(LoadedModelsView((), Swap("beside", None))) == ""


def test_the_seconds_of_a_load_say_where_they_come_from() -> None:
    assert load_time(LoadTime(0.84, is_measured=True)) == "0.84 s (as last time)"
    assert load_time(LoadTime(12.3, is_measured=False)) == "about 12 s (estimated)"


def test_a_waiting_load_says_for_what_it_waits_and_in_which_place() -> None:
    assert waiting_sentence(1, []) == ""
    assert waiting_sentence(1, [FOX]).startswith("Waiting for memory used by Fox 135M · Q4_1 (2 users): you are next.")
    assert "2 others are ahead of you" in waiting_sentence(3, [FOX])
    assert waiting_sentence(1, [OWL]) == "Waiting for Owl 1B · Q8_0 to load"
    assert "has waited longer and loads first" in waiting_sentence(0, [FOX])
