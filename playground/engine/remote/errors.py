"""Errors of OpenAI-compatible servers, as sentences that name the server and say what to do.

A server may repeat in an error what it was sent, so the key is removed from its words.
"""

from __future__ import annotations

import re
from typing import Final

import httpx2

from playground.engine.remote.protocol import error_text
from playground.errors import PlaygroundError, RemoteProblem, RequestRefused
from playground.servers import RemoteServer
from playground.text_format import one_line

HTTP_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError)
_LONGEST_WORDS: Final = 200  # characters of a server's own words
_TOO_LONG: Final = re.compile(  # llama-cpp-python, vLLM, OpenAI; llama-server; SGLang
    r"context.?(length|window|size)|exceeds? the (available )?context|longer than the model", re.IGNORECASE
)
_NO_MODEL: Final = re.compile(r"model.*(not.?found|does not exist|not exist|unknown)", re.IGNORECASE)
_LATER: Final = "Try again later, or choose another model."


# --- no answer, or half of one ---


def describe_http_error(error: Exception, server: RemoteServer, silence_seconds: float) -> RemoteProblem:
    name = server.name
    if isinstance(error, httpx2.ConnectTimeout):
        return RemoteProblem(f"{name} did not answer in time at {server.url}.", _check_address(server))
    if isinstance(error, httpx2.TimeoutException):
        return RemoteProblem(
            f"{name} sent nothing for {silence_seconds:g} seconds, so the request was given up.", _LATER
        )
    if isinstance(error, httpx2.ConnectError):
        reason = _clean(str(error), server)
        if "SSL" in reason:
            return RemoteProblem(f"There is no secure connection to {server.url} ({reason}).", _check_address(server))
        return RemoteProblem(f"Nothing answers at {server.url}.", _check_address(server))
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return RemoteProblem(f"The address of {name}, {server.url}, cannot be used.", _check_address(server))
    return lost_connection(server)


def lost_connection(server: RemoteServer) -> RemoteProblem:
    return RemoteProblem(f"The connection to {server.name} broke in the middle of its answer.", "Ask again.")


def empty_stream(server: RemoteServer) -> RemoteProblem:
    """For a stream without a single chunk, which is how some servers report an error."""
    return RemoteProblem(
        f"{server.name} began an answer and ended it before the first word.",
        "The chat may be too long for its context: start a new one, or shorten the message.",
    )


def interrupted(server: RemoteServer) -> RemoteProblem:
    """For a stream that was closed properly without a reason: the server gave the reply up."""
    return RemoteProblem(
        f"{server.name} ended the reply before it was complete: it may serve one reply at a time.", "Ask again."
    )


def gave_up(server: RemoteServer, reason: str) -> RemoteProblem:
    """For a reason that is not the end of a text, such as a filter."""
    return RemoteProblem(
        f"{server.name} gave the reply up ({_clean(reason, server)}).", "Ask in other words, or ask another model."
    )


def failed_midway(server: RemoteServer, said: str) -> RemoteProblem:
    words = _clean(said, server)
    return RemoteProblem(f"{server.name} could not go on{f': {words}' if words else ''}.", _LATER)


def not_compatible(server: RemoteServer) -> RemoteProblem:
    return RemoteProblem(
        f"{server.url} answered, but not as an OpenAI-compatible server does.",
        "A proxy or a login page may be in between, or the address may lack /v1.",
    )


# --- a refusal ---


def describe_refusal(
    status: int, answer: object, retry_after: str, server: RemoteServer, model: str | None = None
) -> PlaygroundError:
    """The error for an HTTP status other than 200. answer: its JSON, or None; model: the one that was asked."""
    said = _clean(error_text(answer), server)
    words = f": {said}" if said else ""
    name = server.name
    if 300 <= status < 400:
        return RemoteProblem(
            f"{server.url} redirects to another address, which is not followed: the key would be sent there.",
            f"Give {name} the address that it redirects to.",
        )
    if status in (401, 403):
        if server.key is None:
            return RemoteProblem(f"{name} needs a key.", f"Set {server.key_variable} to it and start again.")
        return RemoteProblem(f"{name} does not accept the key.", f"Set {server.key_variable} to a valid one.")
    if is_too_long(said):
        return RequestRefused(
            f"This chat is longer than the context of {name}.", "Start a new chat, or shorten the message."
        )
    if model is not None and (status == 404 or is_unknown_model(said)):
        return RemoteProblem(f"{name} does not have the model {model}{words}.", "Choose another one from the list.")
    if status == 404:
        return RemoteProblem(f"There is no list of models at {server.url}.", _check_address(server))
    if status == 429:
        wait = f"{retry_after.strip()} seconds" if retry_after.strip().isdecimal() else "a while"
        return RemoteProblem(f"{name} has too many requests.", f"Try again in {wait}.")
    if status == 503:
        return RemoteProblem(f"{name} is loading or overloaded{words}.", "Try again in a while.")
    if status >= 500:
        return RemoteProblem(f"{name} has a problem of its own (error {status}{words}).", _LATER)
    return RemoteProblem(f"{name} refused the request (error {status}{words}).", "Change it, or ask its owner.")


def tools_refused(refusal: PlaygroundError) -> RemoteProblem:
    """The same refusal of a request with tools, which not every server takes."""
    return RemoteProblem(
        refusal.problem, "The tools may be the reason: switch them off, or start the server so that it takes tools."
    )


def is_too_long(said: str) -> bool:
    """Whether a server's words mean that the prompt does not fit into its context."""
    return bool(_TOO_LONG.search(said))


def is_unknown_model(said: str) -> bool:
    return bool(_NO_MODEL.search(said))


def _check_address(server: RemoteServer) -> str:
    return f"Is the server {server.name} running, and is its address right?"


def _clean(text: str, server: RemoteServer) -> str:
    """A server's words on one line, of bounded length and without the key."""
    if server.key is not None:
        text = text.replace(server.key.get_secret_value(), "…")
    return one_line(text, _LONGEST_WORDS).rstrip(".")
