"""What the playground uses of Gradio beyond its documentation is checked when the page is built."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import gradio as gr
import pytest
from gradio import networking, utils
from gradio.state_holder import SessionState

from playground.errors import PlaygroundError
from playground.web.gradio_private import (
    WRITTEN_FOR,
    check_gradio,
    describe_no_sessions,
    keep_rows_of_shut_tabs,
    repeat_nothing_at_the_end,
    send_updates_whole,
    spare_outputs_that_stay,
    wait_for_a_slow_start,
)
from playground.web.waiting_loop import WaitingLoop


def a_page() -> gr.Blocks:
    page: gr.Blocks
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Button().click(lambda: None)
    return page


def test_the_installed_gradio_has_all_that_is_used() -> None:
    assert gr.__version__.startswith(f"{WRITTEN_FOR}.")
    check_gradio(a_page())


def test_gradio_is_imported_without_reading_the_source_of_its_components() -> None:
    program = "import playground.web, inspect; inspect.getfile = None; import gradio"  # by which it finds the source
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def lose_a_queue_attribute(page: gr.Blocks) -> None:
    del page._queue.event_ids_to_events


def lose_a_page_attribute(page: gr.Blocks) -> None:
    del page.space_id


def lose_an_event_attribute(page: gr.Blocks) -> None:
    for event in page.fns.values():
        del event.show_progress_on


@pytest.mark.parametrize(
    ("lose", "name"),
    [
        (lose_a_queue_attribute, "Blocks._queue.event_ids_to_events"),
        (lose_a_page_attribute, "Blocks.space_id"),
        (lose_an_event_attribute, "BlockFunction.show_progress_on"),
    ],
)
def test_a_gradio_without_one_of_them_is_refused_with_the_version_that_has_it(
    lose: Callable[[gr.Blocks], None], name: str
) -> None:
    page = a_page()
    lose(page)
    with pytest.raises(PlaygroundError) as refusal:
        check_gradio(page)
    said = str(refusal.value)
    assert f"written for Gradio {WRITTEN_FOR}" in said and gr.__version__ in said and f"`{name}`" in said
    assert f"gradio=={WRITTEN_FOR}.*" in said


def test_a_message_holds_an_update_whole_and_a_text_as_what_was_added() -> None:
    send_updates_whole()
    send_updates_whole()  # of a second page
    shown, nothing = {"__type__": "update", "visible": True}, {"__type__": "update"}
    diff: Callable[[object, object], list[object]] = utils.diff
    assert diff(shown, nothing) == [["replace", [], nothing]]
    assert diff(shown, dict(shown)) == []
    assert diff("Well, ", "Well, here") == [["append", [], "here"]]


def test_an_update_without_rows_leaves_those_of_a_list_as_they_are() -> None:
    keep_rows_of_shut_tabs()
    keep_rows_of_shut_tabs()  # of a second page
    with gr.Blocks(analytics_enabled=False) as page:
        shown = gr.HTML("", html_template="${rows}", rows="<p>one</p>")
        gr.Button().click(lambda: gr.skip(), None, shown)
        gr.Button().click(lambda: {shown: gr.HTML(visible=False)}, None, shown)
        gr.Button().click(lambda: {shown: gr.HTML(rows="<p>two</p>")}, None, shown)

    def sent(number: int) -> dict[str, object]:
        event = page.fns[number]
        answer = event.fn() if event.fn else None
        update = asyncio.run(page.postprocess_data(event, answer, None))[0]
        assert isinstance(update, dict)
        return {name: value for name, value in update.items() if name != "__type__"}

    assert [sent(0), sent(1), sent(2)] == [{}, {"visible": False}, {"props": {"rows": "<p>two</p>"}}]


def test_an_output_that_a_step_does_not_change_is_not_made_anew() -> None:
    spare_outputs_that_stay()
    spare_outputs_that_stay()  # of a second page
    with gr.Blocks(analytics_enabled=False) as page:
        kept, told, shown, hidden = gr.State(), gr.State("before"), gr.Textbox("before"), gr.Button("before")
        outputs = [kept, told, shown, hidden]
        gr.Button().click(lambda: {told: "now", shown: "now"}, None, outputs)
        gr.Button().click(lambda: {hidden: gr.Button(visible=False), shown: gr.skip()}, None, outputs)
        gr.Button().click(lambda: {shown: "alone"}, None, outputs)
        gr.Button().click(lambda: {hidden: gr.skip()}, None, outputs)

    nothing = {"__type__": "update"}
    expected = [
        [None, None, "now", nothing],
        [None, None, nothing, {"__type__": "update", "visible": False}],
        [None, None, "alone", nothing],
        [None, None, nothing, nothing],
    ]
    for number, sent in enumerate(expected):
        state = SessionState(page)
        event = page.fns[number]
        assert event.fn
        assert asyncio.run(page.postprocess_data(event, event.fn(), state)) == sent
        assert state[told._id] == ("now" if number == 0 else "before")
        assert state[shown._id] is shown
        assert (state[hidden._id] is hidden) == (number != 1)
        usual = getattr(gr.Blocks.postprocess_data, "__wrapped__")  # noqa: B009
        assert asyncio.run(usual(page, event, event.fn(), SessionState(page))) == sent


def test_the_end_of_an_event_repeats_its_last_update_to_programs_alone() -> None:
    repeat_nothing_at_the_end()
    repeat_nothing_at_the_end()  # of a second page
    with gr.Blocks(analytics_enabled=False) as page:
        kept, shown = gr.State(), gr.Textbox()
        gr.Button().click(lambda: None, None, [kept, shown], api_visibility="private")
        gr.Button().click(lambda: None, None, [kept, shown])

    def sent(number: int, *, final: bool) -> list[object]:
        data = [None, None if final else "Hello"]
        diffs: list[object] = page.handle_streaming_diffs(page.fns[number], data, "a session", "a run", final=final)
        return diffs

    assert sent(0, final=False) == [None, "Hello"]
    assert sent(0, final=True) == [None, {"__type__": "update"}]
    assert sent(1, final=False) == sent(1, final=True) == [None, "Hello"]


def test_a_page_is_described_and_no_session_of_it() -> None:
    describe_no_sessions()
    describe_no_sessions()  # of a second page
    page = a_page()
    assert [part["type"] for part in page.get_config_file()["components"]] == ["button"]
    assert list(SessionState(page).components) == []


async def cycles_of_the_event_loop(count: int = 1000) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_waiting_loop_looks_only_when_there_is_something_to_do() -> None:
    events: list[str] = []
    looks: list[int] = []
    ended: list[bool] = []

    async def look_forever() -> None:
        try:
            while True:
                looks.append(len(events))
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    async def idle_then_busy() -> int:
        waiting = WaitingLoop(look_forever, lambda: not events)
        task = asyncio.create_task(waiting.run())
        await cycles_of_the_event_loop()
        idle_looks = len(looks)
        events.append("a click")
        waiting.wake()
        await cycles_of_the_event_loop()
        task.cancel()
        await asyncio.wait([task])
        return idle_looks

    assert asyncio.run(idle_then_busy()) == 1
    assert looks.count(1) > 100 and ended == [True]


def test_a_start_on_a_busy_computer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((False, False, True))
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: next(answers))
    wait_for_a_slow_start()
    assert networking.url_ok("http://127.0.0.1:9/")
