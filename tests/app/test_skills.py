"""The shelf of skills, and two levels with a skill and without it on the real starter model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.app.chat.skills import MOST_SKILLS, Shelf, read_shelf, toggled
from playground.app.compare.comparison import CompareRequest
from playground.app.compare.service import CompareService
from playground.app.compare.skill_grid import ask_with_and_without
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.history import HistoryLimits
from playground.chat.saved_chat import read_saved_chat
from playground.chat.session import ChatSession, Instructions
from playground.errors import RequestRefused
from playground.limits.visitor import Visitor
from playground.llama.sampling_extras import GREEDY
from playground.settings import load_settings
from playground.web.html.skills import skill_chips, skill_grid

LIMITS = HistoryLimits()
PIRATE = Instructions("pirate.md", "Answer as a pirate.")
BRIEF = Instructions("brief.md", "Be brief.")
LONG = Instructions("long.md", "Answer as a pirate would answer. " * 20)  # the starter has instructions of its own
STARTER = ModelChoice("SmolLM2-135M-Instruct", "Q4_1", 1024)


def test_a_shelf_comes_back_from_the_browser() -> None:
    shelf = Shelf().with_skill(PIRATE).with_skill(BRIEF)
    assert read_shelf(shelf.to_text(), LIMITS).skills == (BRIEF, PIRATE)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "x",
        "{}",
        "[1]",
        '[{"name": 1, "text": "x"}, {"name": "", "text": "x"}]',
        json.dumps([{"name": "a" * 500, "text": "x"}]),
        json.dumps([{"name": "a", "text": "x" * 200_000}]),
    ],
)
def test_what_is_no_shelf_is_left_out(text: object) -> None:
    assert read_shelf(text, LIMITS).skills == ()


def test_a_folder_offers_its_texts_and_a_kept_skill_goes_before(tmp_path: Path) -> None:
    (tmp_path / "brief.md").write_text("Be brief, says the folder.")
    (tmp_path / "style.txt").write_text("No lists.")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "broken.md").write_bytes(b"\xff\xfe")
    shelf = read_shelf(Shelf().with_skill(BRIEF).to_text(), LIMITS, tmp_path)
    assert [skill.name for skill in shelf.skills] == ["brief.md", "style.txt"]
    assert shelf.find("brief.md") == BRIEF
    assert read_shelf("", LIMITS, tmp_path / "missing").skills == ()


def test_skills_that_are_on_are_the_instructions_of_the_chat() -> None:
    shelf = Shelf((PIRATE, BRIEF))
    on = shelf.switched_on({"pirate.md", "brief.md", "gone.md"})
    assert on == Instructions("brief.md, pirate.md", "Be brief.\n\nAnswer as a pirate.", ("brief.md", "pirate.md"))
    assert shelf.switched_on(()) is None
    assert toggled({"a"}, "a") == set() and toggled({"a"}, "b") == {"a", "b"}


def test_a_chat_remembers_which_skills_are_on() -> None:
    session = ChatSession(instructions=Shelf((PIRATE,)).switched_on({"pirate.md"}))
    back, _ = read_saved_chat(session.to_stored_text(), LIMITS, 4096)
    assert back.instructions == session.instructions and not back.has_own_instructions


def test_a_full_shelf_takes_no_more_but_changes_what_it_has() -> None:
    shelf = Shelf(tuple(Instructions(f"{n}.md", "x") for n in range(MOST_SKILLS)))
    with pytest.raises(RequestRefused, match="shelf is full"):
        shelf.with_skill(PIRATE)
    assert shelf.with_skill(Instructions("3.md", "y")).find("3.md") == Instructions("3.md", "y")


def test_names_of_skills_are_text_on_the_page() -> None:
    chips = str(skill_chips(Shelf((Instructions("<img src=x>", "x"),)), {"<img src=x>"}))
    assert "<img" not in chips and 'aria-pressed="true"' in chips


def test_a_skill_beside_none_costs_tokens_and_time(starter: Path, tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path)) as services:
        picker = ModelPickerService(
            services.library, services.planner, services.pool.budget_for, 4, services.quantization_jobs, services.runs
        )
        service = CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))
        request = CompareRequest((STARTER, STARTER), sampling=GREEDY, max_tokens=8)
        *_, last = ask_with_and_without(service, Visitor("a"), "What is 2+2?", request, LONG)
    assert last.grid and not last.is_busy
    assert all(cell.text and cell.finished for cell in last.grid.cells)
    without, with_it, *_ = (cell.finished.timings.prompt_tokens or 0 for cell in last.grid.cells if cell.finished)
    assert with_it > without > 0
    assert last.grid.levels == ("Q4_1 (A)", "Q4_1 (B)")
    assert last.grid.cells[0].text == last.grid.cells[2].text  # the same model says the same again
    assert f"The skill adds {with_it - without} tokens" in str(skill_grid(last.grid))
