"""What two answers differ in: the first different token, the table of figures, and the saved comparison."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from playground.chat.comparison import (
    ComparisonRow,
    MeasurementNoise,
    Mode,
    PaneResult,
    comparison_table,
    noise_of,
)
from playground.chat.comparison_export import (
    SavedComparison,
    SavedPane,
    comparison_as_json,
    comparison_as_markdown,
)
from playground.chat.conversation import Conversation
from playground.chat.first_difference import are_comparable, first_difference, why_no_difference
from playground.chat.template.message import Message
from playground.engine.protocol import UNKNOWN_ID, Alternative, DeviceMemory, Finished, FinishReason, Memory, Token
from playground.fit.plan import MemoryPlan, Part
from playground.llama.params import ContextParameters, Placement
from playground.llama.sampling_extras import Sampling
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.models.model_file import ModelFile
from tests.support.scripted_engine import TIMINGS

CONTEXT = ContextParameters(1024)
PLAN = MemoryPlan(CONTEXT, 100 << 20, 0, 20 << 20, 0, 10 << 20, 0, 5 << 20)
FOUR = Alternative(4, "4", math.log(0.75))
FIVE = Alternative(5, "5", math.log(0.2))


def token(chosen: Alternative, *others: Alternative) -> Token:
    top = tuple(sorted((chosen, *others), key=lambda alternative: -alternative.logprob))
    return Token(1, chosen.text, chosen.id, 1, None, 1, logprob=chosen.logprob, top=top)


def result(
    *tokens: Token,
    reason: FinishReason = "end of text",
    speed: float | None = 10.0,
    resident: int = 130 << 20,
    mode: Mode = "in turn",
    vocabulary: int = 10,
) -> PaneResult:
    answer = "".join(each.text for each in tokens)
    chat = Conversation("Be brief.").with_question("2+2?").with_reply(Message("assistant", answer))
    finished = Finished(1, reason, replace(TIMINGS, generation_speed=speed))
    return PaneResult(chat, finished, PLAN, Memory(resident, 0), tokens, Sampling(seed=7), mode, 0, vocabulary)


def row(figure: str, rows: tuple[ComparisonRow, ...]) -> ComparisonRow:
    return next(row for row in rows if row.figure == figure)


# --- the first difference ---


def test_each_model_gives_both_choices_a_probability() -> None:
    high, low = result(token(FOUR, FIVE)), result(token(replace(FIVE, logprob=math.log(0.5))))
    difference = first_difference(high, low)
    assert difference is not None and difference.common_tokens == 0
    four, five = difference.choices
    assert (four.text, five.text) == ("4", "5")
    assert four.own == pytest.approx(0.75) and four.other == pytest.approx(0.2)
    assert five.own == pytest.approx(0.5) and five.other is None


def test_the_token_that_ends_a_text_is_a_choice_too() -> None:
    end = Alternative(2, "<|im_end|>", math.log(0.9))
    ended = result(token(FOUR))
    ended = replace(ended, finished=replace(ended.finished, end=end, top=(end, FIVE)))
    difference = first_difference(ended, result(token(FOUR), token(FIVE, replace(end, logprob=math.log(0.1)))))
    assert difference is not None and (difference.common_tokens, difference.common_text) == (1, "4")
    first, second = difference.choices
    assert first.is_end and first.own == pytest.approx(0.9) and first.other == pytest.approx(0.2)
    assert not second.is_end and second.other == pytest.approx(0.1)


def test_a_reply_that_was_cut_off_does_not_differ_from_a_longer_one() -> None:
    short, long = result(token(FOUR), reason="length limit"), result(token(FOUR), token(FIVE))
    assert first_difference(short, long) is None
    reason = why_no_difference(short, long)
    assert (reason.reason, reason.common_tokens) == ("cut off", 1)


def test_tokens_of_different_vocabularies_are_not_compared() -> None:
    one, other = result(token(FOUR)), result(token(FIVE), vocabulary=11)
    assert first_difference(one, other) is None
    assert why_no_difference(one, other).reason == "different vocabularies"


def on_a_server(*pieces: tuple[str, float | None], top: tuple[Alternative, ...] = ()) -> PaneResult:
    """A server's answer: no numbers of tokens, and log-probabilities where they are given."""
    tokens = tuple(Token(1, text, UNKNOWN_ID, 1, None, None, logprob=share, top=top) for text, share in pieces)
    return replace(result(*tokens), plan=None, measured=None, vocabulary_size=None)


def test_with_a_server_tokens_are_compared_by_their_text() -> None:
    here = result(token(FOUR), token(FIVE, FOUR))
    there = on_a_server(("4", -0.1), ("4", -0.2), top=(replace(FIVE, id=UNKNOWN_ID), replace(FOUR, id=UNKNOWN_ID)))
    difference = first_difference(here, there)
    assert difference is not None and (difference.common_tokens, difference.common_text) == (1, "4")
    first, second = difference.choices
    assert first.own == pytest.approx(0.2) and first.other == pytest.approx(0.75)
    assert second.own == pytest.approx(math.exp(-0.2)) and second.other == pytest.approx(0.2)
    assert second.id is None


def test_parts_of_a_character_are_no_difference() -> None:
    here = result(token(Alternative(7, "", -0.1)), token(FOUR))
    assert first_difference(here, on_a_server(("\ufffd", -0.1), ("4", -0.1))) is None


def test_a_server_that_does_not_show_its_tokens_is_not_compared() -> None:
    here, there = result(token(FOUR)), on_a_server(("5", None))
    assert not are_comparable(here, there) and first_difference(here, there) is None
    assert why_no_difference(here, there).reason == "tokens not shown"


def test_what_a_server_does_not_send_is_unknown_in_the_table() -> None:
    rows = comparison_table([result(token(FOUR)), on_a_server(("4", None))])
    assert row("memory_planned", rows).values[1] is None and row("memory_measured", rows).values[1] is None
    assert row("memory_measured", rows).better is None


# --- the figures ---


def test_only_a_difference_beyond_the_noise_is_marked() -> None:
    noise = MeasurementNoise(generation_speed=0.1)
    assert row("generation_speed", comparison_table([result(speed=10.0), result(speed=9.2)], noise)).better is None
    assert row("generation_speed", comparison_table([result(speed=8.0), result(speed=10.0)], noise)).better == 1


def test_less_memory_is_better_and_more_tokens_are_not() -> None:
    rows = comparison_table([result(token(FOUR), resident=200 << 20), result(resident=100 << 20)])
    assert row("memory_measured", rows).better == 1
    assert row("memory_planned", rows).better is None  # the same plan
    assert row("tokens", rows).better is None and row("finish_reason", rows).better is None


def on_a_gpu() -> PaneResult:
    """Ten of 31 layers on CUDA0."""
    placement = Placement(("CUDA0",), 10)
    plan = replace(PLAN, context=replace(CONTEXT, placement=placement), layers=31, weights=60 << 20)
    plan = replace(plan, on_devices=(Part("weights", "CUDA0", 50 << 20), Part("kv_cache", "CUDA0", 7 << 20)))
    devices = (DeviceMemory("CUDA0", 57 << 20, 58 << 20, "CUDA", 10),)
    return replace(result(token(FOUR)), plan=plan, measured=Memory(90 << 20, 0, devices))


def test_one_level_on_the_gpu_and_on_the_cpu_is_compared_by_where_it_has_its_memory() -> None:
    rows = comparison_table([on_a_gpu(), result(token(FOUR))])
    assert row("ran_on", rows).texts == ("10 of 31 layers on CUDA0 (CUDA), the rest on the CPU", "the CPU")
    assert row("gpu_memory_planned", rows).values == (57 << 20, 0)
    assert row("gpu_memory_measured", rows).values == (58 << 20, 0)
    assert row("memory_measured", rows).better is None  # less of the one is more of the other
    without = {one.figure for one in comparison_table([result(token(FOUR))])}
    assert not without & {"ran_on", "gpu_memory_planned", "gpu_memory_measured"}


def test_speeds_of_answers_written_at_once_are_not_marked() -> None:
    rows = comparison_table([result(speed=1.0, mode="at once"), result(speed=9.0, mode="at once")])
    speed = row("generation_speed", rows)
    assert (speed.values, speed.better) == ((1.0, 9.0), None)


def test_values_read_in_their_unit_and_two_sizes_never_read_the_same() -> None:
    rows = comparison_table([result(token(FOUR), resident=(130 << 20) + 1), result(resident=130 << 20)])
    assert row("generation_speed", rows).texts == ("10.0 tok/s", "10.0 tok/s")
    assert row("tokens", rows).texts == ("512 tokens", "512 tokens")
    first, second = row("memory_measured", rows).texts
    assert first != second


def test_a_pane_without_an_answer_has_no_figures_and_no_rival() -> None:
    rows = comparison_table([result(), None])
    assert row("generation_speed", rows).values == (10.0, None)
    assert all(row.better is None for row in rows)


def test_measured_noise_is_never_below_the_usual() -> None:
    wide = noise_of([result(speed=10.0), result(speed=7.0)])
    assert wide.generation_speed == pytest.approx(0.3) and wide.is_measured
    assert noise_of([result(), result()]).generation_speed == MeasurementNoise().generation_speed


# --- saved ---


def saved(*panes: SavedPane) -> SavedComparison:
    processors = Processors(2, 2, 2, 2, None, "the cores")
    memory = MachineMemory(8 << 30, 4 << 30, None, "this computer's memory")
    versions = {"playground": "1", "llama-cpp-python": "2"}
    return SavedComparison(panes, Sampling(seed=7), 64, processors, memory, title="A test", versions=versions)


def pane(level: str, answer: PaneResult | None) -> SavedPane:
    path = Path("/secret/folder") / f"Tiny-{level}.gguf"
    file = ModelFile(path, (path,), "Tiny", level, 1234, "folder")
    chat = answer.conversation if answer else Conversation().with_question("2+2?")
    finished = ((len(chat.messages) - 1, answer.finished),) if answer else ()
    return SavedPane(file, CONTEXT, chat, answer, ("ab" * 32,), finished)


def test_every_reply_of_a_longer_chat_is_saved_with_its_own_figures() -> None:
    first, second = result(token(FOUR), speed=20.0), result(token(FIVE), speed=30.0)
    chat = first.conversation.with_question("And 2+3?").with_reply(Message("assistant", "5"))
    pane_record = replace(pane("Q8_0", second), conversation=chat, finished=((1, first.finished), (3, second.finished)))
    replies = json.loads(comparison_as_json(saved(pane_record)))["panes"][0]["replies"]
    assert [(reply["message"], reply["timings"]["generation_speed"]) for reply in replies] == [(1, 20.0), (3, 30.0)]
    page = comparison_as_markdown(saved(pane_record))
    assert page.index("20.0 tok/s ·") < page.index("2+3") < page.index("30.0 tok/s ·")


def test_json_holds_answers_figures_files_and_versions_but_no_folder() -> None:
    text = comparison_as_json(saved(pane("Q8_0", result(token(FOUR, FIVE))), pane("Q2_0", result(token(FIVE)))))
    data = json.loads(text)
    assert [one["messages"][-1]["content"] for one in data["panes"]] == ["4", "5"]
    assert data["panes"][0]["sha256"] == ["ab" * 32] and data["panes"][0]["files"] == ["Tiny-Q8_0.gguf"]
    assert data["panes"][0]["timings"]["generation_speed"] == 10.0
    assert data["first_difference"]["mine"]["own"] == pytest.approx(0.75)
    assert data["settings"]["seed"] == 7 and data["versions"]["llama-cpp-python"] == "2"
    assert "secret" not in text


def test_a_saved_comparison_names_the_device_its_backend_and_the_layers_there() -> None:
    of_both = saved(pane("Q8_0", on_a_gpu()), pane("Q4_0", result(token(FIVE))))
    on_gpu, on_cpu = json.loads(comparison_as_json(of_both))["panes"]
    (device,) = on_gpu["device_memory"]
    assert (on_gpu["device"], on_gpu["layers"], on_gpu["placement"]["gpu_layers"]) == ("CUDA0 + CPU", 31, 10)
    assert (device["backend"], device["layers"], device["planned"]) == ("CUDA", 10, 57 << 20)
    assert (on_cpu["device"], on_cpu["device_memory"]) == ("CPU", [])
    page = comparison_as_markdown(of_both)
    assert ", on 10 of 31 layers on CUDA0 (CUDA), the rest on the CPU" in page and ", on the CPU" in page


def test_markdown_reads_from_the_facts_to_both_answers() -> None:
    page = comparison_as_markdown(
        saved(pane("Q8_0", result(token(FOUR, FIVE), speed=20.0)), pane("Q2_0", result(token(FIVE))))
    )
    assert page.startswith("# A test\n") and "secret" not in page
    assert "| Generation speed | **20.0 tok/s** | 10.0 tok/s |" in page
    assert '- A wrote `"4"`: probability 75.00%; B’s choice: 20.00%' in page
    assert "# A: Tiny Q8_0" in page and "## You\n\n2+2?\n\n## Model\n\n4\n" in page


def test_a_pane_without_an_answer_is_saved_with_its_question() -> None:
    page = comparison_as_markdown(saved(pane("Q8_0", result(token(FOUR))), pane("Q2_0", None)))
    assert "# B: Tiny Q2_0" in page and "First difference" not in page


def disturbed(share: float | None, speed: float) -> PaneResult:
    fast = result(token(FOUR), speed=speed)
    return replace(fast, finished=replace(fast.finished, timings=replace(fast.finished.timings, core_share=share)))


@pytest.mark.parametrize("shares", [(0.5, 1.0), (1.0, 0.89), (0.3, 0.3)])
def test_disturbed_speeds_are_marked_and_none_of_them_wins(shares: tuple[float, float]) -> None:
    rows = comparison_table([disturbed(shares[0], 60.0), disturbed(shares[1], 10.0)])
    for figure in ("generation_speed", "prompt_speed", "time_to_first_token"):
        shown = row(figure, rows)
        assert shown.better is None
        assert ["(disturbed)" in text for text in shown.texts] == [share < 0.9 for share in shares]
    assert "disturbed" not in str(row("memory_measured", rows).texts)


@pytest.mark.parametrize("shares", [(1.0, 0.9), (None, 1.0), (None, None)])
def test_undisturbed_and_unknown_shares_still_have_a_winner(shares: tuple[float | None, float | None]) -> None:
    shown = row("generation_speed", comparison_table([disturbed(shares[0], 60.0), disturbed(shares[1], 10.0)]))
    assert (shown.better, shown.texts) == (0, ("60.0 tok/s", "10.0 tok/s"))
