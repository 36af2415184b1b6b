"""What two answers differ in: where they part, which figure is better, and all of it on paper."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from playground.chat.comparison import DifferenceRow, Mode, PaneResult, Spread, differences, spread_of
from playground.chat.comparison_export import (
    SavedComparison,
    SavedPane,
    comparison_as_json,
    comparison_as_markdown,
)
from playground.chat.conversation import Conversation
from playground.chat.first_difference import comparable, first_difference
from playground.chat.template.render import Message
from playground.engine.protocol import UNKNOWN_ID, Alternative, Finished, FinishReason, Memory, Sampling, Token
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.models.file_records import FileChecksums
from playground.models.library import ModelFile
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
    talk = Conversation("Be brief.").ask("2+2?").answered(Message("assistant", answer))
    finished = Finished(1, reason, replace(TIMINGS, generation_speed=speed))
    return PaneResult(talk, finished, PLAN, Memory(resident, 0), tokens, Sampling(seed=7), mode, 0, vocabulary)


def row(figure: str, rows: tuple[DifferenceRow, ...]) -> DifferenceRow:
    return next(row for row in rows if row.figure == figure)


# --- where they part ---


def test_each_side_tells_how_probable_it_held_its_own_choice_and_the_others() -> None:
    high, low = result(token(FOUR, FIVE)), result(token(replace(FIVE, logprob=math.log(0.5))))
    parting = first_difference(high, low)
    assert parting is not None and parting.place == 0 and (parting.mine.text, parting.theirs.text) == ("4", "5")
    assert parting.mine.own == pytest.approx(0.75) and parting.mine.other == pytest.approx(0.2)
    assert parting.theirs.own == pytest.approx(0.5) and parting.theirs.other is None


def test_the_token_that_ends_a_text_is_a_choice_too() -> None:
    end = Alternative(2, "<|im_end|>", math.log(0.9))
    ended = result(token(FOUR))
    ended = replace(ended, finished=replace(ended.finished, end=end, top=(end, FIVE)))
    parting = first_difference(ended, result(token(FOUR), token(FIVE, replace(end, logprob=math.log(0.1)))))
    assert parting is not None and parting.place == 1 and parting.before == "4"
    assert parting.mine.ends and parting.mine.own == pytest.approx(0.9) and parting.mine.other == pytest.approx(0.2)
    assert not parting.theirs.ends and parting.theirs.other == pytest.approx(0.1)


def test_a_reply_that_was_cut_off_does_not_part_from_one_that_went_on() -> None:
    assert first_difference(result(token(FOUR), reason="length limit"), result(token(FOUR), token(FIVE))) is None


def test_tokens_of_different_vocabularies_are_not_compared() -> None:
    assert first_difference(result(token(FOUR)), result(token(FIVE), vocabulary=11)) is None


def on_a_server(*pieces: tuple[str, float | None], top: tuple[Alternative, ...] = ()) -> PaneResult:
    """A server's answer: no numbers of tokens, and log-probabilities where they are given."""
    tokens = tuple(Token(1, text, UNKNOWN_ID, 1, None, None, logprob=share, top=top) for text, share in pieces)
    return replace(result(*tokens), plan=None, measured=None, vocabulary_size=None)


def test_beside_a_server_tokens_are_compared_by_their_text() -> None:
    here = result(token(FOUR), token(FIVE, FOUR))
    there = on_a_server(("4", -0.1), ("4", -0.2), top=(replace(FIVE, id=UNKNOWN_ID), replace(FOUR, id=UNKNOWN_ID)))
    parting = first_difference(here, there)
    assert parting is not None and (parting.place, parting.before) == (1, "4")
    assert parting.mine.own == pytest.approx(0.2) and parting.mine.other == pytest.approx(0.75)
    assert parting.theirs.own == pytest.approx(math.exp(-0.2)) and parting.theirs.other == pytest.approx(0.2)
    assert parting.theirs.id is None


def test_parts_of_a_character_do_not_part_two_answers() -> None:
    here = result(token(Alternative(7, "", -0.1)), token(FOUR))
    assert first_difference(here, on_a_server(("\ufffd", -0.1), ("4", -0.1))) is None


def test_of_a_server_that_does_not_show_its_tokens_nothing_is_said() -> None:
    here, there = result(token(FOUR)), on_a_server(("5", None))
    assert not comparable(here, there) and first_difference(here, there) is None


def test_what_a_server_keeps_to_itself_is_unknown_in_the_figures() -> None:
    rows = differences([result(token(FOUR)), on_a_server(("4", None))])
    assert row("memory_planned", rows).values[1] is None and row("memory_measured", rows).values[1] is None
    assert row("memory_measured", rows).better is None


# --- the figures ---


def test_a_difference_within_the_spread_is_not_marked_and_one_beyond_it_is() -> None:
    spread = Spread(generation_speed=0.1)
    assert row("generation_speed", differences([result(speed=10.0), result(speed=9.2)], spread)).better is None
    assert row("generation_speed", differences([result(speed=8.0), result(speed=10.0)], spread)).better == 1


def test_less_memory_is_better_and_more_tokens_are_not() -> None:
    rows = differences([result(token(FOUR), resident=200 << 20), result(resident=100 << 20)])
    assert row("memory_measured", rows).better == 1
    assert row("memory_planned", rows).better is None  # the same plan
    assert row("tokens", rows).better is None and row("finish_reason", rows).better is None


def test_speeds_made_at_once_are_not_marked() -> None:
    rows = differences([result(speed=1.0, mode="at once"), result(speed=9.0, mode="at once")])
    assert row("generation_speed", rows) == DifferenceRow("generation_speed", (1.0, 9.0), None)


def test_a_pane_without_an_answer_has_no_figures_and_makes_the_other_no_better() -> None:
    rows = differences([result(), None])
    assert row("generation_speed", rows).values == (10.0, None)
    assert all(row.better is None for row in rows)


def test_a_control_widens_what_counts_as_chance_and_never_narrows_it() -> None:
    wide = spread_of([result(speed=10.0), result(speed=7.0)])
    assert wide.generation_speed == pytest.approx(0.3) and wide.is_measured
    assert spread_of([result(), result()]).generation_speed == Spread().generation_speed


# --- on paper ---


def record(*panes: SavedPane) -> SavedComparison:
    processors = Processors(2, 2, 2, 2, None, "the cores")
    memory = MachineMemory(8 << 30, 4 << 30, None, "this computer's memory")
    versions = {"playground": "1", "llama-cpp-python": "2"}
    return SavedComparison(panes, Sampling(seed=7), 64, processors, memory, title="A test", versions=versions)


def pane(level: str, answer: PaneResult | None, failure: str = "") -> SavedPane:
    path = Path("/secret/folder") / f"Tiny-{level}.gguf"
    file = ModelFile(path, (path,), "Tiny", level, 1234, "folder")
    talk = answer.conversation if answer else Conversation().ask("2+2?")
    ends = ((len(talk.messages) - 1, answer.finished),) if answer else ()
    return SavedPane(file, CONTEXT, talk, answer, failure, ("ab" * 32,), ends)


def test_every_reply_of_a_longer_talk_is_saved_with_its_own_figures() -> None:
    first, second = result(token(FOUR), speed=20.0), result(token(FIVE), speed=30.0)
    talk = first.conversation.ask("And 2+3?").answered(Message("assistant", "5"))
    pane_record = replace(pane("Q8_0", second), conversation=talk, ends=((1, first.finished), (3, second.finished)))
    replies = json.loads(comparison_as_json(record(pane_record)))["panes"][0]["replies"]
    assert [(reply["message"], reply["timings"]["generation_speed"]) for reply in replies] == [(1, 20.0), (3, 30.0)]
    page = comparison_as_markdown(record(pane_record))
    assert page.index("20.0 tok") < page.index("2+3") < page.index("30.0 tok")


def test_json_holds_answers_figures_bytes_and_versions_and_no_folder_of_this_computer() -> None:
    text = comparison_as_json(record(pane("Q8_0", result(token(FOUR, FIVE))), pane("Q2_0", result(token(FIVE)))))
    data = json.loads(text)
    assert [one["messages"][-1]["content"] for one in data["panes"]] == ["4", "5"]
    assert data["panes"][0]["sha256"] == ["ab" * 32] and data["panes"][0]["files"] == ["Tiny-Q8_0.gguf"]
    assert data["panes"][0]["timings"]["generation_speed"] == 10.0
    assert data["first_difference"]["mine"]["own"] == pytest.approx(0.75)
    assert data["settings"]["seed"] == 7 and data["versions"]["llama-cpp-python"] == "2"
    assert "secret" not in text


def test_markdown_reads_from_the_facts_to_both_answers() -> None:
    page = comparison_as_markdown(
        record(pane("Q8_0", result(token(FOUR, FIVE), speed=20.0)), pane("Q2_0", result(token(FIVE))))
    )
    assert page.startswith("# A test\n") and "secret" not in page
    assert "| Generation, tokens per second | **20.0** | 10.0 |" in page
    assert '- A wrote `"4"`: probability 75.00%; what B chose: 20.00%' in page
    assert "# A: Tiny Q8_0" in page and "## You\n\n2+2?\n\n## Model\n\n4\n" in page


def test_a_side_that_failed_is_written_down_with_its_reason() -> None:
    page = comparison_as_markdown(record(pane("Q8_0", result(token(FOUR))), pane("Q2_0", None, "It does not fit.")))
    assert "*It does not fit.*" in page and "Where they part" not in page


# --- the bytes ---


def test_digests_are_computed_once_and_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"abc")
    file = ModelFile(path, (path,), "a", "Q8_0", 3, "folder")
    digests = FileChecksums(tmp_path / "memory" / "digests.json")
    assert digests.known_checksums(file) is None
    assert list(digests.compute_checksums([file, file])) == [1.0]
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert FileChecksums(tmp_path / "memory" / "digests.json").known_checksums(file) == (abc,)
    assert list(digests.compute_checksums([file])) == []
    path.write_bytes(b"abcd")
    assert digests.known_checksums(file) is None


def test_a_digest_that_cannot_be_kept_is_known_until_the_playground_ends(tmp_path: Path) -> None:
    path, in_the_way = tmp_path / "a.gguf", tmp_path / "file"
    path.write_bytes(b"abc")
    in_the_way.touch()
    file = ModelFile(path, (path,), "a", "Q8_0", 3, "folder")
    digests = FileChecksums(in_the_way / "digests.json")
    assert list(digests.compute_checksums([file])) == [1.0]
    assert digests.known_checksums(file) is not None


def test_a_damaged_memory_of_digests_costs_time_only(tmp_path: Path) -> None:
    path, memory = tmp_path / "a.gguf", tmp_path / "digests.json"
    path.write_bytes(b"abc")
    memory.write_text('{"half')
    file = ModelFile(path, (path,), "a", "Q8_0", 3, "folder")
    digests = FileChecksums(memory)
    list(digests.compute_checksums([file]))
    assert digests.known_checksums(file)
