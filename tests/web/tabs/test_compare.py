"""The Compare tab without a browser: what it reads from its components, and what an update changes in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from playground.app.compare.comparison import Comparison, PaneSession
from playground.app.compare.further_answers import FurtherAnswer, FurtherAnswers
from playground.app.compare.link import LinkedSetup
from playground.app.compare.service import CompareService
from playground.app.compare.updates import CompareUpdate, PaneState, update_at_rest
from playground.app.loaded_models import LoadedModels
from playground.app.messages import CLEAR, Notice, WorkProgress
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.conversation import Conversation
from playground.chat.prompts import load_comparison_prompts
from playground.chat.template.thinking import ThinkingChoice
from playground.llama.params import DeviceChoice
from playground.settings import load_settings
from playground.web.streaming import Streaming
from playground.web.tabs.compare.layout import CompareTab, build_compare_tab
from playground.web.tabs.compare.tab import draw_link, draw_update, read_request, wire_compare_tab


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CompareTab]:
    with Services(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as services:
        picker = ModelPickerService(services.library, services.planner, services.pool.budget_for, 1)
        with gr.Blocks():
            tab = build_compare_tab(picker, load_comparison_prompts(), "in turn")
        yield tab


def values_of(tab: CompareTab, **sent: Any) -> dict[Any, Any]:
    """What a browser sends for each of the request's inputs; None for what is not named."""
    left, right = (pane.picker for pane in tab.panes)
    settings = tab.settings
    components = {
        "model": left.model, "level": left.level, "context": left.context, "kv_type": left.kv_type,
        "where": left.where.where, "gpu": left.where.gpu, "gpu_layers": left.where.gpu_layers,
        "experts": left.where.experts, "other_where": right.where.where, "other_gpu": right.where.gpu,
        "other_gpu_layers": right.where.gpu_layers, "other_experts": right.where.experts,
        "thinking": left.thinking, "other_thinking": right.thinking,
        "other_model": right.model, "other_level": right.level, "other_context": right.context,
        "other_kv_type": right.kv_type, "system": settings.system, "temperature": settings.temperature,
        "max_tokens": settings.max_tokens, "seed": settings.seed, "mode": settings.mode, "blind": settings.blind,
        "follows_up": settings.follows_up, "dial": tab.dial, "dial_model": tab.dial_model,
    }  # fmt: skip
    assert set(components.values()) == tab.request_inputs
    return {component: sent.get(name) for name, component in components.items()}


def test_a_request_is_read_by_name(tab: CompareTab) -> None:
    request = read_request(
        tab,
        values_of(
            tab, model="m", level="Q4_1", context="4096", kv_type="q8_0", other_model="n", other_level="Q2_0",
            where="cpu", experts=3, other_where="layers", other_gpu="CUDA1", other_gpu_layers=27, other_experts=12,
            other_thinking="off",
            system="Be brief.", temperature=0.7, max_tokens=64, seed=5, mode="at once", blind=False,
        ),
    )  # fmt: skip
    assert request.choices == (
        ModelChoice("m", "Q4_1", 4096, "q8_0", DeviceChoice("cpu")),
        ModelChoice("n", "Q2_0", device=DeviceChoice("CUDA1", 27, 12), thinking=ThinkingChoice(False)),
    )
    assert (request.system, request.max_tokens, request.mode, request.blind) == ("Be brief.", 64, "at once", False)
    assert (request.sampling.temperature, request.sampling.seed) == (0.7, 5)


def test_impossible_values_from_a_browser_become_the_defaults(tab: CompareTab) -> None:
    sent = values_of(
        tab, model="m", level="Q4_1", context="x", kv_type="q9", other_level="", other_context="9" * 12,
        temperature=99, seed=-1, mode="both", blind=1,
    )  # fmt: skip
    request = read_request(tab, sent)
    assert request.choices == (ModelChoice("m", "Q4_1"), ModelChoice(None, None, None))
    assert (request.mode, request.blind) == ("in turn", True)
    assert (request.sampling.temperature, request.sampling.seed) == (2.0, None)


def test_the_dial_has_the_levels_before_the_pickers_know_of_a_move(tab: CompareTab) -> None:
    one = {"model": "m", "other_model": "m", "level": "Q8_0", "other_level": "Q4_0"}
    moved = read_request(tab, values_of(tab, **one, dial='{"a": "Q8_0", "b": "Q2_0"}'))
    assert [choice.level for choice in moved.choices] == ["Q8_0", "Q2_0"]
    opened = read_request(tab, values_of(tab, dial_model="m", dial='{"a": "Q8_0", "b": "Q2_0"}'))
    assert [choice.model for choice in opened.choices] == ["m", "m"]
    two = one | {"other_model": "n"}
    for text in ('{"a": "Q8_0", "b": "Q2_0"}', "{", "[1]", '{"a": 1, "b": {}}', '{"a": "", "b": ""}'):
        sent = read_request(tab, values_of(tab, **(two if text.startswith('{"a": "Q') else one), dial=text))
        assert [choice.level for choice in sent.choices] == ["Q8_0", "Q4_0"]


def test_a_model_that_is_chosen_is_that_of_both_sides_before_either_is_filled(starter: Path, tmp_path: Path) -> None:
    with Services(load_settings(data_dir=tmp_path)) as services:
        picker = ModelPickerService(services.library, services.planner, services.pool.budget_for, 1)
        service = CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))
        page: gr.Blocks
        with gr.Blocks() as page:
            with gr.Tabs() as tabs, gr.Tab("Compare"):
                tab = build_compare_tab(picker, load_comparison_prompts(), "in turn")
            wire_compare_tab(page, tab, service, tabs, Streaming())
        heard = [one for one in page.fns.values() if (tab.dial_model._id, "input") in one.targets]
        (choose,) = (one.fn for one in heard if tab.dial in one.outputs)
        assert choose
        ((_, starter_name),) = picker.model_names()
        sent = {tab.dial_model: starter_name} | {pane.picker.drawn_model: "another" for pane in tab.panes}
        first = next(choose(gr.Request(session_hash="one"), sent))
    levels = first[tab.dial].value
    drawn = values_of(tab, dial_model=starter_name, dial=levels) | {
        pane.picker.model: first[pane.picker.model].value for pane in tab.panes
    }
    choices = read_request(tab, drawn).choices
    assert [choice.model for choice in choices] == [starter_name] * 2
    assert {"a": choices[0].level, "b": choices[1].level} == json.loads(levels)


def test_an_update_changes_only_what_is_new(tab: CompareTab) -> None:
    assert draw_update(tab, CompareUpdate()) == {}
    drawn = draw_update(
        tab, CompareUpdate(panes=(None, PaneState(name="Q2_0", note=WorkProgress("Loading Q2_0", 0.5))))
    )
    second = tab.panes[1]
    assert set(drawn) == {second.view}
    assert "Loading Q2_0" in drawn[second.view].props["rows"] and "50%" in drawn[second.view].props["rows"]


def test_what_grows_is_among_the_few_outputs_of_its_event(tab: CompareTab) -> None:
    update = CompareUpdate(panes=(PaneState(name="Q8_0"), PaneState(name="Q2_0")), has_new_level=True)
    assert set(draw_update(tab, update)) <= set(tab.growing)


def test_every_change_of_an_update_is_an_output(tab: CompareTab) -> None:
    everything = update_at_rest(Comparison((PaneSession(Conversation().with_question("Hi")), PaneSession())))
    drawn = draw_update(tab, everything)
    assert set(drawn) <= set(tab.drawn) and drawn[tab.result] == ""
    cleared = CompareUpdate(problem=CLEAR, answers=Notice(""), has_new_level=True)
    assert set(draw_update(tab, cleared)) <= set(tab.drawn)
    further = CompareUpdate(further=FurtherAnswers((FurtherAnswer("Q4_0", "Q4_0", "Cold."),)))
    drawn = draw_update(tab, further)
    assert set(drawn) == {tab.further} <= set(tab.drawn) and "Cold." in drawn[tab.further].props["rows"]


def test_a_link_that_names_nothing_changes_nothing(tab: CompareTab) -> None:
    with gr.Blocks():
        tabs = gr.Tabs()
    assert draw_link(tab, tabs, LinkedSetup()) == {}
    drawn = draw_link(tab, tabs, LinkedSetup(problems=("<b> is not here.",), mode="at once"))
    assert drawn[tab.settings.mode] == "at once" and "&lt;b&gt; is not here." in drawn[tab.problem]
    assert tab.settings.seed not in drawn
