"""What went wrong between here and the Hugging Face Hub, as sentences; and what is worth trying again.

Reads the errors of huggingface_hub and of its HTTP client; asks nothing itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx2
from huggingface_hub import errors

from playground.errors import HubProblem

WORTH_RETRYING: Final = frozenset({408, 429, 500, 502, 503, 504})  # as huggingface_hub has it
FAULTS: Final = (httpx2.HTTPError, httpx2.InvalidURL, errors.OfflineModeIsEnabled)  # what a request may raise
_LATER: Final = "Try again in a few minutes; what has been downloaded stays."
_RATELIMIT: Final = re.compile(r"r\s*=\s*0\b.*?t\s*=\s*(\d+)")  # as in `"api";r=0;t=55`: 0 left, 55 s to go


@dataclass(frozen=True)
class HubRequest:
    """What was being asked for, to be named in a sentence."""

    endpoint: str
    repo: str | None = None
    path: str | None = None
    with_token: bool = False

    @property
    def page(self) -> str:
        return f"{self.endpoint}/{self.repo}"


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in WORTH_RETRYING
    return isinstance(error, (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError))


def seconds_told(error: Exception) -> int | None:
    """How long the Hub asks to wait, from its `Retry-After` or `RateLimit` header; None where it does not say."""
    if not isinstance(error, errors.HfHubHTTPError):
        return None
    headers: Mapping[str, str] = error.response.headers
    after = headers.get("retry-after", "").strip()
    if after.isdecimal():
        return int(after)
    match = _RATELIMIT.search(headers.get("ratelimit", ""))
    return int(match[1]) if match else None


def describe_fault(error: Exception, asked: HubRequest) -> HubProblem:
    """The sentence for an error that ends a request."""
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error, asked)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubProblem(
            "The Hub was not asked, because offline mode is on (HF_HUB_OFFLINE).",
            "Unset HF_HUB_OFFLINE and start again, or use a model that is on this computer.",
        )
    if isinstance(error, httpx2.TimeoutException):
        return HubProblem(f"The Hub at {asked.endpoint} does not answer in time.", _LATER)
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects)):
        return HubProblem(f"The address {asked.endpoint!r} does not lead to a Hub ({error}).", "Check HF_ENDPOINT.")
    if isinstance(error, (httpx2.ReadError, httpx2.RemoteProtocolError)):
        return HubProblem("The connection to the Hub broke off, and again when tried anew.", _LATER)
    return HubProblem(
        f"The Hub at {asked.endpoint} cannot be reached ({str(error)[:120] or type(error).__name__}).",
        "Check the network connection; models that are on this computer work without it.",
    )


def describe_odd_answer(asked: HubRequest) -> HubProblem:
    """The sentence for an answer that came and makes no sense."""
    return HubProblem(
        f"{asked.endpoint} answered, but not as the Hub does.",
        "A proxy or a login page may be in between: open that address in a browser, or check HF_ENDPOINT.",
    )


def _refusal(error: errors.HfHubHTTPError, asked: HubRequest) -> HubProblem:
    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return _gated(asked)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubProblem(f"This version of {asked.repo} is no longer on the Hub.", "Open the repository again.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubProblem(f"{asked.repo} has no file {asked.path} any more.", "Open the repository again.")
    if isinstance(error, errors.DisabledRepoError):
        return HubProblem(f"The Hub has closed {asked.repo}.", "Choose another repository of the model.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return HubProblem(
            f"There is no repository {asked.repo} on the Hub that can be read from here.",
            "Check the spelling. If it is private, set HF_TOKEN to a token that may read it.",
        )
    if status == 401:
        return HubProblem(
            "The Hub does not accept the access token of this computer.",
            f"Set HF_TOKEN to a valid one ({asked.endpoint}/settings/tokens), or remove it.",
        )
    if status == 429:
        told = seconds_told(error)
        wait = "a few minutes" if told is None else f"{told} seconds" if told < 120 else f"{-(-told // 60)} minutes"
        return HubProblem(
            "The Hub has had too many requests from here and asks to wait.",
            f"Try again in {wait}; what has been downloaded stays.",
        )
    if status >= 500:
        return HubProblem(f"The Hub has trouble of its own (error {status}), and still has when tried anew.", _LATER)
    said = (error.server_message or "no reason given")[:200]
    return HubProblem(f"The Hub refused the request (error {status}: {said}).", "Check it on the Hub's page.")


def _gated(asked: HubRequest) -> HubProblem:
    if asked.with_token:
        return HubProblem(
            f"{asked.repo} is open only to those who accepted its licence, and this token's account has not.",
            f"Accept it at {asked.page} with that account, then try again.",
        )
    return HubProblem(
        f"{asked.repo} is open only to those who accepted its licence.",
        f"Accept it at {asked.page}, then set HF_TOKEN to a token of that account ({asked.endpoint}/settings/tokens) "
        "and start again.",
    )
