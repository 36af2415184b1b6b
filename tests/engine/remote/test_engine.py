"""A server's model as an engine: the stand-in at its worst, and llama-cpp-python's own server running the starter."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.engine.protocol import UNKNOWN_ID, Event, Finished, Prefilled, Token
from playground.engine.remote.client import ServerClient
from playground.engine.remote.engine import RemoteEngine, RemoteReply
from playground.engine.remote.protocol import Chunk, RemoteModel, RemoteRequest
from playground.engine.remote.registry import FRESH_SECONDS, ServerRegistry
from playground.errors import PlaygroundError, RemoteProblem, RequestRefused
from playground.llama.sampling_extras import GREEDY, Sampling
from playground.servers import RemoteServer, read_server
from tests.support.server_process import ALIAS, ServerProcess
from tests.support.server_process import KEY as SERVER_KEY
from tests.support.server_stand_in import KEY, ServerStandIn, closed_port, piece

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}]


@pytest.fixture
def stand_in() -> Iterator[ServerStandIn]:
    with ServerStandIn() as server:
        yield server


@pytest.fixture
def server(stand_in: ServerStandIn) -> RemoteServer:
    return read_server("bench", stand_in.url, KEY)


def engine(server: RemoteServer, model: str, silence_seconds: float = 30) -> RemoteEngine:
    return RemoteEngine(ServerClient(server, silence_seconds), RemoteModel(server.name, model))


def reply(server: RemoteServer, model: str, alternatives: int = 0, max_tokens: int | None = 20) -> list[Event]:
    return list(engine(server, model).start_reply(RemoteRequest(QUESTION, GREEDY, max_tokens, alternatives)))


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token | Finished))


def tokens_of(events: list[Event]) -> list[Token]:
    return [event for event in events if isinstance(event, Token)]


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def wait_for_readers(server: str) -> None:
    """Returns when no reply of this server is read any more."""
    for thread in threading.enumerate():
        if thread.name == f"reply of {server}":
            thread.join(30)
            assert not thread.is_alive()


def refusal(server: RemoteServer, model: str) -> str:
    with pytest.raises(PlaygroundError) as caught:
        reply(server, model)
    return str(caught.value)


def test_a_character_that_the_servers_limit_cut_is_left_out(server: RemoteServer) -> None:
    assert text_of(reply(server, "cut in a character")) == "Hi "
    assert text_of(reply(server, "a character it cannot write")) == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("times", "speed"),
    [
        ([1.0] * 60, None),  # all at once
        ([1.0 + 0.0001 * number for number in range(60)], None),
        ([1.0, *[6.0] * 59], None),  # a first word, then all the rest
        ([1.0, 1.05, 1.1, 1.15, 1.2], None),  # over in a moment
        ([1.0 + 0.05 * number for number in range(61)], 20.0),
        ([1.0 + 0.001 * number for number in range(501)], 1000.0),
    ],
)
def test_a_speed_is_measured_only_where_tokens_were_seen_to_arrive(times: list[float], speed: float | None) -> None:
    reply = RemoteReply(0.0)
    tokens = [token for now in times for token in reply.add_chunk(Chunk.model_validate(piece("a")), now)]
    finish = reply.finish("end of text", times[-1], lambda text: len(text))
    assert finish.timings.generation_speed == pytest.approx(speed) and finish.timings.total_seconds == times[-1]
    assert speed is not None or all(token.tokens_per_second is None for token in tokens)


# --- what a server tells, and what it keeps to itself ---


def test_a_reply_of_a_server_that_tells_nothing_has_its_text_and_no_made_up_figures(server: RemoteServer) -> None:
    events = reply(server, "plain")
    assert text_of(events) == "Two and two is four."
    timings = finished(events).timings
    assert timings.time_to_first_token is not None
    unknown = (timings.queued_seconds, timings.prompt_tokens, timings.generated_tokens, timings.generation_speed)
    assert unknown == (None, None, None, None)
    assert finished(events).memory is None
    assert {token.id for token in tokens_of(events)} == {UNKNOWN_ID}


def test_what_the_server_counted_goes_before_what_was_counted_here(server: RemoteServer) -> None:
    timings = finished(reply(server, "counts at the end")).timings
    assert (timings.prompt_tokens, timings.cached_tokens, timings.generated_tokens) == (30, 12, 3)


def test_a_server_that_counts_as_it_goes_has_a_true_live_count(server: RemoteServer) -> None:
    events = reply(server, "counts as it goes")
    assert [token.count for token in tokens_of(events)] == [2, 7]
    assert [token.context_used for token in tokens_of(events)] == [32, 37]
    assert finished(events).timings.generated_tokens == 8
    assert isinstance(events[0], Prefilled) and events[0].total == 30


def timed_reply(times: list[float], **figures: float) -> tuple[list[Token], Finished]:
    """A reply that starts at 0, of a token at each of the times, the last with the figures that llama-server sends."""
    reply = RemoteReply(0.0)
    chunks = [piece("a") for _ in times]
    chunks[-1]["timings"] = {"prompt_n": 18, "cache_n": 12, "predicted_n": len(times), **figures}
    tokens = [
        token
        for now, chunk in zip(times, chunks, strict=True)
        for token in reply.add_chunk(Chunk.model_validate(chunk), now)
    ]
    return tokens, reply.finish("end of text", times[-1], len)


TWENTY_A_SECOND = [1.0 + 0.05 * number for number in range(61)]


@pytest.mark.parametrize(
    ("times", "reported", "speed"),
    [
        (TWENTY_A_SECOND, 21.5, 21.5),  # without the network's share
        (TWENTY_A_SECOND, 48_266.0, 20.0),
        (TWENTY_A_SECOND, 2.0, 20.0),
        ([1.0] * 60, 48_266.0, None),  # all at once
        ([1.0] * 60, 42.5, None),
        ([1.0, 1.05, 1.1], 42.5, None),  # over in a moment
    ],
)
def test_a_servers_own_speed_counts_where_what_was_seen_bears_it_out(
    times: list[float], reported: float, speed: float | None
) -> None:
    tokens, last = timed_reply(times, predicted_per_second=reported)
    assert last.timings.generation_speed == pytest.approx(speed)
    assert tokens[-1].tokens_per_second == pytest.approx(speed)
    assert (last.timings.prompt_tokens, last.timings.cached_tokens) == (30, 12)


@pytest.mark.parametrize(
    ("times", "reported", "speed"),
    [
        (TWENTY_A_SECOND, 250.0, 250.0),
        (TWENTY_A_SECOND, 9.0, None),  # 18 tokens would have taken 2 seconds, and the first came after 1
        ([1.0] * 60, 250.0, None),
    ],
)
def test_a_servers_prompt_speed_counts_only_if_its_time_was_there(
    times: list[float], reported: float, speed: float | None
) -> None:
    assert timed_reply(times, prompt_per_second=reported)[1].timings.prompt_speed == speed


def test_a_server_that_sends_all_at_once_has_counts_and_no_speed(server: RemoteServer) -> None:
    timings = finished(reply(server, "like llama-server")).timings
    assert (timings.generation_speed, timings.prompt_speed) == (None, None)
    assert (timings.prompt_tokens, timings.cached_tokens) == (30, 12)


def test_log_probabilities_come_with_their_tokens_where_the_server_gives_them(server: RemoteServer) -> None:
    events = reply(server, "scores", alternatives=5)
    assert [(token.text, token.logprob) for token in tokens_of(events)] == [("Four", -0.25), (".", -0.01)]
    assert [one.text for one in tokens_of(events)[0].top] == ["Four", "Five"]
    assert finished(events).timings.generated_tokens == 2


def test_thoughts_that_the_server_sets_apart_are_marked_as_thoughts(server: RemoteServer) -> None:
    assert text_of(reply(server, "thinks")) == "<think>Two and two.</think>Four."


def test_calls_that_the_server_sets_apart_are_marked_as_models_mark_them(
    stand_in: ServerStandIn, server: RemoteServer
) -> None:
    tools = [{"type": "function", "function": {"name": "calculator"}}]
    events = list(engine(server, "calls").start_reply(RemoteRequest(QUESTION, GREEDY, 20, tools=tools)))
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "847 * 36"}}\n</tool_call>'
    assert text_of(events) == f"<think>I compute.</think>{call}"
    assert stand_in.bodies[-1]["tools"] == tools and "top_k" in stand_in.bodies[-1]
    first = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    cut_off = '<tool_call>\n{"name": "weekday", "arguments": {"da'
    assert text_of(reply(server, "calls twice")) == first + cut_off
    assert "tools" not in stand_in.bodies[-1]


@pytest.mark.parametrize(
    ("model", "max_tokens", "reason"),
    [("plain", 20, "end of text"), ("full", 3, "length limit"), ("full", 20, "context full")],
)
def test_a_reply_ends_for_the_reason_that_the_server_gives(
    server: RemoteServer, model: str, max_tokens: int, reason: str
) -> None:
    assert finished(reply(server, model, max_tokens=max_tokens)).reason == reason


@pytest.mark.parametrize(("model", "text"), [("scores nonsense", "Four."), ("half a character", "?smile")])
def test_nonsense_beside_the_text_does_no_harm(server: RemoteServer, model: str, text: str) -> None:
    events = reply(server, model, alternatives=5)
    assert text_of(events) == text
    assert finished(events).timings.prompt_tokens is None
    text_of(events).encode()


# --- what is asked ---


def test_a_server_is_asked_for_what_the_person_chose(stand_in: ServerStandIn, server: RemoteServer) -> None:
    sampling = Sampling(0.5, top_k=7, top_p=0.8, min_p=0.1, repeat_penalty=1.2, seed=3)
    list(engine(server, "plain").start_reply(RemoteRequest(QUESTION, sampling, 99, 3)))
    (body,) = stand_in.bodies
    assert body["messages"] == QUESTION
    asked = {name: body[name] for name in ("temperature", "top_k", "top_p", "min_p", "seed", "max_tokens")}
    assert asked == {"temperature": 0.5, "top_k": 7, "top_p": 0.8, "min_p": 0.1, "seed": 3, "max_tokens": 99}
    assert body["repeat_penalty"] == body["repetition_penalty"] == 1.2
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


def test_a_server_that_refuses_extras_is_asked_without_them_from_then_on(
    stand_in: ServerStandIn, server: RemoteServer
) -> None:
    simple = engine(server, "simple")
    assert text_of(list(simple.start_reply(RemoteRequest(QUESTION, GREEDY, 20, 5)))) == "Two and two is four."
    first = len(stand_in.bodies)
    list(simple.start_reply(RemoteRequest(QUESTION, GREEDY, 20, 5)))
    assert len(stand_in.bodies) == first + 1
    assert "top_k" not in stand_in.bodies[-1] and "logprobs" not in stand_in.bodies[-1]


def test_a_server_that_stumbles_over_log_probabilities_answers_without_them(server: RemoteServer) -> None:
    events = reply(server, "stumbles over scores", alternatives=5)
    assert text_of(events) == "Two and two is four."
    assert {token.logprob for token in tokens_of(events)} == {None}


def test_a_server_that_pays_dearly_for_log_probabilities_is_not_asked(
    stand_in: ServerStandIn, server: RemoteServer
) -> None:
    slow = RemoteEngine(ServerClient(server), RemoteModel("bench", "plain", scores_slowly=True))
    list(slow.start_reply(RemoteRequest(QUESTION, GREEDY, 20, 5)))
    assert "logprobs" not in stand_in.bodies[0]


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("unknown", "bench does not have the model unknown"),
        ("too long", "This chat is longer than the context of bench. Start a new chat"),
        ("busy", "bench has too many requests. Try again in 7 seconds."),
        ("loading", "bench is loading or overloaded: Loading model."),
        ("broken", "bench has a problem of its own (error 500: Internal Server Error)."),
        ("picky", "bench refused the request (error 422: Value is not allowed)."),
        ("elsewhere", "redirects to another address"),
        ("login page", "answered, but not as an OpenAI-compatible server does"),
        ("not json", "answered, but not as an OpenAI-compatible server does"),
        ("not an object", "answered, but not as an OpenAI-compatible server does"),
        ("long line", "answered, but not as an OpenAI-compatible server does"),
        ("silent", "bench began an answer and ended it before the first word"),
        ("cut", "The connection to bench broke in the middle of its answer."),
        ("interrupted", "bench ended the reply before it was complete"),
        ("filters", "bench gave the reply up (content_filter)."),
        ("fails midway", "bench could not go on: GPU fell off"),
    ],
)
def test_what_goes_wrong_is_one_sentence_with_the_name_of_the_server(
    server: RemoteServer, model: str, said: str
) -> None:
    assert said in refusal(server, model)


@pytest.mark.parametrize("model", ["fails midway", "echoes"])
def test_a_server_that_repeats_the_key_does_not_show_it(server: RemoteServer, model: str) -> None:
    said = refusal(server, model)
    assert KEY not in said and "…" in said
    assert said.isprintable() and len(said) < 400


def test_what_was_written_before_a_break_is_kept(server: RemoteServer) -> None:
    stream = engine(server, "cut").start_reply(RemoteRequest(QUESTION, GREEDY, 20))
    assert isinstance(token := next(stream), Token) and token.text == "Well, "
    with pytest.raises(RemoteProblem):
        next(stream)


def test_a_wrong_key_and_a_missing_one_are_told_apart(stand_in: ServerStandIn) -> None:
    wrong, missing = read_server("bench", stand_in.url, "guess"), read_server("bench", stand_in.url)
    assert "does not accept the key" in refusal(wrong, "plain")
    assert refusal(missing, "plain").startswith("bench needs a key. Set PLAYGROUND_REMOTE_KEY_BENCH")


def test_a_key_is_sent_to_its_own_server_alone(stand_in: ServerStandIn) -> None:
    with ServerStandIn() as other:
        refusal(read_server("other", other.url), "plain")
        refusal(read_server("bench", stand_in.url, KEY), "elsewhere")
        assert not any("Authorization" in headers for _, headers, _ in other.asked)
    assert {headers["Authorization"] for _, headers, _ in stand_in.asked} == {f"Bearer {KEY}"}


def test_a_server_that_is_not_there_is_named_with_its_address() -> None:
    port = closed_port()
    said = refusal(read_server("attic", f"http://127.0.0.1:{port}"), "plain")
    assert said.startswith(f"Nothing answers at http://127.0.0.1:{port}/v1. Is the server attic running")


def test_a_server_that_falls_silent_is_given_up(server: RemoteServer) -> None:
    with pytest.raises(RemoteProblem, match=r"bench sent nothing for 0\.2 seconds, so the request was given up"):
        list(engine(server, "hangs", silence_seconds=0.2).start_reply(RemoteRequest(QUESTION, GREEDY, 20)))


def test_a_server_that_never_stops_is_cut_off_at_the_length_that_was_asked_for(
    stand_in: ServerStandIn, server: RemoteServer
) -> None:
    events = reply(server, "never stops", max_tokens=10)
    assert finished(events).reason == "length limit"
    assert len(tokens_of(events)) < 40
    assert stand_in.left.wait(30)


@pytest.mark.parametrize("model", ["hangs", "hangs before its answer"])
def test_closing_a_reply_closes_its_request(stand_in: ServerStandIn, server: RemoteServer, model: str) -> None:
    stream = engine(server, model).start_reply(RemoteRequest(QUESTION, GREEDY, 20))
    if model == "hangs":
        next(stream)
    else:
        while not stand_in.bodies:
            assert stream.events_within(0.01) == []
    stream.close()
    assert stand_in.left.wait(30)
    wait_for_readers("bench")


# --- a server of several workers ---


def workers(*urls: str) -> RemoteServer:
    return read_server("hall", "|".join(urls), KEY)


def test_replies_are_spread_over_the_workers_that_have_the_least_to_do(stand_in: ServerStandIn) -> None:
    with ServerStandIn() as second:
        hall = engine(workers(stand_in.url, second.url), "plain")
        hall_busy = RemoteEngine(hall._client, RemoteModel("hall", "hangs"))
        with hall_busy.start_reply(RemoteRequest(QUESTION, GREEDY, 20)) as stream:
            next(stream)
            for _ in range(3):
                assert text_of(list(hall.start_reply(RemoteRequest(QUESTION, GREEDY, 20)))) == "Two and two is four."
        wait_for_readers("hall")
        assert [len(one.bodies) for one in (stand_in, second)] in ([1, 3], [3, 1])
        for _ in range(2):
            list(hall.start_reply(RemoteRequest(QUESTION, GREEDY, 20)))
        assert min(len(one.bodies) for one in (stand_in, second)) >= 2


def test_a_worker_that_is_gone_is_passed_over(stand_in: ServerStandIn) -> None:
    hall = workers(f"http://127.0.0.1:{closed_port()}", stand_in.url)
    assert text_of(reply(hall, "plain")) == "Two and two is four."
    assert ServerClient(hall).list_models()


def test_a_server_is_unreachable_only_when_every_worker_is(stand_in: ServerStandIn) -> None:
    hall = workers(f"http://127.0.0.1:{closed_port()}", f"http://127.0.0.1:{closed_port()}")
    assert refusal(hall, "plain").startswith("Nothing answers at http://127.0.0.1:")
    assert "hall is loading or overloaded" in refusal(workers(stand_in.url, stand_in.url + "/"), "loading")


# --- lists of models ---


def test_lists_are_known_after_a_look_and_never_waited_for(stand_in: ServerStandIn, server: RemoteServer) -> None:
    stand_in.hold.clear()
    remotes = ServerRegistry([server])
    assert remotes.list_models() == ()  # the server has not answered: nobody waits for it
    stand_in.hold.set()
    assert remotes.wait_for_lists(30)
    assert RemoteModel("bench", "plain", 2048) in remotes.list_models()


def test_a_list_is_looked_up_again_only_after_a_while(stand_in: ServerStandIn, server: RemoteServer) -> None:
    now = [0.0]
    remotes = ServerRegistry([server], clock=lambda: now[0])
    for _ in range(3):
        remotes.list_servers()
        remotes.wait_for_lists(30)
    assert len(stand_in.asked) == 1
    now[0] += FRESH_SECONDS + 1
    remotes.list_servers()
    remotes.wait_for_lists(30)
    assert len(stand_in.asked) == 2


def test_a_server_that_has_gone_keeps_its_list_and_says_so(stand_in: ServerStandIn, server: RemoteServer) -> None:
    now = [0.0]
    remotes = ServerRegistry([server], clock=lambda: now[0])
    remotes.list_servers()
    remotes.wait_for_lists(30)
    stand_in.models = {"error": "gone"}
    now[0] += FRESH_SECONDS + 1
    remotes.list_servers()
    remotes.wait_for_lists(30)
    (offer,) = remotes.list_servers()
    assert offer.models and "not as an OpenAI-compatible server does" in str(offer.problem)


@pytest.mark.parametrize(
    "listed",
    [[], {"data": "all"}, "models", {"data": [{"id": 7}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 999}, None]}],
)
def test_a_list_of_nonsense_offers_nothing(stand_in: ServerStandIn, server: RemoteServer, listed: object) -> None:
    stand_in.models = listed
    remotes = ServerRegistry([server])
    remotes.list_servers()
    remotes.wait_for_lists(30)
    assert remotes.list_models() == ()


def test_an_entered_server_must_answer_and_replaces_none_of_the_settings(
    stand_in: ServerStandIn, server: RemoteServer
) -> None:
    remotes = ServerRegistry([server])
    with pytest.raises(RequestRefused, match="There is already a server Bench"):
        remotes.add_server(replace(server, name="Bench"))
    with pytest.raises(RemoteProblem, match="does not accept the key"):
        remotes.add_server(read_server("attic", stand_in.url, "guess"))
    assert {offer.server for offer in remotes.list_servers()} == {"bench"}
    assert RemoteModel("attic", "plain", 2048) in remotes.add_server(read_server("attic", stand_in.url, KEY))


# --- the real thing ---


@pytest.fixture(scope="module")
def real(starter: Path) -> Iterator[RemoteServer]:
    with ServerProcess(starter) as process:
        yield read_server("workshop", process.url, SERVER_KEY)


def test_a_real_server_lists_answers_and_counts(real: RemoteServer) -> None:
    line = ServerClient(real)
    (model,) = line.list_models()
    assert (model.id, model.level, model.scores_slowly) == (ALIAS, "on workshop", True)
    events = list(RemoteEngine(line, model).start_reply(RemoteRequest([QUESTION[1]], GREEDY, 24)))
    assert text_of(events) == "The answer to this classic math problem is 4."
    timings = finished(events).timings
    assert finished(events).reason == "end of text"
    assert timings.generated_tokens == len(tokens_of(events)) == 11
    assert timings.time_to_first_token and timings.total_seconds  # a speed only if its tokens came over a while
    assert timings.prompt_tokens is None  # this server does not tell it in a stream


def test_a_real_server_gives_log_probabilities_when_asked(real: RemoteServer) -> None:
    asked = RemoteEngine(ServerClient(real), RemoteModel("workshop", ALIAS))
    (first, *_) = tokens_of(list(asked.start_reply(RemoteRequest([QUESTION[1]], GREEDY, 1, 3))))
    assert first.text == first.top[0].text == "The"
    assert first.logprob is not None and first.logprob == first.top[0].logprob < 0


def test_a_real_server_refuses_a_wrong_key_and_a_chat_too_long_in_sentences(real: RemoteServer) -> None:
    assert "does not accept the key" in refusal(replace(real, key=read_server("x", real.url, "no").key), ALIAS)
    long = [{"role": "user", "content": "and so on " * 2000}]
    with pytest.raises(PlaygroundError, match="too long for its context"):
        list(engine(real, ALIAS).start_reply(RemoteRequest(long, GREEDY, 5)))


def test_a_real_server_serves_the_next_reply_after_one_was_cancelled(real: RemoteServer) -> None:
    stories = engine(real, ALIAS)
    with stories.start_reply(RemoteRequest([{"role": "user", "content": "Tell a long story."}], GREEDY, 900)) as stream:
        next(stream)
    assert text_of(list(stories.start_reply(RemoteRequest([QUESTION[1]], GREEDY, 24)))).endswith("is 4.")
