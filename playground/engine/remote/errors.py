"""What went wrong between here and an OpenAI-compatible server, as sentences that name the server and say what to do.

Reads errors and refusals; asks nothing. A server may repeat in an error what it was sent, so the key is struck out of
whatever it says.
"""

from __future__ import annotations

import re
from typing import Final

import httpx2

from playground.engine.remote.protocol import said_by
from playground.errors import PlaygroundError, RemoteProblem, RequestRefused
from playground.servers import RemoteServer

FAULTS: Final = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError)
_MOST_SAID: Final = 200  # characters of a server's own words
_TOO_LONG: Final = re.compile(  # llama-cpp-python, vLLM, OpenAI; llama-server; SGLang
    r"context.?(length|window|size)|exceeds? the (available )?context|longer than the model", re.IGNORECASE
)
_NO_MODEL: Final = re.compile(r"model.*(not.?found|does not exist|not exist|unknown)", re.IGNORECASE)
_LATER: Final = "Try again in a while, or choose another model."


def describe_fault(error: Exception, server: RemoteServer, silence_seconds: float) -> RemoteProblem:
    """The sentence for a request that brought no answer, or half of one."""
    name = server.name
    if isinstance(error, httpx2.ConnectTimeout):
        return RemoteProblem(f"{name} at {server.url} cannot be reached in time.", _check(server))
    if isinstance(error, httpx2.TimeoutException):
        return RemoteProblem(f"{name} has said nothing for {silence_seconds:g} seconds and was given up.", _LATER)
    if isinstance(error, httpx2.ConnectError):
        why = _clean(str(error), server) or type(error).__name__
        return RemoteProblem(f"{name} at {server.url} cannot be reached ({why}).", _check(server))
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return RemoteProblem(f"The address of {name}, {server.url}, leads nowhere.", _check(server))
    return broken_off(server)


def broken_off(server: RemoteServer) -> RemoteProblem:
    return RemoteProblem(f"The connection to {server.name} broke off in the middle of its answer.", "Ask again.")


def no_first_word(server: RemoteServer) -> RemoteProblem:
    """For a stream without a single piece, which is how some servers say that they failed."""
    return RemoteProblem(
        f"{server.name} began an answer and ended it before the first word.",
        "The chat may be too long for its context: start a new one, or shorten the message.",
    )


def cut_short(server: RemoteServer) -> RemoteProblem:
    """For a stream that was closed in good order without a reason: the server gave the reply up."""
    return RemoteProblem(
        f"{server.name} ended the reply before it was whole: it may serve one reply at a time.", "Ask again."
    )


def given_up(server: RemoteServer, reason: str) -> RemoteProblem:
    """For a reason that is no end of a text, such as a filter."""
    return RemoteProblem(
        f"{server.name} gave the reply up ({_clean(reason, server)}).", "Ask in other words, or ask another model."
    )


def failed_midway(server: RemoteServer, said: str) -> RemoteProblem:
    words = _clean(said, server)
    return RemoteProblem(f"{server.name} could not go on{f': {words}' if words else ''}.", _LATER)


def odd_answer(server: RemoteServer) -> RemoteProblem:
    return RemoteProblem(
        f"{server.url} answered, but not as an OpenAI-compatible server does.",
        "A proxy or a login page may be in between, or the address may lack /v1.",
    )


def describe_refusal(
    status: int, answer: object, retry_after: str, server: RemoteServer, model: str | None = None
) -> PlaygroundError:
    """The sentence for an answer that is an error. answer: its JSON, if it is any; model: the one asked for."""
    said = _clean(said_by(answer), server)
    words = f": {said}" if said else ""
    if 300 <= status < 400:
        return RemoteProblem(
            f"{server.url} points to another address, and the playground does not follow: the key would go along.",
            f"Give {server.name} the address that it points to.",
        )
    if status in (401, 403):
        return _no_entry(server)
    if is_too_long(said):
        return RequestRefused(
            f"This chat is longer than {server.name} takes for one context.",
            "Start a new chat, or shorten the message.",
        )
    if model is not None and (status == 404 or _NO_MODEL.search(said)):
        return RemoteProblem(
            f"{server.name} has no model {model} (any more){words}.", "Choose another one from the list."
        )
    if status == 404:
        return RemoteProblem(f"There is no list of models at {server.url}.", _check(server))
    if status == 429:
        wait = f"{retry_after.strip()} seconds" if retry_after.strip().isdecimal() else "a while"
        return RemoteProblem(f"{server.name} has more requests than it takes.", f"Try again in {wait}.")
    if status == 503:
        return RemoteProblem(f"{server.name} is loading or overloaded{words}.", "Try again in a while.")
    if status >= 500:
        return RemoteProblem(f"{server.name} has trouble of its own (error {status}{words}).", _LATER)
    return RemoteProblem(f"{server.name} refused the request (error {status}{words}).", "Change it, or ask its owner.")


def is_too_long(said: str) -> bool:
    """Whether a server's words mean that the prompt does not fit into its context."""
    return bool(_TOO_LONG.search(said))


def names_no_model(said: str) -> bool:
    return bool(_NO_MODEL.search(said))


def _no_entry(server: RemoteServer) -> RemoteProblem:
    if server.key is None:
        return RemoteProblem(f"{server.name} wants a key.", f"Set {server.key_variable} to it and start again.")
    return RemoteProblem(
        f"{server.name} does not accept the key that it was sent.", f"Set {server.key_variable} to a valid one."
    )


def _check(server: RemoteServer) -> str:
    return f"Check the address, and whether the server {server.name} runs."


def _clean(text: str, server: RemoteServer) -> str:
    """A server's words on one line, of bounded length and without the key."""
    if server.key is not None:
        text = text.replace(server.key.get_secret_value(), "…")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return (text if len(text) <= _MOST_SAID else text[:_MOST_SAID] + " …").rstrip(".")
