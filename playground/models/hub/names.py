"""Names of models on the Hugging Face Hub: parses what a person types, and checks it by the Hub's own rules.

    owner/repo · owner/repo:Q4_K_M · owner/repo:file.gguf · https://…/owner/repo/blob/main/file.gguf  ->  HubReference

Sends no request: a well-formed name need not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from playground.errors import HubProblem
from playground.models.catalog import load_catalog
from playground.text_format import replace_surrogates

CATALOGUE: Final = "catalogue"  # in a list of allowed repositories: those of the models in the tab Fit
_LEVEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_REPO: Final = re.compile(r"[\w.-]+/[\w.-]+")
_FILE_ROUTES: Final = ("blob", "resolve", "raw", "tree")
_SHORT_HOST: Final = "hf.co"  # the Hub's own short address
_LONGEST_REFERENCE: Final = 1000  # characters
_HOW_TO_NAME: Final = (
    "Type it as owner/repo, owner/repo:LEVEL or owner/repo:file.gguf, or paste the address of its page on the Hub."
)


@dataclass(frozen=True)
class HubReference:
    """A repository, and one level in it such as "Q4_K_M", or one file by its path; both may be None."""

    repo: str
    level: str | None = None
    path: str | None = None


def check_repo_name(repo: str) -> str:
    """Returns `repo`; raises HubProblem unless it is owner/name by the Hub's own rules."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise _not_a_name(repo) from error
    if repo.count("/") != 1:
        raise _not_a_name(repo)
    return repo


def check_file_path(path: str) -> str:
    """Returns `path`; raises HubProblem if it leads out of the repository's folder, or cannot be a file's name."""
    parts = path.split("/")
    is_outside = "\\" in path or not {"", ".", ".."}.isdisjoint(parts)
    if len(path) > _LONGEST_REFERENCE or is_outside or "\0" in path or replace_surrogates(path) != path:
        raise HubProblem(f"The repository has a file with an impossible name: {path[:80]!r}.", "Choose another file.")
    return path


def looks_like_reference(text: str) -> bool:
    """Whether the text names one repository; otherwise it is words to search for."""
    text = text.strip()
    if names_file_of_repository(text):
        return True
    return "://" in text or (text.count("/") >= 1 and not re.search(r"\s", text))


def names_repository(reference: str) -> bool:
    """Whether a reference can only mean a repository or a file of one, and no file on this computer."""
    if reference.startswith((".", "/", "~")) or not looks_like_reference(reference):
        return False
    return not reference.lower().endswith(".gguf") or "://" in reference or names_file_of_repository(reference)


def names_file_of_repository(text: str) -> bool:
    """Whether the text has the form `owner/repo:file.gguf`, whose file may have spaces and folders in its name."""
    repo, colon, file = text.partition(":")
    return (
        bool(colon and not file.startswith("//") and file.lower().endswith(".gguf"))
        and _REPO.fullmatch(repo) is not None
    )


def parse_reference(text: str, endpoint: str | None = None) -> HubReference:
    """Parse the name or the address of a repository; raises HubProblem if it is neither.

    endpoint: the address of the Hub in use. Addresses of its pages are accepted, and those of the public Hub.
    """
    text = text.strip()
    if len(text) > _LONGEST_REFERENCE:
        raise _not_a_name(text)
    hosts = _hosts(endpoint)
    if "://" in text or text.split("/")[0].lower() in hosts:
        return _from_address(text, hosts)
    repo, colon, level = text.partition(":")
    return _with_level(check_repo_name(repo), level) if colon else HubReference(check_repo_name(repo))


def _hosts(endpoint: str | None) -> set[str]:
    addresses = (constants.HUGGINGFACE_CO_URL_HOME, constants.ENDPOINT, endpoint)
    return {_SHORT_HOST, *(urlsplit(address).netloc.lower() for address in addresses if address)}


def _from_address(text: str, hosts: set[str]) -> HubReference:
    try:
        address = urlsplit(text if "://" in text else f"//{text}")
    except ValueError as error:
        raise _not_a_name(text) from error
    if address.netloc.lower() not in hosts or address.scheme not in ("", "https", "http"):
        raise HubProblem(f"{text[:80]} is not an address of the Hugging Face Hub.", _HOW_TO_NAME)
    parts = [unquote(part) for part in address.path.split("/") if part]
    if len(parts) < 2:
        raise _not_a_name(text)
    name, colon, level = parts[1].partition(":")
    repo = check_repo_name(f"{parts[0]}/{name}")
    if colon:
        return _with_level(repo, "/".join([level, *parts[2:]]))
    shown = parse_qs(address.query).get("show_file_info")  # the Hub's own link to a GGUF file's details
    return HubReference(repo, path=check_file_path(shown[0]) if shown else _path_of(parts[2:], text))


def _path_of(route: list[str], text: str) -> str | None:
    """The file that the rest of an address names, such as blob/main/file.gguf; None for a folder."""
    if not route:
        return None
    if route[0] not in _FILE_ROUTES:
        raise HubProblem(f"{text[:80]} is not the address of a model or of its file.", _HOW_TO_NAME)
    if len(route) > 1 and route[1] != "main":
        raise HubProblem(
            f"{text[:80]} names the branch or version {route[1][:40]}, and only main can be used.",
            "Paste the address of the model's page.",
        )
    path = "/".join(route[2:])
    return check_file_path(path) if path and route[0] != "tree" else None


def _with_level(repo: str, text: str) -> HubReference:
    """The level or the file that stands behind the colon."""
    if text.lower().endswith(".gguf"):
        return HubReference(repo, path=check_file_path(text))
    if not _LEVEL.fullmatch(text):
        raise HubProblem(
            f"{text[:40]!r} is not the name of a level or of a .gguf file.", "Levels have names like Q4_K_M or Q8_0."
        )
    return HubReference(repo, text)


def _not_a_name(text: str) -> HubProblem:
    return HubProblem(f"{text[:80]!r} is not the name of a model on the Hub.", _HOW_TO_NAME)


def repository_filter(names: Sequence[str] | None) -> Callable[[str], bool]:
    """Tells whether `owner/name` is among names such as `owner/name`, `owner/*` or `catalogue`; None allows all."""
    if names is None:
        return lambda repo: True
    listed = {name.lower() for name in names}
    if CATALOGUE in listed:
        listed |= {model.repo.lower() for model in load_catalog() if model.repo}
    return lambda repo: any(fnmatchcase(repo.lower(), name) for name in listed)
