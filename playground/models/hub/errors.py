"""Turns the errors of huggingface_hub and its HTTP client into sentences, and says which are worth another attempt."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, errors

from playground.errors import HubProblem, HubUnreachable

RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})  # the same as in huggingface_hub
REQUEST_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL, errors.OfflineModeIsEnabled)  # what a request may raise
_LOG: Final = logging.getLogger(__name__)
_HERE_WORKS: Final = "Models on this computer work offline."
_LATER: Final = "Try again in a few minutes; what has been downloaded stays."
_RATELIMIT: Final = re.compile(r"r\s*=\s*0\b.*?t\s*=\s*(\d+)")  # as in `"api";r=0;t=55`: 0 left, 55 s to go


@dataclass(frozen=True)
class HubRequest:
    """What was requested, to be named in a sentence."""

    endpoint: str
    repo: str | None = None
    path: str | None = None
    with_token: bool = False

    @property
    def hub(self) -> str:
        is_public = self.endpoint == constants.HUGGINGFACE_CO_URL_HOME.rstrip("/")
        return "the Hugging Face Hub" if is_public else f"the Hub at {self.endpoint}"

    @property
    def repository_page(self) -> str:
        return f"{self.endpoint}/{self.repo}"


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in RETRIED_STATUSES
    return isinstance(error, (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError))


def requested_wait(error: Exception) -> int | None:
    """Seconds that the Hub asks to wait, by its `Retry-After` or `RateLimit` header; None if it does not say."""
    if not isinstance(error, errors.HfHubHTTPError):
        return None
    headers: Mapping[str, str] = error.response.headers
    after = headers.get("retry-after", "").strip()
    if after.isdecimal():
        return int(after)
    match = _RATELIMIT.search(headers.get("ratelimit", ""))
    return int(match[1]) if match else None


def describe_error(error: Exception, request: HubRequest) -> HubProblem:
    """The sentence for an error that ends a request."""
    if isinstance(error, errors.HfHubHTTPError):
        return _describe_refusal(error, request)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return offline_mode()
    host = _other_host(error, request)
    if isinstance(error, httpx2.ConnectTimeout) and host is None:
        return _no_connection(request)
    if isinstance(error, httpx2.TimeoutException):
        return HubProblem(f"No answer in time from {_sender(host, request)}.", _LATER)
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects)):
        return HubProblem(f"The address {request.endpoint!r} does not lead to a Hub ({error}).", "Check HF_ENDPOINT.")
    if isinstance(error, (httpx2.ReadError, httpx2.RemoteProtocolError)):
        return HubProblem(f"The connection to {_sender(host, request)} broke off several times.", _LATER)
    _LOG.info("No connection to %s: %r", host or request.endpoint, error)
    if host is not None:
        hub = request.hub[:1].upper() + request.hub[1:]
        return HubProblem(
            f"{hub} answered, but {host}, which sends its files, cannot be reached.",
            f"Check that this computer may connect to {host}: name service, proxy, firewall.",
        )
    return _no_connection(request)


def offline_mode() -> HubUnreachable:
    """What is said of the Hub where it must not be asked."""
    return HubUnreachable("Offline mode is on (HF_HUB_OFFLINE): the Hub is not asked.", _HERE_WORKS)


def _no_connection(request: HubRequest) -> HubUnreachable:
    return HubUnreachable(f"No connection to {request.hub}.", _HERE_WORKS)


def _other_host(error: Exception, request: HubRequest) -> str | None:
    """The host that failed, where the Hub had redirected to it; None for the Hub itself."""
    try:
        if isinstance(error, errors.HfHubHTTPError):
            return _host_beside(error.response.request.url, request)
        return _host_beside(error.request.url, request) if isinstance(error, httpx2.RequestError) else None
    except RuntimeError:  # the error belongs to no request
        return None


def _host_beside(address: httpx2.URL, request: HubRequest) -> str | None:
    host = address.netloc.decode("ascii", "replace")
    return host if host != urlsplit(request.endpoint).netloc else None


def _sender(host: str | None, request: HubRequest) -> str:
    """Who was to answer: the Hub, or the host to which it had redirected."""
    return request.hub if host is None else f"{host}, which sends the files of {request.hub}"


def describe_unusable_answer(request: HubRequest, address: httpx2.URL | None = None) -> HubProblem:
    """The sentence for an answer that is not what a Hub sends. address: where it came from in the end."""
    host = _host_beside(address, request) if address else None
    if host is not None:
        return HubProblem(
            f"{host}, to which {request.hub} led, answered with a page in place of the file.",
            "A proxy or a login page may be in between: open the repository's page in a browser and download a file "
            "there.",
        )
    return HubProblem(
        f"{request.endpoint} answered, but not as the Hub does.",
        "A proxy or a login page may be in between: open that address in a browser, or check HF_ENDPOINT.",
    )


def _describe_refusal(error: errors.HfHubHTTPError, request: HubRequest) -> HubProblem:
    status = error.response.status_code
    if (host := _other_host(error, request)) is not None and status != 429:
        sender = _sender(host, request)
        if status >= 500:
            return HubProblem(
                f"{sender}, has an internal problem (error {status}), after several attempts too.", _LATER
            )
        return HubProblem(
            f"{sender}, refused the request (error {status}).", "Open the repository again, and try again."
        )
    if isinstance(error, errors.GatedRepoError):
        return _gated(request)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubProblem(f"This version of {request.repo} is no longer on the Hub.", "Open the repository again.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubProblem(f"{request.repo} no longer has a file {request.path}.", "Open the repository again.")
    if isinstance(error, errors.DisabledRepoError):
        return HubProblem(f"The Hub has closed {request.repo}.", "Choose another repository of the model.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return HubProblem(
            f"There is no repository {request.repo} on the Hub, or it is private.",
            "Check the spelling. If it is private, set HF_TOKEN to a token that may read it.",
        )
    if status == 401:
        return HubProblem(
            "The Hub does not accept the access token of this computer.",
            f"Set HF_TOKEN to a valid one ({request.endpoint}/settings/tokens), or remove it.",
        )
    if status == 429:
        seconds = requested_wait(error)
        wait = "a few minutes" if seconds is None else f"{seconds} seconds" if seconds < 120 else _minutes(seconds)
        return HubProblem(
            "The Hub has had too many requests from here and asks to wait.",
            f"Try again in {wait}; what has been downloaded stays.",
        )
    if status >= 500:
        return HubProblem(f"The Hub has an internal problem (error {status}), after several attempts too.", _LATER)
    reason = (error.server_message or "no reason given")[:200]
    return HubProblem(f"The Hub refused the request (error {status}: {reason}).", "See the repository's page.")


def _minutes(seconds: int) -> str:
    return f"{-(-seconds // 60)} minutes"


def _gated(request: HubRequest) -> HubProblem:
    if request.with_token:
        return HubProblem(
            f"{request.repo} is only for people who accepted its licence, and this token's account has not.",
            f"Accept it at {request.repository_page} with that account, then try again.",
        )
    return HubProblem(
        f"{request.repo} is only for people who accepted its licence.",
        f"Accept it at {request.repository_page}, then set HF_TOKEN to a token of that account "
        f"({request.endpoint}/settings/tokens) and start again.",
    )
