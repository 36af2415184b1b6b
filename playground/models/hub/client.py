"""The one door to the Hugging Face Hub: search, a repository's levels, ranges of a file.

Uses huggingface_hub's session, addresses, token and cache, so its conventions hold (HF_ENDPOINT, HF_TOKEN, HF_HOME,
HF_HUB_OFFLINE). Two of its functions are not used: `list_models` has no time-out, and its retries can neither be shown
nor cancelled; `hf_hub_download` starts again from the first byte after a broken connection (measured with 2.4).
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from playground.errors import HubProblem, RequestRefused
from playground.models.hub.errors import (
    REQUEST_ERRORS,
    HubRequest,
    describe_error,
    describe_unusable_answer,
    is_transient,
    requested_wait,
)
from playground.models.hub.names import check_file_path, check_repo_name
from playground.models.hub.repository import HubFile, Repository, read_models

TIMEOUT_SECONDS: Final = 10  # for an answer, and between two pieces of a body: huggingface_hub's own default
WINDOW_BYTES: Final = 16 * 1024**3  # storage refuses to send more than 50 GB at once; larger files come in windows
LONGEST_BACKOFF_SECONDS: Final = 8
_LONGEST_SEARCH: Final = 200  # characters
_MOST_FOUND: Final = 20  # repositories of one search
_SEARCH_FIELDS: Final = ["downloads", "likes", "gated", "tags", "gguf"]
_PAGE_TYPES: Final = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
_PAGE: Final = re.compile(rb"\s*<(?:!doctype|html|head|body|script|\?xml)", re.IGNORECASE)
_LIBRARY_NAME: Final = "gguf-playground"  # in the User-Agent

_T = TypeVar("_T")


class TransferCancelled(Exception):
    """A person cancelled the transfer; not an error, never shown."""


class CancelToken:
    """Cancels a transfer from any thread, at once, even while it waits for bytes that do not come."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def cancel(self) -> None:
        with self._lock:
            self._event.set()
            if self._socket is not None:
                # The plain shutdown: that of a TLS socket would free it while another thread reads from it.
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def raise_if_cancelled(self) -> None:
        if self._event.is_set():
            raise TransferCancelled

    def wait(self, seconds: float) -> None:
        """Sleep; raises TransferCancelled as soon as the transfer is cancelled."""
        if self._event.wait(seconds):
            raise TransferCancelled

    @contextmanager
    def closing_on_cancel(self, response: httpx2.Response) -> Iterator[None]:
        """While the body of `response` is read: cancelling closes its connection."""
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
    """How a failing request is repeated.

    attempts: the most in a row without a byte received. longest_wait_seconds: if the Hub asks to wait longer, the
    request fails. wait(seconds, why): waits between two attempts; raises TransferCancelled to give up.
    """

    attempts: int = 3
    longest_wait_seconds: float = 15.0
    wait: Callable[[float, str], None] = _sleep
    cancel: CancelToken = field(default_factory=CancelToken)


@dataclass(frozen=True)
class FoundRepository:
    """One result of a search. licence, parameter_count: None if the Hub does not say."""

    id: str
    downloads: int
    likes: int
    licence: str | None
    gated: bool
    parameter_count: int | None = None


class HubClient:
    """Asks the Hub. Methods raise HubProblem with a sentence for people.

    token: sent to the Hub with each request, never to the storage that it redirects to.
    allowed: whether a repository may be used; others are neither found, nor opened, nor downloaded.
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
        self._api = HfApi(self.endpoint, token, _LIBRARY_NAME)

    @property
    def is_offline(self) -> bool:
        return constants.is_offline_mode()

    @property
    def uses_links(self) -> bool:
        """Whether the cache's snapshots link to its blobs: always, unless HF_HUB_DISABLE_SYMLINKS is set."""
        return not constants.HF_HUB_DISABLE_SYMLINKS

    def repository_page(self, repo: str) -> str:
        """The address of a repository's page."""
        return f"{self.endpoint}/{check_repo_name(repo)}"

    def search_repositories(self, words: str) -> tuple[FoundRepository, ...]:
        """GGUF repositories whose names contain the words, the most downloaded first."""
        query: dict[str, str | int | list[str]]
        query = {"filter": "gguf", "sort": "downloads", "limit": _MOST_FOUND, "expand": _SEARCH_FIELDS}
        if words := " ".join(words.split())[:_LONGEST_SEARCH]:
            query["search"] = words

        def search() -> list[FoundRepository]:
            url = f"{self.endpoint}/api/models"
            response = get_session().get(url, params=query, headers=self._headers(), timeout=TIMEOUT_SECONDS)
            hf_raise_for_status(response)
            rows = response.json()[:_MOST_FOUND]
            return [_found_repository(ModelInfo(**row)) for row in rows]  # type: ignore[no-untyped-call]

        found = self._ask(search, self._request())
        return tuple(repository for repository in found if self._allowed(repository.id))

    def fetch_repository(self, repo: str, retry: RetryPolicy | None = None) -> Repository:
        """What the repository offers now, in one request for all its levels."""
        request = self._request(self._check_repo(repo))

        def fetch() -> Repository:
            return _repository(self._api.model_info(repo, files_metadata=True, timeout=TIMEOUT_SECONDS), repo)

        repository = self._ask(fetch, request, retry)
        self._check_repo(repository.id)  # it may have been renamed
        return repository

    def stream_file(
        self, repo: str, commit: str, file: HubFile, start: int, end: int, retry: RetryPolicy | None = None
    ) -> Iterator[bytes]:
        """The bytes of a file from `start` to before `end`, as they arrive; `end` is at most the file's size.

        Goes on where a broken connection ended. Raises TransferCancelled, and HubProblem when the Hub refuses, when
        nothing more arrives after all attempts, or when the file no longer has its size.
        """
        url = hf_hub_url(self._check_repo(repo), check_file_path(file.path), revision=commit, endpoint=self.endpoint)
        retry = retry or self._retry
        attempts = _Attempts(retry, self._request(repo, file.path))
        at = start
        while at < end:
            try:
                for piece in self._stream_window(url, at, min(at + WINDOW_BYTES, end), file, retry.cancel):
                    at += len(piece)
                    attempts.note_progress()
                    yield piece
            except REQUEST_ERRORS as error:
                retry.cancel.raise_if_cancelled()  # cancelling closes the connection: that is no error
                attempts.wait_or_raise(error)

    def _stream_window(self, url: str, start: int, end: int, file: HubFile, cancel: CancelToken) -> Iterator[bytes]:
        headers = self._headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        cancel.raise_if_cancelled()
        answering = get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS)
        with answering as response, cancel.closing_on_cancel(response):
            hf_raise_for_status(response)
            if _is_page(response.headers.get("Content-Type", "")):
                raise describe_unusable_answer(self._request(), response.request.url)
            unwanted = start if response.status_code == 200 else 0  # the server ignored the range and sends everything
            left = end - start
            for number, piece in enumerate(response.iter_raw()):
                if number == 0 and response.status_code == 200 and _PAGE.match(piece):
                    raise describe_unusable_answer(self._request(), response.request.url)
                if number == 0 and _full_size(response) not in (None, file.size):
                    raise HubProblem(
                        f"{file.path} has changed on the Hub since it was looked at.", "Open the repository again."
                    )
                cancel.raise_if_cancelled()
                kept = piece[unwanted : unwanted + left]
                unwanted -= min(unwanted, len(piece))
                left -= len(kept)
                if kept:
                    yield kept
                if not left:
                    return
        raise httpx2.RemoteProtocolError(f"the body ended {left} bytes too early", request=response.request)

    def _ask(self, ask: Callable[[], _T], request: HubRequest, retry: RetryPolicy | None = None) -> _T:
        """Call `ask` until it succeeds or the attempts are used up; an answer of the wrong form is not asked again."""
        attempts = _Attempts(retry or self._retry, request)
        while True:
            try:
                return ask()
            except REQUEST_ERRORS as error:
                attempts.wait_or_raise(error)
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise describe_unusable_answer(request) from error

    def _check_repo(self, repo: str) -> str:
        """`repo` itself. Raises HubProblem if it is not a name, RequestRefused if it is not allowed here."""
        if not self._allowed(check_repo_name(repo)):
            raise RequestRefused(
                f"Models of {repo} are not allowed here.",
                "Choose one of the repositories that the tab Fit names.",
                setting="allowed_repos",
            )
        return repo

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(token=self._token, library_name=_LIBRARY_NAME)

    def _request(self, repo: str | None = None, path: str | None = None) -> HubRequest:
        return HubRequest(self.endpoint, repo, path, with_token="authorization" in self._headers())


class _Attempts:
    """Counts failures in a row; between them waits as long as the Hub asks, or a little longer each time."""

    def __init__(self, retry: RetryPolicy, request: HubRequest) -> None:
        self._retry = retry
        self._request = request
        self._failures = 0

    def note_progress(self) -> None:
        self._failures = 0

    def wait_or_raise(self, error: Exception) -> None:
        """Wait for the next attempt. Raises HubProblem if there is none, TransferCancelled if the wait is cancelled."""
        self._failures += 1
        wanted = requested_wait(error)
        seconds = min(2.0 ** (self._failures - 1), LONGEST_BACKOFF_SECONDS) if wanted is None else wanted
        is_last = self._failures >= self._retry.attempts or seconds > self._retry.longest_wait_seconds
        if is_last or not is_transient(error):
            raise describe_error(error, self._request) from error
        why = "The connection is broken." if wanted is None else "The Hub asks to wait."
        self._retry.wait(seconds, why)


def _is_page(content_type: str) -> bool:
    """Whether an answer in place of a file is the page or the message of a login or a proxy."""
    return content_type.partition(";")[0].strip().lower() in _PAGE_TYPES


def _full_size(response: httpx2.Response) -> int | None:
    """Bytes of the whole file, from an answer with a range of it or all of it; None if it does not say."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status_code == 200:
        size = response.headers.get("Content-Length", "")
    return int(size) if size.isdecimal() else None


def _licence(tags: list[str] | None) -> str | None:
    return next((tag.removeprefix("license:") for tag in tags or () if tag.startswith("license:")), None)


def _found_repository(info: ModelInfo) -> FoundRepository:
    total = (info.gguf or {}).get("total")
    parameter_count = total if isinstance(total, int) else None
    licence, gated = _licence(info.tags), bool(info.gated)
    name = check_repo_name(info.id)
    return FoundRepository(name, info.downloads or 0, info.likes or 0, licence, gated, parameter_count)


def _repository(info: ModelInfo, requested: str) -> Repository:
    files = [
        HubFile(check_file_path(row.rfilename), row.lfs.size, row.lfs.sha256, row.lfs.sha256)
        if row.lfs
        else HubFile(check_file_path(row.rfilename), row.size or 0, row.blob_id or "")
        for row in info.siblings or ()
        if row.rfilename.lower().endswith(".gguf")
    ]
    name, commit = check_repo_name(info.id), info.sha or "main"
    models, left_out = read_models(name, commit, files)
    return Repository(
        id=name,
        commit=commit,
        models=models,
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        licence=_licence(info.tags),
        gated=bool(info.gated),
        renamed_from=requested if requested.lower() != name.lower() else None,
        left_out=left_out,
    )
