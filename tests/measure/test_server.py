"""A server's model beside the levels: its tool calls over the interface, its speed, and its row in the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from playground.engine.protocol import Alternative, Finished, Token
from playground.engine.remote.client import ServerClient
from playground.engine.remote.engine import RemoteEngine
from playground.engine.remote.protocol import RemoteModel, RemoteRequest
from playground.engine.timings import Timings
from playground.errors import RemoteProblem
from playground.measure.abilities.suites import run_suite
from playground.measure.answers.server_words import sent_tops
from playground.measure.export import export_markdown
from playground.measure.plan import MeasurementPlan
from playground.measure.results import What, result_rows
from playground.measure.server import server_speed
from playground.servers import read_server
from playground.steps import Steps
from playground.web.html.measure.results import table
from tests.measure.test_measurement_store import measured
from tests.support.scripted_engine import TIMINGS
from tests.support.server_stand_in import KEY, ServerStandIn


@pytest.fixture
def stand_in() -> Iterator[ServerStandIn]:
    with ServerStandIn() as server:
        yield server


def engine(stand_in: ServerStandIn, model: str) -> RemoteEngine:
    return RemoteEngine(ServerClient(read_server("box", stand_in.url, KEY), 30), RemoteModel("box", model))


def suite(engine: RemoteEngine, what: What) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    figures, details = Steps(run_suite(what, engine, 1, "Measuring", 20)).finish()
    return figures, details


def test_a_servers_calls_are_carried_out_and_its_answer_is_judged(stand_in: ServerStandIn) -> None:
    figures, (task,) = suite(engine(stand_in, "calls"), "tools")
    assert (figures["passed"], figures["wrong_calls"]) == (1, 0)
    assert task["returned"] == 30492 and task["final_answer"] == "It is 30492."
    first, second = stand_in.bodies
    assert first["temperature"] == 0 and len(first["tools"]) == len(second["tools"]) == 5
    assert first["chat_template_kwargs"] == second["chat_template_kwargs"] == {"enable_thinking": False}
    asked, call, returned = second["messages"]
    assert call["tool_calls"][0]["function"]["name"] == "calculator" and asked["role"] == "user"
    assert returned["tool_call_id"] == call["tool_calls"][0]["id"] and returned["content"] == "30492"


def test_a_server_that_calls_nothing_or_breaks_off_a_call_fails_the_task(stand_in: ServerStandIn) -> None:
    _, (task,) = suite(engine(stand_in, "plain"), "tools")
    assert task["problem"] == "no call, where calculator was due" and task["answer"] == "Two and two is four."
    suite(engine(stand_in, "plain"), "instructions")
    assert stand_in.bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False}
    figures, _ = suite(engine(stand_in, "calls twice"), "tools")
    assert (figures["passed"], figures["wrong_calls"]) == (0, 1)
    with pytest.raises(RemoteProblem):  # nothing was learnt of the model
        suite(engine(stand_in, "broken"), "instructions")


class _Paced:
    """Replies whose timings are given, one after the other."""

    name = "plain@box"

    def __init__(self, *timings: Timings) -> None:
        self._timings = iter(timings)

    def start_reply(self, _: RemoteRequest) -> _Paced:
        return self

    def __enter__(self) -> Iterator[Finished]:
        return iter([Finished(1, "length limit", next(self._timings))])

    def __exit__(self, *_: object) -> None: ...


def speeds_of(*timings: Timings) -> dict[str, Any]:
    found: dict[str, Any] = Steps(server_speed(cast(RemoteEngine, _Paced(*timings)), 64, 16, 2, "Measuring")).finish()
    return found


def test_a_servers_speed_is_the_mean_of_the_runs_after_the_first() -> None:
    of_pairs = [(5.0, 1.0), (300.0, 40.0), (500.0, 44.0)]  # what a run reads at, and what it writes at
    timings = [replace(TIMINGS, prompt_speed=pp, generation_speed=tg) for pp, tg in of_pairs for _ in range(2)]
    found = speeds_of(*timings)
    assert (found["pp_tokens_per_second"], found["tg_tokens_per_second"]) == (400, 42)
    assert found["tg_deviation"] == pytest.approx(2.828, abs=0.001)
    silent = speeds_of(*(replace(each, prompt_speed=None) for each in timings))
    assert silent["pp_tokens_per_second"] is None and silent["tg_tokens_per_second"] == 42
    with pytest.raises(RemoteProblem, match="all at once"):
        speeds_of(*[replace(TIMINGS, generation_speed=None)] * 6)


def test_its_row_has_a_dash_for_what_only_its_owner_knows() -> None:
    own = replace(
        measured("plain@box", 0, 0, "speed", tg_tokens_per_second=42.0), digest="", bits_per_weight=None, threads=0,
        device="the server box",
    )  # fmt: skip
    rows = result_rows([own, measured("Q4_0", 0.5, 0, "speed", tg_tokens_per_second=21.0)])
    assert [row.key.level for row in rows] == ["Q4_0", "plain@box"]
    shown = str(table(rows))
    assert "42.0 tok/s" in shown and "Speed on CPU, 2 threads; the server box." in shown and "0 MB" not in shown
    assert "| plain@box | \N{EN DASH} | \N{EN DASH} |" in export_markdown(rows)


def test_a_plan_with_a_servers_model_measures_that_too_where_it_can() -> None:
    plan = MeasurementPlan(
        "Fox-1B", ("Q4_0",), ("fidelity", "speed", "tools", "server"), reference="Q4_0", server_model="plain@box"
    )
    own = [item.what for item in plan.items() if plan.is_of_server(item)]
    assert own == ["speed", "tools"] and len(plan.items()) == 6
    without = replace(plan, whats=("speed", "tools"))
    assert not any(map(without.is_of_server, without.items()))


def written(*texts: str) -> list[Token]:
    """Each of them the most likely by far."""
    return [
        Token(1, text, -1, place, 10.0, None, -0.1, (Alternative(-1, text, -0.1),)) for place, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("answer", "texts", "places"),
    [
        ("Schön, is it?", ("Sch", "ön", ",", " is", " it?"), {0: "Sch", 3: "ön", 6: ",", 7: " is", 10: " it?"}),
        ("It is.", ("\n\n", "It", " is."), {0: "It", 2: " is."}),
        ("It is.", ("<think>", "Hm.", "</think>", "It is."), {}),
    ],
)
def test_what_a_server_sends_is_known_by_the_byte_of_its_answer(
    answer: str, texts: tuple[str, ...], places: dict[int, str]
) -> None:
    found = sent_tops(answer, written(*texts))
    assert {byte: top[0][1] for byte, top in found} == places


def test_a_divergence_from_a_server_is_marked_as_a_lower_bound() -> None:
    found = measured("Q4_0", 0.5, 0, "server", same_words=0.9, kl_at_least=0.0123, kl_at_least_error=0.001)
    rows = result_rows([found, measured("Q2_0", 0.2, 0, "server", same_words=0.5)])
    shown, text = str(table(rows)), export_markdown(rows)
    assert "<td>at least 0.0123 ± 0.0010</td>" in shown
    assert "| 90.0% | at least 0.0123 ± 0.0010 |" in text and "| 50.0% | \N{EN DASH} |" in text
