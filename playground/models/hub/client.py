"""The one door to the Hugging Face Hub: search, a repository's levels, ranges of a file, a file's bytes as they come.

Goes over huggingface_hub's session, addresses, token and cache, so its conventions hold (HF_ENDPOINT, HF_TOKEN,
HF_HOME, HF_HUB_OFFLINE). Every request is tried and waited for in one way, `RetryPolicy`, because the library's own
waiting can neither be shown nor ended. What the bytes mean and where they are kept is not known here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
from huggingface_hub import ModelInfo, constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from playground.errors import HubProblem, RequestRefused
from playground.models.hub.errors import (
    FAULTS,
    HubRequest,
    describe_fault,
    describe_odd_answer,
    is_transient,
    seconds_told,
)
from playground.models.hub.names import check_file_path, check_repo_name
from playground.models.hub.repository import HubFile, Repository, read_models

TIMEOUT_SECONDS: Final = 10  # for an answer, and between two pieces of a body: huggingface_hub's own default
WINDOW_BYTES: Final = 16 * 1024**3  # storage refuses to send more than 50 GB at once; a larger file comes in windows
LONGEST_BACKOFF_SECONDS: Final = 8
_LONGEST_SEARCH: Final = 200  # characters
_SHOWN_OF_A_MODEL: Final = ["downloads", "likes", "gated", "tags", "gguf"]


class TransferCancelled(Exception):
    """A person ended the work; not an error, never shown."""


class CancelToken:
    """Ends a download from any thread, at once, even while it waits for bytes that do not come."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def cancel(self) -> None:
        with self._lock:
            self._event.set()
            if self._socket is not None:
                with suppress(OSError):  # the plain shutdown: TLS's own would take the socket from under its reader
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def is_cancelled(self) -> bool:
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        if self._event.is_set():
            raise TransferCancelled

    def wait(self, seconds: float) -> None:
        """Let time pass; raises TransferCancelled as soon as the stop is set."""
        if self._event.wait(seconds):
            raise TransferCancelled

    @contextmanager
    def covering(self, response: httpx2.Response) -> Iterator[None]:
        """Cover a response whose body is about to be read."""
        stream = response.extensions.get("network_stream")
        with self._lock:
            self._socket = stream.get_extra_info("socket") if stream is not None else None
        try:
            self.raise_if_cancelled()
            yield
        finally:
            with self._lock:
                self._socket = None


def _sleep(seconds: float, why: str) -> None:
    time.sleep(seconds)


@dataclass(frozen=True)
class RetryPolicy:
    """How often in a row a request is tried, how long is waited when told to, and what ends it from outside.

    `wait(seconds, why)` does the waiting, and raises TransferCancelled to end it.
    """

    tries: int = 3
    longest_wait_seconds: float = 15.0
    wait: Callable[[float, str], None] = _sleep
    stop: CancelToken = field(default_factory=CancelToken)


@dataclass(frozen=True)
class FoundRepository:
    """One result of a search; what the Hub does not say is None."""

    id: str
    downloads: int
    likes: int
    licence: str | None
    gated: bool
    parameter_count: int | None = None


class HubClient:
    """Asks the Hub. Methods raise HubProblem with a sentence; each request carries the token, storage never sees it.

    allowed: whether a repository may be asked for; the others are neither found, nor opened, nor fetched.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        cache_dir: Path | None = None,
        retry: RetryPolicy = RetryPolicy(),
        allowed: Callable[[str], bool] = lambda repo: True,
    ) -> None:
        self._allowed = allowed
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.cache_dir = cache_dir or Path(constants.HF_HUB_CACHE)
        self._token = token
        self._retry = retry

    @property
    def is_offline(self) -> bool:
        return constants.is_offline_mode()

    @property
    def uses_links(self) -> bool:
        """Whether the cache's snapshots link to its blobs, as they do unless HF_HUB_DISABLE_SYMLINKS is set."""
        return not constants.HF_HUB_DISABLE_SYMLINKS

    def repository_page(self, repo: str) -> str:
        """The address of a repository's page."""
        return f"{self.endpoint}/{check_repo_name(repo)}"

    def search_repositories(self, words: str, limit: int = 20) -> tuple[FoundRepository, ...]:
        """GGUF repositories whose names hold the words, the most downloaded first."""
        question = {"filter": "gguf", "sort": "downloads", "limit": limit, "expand": _SHOWN_OF_A_MODEL}
        if words := " ".join(words.split())[:_LONGEST_SEARCH]:
            question["search"] = words
        asked = self._asked()
        answer = self._ask(f"{self.endpoint}/api/models", question, asked)
        try:
            found = [_found(ModelInfo(**row)) for row in answer[:limit]]  # type: ignore[no-untyped-call]
            return tuple(one for one in found if self._allowed(one.id))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise describe_odd_answer(asked) from error

    def fetch_repository(self, repo: str, retry: RetryPolicy | None = None) -> Repository:
        """What the repository offers now. One request, whatever the number of levels."""
        asked = self._asked(self._checked(repo))
        answer = self._ask(f"{self.endpoint}/api/models/{repo}", {"blobs": True}, asked, retry)
        try:
            found = _repository(ModelInfo(**answer), repo)  # type: ignore[no-untyped-call]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise describe_odd_answer(asked) from error
        self._checked(found.id)  # it may have been renamed
        return found

    def stream_file(
        self, repo: str, commit: str, file: HubFile, start: int, end: int, retry: RetryPolicy | None = None
    ) -> Iterator[bytes]:
        """The bytes of a file from `start` to before `end`, as they arrive; `end` is at most the file's size.

        A broken connection resumes where it broke off. Raises TransferCancelled, and HubProblem where the Hub
        refuses, where nothing more comes after all tries, or where the file no longer has its size.
        """
        url = hf_hub_url(self._checked(repo), check_file_path(file.path), revision=commit, endpoint=self.endpoint)
        retry = retry or self._retry
        tries = _Tries(retry, self._asked(repo, file.path))
        at = start
        while at < end:
            try:
                for piece in self._body(url, at, min(at + WINDOW_BYTES, end), file, retry.stop):
                    at += len(piece)
                    tries.succeeded()
                    yield piece
            except FAULTS as error:
                retry.stop.raise_if_cancelled()  # a stop breaks the connection off: then that is no fault
                tries.failed(error)

    def _body(self, url: str, start: int, end: int, file: HubFile, stop: CancelToken) -> Iterator[bytes]:
        headers = self._headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        stop.raise_if_cancelled()
        answering = get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS)
        with answering as response, stop.covering(response):
            hf_raise_for_status(response)
            if _full_size(response) not in (None, file.size):
                raise HubProblem(
                    f"{file.path} has changed on the Hub since it was looked at.", "Open the repository again."
                )
            unwanted = start if response.status_code == 200 else 0  # a server that knows no ranges sends it all
            left = end - start
            for piece in response.iter_raw():
                stop.raise_if_cancelled()
                kept = piece[unwanted : unwanted + left]
                unwanted -= min(unwanted, len(piece))
                left -= len(kept)
                if kept:
                    yield kept
                if not left:
                    return
        raise httpx2.RemoteProtocolError(f"the body ended {left} bytes too early")

    def _ask(self, url: str, question: dict[str, Any], asked: HubRequest, retry: RetryPolicy | None = None) -> Any:
        tries = _Tries(retry or self._retry, asked)
        while True:
            try:
                response = get_session().get(url, params=question, headers=self._headers(), timeout=TIMEOUT_SECONDS)
                hf_raise_for_status(response)
                return response.json()
            except FAULTS as error:
                tries.failed(error)
            except ValueError as error:
                raise describe_odd_answer(asked) from error

    def _checked(self, repo: str) -> str:
        """`repo` itself; raises HubProblem for what is no name, RequestRefused for one that is not allowed here."""
        if not self._allowed(check_repo_name(repo)):
            raise RequestRefused(
                f"Models of {repo} are not allowed here.",
                "Choose one of the repositories that the tab Fit names.",
                setting="allowed_repos",
            )
        return repo

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(token=self._token, library_name="gguf-playground")

    def _asked(self, repo: str | None = None, path: str | None = None) -> HubRequest:
        return HubRequest(self.endpoint, repo, path, with_token="authorization" in self._headers())


class _Tries:
    """Counts failures in a row, and waits between them as the Hub asks, or a little longer each time."""

    def __init__(self, retry: RetryPolicy, asked: HubRequest) -> None:
        self._retry = retry
        self._asked = asked
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: Exception) -> None:
        """Waits for the next try; raises HubProblem if there is none, TransferCancelled if the wait was ended."""
        self._failures += 1
        told = seconds_told(error)
        seconds = min(2.0 ** (self._failures - 1), LONGEST_BACKOFF_SECONDS) if told is None else told
        too_long = seconds > self._retry.longest_wait_seconds
        if not is_transient(error) or self._failures >= self._retry.tries or too_long:
            raise describe_fault(error, self._asked) from error
        why = "The connection is broken." if told is None else "The Hub asks to wait."
        self._retry.wait(seconds, why)


def _full_size(response: httpx2.Response) -> int | None:
    """Bytes of the whole file, from an answer that holds a range of it or all of it; None where it does not say."""
    said = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status_code == 200:
        said = response.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() else None


def _licence(tags: list[str] | None) -> str | None:
    return next((tag.removeprefix("license:") for tag in tags or () if tag.startswith("license:")), None)


def _found(info: ModelInfo) -> FoundRepository:
    told = (info.gguf or {}).get("total")
    parameters = told if isinstance(told, int) else None
    licence, gated = _licence(info.tags), bool(info.gated)
    return FoundRepository(check_repo_name(info.id), info.downloads or 0, info.likes or 0, licence, gated, parameters)


def _repository(info: ModelInfo, asked_for: str) -> Repository:
    files = [
        HubFile(check_file_path(row.rfilename), row.lfs.size, row.lfs.sha256, row.lfs.sha256)
        if row.lfs
        else HubFile(check_file_path(row.rfilename), row.size or 0, row.blob_id or "")
        for row in info.siblings or ()
        if row.rfilename.lower().endswith(".gguf")
    ]
    name, commit = check_repo_name(info.id), info.sha or "main"
    models, incomplete = read_models(name, commit, files)
    return Repository(
        id=name,
        commit=commit,
        models=models,
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        licence=_licence(info.tags),
        gated=bool(info.gated),
        renamed_from=asked_for if asked_for.lower() != name.lower() else None,
        incomplete=incomplete,
    )
