"""Two levels side by side, on the real starter: what holds for every comparison, in turn and at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import get_args

import pytest

from playground.chat.compare import compare, residency, seeded, usual_mode
from playground.chat.comparison import Mode, Pane, PaneResult, PaneUpdate
from playground.chat.conversation import Conversation
from playground.chat.first_difference import first_difference
from playground.chat.prompts import ComparisonKind, load_comparison_prompts
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Prefilled, ReplyRequest
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY, Sampling
from playground.models.model_file import ModelFile
from playground.quantize.quantize import quantize_file
from playground.steps import Steps

CONTEXT = ContextParameters(1024, slots=2)
QUESTION = Conversation().with_question("What is 2+2?")
LONG = Conversation().with_question(
    "Here is a story. " + "The fox ran over the hill and the dog slept. " * 48 + "Who ran?"
)
TALE = Conversation().with_question("Tell me a very long story about a fox.")
LOW = "IQ4_NL"  # the starter made into it says that 2+2 is 5


@pytest.fixture(scope="module")
def levels(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    folder = tmp_path_factory.mktemp("levels")
    files = {}
    for level in ("Q8_0", LOW):
        path = folder / f"SmolLM2-135M-Instruct-{level}.gguf"
        for _ in quantize_file(starter, level, path, threads=2):
            pass
        files[level] = ModelFile(path, (path,), "SmolLM2-135M-Instruct", level, path.stat().st_size, "folder")
    return files


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


@pytest.fixture(scope="module")
def pool(planner: Planner) -> Iterator[ModelPool]:
    with closing(CpuShares(2)) as cores, closing(ModelPool(cores, planner, lambda: 8 << 30)) as pool:
        yield pool


@pytest.fixture
def panes(levels: dict[str, ModelFile]) -> list[Pane]:
    return [Pane(file, CONTEXT, QUESTION) for file in levels.values()]


def updates_of(
    pool: ModelPool, planner: Planner, panes: Sequence[Pane], sampling: Sampling = GREEDY, tokens: int = 12,
    mode: Mode = "in turn",
) -> Generator[PaneUpdate, None, None]:  # fmt: skip
    return compare(pool, planner, panes, sampling, tokens, mode=mode, interval_seconds=0.05)


def results_of(updates: Iterable[PaneUpdate]) -> list[PaneResult]:
    results = {update.pane: update.result for update in updates if update.result}
    return [results[index] for index in sorted(results)]


def file_of(pane: Pane) -> ModelFile:
    assert isinstance(pane.file, ModelFile)
    return pane.file


def texts_of(results: Sequence[PaneResult]) -> list[str]:
    return [result.conversation.messages[-1].content for result in results]


def is_ready(pool: ModelPool, planner: Planner, pane: Pane) -> bool:
    """Whether the pane's model answers, and nobody holds it any more."""
    (result,) = results_of(updates_of(pool, planner, [pane], tokens=3))
    return bool(texts_of([result])[0]) and all(model.users == 0 for model in pool.loaded_models())


def test_two_levels_differ_at_a_token_with_probabilities(pool: ModelPool, planner: Planner, panes: list[Pane]) -> None:
    high, low = results_of(updates_of(pool, planner, panes))
    assert "4" in texts_of([high])[0]
    difference = first_difference(high, low)
    assert difference is not None and difference.choices[0].id != difference.choices[1].id
    assert all(text.startswith(difference.common_text) for text in texts_of([high, low]))
    for choice in difference.choices:
        assert choice.own is not None and 0 < choice.own <= 1
        assert choice.other is None or choice.other <= choice.own  # greedy takes the likeliest
    assert high.mode == "in turn" and high.finished.timings.threads == 2
    assert high.measured and high.measured.resident > 50 << 20
    assert high.plan and high.plan.total > 50 << 20


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.2)], ids=["greedy", "warm"])
@pytest.mark.parametrize("mode", ["in turn", "at once"])
def test_a_model_compared_with_itself_says_the_same(
    pool: ModelPool, planner: Planner, panes: list[Pane], mode: Mode, sampling: Sampling
) -> None:
    one, other = results_of(updates_of(pool, planner, [panes[0], panes[0]], sampling, mode=mode))
    assert [token.id for token in one.tokens] == [token.id for token in other.tokens]
    assert [token.logprob for token in one.tokens] == [token.logprob for token in other.tokens]
    assert first_difference(one, other) is None


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(QUESTION, id="short"),
        pytest.param(
            LONG,
            id="beyond 512 tokens",
        ),
    ],
)
def test_texts_do_not_depend_on_in_turn_or_at_once(
    pool: ModelPool, planner: Planner, panes: list[Pane], conversation: Conversation
) -> None:
    asked = [replace(pane, conversation=conversation) for pane in panes]
    in_turn = results_of(updates_of(pool, planner, asked))
    at_once = results_of(updates_of(pool, planner, asked, mode="at once"))
    assert [result.mode for result in at_once] == ["at once", "at once"]
    assert texts_of(in_turn) == texts_of(at_once)
    assert (in_turn[0].finished.timings.prompt_tokens or 0) > (512 if conversation is LONG else 0)


def test_another_visitors_chat_on_the_same_engine_changes_nothing(
    pool: ModelPool, planner: Planner, panes: list[Pane]
) -> None:
    before = results_of(updates_of(pool, planner, panes))
    opening = Steps(pool.lease_model(file_of(panes[0]).path, CONTEXT))
    with (
        opening.finish() as lease,
        lease.engine.start_reply(ReplyRequest("<|im_start|>user\nTell me a story", GREEDY, 40)) as chat,
    ):
        beside = results_of(updates_of(pool, planner, panes))
        assert len(list(chat)) > 1
    assert texts_of(beside) == texts_of(before)


def test_a_second_turn_keeps_each_panes_own_history(pool: ModelPool, planner: Planner, panes: list[Pane]) -> None:
    first = results_of(updates_of(pool, planner, panes))
    asked = [
        replace(pane, conversation=result.conversation.with_question("Are you sure?"))
        for pane, result in zip(panes, first, strict=True)
    ]
    second = results_of(updates_of(pool, planner, asked))
    for before, after in zip(first, second, strict=True):
        assert after.conversation.messages[:2] == before.conversation.messages
        assert [message.role for message in after.conversation.messages] == ["user", "assistant"] * 2


@pytest.mark.parametrize("mode", ["in turn", "at once"])
@pytest.mark.parametrize("phase", ["loading", "prefill", "decode"])
def test_stopping_in_any_phase_leaves_both_engines_ready(
    pool: ModelPool, planner: Planner, panes: list[Pane], mode: Mode, phase: str
) -> None:
    pool.unload_idle_models()
    asked = [replace(pane, conversation=LONG if phase == "prefill" else TALE) for pane in panes]
    updates = updates_of(pool, planner, asked, tokens=500, mode=mode)
    for update in updates:
        reply = update.reply
        if phase == "loading" and update.loading is not None:
            break
        if phase == "prefill" and reply and (not reply.events or isinstance(reply.event, Prefilled)):
            break
        if phase == "decode" and reply and reply.answer:
            break
    updates.close()
    assert all(model.users == 0 for model in pool.loaded_models())
    assert all(is_ready(pool, planner, pane) for pane in panes)


@pytest.mark.parametrize("mode", ["in turn", "at once"])
def test_when_the_second_model_cannot_be_loaded_the_first_answer_stays(
    pool: ModelPool, planner: Planner, panes: list[Pane], tmp_path: Path, mode: Mode
) -> None:
    broken = tmp_path / "Broken-Q4_0.gguf"
    broken.write_bytes(file_of(panes[0]).path.read_bytes()[:3_000_000])
    second = replace(panes[1], file=replace(file_of(panes[1]), path=broken, shards=(broken,)))
    updates = list(updates_of(pool, planner, [panes[0], second], mode=mode))
    failures = [update for update in updates if update.failed]
    assert [update.pane for update in failures] == [1] and "corrupted" in str(failures[0].failed)
    assert texts_of(results_of(updates))[0]


@pytest.mark.parametrize("mode", ["in turn", "at once"])
def test_a_model_that_never_fits_fails_and_the_other_answers(
    pool: ModelPool, planner: Planner, panes: list[Pane], mode: Mode
) -> None:
    giant = replace(panes[1], context=ContextParameters(8 << 20))  # 180 GiB of KV cache
    updates = list(updates_of(pool, planner, [panes[0], giant], mode=mode))
    assert [update.pane for update in updates if update.failed] == [1]
    assert not any(update.takes_turns for update in updates)
    assert len(results_of(updates)) == 1
    assert residency(pool, planner, [panes[0], giant]) == "one after the other"


@pytest.fixture
def small_pool(planner: Planner, panes: list[Pane]) -> Iterator[ModelPool]:
    """A stand-in for a small computer: what the loaded models hold by plan is missing from its memory."""
    plans = [planner.plan(file_of(pane).path, CONTEXT) for pane in panes]
    room = max(plan.total for plan in plans) + min(plan.total for plan in plans) // 2
    pools: list[ModelPool] = []

    def usable() -> int:
        return room - sum(
            model.plan.must_stay for model in pools[0].loaded_models() if model.plan and model.state == "ready"
        )

    with closing(CpuShares(2)) as cores, closing(ModelPool(cores, planner, usable)) as pool:
        pools.append(pool)
        yield pool


@pytest.mark.parametrize("mode", ["in turn", "at once"])
def test_where_only_one_model_fits_it_is_unloaded_and_both_answer(
    small_pool: ModelPool, planner: Planner, panes: list[Pane], mode: Mode
) -> None:
    assert residency(small_pool, planner, panes) == "one after the other"
    updates, most = [], 0
    for update in updates_of(small_pool, planner, panes, mode=mode):
        updates.append(update)
        most = max(most, len([model for model in small_pool.loaded_models() if model.state == "ready"]))
    assert most == 1
    assert len(results_of(updates)) == 2
    assert [update.pane for update in updates if update.unloaded] == [0]
    assert [update.takes_turns for update in updates if update.takes_turns] == (
        ["no room for both"] if mode == "at once" else []
    )


@pytest.mark.parametrize("mode", ["in turn", "at once"])
def test_where_one_model_fits_two_visitors_both_get_their_answers(
    small_pool: ModelPool, planner: Planner, panes: list[Pane], mode: Mode
) -> None:
    visitors = [updates_of(small_pool, planner, asked, mode=mode) for asked in (panes, panes[::-1])]
    heard: list[list[PaneUpdate]] = [[], []]
    for round_of_both in zip_longest(*visitors):
        for updates, update in zip(heard, round_of_both, strict=True):
            updates += [update] if update else []
    one, other = map(results_of, heard)
    assert texts_of(one) == texts_of(other)[::-1]
    waits = [update.waiting for updates in heard for update in updates if update.waiting]
    assert any(waiting.for_models for waiting in waits)  # of one visitor: the one whose load came second
    assert all(model.users == 0 for model in small_pool.loaded_models())


def test_ending_where_the_other_goes_on_is_a_difference(pool: ModelPool, planner: Planner, panes: list[Pane]) -> None:
    (whole,) = results_of(updates_of(pool, planner, panes[:1], tokens=40))
    assert whole.finished.reason == "end of text" and whole.finished.end is not None
    ended = replace(whole, tokens=whole.tokens[:3])
    difference = first_difference(ended, whole)
    assert difference is not None and difference.common_tokens == 3
    assert [choice.is_end for choice in difference.choices] == [True, False]
    cut = replace(ended, finished=replace(whole.finished, reason="length limit"))
    assert first_difference(cut, whole) is None


def test_both_panes_have_one_seed_which_the_results_report(
    pool: ModelPool, planner: Planner, panes: list[Pane]
) -> None:
    one, other = results_of(updates_of(pool, planner, panes, Sampling(), tokens=2))
    assert one.sampling == other.sampling and one.sampling.seed is not None
    assert seeded(Sampling(seed=7)).seed == 7


def test_models_that_fit_together_stay_together(pool: ModelPool, planner: Planner, panes: list[Pane]) -> None:
    assert residency(pool, planner, panes) == "together"
    list(updates_of(pool, planner, panes, tokens=1))
    updates = list(updates_of(pool, planner, panes, tokens=1))
    assert not any(update.loading is not None or update.unloaded for update in updates)


def test_few_cores_are_not_split() -> None:
    assert (usual_mode(1), usual_mode(2), usual_mode(16)) == ("in turn", "in turn", "at once")


def test_the_prompts_cover_what_quantization_harms() -> None:
    prompts = load_comparison_prompts()
    assert {prompt.kind for prompt in prompts} == set(get_args(ComparisonKind))
    assert len({prompt.title for prompt in prompts}) == len(prompts)
    assert all(prompt.text and prompt.look_for and len(prompt.title) <= 30 for prompt in prompts)
