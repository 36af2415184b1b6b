"""A run over levels of the real starter: what it keeps, what it says when a process dies, and that figures repeat."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from playground.app.measure.service import MeasureService, plan_of, store_of
from playground.app.services import Services
from playground.engine.local.load_queue import LoadedModel, ModelKey, State, Waiting
from playground.engine.protocol import ReplyRequest
from playground.errors import RequestRefused
from playground.llama.model import LlamaModel
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.answers.grid import answer_grid
from playground.measure.export import export_json
from playground.measure.plan import MeasurementPlan
from playground.measure.profile import profile_rows, usual_threads
from playground.measure.results import Measurement, What, imports_of, result_rows
from playground.measure.run import MeasurementRun, RunProgress, why_it_waits
from playground.measure.store import MeasurementStore
from playground.servers import read_server
from playground.settings import load_settings
from playground.steps import Steps
from tests.measure.test_measurement_store import measured
from tests.support.server_stand_in import KEY, ServerStandIn

TEXT = "Rivers carry more than water. In a dry summer this one brings down about forty kilograms of sand each second."
SPEED_AND_FIDELITY: tuple[What, ...] = ("speed", "fidelity")


@pytest.fixture(scope="module")
def services(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
        with Services(load_settings(data_dir=folder)) as services:
            yield services


@pytest.fixture(scope="module")
def store(services: Services) -> MeasurementStore:
    return store_of(services.settings)


def plan_for(services: Services, *whats: What, levels: tuple[str, ...] = ("Q4_1", "Q2_0")) -> MeasurementPlan:
    plan = plan_of(
        services, "starter", levels=levels, whats=whats, text_name="rivers", text=TEXT, most_tasks=1, reference="Q4_1"
    )
    return replace(plan, prompt_tokens=32, generated_tokens=8, repeats=1, most_reply_tokens=12)


def carry_out(
    services: Services,
    store: MeasurementStore,
    plan: MeasurementPlan,
    number: int | None = None,
    watch: Callable[[RunProgress], object] = lambda progress: None,
) -> int:
    run = number or store.add_run(plan.to_json(), "")
    work = MeasurementRun(
        services.pool, services.library, services.quantization_jobs, store,
        Path(services.settings.data_dir) / "scores", services.remotes,
    )  # fmt: skip
    for progress in work.work(run, plan):
        watch(progress)
    return run


@pytest.fixture(scope="module")
def first(services: Services, store: MeasurementStore) -> list[Measurement]:
    """Two levels, one of which is made for it."""
    plan = plan_for(services, "fidelity", "speed")
    seen: list[RunProgress] = []
    run = carry_out(services, store, plan, watch=seen.append)
    stored = store.find_run(run)
    assert stored and len(stored.finished) == len(plan.items()) == 4 and not any(stored.finished.values())
    shares = [progress.done for progress in seen]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert any("Making Q2_0" in progress.stage for progress in seen)
    assert max(progress.disk_bytes for progress in seen) > 0
    return store.measurements()


def test_a_level_against_itself_is_exactly_nothing_away(first: list[Measurement]) -> None:
    own = next(each for each in first if each.level == "Q4_1" and each.what == "fidelity")
    assert own.figures["kl_divergence"] == own.figures["kl_maximum"] == own.figures["kl_99"] == 0
    assert own.figures["top_token_agreement"] == 1
    assert own.figures["perplexity"] == own.figures["perplexity_reference"]
    assert own.digest == own.reference_digest and result_rows(first)[0].is_reference
    low = next(each for each in first if each.level == "Q2_0" and each.what == "fidelity")
    assert (
        low.figures["kl_divergence"] > 0.01
        and low.figures["kl_median"] <= low.figures["kl_99"] <= low.figures["kl_maximum"]
    )
    assert low.figures["top_token_agreement"] < 1 and low.digest != own.digest
    assert [each["category"] for each in low.figures["categories"]] == ["rivers"]


def test_a_measurement_says_how_it_was_made(first: list[Measurement]) -> None:
    speed = next(each for each in first if each.what == "speed")
    assert speed.figures["tg_tokens_per_second"] > 0 and speed.figures["pp_tokens_per_second"] > 0
    assert speed.threads >= 1 and speed.device == "CPU" and speed.settings["generated_tokens"] == 8
    assert speed.versions.keys() == {"playground", "llama-cpp-python"} and len(speed.digest) == 64


def test_a_repeated_run_gives_the_same_figures(
    services: Services, store: MeasurementStore, first: list[Measurement]
) -> None:
    carry_out(services, store, plan_for(services, "fidelity"))
    again = store.measurements()[len(first) :]
    assert len(again) == 2
    for each in again:
        before = next(old for old in first if (old.level, old.what) == (each.level, each.what))
        assert (each.figures, each.details) == (before.figures, before.details)


def test_perplexity_is_that_of_a_plain_evaluation(first: list[Measurement], starter: Path) -> None:
    measured = next(each for each in first if each.level == "Q4_1" and each.what == "fidelity")
    with LlamaModel(starter, ContextParameters(256, slots=1)) as model:
        tokens = model.tokenize(TEXT, plain=True)
    plain = llama_cpp.Llama(str(starter), n_ctx=256, logits_all=True, flash_attn=True, verbose=False)
    plain.eval(tokens)
    logits = plain.scores[: len(tokens) - 1].astype(np.float64)
    logprobs = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    expected = np.exp(-np.mean([row[token] for row, token in zip(logprobs, tokens[1:], strict=True)]))
    plain.close()
    assert measured.figures["tokens"] == len(tokens) - 1
    assert measured.figures["perplexity"] == pytest.approx(expected, rel=1e-3)


def test_a_killed_process_fails_its_item_alone_and_the_run_can_go_on(
    services: Services, store: MeasurementStore, first: list[Measurement]
) -> None:
    plan = plan_for(services, "fidelity", "instructions", levels=("Q4_1",))
    killed: list[str] = []

    def kill(progress: RunProgress) -> None:
        if "instructions of Q4_1: task" in progress.stage and not killed:
            loaded = next(iter(services.pool._models.values()))
            assert loaded.engine
            os.kill(loaded.engine.pid, signal.SIGKILL)
            killed.append(progress.stage)

    run = carry_out(services, store, plan, watch=kill)
    stored = store.find_run(run)
    assert stored and set(stored.finished) == {item.key for item in plan.items()}
    assert {item for item, why in stored.finished.items() if why} == {"Q4_1 f16/f16 instructions"}
    assert "The process that ran" in stored.finished["Q4_1 f16/f16 instructions"]
    before = len(store.measurements())
    store.retry_failed_items(run)
    seen: list[RunProgress] = []
    carry_out(services, store, plan, number=run, watch=seen.append)
    assert 0 < seen[0].done < seen[-1].done == 1, "what was finished before counts"
    again = store.find_run(run)
    assert again and not any(again.finished.values()) and len(store.measurements()) == before + 1
    (task,) = store.measurements()[-1].details
    assert task["prompt"] and task["answer"] and isinstance(task["passed"], bool)


def test_a_speed_waits_until_nothing_else_writes(services: Services, store: MeasurementStore) -> None:
    plan = plan_for(services, "speed", levels=("Q4_1",))
    context = MeasurementRun._context(plan, plan.items()[0])
    loading = Steps(services.pool.lease_model(services.library.find_file("starter").path, context))
    with (
        loading.finish() as lease,
        lease.engine.start_reply(ReplyRequest("A long story. ", GREEDY, 2000)) as reply,
    ):
        next(reply)
        waits: list[str] = []

        def watch(progress: RunProgress) -> None:
            if progress.waiting:
                waits.append(progress.waiting)
                reply.close()

        carry_out(services, store, plan, watch=watch)
    assert waits and "no other model" in waits[0]


@pytest.mark.parametrize(
    ("states", "words"), [(["loading"], "is loaded"), (["loading", "ready"], "leave enough memory"), ([], "")]
)
def test_a_run_that_waits_for_a_model_says_for_what(states: list[State], words: str, starter: Path) -> None:
    key = ModelKey(starter, ContextParameters(512))
    said = why_it_waits(Waiting(1, tuple(LoadedModel(key, state, 1, None) for state in states)))
    assert words in said and bool(said) == bool(states)


def test_a_profile_has_every_depth_chat_and_number_of_threads(services: Services, store: MeasurementStore) -> None:
    plan = replace(plan_for(services, "profile", levels=("Q4_1",)), deepest=512, most_chats=2)
    carry_out(services, store, plan)
    found = store.measurements()[-1]
    rows = profile_rows(found.figures)
    assert {row.depth for row in rows if row.kind == "prompt"} == {0, 352}
    assert {row.depth for row in rows if row.kind == "reply"} == {0, 352}
    assert {row.threads for row in rows} == set(usual_threads(services.pool.cores))
    assert [row.concurrent for row in rows if row.concurrent > 1] == [2]
    assert found.figures["memory_bandwidth"] > found.figures["read_bytes"] > 0
    assert services.pool.cores == services.processors.usable, "the other numbers of threads were for the tests alone"


def test_every_level_answers_each_prompt_and_what_failed_is_asked_again(
    services: Services, store: MeasurementStore
) -> None:
    plan = replace(plan_for(services, "answers"), prompts_name="two.txt", prompts=("Name a colour.", "What is 2+2?"))
    killed: list[str] = []

    def kill(progress: RunProgress) -> None:
        if progress.stage == "Q2_0 answers prompt 1 of 2" and not killed:
            loaded = next(model for model in services.pool._models.values() if model.users)
            assert loaded.engine
            os.kill(loaded.engine.pid, signal.SIGKILL)
            killed.append(progress.stage)

    run = carry_out(services, store, plan, watch=kill)
    stored = store.find_run(run)
    assert stored and [item for item, why in stored.finished.items() if why] == ["Q2_0 f16/f16 answers 1"]
    store.retry_failed_items(run)
    carry_out(services, store, plan, number=run)
    grid = answer_grid(store.measurements(), plan.model)
    assert grid and [column.name for column in grid.columns] == ["Q4_1", "Q2_0"] and len(grid.answers) == 4
    assert all(answer.text and answer.tokens and answer.tokens <= 12 for answer in grid.answers.values())


def test_only_levels_that_really_differ_are_offered_and_the_time_is_estimated(services: Services) -> None:
    """Rows of 576 weights do not divide by 256: a Q3_K_M of the starter would be no smaller than its Q4_1."""
    service = MeasureService(services)
    plan = plan_for(services, "speed", "answers", levels=("Q4_1", "Q8_0"))
    offered = {choice.level for choice in service.levels(plan.model)}
    assert {"Q4_1", "Q8_0"} <= offered and not any("K" in level for level in offered)
    assert (service.estimate(plan).seconds or 0) > 0
    speed, fidelity = (service.estimate(plan_for(services, what, levels=("Q4_1",))) for what in SPEED_AND_FIDELITY)
    assert (fidelity.memory_bytes or 0) > (speed.memory_bytes or 0) > 0, "the texts have a context of their own"
    second = service.same_for(plan, plan.model, ("Q4_1",))
    assert second.levels == ("Q4_1",) and second.reference == ""
    told = service.estimate_runs([plan, second])
    assert (told.items, told.to_make) == (len(plan.items()) + len(second.items()), ("Q8_0",))


def test_what_was_laid_beside_can_be_taken_away_again(services: Services) -> None:
    service = MeasureService(services)
    before = service.results().rows
    found = result_rows([measured("Q8_0", 1, 0), measured("Q4_0", 0.6, 0.02)])
    assert service.import_file("a friend", json.dumps(export_json(found)).encode()) == 2
    assert imports_of(service.results().rows) == ["a friend"]
    service.remove_import("a friend")
    assert service.results().rows == before


def test_a_plan_that_measures_nothing_is_refused(services: Services) -> None:
    with pytest.raises(RequestRefused, match="nothing to measure"):
        plan_for(services)
    with pytest.raises(RequestRefused, match="empty"):
        plan_of(services, "starter", levels=(), whats=("fidelity",), text_name="mine", text=" ")
    with pytest.raises(RequestRefused, match="10 tokens is not measured"):
        plan_of(services, "starter", levels=(), whats=("profile",), deepest=10)
    with pytest.raises(RequestRefused, match="65 chats at once are not measured"):
        plan_of(services, "starter", levels=(), whats=("profile",), most_chats=65)


def test_levels_are_compared_with_the_words_of_a_servers_model(services: Services, store: MeasurementStore) -> None:
    with ServerStandIn() as server:
        server.models = {"data": [{"id": "plain"}]}
        services.remotes.add_server(read_server("box", server.url, KEY))
        plan = replace(
            plan_for(services, "speed"), whats=("server", "instructions"), server_model="plain@box",
            prompts_name="two", prompts=("A?", "B?"),
        )  # fmt: skip
        before = len(store.measurements())
        run = store.find_run(carry_out(services, store, plan.checked()))
        assert run and not any(run.finished.values()), run
        *asked, instruction = [body for path, _, body in server.asked if path.endswith("/chat/completions")]
    everything = store.measurements()[before:]
    own = [each for each in everything if each.level == "plain@box"]
    assert [(each.what, each.size, each.device) for each in own] == [("instructions", 0, "the server box")]
    assert instruction["max_tokens"] == 12 and own[0].details[0]["answer"] == "Two and two is four."
    found = [each for each in everything if each.what == "server"]
    assert [each.level for each in found] == ["Q4_1", "Q2_0"] and len(asked) == 2  # once for both levels
    assert all(body["temperature"] == 0 and body["max_tokens"] == 12 for body in asked)
    for each in found:
        assert each.reference == "plain@box" and 0 <= each.figures["same_words"] <= 1
        assert [task["answer"] for task in each.details] == ["Two and two is four."] * 2
        assert each.figures["tokens"] == sum(task["tokens"] for task in each.details) == 12
        assert sum(task["same"] for task in each.details) == pytest.approx(12 * each.figures["same_words"])
        assert "kl_at_least" not in each.figures  # it sends no probabilities


def test_a_server_that_sends_its_likely_tokens_gives_a_lower_bound(services: Services, store: MeasurementStore) -> None:
    with ServerStandIn() as server:
        server.models = {"data": [{"id": "scores"}]}
        services.remotes.add_server(read_server("sender", server.url, KEY))
        plan = replace(
            plan_for(services, "speed", levels=("Q4_1",)), whats=("server",), server_model="scores@sender",
            prompts_name="two", prompts=("A?", "B?"),
        )  # fmt: skip
        run = store.find_run(carry_out(services, store, plan.checked()))
        assert run and not any(run.finished.values()), run
        assert [body["top_logprobs"] for path, _, body in server.asked if path.endswith("/chat/completions")] == [
            20,
            20,
        ]
    figures = store.measurements()[-1].figures
    assert figures["kl_tokens"] == figures["tokens"] == 4 and figures["kl_at_least"] > figures["kl_at_least_error"] > 0


def test_a_server_that_is_gone_is_named(services: Services, store: MeasurementStore) -> None:
    plan = replace(plan_for(services, "speed", levels=("Q4_1",)), whats=("server",), server_model="plain@nowhere")
    run = store.find_run(carry_out(services, store, plan.checked()))
    assert run and ["plain@nowhere is on no server" in why for why in run.finished.values()] == [True]
    with pytest.raises(RequestRefused):
        replace(plan, server_model="").checked()
